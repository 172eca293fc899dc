//! What the router counts and learns of each worker from the requests that pass through it.
//!
//! Rule: estimates, each `None` until there is something to go by; every number comes from the events, so that a replay of them
//! gives the same. Each step costs the same however many requests are in flight, and a worker's numbers are kept ready, so that
//! showing them is copying them.
//!
//! How long the workers' prefill takes is learned in two steps. A first token says that the prompts which had one in the same
//! forward pass took the time since the worker's first token before, or since the first of them came to an idle worker. A line
//! (`overhead + tokens × time of a token`) is fitted through what all workers took, and each worker has a factor, how much slower
//! it is than that line: few requests tell the factor, and a worker of which nothing is known is taken to be like the others.
//!
//! The wait at a worker is the time of the prompts in its line, less what it has done since it last showed progress. When the
//! next first token should long be there and is not, the wait grows with the time by which it is late: a worker that hangs looks
//! worse and worse. A plain answer shows no first token before its end; it leaves the line when its prompt should be computed,
//! and is never late.
//!
//! Deliberately not here: requests in flight, which are counted where leases are, and the prefix index.

#[cfg(test)]
mod answers_tests;
mod learned;
mod requests;
#[cfg(test)]
mod tests;
mod worker;

use crate::policy::{Event, ServerLoad};
use crate::prefill_work::prefill_work;
use crate::view::{RequestView, Time, WorkerId, WorkerView};
use learned::{PrefillTime, average, average_claimed};
use requests::{Request, Requests};
use worker::Worker;

/// Bytes of text a token stands for until answers have told: the usual figure for English.
const BYTES_PER_TOKEN: f64 = 4.0;
/// No text has fewer or more bytes in a token, whatever is claimed.
const POSSIBLE_BYTES_PER_TOKEN: (f64, f64) = (0.25, 16.0);
/// What a server said of its load counts for so long, unless the chooser is told otherwise.
const LOAD_LASTS_US: u64 = 10_000_000;
/// No prompt or answer counts for more tokens, whatever is claimed.
const MOST_TOKENS: u64 = 1 << 24;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    workers: Vec<Worker>,
    requests: Requests,
    fleet: Fleet,
}

/// What is learned of all workers together.
#[derive(Debug, Default)]
struct Fleet {
    bytes_per_token: Option<f64>,
    prompt_tokens: Option<f64>,
    /// Work of a prompt, what was cached left out.
    work: Option<f64>,
    answer_tokens: Option<f64>,
    prefill: PrefillTime,
    load_lasts_us: Option<u64>,
}

impl Fleet {
    /// True while what a server said at that time counts.
    fn counts(&self, now: Time, said_at: Time) -> bool {
        now.us.saturating_sub(said_at.us) <= self.load_lasts_us.unwrap_or(LOAD_LASTS_US)
    }
}

impl Ledger {
    /// A worker comes into this slot; nothing is known of it.
    pub fn join(&mut self, worker: WorkerId) {
        let slot = worker.0 as usize;
        if self.workers.len() <= slot {
            self.workers.resize(slot + 1, Worker::default());
        }
        self.leave(worker);
    }

    /// The worker in this slot goes, and so do its requests.
    pub fn leave(&mut self, worker: WorkerId) {
        if let Some(leaving) = self.workers.get_mut(worker.0 as usize) {
            if leaving.requests() > 0 {
                self.requests.remove_all(worker);
            }
            *leaving = Worker::default();
        }
    }

    /// Tokens of a prompt of so many bytes; `None` for none.
    pub fn tokens_of(&self, prompt_bytes: u64) -> Option<u64> {
        let per_token = self.fleet.bytes_per_token.unwrap_or(BYTES_PER_TOKEN);
        (prompt_bytes > 0).then(|| (prompt_bytes as f64 / per_token).ceil() as u64)
    }

    /// The request goes to `worker`, which was shown like this.
    pub fn route(&mut self, now: Time, request: &RequestView<'_>, worker: &WorkerView) {
        // An attempt of which no end was told.
        if let Some(before) = self.requests.get(request.seq).map(|r| r.worker) {
            self.remove(now, request.seq, before);
        }
        let fleet = &mut self.fleet;
        let prompt_tokens = request.prompt_tokens.unwrap_or(fleet.prompt_tokens.unwrap_or(0.0) as u64);
        let prompt_tokens = prompt_tokens.min(MOST_TOKENS);
        // The last token of a prompt is always computed: the next one comes of it.
        let cached = worker.prefix_match_tokens.unwrap_or(0).min(prompt_tokens.saturating_sub(1));
        let prefill_tokens = prompt_tokens - cached;
        let work = prefill_work(cached as f64, prefill_tokens as f64) as u64;
        if request.prompt_tokens.is_some() {
            average(&mut fleet.prompt_tokens, prompt_tokens as f64);
            average(&mut fleet.work, work as f64);
        }
        let usual = fleet.answer_tokens.map(|tokens| tokens as u64);
        // Most requests allow more than they get.
        let decode_tokens = match (request.max_new_tokens, usual) {
            (Some(allowed), Some(usual)) => allowed.min(usual),
            (allowed, usual) => allowed.or(usual).unwrap_or(0),
        }
        .min(MOST_TOKENS);
        if let Some(slot) = self.workers.get_mut(worker.id.0 as usize) {
            let request = Request {
                seq: request.seq,
                worker: worker.id,
                // Token ids say nothing of text.
                prompt_bytes: if request.is_counted { 0 } else { request.prompt_bytes },
                prefill_tokens,
                work,
                decode_tokens,
                routed_us: now.us,
                stream: request.stream,
                ..Request::default()
            };
            slot.push(&mut self.requests, request);
        }
    }

    /// Something happened.
    pub fn observe(&mut self, now: Time, event: &Event) {
        match *event {
            Event::FirstToken { seq, worker, ttft_us } => self.first_token(now, seq, worker, ttft_us),
            Event::Ended { .. } => self.ended(now, event),
            Event::Loaded { worker, load } => self.set_load(worker, Some((now, load))),
            Event::LoadUnknown { worker } => self.set_load(worker, None),
            Event::Routed { .. } | Event::CacheEmptied { .. } | Event::Joined { .. } | Event::Left { .. } => {
            }
        }
    }

    /// From now on what a server said of its load counts for so long.
    pub fn set_load_lasts(&mut self, us: u64) {
        self.fleet.load_lasts_us = Some(us);
    }

    fn set_load(&mut self, worker: WorkerId, load: Option<(Time, ServerLoad)>) {
        if let Some(slot) = self.workers.get_mut(worker.0 as usize) {
            slot.set_load(load);
        }
    }

    fn first_token(&mut self, now: Time, seq: u64, worker: WorkerId, ttft_us: u64) {
        let Some(&request) =
            self.requests.find(seq, worker).filter(|request| request.first_token_us.is_none())
        else {
            return;
        };
        if let Some(slot) = self.workers.get_mut(worker.0 as usize) {
            // Events are told later than they happen.
            let at = Time { us: request.routed_us.saturating_add(ttft_us).min(now.us) };
            slot.first_token(&mut self.requests, &mut self.fleet.prefill, at, &request);
            average(&mut slot.ttft_us, ttft_us as f64);
        }
    }

    fn remove(&mut self, now: Time, seq: u64, worker: WorkerId) -> Option<Request> {
        let slot = self.workers.get_mut(worker.0 as usize)?;
        slot.remove(&mut self.requests, now, seq)
    }

    fn ended(&mut self, now: Time, event: &Event) {
        let Event::Ended { seq, worker, latency_us, ok, prompt_tokens, completion_tokens, cached_tokens } =
            *event
        else {
            return;
        };
        if self.requests.find(seq, worker).is_none() {
            return;
        }
        let Some(request) = self.remove(now, seq, worker) else {
            return;
        };
        let fleet = &mut self.fleet;
        if let (Some(tokens @ 1..), bytes @ 1..) = (prompt_tokens, request.prompt_bytes) {
            let (least, most) = POSSIBLE_BYTES_PER_TOKEN;
            average_claimed(&mut fleet.bytes_per_token, (bytes as f64 / tokens as f64).clamp(least, most));
        }
        let Some(slot) = self.workers.get_mut(worker.0 as usize).filter(|_| ok) else {
            return;
        };
        // A list of models is answered in a millisecond and says nothing of a worker's speed.
        let is_generated = request.stream && request.first_token_us.is_some();
        if is_generated || prompt_tokens.or(completion_tokens).is_some() {
            average(&mut slot.latency_us, latency_us as f64);
        }
        if let (Some(prompt @ 1..), Some(cached)) = (prompt_tokens, cached_tokens) {
            average(&mut slot.hit_rate, (cached as f64 / prompt as f64).min(1.0));
        }
        if let Some(tokens) = completion_tokens.map(|tokens| tokens.min(MOST_TOKENS)) {
            average_claimed(&mut fleet.answer_tokens, tokens as f64);
            slot.answered(now, &request, latency_us, tokens);
        }
    }

    /// Writes what was counted and learned of a worker into its view.
    pub fn show_estimates(&mut self, now: Time, view: &mut WorkerView) {
        if let Some(slot) = self.workers.get_mut(view.id.0 as usize) {
            slot.show_estimates(&mut self.requests, &self.fleet, now, view);
        }
    }

    /// Writes what the worker's server last said into its view.
    pub fn show_load(&self, now: Time, view: &mut WorkerView) {
        let worker = self.workers.get(view.id.0 as usize);
        let load = worker.and_then(|worker| worker.load(&self.fleet, now));
        view.server_load_age_us = load.map(|(at, _)| now.us.saturating_sub(at.us));
        let said = load.map(|(_, said)| said).unwrap_or_default();
        view.queue_depth = said.queue_depth;
        view.running = said.running;
        view.kv_usage = said.kv_usage;
        view.throughput_tokens_per_s = said.throughput_tokens_per_s;
        view.max_running_requests = said.max_running_requests;
    }
}
