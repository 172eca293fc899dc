//! `power_of_two` of sglang-router 0.3.2: of two workers drawn at random the one with fewer tokens at its server, as polled.
//!
//! Rule: the polls are every 30 s ([`POLL_INTERVAL_US`]), so what is compared is that old; one that failed is remembered as −1
//! and wins. Without both values the router compares the requests in flight that it does not count for this policy, zero and
//! zero. A tie goes to the first drawn. Deliberately not here: the asking; whoever runs the port tells it what a poll gave.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Choice, Tenant, Worker};

/// Time between two polls of all servers (`--worker-startup-check-interval`).
pub const POLL_INTERVAL_US: u64 = 30_000_000;

/// See the module.
#[derive(Debug)]
pub struct PowerOfTwo {
    rng: ChaCha8Rng,
    polled: BTreeMap<Tenant, i64>,
}

impl PowerOfTwo {
    /// The policy with this seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), polled: BTreeMap::new() }
    }

    /// A poll of `/get_load` gave so many tokens; `None`: it failed.
    pub fn polled(&mut self, url: Tenant, tokens: Option<i64>) {
        self.polled.insert(url, tokens.unwrap_or(-1));
    }

    pub(super) fn forget(&mut self, url: Tenant) {
        self.polled.remove(&url);
    }

    pub(super) fn choose(&mut self, workers: &[Worker], available: &[usize]) -> Choice {
        let branch = "fewer_of_two";
        if let [index] = *available {
            return Choice { index, branch };
        }
        let first = self.rng.random_range(0..available.len() as u64) as usize;
        let second = self.rng.random_range(0..available.len() as u64 - 1) as usize;
        let second = second + usize::from(second >= first);
        let (first, second) = (available[first], available[second]);
        let polled = |index: usize| self.polled.get(&workers[index].url);
        let second_is_better = polled(first).zip(polled(second)).is_some_and(|(a, b)| b < a);
        Choice { index: if second_is_better { second } else { first }, branch }
    }
}
