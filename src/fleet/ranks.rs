//! The data-parallel ranks of a server as workers (`--dp-aware`).
//!
//! Rule: a server says how many ranks it has (`dp_size`), so it is one worker until it has said so; from then on each rank
//! is a worker of its own with its own leases, and all of them are healthy or none. A server that comes back with another
//! number gets as many workers. An address given with its rank (`http://host:port@3`) is that one worker and stays it.
//! Deliberately not here: how a rank is told to the server (`proxy::splice`).

use std::sync::Arc;

use super::Fleet;
use super::health;
use super::worker::Worker;
use crate::config::worker_url::WorkerUrl;
use crate::log;

/// Most ranks of one server; a larger number is a mistake of whoever said it.
const MAX_RANKS: u32 = 1024;

/// What became of a change of a server's workers.
enum Exchange {
    Done {
        left: Vec<Arc<Worker>>,
        joined: Vec<Arc<Worker>>,
    },
    /// The worker that it was about is no longer in the fleet.
    Gone,
    /// There would be more workers than there may be.
    NoRoom,
}

impl Fleet {
    /// Workers are expanded into their ranks.
    pub fn is_dp_aware(&self) -> bool {
        self.config.dp_aware
    }

    /// The ranks of this worker's server that are in the fleet, itself included; of a worker that is no rank, itself alone.
    pub fn ranks_beside(&self, worker: &Arc<Worker>) -> Vec<Arc<Worker>> {
        if worker.url.rank().is_none() {
            return vec![Arc::clone(worker)];
        }
        let is_beside = |w: &&Arc<Worker>| w.url.rank().is_some() && w.url.is_same_server(&worker.url);
        self.lock().workers.iter().filter(is_beside).cloned().collect()
    }

    /// True for the one worker of its server whose checks count for all of its ranks.
    pub fn speaks_for_server(&self, worker: &Arc<Worker>) -> bool {
        // Nothing is looked up where there are no ranks.
        worker.url.rank().is_none()
            || self
                .ranks_beside(worker)
                .iter()
                .find(|rank| health::config_of(self, rank).enabled)
                .is_some_and(|first| Arc::ptr_eq(first, worker))
    }

    /// Makes the workers of a server what it said about its ranks. To be called by the task that watches `worker`; false if
    /// that worker is no longer in the fleet, and the task must end.
    pub(super) fn fit_ranks(self: &Arc<Self>, worker: &Arc<Worker>, healthy: bool) -> bool {
        let Some(wanted) = self.wanted_ranks(worker) else {
            return true;
        };
        // Held over all changes: a slot that is free has no watcher.
        let mut watchers = self.watchers();
        let (left, joined) = match self.exchange(worker, &wanted, healthy) {
            Exchange::Done { left, joined } => (left, joined),
            Exchange::Gone => return false,
            Exchange::NoRoom => {
                let (url, ranks, most) = (&worker.url, wanted.len(), self.config.max_workers);
                log::warn(&format!(
                    "worker {url} stays one: for {ranks} ranks there is no room in {most} workers"
                ));
                return true;
            }
        };
        let stays = !left.iter().any(|w| Arc::ptr_eq(w, worker));
        for gone in &left {
            let watcher = watchers.remove(&gone.id.0);
            // The calling task ends by itself.
            if let Some(watcher) = watcher.filter(|_| !Arc::ptr_eq(gone, worker)) {
                watcher.abort();
            }
            let ranks = worker.described().dp_size.unwrap_or(1);
            self.announce(gone, "removed", Some(format!("the server has {ranks} data-parallel ranks")));
        }
        for rank in joined {
            self.announce(&rank, "added", None);
            if healthy {
                self.announce(&rank, "healthy", None);
            }
            watchers.insert(rank.id.0, self.watch(&rank));
        }
        stays
    }

    /// Takes out those added as `worker` was that are not wanted, and puts in those that are missing.
    fn exchange(&self, worker: &Arc<Worker>, wanted: &[Option<u32>], healthy: bool) -> Exchange {
        let now = self.now();
        let mut dispatch = self.lock();
        let there = &dispatch.workers;
        if !there.iter().any(|w| Arc::ptr_eq(w, worker)) {
            return Exchange::Gone;
        }
        let is_unwanted = |w: &&Arc<Worker>| w.added_as == worker.added_as && !wanted.contains(&w.url.rank());
        let left: Vec<Arc<Worker>> = there.iter().filter(is_unwanted).cloned().collect();
        let mut missing: Vec<WorkerUrl> =
            wanted.iter().map(|rank| worker.added_as.with_rank(*rank)).collect();
        missing.retain(|url| there.iter().all(|w| w.url != *url));
        if there.len() - left.len() + missing.len() > self.config.max_workers {
            return Exchange::NoRoom;
        }
        for gone in &left {
            dispatch.leave(now, gone);
        }
        let join = |url| {
            let slot = dispatch.free_slot();
            let rank = Arc::new(worker.found_beside(slot, url, healthy));
            dispatch.join(now, Arc::clone(&rank));
            rank
        };
        Exchange::Done { left, joined: missing.into_iter().map(join).collect() }
    }

    /// Which workers a server should be; `None` where nothing is to be changed.
    fn wanted_ranks(&self, worker: &Worker) -> Option<Vec<Option<u32>>> {
        if !self.config.dp_aware || worker.added_as.rank().is_some() {
            return None;
        }
        match worker.described().dp_size? {
            0 | 1 => Some(vec![None]),
            ranks if ranks <= MAX_RANKS => Some((0..ranks).map(Some).collect()),
            ranks => {
                log::warn(&format!(
                    "worker {} says that it has {ranks} data-parallel ranks; more than {MAX_RANKS} are not believed",
                    worker.url
                ));
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "ranks_tests.rs"]
mod tests;
