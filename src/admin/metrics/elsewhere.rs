//! What other parts of the router count: the circuit breakers and the limits.
//!
//! Rule: one function each, the only places that know where such a number comes from. Deliberately not here: any state.

use crate::fleet::breaker::Transition;
use crate::fleet::worker::Worker;
use crate::proxy::Shared;
use crate::proxy::limit::Limit;

/// A worker's breaker as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    /// 0 closed, 1 open, 2 half-open.
    pub(super) state: u64,
    pub(super) failures_in_a_row: u64,
    pub(super) successes_in_a_row: u64,
    pub(super) failures: u64,
    pub(super) successes: u64,
    /// From, to, how often: `("closed", "open", 1)`.
    pub(super) transitions: Vec<(&'static str, &'static str, u64)>,
}

/// Decisions of the limits so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) allowed: u64,
    pub(super) rejected: u64,
}

/// The breaker of a worker; of its changes those that have happened.
pub(super) fn breaker(worker: &Worker) -> Breaker {
    let view = worker.breaker().view();
    let changes = Transition::ALL.into_iter().zip(view.transitions).filter(|(_, times)| *times > 0);
    Breaker {
        state: view.state.number().into(),
        failures_in_a_row: view.consecutive_failures.into(),
        successes_in_a_row: view.consecutive_successes,
        failures: view.failures,
        successes: view.successes,
        transitions: changes.map(|(t, times)| (t.from().name(), t.to().name(), times)).collect(),
    }
}

/// What the limits decided.
pub(super) fn limits(shared: &Shared) -> Limits {
    let counts = shared.limit.as_ref().map(Limit::counts).unwrap_or_default();
    // A wait that was too long is a refusal too.
    Limits { allowed: counts.allowed, rejected: counts.rejected + counts.timed_out }
}
