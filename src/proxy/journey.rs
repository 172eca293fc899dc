//! The state of one request and its end: exactly one trace record, one release of the lease, however it ends.
//!
//! Rule: this value is the drop guard. Whoever holds it (the handler, then the response body) may be dropped at any moment,
//! because the client left or because code panicked; dropping it finishes the request. Deliberately not here: I/O.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Response};
use milepost_policies::{Event, WorkerId};
use tokio::sync::Notify;

use super::Shared;
use super::asked::Asked;
use super::body::AnswerBody;
use super::budget::Reserved;
use super::headers::{self, ClientHeaders};
use super::limit::Slot;
use super::names::{generated_id, method_name, path_name};
use super::verdict;
use crate::buffer::Buffer;
use crate::clock::Stamp;
use crate::fleet::breaker::Verdict;
use crate::fleet::dispatch::Chosen;
use crate::fleet::lease::Lease;
use crate::fleet::worker::Worker;
use crate::trace::record::{AttemptRecord, Outcome, Record, RequestKind, RequestRecord};
use crate::wire::Endpoint;
use crate::wire::answer::Answer;
use crate::wire::problem::{self, Problem};

/// A request time-out beyond this is none, and can be added to any clock.
const FOR_EVER: Duration = Duration::from_secs(3_155_760_000);
/// Failed attempts kept in a record; a router set to more attempts than this counts the others.
const MAX_FAILED_ATTEMPTS: usize = 64;

/// One request on its way.
#[derive(Debug)]
pub struct Journey {
    // `None` once the record has been offered.
    record: Option<Box<RequestRecord>>,
    arrival: Stamp,
    send_unix_ns: Option<u64>,
    deadline: tokio::time::Instant,
    worker: Option<Arc<Worker>>,
    shared: Arc<Shared>,
    lease: Option<Lease>,
    // The worker that gave the whole answer, once it has and its lease is back.
    served_by: Option<Arc<Worker>>,
    reserved: Option<Reserved>,
    // The part of the prompt that the chosen worker was thought to hold.
    held_share: Option<f64>,
    // Of the router's own error, if it answered with one.
    error_code: &'static str,
    slot: Option<Slot>,
}

/// Why a request gets no worker's answer.
#[derive(Debug)]
pub enum Halt {
    /// The router answers itself.
    Refused(Refusal),
    /// Nobody is there to be answered.
    ClientGone,
}

impl<T: Into<Refusal>> From<T> for Halt {
    fn from(refusal: T) -> Self {
        Self::Refused(refusal.into())
    }
}

/// A request that ends without a worker's answer.
#[derive(Debug)]
pub struct Refusal {
    /// What the client sees.
    pub problem: Problem,
    /// What the record says.
    pub outcome: Outcome,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, outcome: Outcome::Refused }
    }
}

impl Journey {
    /// Starts at the moment the head has been parsed.
    pub fn begin(
        shared: &Arc<Shared>,
        asked: &Asked,
        known: &ClientHeaders<'_>,
        client: Option<Arc<str>>,
    ) -> Self {
        let arrival = shared.clock.now();
        let seq = shared.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let path = asked.path();
        let endpoint = Endpoint::of_path(path);
        shared.metrics.request_began(endpoint, asked.method.as_str(), path, arrival.mono_ns);
        let request_id = known.request_id().unwrap_or_else(|| generated_id(&shared.instance, endpoint, seq));
        let mut record = RequestRecord {
            seq,
            request_id,
            method: method_name(&asked.method),
            path: path_name(endpoint, path),
            endpoint,
            body_look: "empty".into(),
            phase: known.phase.and_then(headers::visible),
            client,
            client_arrival_time: known.arrival_time.and_then(headers::visible),
            arrival_mono_ns: arrival.mono_ns,
            arrival_unix_ns: arrival.unix_ns,
            ..RequestRecord::default()
        };
        if let Some(spans) = &shared.spans {
            spans.ids.begin(&mut record, known);
        }
        Self {
            record: Some(Box::new(record)),
            arrival,
            send_unix_ns: None,
            deadline: deadline(shared.config.request_timeout),
            shared: Arc::clone(shared),
            worker: None,
            lease: None,
            served_by: None,
            reserved: None,
            held_share: None,
            error_code: "",
            slot: None,
        }
    }

    /// The record so far.
    pub fn record(&self) -> &RequestRecord {
        static EMPTY: std::sync::LazyLock<RequestRecord> = std::sync::LazyLock::new(RequestRecord::default);
        self.record.as_deref().unwrap_or(&EMPTY)
    }

    /// Changes the record; does nothing once it has been offered.
    pub fn note(&mut self, change: impl FnOnce(&mut RequestRecord)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }

    /// Nanoseconds since arrival.
    pub fn elapsed_ns(&self) -> u64 {
        self.after(self.shared.clock.mono_ns())
    }

    /// A monotonic time as nanoseconds after arrival.
    pub fn after(&self, mono_ns: u64) -> u64 {
        mono_ns.saturating_sub(self.arrival.mono_ns)
    }

    /// What requests share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// When it arrived, Unix nanoseconds: `x-arrival-time`.
    pub fn arrival_unix_ns(&self) -> u64 {
        self.arrival.unix_ns
    }

    /// When it was sent to a worker, Unix nanoseconds: `x-router-send-time`, once it was.
    pub fn send_unix_ns(&self) -> Option<u64> {
        self.send_unix_ns
    }

    /// The worker chosen last.
    pub fn worker(&self) -> Option<&Worker> {
        self.worker.as_deref()
    }

    /// A connection is in hand and the request is about to be written on it: takes the send stamp.
    pub fn sending(&mut self, same_host: bool) {
        let router_send_ns = self.elapsed_ns();
        self.send_unix_ns = Some(self.arrival.unix_ns_at(self.arrival.mono_ns + router_send_ns));
        self.note(|r| {
            r.connected_ns = Some(router_send_ns);
            r.router_send_ns = Some(router_send_ns);
            r.same_host = Some(same_host);
        });
    }

    /// True once the request has taken longer than it may.
    pub fn is_late(&self, now_ns: u64) -> bool {
        u128::from(self.after(now_ns)) > self.shared.config.request_timeout.as_nanos()
    }

    /// How the request ends if its holder is dropped now.
    pub fn outcome_if_dropped(&self) -> Outcome {
        if std::thread::panicking() {
            Outcome::Panicked
        } else if self.shared.cut.is_now() {
            Outcome::Stopped
        } else {
            Outcome::ClientGone
        }
    }

    /// When the request must have ended.
    pub fn deadline(&self) -> tokio::time::Instant {
        self.deadline
    }

    /// Holds the memory of the request body.
    pub fn hold(&mut self, reserved: Reserved) {
        self.reserved = Some(reserved);
    }

    /// Holds a place among the requests at workers.
    pub fn occupy(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }

    /// The request body is no longer needed.
    pub fn drop_body(&mut self) {
        self.reserved = None;
    }

    /// A worker was chosen.
    pub fn choose(&mut self, chosen: Chosen) -> Arc<Worker> {
        self.shared.fallbacks.note(&chosen, &self.shared.metrics);
        let worker = Arc::clone(chosen.lease.worker());
        let decided_ns = self.after(chosen.at_ns);
        self.lease = Some(chosen.lease);
        self.held_share = chosen.held_share;
        self.worker = Some(Arc::clone(&worker));
        if let Some(rid) = &self.record().rid {
            self.shared.fleet.rids().insert(rid, self.record().seq, &worker);
        }
        self.note(|r| {
            r.attempts += 1;
            r.worker = Some(worker.url.shared());
            r.policy = Some(chosen.policy.into());
            r.decided_ns = Some(decided_ns);
            r.decision = chosen.decision;
            r.shadow = chosen.shadow;
            // Of an attempt before, which may have been at a rank.
            (r.dp_rank, r.dp_rank_by) = (None, None);
        });
        if let (Some(spans), Some(record)) = (&self.shared.spans, &mut self.record) {
            spans.ids.attempt(record);
        }
        worker
    }

    /// Tells the breaker of the worker that has the request how it did. Only the first word on an attempt counts.
    pub fn judge(&mut self, verdict: Verdict) {
        if let Some(lease) = &mut self.lease {
            self.shared.fleet.settle(lease, verdict);
        }
    }

    /// The first bytes of the answer's body have come: a half-open worker has shown what its breaker waits for.
    pub fn answer_began(&mut self, status: u16) {
        if let Some(lease) = &mut self.lease {
            self.shared.fleet.settle_probe(lease, verdict::of(status));
        }
    }

    /// The attempt at the chosen worker failed, with this status if it answered; its lease is released, and the policy is
    /// told.
    pub fn attempt_failed(&mut self, worker: &Worker, status: Option<u16>, error: String) {
        let failed_ns = self.elapsed_ns();
        self.lease = None;
        self.shared.fleet.observe(worker, &ended(worker.id, self.record(), failed_ns, false));
        self.shared.metrics.attempt_failed(worker);
        self.note(|r| {
            let (router_send_ns, span_id) = (r.router_send_ns.take(), r.worker_span_id.take());
            (r.connected_ns, r.same_host) = (None, None);
            (r.first_byte_ns, r.head_ns, r.reused_connection) = (None, None, false);
            if r.failed_attempts.len() < MAX_FAILED_ATTEMPTS {
                let worker = worker.url.shared();
                let failed = AttemptRecord {
                    worker,
                    span_id,
                    router_send_ns,
                    failed_ns,
                    status,
                    backoff_ns: None,
                    error,
                };
                r.failed_attempts.push(failed);
            }
        });
    }

    /// The next attempt waits for this long. Returns what an abort of the request tells meanwhile, if it has a `rid`.
    pub fn pausing(&mut self, pause: Duration) -> Option<Arc<Notify>> {
        self.note(|r| {
            let last = r.failed_attempts.last_mut().filter(|_| r.attempts as usize <= MAX_FAILED_ATTEMPTS);
            if let Some(last) = last {
                last.backoff_ns = Some(u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
            }
        });
        let rid = self.record().rid.as_deref()?;
        self.shared.fleet.rids().pause(rid, self.record().seq)
    }

    /// The pause is over; true if the request was aborted meanwhile.
    pub fn resume(&self) -> bool {
        let rid = self.record().rid.as_deref();
        rid.is_some_and(|rid| self.shared.fleet.rids().resume(rid, self.record().seq))
    }

    /// The worker has given its whole answer: its lease is back, whatever time the client takes to read the rest.
    pub fn served(&mut self, status: u16) {
        self.judge(verdict::of(status));
        self.served_by = self.lease.take().map(|lease| Arc::clone(lease.worker()));
    }

    /// Takes over what the answer told.
    pub fn take_answer(&mut self, answer: Answer) {
        let arrival_ns = self.arrival.mono_ns;
        let after = |at_ns: u64| at_ns.saturating_sub(arrival_ns);
        let held_share = self.held_share;
        self.note(|r| {
            let tokens = held_share.zip(answer.tokens.prompt_tokens);
            r.predicted_cached_tokens = tokens.map(|(share, prompt)| (share * prompt as f64) as u64);
            r.first_event_ns = answer.first_event_ns.map(after);
            r.first_token_ns = answer.first_token_ns.map(after);
            r.sse_events = answer.events;
            r.sse_done = answer.done;
            r.tokens = answer.tokens;
            r.has_text = answer.has_text;
            r.answer_unread = answer.unread.map(Cow::Borrowed);
            r.finish_reason = answer.finish_reason;
            r.server = answer.stamps;
            if let Some(error) = answer.error {
                r.error = Some(error.public());
            }
        });
    }

    /// Ends the request: releases everything, tells policy and metrics, offers the record.
    pub fn end(&mut self, outcome: Outcome, error: Option<&str>) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        record.outcome = outcome;
        if let Some(error) = error {
            record.error = Some(error.to_owned());
        }
        self.reserved = None;
        self.judge(verdict::at_end(outcome, record.status));
        if let Some(rid) = &record.rid {
            self.shared.fleet.rids().remove(rid, record.seq);
        }
        let held_by = self.lease.take().map(|lease| Arc::clone(lease.worker()));
        let worker = held_by.or(self.served_by.take());
        record.end_ns = self.after(self.shared.clock.mono_ns());
        if let Some(worker) = &worker {
            let ok = record.outcome == Outcome::Done;
            self.shared.fleet.observe(worker, &ended(worker.id, &record, record.end_ns, ok));
        }
        // After the lease, or there would be one request more at the workers than the limit says.
        self.slot = None;
        self.shared.metrics.request_ended(&record, worker.as_deref(), self.error_code);
        self.shared.sink.offer(Record::Request(record));
    }

    /// The first token has come, at this moment of the router's monotonic clock.
    pub fn first_token(&self, at_ns: u64) {
        if let Some(worker) = &self.worker {
            let ttft_ns = self.after(at_ns).saturating_sub(self.record().router_send_ns.unwrap_or(0));
            let event =
                Event::FirstToken { seq: self.record().seq, worker: worker.id, ttft_us: ttft_ns / 1_000 };
            self.shared.fleet.observe(worker, &event);
        }
    }

    /// Answers with an error of the router's own.
    pub fn refuse(self, problem: Problem) -> Response<AnswerBody> {
        self.end_with(problem.into())
    }

    /// Answers with an error of the router's own, and says how the request ended.
    pub fn end_with(mut self, refusal: Refusal) -> Response<AnswerBody> {
        let Refusal { problem, outcome } = refusal;
        // sglang-router's 401 has no body.
        let body = if problem.status == 401 { bytes::Bytes::new() } else { problem.body() };
        let mut response = Response::new(AnswerBody::own(body));
        *response.status_mut() =
            http::StatusCode::from_u16(problem.status).unwrap_or(http::StatusCode::BAD_GATEWAY);
        let out = response.headers_mut();
        if problem.status == 401 {
            out.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        } else {
            out.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        }
        out.insert(headers::ERROR_CODE, HeaderValue::from_static(problem.code));
        if matches!(problem.status, 429 | 503) || problem.code == "queue_timeout" {
            out.insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        stamp(out, &self);
        self.note(|r| r.status = Some(problem.status));
        self.error_code = problem.code;
        self.end(outcome, Some(&format!("{}: {}", problem.code, problem.message)));
        response
    }

    /// Answers a request that is the router's own business.
    pub fn local(mut self, kind: RequestKind, mut response: Response<AnswerBody>) -> Response<AnswerBody> {
        stamp(response.headers_mut(), &self);
        let status = response.status().as_u16();
        self.note(|r| {
            r.request_kind = kind;
            r.status = Some(status);
            r.body_look = "not_json_endpoint".into();
        });
        let outcome = match status {
            ..400 => Outcome::Done,
            // Workers were asked, and this is what they said.
            _ if kind == RequestKind::FanOut => Outcome::WorkerError,
            _ if self.record().worker.is_some() => Outcome::WorkerError,
            _ => Outcome::Refused,
        };
        self.end(outcome, None);
        response
    }
}

impl Drop for Journey {
    fn drop(&mut self) {
        if self.record.is_some() {
            self.end(self.outcome_if_dropped(), None);
        }
    }
}

/// An attempt that was over at `end_ns`.
fn ended(worker: WorkerId, record: &RequestRecord, end_ns: u64, ok: bool) -> Event {
    let began_ns = record.router_send_ns.or(record.decided_ns).unwrap_or(0);
    Event::Ended {
        seq: record.seq,
        worker,
        ok,
        latency_us: end_ns.saturating_sub(began_ns) / 1_000,
        prompt_tokens: record.tokens.prompt_tokens,
        completion_tokens: record.tokens.completion_tokens,
        cached_tokens: record.tokens.cached_tokens,
    }
}

/// Now and the time a request may take; a time beyond the clock's end is one that never comes.
fn deadline(timeout: Duration) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    now.checked_add(timeout.min(FOR_EVER)).unwrap_or(now)
}

/// Puts the stamps into an answer of the router's own.
fn stamp(out: &mut http::HeaderMap, journey: &Journey) {
    let mut lines = Buffer::default();
    headers::response_stamps(&mut lines, journey);
    for (name, value) in headers::written(&lines) {
        // Ids are visible ASCII, times digits, URLs were parsed: none can fail.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            out.insert(name, value);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("instance", &self.instance).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "journey_tests.rs"]
mod tests;
