//! Prometheus metrics: what requests add to, and where a scraper reads it.
//!
//! `counts` and `fleet::meters` are the numbers, `labels` the bounded label values, `catalogue` every series with its
//! meaning, `page` the text, `serve` the port. Rule: a request pays for what it observes alone: relaxed atomic additions at
//! places found by number, no lock, no hash, no allocation. Names of sglang-router's dashboards keep their names (`smg_*`).
//! Deliberately not here: everything a trace record says better.

mod ages;
mod arms;
pub mod catalogue;
mod counts;
mod elsewhere;
mod labels;
mod page;
mod process;
mod scraper_io;
mod serve;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::ages::Ages;
use self::arms::Arms;
use self::counts::Counts;
use self::labels::{endpoint_index, method_index, path_index};
pub use self::serve::serve;
use crate::fleet::meters::{Histogram, WorkerMeters};
use crate::fleet::worker::Worker;
use crate::trace::align::server_spans;
use crate::trace::record::{Outcome, RequestKind, RequestRecord};
use crate::wire::Endpoint;

/// Upper bounds of durations, milliseconds: sglang-router's.
const DURATION_BUCKETS_MS: [u64; 20] = [
    1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 15_000, 30_000, 45_000, 60_000, 90_000,
    120_000, 180_000, 240_000,
];
/// Upper bounds of the gaps between tokens, milliseconds: decode steps take 5 to 100.
const ITL_BUCKETS_MS: [u64; 18] =
    [1, 2, 4, 6, 8, 10, 15, 20, 25, 30, 40, 50, 75, 100, 200, 500, 1_000, 5_000];
/// Upper bounds of the time in the router, microseconds.
const ROUTER_BUCKETS_US: [u64; 15] = [
    20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000,
    60_000_000,
];

/// Most tokens of one answer that are believed: a few wild counts would wrap a sum.
const MAX_TOKENS: u64 = 1 << 32;

/// The counters of one router.
#[derive(Debug)]
pub struct Metrics {
    bounds_ns: Box<[u64]>,
    itl_bounds_ns: Box<[u64]>,
    counts: Counts,
    ages: Ages,
    connections: AtomicU64,
    unreadable: AtomicU64,
    accept_failures: AtomicU64,
    ended: [AtomicU64; Outcome::ALL.len()],
    ttft: Histogram,
    router_queue: Histogram,
    arms: Arms,
}

/// A client connection that is open; counted until it is dropped.
#[derive(Debug)]
pub struct OpenConnection<'a>(&'a Metrics);

impl Metrics {
    /// Counters at zero, durations in sglang-router's buckets.
    pub fn new() -> Self {
        Self::with_buckets(&[])
    }

    /// Counters at zero. `upper_s`: upper bounds of durations in seconds (`--prometheus-duration-buckets`), of which those
    /// that are no positive number are left out; empty: sglang-router's.
    pub fn with_buckets(upper_s: &[f64]) -> Self {
        let bounds_ns =
            if upper_s.is_empty() { scaled(&DURATION_BUCKETS_MS, 1_000_000) } else { given(upper_s) };
        Self {
            counts: Counts::new(&bounds_ns),
            ages: Ages::new(),
            connections: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            accept_failures: AtomicU64::new(0),
            ended: Default::default(),
            ttft: Histogram::new(&bounds_ns),
            router_queue: Histogram::new(&scaled(&ROUTER_BUCKETS_US, 1_000)),
            arms: Arms::default(),
            itl_bounds_ns: scaled(&ITL_BUCKETS_MS, 1_000_000),
            bounds_ns,
        }
    }

    /// With numbers of their own for the arms of an experiment that have these names.
    #[must_use]
    pub fn with_arms<'a>(mut self, names: impl Iterator<Item = &'a Arc<str>>) -> Self {
        self.arms = Arms::new(names, &self.bounds_ns);
        self
    }

    /// Requests that have ended, each outcome at its own number.
    pub fn ended(&self) -> &[AtomicU64; Outcome::ALL.len()] {
        &self.ended
    }

    /// Requests for workers that have ended: `smg_router_requests_total` of all its labels.
    pub fn routed_requests(&self) -> u64 {
        let series = self.counts.router.used().flat_map(|(_, series)| &series.requests);
        series.map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// A request was accepted at `arrival_mono_ns`.
    pub fn request_began(&self, endpoint: Endpoint, method: &str, path: &str, arrival_mono_ns: u64) {
        let series = self.counts.http(method_index(method), path_index(endpoint, path));
        add(&series.requests, 1);
        self.ages.began(arrival_mono_ns);
    }

    /// A request has ended. `worker`: where it ended, if it was at one; `error_code`: of the router's own error, else empty.
    pub fn request_ended(&self, record: &RequestRecord, worker: Option<&Worker>, error_code: &'static str) {
        self.ages.ended(record.arrival_mono_ns);
        add(&self.ended[record.outcome as usize], 1);
        let path = path_index(record.endpoint, &record.path);
        self.counts.http(method_index(&record.method), path).duration.observe_ns(record.end_ns);
        match (record.status, error_code) {
            (Some(status), "") => self.counts.responses.add(status),
            (Some(status), code) => self.counts.problems.add(status, code),
            (None, _) => {}
        }
        if let Some(ns) = record.first_token_ns {
            self.ttft.observe_ns(ns);
        }
        if let Some(ns) = record.router_send_ns {
            self.router_queue.observe_ns(ns);
        }
        self.arms.ended(record);
        let routed = record.request_kind == RequestKind::Routed;
        if routed && (record.attempts > 0 || record.outcome == Outcome::Unreachable) {
            self.routed(record, error_code);
        }
        if let Some(worker) = worker {
            answered(self.meters(worker), record);
        }
    }

    /// An attempt at a worker gave no answer to pass on.
    pub fn attempt_failed(&self, worker: &Worker) {
        add(&self.meters(worker).failed_attempts, 1);
    }

    /// A request has failed in a way that another attempt might better, and none is left or nobody to make it at.
    pub fn retries_exhausted(&self, endpoint: Endpoint) {
        add(&self.counts.retries_exhausted[endpoint_index(endpoint)], 1);
    }

    /// A policy could not decide; the reason says why.
    pub fn policy_fell_back(&self, policy: &str, reason: &str) {
        self.counts.fall_back(policy, reason);
    }

    /// A client connection was opened.
    pub fn connection(&self) -> OpenConnection<'_> {
        add(&self.connections, 1);
        OpenConnection(self)
    }

    /// A connection ended without a readable request.
    pub fn connection_unreadable(&self) {
        add(&self.unreadable, 1);
    }

    /// A client's connection could not be accepted.
    pub fn accept_failed(&self) {
        add(&self.accept_failures, 1);
    }

    fn meters<'w>(&self, worker: &'w Worker) -> &'w WorkerMeters {
        worker.meters.get_or_init(|| WorkerMeters::new(&self.bounds_ns, &self.itl_bounds_ns))
    }

    fn routed(&self, record: &RequestRecord, error_code: &str) {
        let model = self.counts.model(record.model.as_deref());
        let endpoint = endpoint_index(record.endpoint);
        let series = self.counts.router(model, endpoint);
        add(&series.requests[usize::from(record.stream)], 1);
        match router_error(record) {
            Some(error) => add(&series.errors[error], 1),
            None if record.outcome == Outcome::Done => series.duration.observe_ns(record.end_ns),
            None => {}
        }
        if let Some(policy) = &record.policy {
            self.counts.select(model, policy, u64::from(record.attempts));
        }
        // With a code of the router's own, the status is the router's too.
        if let (Some(status), Some(_), "") = (record.status, record.head_ns, error_code) {
            self.counts.upstream.add(status);
        }
        if let Some(error) = worker_error(record) {
            add(&self.counts.worker_errors[error], 1);
        }
        if !record.failed_attempts.is_empty() {
            self.retried(record, endpoint);
        }
    }

    /// What is counted of the attempts that failed; most requests have none.
    fn retried(&self, record: &RequestRecord, endpoint: usize) {
        let failed = &record.failed_attempts;
        add(&self.counts.retries[endpoint], u64::from(record.attempts.saturating_sub(1)));
        for (i, attempt) in failed.iter().enumerate() {
            if let Some(status) = attempt.status {
                self.counts.upstream.add(status);
            }
            if let Some(ns) = attempt.backoff_ns {
                self.counts.back_off(i + 1, ns);
            }
            // The last attempt of a request that timed out is among the failed ones.
            let late = record.outcome == Outcome::TimedOut && i + 1 == record.attempts as usize;
            add(&self.counts.worker_errors[usize::from(late)], 1);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Place in [`counts::ROUTER_ERRORS`]. A client that left and a router that was stopped are no errors.
fn router_error(record: &RequestRecord) -> Option<usize> {
    match record.outcome {
        Outcome::WorkerError if is_clients_fault(record.status) => Some(0),
        Outcome::WorkerError | Outcome::WorkerReset => Some(1),
        Outcome::Unreachable => Some(if record.attempts == 0 { 2 } else { 1 }),
        Outcome::TimedOut => Some(3),
        Outcome::Panicked => Some(4),
        Outcome::Done | Outcome::ClientGone | Outcome::Refused | Outcome::Stopped => None,
    }
}

/// Place in [`counts::WORKER_ERRORS`] of the attempt that the request ended with; the failed ones before are counted apart.
fn worker_error(record: &RequestRecord) -> Option<usize> {
    match record.outcome {
        Outcome::WorkerError if is_clients_fault(record.status) => None,
        Outcome::WorkerError | Outcome::WorkerReset => Some(0),
        Outcome::TimedOut if record.failed_attempts.len() < record.attempts as usize => Some(1),
        _ => None,
    }
}

fn is_clients_fault(status: Option<u16>) -> bool {
    // 408 and 429 are what a worker says of itself: too slow, too busy.
    status.is_some_and(|s| (400..500).contains(&s) && s != 408 && s != 429)
}

/// What an answer says of its worker.
fn answered(meters: &WorkerMeters, record: &RequestRecord) {
    add(&meters.ended[record.outcome as usize], 1);
    let tokens = &record.tokens;
    let told = [
        (&meters.prompt_tokens, tokens.prompt_tokens),
        (&meters.completion_tokens, tokens.completion_tokens),
        (&meters.cached_tokens, tokens.cached_tokens),
        // Or there would be nothing to hold it against.
        (&meters.predicted_cached_tokens, tokens.cached_tokens.and(record.predicted_cached_tokens)),
    ];
    for (count, tokens) in told {
        if let Some(tokens) = tokens {
            add(count, tokens.min(MAX_TOKENS));
        }
    }
    if let (Some(token_ns), Some(send_ns)) = (record.first_token_ns, record.router_send_ns) {
        meters.ttft.observe_ns(token_ns.saturating_sub(send_ns));
    }
    let whole = record.outcome == Outcome::Done && record.endpoint.generates();
    let streamed_ns = match (record.first_token_ns, record.last_byte_ns) {
        (Some(token_ns), Some(last_ns)) if whole => Some(last_ns.saturating_sub(token_ns)),
        _ => None,
    };
    // Tokens of several members come beside each other.
    let alone = record.members() == 1;
    if let (Some(ns), Some(tokens @ 2..), true) = (streamed_ns, tokens.completion_tokens, alone) {
        meters.itl.observe_ns(ns / (tokens - 1));
    }
    let spans = server_spans(record);
    // Nothing at the server lasts longer than its request, unless a clock was set.
    let inside = |ns: &u64| *ns <= record.end_ns;
    let decode_ns = streamed_ns.or(spans.decode_ns.filter(|_| whole));
    let durations =
        [(&meters.queue, spans.queue_ns), (&meters.prefill, spans.prefill_ns), (&meters.decode, decode_ns)];
    for (histogram, ns) in durations {
        if let Some(ns) = ns.filter(inside) {
            histogram.observe_ns(ns);
        }
    }
}

fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}

fn scaled(bounds: &[u64], unit_ns: u64) -> Box<[u64]> {
    bounds.iter().map(|bound| bound * unit_ns).collect()
}

fn given(upper_s: &[f64]) -> Box<[u64]> {
    // A bound beyond 2^63 ns, three centuries, is none.
    let usable = upper_s.iter().map(|s| s * 1e9).filter(|ns| (1.0..9.2e18).contains(ns));
    let mut bounds_ns: Vec<u64> = usable.map(|ns| ns.round() as u64).collect();
    bounds_ns.sort_unstable();
    bounds_ns.dedup();
    bounds_ns.into()
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
