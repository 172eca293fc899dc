//! The names by which a script knows a request and a worker, and what each is made of.
//!
//! Rule: the values are those of [`RequestView`] and [`WorkerView`] and nothing else; times are in seconds, what is not known is
//! `()`. Only values that a script names are handed to it, and only those are found out. Deliberately not here: scores.

use rhai::{Dynamic, ImmutableString};

use crate::policy::Needs;
use crate::view::{RequestView, WorkerView};

/// A value, and `F`, which gets it; `()` is one that is not known.
pub(super) struct Value<F> {
    /// What a script writes.
    pub(super) name: &'static str,
    /// What has to be found out for it.
    needs: Need,
    /// From the request or worker to the value.
    pub(super) get: F,
}

/// A worker as it is shown to a script.
pub(super) struct Shown<'a> {
    pub(super) view: &'a WorkerView,
    /// As a map.
    pub(super) labels: &'a Dynamic,
}

/// The value that is not in the view.
pub(super) const LABELS: &str = "labels";

/// A value of a worker.
pub(super) type OfWorker = Value<fn(&Shown<'_>) -> Dynamic>;
/// A value of a request.
pub(super) type OfRequest = Value<fn(&RequestView<'_>) -> Dynamic>;

/// What costs something to find out.
#[derive(Clone, Copy)]
enum Need {
    Nothing,
    Prefix,
    PrefixTokens,
    Estimates,
    Loads,
    Both,
    Client,
    Target,
}

impl Need {
    fn needs(self) -> Needs {
        let none = Needs::default();
        match self {
            Self::Nothing => none,
            Self::Prefix => Needs { prefix_match: true, engine_text: true, ..none },
            Self::PrefixTokens => Needs { prefix_match: true, engine_text: true, estimates: true, ..none },
            Self::Estimates => Needs { estimates: true, ..none },
            Self::Loads => Needs { server_loads: true, ..none },
            Self::Both => Needs { estimates: true, server_loads: true, ..none },
            Self::Client => Needs { client_hash: true, ..none },
            Self::Target => Needs { target: true, ..none },
        }
    }
}

/// A worker's values.
pub(super) const OF_WORKER: &[OfWorker] = &[
    // The server's own word counts more: others may send there too.
    worker("throughput", Need::Both, |w| {
        float(w.view.throughput_tokens_per_s.or(w.view.answered_tokens_per_s))
    }),
    worker("latency", Need::Estimates, |w| seconds(w.view.latency_ewma_us)),
    worker("ttft", Need::Estimates, |w| seconds(w.view.ttft_ewma_us)),
    worker("queue_depth", Need::Loads, |w| int(w.view.queue_depth)),
    worker("running", Need::Loads, |w| int(w.view.running)),
    worker("max_running", Need::Loads, |w| int(w.view.max_running_requests)),
    worker("memory_usage", Need::Loads, |w| float(w.view.kv_usage)),
    worker("load_age", Need::Loads, |w| seconds(w.view.server_load_age_us.map(|us| us as f64))),
    worker("server_throughput", Need::Loads, |w| float(w.view.throughput_tokens_per_s)),
    worker("answered_throughput", Need::Estimates, |w| float(w.view.answered_tokens_per_s)),
    worker("cache_hit_rate", Need::Estimates, |w| float(w.view.cache_hit_rate)),
    worker("in_flight", Need::Nothing, |w| int(Some(w.view.in_flight_requests))),
    worker("prefilling", Need::Estimates, |w| int(w.view.prefilling_requests)),
    worker("decoding", Need::Estimates, |w| int(w.view.decoding_requests)),
    worker("outstanding_prefill_tokens", Need::Estimates, |w| long(w.view.outstanding_prefill_tokens)),
    worker("outstanding_decode_tokens", Need::Estimates, |w| long(w.view.outstanding_decode_tokens)),
    worker("prefill_wait", Need::Estimates, |w| seconds(w.view.prefill_wait_us)),
    worker("prefill_rate", Need::Estimates, |w| float(w.view.prefill_rate_tokens_per_s)),
    worker("decode_rate", Need::Estimates, |w| float(w.view.decode_rate_tokens_per_s)),
    worker("prefix_match_bytes", Need::Prefix, |w| long(w.view.prefix_match_bytes)),
    worker("prefix_match_tokens", Need::PrefixTokens, |w| long(w.view.prefix_match_tokens)),
    worker(LABELS, Need::Nothing, |w| w.labels.clone()),
    worker("priority", Need::Nothing, |w| int(Some(w.view.priority))),
    worker("last_chosen_seq", Need::Nothing, |w| long(Some(w.view.last_chosen_seq))),
    worker("id", Need::Nothing, |w| int(Some(w.view.id.0))),
    worker("position", Need::Nothing, |w| int(Some(w.view.position))),
    worker("url_hash", Need::Nothing, |w| hash(Some(w.view.url_hash))),
];

/// A request's values.
pub(super) const OF_REQUEST: &[OfRequest] = &[
    request("seq", Need::Nothing, |r| long(Some(r.seq))),
    request("prompt_bytes", Need::Nothing, |r| long(Some(r.prompt_bytes))),
    request("prompt_tokens", Need::Nothing, |r| long(r.prompt_tokens)),
    request("max_new_tokens", Need::Nothing, |r| long(r.max_new_tokens)),
    request("stream", Need::Nothing, |r| Dynamic::from_bool(r.stream)),
    request("model", Need::Nothing, |r| text(r.model)),
    request("routing_key", Need::Nothing, |r| text(r.routing_key)),
    request("target", Need::Target, |r| int(r.target)),
    request("client_hash", Need::Client, |r| hash(r.client_hash)),
    request("attempts", Need::Nothing, |r| int(Some(r.attempts))),
];

const fn worker(name: &'static str, needs: Need, get: fn(&Shown<'_>) -> Dynamic) -> OfWorker {
    Value { name, needs, get }
}

const fn request(name: &'static str, needs: Need, get: fn(&RequestView<'_>) -> Dynamic) -> OfRequest {
    Value { name, needs, get }
}

/// The names of `all` that are among `words`, and what they need.
pub(super) fn used<F>(
    all: &'static [Value<F>],
    words: impl Fn(&str) -> bool,
) -> (Vec<&'static Value<F>>, Needs) {
    let used: Vec<_> = all.iter().filter(|value| words(value.name)).collect();
    let needs = used.iter().fold(Needs::default(), |needs, value| needs.union(value.needs.needs()));
    (used, needs)
}

/// A number that is not finite is none.
fn float(value: Option<f64>) -> Dynamic {
    value.filter(|value| value.is_finite()).map_or(Dynamic::UNIT, Dynamic::from_float)
}

fn seconds(us: Option<f64>) -> Dynamic {
    float(us.map(|us| us / 1e6))
}

fn int(value: Option<u32>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |value| Dynamic::from_int(i64::from(value)))
}

/// A count; one beyond what Rhai has integers for is the largest.
fn long(value: Option<u64>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |value| Dynamic::from_int(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// The same bits, which is all that a hash is for.
fn hash(value: Option<u64>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |value| Dynamic::from_int(value.cast_signed()))
}

fn text(value: Option<&str>) -> Dynamic {
    value.map_or(Dynamic::UNIT, |value| Dynamic::from(ImmutableString::from(value)))
}
