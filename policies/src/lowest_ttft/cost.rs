//! What a request costs at a worker, in microseconds.
//!
//! Rule: an unknown is replaced by what the other workers have, else by a usual value that is stated here; whatever the numbers,
//! a cost is finite and not negative. Deliberately not here: who is chosen, and where the estimates come from.

use crate::prefill_work::{USUAL_WORK_US, prefill_work};
use crate::view::{RequestView, WorkerView, Workers};

/// Part of its time that a decode counts for which the request's prefill stalls: prefill goes first in SGLang, so each running
/// answer pauses for as long. At a whole part a prompt would rather wait behind another than come to a full batch, which
/// costs the very tail of first tokens that the policy is for; at none answers get a fifth slower where prompts are long.
const STALL: f64 = 0.05;
/// Part of its time that each output token still to come at a worker counts. One more sequence of 2,000 tokens makes a decode
/// step of 7 ms longer by 110 µs, for itself and all others: 0.016, of which a little less than half counts, as above. It is
/// what keeps a fleet even that is not busy enough for queues.
const CROWD: f64 = 0.006;
/// Part of the work on tokens that another worker holds which is paid once more: the copy takes room from other prefixes. More
/// would keep a hot prefix at one worker for too long: what is hot enough to queue for will be asked for again, and then the
/// copy is worth more than it took.
const COPY: f64 = 0.25;
/// Part of its prefill by which the worker chosen last is behind the one that was not chosen for longest: rates are learned
/// within a tenth, and an idle fleet would else be the one worker that seems a little quicker.
const TURN: f64 = 0.1;
/// The same at least, microseconds.
const LEAST_TURN_US: f64 = 1_000.0;
/// Part of the KV cache from which on a new request waits until others end. SGLang counts what only its prefix cache holds as
/// free.
const KV_FULL: f64 = 0.95;

/// Time of an answer's token until any is known: a batch of some tens on a large GPU.
const USUAL_DECODE_TOKEN_US: f64 = 15_000.0;
/// Tokens still to come of an answer of which nothing is known.
const USUAL_ANSWER_TOKENS: f64 = 100.0;
/// Tokens of a prompt of unknown length.
const USUAL_PROMPT_TOKENS: u64 = 500;
/// No worker is slower: a token in a quarter of an hour.
const LEAST_RATE: f64 = 1e-3;
/// No cost is more: eleven days.
const MOST_US: f64 = 1e12;

/// What holds for all workers of one decision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pricing {
    prompt_tokens: u64,
    most_held_tokens: u64,
    /// All of the prompt, if nothing is held.
    work: f64,
    /// Of the part that is held most.
    most_held_work: f64,
    /// Of a unit of prefill work, where the worker's own is not known.
    work_us: f64,
    /// Of a token of an answer: one for all, as each worker's own is that of the batches it had.
    decode_token_us: f64,
    first_chosen_seq: u64,
    /// One over the choices between the worker chosen last and that.
    per_choice: f64,
}

/// The parts of a cost, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "the unit")]
pub(super) struct Cost {
    /// Until its prefill begins.
    pub(super) queue_us: f64,
    /// Of what is not cached.
    pub(super) prefill_us: f64,
    /// What it costs the answers there, and they it.
    pub(super) decode_us: f64,
    /// The copy of a prefix that others hold, and whose turn it is.
    pub(super) spread_us: f64,
}

impl Cost {
    /// Names of the parts.
    pub(super) const PARTS: [&'static str; 4] = ["queue_us", "prefill_us", "decode_us", "spread_us"];

    /// In the order of [`Cost::PARTS`].
    pub(super) fn parts(self) -> [f64; 4] {
        [self.queue_us, self.prefill_us, self.decode_us, self.spread_us]
    }

    pub(super) fn total_us(self) -> f64 {
        (self.queue_us + self.prefill_us + self.decode_us + self.spread_us).min(MOST_US)
    }
}

impl Pricing {
    pub(super) fn of(request: &RequestView<'_>, workers: &Workers<'_>) -> Self {
        let prompt_tokens = request.prompt_tokens.unwrap_or(USUAL_PROMPT_TOKENS).max(1);
        let (mut first_chosen_seq, mut last_chosen_seq, mut most_held_tokens) = (u64::MAX, 0, 0);
        let (mut prefill, mut decode) = (Mean::default(), Mean::default());
        for worker in workers {
            first_chosen_seq = first_chosen_seq.min(worker.last_chosen_seq);
            last_chosen_seq = last_chosen_seq.max(worker.last_chosen_seq);
            most_held_tokens = most_held_tokens.max(worker.prefix_match_tokens.unwrap_or(0));
            prefill.add(worker.prefill_rate_tokens_per_s);
            decode.add(worker.decode_rate_tokens_per_s);
        }
        let most_held_tokens = most_held_tokens.min(prompt_tokens - 1);
        Self {
            prompt_tokens,
            most_held_tokens,
            work: prefill_work(0.0, prompt_tokens as f64),
            most_held_work: prefill_work(0.0, most_held_tokens as f64),
            work_us: us_each(prefill.get()).unwrap_or(USUAL_WORK_US),
            decode_token_us: us_each(decode.get()).unwrap_or(USUAL_DECODE_TOKEN_US),
            first_chosen_seq,
            per_choice: 1.0 / last_chosen_seq.saturating_sub(first_chosen_seq).max(1) as f64,
        }
    }

    /// Tokens of the prompt that the worker is thought to hold. The last one is always computed: the answer begins with what
    /// comes of it.
    pub(super) fn held_tokens(&self, worker: &WorkerView) -> u64 {
        worker.prefix_match_tokens.unwrap_or(0).min(self.prompt_tokens - 1)
    }

    /// The most that any worker holds.
    pub(super) fn most_held_tokens(&self) -> u64 {
        self.most_held_tokens
    }

    #[inline]
    pub(super) fn cost(&self, worker: &WorkerView) -> Cost {
        let work_us = us_each(worker.prefill_rate_tokens_per_s).unwrap_or(self.work_us);
        let held_work = prefill_work(0.0, self.held_tokens(worker) as f64);
        let prefill_us = (self.work - held_work) * work_us;
        let copy_us = (self.most_held_work - held_work) * work_us;
        let decoding = f64::from(worker.decoding_requests.unwrap_or(worker.in_flight_requests));
        let to_come_us = tokens_to_come(worker) * self.decode_token_us;
        // 0 for the worker that was not chosen for longest, 1 for the one chosen last.
        let turn = worker.last_chosen_seq.saturating_sub(self.first_chosen_seq) as f64 * self.per_choice;
        Cost {
            queue_us: wait_us(worker, work_us) + self.slot_us(worker),
            prefill_us,
            decode_us: STALL * prefill_us * decoding + CROWD * to_come_us,
            spread_us: COPY * copy_us + (TURN * prefill_us).max(LEAST_TURN_US) * turn,
        }
    }

    /// Time until a request of the batch ends, if there is room for none more, and as often as others wait for that.
    fn slot_us(&self, worker: &WorkerView) -> f64 {
        if full(worker).is_none() {
            return 0.0;
        }
        let running = f64::from(running(worker).max(1));
        let waiting = f64::from(worker.prefilling_requests.unwrap_or(0));
        // Ends are spread over the time that the last one takes, which is twice the average.
        let all_ended_us = 2.0 * answer_tokens_to_come(worker) * self.decode_token_us;
        all_ended_us / running * (waiting + 1.0)
    }
}

/// Why a worker has no room for one more, if it says what it has.
pub(super) fn full(worker: &WorkerView) -> Option<&'static str> {
    let taken = running(worker).saturating_add(worker.prefilling_requests.unwrap_or(0));
    if worker.max_running_requests.is_some_and(|most| taken >= most) {
        return Some("batch_full");
    }
    worker.kv_usage.is_some_and(|used| used >= KV_FULL).then_some("kv_full")
}

/// Requests of its batch: as it says, or as many as are known to be in it.
fn running(worker: &WorkerView) -> u32 {
    worker.running.unwrap_or(0).max(worker.decoding_requests.unwrap_or(0))
}

fn wait_us(worker: &WorkerView, work_us: f64) -> f64 {
    let queued = worker.outstanding_prefill_tokens.unwrap_or(0) as f64;
    let known = worker.prefill_wait_us.filter(|us| us.is_finite() && *us >= 0.0);
    known.unwrap_or(queued * work_us)
}

fn tokens_to_come(worker: &WorkerView) -> f64 {
    let usual = f64::from(worker.in_flight_requests) * USUAL_ANSWER_TOKENS;
    worker.outstanding_decode_tokens.map_or(usual, |tokens| tokens as f64)
}

/// Of one request there, on average; where only other routers have requests, theirs are usual ones.
fn answer_tokens_to_come(worker: &WorkerView) -> f64 {
    match worker.in_flight_requests {
        0 => USUAL_ANSWER_TOKENS,
        requests => tokens_to_come(worker) / f64::from(requests),
    }
}

/// Microseconds for one, at a rate that can be one.
fn us_each(per_s: Option<f64>) -> Option<f64> {
    per_s.filter(|rate| rate.is_finite() && *rate > LEAST_RATE).map(|rate| 1e6 / rate)
}

/// The mean of the rates that are known.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, rate: Option<f64>) {
        if let Some(rate) = rate.filter(|rate| rate.is_finite() && *rate > LEAST_RATE) {
            self.sum += rate;
            self.count += 1;
        }
    }

    fn get(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}
