//! What becomes of a request, as a word on the worker that had it.
//!
//! Rule: pure functions of what the record says. Deliberately not here: what a breaker does with it (`fleet::breaker`).

use crate::fleet::breaker::Verdict;
use crate::trace::record::Outcome;

/// What a status says of the worker that sent it. One below 500 is about the request: a worker that refuses bad requests, or
/// more than it can take, works, and no number of them may take it out.
pub fn of(status: u16) -> Verdict {
    if status >= 500 { Verdict::Failure } else { Verdict::Success }
}

/// What the end of a request says of the worker that has it.
pub fn at_end(outcome: Outcome, status: Option<u16>) -> Verdict {
    match outcome {
        Outcome::Done | Outcome::WorkerError => of(status.unwrap_or(0)),
        Outcome::WorkerReset | Outcome::TimedOut => Verdict::Failure,
        Outcome::ClientGone
        | Outcome::Unreachable
        | Outcome::Refused
        | Outcome::Stopped
        | Outcome::Panicked => Verdict::Neutral,
    }
}
