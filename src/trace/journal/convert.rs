//! Between the calls of a journal and the policies' own types.
//!
//! Rule: there and back is the same value, and a field that is added to the one side does not compile before it is in the
//! other. What a file says that no router wrote is an error with the member's name, never a guess. Deliberately not here: who
//! makes the calls, live (`fleet`) or again (`replay`).

use std::borrow::Cow;
use std::fmt;

use milepost_policies::{
    AssignmentMode, CacheAwareMode, Decision, Eligible, Event, Joining, PolicyConfig, PromptHashes,
    RequestView, ServerLoad, WorkerId,
};

use super::{ChoiceCall, ConfigValues, EventCall, JoinCall, PackedHashes};

/// A call that no router makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The member.
    pub member: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.member, self.why)
    }
}

impl std::error::Error for Unreadable {}

fn unreadable<T>(member: &'static str, why: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable { member, why: why.into() })
}

/// The words of `--assignment-mode`.
const ASSIGNMENT_MODES: [(&str, AssignmentMode); 3] = [
    ("random", AssignmentMode::Random),
    ("min_load", AssignmentMode::MinLoad),
    ("min_group", AssignmentMode::MinGroup),
];

/// The words of `--cache-aware-mode`.
const CACHE_AWARE_MODES: [(&str, CacheAwareMode); 2] =
    [("faithful", CacheAwareMode::Faithful), ("improved", CacheAwareMode::Improved)];

/// The word for a value, of those that there are.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> Cow<'static, str> {
    words.iter().find(|(_, other)| other == value).map_or("", |(word, _)| word).into()
}

/// The value that a word stands for.
fn meant<T: Copy>(member: &'static str, words: &[(&str, T)], found: &str) -> Result<T, Unreadable> {
    match words.iter().find(|(word, _)| *word == found) {
        Some((_, value)) => Ok(*value),
        None => unreadable(member, format!("unknown: {found:?}")),
    }
}

impl Default for ConfigValues {
    fn default() -> Self {
        (&PolicyConfig::default()).into()
    }
}

impl From<&PolicyConfig> for ConfigValues {
    fn from(config: &PolicyConfig) -> Self {
        let &PolicyConfig {
            seed,
            cache_threshold,
            balance_abs_threshold,
            balance_rel_threshold,
            cache_aware_mode,
            assignment_mode,
            max_idle_s,
            prefix_tokens,
            prefix_load_factor,
            consistent_load_factor,
            bucket_adjust_interval_s,
            // A policy with weights from a file has a name that no replay can build.
            weights: _,
        } = config;
        Self {
            seed,
            cache_threshold,
            balance_abs_threshold,
            balance_rel_threshold,
            cache_aware_mode: word(&CACHE_AWARE_MODES, &cache_aware_mode),
            assignment_mode: word(&ASSIGNMENT_MODES, &assignment_mode),
            max_idle_s,
            prefix_tokens,
            prefix_load_factor,
            consistent_load_factor,
            bucket_adjust_interval_s,
        }
    }
}

impl TryFrom<&ConfigValues> for PolicyConfig {
    type Error = Unreadable;

    fn try_from(values: &ConfigValues) -> Result<Self, Unreadable> {
        Ok(Self {
            seed: values.seed,
            cache_threshold: values.cache_threshold,
            balance_abs_threshold: values.balance_abs_threshold,
            balance_rel_threshold: values.balance_rel_threshold,
            cache_aware_mode: meant("cache_aware_mode", &CACHE_AWARE_MODES, &values.cache_aware_mode)?,
            assignment_mode: meant("assignment_mode", &ASSIGNMENT_MODES, &values.assignment_mode)?,
            max_idle_s: values.max_idle_s,
            prefix_tokens: values.prefix_tokens,
            prefix_load_factor: values.prefix_load_factor,
            consistent_load_factor: values.consistent_load_factor,
            bucket_adjust_interval_s: values.bucket_adjust_interval_s,
            ..Self::default()
        })
    }
}

impl From<&JoinCall> for Joining {
    fn from(call: &JoinCall) -> Self {
        Self { id: WorkerId(call.slot), url_hash: call.url_hash, priority: call.priority }
    }
}

impl From<&Event> for EventCall {
    fn from(event: &Event) -> Self {
        let of = |name: &'static str, WorkerId(slot): WorkerId, seq: Option<u64>| Self {
            event: Cow::Borrowed(name),
            slot,
            seq,
            ..Self::default()
        };
        match *event {
            Event::Routed { seq, worker } => of("routed", worker, Some(seq)),
            Event::FirstToken { seq, worker, ttft_us } => {
                Self { ttft_us: Some(ttft_us), ..of("first_token", worker, Some(seq)) }
            }
            Event::Ended { seq, worker, latency_us, ok, prompt_tokens, completion_tokens, cached_tokens } => {
                Self {
                    latency_us: Some(latency_us),
                    ok: Some(ok),
                    prompt_tokens,
                    completion_tokens,
                    cached_tokens,
                    ..of("ended", worker, Some(seq))
                }
            }
            Event::Loaded { worker, load } => {
                let ServerLoad {
                    queue_depth,
                    running,
                    kv_usage,
                    throughput_tokens_per_s,
                    max_running_requests,
                } = load;
                Self {
                    queue_depth,
                    running,
                    kv_usage,
                    throughput_tokens_per_s,
                    max_running_requests,
                    ..of("loaded", worker, None)
                }
            }
            Event::LoadUnknown { worker } => of("load_unknown", worker, None),
            Event::CacheEmptied { worker } => of("cache_emptied", worker, None),
            Event::Joined { worker } => of("joined", worker, None),
            Event::Left { worker } => of("left", worker, None),
        }
    }
}

impl TryFrom<&EventCall> for Event {
    type Error = Unreadable;

    fn try_from(call: &EventCall) -> Result<Self, Unreadable> {
        let worker = WorkerId(call.slot);
        let number = |member: &'static str, value: Option<u64>| match value {
            Some(value) => Ok(value),
            None => unreadable(member, format!("missing in {:?}", call.event)),
        };
        let seq = || number("seq", call.seq);
        Ok(match &*call.event {
            "routed" => Self::Routed { seq: seq()?, worker },
            "first_token" => {
                Self::FirstToken { seq: seq()?, worker, ttft_us: number("ttft_us", call.ttft_us)? }
            }
            "ended" => Self::Ended {
                seq: seq()?,
                worker,
                latency_us: number("latency_us", call.latency_us)?,
                ok: call.ok.unwrap_or(false),
                prompt_tokens: call.prompt_tokens,
                completion_tokens: call.completion_tokens,
                cached_tokens: call.cached_tokens,
            },
            "loaded" => Self::Loaded {
                worker,
                load: ServerLoad {
                    queue_depth: call.queue_depth,
                    running: call.running,
                    kv_usage: call.kv_usage,
                    throughput_tokens_per_s: call.throughput_tokens_per_s,
                    max_running_requests: call.max_running_requests,
                },
            },
            "load_unknown" => Self::LoadUnknown { worker },
            "cache_emptied" => Self::CacheEmptied { worker },
            "joined" => Self::Joined { worker },
            "left" => Self::Left { worker },
            other => return unreadable("event", format!("unknown: {other:?}")),
        })
    }
}

impl ChoiceCall {
    /// What is asked, without what takes time to copy: that is [`ChoiceCall::complete`]'s.
    pub fn asked(policy: usize, request: &RequestView<'_>, eligible: &[Eligible]) -> Self {
        let &RequestView {
            seq,
            prompt: _,
            prompt_bytes,
            engine_prompt: _,
            is_counted,
            is_multiple,
            prompt_tokens,
            max_new_tokens,
            stream,
            model: _,
            routing_key: _,
            routing_key_hash: _,
            target,
            client_hash,
            attempts,
        } = request;
        Self {
            policy: policy as u32,
            seq,
            attempts,
            prompt_bytes,
            is_counted,
            is_multiple,
            prompt_tokens,
            max_new_tokens,
            stream,
            client_hash,
            target,
            eligible: eligible.iter().flat_map(|e| [e.position, e.in_flight_requests]).collect(),
            ..Self::default()
        }
    }

    /// Adds what the request has beside; done after the lock was given back.
    pub fn complete(&mut self, request: &RequestView<'_>) {
        self.hashes = request.prompt.map(|prompt| prompt.as_slice().into());
        self.hashed_bytes = request.prompt.map(PromptHashes::len_bytes);
        self.engine_hashes = request.engine_prompt.map(|prompt| prompt.as_slice().into());
        self.engine_bytes = request.engine_prompt.map(PromptHashes::len_bytes);
        self.model = request.model.map(str::to_owned);
        self.routing_key_hash = request.key_hash();
    }

    /// Adds what came of it: `chosen` is the index of the one chosen among the eligible.
    pub fn answered(&mut self, chosen: Option<usize>, decision: &Decision) {
        self.chosen = chosen.and_then(|index| self.eligible.get(2 * index).copied());
        self.reason = decision.reason().into();
        self.scores_hash = scores_hash(decision.scores());
    }

    /// Its prompt: the routing text, and what the engine sees where that is another one.
    pub fn prompts(&self) -> Result<Prompts, Unreadable> {
        Ok(Prompts {
            routing: prompt("hashes", self.hashes.as_ref(), self.hashed_bytes)?,
            engine: prompt("engine_hashes", self.engine_hashes.as_ref(), self.engine_bytes)?,
        })
    }

    /// What was asked, with the prompts from [`ChoiceCall::prompts`].
    pub fn request<'a>(&'a self, prompts: &'a Prompts) -> RequestView<'a> {
        RequestView {
            seq: self.seq,
            prompt: prompts.routing.as_ref(),
            prompt_bytes: self.prompt_bytes,
            engine_prompt: prompts.engine.as_ref(),
            is_counted: self.is_counted,
            is_multiple: self.is_multiple,
            prompt_tokens: self.prompt_tokens,
            max_new_tokens: self.max_new_tokens,
            stream: self.stream,
            model: self.model.as_deref(),
            routing_key: None,
            routing_key_hash: self.routing_key_hash,
            target: self.target,
            client_hash: self.client_hash,
            attempts: self.attempts,
        }
    }

    /// Who could take it.
    pub fn eligible(&self) -> Result<Vec<Eligible>, Unreadable> {
        let (pairs, rest) = self.eligible.as_chunks::<2>();
        if !rest.is_empty() {
            return unreadable("eligible", "expected two numbers for each worker");
        }
        let one = |&[position, in_flight_requests]: &[u32; 2]| Eligible { position, in_flight_requests };
        let eligible: Vec<Eligible> = pairs.iter().map(one).collect();
        if eligible.is_sorted_by(|a, b| a.position < b.position) {
            return Ok(eligible);
        }
        unreadable("eligible", "expected workers in the order in which they joined, each once")
    }

    /// What came of it.
    pub fn answer(&self) -> Answer {
        Answer { chosen: self.chosen, reason: self.reason.clone(), scores_hash: self.scores_hash }
    }
}

/// The hashes of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Of the routing text.
    pub routing: Option<PromptHashes>,
    /// Of what the engine sees; `None` where that is the routing text.
    pub engine: Option<PromptHashes>,
}

fn prompt(
    member: &'static str,
    hashes: Option<&PackedHashes>,
    len_bytes: Option<u64>,
) -> Result<Option<PromptHashes>, Unreadable> {
    let Some(hashes) = hashes else { return Ok(None) };
    let Some(len_bytes) = len_bytes else { return unreadable(member, "their length is missing") };
    match PromptHashes::from_chain(hashes.as_slice().to_vec(), len_bytes) {
        Some(prompt) => Ok(Some(prompt)),
        None => unreadable(member, format!("{hashes:?} are not those of {len_bytes} bytes")),
    }
}

/// What came of a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Place of the worker chosen.
    pub chosen: Option<u32>,
    /// The policy's reason.
    pub reason: Cow<'static, str>,
    /// Hash of all scores.
    pub scores_hash: Option<u64>,
}

/// A hash of scores that differs where any bit of any score does; `None` where there is no score.
fn scores_hash(scores: &[Option<f64>]) -> Option<u64> {
    scores.iter().any(Option::is_some).then(|| {
        // FNV-1a over words; no score is a value that no finite number has.
        scores.iter().fold(0xcbf2_9ce4_8422_2325, |hash, score| {
            let bits = score.map_or(u64::MAX, f64::to_bits);
            (hash ^ bits).wrapping_mul(0x0100_0000_01b3).rotate_left(29)
        })
    })
}
