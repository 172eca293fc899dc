//! What happened in a world: lines to read, and facts to check.
//!
//! Rule: only what the seed decides stands in a line, so that two runs of a seed tell the same story. Deliberately not here:
//! what should have happened (`invariants`).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

use crate::client::Seen;
use crate::worker::Receipt;

/// Story and facts, shared by all who take part.
#[derive(Clone)]
pub struct Story(Arc<Mutex<Told>>, Instant);

/// What was told.
#[derive(Default)]
pub struct Told {
    pub lines: Vec<String>,
    /// Requests as workers got them, in order.
    pub receipts: Vec<Receipt>,
    /// What clients saw, by the request's number.
    pub seen: BTreeMap<usize, Seen>,
    /// Connections open at workers, by whoever accepted them.
    pub open_at_workers: usize,
    /// What a participant found that no router may do.
    pub complaints: Vec<String>,
}

impl Story {
    pub fn begin() -> Self {
        Self(Arc::default(), Instant::now())
    }

    /// Virtual nanoseconds since the beginning.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.1.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn tell(&self, who: impl Display, what: impl Display) {
        let line = format!("{:>10.3} ms  {who}: {what}", self.now_ns() as f64 / 1e6);
        self.told().lines.push(line);
    }

    /// Something that no router may do.
    pub fn complain(&self, who: impl Display, what: impl Display) {
        self.tell(&who, &what);
        self.told().complaints.push(format!("{who}: {what}"));
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap()
    }
}
