//! How long answers took, at the router where there is one.
//!
//! Rule: arrival, send and finish are stamps of one clock. Deliberately not here: what a user waited, see `client`.

use super::{Quantity, Value, ms, time};

/// In the order of the summary.
pub(super) const QUANTITIES: &[Quantity] = &[
    time(
        "server_latency",
        "Server latency",
        "finish_time - router_send_time: from the first byte sent to the worker to the last byte of its answer",
        |r| ms(r.server_latency_ns()),
    ),
    time(
        "total_latency",
        "E2E latency",
        "finish_time - arrival_time, at the router; without a router from the client's first write to its last byte",
        |r| ms(r.total_latency_ns()),
    ),
    time(
        "ttft",
        "Time to first token (TTFT)",
        "server_first_token_time - arrival_time; where no server stamp is valid, the first event with tokens at the router \
         (without one: at the client) - arrival_time. Column ttft_source says which",
        |r| ms(r.ttft_ns),
    ),
    Quantity {
        value: Value::Many(|r, add| {
            for (gap, _) in r.stream_gaps() {
                add(gap.ns as f64 / 1e6 / f64::from(gap.tokens), u64::from(gap.tokens));
            }
        }),
        ..time(
            "itl",
            "Inter-token latency (ITL), a token",
            "gap between two events with tokens at the client / tokens of the later one, counted once for each of them \
             (bench_serving's); of several members between two of one member",
            |_| None,
        )
    },
    Quantity {
        value: Value::Many(|r, add| r.stream_gaps().for_each(|(gap, _)| add(gap.ns as f64 / 1e6, 1))),
        ..time(
            "icl",
            "Inter-chunk latency (ICL), an event",
            "gap between two events with tokens at the client, of several members between two of one member, however many tokens \
             came: what a reader sees (vLLM calls it ITL)",
            |_| None,
        )
    },
    time(
        "tpot",
        "Time per output token (TPOT)",
        "(E2E latency - TTFT) / (output tokens - 1); empty for fewer than two tokens, and of several members, whose tokens the \
         client alone tells apart: tpot_client",
        |r| r.tpot_ns().map(|ns| ns / 1e6),
    ),
    time(
        "queue_time_in_router",
        "Queue time in router",
        "router_send_time - arrival_time: all that the router did before the worker had a byte, waiting included. \
         Needs the router's trace",
        // Without a router the two stamps are one: zeros would look like a measurement.
        |r| ms(r.queue_time_in_router_ns().filter(|_| r.in_trace)),
    ),
    time(
        "router_overhead",
        "Router overhead",
        "router_send_time - arrival_time, less what the router waited for the body and for a place under its limits; holds \
         failed attempts. Needs the router's trace",
        |r| ms(r.router_overhead_ns()),
    ),
];
