//! Prometheus metrics, on a port of their own.
//!
//! Rule: labels are bounded (workers, outcomes), durations cover the whole stream, names of sglang-router's dashboards keep
//! their names (`smg_*`). Deliberately not here: everything a trace record says better.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::net::Listener;
use crate::proxy::Shared;
use crate::proxy::client_io::ClientIo;
use crate::trace::record::{Outcome, RequestRecord};

/// sglang-router's duration buckets run from 1 ms to 240 s.
const DURATION_BUCKETS_S: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 240.0];
/// Scrapers at one time.
const MAX_SCRAPERS: usize = 16;
/// Longest wait for a scraper's next request, and for it to take a byte.
const SCRAPER_PATIENCE: Duration = Duration::from_secs(30);

/// The counters of one router.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounter,
    in_flight: IntGauge,
    outcomes: [IntCounter; Outcome::ALL.len()],
    duration: Histogram,
    ttft: Histogram,
    queue: Histogram,
    unreadable: IntCounter,
}

impl Metrics {
    /// Counters at zero.
    pub fn new() -> Self {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS_S.to_vec());
            register(&registry, Histogram::with_opts(options))
        };
        let ended = Opts::new("milepost_requests_ended_total", "Requests ended, by outcome.");
        let ended = register(&registry, IntCounterVec::new(ended, &["outcome"]));
        Self {
            requests: register(&registry, IntCounter::new("smg_http_requests_total", "Requests accepted.")),
            in_flight: register(
                &registry,
                IntGauge::new("milepost_requests_in_flight", "Requests not yet ended."),
            ),
            // Looked up once: a look-up by label hashes and locks.
            outcomes: Outcome::ALL.map(|outcome| ended.with_label_values(&[outcome.name()])),
            duration: histogram(
                "smg_http_request_duration_seconds",
                "Arrival to end, the whole stream included.",
            ),
            ttft: histogram(
                "milepost_ttft_seconds",
                "Arrival to the first event with tokens, as the router saw it.",
            ),
            queue: histogram("milepost_router_queue_seconds", "Arrival to router send."),
            unreadable: register(
                &registry,
                IntCounter::new(
                    "milepost_connections_unreadable_total",
                    "Connections without a readable request.",
                ),
            ),
            registry,
        }
    }

    /// A request was accepted.
    pub fn request_began(&self) {
        self.requests.inc();
        self.in_flight.inc();
    }

    /// A request has ended.
    pub fn request_ended(&self, record: &RequestRecord) {
        self.in_flight.dec();
        self.outcomes[record.outcome as usize].inc();
        self.duration.observe(seconds(record.end_ns));
        if let Some(ns) = record.first_token_ns {
            self.ttft.observe(seconds(ns));
        }
        if let Some(ns) = record.router_send_ns {
            self.queue.observe(seconds(ns));
        }
    }

    /// A connection ended without a readable request.
    pub fn connection_unreadable(&self) {
        self.unreadable.inc();
    }

    /// The text format.
    pub fn text(&self, shared: &Shared) -> String {
        let mut out = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default();
        let workers = shared.fleet.workers();
        let mut family = |name: &str, kind: &str, help: &str, value: &dyn Fn(usize) -> u64| {
            // Writing to a String cannot fail.
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
            for (i, worker) in workers.iter().enumerate() {
                let _ = writeln!(out, "{name}{{worker=\"{}\"}} {}", worker.url, value(i));
            }
        };
        let health = |i: usize| u64::from(workers[i].is_healthy());
        family("smg_worker_health", "gauge", "1 if the worker may get requests.", &health);
        let active = |i: usize| u64::from(workers[i].in_flight());
        family("smg_worker_requests_active", "gauge", "Requests in flight through this router.", &active);
        family(
            "milepost_worker_requests_total",
            "counter",
            "Attempts ended at the worker, failed ones included.",
            &|i| workers[i].served(),
        );
        let _ = write!(
            out,
            "# HELP milepost_trace_requests_offered_total Request records offered to the trace, lost ones included.\n\
             # TYPE milepost_trace_requests_offered_total counter\nmilepost_trace_requests_offered_total {}\n",
            shared.sink.offered()
        );
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    // Names and labels are constants of this file; a test makes the set.
    #[expect(
        clippy::expect_used,
        reason = "constants of this file, made by a test; there is no input to refuse"
    )]
    let metric = made.expect("constant metric");
    let _ = registry.register(Box::new(metric.clone()));
    metric
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Serves `/metrics` for ever; run it as a task.
pub async fn serve(shared: Arc<Shared>, mut listener: Listener) {
    let room = Arc::new(Semaphore::new(MAX_SCRAPERS));
    // Dropped with this task, and its scrapers with it.
    let mut scrapers = JoinSet::new();
    loop {
        while scrapers.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((io, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        scrapers.spawn(async move {
            let service = service_fn(|request: Request<_>| {
                let response = page(&shared, request.uri().path());
                async move { Ok::<_, Infallible>(response) }
            });
            let serving = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SCRAPER_PATIENCE)
                .serve_connection(TokioIo::new(ClientIo::new(io, SCRAPER_PATIENCE)), service);
            // A scraper that leaves in the middle is no event.
            let _ = serving.await;
            drop(permit);
        });
    }
}

fn page(shared: &Shared, path: &str) -> Response<Full<Bytes>> {
    if path != "/metrics" && path != "/metrics/" {
        let mut missing = Response::new(Full::new(Bytes::from_static(b"GET /metrics\n")));
        *missing.status_mut() = http::StatusCode::NOT_FOUND;
        return missing;
    }
    let mut response = Response::new(Full::new(Bytes::from(shared.metrics.text(shared))));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_and_counts() {
        let metrics = Metrics::new();
        metrics.request_began();
        metrics.request_ended(&RequestRecord::default());
        let text = TextEncoder::new().encode_to_string(&metrics.registry.gather()).unwrap();
        assert!(text.contains("smg_http_requests_total 1"));
        assert!(text.contains("milepost_requests_ended_total{outcome=\"panicked\"} 1"));
    }
}
