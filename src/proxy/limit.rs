//! How many requests are at workers, how many begin in a second, and who waits for either.
//!
//! Rule: a place is held from the moment it is given until its [`Slot`] is dropped; whoever comes first waits first, and a
//! waiter that leaves gives its place in the queue back at once. Deliberately not here: what is limited (`proxy::handle`),
//! the answer's end (`journey`).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::ConfigError;
use crate::config::resilience::LimitConfig;
use crate::wire::problem::Problem;

/// The limits of one router; where none is set there is no such value.
#[derive(Debug)]
pub struct Limit {
    slots: Option<Slots>,
    starts: Option<Starts>,
    // The first of the queue alone looks for a slot and a start; the semaphore keeps the others in their order.
    turn: Semaphore,
    queued: AtomicUsize,
    queue_size: usize,
    queue_timeout: Duration,
    allowed: AtomicU64,
    rejected: AtomicU64,
    timed_out: AtomicU64,
}

/// A place among the requests at workers; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    // `None` where only the starts are limited.
    _permit: Option<OwnedSemaphorePermit>,
}

/// What has happened so far, and what is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitCounts {
    /// Requests that got a place, at once or later.
    pub allowed: u64,
    /// Requests turned away because the queue was full (429).
    pub rejected: u64,
    /// Requests that waited in vain (408).
    pub timed_out: u64,
    /// Requests waiting now.
    pub queued: usize,
    /// Places held now; 0 where only the starts are limited.
    pub running: usize,
}

#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    all: usize,
}

impl Limit {
    /// The limits that are asked for; `None` if there are none.
    pub fn new(config: &LimitConfig) -> Result<Option<Self>, ConfigError> {
        let zero = |flag: &str| Err(ConfigError(format!("{flag}: expected at least 1, got 0")));
        match config {
            LimitConfig { max_concurrent: None, rate_per_second: None, .. } => return Ok(None),
            LimitConfig { max_concurrent: Some(0), .. } => return zero("--max-concurrent-requests"),
            LimitConfig { rate_per_second: Some(0), .. } => return zero("--rate-limit-tokens-per-second"),
            LimitConfig { .. } => {}
        }
        Ok(Some(Self {
            slots: config
                .max_concurrent
                .map(|all| Slots { free: Arc::new(Semaphore::new(all as usize)), all: all as usize }),
            starts: config.rate_per_second.map(Starts::new),
            turn: Semaphore::new(1),
            queued: AtomicUsize::new(0),
            queue_size: config.queue_size,
            queue_timeout: config.queue_timeout,
            allowed: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
        }))
    }

    /// An error if a request that comes now would be turned away at once.
    pub fn look(&self) -> Result<(), Problem> {
        let queued = self.queued.load(Ordering::Relaxed);
        if queued < self.queue_size || (queued == 0 && self.has_room()) {
            return Ok(());
        }
        Err(self.reject())
    }

    /// Waits for a place, for `--queue-timeout-secs` and until `deadline` at most.
    pub async fn enter(&self, deadline: Instant) -> Result<Slot, Problem> {
        let slot = match self.at_once() {
            Some(slot) => slot,
            None => self.in_turn(deadline).await?,
        };
        self.allowed.fetch_add(1, Ordering::Relaxed);
        Ok(slot)
    }

    /// For metrics.
    pub fn counts(&self) -> LimitCounts {
        LimitCounts {
            allowed: self.allowed.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            running: self.slots.as_ref().map_or(0, |s| s.all - s.free.available_permits()),
        }
    }

    fn has_room(&self) -> bool {
        self.slots.as_ref().is_none_or(|s| s.free.available_permits() > 0)
            && self.starts.as_ref().is_none_or(|s| s.wait(Instant::now()).is_none())
    }

    /// A place without waiting, if nobody waits.
    fn at_once(&self) -> Option<Slot> {
        if self.queued.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let permit = match &self.slots {
            Some(slots) => Some(Arc::clone(&slots.free).try_acquire_owned().ok()?),
            None => None,
        };
        // Last, as a start that was taken cannot be given back.
        match &self.starts {
            Some(starts) if starts.take(Instant::now()).is_err() => None,
            _ => Some(Slot { _permit: permit }),
        }
    }

    async fn in_turn(&self, deadline: Instant) -> Result<Slot, Problem> {
        let _place = self.queue()?;
        let now = Instant::now();
        let until = now.checked_add(self.queue_timeout).map_or(deadline, |until| until.min(deadline));
        if let Ok(slot) = tokio::time::timeout_at(until, self.wait()).await {
            return Ok(slot);
        }
        self.timed_out.fetch_add(1, Ordering::Relaxed);
        let waited_s = until.saturating_duration_since(now).as_secs_f64();
        Err(Problem::new(
            408,
            "queue_timeout",
            format!("no place among the requests at workers in {waited_s} s; try again later"),
        ))
    }

    /// A place in the queue, if it is not full.
    fn queue(&self) -> Result<Queued<'_>, Problem> {
        let join = |queued: usize| (queued < self.queue_size).then_some(queued + 1);
        match self.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join) {
            Ok(_) => Ok(Queued(&self.queued)),
            Err(_) => Err(self.reject()),
        }
    }

    /// Whatever is held here goes to the next one if this future is dropped. Neither semaphore is ever closed.
    async fn wait(&self) -> Slot {
        let _turn = self.turn.acquire().await;
        let permit = match &self.slots {
            Some(slots) => Arc::clone(&slots.free).acquire_owned().await.ok(),
            None => None,
        };
        if let Some(starts) = &self.starts {
            while let Err(at) = starts.take(Instant::now()) {
                tokio::time::sleep_until(at).await;
            }
        }
        Slot { _permit: permit }
    }

    fn reject(&self) -> Problem {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        Problem::new(
            429,
            "rate_limited",
            "as many requests are here as this router may run and queue; try again later",
        )
    }
}

/// A place in the queue; dropping it gives it back.
struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A token bucket that holds one second's starts and is full at first, kept as the one time at which it is full again.
#[derive(Debug)]
struct Starts {
    /// Time of one token.
    every: Duration,
    /// Time of all tokens but one.
    burst: Duration,
    full_at: Mutex<Instant>,
}

impl Starts {
    fn new(per_second: u32) -> Self {
        let every = Duration::from_nanos((1_000_000_000 / u64::from(per_second)).max(1));
        Self { every, burst: every * (per_second - 1), full_at: Mutex::new(Instant::now()) }
    }

    /// Takes a token, or says when there will be one.
    fn take(&self, now: Instant) -> Result<(), Instant> {
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = too_early(*full_at, now, self.burst) {
            return Err(now + wait);
        }
        *full_at = (*full_at).max(now) + self.every;
        Ok(())
    }

    /// How long until there is a token; `None` if there is one.
    fn wait(&self, now: Instant) -> Option<Duration> {
        too_early(*self.full_at.lock().unwrap_or_else(PoisonError::into_inner), now, self.burst)
    }
}

fn too_early(full_at: Instant, now: Instant, burst: Duration) -> Option<Duration> {
    full_at.saturating_duration_since(now).checked_sub(burst).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
