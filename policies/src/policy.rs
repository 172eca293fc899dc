//! The trait a policy implements, what it may ask the router for, and what it is told.
//!
//! Rule: plain single-threaded code. No I/O, no clock, no other source of randomness than the seed it was built with, no map
//! whose order differs between runs: the same seed, config and calls give the same decisions, so that a trace can be replayed.
//! The router calls one policy from one critical section, so both methods should take microseconds.

use crate::decision::Decision;
use crate::view::{RequestView, Time, WorkerId, Workers};

/// Decides which worker a request goes to.
pub trait Policy: Send {
    /// The name by which the registry and `--policy` know it.
    fn name(&self) -> &'static str;

    /// What the router has to find out before it asks. Constant over the policy's life.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Chooses one of `workers` for `request` by calling [`Decision::choose`] on `out`, which the router has cleared. A retry
    /// asks again, with the same [`RequestView::seq`] and without the workers that failed.
    fn choose(&mut self, now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision);

    /// Is told what happened: workers that join and leave, and with [`Needs::request_events`] what becomes of requests. Events
    /// come in order of time, all those before a choice before it.
    fn observe(&mut self, _now: Time, _event: &Event) {}

    /// What was wrong with the policy itself at its last choice, in words for whoever wrote it; `None` if nothing was.
    fn complaint(&self) -> Option<&str> {
        None
    }
}

/// What a policy reads that costs something to find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent wishes")]
pub struct Needs {
    /// [`crate::WorkerView::prefix_match_bytes`]: the prompt is hashed and looked up, and remembered for the worker chosen.
    pub prefix_match: bool,
    /// The prompt is matched and shown as *engine text*: what the engine will see (roles, contents, tools), corrected by what
    /// the engines say of their caches. Without it: as *routing text*, which is what sglang-router matches, and never corrected.
    pub engine_text: bool,
    /// Set by [`Needs::union`] where some policy reads the routing text.
    pub routing_text: bool,
    /// [`crate::RequestView::prompt`]: so many bytes of the prompt's beginning are hashed, though `prefix_match` is not needed;
    /// of whole blocks, see [`crate::PromptHashes::whole_blocks_bytes`]. 0: none.
    pub prompt_hash_bytes: u64,
    /// [`crate::RequestView::client_hash`].
    pub client_hash: bool,
    /// [`crate::RequestView::target`].
    pub target: bool,
    /// What only the servers know ([`crate::WorkerView::queue_depth`], `running`, `kv_usage`, `throughput_tokens_per_s`): the
    /// router asks them again and again.
    pub server_loads: bool,
    /// What this router counts and learns of each worker ([`crate::WorkerView::outstanding_prefill_tokens`],
    /// `prefill_rate_tokens_per_s` and the like).
    pub estimates: bool,
    /// The events of requests: [`Event::Routed`], [`Event::FirstToken`], [`Event::Ended`]. Without it a policy is told of
    /// workers alone, and a request takes the router's lock once instead of three times.
    pub request_events: bool,
}

impl Needs {
    /// What this or `other` needs.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            prefix_match: self.prefix_match || other.prefix_match,
            engine_text: self.engine_text || other.engine_text,
            routing_text: self.reads_routing_text() || other.reads_routing_text(),
            prompt_hash_bytes: self.prompt_hash_bytes.max(other.prompt_hash_bytes),
            client_hash: self.client_hash || other.client_hash,
            target: self.target || other.target,
            server_loads: self.server_loads || other.server_loads,
            estimates: self.estimates || other.estimates,
            request_events: self.request_events || other.request_events,
        }
    }

    /// Events of requests are wanted: by the policy, for the estimates, or because the engines' answers correct what is believed
    /// of their caches.
    pub fn hears_of_requests(self) -> bool {
        self.request_events || self.estimates || self.engine_text
    }

    fn reads_routing_text(self) -> bool {
        self.routing_text || (!self.engine_text && (self.prefix_match || self.prompt_hash_bytes > 0))
    }

    /// Some policy wants to know which worker was sent which routing text.
    pub fn matches_routing_text(self) -> bool {
        self.prefix_match && self.reads_routing_text()
    }

    /// How much of a routing text of `text_bytes` has to be hashed, in bytes from its beginning, where the engine text is
    /// another one.
    pub fn hashed_routing_bytes(self, text_bytes: usize) -> usize {
        Self { prefix_match: self.matches_routing_text(), ..self }.hashed_bytes(text_bytes)
    }

    /// How much of a prompt of `prompt_bytes`, whose texts are the same, has to be hashed, in bytes from its beginning.
    pub fn hashed_bytes(self, prompt_bytes: usize) -> usize {
        if self.prefix_match {
            prompt_bytes
        } else {
            usize::try_from(self.prompt_hash_bytes).map_or(prompt_bytes, |needed| needed.min(prompt_bytes))
        }
    }
}

/// What a server says of its own load.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServerLoad {
    /// Requests in its waiting queue.
    pub queue_depth: Option<u32>,
    /// Requests in its running batch.
    pub running: Option<u32>,
    /// Part of its KV cache in use, 0 to 1.
    pub kv_usage: Option<f64>,
    /// Generated tokens a second.
    pub throughput_tokens_per_s: Option<f64>,
    /// Largest batch that it runs.
    pub max_running_requests: Option<u32>,
}

/// Something that happened to a request or a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The request was given to the worker, now counted as in flight there.
    Routed {
        /// [`RequestView::seq`] of the request.
        seq: u64,
        /// Where it went.
        worker: WorkerId,
    },
    /// The first token of a stream came.
    FirstToken {
        /// [`RequestView::seq`] of the request.
        seq: u64,
        /// Who sent it.
        worker: WorkerId,
        /// Router send to first token.
        ttft_us: u64,
    },
    /// An attempt is over, well or not; no longer in flight.
    Ended {
        /// [`RequestView::seq`] of the request.
        seq: u64,
        /// Where it was.
        worker: WorkerId,
        /// Router send (if it came to that, else the choice) to the end.
        latency_us: u64,
        /// The whole answer came and is no error.
        ok: bool,
        /// Prompt tokens by the server's count; `None` if it did not say.
        prompt_tokens: Option<u64>,
        /// Generated tokens by the server's count; `None` if it did not say.
        completion_tokens: Option<u64>,
        /// Prompt tokens that the server took from its cache; `None` if it did not say.
        cached_tokens: Option<u64>,
    },
    /// A server said how loaded it is.
    Loaded {
        /// Whose load it is.
        worker: WorkerId,
        /// What it said; what it did not say is `None`.
        load: ServerLoad,
    },
    /// A server did not say how loaded it is, though it was asked: what it said before no longer counts.
    LoadUnknown {
        /// Whose load it is.
        worker: WorkerId,
    },
    /// A worker's cache is empty, as its server said or as somebody made it.
    CacheEmptied {
        /// Whose cache.
        worker: WorkerId,
    },
    /// A worker was added to the fleet, perhaps in a slot that another one had.
    Joined {
        /// Its slot.
        worker: WorkerId,
    },
    /// A worker was removed from the fleet; what was learned about its slot no longer holds.
    Left {
        /// Its slot.
        worker: WorkerId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_needs_all_get_and_a_whole_prompt_is_more_than_its_beginning() {
        let beginning = Needs { prompt_hash_bytes: 1024, ..Needs::default() };
        assert_eq!([500, 1024, 9000].map(|bytes| beginning.hashed_bytes(bytes)), [500, 1024, 1024]);
        let both = beginning.union(Needs { prefix_match: true, target: true, ..Needs::default() });
        assert_eq!(both, Needs { prefix_match: true, target: true, routing_text: true, ..beginning });
        assert_eq!([500, 9000].map(|bytes| both.hashed_bytes(bytes)), [500, 9000]);
        assert_eq!(Needs::default().hashed_bytes(9000), 0);
    }

    #[test]
    fn each_of_the_two_texts_is_hashed_for_whoever_reads_it() {
        let routing = Needs { prefix_match: true, ..Needs::default() };
        let engine = Needs { engine_text: true, ..routing };
        let beginning = Needs { prompt_hash_bytes: 1024, ..Needs::default() };
        let of = |needs: &[Needs]| {
            let all = needs.iter().fold(Needs::default(), |all, &needs| all.union(needs));
            (
                all.matches_routing_text(),
                all.engine_text,
                all.hashed_routing_bytes(9_000),
                all.hashed_bytes(9_000),
            )
        };
        assert_eq!(of(&[routing]), (true, false, 9_000, 9_000));
        assert_eq!(of(&[engine]), (false, true, 0, 9_000));
        assert_eq!(of(&[engine, routing]), (true, true, 9_000, 9_000));
        assert_eq!(of(&[beginning]), (false, false, 1_024, 1_024));
        assert!(of(&[engine, beginning]).2 >= 1_024 && engine.hears_of_requests());
    }
}
