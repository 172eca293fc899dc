//! A request's claim on a worker.
//!
//! Rule: taken inside the decision's critical section, given back exactly once, when the value is dropped. That is why
//! in-flight counts are true for every policy, and why a half-open worker has one request at a time. What the request's end
//! says of the worker is told once; a lease dropped without a word says nothing. Deliberately not here: anything else about
//! the request.

use std::sync::Arc;

use super::breaker::{Phase, Transition, Verdict};
use super::worker::Worker;
use crate::clock::Clock;

/// One request in flight at one worker.
#[derive(Debug)]
pub struct Lease {
    worker: Arc<Worker>,
    // `None` once the breaker was told.
    sent: Option<Phase>,
}

impl Lease {
    pub(super) fn take(worker: Arc<Worker>) -> Self {
        worker.lease_one();
        let sent = Some(worker.breaker().begin());
        Self { worker, sent }
    }

    /// The worker.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// It was taken at a half-open worker, and nothing was said of it yet.
    pub(super) fn is_probe(&self) -> bool {
        self.sent.is_some_and(Phase::is_probe)
    }

    /// Tells the worker's breaker, once: a second verdict on the same request is no second outcome.
    pub(super) fn settle(&mut self, verdict: Verdict, clock: &Clock) -> Option<Transition> {
        self.worker.breaker().settle(self.sent.take()?, verdict, || clock.mono_ns())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.worker.breaker().settle(sent, Verdict::Neutral, || 0);
        }
        self.worker.release_one();
    }
}
