//! The journal of decisions (`--trace-decisions journal`): every call into the core that decides, as trace records.
//!
//! Rule: what stands here, given to the same code again, gives the same decisions; so every argument is whole, numbers read
//! back as they were, and a call that was lost is seen by its missing number. No prompt text and no key: hashes alone. The doc
//! comment of a field is its schema, as in `record`. Deliberately not here: the policies' own types (`convert` turns them into
//! these and back), the order in which the lines stand in the file (`order`).

mod convert;
pub mod order;
mod packed;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::convert::{Answer, Prompts, Unreadable};
pub use self::packed::PackedHashes;

/// One call into the core that decides which worker gets a request. Exactly one of its last members is there: the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// Number of the call, from 0, in the order in which the calls were made; lines may stand in another order. A number that
    /// is nowhere is a call that was lost.
    pub n: u64,
    /// The time that the call was told, microseconds of the router's `CLOCK_MONOTONIC`.
    pub now_us: u64,
    /// The call.
    #[serde(flatten)]
    pub call: JournalCall,
}

/// A call, by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalCall {
    /// The core was made; always number 0.
    Start(Box<StartCall>),
    /// A policy was added; the configured one is the first.
    Policy(Box<PolicyCall>),
    /// A worker joined.
    Join(Box<JoinCall>),
    /// An operator says something else of a worker.
    Describe(Box<DescribeCall>),
    /// A worker left.
    Leave(LeaveCall),
    /// Something happened to a request or a worker.
    Event(Box<EventCall>),
    /// A worker was chosen, or none.
    Choice(Box<ChoiceCall>),
}

/// What the core was made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StartCall {
    /// Most memory that the prefix index may take, in bytes.
    pub index_bytes: u64,
    /// Most text that a worker is believed to hold, in bytes (`--max-tree-size`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_prefix_bytes: Option<u64>,
    /// How long what a server said of its load counts, in microseconds.
    pub load_lasts_us: u64,
}

/// A policy, and what it was built from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyCall {
    /// Its number among the policies, from 0; one that came before with the same number is replaced.
    pub policy: u32,
    /// Its name.
    pub name: String,
    /// Settings of the policies, the seed included.
    pub config: ConfigValues,
}

/// The policies' settings; one that is absent has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigValues {
    /// Value of `--seed`.
    pub seed: u64,
    /// Value of `--cache-threshold`.
    pub cache_threshold: f64,
    /// Value of `--balance-abs-threshold`.
    pub balance_abs_threshold: u64,
    /// Value of `--balance-rel-threshold`.
    pub balance_rel_threshold: f64,
    /// Value of `--cache-aware-mode`.
    pub cache_aware_mode: Cow<'static, str>,
    /// Value of `--assignment-mode`.
    pub assignment_mode: Cow<'static, str>,
    /// Value of `--max-idle-secs`.
    pub max_idle_s: u64,
    /// Value of `--prefix-token-count`.
    pub prefix_tokens: u32,
    /// Value of `--prefix-hash-load-factor`.
    pub prefix_load_factor: f64,
    /// Value of `--consistent-hash-load-factor`.
    pub consistent_load_factor: f64,
    /// Value of `--bucket-adjust-interval-secs`.
    pub bucket_adjust_interval_s: u64,
}

/// A worker that joined.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JoinCall {
    /// Its slot: the number by which the other calls name it, until it leaves.
    pub slot: u32,
    /// Its URL.
    pub worker: Arc<str>,
    /// Hash of its URL.
    pub url_hash: u64,
    /// Its priority.
    pub priority: u32,
}

/// What an operator says of a worker, in place of what was said before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeCall {
    /// Its slot.
    pub slot: u32,
    /// Its priority.
    pub priority: u32,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A worker that left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveCall {
    /// Its slot.
    pub slot: u32,
}

/// What happened to a request or a worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EventCall {
    /// `first_token`, `ended`, `loaded` (the server said how loaded it is), `load_unknown` (it did not, though asked),
    /// `cache_emptied`.
    pub event: Cow<'static, str>,
    /// The worker's slot.
    pub slot: u32,
    /// The request's `seq`; absent where the event is about a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// `first_token`: router send to first token, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_us: Option<u64>,
    /// `ended`: router send to the end, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// `ended`: the whole answer came and is no error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// `ended`: prompt tokens by the server's count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// `ended`: generated tokens by the server's count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// `ended`: prompt tokens that the server took from its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
    /// `loaded`: requests in its waiting queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u32>,
    /// `loaded`: requests in its running batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// `loaded`: part of its KV cache in use, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_usage: Option<f64>,
    /// `loaded`: generated tokens a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_tokens_per_s: Option<f64>,
    /// `loaded`: largest batch that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_requests: Option<u32>,
}

/// A choice: what was asked, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChoiceCall {
    /// Number of the policy that chose.
    pub policy: u32,
    /// The request's `seq`.
    pub seq: u64,
    /// Attempts of the request that had failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Chained block hashes of the routing text: 16 hexadecimal digits each, the first block first. Absent where no policy
    /// needed them, or there is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashes: Option<PackedHashes>,
    /// How much of the text was hashed, in bytes from its beginning; absent without `hashes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hashed_bytes: Option<u64>,
    /// Length of the routing text, in bytes.
    pub prompt_bytes: u64,
    /// The same of what the engine sees of the prompt, all of it; absent where that is the routing text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_hashes: Option<PackedHashes>,
    /// Length of what the engine sees of the prompt, in bytes; absent without `engine_hashes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_bytes: Option<u64>,
    /// What the engine sees are token ids, of four bytes each.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_counted: bool,
    /// The answer holds several sequences.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_multiple: bool,
    /// Tokens of the prompt, counted or estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Output tokens asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u64>,
    /// The client asked for a stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// The body's `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Hash of the client's routing key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key_hash: Option<u64>,
    /// Hash of who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_hash: Option<u64>,
    /// `X-SMG-Target-Worker`: place of the worker asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// Who could take it: two numbers each, the place among all workers, and the requests in flight there through this router.
    pub eligible: Vec<u32>,
    /// Place of the worker chosen among all workers; absent where the policy chose none of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<u32>,
    /// The policy's reason.
    pub reason: Cow<'static, str>,
    /// Hash of all scores, in order; absent where the policy gave none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores_hash: Option<u64>,
}

/// Most hashes of one call: a line of the trace is read up to a length. They are those of 15 MB of text.
pub const MAX_HASHES: usize = 57_344;

impl JournalRecord {
    /// Memory that it takes until it is written, in bytes.
    pub fn held_bytes(&self) -> usize {
        let behind = match &self.call {
            JournalCall::Start(_) => size_of::<StartCall>(),
            JournalCall::Policy(call) => size_of::<PolicyCall>() + call.name.len(),
            JournalCall::Join(call) => size_of::<JoinCall>() + call.worker.len(),
            JournalCall::Describe(call) => {
                let labels = call.labels.iter().map(|(name, value)| 64 + name.len() + value.len());
                size_of::<DescribeCall>() + labels.sum::<usize>()
            }
            JournalCall::Leave(_) => 0,
            JournalCall::Event(_) => size_of::<EventCall>(),
            JournalCall::Choice(call) => {
                let model_bytes = call.model.as_ref().map_or(0, String::len);
                size_of::<ChoiceCall>() + 8 * call.hash_count() + 4 * call.eligible.len() + model_bytes
            }
        };
        size_of::<Self>() + behind
    }

    /// Its line is one that readers read.
    pub fn fits_a_line(&self) -> bool {
        !matches!(&self.call, JournalCall::Choice(call) if call.hash_count() > MAX_HASHES)
    }
}

impl ChoiceCall {
    /// Hashes of its prompt.
    pub fn hash_count(&self) -> usize {
        [&self.hashes, &self.engine_hashes].into_iter().flatten().map(|hashes| hashes.as_slice().len()).sum()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests;
