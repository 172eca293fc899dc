//! One worker in the ledger: its line, its counts, its speed.
//!
//! Rule: counts follow the requests, each of which is in the line, then among those that decode, then gone; a request that is
//! not there changes nothing. Deliberately not here: what is learned of all workers together.

use super::Fleet;
use super::learned::{PrefillTime, Rate, Slowness, average};
use super::requests::{Line, Request, Requests};
use crate::policy::ServerLoad;
use crate::prefill_work::USUAL_WORK_US;
use crate::view::{Time, WorkerView};

/// First tokens within this time came of one forward pass: they are written one after the other, and a pass is longer.
const SAME_STEP_US: u64 = 2_000;
/// Prompts of so many tokens are computed in one forward pass: SGLang's `chunked_prefill_size` on large GPUs.
const STEP_TOKENS: u64 = 8_192;
/// Requests of a worker at which none is in flight were lost on the way if nothing was heard of it for so long.
const LOST_AFTER_US: u64 = 60_000_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Worker {
    line: Line,
    prefilling: u32,
    decoding: u32,
    /// Of the requests in the line.
    prefill_tokens: u64,
    /// The same as work.
    work: u64,
    /// Expected of the requests in the line.
    decode_tokens_in_line: u64,
    /// Expected of those that decode, in all, made or not.
    decode_tokens: u64,
    /// Sum of the times at which those that decode began to, modulo 2^64.
    decoding_since_us: u64,
    /// When the oldest of the line began to be computed, as far as can be seen.
    progress_us: u64,
    /// It had nothing to compute before that.
    was_idle: bool,
    /// The forward pass of the last first token, of which others may follow.
    step: Option<Step>,
    heard_us: u64,
    slowness: Slowness,
    /// Work a second when slowness was last learned, which says whether it still counts.
    prefill_rate: f64,
    /// Tokens a second of one request after its first.
    decode_rate: Option<f64>,
    rate: Option<Rate>,
    pub(super) latency_us: Option<f64>,
    pub(super) ttft_us: Option<f64>,
    pub(super) hit_rate: Option<f64>,
    load: Option<(Time, ServerLoad)>,
    /// Requests in the server's queue that this router did not send, when it told its load.
    others_waiting: u32,
}

/// A forward pass.
#[derive(Clone, Copy, Debug)]
struct Step {
    work: u64,
    us: u64,
    was_idle: bool,
}

impl Worker {
    /// How many it has.
    pub(super) fn requests(&self) -> u32 {
        self.prefilling + self.decoding
    }

    pub(super) fn set_load(&mut self, load: Option<(Time, ServerLoad)>) {
        self.load = load;
        let waiting = load.and_then(|(_, said)| said.queue_depth).unwrap_or(0);
        self.others_waiting = waiting.saturating_sub(self.prefilling);
    }

    /// What the server last said and when, while that counts.
    pub(super) fn load(&self, fleet: &Fleet, now: Time) -> Option<(Time, ServerLoad)> {
        self.load.filter(|(at, _)| fleet.counts(now, *at))
    }

    /// A request comes.
    pub(super) fn push(&mut self, requests: &mut Requests, request: Request) {
        if !requests.push(request, &mut self.line) {
            return;
        }
        if self.prefilling == 0 {
            self.progress_us = self.progress_us.max(request.routed_us);
            self.was_idle = true;
        }
        self.prefilling += 1;
        self.prefill_tokens += request.prefill_tokens;
        self.work += request.work;
        self.decode_tokens_in_line += request.decode_tokens;
        self.heard_us = request.routed_us;
    }

    /// The first token of a request of its line came at this time.
    pub(super) fn first_token(
        &mut self,
        requests: &mut Requests,
        prefill: &mut PrefillTime,
        at: Time,
        request: &Request,
    ) {
        self.pass_plain_before(requests, at, request.seq);
        let us = at.us.saturating_sub(self.progress_us);
        match &mut self.step {
            Some(step) if us < SAME_STEP_US => {
                step.work += request.work;
                step.us += us;
            }
            _ => {
                self.learn(prefill, at);
                self.step = Some(Step { work: request.work, us, was_idle: self.was_idle });
            }
        }
        self.begin_decoding(requests, request, at.us);
        if self.prefilling == 0 {
            // Nobody is there to follow.
            self.learn(prefill, at);
        }
        self.heard_us = at.us;
    }

    /// The forward pass of the last first token is over.
    fn learn(&mut self, prefill: &mut PrefillTime, at: Time) {
        if let Some(Step { work, us, was_idle }) = self.step.take() {
            let (work, us) = (work.max(1) as f64, us.max(1) as f64);
            prefill.add(work, us, was_idle);
            if let (Some(expected_us), Some(work_us)) = (prefill.us(work, was_idle), prefill.work_us()) {
                self.slowness.add(at, expected_us, us);
                self.prefill_rate = self.slowness.get(at).map_or(0.0, |slowness| 1e6 / (work_us * slowness));
            }
        }
    }

    /// What is first in first out has been computed when something behind it has.
    fn pass_plain_before(&mut self, requests: &mut Requests, at: Time, seq: u64) {
        while let Some(&oldest) = requests.oldest(self.line).filter(|r| !r.stream && r.seq != seq) {
            self.begin_decoding(requests, &oldest, self.progress_us.min(at.us));
        }
    }

    /// A request leaves the line, the next one begins to be computed.
    fn begin_decoding(&mut self, requests: &mut Requests, request: &Request, at_us: u64) {
        requests.first_token(request.seq, at_us, self.decoding, &mut self.line);
        self.leave_line(request);
        self.decoding += 1;
        self.decode_tokens += request.decode_tokens;
        self.decoding_since_us = self.decoding_since_us.wrapping_add(at_us);
        self.progress_us = self.progress_us.max(at_us);
        self.was_idle = false;
    }

    fn leave_line(&mut self, request: &Request) {
        self.prefilling -= 1;
        self.prefill_tokens -= request.prefill_tokens;
        self.work -= request.work;
        self.decode_tokens_in_line -= request.decode_tokens;
    }

    /// A request goes.
    pub(super) fn remove(&mut self, requests: &mut Requests, now: Time, seq: u64) -> Option<Request> {
        let request = requests.remove(seq, &mut self.line)?;
        match request.first_token_us {
            None => {
                self.leave_line(&request);
                if request.was_oldest() {
                    // The next one is not late for the time that this one took.
                    self.progress_us = self.progress_us.max(now.us);
                    self.was_idle = false;
                }
            }
            Some(since_us) => {
                self.decoding -= 1;
                self.decode_tokens -= request.decode_tokens;
                self.decoding_since_us = self.decoding_since_us.wrapping_sub(since_us);
            }
        }
        Some(request)
    }

    /// A request that is gone had `tokens` in its answer, `latency_us` after it came.
    pub(super) fn answered(&mut self, now: Time, request: &Request, latency_us: u64, tokens: u64) {
        self.rate = Some(Rate::add(self.rate, now, latency_us, tokens));
        let ttft_us = request.first_token_us.map(|at_us| at_us.saturating_sub(request.routed_us));
        let decode_us = ttft_us.filter(|_| request.stream).map(|ttft_us| latency_us.saturating_sub(ttft_us));
        if let (Some(us @ 1..), 2..) = (decode_us, tokens) {
            average(&mut self.decode_rate, (tokens - 1) as f64 * 1e6 / us as f64);
        }
    }

    pub(super) fn show_estimates(
        &mut self,
        requests: &mut Requests,
        fleet: &Fleet,
        now: Time,
        view: &mut WorkerView,
    ) {
        if view.in_flight_requests == 0
            && self.requests() > 0
            && now.us.saturating_sub(self.heard_us) > LOST_AFTER_US
        {
            self.forget_requests(requests, view);
        }
        let slowness = self.slowness.get(now);
        view.prefill_wait_us = self.wait_us(requests, fleet, now, slowness.unwrap_or(1.0));
        view.prefilling_requests = Some(self.prefilling);
        view.decoding_requests = Some(self.decoding);
        view.outstanding_prefill_tokens = fleet.prompt_tokens.map(|_| self.prefill_tokens);
        view.outstanding_decode_tokens = self.outstanding_decode_tokens(fleet, now);
        view.prefill_rate_tokens_per_s = slowness.map(|_| self.prefill_rate);
        view.decode_rate_tokens_per_s = self.decode_rate;
        view.answered_tokens_per_s = self.rate.map(|rate| rate.tokens_per_s(now));
        view.latency_ewma_us = self.latency_us;
        view.ttft_ewma_us = self.ttft_us;
        view.cache_hit_rate = self.hit_rate;
    }

    fn forget_requests(&mut self, requests: &mut Requests, view: &WorkerView) {
        requests.remove_all(view.id);
        *self = Self {
            line: Line::default(),
            prefilling: 0,
            decoding: 0,
            prefill_tokens: 0,
            work: 0,
            decode_tokens_in_line: 0,
            decode_tokens: 0,
            decoding_since_us: 0,
            step: None,
            ..*self
        };
    }

    /// See [`WorkerView::prefill_wait_us`].
    fn wait_us(&mut self, requests: &mut Requests, fleet: &Fleet, now: Time, slowness: f64) -> Option<f64> {
        let learned = fleet.prefill.work_us();
        let work_us = learned.unwrap_or(USUAL_WORK_US) * slowness;
        let overhead_us = fleet.prefill.overhead_us();
        let mut computing_us = self.computing_us(now, overhead_us);
        while let Some(&oldest) = requests.oldest(self.line).filter(|oldest| !oldest.stream) {
            let us = oldest.work as f64 * work_us;
            if computing_us < us {
                break;
            }
            self.begin_decoding(requests, &oldest, now.us - (computing_us - us) as u64);
            computing_us -= us;
        }
        learned?;
        let others = self.load(fleet, now).map_or(0.0, |_| f64::from(self.others_waiting));
        let others_us = others * fleet.work.unwrap_or(0.0) * work_us;
        let line_us = requests.oldest(self.line).map_or(0.0, |oldest| {
            let step_us = oldest.work.max(self.work.min(STEP_TOKENS)) as f64 * work_us;
            let late_us = if oldest.stream { (computing_us - step_us).max(0.0) } else { 0.0 };
            self.work as f64 * work_us - computing_us.min(step_us) + late_us
        });
        // A request's way into the engine passes while others are computed.
        Some((line_us + others_us).max(overhead_us))
    }

    /// How long the oldest of its line has been computed, or is late.
    fn computing_us(&self, now: Time, overhead_us: f64) -> f64 {
        let elapsed_us = now.us.saturating_sub(self.progress_us) as f64;
        (elapsed_us - if self.was_idle { overhead_us } else { 0.0 }).max(0.0)
    }

    /// `None` while nothing says how long an answer is.
    fn outstanding_decode_tokens(&self, fleet: &Fleet, now: Time) -> Option<u64> {
        let expected = self.decode_tokens_in_line + self.decode_tokens;
        if fleet.answer_tokens.is_none() && expected == 0 && self.requests() > 0 {
            return None;
        }
        // The sum of the times since, which is far below 2^64.
        let spent_us = now.us.wrapping_mul(u64::from(self.decoding)).wrapping_sub(self.decoding_since_us);
        let made = (spent_us as f64 * self.decode_rate.unwrap_or(0.0) * 1e-6) as u64;
        // Whatever still decodes has a token to come.
        Some(
            self.decode_tokens_in_line
                + self.decode_tokens.saturating_sub(made).max(u64::from(self.decoding)),
        )
    }
}
