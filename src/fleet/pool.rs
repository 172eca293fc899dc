//! Idle connections to one worker.
//!
//! Rule: the newest idle connection is used first and polled once before use; none is kept idle for longer than
//! [`IDLE_LIMIT`], because uvicorn closes at 5.0 s and a request written into that moment is lost. Deliberately not here:
//! sending, and the decision to reconnect.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::upstream::Upstream;

/// Longest idle time of a kept connection. SGLang's uvicorn closes idle ones after 5.0 s (`SGLANG_TIMEOUT_KEEP_ALIVE`).
pub const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// Most idle connections kept for one worker; more are closed on return.
const MAX_IDLE: usize = 1024;

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    since_ns: u64,
    upstream: Upstream,
}

impl Pool {
    /// The newest idle connection that is alive.
    pub fn checkout(&self, now_ns: u64) -> Option<Upstream> {
        loop {
            let newest = self.lock().pop()?;
            if now_ns.saturating_sub(newest.since_ns) >= limit_ns() {
                // The newest is too old, so are all others.
                drop(std::mem::take(&mut *self.lock()));
                return None;
            }
            let mut upstream = newest.upstream;
            if upstream.is_ready() {
                return Some(upstream);
            }
        }
    }

    /// Keeps a connection whose response has ended; one that cannot carry another request is closed.
    pub fn park(&self, mut upstream: Upstream, now_ns: u64) {
        if upstream.is_ready() {
            let mut idle = self.lock();
            if idle.len() < MAX_IDLE {
                idle.push(Idle { since_ns: now_ns, upstream });
            }
        }
    }

    /// Closes what has been idle for too long.
    pub fn reap(&self, now_ns: u64) {
        let mut idle = self.lock();
        let stale = idle.iter().take_while(|i| now_ns.saturating_sub(i.since_ns) >= limit_ns()).count();
        let closed: Vec<Idle> = idle.drain(..stale).collect();
        drop(idle);
        drop(closed);
    }

    /// Idle connections now.
    pub fn idle(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_ns() -> u64 {
    u64::try_from(IDLE_LIMIT.as_nanos()).unwrap_or(u64::MAX)
}
