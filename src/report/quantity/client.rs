//! What a user waited.
//!
//! Rule: from the due time beside from the send, so that a client or server that stalls is not hidden. Deliberately not here:
//! stamps of router and server.

use super::{Of, Quantity, ms, time};

/// In the order of the summary.
pub(super) const QUANTITIES: &[Quantity] = &[
    time(
        "client_latency",
        "Client E2E, from send",
        "last byte at the client - first write begun (bench_serving's e2e_latency)",
        |r| ms(r.client_latency_ns()),
    ),
    time(
        "latency_from_schedule",
        "Client E2E, from schedule",
        "last byte at the client - due time: holds what the client itself was late",
        |r| ms(r.latency_from_schedule_ns()),
    ),
    time(
        "ttft_client",
        "Client TTFT, from send",
        "first event with tokens at the client (of several members: the first of the last of them) - first write begun (bench_serving's ttft)",
        |r| ms(r.ttft_client_ns()),
    ),
    time(
        "ttft_from_schedule",
        "Client TTFT, from schedule",
        "first event with tokens at the client - due time",
        |r| ms(r.ttft_from_schedule_ns()),
    ),
    time(
        "tpot_client",
        "Client TPOT",
        "(client E2E - client TTFT) / (output tokens - 1), both from the send; empty for fewer than two tokens. Of several members \
         the times from each one's first token to its last, added up / (output tokens - members); empty where the events do not \
         say whose they are",
        |r| r.tpot_client_ns().map(|ns| ns / 1e6),
    ),
    Quantity {
        // How well the schedule was kept is a fact about the client.
        of: Of::Sent,
        ..time(
            "lateness",
            "Lateness (sent - scheduled)",
            "first write returned - due time, of all requests that were sent",
            |r| ms(r.lateness_ns()),
        )
    },
];
