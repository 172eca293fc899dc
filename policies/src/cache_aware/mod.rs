//! `cache_aware`: the worker that was sent most of this prompt before, unless it has too much to do.
//!
//! Rule: two modes, chosen by `--cache-aware-mode` and never mixed, so that a comparison has a baseline: [`Faithful`] decides as
//! sglang-router 0.3.2 does, with its weaknesses; [`Improved`] mends them. The improved one has a name of its own too, so that
//! both can run in one router and a trace says which decided. Deliberately not here: the index, which is the router's and is
//! told of the worker chosen, in every branch of both.

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

/// How the registry knows the mode that is set.
pub const SPEC: PolicySpec = PolicySpec {
    name: "cache_aware",
    about: "the worker that was sent most of this prompt before, unless the fleet is imbalanced",
    build: |config| match config.cache_aware_mode {
        CacheAwareMode::Faithful => Box::new(Faithful::new(config)),
        CacheAwareMode::Improved => Box::new(Improved::new(SPEC.name, config)),
    },
};

/// How the registry knows the improved mode, whichever is set.
pub const IMPROVED: PolicySpec = PolicySpec {
    name: "cache_aware_improved",
    about: "of the workers that have room, the one that was sent most of this prompt before",
    build: |config| Box::new(Improved::new(IMPROVED.name, config)),
};

/// A worker about which nothing is known holds nothing.
fn matched_bytes(worker: &WorkerView) -> u64 {
    worker.prefix_match_bytes.unwrap_or(0)
}
