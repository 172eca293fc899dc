//! One request: its record against what its client and its workers saw.
//!
//! Rule: what may be either way (a client that left in the moment of its answer) is not judged. Deliberately not here: where
//! it was sent (`attempts`).

use milepost::trace::record::{Outcome, RequestKind};

use super::Case;
use crate::asking::Kind;
use crate::fault::{Ending, Fault, Worth};

/// Timers run on a grid of a millisecond.
const GRID_NS: u64 = 2_000_000;
/// The longest time from a client's leaving to the end of everything that was done for it.
const GONE_NS: u64 = 10_000_000;

pub fn check(case: &Case<'_>, wrong: &mut Vec<String>) {
    words(case, wrong);
    order(case, wrong);
    limits(case, wrong);
    client(case, wrong);
    leaving(case, wrong);
    if case.asked.kind.is_routed() {
        content(case, wrong);
    }
}

/// Outcome, status and kind fit each other.
fn words(case: &Case<'_>, wrong: &mut Vec<String>) {
    let r = case.record;
    let fits = match r.outcome {
        Outcome::Done => r.status.is_some_and(|s| (200..400).contains(&s)) && r.error.is_none(),
        Outcome::WorkerError | Outcome::WorkerReset | Outcome::TimedOut => r.status.is_some(),
        Outcome::Unreachable => matches!(r.status, Some(502 | 503)),
        Outcome::Refused => r.status.is_some_and(|s| s >= 400) && r.worker.is_none(),
        Outcome::ClientGone => true,
        Outcome::Stopped => case.plan.stop_at.is_some(),
        Outcome::Panicked => case.plan.panic_every > 0,
    };
    if !fits {
        wrong.push(format!(
            "{:?} does not fit status {:?}, worker {:?}, error {:?}",
            r.outcome, r.status, r.worker, r.error
        ));
    }
    let answered = r.request_kind;
    let kind_fits = match case.asked.kind {
        kind if kind.is_local() => answered == RequestKind::Local,
        // What was refused before it was known who answers is `routed`.
        kind if kind.is_for_many() => answered == RequestKind::FanOut || r.outcome != Outcome::Done,
        _ => answered == RequestKind::Routed,
    };
    if !kind_fits {
        wrong.push(format!("is recorded as {answered:?}"));
    }
    if case.plan.is_calm() && r.outcome != Outcome::Done {
        wrong.push(format!("ended as {:?} though nothing was wrong", r.outcome));
    }
}

/// Times follow each other.
fn order(case: &Case<'_>, wrong: &mut Vec<String>) {
    let r = case.record;
    let waited_ns = r.body_read_ns.zip(r.limit_wait_ns).map(|(read_ns, wait_ns)| read_ns + wait_ns);
    let times = [
        ("body_read", r.body_read_ns),
        ("limit_wait", waited_ns),
        ("decided", r.decided_ns),
        ("connected", r.connected_ns),
        ("router_send", r.router_send_ns),
        ("first_byte", r.first_byte_ns),
        ("head", r.head_ns),
        ("first_event", r.first_event_ns),
        ("first_token", r.first_token_ns),
        ("last_byte", r.last_byte_ns),
        ("end", Some(r.end_ns)),
    ];
    let known: Vec<(&str, u64)> = times.iter().filter_map(|(name, at)| at.map(|at| (*name, at))).collect();
    for pair in known.windows(2) {
        if pair[0].1 > pair[1].1 {
            wrong.push(format!("{} at {} is after {} at {}", pair[0].0, pair[0].1, pair[1].0, pair[1].1));
        }
    }
    if let Some(seen) = case.seen
        && case.at_ns(0) < seen.began_ns
    {
        wrong.push("arrived before it was sent".to_owned());
    }
}

/// No wait is longer than its limit.
fn limits(case: &Case<'_>, wrong: &mut Vec<String>) {
    let (r, config) = (case.record, &case.plan.config);
    let longest_ns = config.request_timeout.as_nanos() as u64 + GRID_NS;
    if r.end_ns > longest_ns {
        wrong.push(format!("took {} ms of {} ms", r.end_ns / 1_000_000, longest_ns / 1_000_000));
    }
    let queue_ns = config.limits.queue_timeout.as_nanos() as u64 + GRID_NS;
    if r.limit_wait_ns.is_some_and(|ns| ns > queue_ns) {
        wrong.push(format!("waited {:?} ns for a place", r.limit_wait_ns));
    }
    let ended_ns = case.seen.filter(|seen| !seen.is_behind).and_then(|seen| seen.ended_ns);
    let waited_ns = ended_ns.map_or(0, |at_ns| at_ns - case.seen.map_or(0, |seen| seen.began_ns));
    let is_let_in = config.max_connections > case.plan.visits.len();
    if case.reads_promptly() && is_let_in && waited_ns > longest_ns {
        wrong.push(format!("its client waited {} ms", waited_ns / 1_000_000));
    }
    if r.outcome == Outcome::TimedOut && r.error.is_none() {
        wrong.push("timed out and does not say of what".to_owned());
    }
}

/// What the client saw is what the record says.
fn client(case: &Case<'_>, wrong: &mut Vec<String>) {
    let (r, Some(seen)) = (case.record, case.seen) else { return };
    let Some(answer) = &seen.answer else {
        let silent = [Outcome::Panicked, Outcome::Stopped, Outcome::ClientGone];
        let due = case.reads_promptly() && !silent.contains(&r.outcome);
        if seen.cut && seen.left_ns.is_none() && due {
            wrong.push(format!("{:?} {:?}, and its client was told nothing", r.outcome, r.status));
        }
        return;
    };
    if Some(answer.status) != r.status {
        wrong.push(format!("its client saw {}, the record says {:?}", answer.status, r.status));
    }
    if answer.code.is_none()
        && answer.worker.as_deref() != r.worker.as_deref().filter(|_| case.asked.kind.is_routed())
    {
        wrong.push(format!("its client was told {:?}, the record says {:?}", answer.worker, r.worker));
    }
    let passed_whole =
        matches!(r.outcome, Outcome::Done | Outcome::WorkerError) && case.asked.kind.is_routed();
    // The router's own words, for which a record does not wait.
    let own = answer.code.is_some() || !case.asked.kind.is_routed();
    let ends_whole = passed_whole || own;
    // A client of HTTP/1.0 cannot be told more than that its connection has ended.
    if answer.whole && !ends_whole && case.manner.is_http_11 {
        wrong.push(format!("its client has a whole answer, the record says {:?}", r.outcome));
    }
    let is_due = passed_whole || (own && case.reads_promptly() && r.outcome != Outcome::Stopped);
    if seen.cut && seen.left_ns.is_none() && is_due {
        wrong.push(format!("its client has a part, the record says {:?}", r.outcome));
    }
}

/// A client that has gone is noticed at once, and so it is at its worker.
fn leaving(case: &Case<'_>, wrong: &mut Vec<String>) {
    let (r, Some(left_ns)) = (case.record, case.seen.and_then(|seen| seen.left_ns)) else { return };
    if case.is_far_ahead {
        return;
    }
    let last_ns = left_ns.max(case.at_ns(0)) + GONE_NS;
    if case.at_ns(r.end_ns) > last_ns {
        wrong.push(format!(
            "its client left at {left_ns} ns, it ended at {} as {:?}",
            case.at_ns(r.end_ns),
            r.outcome
        ));
    }
    for receipt in case.receipts.iter().filter(|receipt| !receipt.said_all) {
        if receipt.closed_ns.is_some_and(|at_ns| at_ns > left_ns.max(receipt.at_ns) + GONE_NS) {
            wrong.push(format!(
                "its client left at {left_ns} ns, worker {} was told at {:?}",
                receipt.port, receipt.closed_ns
            ));
        }
    }
}

/// The answer is one that a worker gave to this request, byte for byte, and the record says how good it was.
fn content(case: &Case<'_>, wrong: &mut Vec<String>) {
    let (r, last) = (case.record, case.receipts.last());
    let passed_on = r.head_ns.is_some() && r.failed_attempts.len() < r.attempts as usize;
    let Some(last) = last.filter(|last| passed_on && !last.tainted) else { return };
    if last.fault == Fault::UntilClose && !last.said_all {
        // Its process died, which nobody can tell from the end of such an answer.
        return;
    }
    let said = &last.answer;
    if r.status != Some(502) && r.status != Some(said.status) {
        wrong.push(format!("worker {} said {}, the record {:?}", last.port, said.status, r.status));
    }
    let seen = case.seen.and_then(|seen| Some((seen, seen.answer.as_ref()?)));
    if let Some((_, answer)) = seen.filter(|(_, answer)| answer.code.is_none()) {
        let wanted = if case.asked.kind == Kind::UnknownHead { &[] } else { &said.data[..] };
        let ended = matches!(r.outcome, Outcome::Done | Outcome::WorkerError);
        let whole = answer.whole && (ended || case.manner.is_http_11);
        let same = if whole { answer.data == wanted } else { wanted.starts_with(&answer.data) };
        if !same {
            let (got, wanted) = (String::from_utf8_lossy(&answer.data), String::from_utf8_lossy(wanted));
            wrong.push(format!("its client got {got:?} of {wanted:?}"));
        }
        if whole && r.response_body_bytes != answer.data.len() as u64 {
            wrong.push(format!("{} B came, the record says {}", answer.data.len(), r.response_body_bytes));
        }
    }
    let expected = match (said.ending, said.worth) {
        (Ending::Whole, Worth::Good) => Outcome::Done,
        (Ending::Whole, Worth::Bad) => Outcome::WorkerError,
        (Ending::Broken, _) => Outcome::WorkerReset,
        (Ending::Never, _) => Outcome::TimedOut,
        (Ending::NoAnswer, _) => {
            wrong.push("an answer was passed on, and none was given".to_owned());
            return;
        }
    };
    // A worker that died, a client that left, the end of the time or of the router come before it.
    let others = [Outcome::WorkerReset, Outcome::ClientGone, Outcome::TimedOut, Outcome::Stopped];
    if r.outcome != expected && !others.contains(&r.outcome) {
        wrong.push(format!("{:?} of worker {} ended as {:?}", last.fault, last.port, r.outcome));
    }
    if r.outcome == Outcome::WorkerReset && expected != r.outcome && case.plan.steps.is_empty() {
        wrong.push(format!(
            "{:?} of worker {} ended as {:?}: {:?}",
            last.fault, last.port, r.outcome, r.error
        ));
    }
    if r.outcome == Outcome::ClientGone && case.seen.is_some_and(|seen| seen.left_ns.is_none()) {
        wrong.push("its client did not leave".to_owned());
    }
}
