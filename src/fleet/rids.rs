//! Which worker holds which request, by the request's own id (`rid`).
//!
//! Rule: only requests that carry a `rid` are here, from the moment a worker is chosen to their end, so a request without one
//! costs nothing. A request is in flight on a client connection of its own, so their limit is that of this map.
//! Deliberately not here: `x-request-id`, which no engine knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::worker::Worker;

/// Requests in flight, by `rid`.
#[derive(Debug, Default)]
pub struct InFlightRids(Mutex<BTreeMap<(String, u64), Arc<Worker>>>);

impl InFlightRids {
    /// Request number `seq` is at this worker now, and no longer at an earlier one.
    pub fn insert(&self, rid: &str, seq: u64, worker: &Arc<Worker>) {
        self.lock().insert((rid.to_owned(), seq), Arc::clone(worker));
    }

    /// It is over; does nothing if it was at no worker.
    pub fn remove(&self, rid: &str, seq: u64) {
        self.lock().remove(&(rid.to_owned(), seq));
    }

    /// The workers at which a request is in flight that an abort of `rid` would end: the engine's scheduler takes it as a prefix.
    pub fn holders(&self, rid: &str) -> Vec<Arc<Worker>> {
        let held = self.lock();
        let mut found: Vec<Arc<Worker>> = Vec::new();
        let from = (rid.to_owned(), 0);
        for (_, worker) in held.range(from..).take_while(|((held, _), _)| held.starts_with(rid)) {
            if !found.iter().any(|w| Arc::ptr_eq(w, worker)) {
                found.push(Arc::clone(worker));
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Arc<Worker>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use milepost_policies::WorkerId;

    use super::*;
    use crate::config::resilience::BreakerConfig;
    use crate::config::worker_url::WorkerUrl;
    use crate::net::{Connector, PipeNet};

    #[test]
    fn a_rid_names_the_workers_that_hold_it_now() {
        let worker = |id: u32| {
            let url = WorkerUrl::parse(&format!("http://a:{}", id + 1)).unwrap();
            let pipes = Connector::Pipes(PipeNet::default());
            Arc::new(Worker::new(WorkerId(id), url.into(), pipes, BreakerConfig::default(), true))
        };
        let (a, b) = (worker(0), worker(1));
        let rids = InFlightRids::default();
        let at = |rid: &str| rids.holders(rid).iter().map(|w| w.id.0).collect::<Vec<_>>();
        rids.insert("x", 1, &a);
        rids.insert("x_1", 2, &b);
        rids.insert("y", 3, &b);
        assert_eq!((at("x"), at("x_1"), at("y"), at("z")), (vec![0, 1], vec![1], vec![1], vec![]));
        // A second attempt, elsewhere; two requests with one id.
        rids.insert("y", 3, &a);
        rids.insert("y", 4, &b);
        assert_eq!(at("y"), [0, 1]);
        rids.remove("y", 3);
        rids.remove("y", 9);
        assert_eq!(at("y"), [1]);
    }
}
