//! Which worker holds which request, by the request's own id (`rid`).
//!
//! Rule: only requests that carry a `rid` are here, from the moment a worker is chosen to their end, so a request without one
//! costs nothing. One that waits between two attempts is at no worker. A request is in flight on a client connection of its
//! own, so their limit is that of this map.
//! Deliberately not here: `x-request-id`, which no engine knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::worker::Worker;

/// Requests in flight, by `rid`.
#[derive(Debug, Default)]
pub struct InFlightRids(Mutex<BTreeMap<(String, u64), Held>>);

/// Where one request is.
#[derive(Debug)]
struct Held {
    /// The worker that has it, or had it before a pause.
    worker: Arc<Worker>,
    /// It is at no worker but waits for another attempt: told when it is aborted.
    pause: Option<Arc<Notify>>,
    aborted: bool,
}

/// Whom an abort concerns.
#[derive(Debug, Default)]
pub struct Concerned {
    /// The workers at which such a request is in flight.
    pub workers: Vec<Arc<Worker>>,
    /// Requests that waited for another attempt, and end now.
    pub ended: usize,
}

impl InFlightRids {
    /// Request number `seq` is at this worker now, and no longer at an earlier one.
    pub fn insert(&self, rid: &str, seq: u64, worker: &Arc<Worker>) {
        let held = Held { worker: Arc::clone(worker), pause: None, aborted: false };
        self.lock().insert((rid.to_owned(), seq), held);
    }

    /// It waits for another attempt; told where it is aborted meanwhile.
    pub fn pause(&self, rid: &str, seq: u64) -> Option<Arc<Notify>> {
        let mut all = self.lock();
        let held = all.get_mut(&(rid.to_owned(), seq))?;
        Some(Arc::clone(held.pause.insert(Arc::default())))
    }

    /// The wait is over; true if it was aborted.
    pub fn resume(&self, rid: &str, seq: u64) -> bool {
        let mut all = self.lock();
        all.get_mut(&(rid.to_owned(), seq)).is_some_and(|held| {
            held.pause = None;
            held.aborted
        })
    }

    /// It is over; does nothing if it was at no worker.
    pub fn remove(&self, rid: &str, seq: u64) {
        self.lock().remove(&(rid.to_owned(), seq));
    }

    /// Ends those that wait, and says who has the others that an abort of `rid` would end: the engine's scheduler takes it as a
    /// prefix.
    pub fn abort(&self, rid: &str) -> Concerned {
        let mut all = self.lock();
        let mut found = Concerned::default();
        let from = (rid.to_owned(), 0);
        for (_, held) in all.range_mut(from..).take_while(|((held, _), _)| held.starts_with(rid)) {
            if let Some(pause) = &held.pause {
                pause.notify_one();
                found.ended += usize::from(!std::mem::replace(&mut held.aborted, true));
            } else if !found.workers.iter().any(|w| Arc::ptr_eq(w, &held.worker)) {
                found.workers.push(Arc::clone(&held.worker));
            }
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Held>> {
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
        let at = |rid: &str| rids.abort(rid).workers.iter().map(|w| w.id.0).collect::<Vec<_>>();
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

    #[tokio::test]
    async fn a_request_that_waits_for_another_attempt_is_ended_itself() {
        let url = WorkerUrl::parse("http://a:1").unwrap();
        let pipes = Connector::Pipes(PipeNet::default());
        let worker = Arc::new(Worker::new(WorkerId(0), url.into(), pipes, BreakerConfig::default(), true));
        let rids = InFlightRids::default();
        assert!(rids.pause("x", 1).is_none() && !rids.resume("x", 1), "it is not known");
        rids.insert("x", 1, &worker);
        let told = rids.pause("x", 1).expect("it is known");
        let concerned = rids.abort("x");
        assert_eq!((concerned.workers.len(), concerned.ended), (0, 1));
        told.notified().await;
        assert_eq!(rids.abort("x").ended, 0, "once");
        assert!(rids.resume("x", 1));
        rids.insert("x", 1, &worker);
        assert!(rids.pause("x", 1).is_some() && !rids.resume("x", 1));
        assert_eq!(rids.abort("x").workers.len(), 1, "at its worker again");
    }
}
