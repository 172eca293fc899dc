//! One request: where it was sent, how often, and with what pauses.
//!
//! Deliberately not here: what came back (`request`).

use milepost::trace::record::Outcome;

use super::Case;
use crate::asking::Kind;
use crate::fault::Fault;
use crate::plan::url;
use crate::worker::Receipt;

pub fn check(case: &Case<'_>, wrong: &mut Vec<String>) {
    if !case.asked.kind.is_routed() {
        return;
    }
    counts(case, wrong);
    places(case, wrong);
    rounds(case, wrong);
    reconnects(case, wrong);
    if case.asked.kind == Kind::Unknown && case.receipts.len() > 1 {
        wrong.push(format!("may not be carried out twice, and was written {} times", case.receipts.len()));
    }
}

fn counts(case: &Case<'_>, wrong: &mut Vec<String>) {
    let r = case.record;
    let failed = r.failed_attempts.len();
    if r.attempts > case.plan.config.retry.max_attempts {
        wrong.push(format!("{} attempts, more than were allowed", r.attempts));
    }
    if !(failed..=failed + 1).contains(&(r.attempts as usize)) {
        wrong.push(format!("{} attempts, of which {failed} failed", r.attempts));
    }
    if case.receipts.len() > (r.attempts + r.reconnects) as usize {
        wrong.push(format!(
            "{} attempts, {} reconnects, but {} came",
            r.attempts,
            r.reconnects,
            case.receipts.len()
        ));
    }
    if (r.attempts == 0) != r.worker.is_none() {
        wrong.push(format!("{} attempts, worker {:?}", r.attempts, r.worker));
    }
    // Nobody could have closed a connection under it.
    if r.reconnects > 0 && case.plan.is_calm() && case.plan.worker_idle.as_secs() >= 5 {
        wrong.push(format!("{} reconnects", r.reconnects));
    }
}

/// A reused connection that dies at once is nobody's failure: the same worker is asked again, on a fresh one.
fn reconnects(case: &Case<'_>, wrong: &mut Vec<String>) {
    let r = case.record;
    let interrupted =
        matches!(r.outcome, Outcome::ClientGone | Outcome::TimedOut | Outcome::Stopped | Outcome::Panicked);
    // A process that hangs may hold a request for longer than such a death takes.
    if interrupted || case.asked.kind == Kind::Unknown || !case.plan.steps.is_empty() {
        return;
    }
    let closed = |receipt: &&&Receipt| {
        receipt.reused
            && !receipt.tainted
            && matches!(receipt.fault, Fault::CloseAtHead | Fault::CloseUnanswered)
    };
    let died = case.receipts.iter().filter(closed).count();
    if (r.reconnects as usize) < died {
        wrong.push(format!("{died} reused connections died under it, {} reconnects", r.reconnects));
    }
}

/// Workers got it in the order that the record tells.
fn places(case: &Case<'_>, wrong: &mut Vec<String>) {
    let r = case.record;
    let mut tried: Vec<&str> = r.failed_attempts.iter().map(|a| &*a.worker).collect();
    if r.attempts as usize > tried.len() {
        tried.extend(r.worker.as_deref());
    }
    let mut place = 0;
    for receipt in &case.receipts {
        let url = url(receipt.port);
        match tried[place.min(tried.len())..].iter().position(|worker| *worker == url) {
            Some(further) => place += further,
            None => {
                wrong.push(format!("worker {} got it; the record has {tried:?}", receipt.port));
                return;
            }
        }
    }
}

/// Within a round no worker is asked twice; a pause is made when all have been asked.
fn rounds(case: &Case<'_>, wrong: &mut Vec<String>) {
    let r = case.record;
    let mut round: Vec<&str> = Vec::new();
    let mut at_ns = 0;
    for (i, attempt) in r.failed_attempts.iter().enumerate() {
        if attempt.failed_ns < at_ns || attempt.router_send_ns.is_some_and(|ns| ns > attempt.failed_ns) {
            wrong.push(format!("attempt {i} is not in order"));
        }
        at_ns = attempt.failed_ns;
        if case.plan.steps.is_empty() && round.contains(&&*attempt.worker) {
            wrong.push(format!("attempt {i} went to {} again", attempt.worker));
        }
        round.push(&attempt.worker);
        if let Some(pause_ns) = attempt.backoff_ns {
            if case.plan.is_steady() && round.len() < usize::from(case.plan.workers) {
                wrong.push(format!("paused with {} of {} workers asked", round.len(), case.plan.workers));
            }
            round.clear();
            at_ns += pause_ns;
        }
    }
    let last = r.worker.as_deref().filter(|_| r.attempts as usize > r.failed_attempts.len());
    if let Some(last) = last
        && case.plan.steps.is_empty()
        && round.contains(&last)
    {
        wrong.push(format!("the last attempt went to {last} again"));
    }
    if last.is_some() && r.decided_ns.is_some_and(|ns| ns < at_ns) && r.outcome != Outcome::ClientGone {
        wrong.push("was decided before the pause was over".to_owned());
    }
    let eligible = r.decision.as_ref().map_or(0, |decision| decision.eligible as usize);
    let left = usize::from(case.plan.workers).saturating_sub(round.len());
    if case.plan.steps.is_empty() && last.is_some() && eligible > left {
        wrong.push(format!("chosen among {eligible} with {left} left"));
    }
}
