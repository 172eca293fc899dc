//! The circuit breaker of one worker: after failures in a row it gets nothing for a while, then one request at a time.
//!
//! Closed → open after `failure_threshold` failures in a row; open → half-open at the first decision after `open_for`;
//! half-open → closed after `success_threshold` probes in a row that succeeded, or open again after one that failed. Rule: an
//! outcome moves the machine only if its request was sent in the phase that still lasts, so what was sent before a worker
//! failed cannot reopen or close it later. Time comes in as a value. Deliberately not here: what counts as a failure
//! (`proxy::journey`), who gets the request (`dispatch`), the words for log and trace (`Fleet`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::resilience::BreakerConfig;

/// Bits of a [`Phase`] that hold the state.
const STATE_BITS: u32 = 2;

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One request at a time, until its answer has begun.
    HalfOpen,
}

impl State {
    /// The word for metrics and logs, as sglang-router's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    /// The value of `smg_worker_cb_state`: 0 closed, 1 open, 2 half-open.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Too many failures in a row.
    Opened,
    /// The pause is over.
    HalfOpened,
    /// A probe failed.
    Reopened,
    /// Enough probes succeeded.
    Closed,
}

impl Transition {
    /// All of them, each at its own number.
    pub const ALL: [Self; 4] = [Self::Opened, Self::HalfOpened, Self::Reopened, Self::Closed];

    /// The state before.
    pub fn from(self) -> State {
        match self {
            Self::Opened => State::Closed,
            Self::HalfOpened => State::Open,
            Self::Reopened | Self::Closed => State::HalfOpen,
        }
    }

    /// The state after.
    pub fn to(self) -> State {
        match self {
            Self::Opened | Self::Reopened => State::Open,
            Self::HalfOpened => State::HalfOpen,
            Self::Closed => State::Closed,
        }
    }
}

/// What a request's end says of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered, whatever it thought of the request: any status below 500.
    Success,
    /// No connection, no answer, one of status 500 or above, a broken one, or none in time.
    Failure,
    /// Nothing: the client left, or the router stopped.
    Neutral,
}

/// A breaker as it is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerView {
    /// What it lets through. Open until the first decision after its pause, although that decision will find it half-open.
    pub state: State,
    /// Failures since the last success or half-opening.
    pub consecutive_failures: u32,
    /// Successes since the last failure or transition.
    pub consecutive_successes: u64,
    /// Requests that ended well, since the worker joined.
    pub successes: u64,
    /// Requests that ended as failures, since the worker joined.
    pub failures: u64,
    /// How often each of [`Transition::ALL`] happened, in that order.
    pub transitions: [u64; Transition::ALL.len()],
}

/// The phase in which a request was sent: a state, and which one of all that the breaker has been in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase(u64);

impl Phase {
    const FIRST: Self = Self(State::Closed as u64);

    fn state(self) -> State {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => State::Closed,
            1 => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// What was sent in it is a probe.
    pub(super) fn is_probe(self) -> bool {
        self.state() == State::HalfOpen
    }

    fn next(self, state: State) -> Self {
        Self((((self.0 >> STATE_BITS) + 1) << STATE_BITS) | state as u64)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Breaker {
    config: BreakerConfig,
    // These two are written under the lock and read without it, so that a closed breaker costs a load or two.
    phase: AtomicU64,
    failures_in_a_row: AtomicU32,
    successes: AtomicU64,
    failures: AtomicU64,
    machine: Mutex<Machine>,
}

/// What changes with a failure or a phase.
#[derive(Debug, Default)]
struct Machine {
    opened_ns: u64,
    /// A half-open worker has its one request.
    probing: bool,
    probe_successes: u32,
    /// Successes when the present row of them began.
    row_began: u64,
    transitions: [u64; Transition::ALL.len()],
}

impl Breaker {
    /// A closed one.
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            phase: AtomicU64::new(Phase::FIRST.0),
            failures_in_a_row: AtomicU32::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            machine: Mutex::default(),
        }
    }

    /// How it was set.
    pub fn config(&self) -> &BreakerConfig {
        &self.config
    }

    /// True if a request could be sent at `now_ns` (the router's monotonic clock, nanoseconds).
    pub fn admits(&self, now_ns: u64) -> bool {
        match self.phase().state() {
            State::Closed => true,
            State::Open => self.pause_is_over(&self.lock(), now_ns),
            State::HalfOpen => !self.lock().probing,
        }
    }

    /// State and counts, for metrics and descriptions.
    pub fn view(&self) -> BreakerView {
        let machine = self.lock();
        let state = self.phase().state();
        let successes = self.successes.load(Ordering::Relaxed);
        BreakerView {
            state,
            consecutive_failures: self.failures_in_a_row.load(Ordering::Relaxed),
            consecutive_successes: match state {
                State::Closed => successes.saturating_sub(machine.row_began),
                State::Open => 0,
                State::HalfOpen => u64::from(machine.probe_successes),
            },
            successes,
            failures: self.failures.load(Ordering::Relaxed),
            transitions: machine.transitions,
        }
    }

    /// As [`Self::admits`], and half-opens it where its pause is over. Only under the lock of the decision.
    pub(super) fn admit(&self, now_ns: u64) -> (bool, Option<Transition>) {
        match self.phase().state() {
            State::Closed => (true, None),
            State::HalfOpen => (!self.lock().probing, None),
            State::Open => {
                let mut machine = self.lock();
                if self.pause_is_over(&machine, now_ns) {
                    (true, Some(self.turn(&mut machine, Transition::HalfOpened)))
                } else {
                    (false, None)
                }
            }
        }
    }

    /// A request goes to the worker; a half-open one has its probe with that. Only in the critical section that found it
    /// admitted, so that two requests cannot both be the probe.
    pub(super) fn begin(&self) -> Phase {
        let phase = self.phase();
        if phase.state() == State::HalfOpen {
            self.lock().probing = true;
        }
        phase
    }

    /// A request that was sent in phase `sent` has ended; `now_ns` is asked for only if it matters.
    pub(super) fn settle(
        &self,
        sent: Phase,
        verdict: Verdict,
        now_ns: impl FnOnce() -> u64,
    ) -> Option<Transition> {
        if !self.config.enabled {
            return None;
        }
        match verdict {
            Verdict::Success => self.succeeded(sent),
            Verdict::Failure => self.failed(sent, now_ns()),
            Verdict::Neutral => {
                if sent.state() == State::HalfOpen {
                    let mut machine = self.lock();
                    // Nobody else may have been let in for a probe whose phase is over.
                    machine.probing &= self.phase() != sent;
                }
                None
            }
        }
    }

    fn succeeded(&self, sent: Phase) -> Option<Transition> {
        self.successes.fetch_add(1, Ordering::Relaxed);
        if sent.state() == State::Closed && self.failures_in_a_row.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut machine = self.lock();
        if self.phase() != sent {
            return None;
        }
        match sent.state() {
            State::Closed => {
                self.failures_in_a_row.store(0, Ordering::Relaxed);
                None
            }
            State::Open => None,
            State::HalfOpen => {
                machine.probing = false;
                machine.probe_successes += 1;
                let enough = machine.probe_successes >= self.config.success_threshold;
                enough.then(|| self.turn(&mut machine, Transition::Closed))
            }
        }
    }

    fn failed(&self, sent: Phase, now_ns: u64) -> Option<Transition> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut machine = self.lock();
        if self.phase() != sent || sent.state() == State::Open {
            return None;
        }
        machine.row_began = self.successes.load(Ordering::Relaxed);
        let in_a_row = self.failures_in_a_row.load(Ordering::Relaxed).saturating_add(1);
        self.failures_in_a_row.store(in_a_row, Ordering::Relaxed);
        if sent.state() == State::HalfOpen {
            machine.opened_ns = now_ns;
            return Some(self.turn(&mut machine, Transition::Reopened));
        }
        if in_a_row < self.config.failure_threshold {
            return None;
        }
        machine.opened_ns = now_ns;
        Some(self.turn(&mut machine, Transition::Opened))
    }

    fn turn(&self, machine: &mut Machine, transition: Transition) -> Transition {
        machine.probing = false;
        machine.probe_successes = 0;
        machine.transitions[transition as usize] += 1;
        if transition.to() != State::Open {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
            machine.row_began = self.successes.load(Ordering::Relaxed);
        }
        self.phase.store(self.phase().next(transition.to()).0, Ordering::Relaxed);
        transition
    }

    fn pause_is_over(&self, machine: &Machine, now_ns: u64) -> bool {
        Duration::from_nanos(now_ns.saturating_sub(machine.opened_ns)) >= self.config.open_for
    }

    fn phase(&self) -> Phase {
        Phase(self.phase.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
