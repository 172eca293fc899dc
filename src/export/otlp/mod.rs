//! A trace as OpenTelemetry spans: OTLP requests in its JSON encoding.
//!
//! A request is a `SERVER` span of the router with its stages as children, and a `CLIENT` span for each worker that it was sent
//! to, with what that worker told as children. Why JSON: collectors take it on the same path, and it needs no generated code.
//! The ids are those of the record, which the worker was told and its engine's spans name as their parent; where spans were not sent
//! (`--enable-trace`) they follow from run and `seq` alone. Either way a trace that is exported twice gives the same spans.
//!
//! A trace file → `batches` → `send`; a router that runs → `outbox` (bounded) → `courier` (a thread) → `send`. Deliberately not here:
//! what the stages are (`stages`).

pub mod courier;
pub mod outbox;
pub mod send;

use std::io::Write;

use serde_json::{Value, json};

use super::ExportError;
use super::source::{Item, Placed, each};
use super::stages::{Stage, at_router, at_workers};
use super::survey::Survey;
use crate::trace::record::{Outcome, RequestRecord, RunRecord};
use crate::wire::traceparent::{SpanId, TraceId};

/// Spans of one OTLP request: a collector's default limit is 4 MiB, and a span is some 500 bytes.
pub(crate) const BATCH_SPANS: usize = 2_048;
/// `SpanKind` of a part of a request.
const INTERNAL: u8 = 1;
/// `SpanKind` of a request at the router.
const SERVER: u8 = 2;
/// `SpanKind` of a request to a worker.
const CLIENT: u8 = 3;
/// `StatusCode` of what went wrong.
const ERROR: u8 = 2;

/// Spans that become one OTLP request.
#[derive(Debug)]
pub struct Batch {
    resource: Value,
    /// What the ids of this run's spans are made of.
    run_key: u64,
    spans: Vec<Value>,
}

impl Batch {
    /// An empty one of a run; `run` is absent where the trace does not tell.
    pub fn of(run: Option<&RunRecord>) -> Self {
        let mut about = vec![attribute("service.name", "milepost".into())];
        let mut run_key = 0;
        if let Some(run) = run {
            let instance = match &run.capture {
                Some(capture) => capture.instance.clone(),
                None => format!("{}/{}", run.pid, run.clock.unix_ns),
            };
            run_key = key_of(&instance);
            about.push(attribute("service.version", run.version.as_str().into()));
            about.push(attribute("service.instance.id", instance.into()));
            about.push(attribute("milepost.listen", run.listen.as_str().into()));
        }
        Self { resource: json!({ "attributes": about }), run_key, spans: Vec::new() }
    }

    /// Adds the spans of a request.
    pub fn add(&mut self, placed: &Placed<'_>) {
        let record = placed.record;
        let mut spans = Spans::of(self.run_key, record);
        let end_ns = i64::try_from(record.end_ns).unwrap_or(i64::MAX);
        let whole = Stage { name: format!("{} {}", record.method, record.path).into(), start_ns: 0, end_ns };
        let failed = (record.outcome != Outcome::Done)
            .then(|| record.error.clone().unwrap_or_else(|| record.outcome.name().to_owned()));
        let about = of_request(placed);
        let root =
            spans.add((record.span_id, record.parent_span_id), SERVER, &whole, &about, failed.as_deref());
        for stage in &at_router(record) {
            spans.add((None, Some(root)), INTERNAL, stage, &[], None);
        }
        for visit in at_workers(placed) {
            let whole = Stage { name: "worker".into(), start_ns: visit.start_ns, end_ns: visit.end_ns };
            let about = [attribute("url.full", visit.worker.into())];
            let at_worker = spans.add((visit.span_id, Some(root)), CLIENT, &whole, &about, visit.error);
            for stage in &visit.stages {
                spans.add((None, Some(at_worker)), INTERNAL, stage, &[], None);
            }
        }
        self.spans.append(&mut spans.done);
    }

    /// Spans in it.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The body of the request; the batch is empty afterwards.
    pub fn take(&mut self) -> Vec<u8> {
        let scope = json!({ "name": "milepost", "version": env!("CARGO_PKG_VERSION") });
        let spans = std::mem::take(&mut self.spans);
        let body = json!({
            "resourceSpans": [{ "resource": self.resource, "scopeSpans": [{ "scope": scope, "spans": spans }] }]
        });
        body.to_string().into_bytes()
    }
}

/// Hands over the requests of a trace as bodies of OTLP requests; returns how many requests of the trace that were.
pub fn batches(
    survey: &Survey,
    mut take: impl FnMut(Vec<u8>) -> Result<(), ExportError>,
) -> Result<u64, ExportError> {
    let (mut batch, mut requests) = (Batch::of(None), 0);
    each(survey, |item| {
        match item {
            Item::Request(placed) => {
                batch.add(&placed);
                requests += 1;
            }
            Item::NewRun(run) => {
                if !batch.is_empty() {
                    take(batch.take())?;
                }
                batch = Batch::of(run);
            }
            Item::Other(..) => {}
        }
        if batch.len() >= BATCH_SPANS { take(batch.take()) } else { Ok(()) }
    })?;
    if !batch.is_empty() {
        take(batch.take())?;
    }
    Ok(requests)
}

/// Writes the requests of a trace as OTLP requests, one a line, as a collector's file receiver reads them; returns how many.
pub fn write(survey: &Survey, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    batches(survey, |body| {
        out.write_all(&body)?;
        out.write_all(b"\n")?;
        Ok(())
    })
}

/// The spans of one request.
struct Spans {
    trace_id: TraceId,
    seed: u64,
    arrival_unix_ns: u64,
    done: Vec<Value>,
}

impl Spans {
    fn of(run_key: u64, record: &RequestRecord) -> Self {
        let seed = mixed(run_key ^ record.seq);
        let trace_id = match record.trace_id {
            Some(id) => id,
            None => TraceId::of((u128::from(seed) << 64) | u128::from(mixed(seed ^ run_key))),
        };
        // Of two routers in one trace, each with ids of its own.
        let seed = record.span_id.map_or(seed, SpanId::bits);
        Self { trace_id, seed, arrival_unix_ns: record.arrival_unix_ns, done: Vec::new() }
    }

    /// Adds a span, of an id of its own or one that is made, below its parent; returns its id.
    fn add(
        &mut self,
        (own, parent): (Option<SpanId>, Option<SpanId>),
        kind: u8,
        stage: &Stage,
        attributes: &[Value],
        error: Option<&str>,
    ) -> SpanId {
        let id = own.unwrap_or_else(|| SpanId::of(mixed(self.seed.wrapping_add(self.done.len() as u64 + 1))));
        let unix_ns = |ns: i64| self.arrival_unix_ns.saturating_add_signed(ns).to_string();
        let mut span = json!({
            "traceId": self.trace_id, "spanId": id, "name": stage.name, "kind": kind,
            "startTimeUnixNano": unix_ns(stage.start_ns), "endTimeUnixNano": unix_ns(stage.end_ns),
            "attributes": attributes,
        });
        if let Some(parent) = parent {
            span["parentSpanId"] = json!(parent);
        }
        if let Some(error) = error {
            span["status"] = json!({ "code": ERROR, "message": error });
        }
        self.done.push(span);
        id
    }
}

/// What is known of a request, under OpenTelemetry's names where it has some.
fn of_request(placed: &Placed<'_>) -> Vec<Value> {
    let (record, aligned) = (placed.record, &placed.aligned);
    let text = |name: &str, value: Option<&str>| value.map(|value| attribute(name, value.into()));
    let count = |name: &str, value: Option<u64>| value.map(|value| attribute(name, value.into()));
    let decision = record.decision.as_ref();
    let told = [
        text("http.request.method", Some(&record.method)),
        text("url.path", Some(&record.path)),
        count("http.response.status_code", record.status.map(u64::from)),
        text("gen_ai.request.model", record.model.as_deref()),
        count("gen_ai.usage.input_tokens", record.tokens.prompt_tokens),
        count("gen_ai.usage.output_tokens", record.tokens.completion_tokens),
        text("milepost.request_id", Some(&record.request_id)),
        count("milepost.seq", Some(record.seq)),
        text("milepost.outcome", Some(record.outcome.name())),
        text("milepost.phase", record.phase.as_deref()),
        text("milepost.worker", record.worker.as_deref()),
        text("milepost.policy", record.policy.as_deref()),
        text("milepost.decision.reason", decision.map(|decision| decision.reason.as_ref())),
        count("milepost.attempts", Some(u64::from(record.attempts))),
        count("milepost.cached_tokens", record.tokens.cached_tokens),
        count("milepost.ttft_ns", aligned.ttft_ns.and_then(|ns| u64::try_from(ns).ok())),
        text("milepost.ttft_source", Some(aligned.ttft_source.as_str())),
        count("milepost.clock_bound_ns", aligned.clock_bound_ns),
    ];
    told.into_iter().flatten().collect()
}

/// An attribute; 64-bit numbers are strings in OTLP's JSON.
fn attribute(name: &str, value: Value) -> Value {
    let value = match value {
        Value::Number(n) => json!({ "intValue": n.to_string() }),
        other => json!({ "stringValue": other }),
    };
    json!({ "key": name, "value": value })
}

/// A number for a text (FNV-1a).
fn key_of(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |key, byte| (key ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A permutation of the 64-bit numbers that looks like chance (the finaliser of `splitmix64`).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}
