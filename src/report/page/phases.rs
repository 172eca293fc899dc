//! The phases of one request, one after the other.
//!
//! Rule: phases follow each other without gap or overlap; where a moment is not known, the phases around it are one, with both names.
//! Deliberately not here: the means of all requests ([`crate::report::split`]).

use crate::load::row::Row;
use crate::report::gather::Side;

/// One phase.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Phase {
    /// What it is; of several that no stamp tells apart the first and the last.
    pub name: String,
    /// Where it begins, milliseconds after the request was due or had arrived.
    pub from_ms: f64,
    /// How long it took, milliseconds.
    pub ms: f64,
}

/// What is known of a request beside its times.
pub(super) fn title(row: &Row) -> String {
    let mut parts = vec![row.req_id.clone()];
    parts.extend(row.host.clone());
    parts.extend(row.decode_length().map(|n| format!("{n} tokens")));
    parts.join(", ")
}

/// The phases of a request; none where its stamps are out of order.
pub(super) fn phases(row: &Row, side: Side) -> Vec<Phase> {
    if row.order_broken {
        return Vec::new();
    }
    let begin_ns = match side {
        Side::Client => row.scheduled_ns,
        Side::Router => row.arrival_ns.unwrap_or(row.scheduled_ns),
    };
    let first_token_ns = row.arrival_ns.zip(row.ttft_ns).map(|(arrival, ttft)| arrival + ttft);
    let of_router = |ns: Option<i64>| ns.filter(|_| row.in_trace);
    let ends = [
        ("Client queue", row.dispatched_ns),
        ("Client connect", row.write_begun_ns),
        ("Client to router", of_router(row.arrival_ns)),
        ("Router in", row.decided_ns),
        ("Router out", of_router(row.router_send_ns)),
        ("To the server", row.created_ns),
        ("Server tokenise", row.queue_start_ns),
        ("Server queue", row.queue_end_ns),
        ("Prefill", row.server_first_token_ns.or(first_token_ns)),
        ("Decode", row.finish_ns),
        ("Network back", row.client_end_ns),
    ];
    let mut phases = Vec::new();
    let (mut at_ns, mut open) = (begin_ns, Vec::new());
    for (name, end_ns) in ends {
        let clients = side == Side::Client || !name.starts_with("Client") && name != "Network back";
        if !clients {
            continue;
        }
        open.push(name);
        let Some(end_ns) = end_ns else { continue };
        let name = match (open.first(), open.last()) {
            (Some(first), Some(last)) if open.len() > 1 => format!("{first} … {}", last.to_lowercase()),
            _ => name.to_owned(),
        };
        // Stamps of two clocks may be out of order by their bound.
        let end_ns = end_ns.max(at_ns);
        phases.push(Phase {
            name,
            from_ms: (at_ns - begin_ns) as f64 / 1e6,
            ms: (end_ns - at_ns) as f64 / 1e6,
        });
        at_ns = end_ns;
        open.clear();
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;

    #[test]
    fn phases_are_all_of_a_requests_time() {
        for (side, whole_ms, count) in [(Side::Client, 63.0, 11), (Side::Router, 61.0, 7)] {
            let phases = phases(&example(), side);
            let sum: f64 = phases.iter().map(|p| p.ms).sum();
            assert!((sum - whole_ms).abs() < 1e-9 && phases.len() == count, "{phases:?}");
            let ends =
                phases.windows(2).all(|two| (two[0].from_ms + two[0].ms - two[1].from_ms).abs() < 1e-9);
            assert!(ends, "{phases:?}");
        }
    }

    #[test]
    fn phases_that_nothing_tells_apart_are_one_with_both_names() {
        let row = Row { created_ns: None, queue_start_ns: None, queue_end_ns: None, ..example() };
        let phases = phases(&row, Side::Router);
        let names: Vec<&str> = phases.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["Router in", "Router out", "To the server … prefill", "Decode"]);
        assert!(super::phases(&Row { order_broken: true, ..example() }, Side::Client).is_empty());
    }
}
