//! One accepted request: its jobs in the engine, their ids, the text made so far.
//!
//! Rule: its request ids are registered as long as it lives, so that /`abort_request` finds it; dropping it ends its jobs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Worker;
use super::ask::{Ask, Item};
use super::problem::Refusal;
use crate::sim::engine::{End, Job, JobId, Progress};
use crate::sim::meta_info::{Facts, FinishReason};
use crate::sim::runner;
use crate::sim::stamps::Clocks;
use crate::sim::tokens::Answer;

/// Live request ids and their jobs.
#[derive(Debug, Default)]
pub struct Rids(Mutex<BTreeMap<String, Vec<JobId>>>);

impl Rids {
    fn add(&self, rid: &str, id: JobId, refuse_duplicate: bool) -> Result<(), Refusal> {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ids = live.entry(rid.to_owned()).or_default();
        if refuse_duplicate && !ids.is_empty() {
            return Err(Refusal::Value(format!("Duplicate request ID detected: {rid}")));
        }
        ids.push(id);
        Ok(())
    }

    fn remove(&self, rid: &str, id: JobId) {
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ids) = live.get_mut(rid) {
            ids.retain(|i| *i != id);
            if ids.is_empty() {
                live.remove(rid);
            }
        }
    }

    /// Jobs whose request id starts with `prefix`, as the real scheduler matches.
    pub fn starting_with(&self, prefix: &str) -> Vec<JobId> {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let matching = live.range(prefix.to_owned()..).take_while(|(rid, _)| rid.starts_with(prefix));
        matching.flat_map(|(_, ids)| ids.iter().copied()).collect()
    }
}

/// A sequence of a call, as far as its reader has seen it.
#[derive(Debug)]
pub struct Sequence {
    /// `meta_info.id`.
    pub rid: String,
    id: JobId,
    prompt_tokens: u32,
    stops: bool,
    answer: Answer,
    dispatched_ns: u64,
    /// All text so far.
    pub text: String,
    /// All token ids so far, separated by commas.
    pub token_ids: String,
    /// The state that the text is of.
    pub progress: Progress,
    /// Text bytes before the last advance.
    pub told_bytes: usize,
    /// When the first event with it was sent.
    pub first_sent_ns: Option<u64>,
}

impl Sequence {
    /// Takes over a later state; says whether it is another one.
    pub fn advance(&mut self, to: Progress) -> bool {
        if to == self.progress {
            return false;
        }
        self.told_bytes = self.text.len();
        for index in self.progress.tokens..to.tokens {
            self.text.push_str(self.answer.word(index));
            if index > 0 {
                self.token_ids.push(',');
            }
            self.token_ids.push_str(&self.answer.token(index).to_string());
        }
        self.progress = to;
        true
    }

    /// Text that the last advance added.
    pub fn new_text(&self) -> &str {
        &self.text[self.told_bytes..]
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens
    }
}

/// A request in the engine.
pub struct Call {
    /// Its sequences, in order.
    pub sequences: Vec<Sequence>,
    /// Its clocks.
    pub clocks: Clocks,
    /// Whether it is streamed.
    pub stream: bool,
    worker: Arc<Worker>,
    jobs: runner::Call,
}

impl Call {
    /// Hands the sequences of `ask` to the engine. They are tokenised one after the other.
    pub fn start(worker: &Arc<Worker>, ask: &Ask, stream: bool) -> Result<Self, Refusal> {
        let dialect = worker.config.dialect;
        let created = worker.clock.now();
        let clocks = Clocks::new(created, worker.config.clock_offset_us);
        let mut dispatched_ns = created.mono_ns;
        let (mut jobs, mut sequences): (Vec<Job>, Vec<Sequence>) = (Vec::new(), Vec::new());
        for item in &ask.items {
            let tokenize_ns = worker.config.profile.tokenize_ns(item.text_bytes) / worker.config.speedup;
            dispatched_ns += tokenize_ns as u64;
            let id = worker.next_id();
            let rid = item.rid.clone().unwrap_or_else(|| worker.random_id(id));
            if let Err(refusal) = worker.rids.add(&rid, id, !dialect.is_049()) {
                for started in &sequences {
                    worker.rids.remove(&started.rid, started.id);
                }
                return Err(refusal);
            }
            jobs.push(job(id, item, dialect.report_every(stream), dispatched_ns));
            sequences.push(sequence(id, rid, item, dispatched_ns));
        }
        let jobs = worker.runner.submit(jobs);
        Ok(Self { sequences, clocks, stream, worker: worker.clone(), jobs })
    }

    /// The worker.
    pub fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Waits until a sequence has moved; gives the places of those that have. None: the worker has stopped.
    pub async fn moved(&mut self) -> Vec<usize> {
        loop {
            let states = self.jobs.changed().await;
            let moved = self.take(&states);
            if !moved.is_empty() || self.jobs.is_orphaned() || self.all_ended() {
                return moved;
            }
        }
    }

    /// Waits until every sequence has ended; false: the worker has stopped before.
    pub async fn ended(&mut self) -> bool {
        let states = self.jobs.ended().await;
        self.take(&states);
        self.all_ended()
    }

    /// Whether every sequence has ended.
    pub fn all_ended(&self) -> bool {
        self.sequences.iter().all(|s| s.progress.end.is_some())
    }

    /// Whether the queue was full for any sequence.
    pub fn refused(&self) -> bool {
        self.sequences.iter().any(|s| s.progress.end == Some(End::QueueFull))
    }

    /// `meta_info` of a sequence.
    pub fn meta_info(&self, at: usize, sent_ns: Option<u64>) -> String {
        self.facts(&self.sequences[at], sent_ns).to_json()
    }

    /// `finish_reason` of a sequence.
    pub fn finish_reason(&self, at: usize) -> Option<FinishReason> {
        self.facts(&self.sequences[at], None).finish_reason()
    }

    fn facts<'a>(&self, sequence: &'a Sequence, sent_ns: Option<u64>) -> Facts<'a> {
        Facts {
            dialect: self.worker.config.dialect,
            metrics: self.worker.config.metrics,
            id: &sequence.rid,
            prompt_tokens: sequence.prompt_tokens,
            stops: sequence.stops,
            clocks: self.clocks,
            dispatched_ns: sequence.dispatched_ns,
            sent_ns,
            stream: self.stream,
            progress: sequence.progress,
        }
    }

    fn take(&mut self, states: &[Progress]) -> Vec<usize> {
        let pairs = self.sequences.iter_mut().zip(states).enumerate();
        pairs.filter_map(|(at, (sequence, state))| sequence.advance(*state).then_some(at)).collect()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        for sequence in &self.sequences {
            self.worker.rids.remove(&sequence.rid, sequence.id);
        }
    }
}

fn job(id: JobId, item: &Item, report_every: u32, queued_at_ns: u64) -> Job {
    Job {
        id,
        prompt: item.prompt.clone(),
        answer: item.answer,
        output_tokens: item.output_tokens,
        max_new_tokens: item.max_new_tokens,
        report_every,
        queued_at_ns,
    }
}

fn sequence(id: JobId, rid: String, item: &Item, dispatched_ns: u64) -> Sequence {
    Sequence {
        rid,
        id,
        prompt_tokens: item.prompt.len() as u32,
        stops: item.stops,
        answer: item.answer,
        dispatched_ns,
        text: String::new(),
        token_ids: String::new(),
        progress: Progress::default(),
        told_bytes: 0,
        first_sent_ns: None,
    }
}
