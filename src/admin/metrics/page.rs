//! The page: every family of the catalogue with the numbers of now, in Prometheus's text format.
//!
//! Rule: made when a scraper asks, from atomics alone; a family without a series is left out, a label value is escaped (by
//! the `prometheus` crate's encoder). Deliberately not here: counting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use milepost_policies::ServerLoad;
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::catalogue::{Family, Kind, own, peer};
use super::counts::{ROUTER_ERRORS, WORKER_ERRORS};
use super::labels::{ENDPOINTS, METHODS, OTHER, PATHS, path_label};
use super::process::Process;
use super::{Metrics, ages, elsewhere};
use crate::fleet::meters::{Snapshot, WorkerMeters};
use crate::fleet::worker::Worker;
use crate::proxy::Shared;
use crate::trace::record::Outcome;

/// Values of `router_type`, `backend_type` and `connection_mode`: the one kind of router that this is.
const ROUTER: [&str; 3] = ["http", "regular", "http"];
/// Value of `worker_type`.
const REGULAR: &str = "regular";

/// The text.
pub(super) fn text(shared: &Shared) -> String {
    let workers = shared.fleet.workers();
    let mut page = Page::default();
    page.http(shared);
    page.router(&shared.metrics);
    page.fleet(shared, &workers);
    page.breakers(&workers);
    page.retries(&shared.metrics);
    page.requests(&shared.metrics);
    page.arms(&shared.metrics);
    page.shadows(shared);
    page.workers(&workers);
    page.worker_durations(&workers);
    page.worker_loads(&workers, shared.clock.mono_ns());
    page.trace(shared);
    page.spans(shared);
    page.process(Process::read());
    // It refuses an empty family alone, and there is none.
    TextEncoder::new().encode_to_string(&page.0).unwrap_or_default()
}

#[derive(Default)]
struct Page(Vec<MetricFamily>);

/// The value of one series.
enum Value {
    Number(f64),
    Buckets(Snapshot),
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Number(n as f64)
    }
}

impl From<&AtomicU64> for Value {
    fn from(n: &AtomicU64) -> Self {
        n.load(Ordering::Relaxed).into()
    }
}

type Row = (Vec<String>, Value);

impl Page {
    fn family(&mut self, family: &'static Family, rows: impl IntoIterator<Item = Row>) {
        let series: Vec<Metric> =
            rows.into_iter().map(|(labels, value)| series(family, labels, value)).collect();
        if series.is_empty() {
            return;
        }
        let mut out = MetricFamily::default();
        out.set_name(family.name.to_owned());
        out.set_help(family.meaning.to_owned());
        out.set_field_type(match family.kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        out.set_metric(series);
        self.0.push(out);
    }

    fn one(&mut self, family: &'static Family, value: impl Into<Value>) {
        self.family(family, [(Vec::new(), value.into())]);
    }

    fn http(&mut self, shared: &Shared) {
        let metrics = &shared.metrics;
        let counts = &metrics.counts;
        let route = |i: usize| owned(&[METHODS[i / PATHS], path_label(i % PATHS)]);
        self.family(&peer::HTTP_REQUESTS, counts.http.used().map(|(i, s)| (route(i), (&s.requests).into())));
        let ended = counts.http.used().map(|(i, s)| (route(i), s.duration.snapshot()));
        self.family(
            &peer::HTTP_DURATION,
            ended.filter(|(_, s)| s.count > 0).map(|(l, s)| (l, Value::Buckets(s))),
        );
        let plain =
            counts.responses.seen().map(|(status, n)| (vec![status.to_string(), String::new()], n.into()));
        let own_errors = counts.problems.seen().map(|(pair, n)| {
            let labels =
                pair.map_or(owned(&[OTHER, OTHER]), |(s, code)| vec![s.to_string(), code.to_owned()]);
            (labels, n.into())
        });
        self.family(&peer::HTTP_RESPONSES, plain.chain(own_errors));
        self.one(&peer::HTTP_CONNECTIONS, &metrics.connections);
        let ages = metrics.ages.count(shared.clock.mono_ns());
        let bound = |i: usize| ages::BOUNDS_S.get(i).map_or("+Inf".to_owned(), u64::to_string);
        let below = |i: usize| i.checked_sub(1).map_or("0".to_owned(), bound);
        self.family(&peer::HTTP_AGES, (0..ages.len()).map(|i| (vec![below(i), bound(i)], ages[i].into())));
        let limits = elsewhere::limits(shared);
        let decisions = [("allowed", limits.allowed), ("rejected", limits.rejected)];
        self.family(&peer::HTTP_LIMIT, decisions.map(|(result, n)| (owned(&[result]), n.into())));
        self.one(&own::REQUESTS_IN_FLIGHT, ages.iter().sum::<u64>());
    }

    fn router(&mut self, metrics: &Metrics) {
        let counts = &metrics.counts;
        let labels = |i: usize, more: &[&str]| {
            let model = counts.models.word(i / ENDPOINTS.len()).unwrap_or(OTHER);
            owned(&[ROUTER.as_slice(), &[model, ENDPOINTS[i % ENDPOINTS.len()]], more].concat())
        };
        let mut requests: Vec<Row> = Vec::new();
        let mut durations: Vec<Row> = Vec::new();
        let mut errors: Vec<Row> = Vec::new();
        for (i, series) in counts.router.used() {
            requests.extend(nonzero(["false", "true"], &series.requests).map(|(s, n)| (labels(i, &[s]), n)));
            errors.extend(nonzero(ROUTER_ERRORS, &series.errors).map(|(e, n)| (labels(i, &[e]), n)));
            let duration = series.duration.snapshot();
            if duration.count > 0 {
                durations.push((labels(i, &[]), Value::Buckets(duration)));
            }
        }
        self.family(&peer::ROUTER_REQUESTS, requests);
        self.family(&peer::ROUTER_DURATION, durations);
        self.family(&peer::ROUTER_ERRORS, errors);
        let heads = counts.upstream.seen();
        let heads = heads
            .map(|(status, n)| (vec![ROUTER[0].to_owned(), status.to_string(), String::new()], n.into()));
        self.family(&peer::UPSTREAM_RESPONSES, heads);
        let chosen = counts.selections();
        let chosen = chosen.map(|(model, policy, n)| (owned(&[REGULAR, ROUTER[2], model, policy]), n.into()));
        self.family(&peer::SELECTION, chosen);
        let errors = nonzero(WORKER_ERRORS, &counts.worker_errors);
        self.family(&peer::WORKER_ERRORS, errors.map(|(error, n)| (owned(&[REGULAR, ROUTER[2], error]), n)));
    }

    fn fleet(&mut self, shared: &Shared, workers: &[Arc<Worker>]) {
        let mut by_model: BTreeMap<String, u64> = BTreeMap::new();
        for worker in workers {
            let model = worker.described().model.or_else(|| worker.settings().model_id);
            *by_model.entry(model.unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
        }
        let sizes = by_model.into_iter();
        let sizes = sizes.map(|(model, n)| (vec![REGULAR.to_owned(), ROUTER[2].to_owned(), model], n.into()));
        self.family(&peer::POOL_SIZE, sizes);
        self.family(&peer::HEALTH, each(workers, |w| u64::from(w.is_healthy())));
        self.family(&peer::REQUESTS_ACTIVE, each(workers, |w| u64::from(w.in_flight())));
        let found = shared.fleet.corrections();
        let found = [
            ("held", found.held),
            ("lost", found.lost),
            ("emptied", found.emptied),
            ("bounded", found.bounded),
            ("widened", found.widened),
        ];
        let found = found.into_iter().filter(|(_, n)| *n > 0);
        self.family(&own::BELIEFS, found.map(|(what, n)| (owned(&[what]), n.into())));
        let checks = shared.fleet.health_checks();
        let results = [("success", &checks.passed), ("failure", &checks.failed)];
        self.family(&peer::HEALTH_CHECKS, results.map(|(result, n)| (owned(&[REGULAR, result]), n.into())));
    }

    fn breakers(&mut self, workers: &[Arc<Worker>]) {
        let read: Vec<_> = workers.iter().map(|w| (w.url.as_str(), elsewhere::breaker(w))).collect();
        self.family(&peer::CB_STATE, read.iter().map(|(w, b)| (owned(&[w]), b.state.into())));
        let outcomes = read.iter().flat_map(|(w, b)| {
            [("success", b.successes), ("failure", b.failures)].map(|(o, n)| (owned(&[w, o]), n.into()))
        });
        self.family(&peer::CB_OUTCOMES, outcomes);
        let changes = read.iter().flat_map(|(w, b)| b.transitions.iter().map(move |t| (*w, *t)));
        self.family(
            &peer::CB_TRANSITIONS,
            changes.map(|(w, (from, to, n))| (owned(&[w, from, to]), n.into())),
        );
        self.family(&peer::CB_FAILURES, read.iter().map(|(w, b)| (owned(&[w]), b.failures_in_a_row.into())));
        self.family(
            &peer::CB_SUCCESSES,
            read.iter().map(|(w, b)| (owned(&[w]), b.successes_in_a_row.into())),
        );
    }

    fn retries(&mut self, metrics: &Metrics) {
        let counts = &metrics.counts;
        let families =
            [(&peer::RETRIES, &counts.retries), (&peer::RETRIES_EXHAUSTED, &counts.retries_exhausted)];
        for (family, by_endpoint) in families {
            let rows = nonzero(ENDPOINTS, by_endpoint);
            self.family(family, rows.map(|(endpoint, n)| (owned(&[REGULAR, endpoint]), n)));
        }
        let pauses = counts.backoffs.used();
        let pauses = pauses.map(|(i, h)| (vec![(i + 1).to_string()], Value::Buckets(h.snapshot())));
        self.family(&peer::RETRY_BACKOFF, pauses);
    }

    fn requests(&mut self, metrics: &Metrics) {
        let outcomes = Outcome::ALL.iter().zip(&metrics.ended);
        self.family(&own::REQUESTS_ENDED, outcomes.map(|(o, n)| (owned(&[o.name()]), n.into())));
        self.one(&own::TTFT, Value::Buckets(metrics.ttft.snapshot()));
        self.one(&own::ROUTER_QUEUE, Value::Buckets(metrics.router_queue.snapshot()));
        let fallbacks = metrics.counts.fallbacks();
        self.family(&own::FALLBACKS, fallbacks.map(|(policy, cause, n)| (owned(&[policy, cause]), n.into())));
        self.one(&own::UNREADABLE, &metrics.unreadable);
        self.one(&own::ACCEPT_FAILURES, &metrics.accept_failures);
    }

    fn arms(&mut self, metrics: &Metrics) {
        let arms = || metrics.arms.all();
        let ended = arms().flat_map(|arm| {
            nonzero(Outcome::ALL.map(Outcome::name), &arm.ended).map(|(o, n)| (owned(&[&arm.name, o]), n))
        });
        self.family(&own::SPLIT_REQUESTS, ended);
        for (family, which) in [(&own::SPLIT_TTFT, 0), (&own::SPLIT_E2E, 1)] {
            let told = arms().map(|arm| (owned(&[&arm.name]), [&arm.ttft, &arm.e2e][which].snapshot()));
            self.family(family, told.filter(|(_, s)| s.count > 0).map(|(l, s)| (l, Value::Buckets(s))));
        }
    }

    fn shadows(&mut self, shared: &Shared) {
        let Some(shadows) = shared.fleet.shadows() else { return };
        let told = shadows.counts().iter().flat_map(|c| {
            [("true", &c.agreed), ("false", &c.differed)]
                .map(|(agrees, n)| (owned(&[&c.policy, agrees]), n.into()))
        });
        self.family(&own::SHADOW_DECISIONS, told);
        let dropped = ["decision", "event"].into_iter().zip(shadows.dropped());
        self.family(&own::SHADOW_DROPPED, dropped.map(|(kind, n)| (owned(&[kind]), n.into())));
        self.one(&own::SHADOW_MISSING, shared.sink.unshadowed());
    }

    fn workers(&mut self, workers: &[Arc<Worker>]) {
        let ended = met(workers).flat_map(|(w, m)| {
            let outcomes = Outcome::ALL.map(Outcome::name);
            let ended = nonzero(outcomes, &m.ended).map(move |(o, n)| (owned(&[w, o]), n));
            ended.chain(
                nonzero(["failed_attempt"], [&m.failed_attempts]).map(move |(o, n)| (owned(&[w, o]), n)),
            )
        });
        self.family(&own::WORKER_REQUESTS, ended);
        self.family(&own::WORKER_IN_FLIGHT, each(workers, |w| u64::from(w.in_flight())));
        self.family(&own::WORKER_IDLE, each(workers, |w| w.pool.idle() as u64));
        let tokens = met(workers).flat_map(|(w, m)| {
            let told = [&m.prompt_tokens, &m.completion_tokens, &m.cached_tokens, &m.predicted_cached_tokens];
            let kinds = ["prompt", "completion", "cached", "predicted_cached"];
            nonzero(kinds, told).map(move |(kind, n)| (owned(&[w, kind]), n))
        });
        self.family(&own::WORKER_TOKENS, tokens);
    }

    fn worker_durations(&mut self, workers: &[Arc<Worker>]) {
        type Pick = fn(&WorkerMeters) -> &crate::fleet::meters::Histogram;
        let families: [(&'static Family, Pick); 5] = [
            (&own::WORKER_TTFT, |m| &m.ttft),
            (&own::WORKER_ITL, |m| &m.itl),
            (&own::WORKER_QUEUE, |m| &m.queue),
            (&own::WORKER_PREFILL, |m| &m.prefill),
            (&own::WORKER_DECODE, |m| &m.decode),
        ];
        for (family, pick) in families {
            let told = met(workers).map(|(w, m)| (owned(&[w]), pick(m).snapshot()));
            self.family(family, told.filter(|(_, s)| s.count > 0).map(|(l, s)| (l, Value::Buckets(s))));
        }
    }

    /// What the servers say of their load, where they are asked.
    fn worker_loads(&mut self, workers: &[Arc<Worker>], now_ns: u64) {
        type Pick = fn(&ServerLoad) -> Option<f64>;
        let families: [(&'static Family, Pick); 3] = [
            (&own::WORKER_SERVER_QUEUE, |load| load.queue_depth.map(f64::from)),
            (&own::WORKER_SERVER_RUNNING, |load| load.running.map(f64::from)),
            (&own::WORKER_SERVER_KV_USAGE, |load| load.kv_usage),
        ];
        for (family, pick) in families {
            let told = workers.iter().filter_map(|w| Some((w, pick(&w.load_said.load()?)?)));
            self.family(family, told.map(|(w, n)| (owned(&[w.url.as_str()]), Value::Number(n))));
        }
        let asked =
            workers.iter().filter(|w| w.load_said.answered_ns().is_some() || w.load_said.failures() > 0);
        let ages = asked.clone().filter_map(|w| Some((w, now_ns.saturating_sub(w.load_said.answered_ns()?))));
        self.family(
            &own::WORKER_SERVER_LOAD_AGE,
            ages.map(|(w, ns)| (owned(&[w.url.as_str()]), Value::Number(ns as f64 / 1e9))),
        );
        self.family(
            &own::WORKER_SERVER_LOAD_FAILURES,
            asked.map(|w| (owned(&[w.url.as_str()]), w.load_said.failures().into())),
        );
    }

    fn trace(&mut self, shared: &Shared) {
        self.one(&own::TRACE_OFFERED, shared.sink.offered());
        self.one(&own::TRACE_LOST, shared.sink.lost_total());
        self.one(&own::TRACE_BUFFER, shared.sink.held_records() as u64);
        self.one(&own::TRACE_CAPACITY, shared.sink.capacity_records() as u64);
        self.one(&own::WALL_STEPS, shared.sink.wall_steps());
    }

    fn spans(&mut self, shared: &Shared) {
        let Some(spans) = &shared.spans else { return };
        let told = spans.outbox.status();
        let results = [
            ("sent", told.sent),
            ("overflow", told.overflow),
            ("not_taken", told.not_taken),
            ("refused", told.refused),
        ];
        self.family(&own::SPANS_REQUESTS, results.map(|(result, n)| (owned(&[result]), n.into())));
        self.one(&own::SPANS_REFUSED, told.refused_spans);
        self.one(&own::SPANS_WAITING, told.waiting);
    }

    fn process(&mut self, process: Process) {
        self.one(&own::PROCESS_CPU, Value::Number(process.cpu_s));
        let told = [
            (&own::PROCESS_RESIDENT, process.resident_bytes),
            (&own::PROCESS_FDS, process.open_fds),
            (&own::PROCESS_MAX_FDS, process.max_fds),
        ];
        for (family, n) in told {
            self.family(family, n.map(|n| (Vec::new(), n.into())));
        }
    }
}

fn series(family: &Family, labels: Vec<String>, value: Value) -> Metric {
    debug_assert_eq!(family.labels.len(), labels.len(), "{}", family.name);
    let pairs = family.labels.iter().zip(labels).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value);
        pair
    });
    let mut out = Metric::from_label(pairs.collect());
    match (value, family.kind) {
        (Value::Buckets(snapshot), _) => out.set_histogram(histogram(&snapshot)),
        (Value::Number(n), Kind::Gauge) => {
            let mut gauge = Gauge::default();
            gauge.set_value(n);
            out.set_gauge(gauge);
        }
        (Value::Number(n), _) => {
            let mut counter = Counter::default();
            counter.set_value(n);
            out.set_counter(counter);
        }
    }
    out
}

fn histogram(snapshot: &Snapshot) -> Histogram {
    let buckets = snapshot.cumulative.iter().map(|(bound_s, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound_s);
        bucket.set_cumulative_count(*count);
        bucket
    });
    let mut out = Histogram::default();
    out.set_bucket(buckets.collect());
    out.set_sample_count(snapshot.count);
    out.set_sample_sum(snapshot.sum_s);
    out
}

fn owned(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|label| (*label).to_owned()).collect()
}

/// One series a worker.
fn each(workers: &[Arc<Worker>], value: impl Fn(&Worker) -> u64) -> impl Iterator<Item = Row> {
    workers.iter().map(move |w| (vec![w.url.as_str().to_owned()], value(w).into()))
}

/// The workers that have been sent something, with what was counted there.
fn met(workers: &[Arc<Worker>]) -> impl Iterator<Item = (&str, &WorkerMeters)> {
    workers.iter().filter_map(|w| Some((w.url.as_str(), w.meters.get()?)))
}

/// Those of a row of counters that have moved.
fn nonzero<'a, const N: usize>(
    names: [&'static str; N],
    counts: impl IntoIterator<Item = &'a AtomicU64>,
) -> impl Iterator<Item = (&'static str, Value)> {
    let counts: Vec<u64> = counts.into_iter().map(|n| n.load(Ordering::Relaxed)).collect();
    names.into_iter().zip(counts).filter(|(_, n)| *n > 0).map(|(name, n)| (name, n.into()))
}
