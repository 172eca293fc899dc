//! `cache_aware`: the worker that was sent most of this prompt before, unless it has too much to do.
//!
//! Rule: two modes under one name, chosen by `--cache-aware-mode` and never mixed, so that a comparison has a baseline:
//! [`Faithful`] decides as sglang-router 0.3.2 does, with its weaknesses; [`Improved`] mends them. Deliberately not here: the
//! index, which is the router's and is told of the worker chosen, in every branch of both.

mod faithful;
mod improved;

pub use faithful::Faithful;
pub use improved::Improved;

use crate::registry::PolicySpec;
use crate::view::WorkerView;

/// Which of the two decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheAwareMode {
    /// As sglang-router 0.3.2.
    #[default]
    Faithful,
    /// With its known weaknesses mended.
    Improved,
}

/// How the registry knows both.
pub const SPEC: PolicySpec = PolicySpec {
    name: "cache_aware",
    about: "the worker that was sent most of this prompt before, unless the fleet is imbalanced",
    build: |config| match config.cache_aware_mode {
        CacheAwareMode::Faithful => Box::new(Faithful::new(config)),
        CacheAwareMode::Improved => Box::new(Improved::new(config)),
    },
};

/// A worker about which nothing is known holds nothing.
fn matched_bytes(worker: &WorkerView) -> u64 {
    worker.prefix_match_bytes.unwrap_or(0)
}
