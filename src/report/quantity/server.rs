//! What the server did with the time it had.
//!
//! Rule: a duration is taken inside one clock of the server where both ends are told in it. Deliberately not here: tokenising
//! and the way to the server, which only "where the time went" has (`parts`).

use super::{Place, Quantity, ms, time};

/// In the order of the summary.
pub(super) const QUANTITIES: &[Quantity] = &[
    time(
        "queue_time_in_server",
        "Queue time in server (holds prefill)",
        "server_first_token_time - server_created_time: by its inherited definition it holds the prefill",
        |r| ms(r.queue_time_in_server_ns()),
    ),
    Quantity {
        place: Place::LatencyAndPart,
        ..time(
            "pure_queue_time",
            "Pure queue time",
            "queue_time_end - queue_time_start in the server's own clock: in the scheduler's waiting queue and nothing else",
            |r| ms(r.pure_queue_ns),
        )
    },
    Quantity {
        place: Place::LatencyAndPart,
        ..time("prefill_time", "Prefill", "server_first_token_time - queue_time_end", |r| ms(r.prefill_ns()))
    },
    Quantity {
        place: Place::LatencyAndPart,
        ..time(
            "decode_time",
            "Decode",
            "finish_time - first token: the tokens after the first, and the way of the last byte to the router",
            |r| ms(r.decode_ns()),
        )
    },
];
