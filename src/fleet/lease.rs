//! A request's claim on a worker.
//!
//! Rule: taken inside the decision's critical section, given back exactly once, when the value is dropped. That is why
//! in-flight counts are true for every policy. Deliberately not here: anything else about the request.

use std::sync::Arc;

use super::worker::Worker;

/// One request in flight at one worker.
#[derive(Debug)]
pub struct Lease(Arc<Worker>);

impl Lease {
    pub(super) fn take(worker: Arc<Worker>) -> Self {
        worker.lease_one();
        Self(worker)
    }

    /// The worker.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.release_one();
    }
}
