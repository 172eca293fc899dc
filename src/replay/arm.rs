//! One policy in front of the fitted workers, in virtual time.
//!
//! Rule: the router's own chooser decides, is told what the engines really did, and sees who could take a request at that moment
//! of the trace. All workers that were ever there have joined before the first request; one that was away is not eligible.
//! Deliberately not here: retries and aborts, which no simulated worker brings about.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use milepost_policies::{
    Chooser, Eligible, Event, Joining, PolicyConfig, PolicyId, PrefixIndex, Time, UnknownPolicy, WorkerId,
};

use super::fit::Fitted;
use super::prompt;
use super::reading::Reading;
use crate::sim::engine::{Load, Progress as Made};
use crate::sim::tokens::{Answer, Token};
use crate::sim::virtual_fleet::{self, POLL_EVERY_NS, Placed, Traffic};

/// Memory of the prefix index; the router's.
const INDEX_BYTES: usize = 512 * 1024 * 1024;
/// Seed of all answers.
const ANSWER_SEED: u64 = 1;

/// Is told how far the simulation is.
pub trait Progress: Sync {
    /// So many steps of something begin.
    fn begins(&self, what: &str, steps: u64);
    /// One step is over.
    fn step(&self);
}

/// Nobody looks.
#[derive(Debug)]
pub struct Unseen;

impl Progress for Unseen {
    fn begins(&self, _: &str, _: u64) {}
    fn step(&self) {}
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Where it went; `None`: the policy chose nobody.
    pub worker: Option<usize>,
    /// From the choice to the first token.
    pub ttft_us: Option<f64>,
    /// From the choice to the end.
    pub e2e_us: f64,
    /// Tokens of its prompt that were cached; `None` if that is not known.
    pub cached_tokens: Option<u64>,
}

/// A run, by place in [`Reading::rows`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Played(pub Vec<Outcome>);

impl Played {
    /// What was recorded.
    pub fn recorded(reading: &Reading) -> Self {
        let outcome = |row: &super::rows::Row| {
            let recorded = &row.recorded;
            // In tokens as they are simulated, so that shares compare.
            let scale =
                row.prompt_tokens as f64 / recorded.prompt_tokens.unwrap_or(row.prompt_tokens).max(1) as f64;
            Outcome {
                worker: Some(recorded.worker),
                ttft_us: recorded.ttft_us,
                e2e_us: recorded.e2e_us,
                cached_tokens: recorded.cached_tokens.map(|cached| (cached as f64 * scale) as u64),
            }
        };
        Self(reading.rows.iter().map(outcome).collect())
    }
}

/// A policy that can be played.
#[derive(Debug)]
pub struct Arm<'a> {
    reading: &'a Reading,
    fitted: &'a Fitted,
    /// `None`: what was recorded is chosen.
    chooser: Option<Chooser>,
    rows: usize,
}

impl<'a> Arm<'a> {
    /// The policy called `name`, before all workers of the run.
    pub fn of(
        name: &str,
        config: &PolicyConfig,
        reading: &'a Reading,
        fitted: &'a Fitted,
    ) -> Result<Self, UnknownPolicy> {
        let policy = milepost_policies::build(name, config)?;
        let mut chooser = Chooser::new(policy, PrefixIndex::new(INDEX_BYTES));
        for (id, seat) in reading.seats.iter().enumerate() {
            let id = WorkerId(id as u32);
            chooser.join(Time::default(), Joining { id, url_hash: seat.url_hash, priority: seat.priority });
            chooser.describe(id, seat.priority, Arc::clone(&seat.labels));
        }
        Ok(Self { reading, fitted, chooser: Some(chooser), rows: reading.rows.len() })
    }

    /// The choices that were recorded.
    pub fn recorded(reading: &'a Reading, fitted: &'a Fitted) -> Self {
        Self { reading, fitted, chooser: None, rows: reading.rows.len() }
    }

    /// Of the first `rows` requests alone.
    #[must_use]
    pub fn first(mut self, rows: usize) -> Self {
        self.rows = rows.min(self.rows);
        self
    }

    /// Plays it.
    pub fn play(self, progress: &dyn Progress) -> Played {
        let first_ns = self.reading.rows.first().map_or(0, |row| row.chosen_mono_ns);
        let mut player = Player {
            away: Away::of(self.reading),
            chooser: self.chooser,
            reading: self.reading,
            first_ns,
            eligible: Vec::new(),
            outcomes: vec![Outcome::default(); self.rows],
            progress,
        };
        let rows = &self.reading.rows[..self.rows];
        let arrivals = rows.iter().enumerate().map(|(place, row)| (row.chosen_mono_ns - first_ns, place));
        let profiles = self.fitted.workers.iter().map(|worker| worker.profile.clone());
        virtual_fleet::play(profiles, arrivals, &mut player);
        Played(player.outcomes)
    }
}

/// Plays all of them, as many at a time as there are cores.
pub fn play_all(arms: Vec<Arm<'_>>, progress: &dyn Progress) -> Vec<Played> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(arms.len());
    let arms: Vec<Mutex<Option<Arm<'_>>>> = arms.into_iter().map(|arm| Mutex::new(Some(arm))).collect();
    let played: Vec<Mutex<Played>> = arms.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(place) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < arms.len()) {
            let arm = arms[place].lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(arm) = arm {
                *played[place].lock().unwrap_or_else(PoisonError::into_inner) = arm.play(progress);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..cores {
            scope.spawn(work);
        }
        work();
    });
    played.into_iter().map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// Who could get requests when.
struct Away {
    /// Of each worker: the changes that are to come, the next one last, and whether it can get requests now.
    workers: Vec<(Vec<(u64, bool)>, bool)>,
}

impl Away {
    fn of(reading: &Reading) -> Self {
        // Whoever comes in first of all was not there before; of whom nothing is told was there all along.
        let of = |seat: &super::reading::Seat| {
            let was_here = seat.changes.first().is_none_or(|(_, can)| !can);
            (seat.changes.iter().rev().copied().collect(), was_here)
        };
        Self { workers: reading.seats.iter().map(of).collect() }
    }

    /// Whether a worker can get requests; moments only go on.
    fn is_here(&mut self, worker: usize, mono_ns: u64) -> bool {
        let (changes, here) = &mut self.workers[worker];
        while let Some((_, can)) = changes.pop_if(|(at_ns, _)| *at_ns <= mono_ns) {
            *here = can;
        }
        *here
    }
}

struct Player<'a> {
    reading: &'a Reading,
    first_ns: u64,
    chooser: Option<Chooser>,
    away: Away,
    eligible: Vec<Eligible>,
    outcomes: Vec<Outcome>,
    progress: &'a dyn Progress,
}

fn time(now_ns: u64) -> Time {
    Time { us: now_ns / 1_000 }
}

impl Player<'_> {
    fn choose(&mut self, now_ns: u64, request: usize, in_flight: &[u32]) -> Option<usize> {
        let row = &self.reading.rows[request];
        let Some(chooser) = &mut self.chooser else {
            return Some(row.recorded.worker);
        };
        self.eligible.clear();
        for (worker, &in_flight_requests) in in_flight.iter().enumerate() {
            if self.away.is_here(worker, self.first_ns + now_ns) {
                self.eligible.push(Eligible { position: worker as u32, in_flight_requests });
            }
        }
        let chosen = chooser.choose(time(now_ns), PolicyId::default(), &row.view(), &self.eligible)?;
        Some(self.eligible.get(chosen)?.position as usize)
    }

    fn since_choice_us(&self, now_ns: u64, request: usize) -> f64 {
        (self.first_ns + now_ns - self.reading.rows[request].chosen_mono_ns) as f64 / 1e3
    }
}

/// Tokens of a row's prompt.
pub(super) fn tokens_of(reading: &Reading, place: usize) -> Vec<Token> {
    let row = &reading.rows[place];
    prompt::tokens(row.engine_text(), row.seq, row.prompt_tokens, reading.tokens_per_byte)
}

impl Traffic for Player<'_> {
    fn arrive(&mut self, now_ns: u64, request: usize, in_flight: &[u32]) -> Option<Placed> {
        self.progress.step();
        let worker = self.choose(now_ns, request, in_flight)?;
        self.outcomes[request].worker = Some(worker);
        let row = &self.reading.rows[request];
        Some(Placed {
            worker,
            prompt: Arc::from(tokens_of(self.reading, request)),
            prompt_bytes: row.prompt_bytes as usize,
            answer: Answer::new(ANSWER_SEED, &[row.seq as Token, (row.seq >> 32) as Token], 0),
            output_tokens: row.output_tokens,
            max_new_tokens: row
                .max_new_tokens
                .map_or(row.output_tokens, |allowed| allowed.min(1 << 20) as u32),
        })
    }

    fn first_token(&mut self, now_ns: u64, request: usize, worker: usize) {
        let ttft_us = self.since_choice_us(now_ns, request);
        self.outcomes[request].ttft_us = Some(ttft_us);
        let row = &self.reading.rows[request];
        if let (Some(chooser), true) = (&mut self.chooser, row.stream) {
            let worker = WorkerId(worker as u32);
            let event = Event::FirstToken { seq: row.seq, worker, ttft_us: ttft_us as u64 };
            chooser.observe(time(now_ns), &event);
        }
    }

    fn ended(&mut self, now_ns: u64, request: usize, worker: usize, made: &Made) -> Option<(u64, usize)> {
        let e2e_us = self.since_choice_us(now_ns, request);
        let outcome = &mut self.outcomes[request];
        (outcome.e2e_us, outcome.cached_tokens) = (e2e_us, Some(u64::from(made.cached_tokens)));
        let row = &self.reading.rows[request];
        let chooser = self.chooser.as_mut()?;
        let event = Event::Ended {
            seq: row.seq,
            worker: WorkerId(worker as u32),
            latency_us: e2e_us as u64,
            ok: true,
            prompt_tokens: Some(row.prompt_tokens),
            completion_tokens: Some(u64::from(made.tokens)),
            cached_tokens: Some(u64::from(made.cached_tokens)),
        };
        chooser.observe(time(now_ns), &event);
        None
    }

    fn poll_every_ns(&self) -> Option<u64> {
        self.chooser.as_ref().filter(|chooser| chooser.needs().server_loads).map(|_| POLL_EVERY_NS)
    }

    fn loaded(&mut self, now_ns: u64, worker: usize, load: &Load) {
        if let Some(chooser) = &mut self.chooser {
            let event = Event::Loaded { worker: WorkerId(worker as u32), load: load.into() };
            chooser.observe(time(now_ns), &event);
        }
    }
}
