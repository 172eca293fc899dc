//! What a worker's server said last of its load, for people: `/metrics` shows it.
//!
//! Rule: what is not known now is not shown as if it were. Deliberately not here: what policies go by; they are told each
//! answer as it comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use milepost_policies::ServerLoad;

/// What was said of one worker.
#[derive(Debug, Default)]
pub struct Said {
    last: Mutex<Last>,
    failures: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Last {
    // `None` where the last question brought nothing.
    load: Option<ServerLoad>,
    at_ns: Option<u64>,
}

impl Said {
    /// The load, while the last answer told it.
    pub fn load(&self) -> Option<ServerLoad> {
        self.last().load
    }

    /// When an answer told a load last, `CLOCK_MONOTONIC` nanoseconds; `None` before the first.
    pub fn answered_ns(&self) -> Option<u64> {
        self.last().at_ns
    }

    /// Questions that brought no load of this worker.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// It was asked at last at `now_ns`, and said this. True if that is the end of what was known.
    pub(super) fn set(&self, load: Option<ServerLoad>, now_ns: u64) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let was_known = std::mem::replace(&mut last.load, load).is_some();
        match load {
            Some(_) => last.at_ns = Some(now_ns),
            None => _ = self.failures.fetch_add(1, Ordering::Relaxed),
        }
        was_known && load.is_none()
    }

    /// It is not asked now, and what it said no longer counts; no failure of its. True if something was known.
    pub(super) fn forget(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.load.take().is_some()
    }

    fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
