//! When something was done by the row, by a client or by a worker: what the router does next is timed from there.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Longest time from a fault to the end of the worker's connection.
pub const AT_ONCE: Duration = Duration::from_millis(10);

/// When something was done by the row, by a client or by a worker.
#[derive(Debug)]
pub struct Events {
    began: Instant,
    at: Mutex<Vec<Duration>>,
    patience: Duration,
}

impl Events {
    /// None yet. In virtual time a wait may be longer than any time-out of the router, as it costs nothing.
    pub fn begin(virtual_time: bool) -> Self {
        let patience = Duration::from_secs(if virtual_time { 4_000 } else { 30 });
        Self { began: Instant::now(), at: Mutex::default(), patience }
    }

    /// Longest wait for anything; a row that needs it has failed.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Something was done now.
    pub fn mark(&self) {
        self.at.lock().unwrap().push(self.now());
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Time from the last event that is no later than `at`.
    pub fn before(&self, at: Duration) -> Duration {
        let all = self.at.lock().unwrap();
        let last = all.iter().copied().filter(|event| *event <= at).max().unwrap_or_default();
        at.saturating_sub(last)
    }
}
