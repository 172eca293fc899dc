//! A port of three policies of sglang-router 0.3.2, by what they do: `cache_aware`, `round_robin`, `power_of_two`.
//!
//! Rule: what it decides, it decides as that router does, weaknesses included, so that figures have it as a baseline and
//! `tests/faithful.rs` holds our own `cache_aware` to it; nothing here is used by the router. It keeps its own tree of
//! characters and is single-threaded. Where that router leaves something to chance (the order of its workers, which holder an
//! iteration finds first) the port takes the first in the list, and where it draws, it draws seeded.
//! Deliberately not here: health, breakers and retries (a worker is available or not), models (one tree), and sglang-router's code.

#![allow(dead_code, unused_imports, reason = "included by benches and tests, each of which uses a part")]

mod adapter;
mod cache_aware;
mod power_of_two;
mod tree;

pub use adapter::{Ported, Told};
pub use cache_aware::{CacheAware, Thresholds};
pub use power_of_two::{POLL_INTERVAL_US, PowerOfTwo};
pub use tree::{Tenant, Tree};

use milepost_policies::Time;

/// A worker as that router sees it.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// Stands for its URL.
    pub url: Tenant,
    /// Requests in flight through the router. It counts them for `cache_aware` alone; the others do not look.
    pub load: u64,
    /// Healthy, and its breaker admits a request.
    pub available: bool,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index among all workers that were shown.
    pub index: usize,
    /// Why: `imbalanced`, `prefix_hit` and `prefix_miss` as in our `cache_aware`; `holder_gone` where the holder found is not
    /// available, and everything known about it was wiped; `turn`, `fewer_of_two`.
    pub branch: &'static str,
}

/// One of its policies.
#[derive(Debug)]
pub enum Port032 {
    /// `--policy cache_aware`.
    CacheAware(CacheAware),
    /// `--policy round_robin`: a counter modulo those available.
    RoundRobin {
        /// Choices made.
        chosen: usize,
    },
    /// `--policy power_of_two`.
    PowerOfTwo(Box<PowerOfTwo>),
}

impl Port032 {
    /// Names of what is ported.
    pub const NAMES: [&'static str; 3] = ["cache_aware", "round_robin", "power_of_two"];

    /// The policy of that name, one of [`Port032::NAMES`].
    pub fn named(name: &str, seed: u64, thresholds: Thresholds) -> Option<Self> {
        match name {
            "cache_aware" => Some(Self::CacheAware(CacheAware::new(thresholds))),
            "round_robin" => Some(Self::RoundRobin { chosen: 0 }),
            "power_of_two" => Some(Self::PowerOfTwo(Box::new(PowerOfTwo::new(seed)))),
            _ => None,
        }
    }

    /// Chooses a worker for a request with this routing text (empty if it has none) and remembers the choice; `None` if nobody
    /// is available. Time only goes on.
    pub fn choose(&mut self, now: Time, text: &str, workers: &[Worker]) -> Option<Choice> {
        let available: Vec<usize> = (0..workers.len()).filter(|&index| workers[index].available).collect();
        if available.is_empty() {
            return None;
        }
        Some(match self {
            Self::CacheAware(policy) => policy.choose(now, text, workers, &available),
            Self::RoundRobin { chosen } => {
                let index = available[*chosen % available.len()];
                *chosen = chosen.wrapping_add(1);
                Choice { index, branch: "turn" }
            }
            Self::PowerOfTwo(policy) => policy.choose(workers, &available),
        })
    }

    /// A worker was removed from the fleet.
    pub fn left(&mut self, url: Tenant) {
        match self {
            Self::CacheAware(policy) => policy.tree.remove_tenant(url),
            Self::PowerOfTwo(policy) => policy.forget(url),
            Self::RoundRobin { .. } => {}
        }
    }
}
