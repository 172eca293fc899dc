//! What the writer knows of workers, to be said again at the beginning of each file.
//!
//! Rule: a file can be read without those before it, which may be removed by then or never have been written: that a worker is a
//! router, or simulated, decides how its stamps are read. At most [`MAX_WORKERS`] are known. Deliberately not here: writing
//! ([`super::scribe`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Record, WorkerRecord};

/// Workers that are known at most; of more, the files say what their own records say.
const MAX_WORKERS: usize = 4096;
/// The event of a record that says again what is known.
const KNOWN: &str = "known";
/// The event of a worker that left.
const REMOVED: &str = "removed";

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known(BTreeMap<Arc<str>, WorkerRecord>);

impl Known {
    /// Keeps the last record of each worker among these.
    pub(super) fn learn(&mut self, records: &[Record]) {
        for record in records {
            let Record::Worker(worker) = record else { continue };
            if self.0.len() >= MAX_WORKERS {
                self.forget_removed();
            }
            if self.0.len() < MAX_WORKERS || self.0.contains_key(&worker.worker) {
                self.0.insert(Arc::clone(&worker.worker), worker.clone());
            }
        }
    }

    /// What a file that is begun now says of them. One that left is told once more, for the requests that it had still.
    pub(super) fn tell(&self, now_mono_ns: u64) -> Vec<Record> {
        let told = |worker: &WorkerRecord| {
            Record::Worker(WorkerRecord {
                mono_ns: now_mono_ns,
                event: KNOWN.to_owned(),
                detail: Some(worker.event.clone()),
                ..worker.clone()
            })
        };
        self.0.values().map(told).collect()
    }

    /// Those that left are in a file now.
    pub(super) fn forget_removed(&mut self) {
        self.0.retain(|_, worker| worker.event != REMOVED);
    }
}

/// The record is the writer's own: nothing that was offered.
pub(super) fn is_repeat(worker: &WorkerRecord) -> bool {
    worker.event == KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(url: &str, event: &str) -> Record {
        Record::Worker(WorkerRecord { worker: url.into(), event: event.into(), ..WorkerRecord::default() })
    }

    fn told(known: &mut Known) -> Vec<(String, String)> {
        let of = |record| match record {
            Record::Worker(worker) if is_repeat(&worker) && worker.mono_ns == 7 => {
                (worker.worker.to_string(), worker.detail.unwrap_or_default())
            }
            other => panic!("{other:?}"),
        };
        let told = known.tell(7).into_iter().map(of).collect();
        known.forget_removed();
        told
    }

    #[test]
    fn the_last_of_each_worker_is_told_and_one_that_left_only_once() {
        let mut known = Known::default();
        known.learn(&[worker("a", "added"), worker("b", "added"), worker("a", "healthy")]);
        known.learn(&[worker("b", "removed")]);
        let pair = |url: &str, event: &str| (url.to_owned(), event.to_owned());
        assert_eq!(told(&mut known), [pair("a", "healthy"), pair("b", "removed")]);
        assert_eq!(told(&mut known), [pair("a", "healthy")]);
    }

    #[test]
    fn workers_that_come_and_go_do_not_fill_it() {
        let mut known = Known::default();
        for n in 0..=MAX_WORKERS {
            known.learn(&[worker(&format!("w{n}"), "added"), worker(&format!("w{n}"), REMOVED)]);
        }
        assert!(known.0.len() <= MAX_WORKERS);
        known.learn(&[worker("last", "added")]);
        assert!(known.0.contains_key("last"));
        (0..MAX_WORKERS + 9).for_each(|n| known.learn(&[worker(&format!("x{n}"), "added")]));
        assert_eq!(known.0.len(), MAX_WORKERS);
    }
}
