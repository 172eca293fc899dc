//! `weighted`: the worker with the highest weighted sum of named scorers.
//!
//! Each scorer's values are spread over 0 to 1 for each decision (min-max, as in the gateway API's inference scheduler and
//! llm-d), 1 being the best; the weights are scaled to a sum of 1, so a worker's score is 0 to 1 too. Rule: a value that is not
//! known is 0.5, the middle of what the others have, so that nobody wins or loses by saying nothing: as 0 a failed poll would
//! take all of a worker's traffic away, as 1 it would attract it. Where all are alike a scorer says nothing, which is 0.5 for
//! everybody. Deliberately not here: learning the weights; reading their file.

mod file;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use self::file::WeightsError;
use crate::decision::Decision;
use crate::policy::{Needs, Policy};
use crate::registry::PolicySpec;
use crate::view::{RequestView, Time, WorkerView, Workers};

/// One thing that a worker can be good at.
struct Scorer {
    name: &'static str,
    /// More is better.
    more: bool,
    needs: Needs,
    value: fn(&WorkerView) -> Option<f64>,
}

const NONE: Needs = Needs {
    prefix_match: false,
    engine_text: false,
    routing_text: false,
    prompt_hash_bytes: 0,
    client_hash: false,
    target: false,
    server_loads: false,
    estimates: false,
    request_events: false,
};
const LOADS: Needs = Needs { server_loads: true, ..NONE };
const ESTIMATES: Needs = Needs { estimates: true, ..NONE };

const fn more(name: &'static str, needs: Needs, value: fn(&WorkerView) -> Option<f64>) -> Scorer {
    Scorer { name, more: true, needs, value }
}

const fn less(name: &'static str, needs: Needs, value: fn(&WorkerView) -> Option<f64>) -> Scorer {
    Scorer { name, more: false, needs, value }
}

/// How many scorers there are.
const SCORERS: usize = 11;

static ALL: [Scorer; SCORERS] = [
    more("prefix_match", Needs { prefix_match: true, engine_text: true, ..NONE }, |w| {
        w.prefix_match_bytes.map(|n| n as f64)
    }),
    less("in_flight", NONE, |w| Some(f64::from(w.in_flight_requests))),
    less("queue", LOADS, |w| w.queue_depth.map(f64::from)),
    less("outstanding_prefill", ESTIMATES, |w| w.outstanding_prefill_tokens.map(|n| n as f64)),
    less("outstanding_decode", ESTIMATES, |w| w.outstanding_decode_tokens.map(|n| n as f64)),
    less("kv_usage", LOADS, |w| w.kv_usage),
    less("latency", ESTIMATES, |w| w.latency_ewma_us),
    less("ttft", ESTIMATES, |w| w.ttft_ewma_us),
    more("cache_hit_rate", ESTIMATES, |w| w.cache_hit_rate),
    more("priority", NONE, |w| Some(f64::from(w.priority))),
    more("throughput", Needs { server_loads: true, ..ESTIMATES }, |w| {
        w.throughput_tokens_per_s.or(w.answered_tokens_per_s)
    }),
];

/// What a value that is not known counts as.
const NEUTRAL: f64 = 0.5;

/// How a worker is taken by the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Picker {
    /// The highest score.
    #[default]
    Max,
    /// Drawn, each worker in proportion to e to the power of score / temperature.
    Softmax,
    /// The better of two that are drawn.
    TwoChoices,
}

/// The weights of `weighted`, and how it picks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// In the order of the scorers; a sum of 1.
    of_scorers: [f64; SCORERS],
    picker: Picker,
    temperature: f64,
}

impl Default for Weights {
    /// The prefix 3, requests in flight 2; the highest score.
    fn default() -> Self {
        let mut of_scorers = [0.0; SCORERS];
        (of_scorers[0], of_scorers[1]) = (3.0, 2.0);
        Self { of_scorers: file::scaled(of_scorers), picker: Picker::Max, temperature: file::TEMPERATURE }
    }
}

impl Weights {
    fn used(&self) -> impl Iterator<Item = (&'static Scorer, f64)> {
        ALL.iter().zip(self.of_scorers).filter(|(_, weight)| *weight > 0.0)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Weighted {
    label: &'static str,
    weights: Weights,
    rng: ChaCha8Rng,
    /// By worker shown; reused.
    scores: Vec<f64>,
}

impl Weighted {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "weighted",
        about: "the worker with the highest sum of weighted scorers (weighted:FILE for weights of your own)",
        build: |config| Box::new(Self::new("weighted", config.weights, config.seed)),
    };

    /// The policy with these weights; its name is `label`.
    pub fn new(label: &'static str, weights: Weights, seed: u64) -> Self {
        Self { label, weights, rng: ChaCha8Rng::seed_from_u64(seed), scores: Vec::new() }
    }

    fn score(&mut self, workers: &Workers<'_>) {
        self.scores.clear();
        self.scores.resize(workers.len(), 0.0);
        for (scorer, weight) in self.weights.used() {
            let known = |worker: &WorkerView| (scorer.value)(worker).filter(|value| value.is_finite());
            let mut range = (f64::INFINITY, f64::NEG_INFINITY);
            for value in workers.iter().filter_map(known) {
                range = (range.0.min(value), range.1.max(value));
            }
            for (score, worker) in self.scores.iter_mut().zip(workers) {
                let part = known(worker).map_or(NEUTRAL, |value| spread(value, range));
                *score += weight * if scorer.more { part } else { 1.0 - part };
            }
        }
    }

    /// Draws a number from 0 up to 1, the same on every machine.
    fn draw(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn softmax(&mut self) -> usize {
        let best = self.scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let temperature = self.weights.temperature;
        // The best one's is 1, so the sum is at least that.
        let likely = |score: f64| ((score - best) / temperature).exp();
        let sum: f64 = self.scores.iter().map(|score| likely(*score)).sum();
        let mut left = self.draw() * sum;
        for (index, score) in self.scores.iter().enumerate() {
            left -= likely(*score);
            if left < 0.0 {
                return index;
            }
        }
        self.scores.len() - 1
    }

    /// Two different ones, or the only one twice.
    fn two(&mut self) -> [usize; 2] {
        let workers = self.scores.len();
        let below = |draw: f64, limit: usize| ((draw * limit as f64) as usize).min(limit.saturating_sub(1));
        let first = below(self.draw(), workers);
        if workers == 1 {
            return [first; 2];
        }
        let second = below(self.draw(), workers - 1);
        [first, second + usize::from(second >= first)]
    }
}

/// Where `value` lies in `range`, 0 to 1.
fn spread(value: f64, (least, most): (f64, f64)) -> f64 {
    // By halves, as the whole range may be beyond what a number can be; half of the least number is nothing.
    let width = most / 2.0 - least / 2.0;
    if width.is_nan() || width <= 0.0 {
        return NEUTRAL;
    }
    (value / 2.0 - least / 2.0) / width
}

impl Policy for Weighted {
    fn name(&self) -> &'static str {
        self.label
    }

    fn needs(&self) -> Needs {
        self.weights.used().fold(Needs::default(), |needs, (scorer, _)| needs.union(scorer.needs))
    }

    fn choose(&mut self, _now: Time, _request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        self.score(workers);
        let (shown, reason) = match self.weights.picker {
            Picker::Max => (None, "highest_score"),
            Picker::TwoChoices => (Some(self.two()), "better_of_two"),
            Picker::Softmax => {
                let drawn = self.softmax();
                for (index, score) in self.scores.iter().enumerate() {
                    out.score(index, *score);
                }
                return out.choose(drawn, "drawn");
            }
        };
        let candidate = |index: &usize| shown.is_none_or(|shown| shown.contains(index));
        let mut best: Option<(usize, f64, (u32, u64, u32))> = None;
        for (index, worker) in workers.iter().enumerate().filter(|(index, _)| candidate(index)) {
            let score = self.scores[index];
            out.score(index, score);
            let load = (worker.in_flight_requests, worker.last_chosen_seq, worker.id.0);
            if best.is_none_or(|(_, s, l)| score > s || (score >= s && load < l)) {
                best = Some((index, score, load));
            }
        }
        if let Some((index, ..)) = best {
            out.choose(index, reason);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
