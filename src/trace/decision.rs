//! The record of a decision: what the policy saw of each candidate, what it said of them, and what others would have chosen.
//!
//! Rule: as in `record`, whose part this is: the doc comment of a field is its schema, and an absent value is left out. Only
//! what the policy that chose asks for is written ([`milepost_policies::Needs`]), in lists beside the candidates, so that it takes
//! no room where it is not. Averages and rates have seven digits and counts end at 2^32, as a record is held for as long as its
//! request. Deliberately not here: making them
//! (`fleet::decided`), the exact inputs for a replay.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use milepost_policies::MAX_PARTS;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a policy saw and said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Why this worker.
    pub reason: Cow<'static, str>,
    /// Time in the critical section (counts, choice, lease, index), nanoseconds.
    pub took_ns: u64,
    /// Number of eligible workers; `candidates` holds up to 16 of them.
    pub eligible: u32,
    /// Score of the worker chosen minus the best score of the others: 0 at a tie, negative where a policy that draws took a
    /// lower one; absent where either has no score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Eligible workers that had the highest score; absent where none was scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ties: Option<u32>,
    /// The policy could not decide by its own rule, for this cause, and a plainer one stood in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Cow<'static, str>>,
    /// Candidates in the fleet's order: all of them up to 16, above that the one chosen, the runner-up and an even sample.
    pub candidates: Vec<CandidateRecord>,
    /// Names of the `parts`, unit last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub part_names: Vec<Cow<'static, str>>,
    /// What the scores are made of, one list for each of `candidates`, in the order of `part_names`; null for what is not
    /// known. Absent where the policy does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Parts>,
    /// What the router counted and learned, one for each of `candidates`; absent where the policy does not ask for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub estimates: Vec<EstimatesRecord>,
    /// What the servers said of themselves, one for each of `candidates`; absent where the policy does not ask for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_loads: Vec<ServerLoadRecord>,
}

/// One worker in a decision, before its choice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CandidateRecord {
    /// Worker URL.
    pub worker: Arc<str>,
    /// The policy's score, higher is better; absent where the policy does not score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why it has this score, or none; absent where the policy says nothing of this candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'static, str>>,
    /// Requests in flight at this worker through this router, before this request.
    pub in_flight: u32,
    /// Longest known prefix of this request there, in bytes of routing text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_match_bytes: Option<u64>,
    /// True for the worker chosen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chosen: bool,
}

/// What the router counted and learned of one worker in a decision; what is not known yet is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EstimatesRecord {
    /// Longest known prefix of this request there, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_match_tokens: Option<u32>,
    /// This router's requests there without a first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefilling_requests: Option<u32>,
    /// This router's requests there with a first token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoding_requests: Option<u32>,
    /// Prompt tokens still to be computed there for this router, what is thought to be cached left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outstanding_prefill_tokens: Option<u32>,
    /// Output tokens still expected there for this router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outstanding_decode_tokens: Option<u32>,
    /// Prompt tokens a second that it computes, learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefill_rate_tokens_per_s: Option<f32>,
    /// Tokens a second that one request gets there after its first, learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode_rate_tokens_per_s: Option<f32>,
    /// Generated tokens a second of the answers that came through this router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_tokens_per_s: Option<f32>,
    /// Moving average of router send to last byte of its good answers, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ewma_us: Option<f32>,
    /// Moving average of router send to first token, microseconds; streams only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttft_ewma_us: Option<f32>,
    /// Moving average of the part of prompt tokens that it took from its cache, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_hit_rate: Option<f32>,
}

/// What one server had said of itself before a decision; what it did not say, or too long ago, is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerLoadRecord {
    /// Requests in its waiting queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_depth: Option<u32>,
    /// Requests in its running batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Part of its KV cache in use, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_usage: Option<f32>,
    /// Generated tokens a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput_tokens_per_s: Option<f32>,
    /// Age of all that, microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_load_age_us: Option<u32>,
    /// Largest batch that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running_requests: Option<u32>,
}

/// What another policy would have chosen from what this decision saw (`--shadow-policy`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowRecord {
    /// Its name.
    pub policy: Arc<str>,
    /// Worker URL; absent where it chose nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<Arc<str>>,
    /// It is the worker that was chosen.
    pub agrees: bool,
    /// Its own score of that worker; absent where it does not score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why.
    pub reason: Cow<'static, str>,
}

/// Up to four numbers, each perhaps not known; held in place, so that a list of them is one piece of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    values: [Option<f32>; MAX_PARTS],
    len: u8,
}

impl Parts {
    /// The first [`MAX_PARTS`] of `values`, with seven digits.
    pub fn of(values: &[Option<f64>]) -> Self {
        let mut parts = Self::default();
        for value in values {
            parts.push(value.map(|value| value as f32));
        }
        parts
    }

    /// The numbers, in the order of their names.
    pub fn values(&self) -> &[Option<f32>] {
        &self.values[..usize::from(self.len)]
    }

    fn push(&mut self, value: Option<f32>) {
        if let Some(slot) = self.values.get_mut(usize::from(self.len)) {
            *slot = value;
            self.len += 1;
        }
    }
}

impl Serialize for Parts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.values())
    }
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Parts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of numbers")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Parts, A::Error> {
                let mut parts = Parts::default();
                while let Some(value) = list.next_element()? {
                    parts.push(value);
                }
                Ok(parts)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// A value that another thread finds out, perhaps after the record was made; written if it is there by then.
#[derive(Clone, Debug, PartialEq)]
pub struct Late<T>(Option<Arc<OnceLock<T>>>);

impl<T> Late<T> {
    /// A value that is awaited; whoever has a clone may [`Late::set`] it.
    pub fn awaited() -> Self {
        Self(Some(Arc::default()))
    }

    /// Tells the value, to all clones; only the first counts.
    pub fn set(&self, value: T) {
        if let Some(slot) = &self.0 {
            // Told before: the first counts.
            let _ = slot.set(value);
        }
    }

    /// The value, once it is there.
    pub fn get(&self) -> Option<&T> {
        self.0.as_ref()?.get()
    }

    /// It is not there, and somebody was to tell it.
    pub fn is_awaited(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| slot.get().is_none())
    }

    /// There is nothing to be written.
    pub fn is_absent(&self) -> bool {
        self.get().is_none()
    }
}

impl<T> Default for Late<T> {
    /// A value that nobody will tell.
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Serialize> Serialize for Late<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Late<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = T::deserialize(deserializer)?;
        Ok(Self(Some(Arc::new(OnceLock::from(value)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_a_list_in_the_trace_and_read_back() {
        let parts = Parts::of(&[Some(1.5), None, Some(0.1)]);
        let text = serde_json::to_string(&parts).unwrap();
        assert_eq!(text, "[1.5,null,0.1]");
        assert_eq!(serde_json::from_str::<Parts>(&text).unwrap(), parts);
        let of_another_version: Parts = serde_json::from_str("[1,2,3,4,5]").unwrap();
        assert_eq!(of_another_version.values().len(), MAX_PARTS);
    }

    #[test]
    fn a_late_value_is_told_once_and_to_all() {
        let late = Late::awaited();
        let told = late.clone();
        assert!(late.is_awaited() && late.is_absent());
        told.set(3);
        told.set(4);
        assert_eq!((late.get(), late.is_awaited()), (Some(&3), false));
        let never = Late::<u8>::default();
        assert!(never.is_absent() && !never.is_awaited());
    }
}
