//! Whether what a client saw and what the record of its request says can both be true.
//!
//! Rule: pure, and as strict as the races of two sockets allow: a client that stayed to the end knows what it got, and the
//! record has to say the same; of a client that left only what it had seen is held against the record. Deliberately not here:
//! how records and requests find each other (`audit`).

use milepost::trace::record::{Outcome, RequestKind, RequestRecord};

use crate::seen::{End, Seen};

/// How many records there may be of such a request, at least and at most.
pub fn records_due(seen: &Seen) -> (u32, u32) {
    match seen.end {
        Some(End::Behind) => (0, 0),
        Some(End::LeftByReset) => (0, 1),
        _ => (1, 1),
    }
}

/// What contradicts the record; `None` if nothing does.
pub fn contradiction(seen: &Seen, record: &RequestRecord) -> Option<String> {
    if seen.is_foreign {
        return Some("the answer holds something of another request".to_owned());
    }
    if seen.is_body_changed {
        return Some("a worker got another body than was sent".to_owned());
    }
    if matches!(record.outcome, Outcome::Panicked | Outcome::Stopped) {
        return Some("it should not have ended like this".to_owned());
    }
    let views: [fn(&Seen, &RequestRecord) -> Option<String>; 4] = [arrivals, plan, status, outcome];
    views.iter().find_map(|view| view(seen, record))
}

/// A worker cannot have got a request more often than it was sent.
fn arrivals(seen: &Seen, record: &RequestRecord) -> Option<String> {
    if record.request_kind != RequestKind::Routed {
        return None;
    }
    let sent = record.attempts + record.reconnects;
    if seen.arrivals > sent {
        return Some(format!("workers got it {} times, the record has {sent}", seen.arrivals));
    }
    (record.outcome == Outcome::Done && seen.arrivals == 0).then(|| "done, but no worker got it".to_owned())
}

/// What the last worker was to do decides whether the answer that came to its end is a good one.
fn plan(seen: &Seen, record: &RequestRecord) -> Option<String> {
    if record.request_kind != RequestKind::Routed || record.status.is_none_or(|status| status >= 400) {
        return None;
    }
    match (record.outcome, seen.is_good_at_last) {
        (Outcome::Done, false) => Some("done, but the worker was to fail".to_owned()),
        (Outcome::WorkerError, true) => Some("an error, but the worker was to answer well".to_owned()),
        _ => None,
    }
}

fn status(seen: &Seen, record: &RequestRecord) -> Option<String> {
    let told = record.status.unwrap_or(0);
    (seen.status != 0 && seen.status != told).then(|| format!("the client saw status {}", seen.status))
}

fn outcome(seen: &Seen, record: &RequestRecord) -> Option<String> {
    let is_fine = match seen.end {
        None => return Some("its client never came to an end".to_owned()),
        Some(End::Hung) => return Some("its client waited in vain".to_owned()),
        Some(End::Whole) => whole(seen, record),
        Some(End::UntilClose) => until_close(seen, record),
        Some(End::Broken) => broken(seen, record),
        Some(End::NoAnswer) => no_answer(seen, record),
        Some(End::Left | End::LeftByReset) => left(seen, record),
        Some(End::Behind) => false,
    };
    let end = seen.end;
    (!is_fine).then(|| {
        let Seen { visit, status, body_bytes, events, is_done, .. } = seen;
        format!(
            "{visit} client: {end:?}, status {status}, {body_bytes} bytes, {events} events, done {is_done}"
        )
    })
}

/// A whole answer: a worker's, the router's own error, or what the router says of itself.
fn whole(seen: &Seen, record: &RequestRecord) -> bool {
    use Outcome::{ClientGone, Done, Refused, TimedOut, Unreachable, WorkerError, WorkerReset};
    let outcome = record.outcome;
    if seen.is_own_error {
        return match seen.status {
            // A body that stops is its client's leaving, even if it stays to read what that is called.
            400 => outcome == Refused || (outcome == ClientGone && seen.is_body_cut),
            408 => matches!(outcome, Refused | TimedOut),
            502 => matches!(outcome, Unreachable | WorkerReset),
            503 => matches!(outcome, Refused | Unreachable),
            504 => outcome == TimedOut,
            status => status >= 400 && outcome == Refused,
        };
    }
    if record.request_kind != RequestKind::Routed {
        return if seen.status < 400 { outcome == Done } else { matches!(outcome, WorkerError | Refused) };
    }
    let is_error = seen.status >= 400 || record.error.is_some();
    outcome == if is_error { WorkerError } else { Done } && same_body(seen, record)
}

/// What a client of HTTP/1.0 took for the whole may have been cut short, which only the record knows.
fn until_close(seen: &Seen, record: &RequestRecord) -> bool {
    use Outcome::{Done, TimedOut, WorkerError, WorkerReset};
    matches!(record.outcome, Done | WorkerError | WorkerReset | TimedOut) && same_body(seen, record)
}

fn same_body(seen: &Seen, record: &RequestRecord) -> bool {
    seen.body_bytes == record.response_body_bytes
        && record.sse_done.is_none_or(|done| done == seen.is_done && record.sse_events == seen.events)
}

/// Cut short: the worker's fault, or its time was over; the client has what had come.
fn broken(seen: &Seen, record: &RequestRecord) -> bool {
    let is_fault = match record.outcome {
        Outcome::WorkerReset => seen.body_bytes == record.response_body_bytes,
        Outcome::TimedOut => true,
        Outcome::ClientGone => seen.is_half_closed,
        _ => false,
    };
    is_fault && seen.body_bytes <= record.response_body_bytes
}

/// Only who closes its side gets nothing at all, and the router has to have noticed.
fn no_answer(seen: &Seen, record: &RequestRecord) -> bool {
    seen.is_half_closed && record.outcome == Outcome::ClientGone && record.status.is_none()
}

/// Whoever left knows only what came before.
fn left(seen: &Seen, record: &RequestRecord) -> bool {
    let is_possible = !seen.is_body_cut || matches!(record.outcome, Outcome::ClientGone | Outcome::Refused);
    is_possible && (seen.is_own_error || seen.body_bytes <= record.response_body_bytes)
}
