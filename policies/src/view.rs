//! What a policy sees: the request, and the workers that may take it.
//!
//! Rule: what is not known is `None`, never a number; a policy decides what to do without. Times come in as values.
//! Deliberately not here: URLs, health, prompts as text. Only eligible workers are shown, and a prompt is its hashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hash::name_hash;
use crate::policy::Needs;
use crate::prefix::PromptHashes;

/// A moment on a monotonic clock with an arbitrary origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Microseconds since the origin.
    pub us: u64,
}

/// A worker's slot number in the fleet: the same while the worker stays, dense, and given to another one after it left
/// (which is told by [`crate::Event::Left`] and [`crate::Event::Joined`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u32);

/// One request, as far as the router looked into it.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestView<'a> {
    /// Number of this request in this run, from 1; events name it.
    pub seq: u64,
    /// Block hashes of the routing text, or of the engine text if the policy [needs](crate::Needs::engine_text) that, or of as
    /// much of its beginning as the policy needs; `None` when it needs none, when the body was not looked at (encoded,
    /// malformed, another endpoint) or held no text.
    pub prompt: Option<&'a PromptHashes>,
    /// Length of that text in bytes; 0 when there is none.
    pub prompt_bytes: u64,
    /// For the chooser, which shows a policy one text as `prompt`: hashes of the engine text where it is another than the
    /// routing text; `None` where it is the same, or where no policy needs it.
    pub engine_prompt: Option<&'a PromptHashes>,
    /// The engine text is token ids, of four bytes each.
    pub is_counted: bool,
    /// The answer holds several sequences: a batch of prompts, or several answers to one.
    pub is_multiple: bool,
    /// Tokens of the prompt: counted where the body holds `input_ids`, else estimated from the text's length; `None` when
    /// there is neither.
    pub prompt_tokens: Option<u64>,
    /// Output tokens asked for; `None` when the body does not say.
    pub max_new_tokens: Option<u64>,
    /// The client asked for a stream.
    pub stream: bool,
    /// The body's `model`; `None` when absent.
    pub model: Option<&'a str>,
    /// The client's routing key header; `None` when absent.
    pub routing_key: Option<&'a str>,
    /// Hash of the routing key where its text is not known, as in a replay; [`RequestView::key_hash`] knows both.
    pub routing_key_hash: Option<u64>,
    /// `X-SMG-Target-Worker`: the worker asked for, as its place among all workers in the order in which they joined, or a
    /// place that none has if there is no such worker; `None` when absent, or when the policy does not need it.
    pub target: Option<u32>,
    /// Hash of who asks (`authorization`, else `x-forwarded-for`, else `cookie`); `None` when the policy does not need it or
    /// none is there.
    pub client_hash: Option<u64>,
    /// Attempts of this request that failed. The workers they went to are not shown while another one is left.
    pub attempts: u32,
}

impl<'a> RequestView<'a> {
    /// The text that a policy of such `needs` reads, and its length in bytes.
    pub fn text_for(&self, needs: Needs) -> (Option<&'a PromptHashes>, u64) {
        match self.engine_prompt.filter(|_| needs.engine_text) {
            Some(engine) => (Some(engine), engine.len_bytes()),
            None => (self.prompt, self.prompt_bytes),
        }
    }

    /// Tokens in the first `bytes` of the text, as far as its length in tokens is known.
    pub fn tokens_in(&self, bytes: u64) -> Option<u64> {
        self.part_of_tokens(bytes, self.prompt_bytes)
    }

    /// The same of the text that the engine will see.
    pub(crate) fn tokens_in_engine_text(&self, bytes: u64) -> Option<u64> {
        self.part_of_tokens(bytes, self.engine_prompt.map_or(self.prompt_bytes, PromptHashes::len_bytes))
    }

    fn part_of_tokens(&self, bytes: u64, of_bytes: u64) -> Option<u64> {
        let tokens = self.prompt_tokens?;
        if bytes == 0 {
            return Some(0);
        }
        Some((tokens as f64 * (bytes as f64 / of_bytes.max(1) as f64).min(1.0)) as u64)
    }

    /// What the engine will see of the prompt.
    pub fn engine_text(&self) -> Option<&'a PromptHashes> {
        self.engine_prompt.or(self.prompt)
    }

    /// Hash of the client's routing key; `None` when there is none.
    pub fn key_hash(&self) -> Option<u64> {
        self.routing_key.map(|key| name_hash(key.as_bytes())).or(self.routing_key_hash)
    }
}

/// One worker that may take the request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WorkerView {
    /// Which worker.
    pub id: WorkerId,
    /// Its place among all workers, eligible or not, in the order in which they joined.
    pub position: u32,
    /// Hash of its URL: the same in every router and over restarts, whatever slot it has.
    pub url_hash: u64,
    /// Requests sent there by this router and not yet ended.
    pub in_flight_requests: u32,
    /// Number of the choice that last took it, rising with every choice; 0 if none ever did.
    pub last_chosen_seq: u64,
    /// What an operator said of it (`POST /workers`): higher is preferred by whoever reads it; sglang-router's default is 50.
    pub priority: u32,
    /// Leading bytes of this request's text, of the kind that is shown to the policy, that the worker was sent before (and, of
    /// engine text, that it is still believed to hold); `None` unless the policy [needs](crate::Needs::prefix_match) it and the
    /// request has text.
    pub prefix_match_bytes: Option<u64>,
    /// The same in tokens, estimated as [`RequestView::prompt_tokens`] is; `None` too unless the policy
    /// [needs](crate::Needs::estimates) estimates.
    pub prefix_match_tokens: Option<u64>,

    /// Requests sent there by this router that have brought no token yet: they wait or are prefilled. A plain answer brings its
    /// first token with its last. `None` unless the policy [needs](crate::Needs::estimates) it, as all that follows of this
    /// router's own counts.
    pub prefilling_requests: Option<u32>,
    /// Requests sent there by this router that have brought a token and not ended.
    pub decoding_requests: Option<u32>,
    /// Prompt tokens still to be computed there for requests of this router without a first token: what was not thought to be
    /// cached. A request of unknown length counts as the average one; `None` until the length of one was known.
    pub outstanding_prefill_tokens: Option<u64>,
    /// Time until the prompt of a request that goes there now begins to be computed, estimated: what is still to be computed, what
    /// other routers have in the server's queue, the usual way of a request into the engine. It falls as the worker should make
    /// progress, and rises with the time by which its next first token is late. `None` until a stream of any worker brought a
    /// token.
    pub prefill_wait_us: Option<f64>,
    /// Output tokens still expected there for requests of this router; one that does not say how many it wants counts as the
    /// average answer. `None` until either was known.
    pub outstanding_decode_tokens: Option<u64>,
    /// Prompt tokens a second that it computes, learned from first tokens; `None` before the first, and again when none confirmed
    /// it for 10 s.
    pub prefill_rate_tokens_per_s: Option<f64>,
    /// Tokens a second that one request gets after its first, learned from streams; `None` before the first.
    pub decode_rate_tokens_per_s: Option<f64>,
    /// Generated tokens a second of the answers that came through this router; `None` before the first.
    pub answered_tokens_per_s: Option<f64>,
    /// Moving average of the end-to-end latency of successful requests, router send to last byte; `None` before the first.
    pub latency_ewma_us: Option<f64>,
    /// Moving average of router send to first token, streams only; `None` before the first.
    pub ttft_ewma_us: Option<f64>,
    /// Part of prompt tokens that the server took from its cache, 0 to 1; `None` until an answer told.
    pub cache_hit_rate: Option<f64>,

    /// Requests in the server's waiting queue, as it last said; `None` until it did, and again when what it said is too old.
    pub queue_depth: Option<u32>,
    /// Requests in the server's running batch, as it last said; `None` as above.
    pub running: Option<u32>,
    /// Part of the server's KV cache in use, 0 to 1, as it last said; `None` as above.
    pub kv_usage: Option<f64>,
    /// Generated tokens per second, as the server last said; `None` as above.
    pub throughput_tokens_per_s: Option<f64>,
    /// Age of what the server last said; `None` if it said nothing that still counts.
    pub server_load_age_us: Option<u64>,
    /// Largest batch that the server says it runs; `None` until it did.
    pub max_running_requests: Option<u32>,
}

/// What an operator said of a worker by names of his own (`POST /workers`), such as its rack or its kind of GPU.
pub type Labels = BTreeMap<String, String>;

static NO_LABELS: Labels = BTreeMap::new();

/// The workers that may take the request: never empty, each id once, always in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Workers<'a> {
    views: &'a [WorkerView],
    labels_by_slot: &'a [Arc<Labels>],
}

impl<'a> Workers<'a> {
    /// `None` if there is no worker: then there is nothing to decide, and no policy is asked. None of them has labels.
    pub fn new(workers: &'a [WorkerView]) -> Option<Self> {
        if workers.is_empty() { None } else { Some(Self { views: workers, labels_by_slot: &[] }) }
    }

    /// The same workers with the labels of every slot; one beyond the last has none.
    #[must_use]
    pub fn with_labels(self, labels_by_slot: &'a [Arc<Labels>]) -> Self {
        Self { labels_by_slot, ..self }
    }

    /// How many; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty, that is what the type says")]
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// The worker at `index`, `None` beyond the last.
    pub fn get(&self, index: usize) -> Option<&'a WorkerView> {
        self.views.get(index)
    }

    /// The labels of the worker at `index`; empty where it has none, and beyond the last.
    pub fn labels(&self, index: usize) -> &'a Labels {
        let slot = self.views.get(index).map(|view| view.id.0 as usize);
        slot.and_then(|slot| self.labels_by_slot.get(slot)).map_or(&NO_LABELS, |labels| labels)
    }

    /// In order; the position is the index that [`crate::Decision::choose`] takes.
    pub fn iter(&self) -> std::slice::Iter<'a, WorkerView> {
        self.views.iter()
    }

    /// Index of the least loaded of the workers for which `candidate` holds: fewest requests in flight, then least recently
    /// chosen, then lowest id. `None` if it holds for none.
    pub fn least_loaded(&self, candidate: impl Fn(&WorkerView) -> bool) -> Option<usize> {
        let candidates = self.iter().enumerate().filter(|(_, worker)| candidate(worker));
        candidates
            .min_by_key(|(_, w)| (w.in_flight_requests, w.last_chosen_seq, w.id))
            .map(|(index, _)| index)
    }
}

impl<'a> IntoIterator for &Workers<'a> {
    type Item = &'a WorkerView;
    type IntoIter = std::slice::Iter<'a, WorkerView>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_slot_and_whoever_has_none_has_an_empty_map() {
        let views = [2, 0, 7].map(|slot| WorkerView { id: WorkerId(slot), ..WorkerView::default() });
        let racks = ["a", "b", "c"].map(|rack| Arc::new(Labels::from([("rack".into(), rack.into())])));
        let workers = Workers::new(&views).expect("not empty");
        assert_eq!(workers.labels(0), &Labels::new());
        let labelled = workers.with_labels(&racks);
        let rack = |index| labelled.labels(index).get("rack").map(String::as_str);
        assert_eq!([0, 1, 2, 3].map(rack), [Some("c"), Some("a"), None, None]);
    }
}
