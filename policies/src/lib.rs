//! Routing policies of milepost: given a request and the workers that may take it, which one, and why.
//!
//! Rule: pure decisions. No tokio, no clock, no I/O, no locks; the same seed, config and calls give the same decisions, so that
//! a trace can be replayed. A policy of one's own is one file and one line in [`POLICIES`]: see this crate's `README.md`.
//! Deliberately not here: the fleet, health, retries, leases, and the flags that choose a policy.
//!
//! | module | what it is |
//! |---|---|
//! | [`view`] | what a policy sees |
//! | [`decision`] | what it says |
//! | [`policy`] | the trait between the two, and what a policy is told afterwards |
//! | [`chooser`] | a decision as one pure step, with all that it stands on |
//! | [`ledger`] | what is counted and learned of each worker |
//! | [`prefix`] | which worker was sent which prompt prefix |
//! | [`beliefs`] | what the workers are believed to hold, corrected by their answers |
//! | [`registry`] | policies by name |
//! | [`cache_aware`], [`round_robin`], [`random`], [`shortest_queue`], [`power_of_two`], [`peak_ewma`] | one policy each |
//! | [`manual`], [`consistent_hashing`], [`prefix_hash`], [`bucket`], [`lowest_ttft`], [`weighted`] | one policy each |
//! | [`script`] | a policy that a user writes |
//! | `ring`, `load_bound`, `sticky`, `slab`, [`hash`], `prefill_work` | what some of them are made of |

pub mod beliefs;
pub mod bucket;
pub mod cache_aware;
pub mod chooser;
pub mod consistent_hashing;
pub mod decision;
pub mod hash;
pub mod ledger;
mod load_bound;
pub mod lowest_ttft;
pub mod manual;
pub mod peak_ewma;
pub mod policy;
pub mod power_of_two;
mod prefill_work;
pub mod prefix;
pub mod prefix_hash;
pub mod random;
pub mod registry;
mod ring;
pub mod round_robin;
pub mod script;
pub mod shortest_queue;
mod slab;
mod sticky;
#[cfg(test)]
mod testing;
pub mod view;
pub mod weighted;

pub use beliefs::{Beliefs, Corrections};
pub use cache_aware::CacheAwareMode;
pub use chooser::{Chooser, Eligible, Joining, PolicyId};
pub use decision::{Decision, MAX_PARTS, Standing};
pub use hash::{PieceHash, name_hash, salted_hash};
pub use policy::{Event, Needs, Policy, ServerLoad};
pub use prefix::{PrefixIndex, PromptHashes};
pub use registry::{AssignmentMode, POLICIES, PolicyConfig, PolicySpec, UnknownPolicy, build, build_from};
pub use script::{CompiledScript, Script, ScriptError};
pub use view::{Labels, RequestView, Time, WorkerId, WorkerView, Workers};
pub use weighted::{Weights, WeightsError};

/// Compiles and runs the code in `README.md`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
