//! A trace, line by line: the calls of its journal made again as they come, its requests kept as small as they can be.
//!
//! Rule: one run is read, the last unless another is asked for, and no line is kept whole. What is kept is bounded: so many
//! requests, so much memory for their hashes; what comes after is counted and said. Deliberately not here: lines
//! (`trace::reader`), what a request's record means for a replay (`rows`).

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use std::sync::Arc;

use milepost_policies::{Labels, PolicyConfig, name_hash};

use super::ReplayError;
use super::exact::{Exact, Verdict};
use super::rows::{self, Request, Row};
use crate::trace::journal::{ChoiceCall, ConfigValues, JournalCall, JournalRecord};
use crate::trace::reader::{BadLine, TraceReader};
use crate::trace::record::{Record, RunRecord, WorkerRecord};

/// An operator's priority where none was said: sglang-router's.
const PRIORITY: u32 = 50;

/// Bounds of what is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The run to read, from 1; `None`: the last one.
    pub run: Option<usize>,
    /// Requests that are kept, the first ones.
    pub requests: usize,
    /// Memory for the hashes of their prompts, in bytes.
    pub hash_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { run: None, requests: 100_000, hash_bytes: 1 << 30 }
    }
}

/// A worker of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Seat {
    /// Its URL.
    pub url: Arc<str>,
    /// Hash of it.
    pub url_hash: u64,
    /// Its priority.
    pub priority: u32,
    /// Its labels.
    pub labels: Arc<Labels>,
    /// Largest batch that it says it runs.
    pub max_running_requests: Option<u64>,
    /// When it could get requests from then on, or no longer, `CLOCK_MONOTONIC` nanoseconds.
    pub changes: Vec<(u64, bool)>,
}

/// What was read of one run.
#[derive(Debug, Default)]
pub struct Reading {
    /// Its `run` record.
    pub run: Option<RunRecord>,
    /// What came of making the calls of its journal again; `None` without one.
    pub exact: Option<Verdict>,
    /// Its workers, in the order in which they were first named.
    pub seats: Vec<Seat>,
    /// The requests that can be played again, in the order in which they were sent.
    pub rows: Vec<Row>,
    /// All its requests.
    pub requests: u64,
    /// Those that are not in `rows` for want of room.
    pub beyond_limits: u64,
    /// Request records that the router lost.
    pub lost: u64,
    /// Requests without a record, as they are not in the sample or the capture was stopped.
    pub not_captured: u64,
    /// Tokens that a byte of prompt text makes.
    pub tokens_per_byte: f64,
    /// Requests whose prompt has a guessed prefix, or one of which not all was hashed.
    pub guessed: u64,
    /// Lines of the file that are no record.
    pub torn_lines: u64,
    /// The first of them.
    pub bad_lines: Vec<BadLine>,
    /// Runs in the file.
    pub runs: usize,
    config: Option<ConfigValues>,
    policy: Option<String>,
}

/// A run that is being read.
#[derive(Default)]
struct Reader {
    reading: Reading,
    exact: Option<Exact>,
    workers: HashMap<Arc<str>, usize>,
    /// Who has each slot.
    slots: HashMap<u32, usize>,
    kept: Vec<Request>,
    choices: BTreeMap<u64, ChoiceCall>,
    hash_bytes: usize,
}

impl Reading {
    /// Reads all that is left in `reader`. `lines` is told every so often how many lines were read.
    pub fn of<R: BufRead>(
        mut reader: TraceReader<R>,
        limits: Limits,
        lines: &mut dyn FnMut(u64),
    ) -> Result<Self, ReplayError> {
        let mut run = Reader::default();
        let mut runs = 0;
        for next in &mut reader {
            let (line, record) = next?;
            if line % 4096 == 0 {
                lines(line);
            }
            let begins = matches!(&record, Record::Run(begun) if !run.is_gone_on_with(begun));
            runs += usize::from(begins || runs == 0);
            if limits.run.is_some_and(|run| runs > run) {
                // Only how many there are is still to be found out.
                continue;
            }
            if begins {
                run = Reader::default();
            }
            if limits.run.is_none_or(|asked| runs == asked) {
                run.add(record, &limits);
            }
        }
        if let Some(asked) = limits.run.filter(|asked| *asked == 0 || *asked > runs) {
            return Err(ReplayError::NoRun { asked, runs });
        }
        let mut reading = run.finish();
        reading.runs = runs;
        reading.torn_lines = reader.torn_lines();
        reading.bad_lines = reader.bad_lines().to_vec();
        Ok(reading)
    }

    /// The policy that was configured; none in an experiment, where each arm chose its share alone.
    pub fn policy(&self) -> Option<String> {
        if self.run.as_ref().is_some_and(|run| run.split.is_some()) {
            return None;
        }
        self.policy.clone().or_else(|| self.run.as_ref().map(|run| run.policy.clone()))
    }

    /// The policies' settings: those that the journal says, else the defaults with the recorded seed.
    pub fn policy_config(&self) -> PolicyConfig {
        let told = self.config.as_ref().and_then(|values| PolicyConfig::try_from(values).ok());
        let seed = self.run.as_ref().map_or(1, |run| run.seed);
        told.unwrap_or(PolicyConfig { seed, ..PolicyConfig::default() })
    }

    /// Why a replay of what was read is approximate.
    pub fn approximate(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        match &self.exact {
            None => reasons.push(
                "the trace has no journal (route --trace-decisions journal), so that shared prefixes are guessed \
                 from what was said to match, and the policies' settings are the defaults"
                    .to_owned(),
            ),
            Some(verdict) => {
                if let Some((n, what)) = &verdict.hole {
                    reasons.push(format!("the journal has a hole at call {n}: {what}"));
                }
                if self.guessed > 0 {
                    reasons.push(format!("of {} requests the prompt is not known to its end", self.guessed));
                }
            }
        }
        if self.lost > 0 {
            reasons.push(format!("the router lost the records of {} requests", self.lost));
        }
        if self.not_captured > 0 {
            reasons.push(format!(
                "{} requests have no record, as they are not in the sample (--trace-sample) or the capture was stopped",
                self.not_captured
            ));
        }
        if self.torn_lines > 0 {
            let first = self.bad_lines.first().map(|bad| format!(", the first is line {}", bad.line));
            reasons.push(format!("{} lines are torn{}", self.torn_lines, first.unwrap_or_default()));
        }
        if self.beyond_limits > 0 {
            reasons.push(format!(
                "only the first {} requests are read, {} more are left out (--max-requests)",
                self.kept_requests(),
                self.beyond_limits
            ));
        }
        reasons
    }

    fn kept_requests(&self) -> u64 {
        self.requests - self.beyond_limits
    }
}

impl Reader {
    /// A file that begins so goes on with what is being read.
    fn is_gone_on_with(&self, begun: &RunRecord) -> bool {
        self.reading.run.as_ref().is_some_and(|run| begun.continues(run))
    }

    fn add(&mut self, record: Record, limits: &Limits) {
        match record {
            Record::Run(run) => drop(self.reading.run.get_or_insert(run)),
            Record::Request(record) => {
                self.reading.requests += 1;
                if self.kept.len() >= limits.requests || self.hash_bytes > limits.hash_bytes {
                    self.reading.beyond_limits += 1;
                } else if let Some(request) = Request::of(&record, |url| self.seat(url)) {
                    self.kept.push(request);
                }
            }
            Record::Worker(worker) => self.worker(&worker),
            Record::Lost(lost) => {
                self.reading.lost += lost.requests;
                self.reading.not_captured += lost.sampled + lost.stopped;
            }
            Record::Journal(record) => self.call(record, limits),
            Record::Clock(_) | Record::Connection(_) | Record::Mark(_) => {}
        }
    }

    fn call(&mut self, record: Box<JournalRecord>, limits: &Limits) {
        match &record.call {
            JournalCall::Policy(call) if call.policy == 0 => {
                self.reading.policy = Some(call.name.clone());
                self.reading.config = Some(call.config.clone());
            }
            JournalCall::Join(call) => {
                let at = self.seat(&call.worker);
                self.slots.insert(call.slot, at);
                (self.reading.seats[at].url_hash, self.reading.seats[at].priority) =
                    (call.url_hash, call.priority);
            }
            JournalCall::Describe(call) => {
                if let Some(seat) = self.slots.get(&call.slot).and_then(|at| self.reading.seats.get_mut(*at))
                {
                    (seat.priority, seat.labels) = (call.priority, Arc::new(call.labels.clone()));
                }
            }
            JournalCall::Choice(call) if call.attempts == 0 && self.hash_bytes <= limits.hash_bytes => {
                self.hash_bytes += size_of::<ChoiceCall>() + 8 * call.hash_count();
                // Who was eligible is the exact replay's.
                self.choices.insert(call.seq, ChoiceCall { eligible: Vec::new(), ..(**call).clone() });
            }
            _ => {}
        }
        self.exact.get_or_insert_default().push(record);
    }

    fn worker(&mut self, record: &WorkerRecord) {
        let at = self.seat(&record.worker);
        let seat = &mut self.reading.seats[at];
        seat.max_running_requests = record.max_running_requests.or(seat.max_running_requests);
        let can = match &*record.event {
            "added" | "healthy" | "breaker_closed" => true,
            "removed" | "unhealthy" | "no_answer_yet" | "breaker_open" => false,
            _ => return,
        };
        seat.changes.push((record.mono_ns, can));
    }

    /// The worker with this URL.
    fn seat(&mut self, url: &Arc<str>) -> usize {
        if let Some(at) = self.workers.get(url) {
            return *at;
        }
        self.reading.seats.push(Seat {
            url: Arc::clone(url),
            url_hash: name_hash(url.as_bytes()),
            priority: PRIORITY,
            labels: Arc::default(),
            max_running_requests: None,
            changes: Vec::new(),
        });
        self.workers.insert(Arc::clone(url), self.reading.seats.len() - 1);
        self.reading.seats.len() - 1
    }

    fn finish(mut self) -> Reading {
        let mut reading = self.reading;
        reading.exact = self.exact.as_mut().map(|exact| {
            exact.finish();
            exact.verdict()
        });
        for seat in &mut reading.seats {
            seat.changes.sort_unstable();
            // Where health is checked a worker that was added gets requests once it is healthy, perhaps minutes later.
            if let [(_, true), (_, true), ..] = seat.changes[..] {
                seat.changes.remove(0);
            }
        }
        let joined = rows::join(self.kept, self.choices);
        (reading.rows, reading.tokens_per_byte, reading.guessed) =
            (joined.rows, joined.tokens_per_byte, joined.guessed);
        reading
    }
}
