//! Flags: the policy and its settings.
//!
//! Deliberately not here: the policies' names; the registry of the policies has them.

use super::flag::{Flag, Group, Origin, Value};
use super::fleet::COUNT;

/// A number that may be large and not negative.
const RATIO: Value = Value::Number(0.0, f64::MAX);
const INDEX_IS_BOUNDED: &str = "the prefix index is bounded at every insert, to 512 MiB";

/// `--policy`.
pub const POLICY: Flag = Flag::one("policy", "NAME[:FILE]", "Who gets a request").or("cache_aware");
/// `--split`.
pub const SPLIT: Flag = Flag::one(
    "split",
    "POLICY=WEIGHT,...",
    "Assign each session to one of these policies instead of --policy, in these proportions; record and metrics say which",
)
.with_origin(Origin::Milepost);
/// `--shadow-policy`.
pub const SHADOW_POLICY: Flag = Flag::one(
    "shadow-policy",
    "NAME,...",
    "Record what these policies would have chosen from the same view, found out after the request has left",
)
.with_origin(Origin::Milepost);
/// `--allow-policy-header`.
pub const ALLOW_POLICY_HEADER: Flag =
    Flag::switch("allow-policy-header", "A client may name the policy of its request in x-milepost-policy")
        .with_origin(Origin::Milepost);
/// `--seed`.
pub const SEED: Flag = Flag::one("seed", "N", "Seed of every random decision")
    .of(Value::Integer(0, u64::MAX as i128))
    .or("1")
    .with_origin(Origin::Milepost);
/// `--cache-threshold`.
pub const CACHE_THRESHOLD: Flag = Flag::one(
    "cache-threshold",
    "SHARE",
    "cache_aware: share of the prompt that must match a worker's prefix (strictly more than this)",
)
.of(Value::Number(0.0, 1.0))
.or("0.3")
.also(&["cache-match-threshold"]);
/// `--balance-abs-threshold`.
pub const BALANCE_ABS: Flag = Flag::one(
    "balance-abs-threshold",
    "REQUESTS",
    "cache_aware: imbalanced, if most - fewest in flight exceeds this and --balance-rel-threshold is exceeded too (bucket: bytes sent)",
)
.of(Value::at_least(0))
.or("64")
.also(&["spill-abs-threshold"]);
/// `--balance-rel-threshold`.
pub const BALANCE_REL: Flag = Flag::one(
    "balance-rel-threshold",
    "RATIO",
    "cache_aware, bucket: imbalanced, if the most exceeds the fewest times this, and see --balance-abs-threshold",
)
.of(RATIO)
.or("1.5")
.also(&["spill-rel-threshold"]);
/// `--cache-aware-mode`.
pub const CACHE_AWARE_MODE: Flag = Flag::one(
    "cache-aware-mode",
    "MODE",
    "cache_aware: faithful decides as sglang-router does, improved shares a hot prefix and keeps its holders when loads differ",
)
.of(Value::Word(&["faithful", "improved"]))
.or("faithful")
.with_origin(Origin::Milepost);
/// `--assignment-mode`.
pub const ASSIGNMENT_MODE: Flag =
    Flag::one("assignment-mode", "MODE", "manual: who gets a routing key that nobody has")
        .of(Value::Word(&["random", "min_load", "min_group"]))
        .or("random");
/// `--max-idle-secs`.
pub const MAX_IDLE: Flag =
    Flag::one("max-idle-secs", "SECS", "manual: a key not seen for this long is forgotten")
        .of(Value::at_least(1))
        .or("14400");
/// `--prefix-token-count`.
pub const PREFIX_TOKENS: Flag = Flag::one(
    "prefix-token-count",
    "TOKENS",
    "prefix_hash: how much of the prompt's beginning is hashed, four bytes of text a token",
)
.of(COUNT)
.or("256")
.with_origin(Origin::Smg);
/// `--prefix-hash-load-factor`.
pub const PREFIX_LOAD_FACTOR: Flag = Flag::one(
    "prefix-hash-load-factor",
    "RATIO",
    "prefix_hash: a worker with more than this many times the average load is passed over",
)
.of(Value::Number(1.0, f64::MAX))
.or("1.25")
.with_origin(Origin::Smg);
/// `--consistent-hash-load-factor`.
pub const CONSISTENT_LOAD_FACTOR: Flag = Flag::one(
    "consistent-hash-load-factor",
    "RATIO",
    "consistent_hashing: a worker that would have more than this many times its share is passed over, 1 or more; 0: never",
)
.of(RATIO)
.or("0")
.with_origin(Origin::Milepost);
/// `--bucket-adjust-interval-secs`.
pub const BUCKET_INTERVAL: Flag = Flag::one(
    "bucket-adjust-interval-secs",
    "SECS",
    "bucket: time between two adjustments of the length limits",
)
.of(Value::at_least(1))
.or("5");

/// `--max-tree-size`.
pub const MAX_TREE_SIZE: Flag = Flag::one(
    "max-tree-size",
    "CHARS",
    "Most text remembered for a worker, in bytes of UTF-8, the oldest goes first; not given, all workers together have 512 MiB of index",
)
.of(Value::at_least(0))
.or("67108864");

/// The policy.
pub const ROUTING: Group = Group {
    heading: "Routing",
    flags: &[
        POLICY,
        SPLIT,
        SHADOW_POLICY,
        ALLOW_POLICY_HEADER,
        SEED,
        CACHE_THRESHOLD,
        BALANCE_ABS,
        BALANCE_REL,
        CACHE_AWARE_MODE,
        ASSIGNMENT_MODE,
        MAX_IDLE,
        PREFIX_TOKENS,
        PREFIX_LOAD_FACTOR,
        CONSISTENT_LOAD_FACTOR,
        BUCKET_INTERVAL,
        MAX_TREE_SIZE,
        Flag::one("eviction-interval-secs", "SECS", "Pause between two evictions of remembered prompts")
            .of(Value::any_integer())
            .or("60")
            .ignored(INDEX_IS_BOUNDED),
    ],
};
