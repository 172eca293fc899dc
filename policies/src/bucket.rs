//! `bucket`: prompts of like length to one worker, cut so that every worker gets as many bytes of prompt.
//!
//! sglang-router 0.3.2 has it for prefill workers only: each takes a range of lengths, the ranges are cut anew every few seconds
//! so that each gets as many characters, and when the characters already sent are too uneven (`balance_abs_threshold` and
//! `balance_rel_threshold`, both strict), the worker with the fewest gets the request. Here the same for any worker: short
//! prompts do not wait behind long ones in a prefill batch.
//! Where it differs, on purpose: lengths are bytes of the routing text; the cut is a distribution of what was sent, in steps of
//! an eighth of an octave, and the i-th of the workers shown takes the i-th equal part of it, so a worker that comes or goes
//! needs no new cut; both the distribution and the bytes sent are halved at each cut, so that a past imbalance is paid back
//! once and a change of load is followed; when a worker joins or leaves, the bytes sent start at nothing for all, or a new one
//! would get everything. Before the first cut, lengths up to 4096 are shared evenly.
//! Deliberately not here: what the prompt says. It ignores prefix caches.

use crate::decision::Decision;
use crate::policy::{Event, Policy};
use crate::registry::{PolicyConfig, PolicySpec};
use crate::shortest_queue::choose_least_loaded;
use crate::view::{RequestView, Time, WorkerView, Workers};

/// Before the first cut prompts of up to this many bytes are shared evenly; sglang-router's number.
const FIRST_LONGEST_BYTES: f64 = 4096.0;
/// Steps of length in an octave, as a power of two.
const STEP_BITS: u32 = 3;
/// Steps there are for lengths of 64 bits.
const STEPS: usize = 64 << STEP_BITS;

/// See the module.
#[derive(Debug)]
pub struct Bucket {
    gap_bytes: u64,
    ratio: f64,
    interval_us: u64,
    /// Bytes of prompt sent since some cuts ago, halved at each, by step of length.
    lengths: Vec<u64>,
    /// Part of those bytes that lay below each step at the last cut, and below the end; empty before the first.
    below: Vec<f64>,
    /// Bytes of prompt sent to each slot, halved at each cut.
    sent_bytes: Vec<u64>,
    cut_at: Option<Time>,
}

impl Bucket {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "bucket",
        about: "prompts of like length to one worker, each worker as many bytes of prompt",
        build: |config| Box::new(Self::new(config)),
    };

    /// The policy with the thresholds and the interval of `config`.
    pub fn new(config: &PolicyConfig) -> Self {
        Self {
            gap_bytes: config.balance_abs_threshold,
            ratio: config.balance_rel_threshold,
            interval_us: config.bucket_adjust_interval_s.saturating_mul(1_000_000),
            lengths: vec![0; STEPS],
            below: Vec::new(),
            sent_bytes: Vec::new(),
            cut_at: None,
        }
    }

    /// Cuts anew if it is time.
    fn adjust(&mut self, now: Time) {
        let since_us = now.us.saturating_sub(self.cut_at.get_or_insert(now).us);
        if since_us < self.interval_us {
            return;
        }
        self.cut_at = Some(now);
        let total: f64 = self.lengths.iter().map(|&bytes| bytes as f64).sum();
        if total > 0.0 {
            self.below.clear();
            self.below.push(0.0);
            let mut sum = 0.0;
            self.below.extend(self.lengths.iter().map(|&bytes| {
                sum += bytes as f64;
                sum / total
            }));
        }
        self.lengths.iter_mut().chain(&mut self.sent_bytes).for_each(|bytes| *bytes /= 2);
    }

    /// Part of all bytes sent that was in prompts shorter than this, 0 to 1.
    fn part_below(&self, prompt_bytes: u64) -> f64 {
        let step = step_of(prompt_bytes);
        let (Some(&low), Some(&high)) = (self.below.get(step), self.below.get(step + 1)) else {
            return prompt_bytes as f64 / FIRST_LONGEST_BYTES;
        };
        let (start, end) = (start_of(step), start_of(step + 1));
        low + (high - low) * ((prompt_bytes as f64 - start) / (end - start)).clamp(0.0, 1.0)
    }

    fn sent_to(&self, worker: &WorkerView) -> u64 {
        self.sent_bytes.get(worker.id.0 as usize).copied().unwrap_or(0)
    }

    fn imbalanced(&self, workers: &Workers<'_>) -> bool {
        let most = workers.iter().map(|w| self.sent_to(w)).max().unwrap_or(0);
        let fewest = workers.iter().map(|w| self.sent_to(w)).min().unwrap_or(0);
        most - fewest > self.gap_bytes && most as f64 > fewest as f64 * self.ratio
    }

    fn remember(&mut self, worker: &WorkerView, prompt_bytes: u64) {
        let slot = worker.id.0 as usize;
        if self.sent_bytes.len() <= slot {
            self.sent_bytes.resize(slot + 1, 0);
        }
        for sum in [&mut self.sent_bytes[slot], &mut self.lengths[step_of(prompt_bytes)]] {
            *sum = sum.saturating_add(prompt_bytes);
        }
    }
}

impl Policy for Bucket {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    /// Scores by bytes sent, negated, where these decide, and by load where there is no text.
    fn choose(&mut self, now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        self.adjust(now);
        if request.prompt_bytes == 0 {
            return choose_least_loaded(workers, out, "no_text");
        }
        if self.imbalanced(workers) {
            for (index, worker) in workers.iter().enumerate() {
                out.score(index, -(self.sent_to(worker) as f64));
            }
            let rank = |w: &WorkerView| (self.sent_to(w), w.in_flight_requests, w.last_chosen_seq, w.id);
            if let Some((index, _)) = workers.iter().enumerate().min_by_key(|(_, worker)| rank(worker)) {
                out.choose(index, "fewest_bytes");
            }
        } else {
            let bucket = self.part_below(request.prompt_bytes) * workers.len() as f64;
            out.choose((bucket as usize).min(workers.len() - 1), "bucket");
        }
        if let Some(worker) = out.chosen().and_then(|index| workers.get(index)) {
            self.remember(worker, request.prompt_bytes);
        }
    }

    fn observe(&mut self, _now: Time, event: &Event) {
        if let Event::Joined { .. } | Event::Left { .. } = event {
            self.sent_bytes.fill(0);
        }
    }
}

/// The step of a length: its octave, and the bits after the first.
fn step_of(bytes: u64) -> usize {
    let octave = bytes.max(1).ilog2();
    let rest =
        if octave >= STEP_BITS { bytes >> (octave - STEP_BITS) } else { bytes << (STEP_BITS - octave) };
    (octave << STEP_BITS) as usize + (rest as usize & ((1 << STEP_BITS) - 1))
}

/// Where a step begins, in bytes; below eight bytes that is between two lengths.
fn start_of(step: usize) -> f64 {
    let (octave, rest) = (step >> STEP_BITS, step & ((1 << STEP_BITS) - 1));
    let eighths = ((1 << STEP_BITS) + rest) as f64 / f64::from(1 << STEP_BITS);
    eighths * (octave as f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask_for};
    use crate::view::WorkerId;

    /// A policy that never finds an imbalance.
    fn patient() -> Bucket {
        Bucket::new(&PolicyConfig { balance_abs_threshold: u64::MAX, ..PolicyConfig::default() })
    }

    fn ask(policy: &mut Bucket, s: u64, prompt_bytes: u64, fleet: &Fleet) -> (usize, &'static str) {
        let request = RequestView { seq: s * 1_000_000, prompt_bytes, ..RequestView::default() };
        let decision = ask_for(policy, &request, &fleet.workers);
        (decision.chosen().expect("chose"), decision.reason())
    }

    #[test]
    fn steps_tile_all_lengths() {
        for bytes in (1..100_000).chain([u64::MAX / 3, u64::MAX - 1, u64::MAX]) {
            let step = step_of(bytes);
            assert!(step < STEPS);
            assert!((start_of(step)..=start_of(step + 1)).contains(&(bytes as f64)), "{bytes} in {step}");
        }
    }

    #[test]
    fn before_the_first_cut_lengths_up_to_4096_are_shared_evenly() {
        let fleet = Fleet::of(4);
        let mut policy = patient();
        let chosen = [1, 1023, 1025, 2049, 3073, 1_000_000].map(|bytes| ask(&mut policy, 0, bytes, &fleet));
        assert_eq!(chosen, [0, 0, 1, 2, 3, 3].map(|index| (index, "bucket")));
    }

    /// Every worker gets as many bytes, whatever the lengths: a third are ten times as long as the others.
    #[test]
    fn after_a_cut_every_worker_gets_as_many_bytes_and_the_short_stay_with_the_short() {
        let fleet = Fleet::of(3);
        let mut policy = patient();
        let length = |n: u64| if n.is_multiple_of(3) { 20_000 + n % 97 * 100 } else { 2_000 + n % 89 * 10 };
        for n in 0..3_000 {
            ask(&mut policy, 0, length(n), &fleet);
        }
        let mut bytes = [0; 3];
        let mut longest = [0; 3];
        for n in 0..3_000 {
            let (index, _) = ask(&mut policy, 5, length(n), &fleet);
            bytes[index] += length(n);
            longest[index] = longest[index].max(length(n));
        }
        let mean = bytes.iter().sum::<u64>() / 3;
        assert!(bytes.iter().all(|b| b.abs_diff(mean) < mean / 10), "{bytes:?}");
        assert!(longest.is_sorted(), "{longest:?}");
    }

    #[test]
    fn an_imbalance_is_paid_back_by_the_worker_with_the_fewest_bytes() {
        let fleet = Fleet::of(2);
        let mut policy = Bucket::new(&PolicyConfig::default());
        let chosen: Vec<_> = (0..4).map(|_| ask(&mut policy, 0, 100, &fleet)).collect();
        // All are short, so the first worker's: 100 to 0 is an imbalance, 100 to 100 is none.
        assert_eq!(chosen, [(0, "bucket"), (1, "fewest_bytes"), (0, "bucket"), (1, "fewest_bytes")]);
    }

    #[test]
    fn a_worker_that_joins_is_not_flooded() {
        let mut fleet = Fleet::of(2);
        let mut policy = Bucket::new(&PolicyConfig::default());
        for _ in 0..100 {
            ask(&mut policy, 0, 100, &fleet);
        }
        fleet.workers.push(WorkerView { id: WorkerId(2), ..WorkerView::default() });
        policy.observe(Time::default(), &Event::Joined { worker: WorkerId(2) });
        let chosen: Vec<_> = (0..9).map(|_| ask(&mut policy, 0, 100, &fleet).0).collect();
        assert!(chosen.iter().filter(|&&index| index == 2).count() <= 4, "{chosen:?}");
    }

    #[test]
    fn without_text_the_least_loaded() {
        let mut fleet = Fleet::of(2);
        fleet.in_flight([1, 0]);
        assert_eq!(ask(&mut patient(), 0, 0, &fleet), (1, "no_text"));
    }
}
