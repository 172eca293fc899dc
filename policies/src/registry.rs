//! The policies by name: what `--policy` takes.
//!
//! Rule: adding a policy is one file and one line in [`POLICIES`]. Deliberately not here: flags and their ranges, which the
//! router's configuration checks before anything is built.

use std::fmt;

use crate::bucket::Bucket;
use crate::cache_aware::{self, CacheAwareMode};
use crate::consistent_hashing::ConsistentHashing;
use crate::lowest_ttft::LowestTtft;
use crate::manual::Manual;
use crate::peak_ewma::PeakEwma;
use crate::policy::Policy;
use crate::power_of_two::PowerOfTwo;
use crate::prefix_hash::PrefixHash;
use crate::random::Random;
use crate::round_robin::RoundRobin;
use crate::shortest_queue::ShortestQueue;
use crate::weighted::{Weighted, Weights};

/// What policies are built from. The defaults are those of sglang-router 0.3.2's command line, and a seed of 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PolicyConfig {
    /// Seed of every random decision.
    pub seed: u64,
    /// `cache_aware`: a prefix counts as a hit when more than this part of the prompt matches, 0 to 1.
    pub cache_threshold: f64,
    /// `cache_aware`: the fleet may be imbalanced when most and fewest requests in flight differ by more than this ...
    pub balance_abs_threshold: u64,
    /// ... and is when the most is also more than this many times the fewest.
    pub balance_rel_threshold: f64,
    /// `cache_aware`: as sglang-router decides, or with its weaknesses mended.
    pub cache_aware_mode: CacheAwareMode,
    /// `manual`: who gets a routing key that nobody has.
    pub assignment_mode: AssignmentMode,
    /// `manual`: a key not seen for this long is forgotten, seconds; 0: never.
    pub max_idle_s: u64,
    /// `prefix_hash`: how much of the prompt's beginning is hashed, in tokens of four bytes of text; rounded down to whole
    /// blocks of [`crate::PromptHashes`], one at least.
    pub prefix_tokens: u32,
    /// `prefix_hash`: a worker with more than this many times the average load is passed over.
    pub prefix_load_factor: f64,
    /// `consistent_hashing`: a worker that would have more than this many times its share of the requests in flight is passed
    /// over, 1 or more; 0: load does not matter.
    pub consistent_load_factor: f64,
    /// `bucket`: time between two adjustments of the length limits, seconds.
    pub bucket_adjust_interval_s: u64,
    /// `weighted`: what counts, and how much.
    pub weights: Weights,
}

/// `manual`: who gets a routing key that nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssignmentMode {
    /// Any worker, each as likely as the others.
    #[default]
    Random,
    /// The worker with the fewest requests in flight.
    MinLoad,
    /// The worker with the fewest keys.
    MinGroup,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            cache_threshold: 0.3,
            balance_abs_threshold: 64,
            balance_rel_threshold: 1.5,
            cache_aware_mode: CacheAwareMode::Faithful,
            assignment_mode: AssignmentMode::Random,
            max_idle_s: 4 * 60 * 60,
            // smg's, and below sglang-router's.
            prefix_tokens: 256,
            prefix_load_factor: 1.25,
            consistent_load_factor: 0.0,
            bucket_adjust_interval_s: 5,
            weights: Weights::default(),
        }
    }
}

/// One policy that can be asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct PolicySpec {
    /// The name; [`Policy::name`] says the same.
    pub name: &'static str,
    /// What it does, in one line of help.
    pub about: &'static str,
    /// Makes one.
    pub build: fn(&PolicyConfig) -> Box<dyn Policy>,
}

/// Every policy built in, in the order in which help lists them.
pub const POLICIES: &[PolicySpec] = &[
    cache_aware::SPEC,
    cache_aware::IMPROVED,
    RoundRobin::SPEC,
    Random::SPEC,
    ShortestQueue::SPEC,
    PowerOfTwo::SPEC,
    PeakEwma::SPEC,
    Manual::SPEC,
    ConsistentHashing::SPEC,
    PrefixHash::SPEC,
    Bucket::SPEC,
    LowestTtft::SPEC,
    Weighted::SPEC,
];

/// The built-in policy called `name`.
pub fn build(name: &str, config: &PolicyConfig) -> Result<Box<dyn Policy>, UnknownPolicy> {
    build_from(POLICIES, name, config)
}

/// The policy called `name` in `specs`; for a list that holds more than [`POLICIES`].
pub fn build_from(
    specs: &[PolicySpec],
    name: &str,
    config: &PolicyConfig,
) -> Result<Box<dyn Policy>, UnknownPolicy> {
    match specs.iter().find(|spec| spec.name == name) {
        Some(spec) => Ok((spec.build)(config)),
        None => Err(UnknownPolicy::new(name, specs)),
    }
}

/// No policy has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy {
    name: String,
    known: Vec<&'static str>,
    nearest: Option<&'static str>,
}

impl UnknownPolicy {
    fn new(name: &str, specs: &[PolicySpec]) -> Self {
        // What was typed is quoted back, so not without limit.
        let name: String = name.chars().take(64).collect();
        let known: Vec<_> = specs.iter().map(|spec| spec.name).collect();
        let nearest = nearest(&name, &known);
        Self { name, known, nearest }
    }

    /// The name asked for, cut at 64 characters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The names there are.
    pub fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// The name that was probably meant.
    pub fn nearest(&self) -> Option<&'static str> {
        self.nearest
    }
}

/// Longest part of an unknown name that is quoted back.
const MAX_QUOTED_CHARS: usize = 64;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As much as anybody needs to find it again.
        let shown: String = self.name.chars().take(MAX_QUOTED_CHARS).collect();
        write!(f, "unknown policy {shown:?}")?;
        if let Some(nearest) = self.nearest {
            write!(f, "; did you mean {nearest}?")?;
        }
        write!(f, " (one of: {})", self.known.join(", "))
    }
}

impl std::error::Error for UnknownPolicy {}

/// The one of `known` that was probably meant by `typed`.
pub(crate) fn nearest(typed: &str, known: &[&'static str]) -> Option<&'static str> {
    let typed: String = typed.chars().take(MAX_QUOTED_CHARS).collect();
    let typed = typed.to_lowercase().replace('-', "_");
    let begun = known.iter().copied().find(|known| typed.len() >= 3 && known.starts_with(&typed));
    let by_distance = known.iter().map(|&known| (edit_distance(&typed, known), known));
    let nearest = by_distance.min_by_key(|&(distance, _)| distance);
    nearest.filter(|&(distance, known)| distance * 3 <= known.len()).map(|(_, known)| known).or(begun)
}

/// Levenshtein distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_built_under_its_own_name_and_names_are_unique() {
        for spec in POLICIES {
            let built = build(spec.name, &PolicyConfig::default()).expect("listed");
            assert_eq!(built.name(), spec.name);
            assert_eq!(POLICIES.iter().filter(|other| other.name == spec.name).count(), 1);
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_router_replaced() {
        let config = PolicyConfig::default();
        assert!((config.cache_threshold - 0.3).abs() < f64::EPSILON);
        assert_eq!(config.balance_abs_threshold, 64);
        assert!((config.balance_rel_threshold - 1.5).abs() < f64::EPSILON);
    }

    fn error(name: &str) -> String {
        match build(name, &PolicyConfig::default()) {
            Ok(policy) => panic!("{name:?} built {}", policy.name()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_and_all() {
        let all = "(one of: cache_aware, cache_aware_improved, round_robin, random, shortest_queue, power_of_two, \
            peak_ewma, manual, consistent_hashing, prefix_hash, bucket, lowest_ttft, weighted)";
        assert_eq!(
            error("cache-awre"),
            format!("unknown policy \"cache-awre\"; did you mean cache_aware? {all}")
        );
        assert_eq!(
            error("Round_Robin"),
            format!("unknown policy \"Round_Robin\"; did you mean round_robin? {all}")
        );
        assert_eq!(error("zzz"), format!("unknown policy \"zzz\" {all}"));
        assert!(error(&"x".repeat(1_000_000)).len() < 300);
    }

    #[test]
    fn edit_distances() {
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("random", "random"), 0);
    }
}
