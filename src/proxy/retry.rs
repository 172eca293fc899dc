//! Whether a failed attempt is followed by another, where, and after what pause.
//!
//! Rule: an attempt leaves out the workers already tried and goes at once while another one would take it; only when all of
//! them have been tried does the request pause, and then they are all free again (a round). What may have been carried out is
//! repeated only where that does no harm, see [`is_repeatable`]. Everything here is decided from values, jitter included, so a
//! simulation replays. Deliberately not here: the attempts themselves (`forward`), what a failure does to a worker's breaker
//! (`journey`).

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use milepost_policies::WorkerId;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::intake::Call;
use super::journey::Journey;
use crate::config::resilience::RetryConfig;
use crate::fleet::dispatch::Chosen;
use crate::fleet::policies::Wanted;
use crate::fleet::worker::Worker;
use crate::wire::Endpoint;

/// What follows a failed attempt.
#[derive(Debug)]
pub enum Next {
    /// Nothing: the last answer is passed on as it came, or the client gets the router's own error.
    Nothing,
    /// An attempt at another worker, at once; it is chosen already, so that nothing is given up for nobody.
    Now(Box<Chosen>),
    /// An attempt after this pause; every worker has been tried.
    After(Duration),
}

/// How far one request's attempts have come.
#[derive(Debug)]
pub struct Retries {
    repeatable: bool,
    /// Tried in this round.
    tried: Vec<WorkerId>,
    /// As long as there are others: those, and the ranks beside the ones that gave no answer.
    avoided: Vec<WorkerId>,
    rounds: u32,
}

impl Retries {
    /// Those of a request that has not been sent yet.
    pub fn of(call: &Call) -> Self {
        Self { repeatable: is_repeatable(call), tried: Vec::new(), avoided: Vec::new(), rounds: 0 }
    }

    /// The request may be written twice.
    pub fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// Workers that the next attempt leaves out.
    pub fn tried(&self) -> &[WorkerId] {
        &self.tried
    }

    /// Workers that the next attempt leaves out if any other would take it, where they are more than [`Self::tried`].
    pub fn avoided(&self) -> Option<&[WorkerId]> {
        (self.avoided.len() > self.tried.len()).then_some(&self.avoided[..])
    }

    /// The attempt at `worker` has failed, and its breaker knows; with no answer its server may be down, and all of its ranks
    /// with it. True if there may be another attempt.
    pub fn go_on(&mut self, journey: &Journey, worker: &Arc<Worker>, answered: bool) -> bool {
        let shared = journey.shared();
        self.tried.push(worker.id);
        let beside = if answered { Vec::new() } else { shared.fleet.ranks_beside(worker) };
        for id in beside.iter().map(|rank| rank.id).chain([worker.id]) {
            if !self.avoided.contains(&id) {
                self.avoided.push(id);
            }
        }
        journey.record().attempts < shared.config.retry.max_attempts
    }

    /// There is nobody left to try: the round is over, and this is the pause before the next; `None` if it would be for
    /// nothing.
    pub fn next_round(&mut self, journey: &Journey, wanted: Wanted) -> Option<Duration> {
        let config = &journey.shared().config;
        if !journey.shared().fleet.is_anyone_available(wanted) {
            return None;
        }
        let pause = pause(&config.retry, config.policy_config.seed, journey.record().seq, self.rounds);
        // At its end the request would be over.
        if pause >= journey.deadline().saturating_duration_since(tokio::time::Instant::now()) {
            return None;
        }
        self.tried.clear();
        self.avoided.clear();
        self.rounds += 1;
        Some(pause)
    }
}

/// True for an answer that another attempt may better: the worker was too slow, too busy or not well.
pub fn is_retryable(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// True if the request may be carried out twice. A worker that died, or that answers 500, may have done what it was asked:
/// to generate or to embed once more costs time and nothing else, but an unknown `POST` may load weights, open a session or
/// pause a scheduler, and a second one of these is not the first one again. Such a request is repeated only as long as no
/// byte of it was written.
pub fn is_repeatable(call: &Call) -> bool {
    match call.asked.method {
        Method::GET | Method::HEAD => true,
        Method::POST => match call.endpoint {
            Endpoint::Generate
            | Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Responses
            | Endpoint::Embeddings
            | Endpoint::Rerank
            | Endpoint::Classify => true,
            Endpoint::Triton | Endpoint::Other => false,
        },
        _ => false,
    }
}

/// The pause after round `round` (from 0) of request `seq`: `initial · multiplier^round`, give or take the jitter, never more
/// than the longest.
fn pause(config: &RetryConfig, seed: u64, seq: u64, round: u32) -> Duration {
    let longest_s = config.max_backoff.as_secs_f64();
    let exponent = i32::try_from(round).unwrap_or(i32::MAX);
    let plain_s =
        (config.initial_backoff.as_secs_f64() * config.backoff_multiplier.powi(exponent)).min(longest_s);
    // A stream of random numbers for each request, of which each round takes one.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(seq);
    rng.set_word_pos(u128::from(round) * 2);
    let swing = 1.0 + config.jitter_factor * (2.0 * rng.random::<f64>() - 1.0);
    Duration::try_from_secs_f64((plain_s * swing).clamp(0.0, longest_s)).unwrap_or(config.max_backoff)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_as_sglang_routers_do() {
        let config = RetryConfig { jitter_factor: 0.0, ..RetryConfig::default() };
        let us = |round| pause(&config, 1, 1, round).as_micros();
        assert_eq!([0, 1, 2, 3].map(us), [50_000, 75_000, 112_500, 168_750]);
        assert_eq!(pause(&config, 1, 1, 400), config.max_backoff);
    }

    #[test]
    fn the_seed_and_the_request_decide_the_jitter() {
        let config = RetryConfig::default();
        let of = |seed, seq| [0, 1, 2].map(|round| pause(&config, seed, seq, round));
        assert_eq!(of(7, 3), of(7, 3));
        assert_ne!(of(7, 3), of(7, 4));
        assert_ne!(of(7, 3), of(8, 3));
    }

    proptest! {
        #[test]
        fn no_settings_make_a_pause_too_long_or_panic(
            initial_ms in 0u64..100_000, max_ms in 0u64..100_000, multiplier in prop::num::f64::ANY,
            jitter in 0.0f64..=1.0, seq: u64, round: u32, grows: bool,
        ) {
            let config = RetryConfig {
                max_attempts: 5,
                initial_backoff: Duration::from_millis(initial_ms),
                max_backoff: Duration::from_millis(max_ms),
                backoff_multiplier: if grows { multiplier } else { 1.0 },
                jitter_factor: jitter,
            };
            prop_assert!(pause(&config, 1, seq, round) <= config.max_backoff);
            if !grows && initial_ms <= max_ms {
                let least = config.initial_backoff.mul_f64(1.0 - jitter);
                prop_assert!(pause(&config, 1, seq, round) + Duration::from_nanos(1) >= least);
            }
        }
    }
}
