//! What the router counts and learns of each worker from the requests that pass through it.
//!
//! Rule: estimates, each `None` until there is something to go by; every number comes from the events, so that a replay of them
//! gives the same. Deliberately not here: requests in flight, which are counted where leases are, and the prefix index.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::policy::{Event, ServerLoad};
use crate::view::{RequestView, Time, WorkerId, WorkerView};

/// Weight of the newest value in the moving averages.
const EWMA_WEIGHT: f64 = 0.2;
/// Bytes of text a token stands for until answers have told: the usual figure for English.
const BYTES_PER_TOKEN: f64 = 4.0;
/// Time in which a rate of tokens forgets all but 1/e.
const RATE_MEMORY_US: f64 = 10_000_000.0;
/// What a server said of its load counts for so long, unless the chooser is told otherwise.
const LOAD_LASTS_US: u64 = 10_000_000;
/// First tokens of fewer tokens of work say more about the network than about the engine.
const MIN_WORK_TOKENS: u64 = 64;
/// Requests remembered; the estimates of more are not kept.
const MAX_PENDING: usize = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    slots: Vec<Slot>,
    // Only looked up by key, so its order decides nothing.
    pending: HashMap<u64, Pending, BuildHasherDefault<DefaultHasher>>,
    bytes_per_token: Option<f64>,
    prompt_tokens: Option<f64>,
    answer_tokens: Option<f64>,
    load_lasts_us: Option<u64>,
}

/// One worker.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    prefilling: u32,
    decoding: u32,
    prefill_tokens: u64,
    decode_tokens: u64,
    prefill_rate: Option<f64>,
    decode_rate: Option<f64>,
    answered: Option<Rate>,
    latency_us: Option<f64>,
    ttft_us: Option<f64>,
    hit_rate: Option<f64>,
    load: Option<(Time, ServerLoad)>,
}

/// Tokens a second, older ones counting less and less.
#[derive(Clone, Copy, Debug)]
struct Rate {
    began: Time,
    at: Time,
    tokens: f64,
}

/// A request at a worker.
#[derive(Clone, Copy, Debug)]
struct Pending {
    worker: WorkerId,
    prompt_bytes: u64,
    /// What was added to the worker's outstanding tokens.
    prefill_tokens: u64,
    decode_tokens: u64,
    /// Prefill work there with it.
    work_tokens: u64,
    ttft_us: Option<u64>,
}

impl Ledger {
    /// A worker comes into this slot; nothing is known of it.
    pub fn join(&mut self, worker: WorkerId) {
        let slot = worker.0 as usize;
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, Slot::default());
        }
        self.slots[slot] = Slot::default();
    }

    /// The worker in this slot goes, and so do its requests.
    pub fn leave(&mut self, worker: WorkerId) {
        self.pending.retain(|_, pending| pending.worker != worker);
        if let Some(slot) = self.slots.get_mut(worker.0 as usize) {
            *slot = Slot::default();
        }
    }

    /// Tokens of a prompt of so many bytes; `None` for none.
    pub fn tokens_of(&self, prompt_bytes: u64) -> Option<u64> {
        let per_token = self.bytes_per_token.unwrap_or(BYTES_PER_TOKEN);
        (prompt_bytes > 0).then(|| (prompt_bytes as f64 / per_token).ceil() as u64)
    }

    /// Tokens in the first `bytes` of the request's prompt.
    pub fn part_of(&self, request: &RequestView<'_>, bytes: u64) -> Option<u64> {
        let tokens = request.prompt_tokens?;
        Some((tokens as f64 * (bytes as f64 / request.prompt_bytes.max(1) as f64).min(1.0)) as u64)
    }

    /// The request goes to `worker`, which was shown like this.
    pub fn route(&mut self, _now: Time, request: &RequestView<'_>, worker: &WorkerView) {
        self.release(request.seq);
        let usual = self.prompt_tokens.unwrap_or(0.0) as u64;
        let prompt_tokens = request.prompt_tokens.unwrap_or(usual);
        let cached = worker.prefix_match_tokens.unwrap_or(0).min(prompt_tokens);
        let prefill_tokens = prompt_tokens - cached;
        let usual = self.answer_tokens.map(|tokens| tokens as u64);
        let decode_tokens = match (request.max_new_tokens, usual) {
            (Some(asked), Some(usual)) => asked.min(usual.saturating_mul(4)),
            (asked, usual) => asked.or(usual).unwrap_or(0),
        };
        let Some(slot) = self.slots.get_mut(worker.id.0 as usize) else {
            return;
        };
        if self.pending.len() >= MAX_PENDING {
            return;
        }
        slot.prefilling += 1;
        slot.prefill_tokens += prefill_tokens;
        slot.decode_tokens += decode_tokens;
        let pending = Pending {
            worker: worker.id,
            prompt_bytes: request.prompt_bytes,
            prefill_tokens,
            decode_tokens,
            work_tokens: slot.prefill_tokens,
            ttft_us: None,
        };
        self.pending.insert(request.seq, pending);
        if let Some(tokens) = request.prompt_tokens {
            average(&mut self.prompt_tokens, tokens as f64);
        }
    }

    /// Takes a request out of its worker's counts.
    fn release(&mut self, seq: u64) -> Option<Pending> {
        let pending = self.pending.remove(&seq)?;
        if let Some(slot) = self.slots.get_mut(pending.worker.0 as usize) {
            if pending.ttft_us.is_some() {
                slot.decoding = slot.decoding.saturating_sub(1);
            } else {
                slot.prefilling = slot.prefilling.saturating_sub(1);
                slot.prefill_tokens = slot.prefill_tokens.saturating_sub(pending.prefill_tokens);
            }
            slot.decode_tokens = slot.decode_tokens.saturating_sub(pending.decode_tokens);
        }
        Some(pending)
    }

    /// Something happened.
    pub fn observe(&mut self, now: Time, event: &Event) {
        match *event {
            Event::FirstToken { seq, worker, ttft_us } => self.first_token(seq, worker, ttft_us),
            Event::Ended { .. } => self.ended(now, event),
            Event::Loaded { worker, load } => self.set_load(worker, Some((now, load))),
            Event::LoadUnknown { worker } => self.set_load(worker, None),
            Event::Routed { .. } | Event::CacheEmptied { .. } | Event::Joined { .. } | Event::Left { .. } => {
            }
        }
    }

    /// From now on what a server said of its load counts for so long.
    pub fn set_load_lasts(&mut self, us: u64) {
        self.load_lasts_us = Some(us);
    }

    fn set_load(&mut self, worker: WorkerId, load: Option<(Time, ServerLoad)>) {
        if let Some(slot) = self.slots.get_mut(worker.0 as usize) {
            slot.load = load;
        }
    }

    fn first_token(&mut self, seq: u64, worker: WorkerId, ttft_us: u64) {
        let Some(pending) = self.pending.get_mut(&seq).filter(|p| p.worker == worker && p.ttft_us.is_none())
        else {
            return;
        };
        pending.ttft_us = Some(ttft_us);
        let Some(slot) = self.slots.get_mut(worker.0 as usize) else {
            return;
        };
        slot.prefilling = slot.prefilling.saturating_sub(1);
        slot.decoding += 1;
        slot.prefill_tokens = slot.prefill_tokens.saturating_sub(pending.prefill_tokens);
        average(&mut slot.ttft_us, ttft_us as f64);
        if pending.work_tokens >= MIN_WORK_TOKENS && ttft_us > 0 {
            average(&mut slot.prefill_rate, pending.work_tokens as f64 * 1e6 / ttft_us as f64);
        }
    }

    fn ended(&mut self, now: Time, event: &Event) {
        let Event::Ended { seq, worker, latency_us, ok, prompt_tokens, completion_tokens, cached_tokens } =
            *event
        else {
            return;
        };
        if self.pending.get(&seq).is_none_or(|pending| pending.worker != worker) {
            return;
        }
        let Some(pending) = self.release(seq) else {
            return;
        };
        if let (Some(tokens @ 1..), bytes @ 1..) = (prompt_tokens, pending.prompt_bytes) {
            average(&mut self.bytes_per_token, bytes as f64 / tokens as f64);
        }
        if let (true, Some(tokens)) = (ok, completion_tokens) {
            average(&mut self.answer_tokens, tokens as f64);
        }
        let Some(slot) = self.slots.get_mut(worker.0 as usize).filter(|_| ok) else {
            return;
        };
        // A list of models is answered in a millisecond and says nothing of a worker's speed.
        if prompt_tokens.or(completion_tokens).is_some() {
            average(&mut slot.latency_us, latency_us as f64);
        }
        if let (Some(prompt @ 1..), Some(cached)) = (prompt_tokens, cached_tokens) {
            average(&mut slot.hit_rate, (cached as f64 / prompt as f64).min(1.0));
        }
        if let Some(tokens) = completion_tokens {
            slot.answered = Some(Rate::add(slot.answered, now, latency_us, tokens));
            let decode_us = pending.ttft_us.map(|ttft_us| latency_us.saturating_sub(ttft_us));
            if let (Some(us @ 1..), 2..) = (decode_us, tokens) {
                average(&mut slot.decode_rate, (tokens - 1) as f64 * 1e6 / us as f64);
            }
        }
    }

    /// Writes what was counted and learned of a worker into its view.
    pub fn show_estimates(&self, now: Time, view: &mut WorkerView) {
        let Some(slot) = self.slots.get(view.id.0 as usize) else {
            return;
        };
        view.prefilling_requests = Some(slot.prefilling);
        view.decoding_requests = Some(slot.decoding);
        view.outstanding_prefill_tokens = self.prompt_tokens.map(|_| slot.prefill_tokens);
        view.outstanding_decode_tokens = Some(slot.decode_tokens);
        view.prefill_rate_tokens_per_s = slot.prefill_rate;
        view.decode_rate_tokens_per_s = slot.decode_rate;
        view.answered_tokens_per_s = slot.answered.map(|rate| rate.tokens_per_s(now));
        view.latency_ewma_us = slot.latency_us;
        view.ttft_ewma_us = slot.ttft_us;
        view.cache_hit_rate = slot.hit_rate;
    }

    /// Writes what the worker's server last said into its view.
    pub fn show_load(&self, now: Time, view: &mut WorkerView) {
        let load = self.slots.get(view.id.0 as usize).and_then(|slot| slot.load);
        let age = |at: Time| now.us.saturating_sub(at.us);
        let lasts_us = self.load_lasts_us.unwrap_or(LOAD_LASTS_US);
        let load = load.filter(|(at, _)| age(*at) <= lasts_us);
        view.server_load_age_us = load.map(|(at, _)| age(at));
        let said = load.map(|(_, said)| said).unwrap_or_default();
        view.queue_depth = said.queue_depth;
        view.running = said.running;
        view.kv_usage = said.kv_usage;
        view.throughput_tokens_per_s = said.throughput_tokens_per_s;
        view.max_running_requests = said.max_running_requests;
    }
}

impl Rate {
    /// `tokens` that took `us` and have just come.
    fn add(rate: Option<Self>, now: Time, us: u64, tokens: u64) -> Self {
        let began = Time { us: now.us.saturating_sub(us) };
        let old = rate.unwrap_or(Self { began, at: now, tokens: 0.0 });
        Self { tokens: old.left(now) + tokens as f64, at: now, ..old }
    }

    fn left(&self, now: Time) -> f64 {
        self.tokens * (-(now.us.saturating_sub(self.at.us) as f64) / RATE_MEMORY_US).exp()
    }

    fn tokens_per_s(&self, now: Time) -> f64 {
        // A rate that has just begun has not forgotten as much as one that has gone on for ever.
        let age_us = now.us.saturating_sub(self.began.us).max(1) as f64;
        let weight_us = RATE_MEMORY_US * -(-age_us / RATE_MEMORY_US).exp_m1();
        self.left(now) * 1e6 / weight_us
    }
}

/// Moves an average towards a new value; the first one is the average.
fn average(of: &mut Option<f64>, new: f64) {
    *of = Some(of.map_or(new, |old| old + EWMA_WEIGHT * (new - old)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKER: WorkerId = WorkerId(0);

    fn view(ledger: &Ledger, at_us: u64) -> WorkerView {
        let mut view = WorkerView { id: WORKER, ..WorkerView::default() };
        ledger.show_estimates(Time { us: at_us }, &mut view);
        ledger.show_load(Time { us: at_us }, &mut view);
        view
    }

    fn routed(seq: u64, tokens: u64, max_new: u64) -> (Ledger, RequestView<'static>) {
        let mut ledger = Ledger::default();
        ledger.join(WORKER);
        let request = RequestView {
            seq,
            prompt_bytes: tokens * 4,
            prompt_tokens: Some(tokens),
            max_new_tokens: Some(max_new),
            ..RequestView::default()
        };
        let shown = WorkerView { prefix_match_tokens: Some(tokens / 4), ..view(&ledger, 0) };
        ledger.route(Time::default(), &request, &shown);
        (ledger, request)
    }

    fn end(seq: u64, ok: bool) -> Event {
        Event::Ended {
            seq,
            worker: WORKER,
            latency_us: 2_000_000,
            ok,
            prompt_tokens: Some(1000),
            completion_tokens: Some(101),
            cached_tokens: Some(250),
        }
    }

    #[test]
    fn a_request_moves_from_prefill_to_decode_and_out() {
        let (mut ledger, _) = routed(1, 1000, 100);
        let before = view(&ledger, 0);
        assert_eq!((before.prefilling_requests, before.decoding_requests), (Some(1), Some(0)));
        assert_eq!(
            (before.outstanding_prefill_tokens, before.outstanding_decode_tokens),
            (Some(750), Some(100))
        );
        ledger.observe(Time::default(), &Event::FirstToken { seq: 1, worker: WORKER, ttft_us: 1_000_000 });
        let decoding = view(&ledger, 0);
        assert_eq!((decoding.prefilling_requests, decoding.decoding_requests), (Some(0), Some(1)));
        assert_eq!(decoding.outstanding_prefill_tokens, Some(0));
        assert_eq!((decoding.prefill_rate_tokens_per_s, decoding.ttft_ewma_us), (Some(750.0), Some(1e6)));
        ledger.observe(Time { us: 2_000_000 }, &end(1, true));
        let after = view(&ledger, 2_000_000);
        assert_eq!((after.decoding_requests, after.outstanding_decode_tokens), (Some(0), Some(0)));
        assert_eq!((after.decode_rate_tokens_per_s, after.cache_hit_rate), (Some(100.0), Some(0.25)));
        assert!((after.answered_tokens_per_s.expect("known") - 50.0).abs() < 6.0, "{after:?}");
    }

    #[test]
    fn what_failed_leaves_the_counts_and_teaches_no_speed() {
        let (mut ledger, _) = routed(1, 1000, 100);
        ledger.observe(Time { us: 9 }, &end(1, false));
        ledger.observe(Time { us: 9 }, &end(1, true));
        let after = view(&ledger, 9);
        assert_eq!((after.prefilling_requests, after.outstanding_prefill_tokens), (Some(0), Some(0)));
        assert_eq!((after.latency_ewma_us, after.answered_tokens_per_s), (None, None));
    }

    #[test]
    fn a_worker_that_left_takes_its_requests_along() {
        let (mut ledger, _) = routed(1, 1000, 100);
        ledger.leave(WORKER);
        ledger.join(WORKER);
        ledger.observe(Time { us: 9 }, &end(1, true));
        let newcomer = view(&ledger, 9);
        assert_eq!((newcomer.prefilling_requests, newcomer.latency_ewma_us), (Some(0), None));
    }

    #[test]
    fn what_a_server_said_is_forgotten_when_it_is_old_or_the_next_question_failed() {
        let (mut ledger, _) = routed(1, 1000, 100);
        let load = ServerLoad { queue_depth: Some(7), ..ServerLoad::default() };
        ledger.observe(Time { us: 1_000 }, &Event::Loaded { worker: WORKER, load });
        let seen = view(&ledger, 3_000);
        assert_eq!((seen.queue_depth, seen.server_load_age_us, seen.running), (Some(7), Some(2_000), None));
        assert_eq!(view(&ledger, 2_000 + LOAD_LASTS_US).queue_depth, None);
        ledger.set_load_lasts(2 * LOAD_LASTS_US);
        assert_eq!(view(&ledger, 2_000 + LOAD_LASTS_US).queue_depth, Some(7));
        ledger.observe(Time { us: 4_000 }, &Event::LoadUnknown { worker: WORKER });
        assert_eq!(view(&ledger, 5_000).server_load_age_us, None);
    }
}
