//! `GET /milepost/fleet`: the workers and the totals as they are now, in one JSON object.
//!
//! Rule: counters since the start, so that who asks twice knows what happened in between; what is not known is null, never 0.
//! It is read from memory, asks no worker, and is made anew at most every [`EVERY_NS`]. Deliberately not here: what `/workers`
//! says of a worker for its clients; a history.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::{EVERY_NS, momentary};
use crate::admin::errand::Errand;
use crate::fleet::meters::WorkerMeters;
use crate::fleet::worker::Worker;
use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;
use crate::proxy::limit::Limit;
use crate::trace::record::Outcome;

/// The last answer.
#[derive(Debug, Default)]
pub struct Glance {
    made_ns: Option<u64>,
    json: Bytes,
}

/// Answers `/milepost/fleet`.
pub fn fleet(errand: &Errand<'_>) -> Response<AnswerBody> {
    let shared = errand.shared;
    let now_ns = shared.clock.mono_ns();
    let mut glance = shared.live.fleet.lock().unwrap_or_else(PoisonError::into_inner);
    if glance.made_ns.is_none_or(|at_ns| now_ns.saturating_sub(at_ns) >= EVERY_NS) {
        *glance = Glance { made_ns: Some(now_ns), json: all(shared).to_string().into() };
    }
    momentary(glance.json.clone())
}

fn all(shared: &Shared) -> Value {
    let workers: Vec<Value> = shared.fleet.workers().iter().map(|worker| one(worker)).collect();
    let config = &shared.config;
    let limit = shared.limit.as_ref().map(Limit::counts);
    json!({
        "instance": shared.instance,
        "version": env!("CARGO_PKG_VERSION"),
        "listen": shared.listen.map(|at| at.to_string()),
        "policy": config.first_policy(),
        "split": config.split.as_ref().map(ToString::to_string),
        "shadow_policies": config.shadow_policies,
        "unix_ns": shared.clock.now().unix_ns,
        "draining": shared.draining.load(Ordering::Acquire),
        // All that were accepted, whoever looks included; those for workers that have ended.
        "requests": shared.requests.load(Ordering::Relaxed),
        "routed": shared.metrics.routed_requests(),
        "ended": ended(shared.metrics.ended()),
        "queued": limit.map(|counts| counts.queued),
        "trace": {"on": config.may_write_trace(), "lost": shared.sink.lost_total()},
        "workers": workers,
    })
}

fn one(worker: &Worker) -> Value {
    let d = worker.described();
    let load = worker.load_said.load();
    let mut shown = json!({
        "url": worker.url.as_str(),
        "model": d.served_model_name.or(d.model).or(worker.settings().model_id),
        "version": d.version,
        "simulated": d.simulated,
        "reached": worker.is_reached(),
        "healthy": worker.is_healthy(),
        "failed_check": worker.failed_check(),
        "breaker": worker.breaker().view().state.name(),
        "in_flight": worker.in_flight(),
        "queue_depth": load.and_then(|load| load.queue_depth),
        "running": load.and_then(|load| load.running),
        "kv_usage": load.and_then(|load| load.kv_usage),
    });
    // A worker that was sent nothing has counted nothing.
    if let Some(meters) = worker.meters.get() {
        shown["counted"] = counted(meters);
    }
    shown
}

fn counted(meters: &WorkerMeters) -> Value {
    let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
    let ttft = meters.ttft.snapshot();
    json!({
        "ended": ended(&meters.ended),
        "failed_attempts": read(&meters.failed_attempts),
        "prompt_tokens": read(&meters.prompt_tokens),
        "completion_tokens": read(&meters.completion_tokens),
        "cached_tokens": read(&meters.cached_tokens),
        // How many were at most so many seconds, and all.
        "ttft": {"count": ttft.count, "sum_s": ttft.sum_s, "at_most": ttft.cumulative},
    })
}

/// Outcomes that there were, by name.
fn ended(counts: &[AtomicU64; Outcome::ALL.len()]) -> Map<String, Value> {
    let counts = Outcome::ALL.iter().zip(counts).map(|(outcome, n)| (outcome, n.load(Ordering::Relaxed)));
    counts.filter(|(_, n)| *n > 0).map(|(outcome, n)| (outcome.name().to_owned(), n.into())).collect()
}
