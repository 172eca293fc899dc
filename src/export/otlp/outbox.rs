//! Where requests wait to become spans, and what became of those before.
//!
//! Rule: whoever puts one in never waits. There is room for a fixed number; beyond it the oldest is dropped and counted, so that a
//! collector that comes back gets what is new. Each request that comes here to be sent is counted once: sent, or lost for one of three
//! reasons. What the trace's sink had no room for never comes here; the sink counts it. What a span has no place for (prompts, headers,
//! candidates) does not wait here. Deliberately not here: sending.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::trace::outlet::Follower;
use crate::trace::record::{DecisionRecord, Record, RequestKind, RequestRecord, WorkerRecord};

/// Requests that may wait: some 16 MB, and four seconds of 2,000 a second.
pub const CAPACITY_REQUESTS: usize = 8_192;
/// Changes of workers that may wait.
const CAPACITY_WORKERS: usize = 4_096;

/// See the module.
#[derive(Debug)]
pub struct Outbox {
    collector: String,
    waiting: Mutex<Waiting>,
    counts: Counts,
    error: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Box<RequestRecord>>,
    workers: Vec<WorkerRecord>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    overflow: AtomicU64,
    not_taken: AtomicU64,
    refused: AtomicU64,
    refused_spans: AtomicU64,
}

/// What became of requests whose spans were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The collector has them.
    Sent,
    /// There was no room for them.
    Overflow,
    /// The collector did not take them, however often it was asked, or there was no time left to ask.
    NotTaken,
    /// The collector refused them as a whole.
    Refused,
}

/// How the way to the collector stands, in requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpanStatus {
    /// Where spans go.
    pub collector: String,
    /// `sending`, or `failing` (what waits is sent again, what there is no room for is lost and counted).
    pub state: &'static str,
    /// Requests whose spans the collector took.
    pub sent: u64,
    /// Requests that wait.
    pub waiting: u64,
    /// Requests that were lost for want of room.
    pub overflow: u64,
    /// Requests that were lost as nobody took them.
    pub not_taken: u64,
    /// Requests that the collector refused.
    pub refused: u64,
    /// Spans that it refused of requests that it took.
    pub refused_spans: u64,
    /// Why the last attempt failed; absent unless it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Outbox {
    /// An empty one for this collector.
    pub fn new(collector: String) -> Self {
        Self { collector, waiting: Mutex::default(), counts: Counts::default(), error: Mutex::default() }
    }

    fn put(&self, records: &[Record]) {
        // Copied before anybody is kept out, and freed after.
        let told = records.iter().filter_map(|record| match record {
            Record::Request(request) if is_told(request) => Some(lean(request)),
            _ => None,
        });
        let told: Vec<Box<RequestRecord>> = told.collect();
        let workers = records.iter().filter_map(|record| match record {
            Record::Worker(worker) => Some(worker.clone()),
            _ => None,
        });
        let workers: Vec<WorkerRecord> = workers.collect();
        let mut waiting = lock(&self.waiting);
        let room_for_workers = CAPACITY_WORKERS.saturating_sub(waiting.workers.len());
        waiting.workers.extend(workers.into_iter().take(room_for_workers));
        waiting.requests.extend(told);
        let too_many = waiting.requests.len().saturating_sub(CAPACITY_REQUESTS);
        let dropped: Vec<Box<RequestRecord>> = waiting.requests.drain(..too_many).collect();
        drop(waiting);
        self.count(Fate::Overflow, dropped.len() as u64);
    }

    /// The oldest that waits.
    pub(super) fn take(&self) -> Option<Box<RequestRecord>> {
        lock(&self.waiting).requests.pop_front()
    }

    /// The changes of workers so far.
    pub(super) fn take_workers(&self) -> Vec<WorkerRecord> {
        std::mem::take(&mut lock(&self.waiting).workers)
    }

    pub(super) fn count(&self, fate: Fate, requests: u64) {
        let count = match fate {
            Fate::Sent => &self.counts.sent,
            Fate::Overflow => &self.counts.overflow,
            Fate::NotTaken => &self.counts.not_taken,
            Fate::Refused => &self.counts.refused,
        };
        count.fetch_add(requests, Ordering::Relaxed);
    }

    pub(super) fn count_refused_spans(&self, spans: u64) {
        self.counts.refused_spans.fetch_add(spans, Ordering::Relaxed);
    }

    /// What went wrong last, if it still does; returns what that was before.
    pub(super) fn set_error(&self, error: Option<String>) -> Option<String> {
        std::mem::replace(&mut lock(&self.error), error)
    }

    /// Nobody will send what waits.
    pub(super) fn give_up(&self) {
        let requests = std::mem::take(&mut lock(&self.waiting).requests);
        self.count(Fate::NotTaken, requests.len() as u64);
    }

    /// How it stands.
    pub fn status(&self) -> SpanStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let error = lock(&self.error).clone();
        SpanStatus {
            collector: self.collector.clone(),
            state: if error.is_some() { "failing" } else { "sending" },
            sent: read(&self.counts.sent),
            waiting: lock(&self.waiting).requests.len() as u64,
            overflow: read(&self.counts.overflow),
            not_taken: read(&self.counts.not_taken),
            refused: read(&self.counts.refused),
            refused_spans: read(&self.counts.refused_spans),
            error,
        }
    }
}

impl SpanStatus {
    /// Requests whose spans nobody has and nobody will get.
    pub fn lost(&self) -> u64 {
        self.overflow + self.not_taken + self.refused
    }
}

/// Puts what the trace's writer offers into an outbox.
#[derive(Debug)]
pub struct Posting(pub Arc<Outbox>);

impl Follower for Posting {
    fn offer(&mut self, batch: &[Record]) {
        self.0.put(batch);
    }
}

/// Its spans are sent: not where its client has decided that its trace is not recorded, and the router's own answers (probes,
/// pages) only where they are part of a client's trace.
fn is_told(request: &RequestRecord) -> bool {
    match request.parent_span_id {
        Some(_) => request.trace_sampled == Some(true),
        None => request.request_kind != RequestKind::Local,
    }
}

/// What spans are made of, and nothing else of the record.
fn lean(request: &RequestRecord) -> Box<RequestRecord> {
    let decision = request.decision.as_ref().map(|decision| DecisionRecord {
        reason: decision.reason.clone(),
        took_ns: decision.took_ns,
        ..DecisionRecord::default()
    });
    Box::new(RequestRecord {
        seq: request.seq,
        request_id: request.request_id.clone(),
        method: request.method.clone(),
        path: request.path.clone(),
        endpoint: request.endpoint,
        phase: request.phase.clone(),
        model: request.model.clone(),
        trace_id: request.trace_id,
        span_id: request.span_id,
        parent_span_id: request.parent_span_id,
        worker: request.worker.clone(),
        same_host: request.same_host,
        worker_span_id: request.worker_span_id,
        policy: request.policy.clone(),
        decision,
        attempts: request.attempts,
        failed_attempts: request.failed_attempts.clone(),
        arrival_mono_ns: request.arrival_mono_ns,
        arrival_unix_ns: request.arrival_unix_ns,
        body_read_ns: request.body_read_ns,
        limit_wait_ns: request.limit_wait_ns,
        decided_ns: request.decided_ns,
        connected_ns: request.connected_ns,
        router_send_ns: request.router_send_ns,
        first_byte_ns: request.first_byte_ns,
        first_event_ns: request.first_event_ns,
        first_token_ns: request.first_token_ns,
        last_byte_ns: request.last_byte_ns,
        end_ns: request.end_ns,
        outcome: request.outcome,
        status: request.status,
        error: request.error.clone(),
        sse_events: request.sse_events,
        tokens: request.tokens,
        server: request.server,
        ..RequestRecord::default()
    })
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::otlp::Batch;
    use crate::export::source::Placed;
    use crate::trace::align::align;
    use crate::trace::axis::{ClockTrack, Offsets};
    use crate::trace::schema::filled_records;
    use crate::wire::traceparent::SpanId;

    fn request(seq: u64, change: impl FnOnce(&mut RequestRecord)) -> Record {
        let mut request = RequestRecord { seq, ..RequestRecord::default() };
        change(&mut request);
        Record::Request(Box::new(request))
    }

    #[test]
    fn the_newest_stay_where_there_is_no_room_for_all_and_the_others_are_counted() {
        let outbox = Outbox::new("c".to_owned());
        let more = 10;
        for seq in 1..=(CAPACITY_REQUESTS + more) as u64 {
            outbox.put(&[request(seq, |_| {})]);
        }
        let status = outbox.status();
        assert_eq!((status.waiting, status.overflow), (CAPACITY_REQUESTS as u64, more as u64));
        assert_eq!(outbox.take().map(|request| request.seq), Some(more as u64 + 1));
        outbox.give_up();
        assert_eq!((outbox.status().waiting, outbox.status().not_taken), (0, CAPACITY_REQUESTS as u64 - 1));
        assert_eq!(outbox.status().lost(), (CAPACITY_REQUESTS + more) as u64 - 1);
    }

    #[test]
    fn what_its_client_does_not_record_and_what_only_the_router_answered_is_left_out() {
        let outbox = Outbox::new("c".to_owned());
        let client = Some(SpanId::of(7));
        outbox.put(&[
            request(1, |r| (r.parent_span_id, r.trace_sampled) = (client, Some(false))),
            request(2, |r| (r.parent_span_id, r.trace_sampled) = (client, Some(true))),
            // Kept in the file as it failed, or as it was slow.
            request(3, |r| r.trace_sampled = Some(false)),
            request(4, |r| r.request_kind = RequestKind::Local),
            request(5, |r| {
                (r.request_kind, r.parent_span_id, r.trace_sampled) =
                    (RequestKind::Local, client, Some(true));
            }),
            Record::Worker(WorkerRecord::default()),
        ]);
        let seqs: Vec<u64> = std::iter::from_fn(|| outbox.take()).map(|request| request.seq).collect();
        assert_eq!(seqs, [2, 3, 5]);
        assert_eq!((outbox.take_workers().len(), outbox.take_workers().len()), (1, 0));
    }

    #[test]
    fn no_prompt_waits() {
        let outbox = Outbox::new("c".to_owned());
        outbox.put(&[request(1, |r| {
            r.prompt_text = Some("secret".to_owned());
            r.headers = [("x-tenant".to_owned(), "secret".to_owned())].into();
            r.decision =
                Some(DecisionRecord { reason: "prefix_hit".into(), took_ns: 3, ..DecisionRecord::default() });
        })]);
        let waiting = outbox.take().unwrap();
        assert!(!format!("{waiting:?}").contains("secret"));
        assert_eq!(waiting.decision.map(|d| (d.reason, d.took_ns)), Some(("prefix_hit".into(), 3)));
    }

    #[test]
    fn what_waits_gives_the_spans_that_the_whole_record_gives() {
        let all = filled_records();
        let run = all.iter().find_map(|record| if let Record::Run(run) = record { Some(run) } else { None });
        let mut clocks = ClockTrack::default();
        clocks.add(run.unwrap().clock);
        let spans = |record: &RequestRecord| {
            let mut offsets = Offsets::default();
            offsets.learn(record);
            let mut batch = Batch::of(run);
            batch.add(&Placed { run: 1, record, aligned: align(record, &clocks, &offsets) });
            String::from_utf8(batch.take()).unwrap()
        };
        let mut seen = 0;
        for record in &all {
            let Record::Request(whole) = record else { continue };
            for same_host in [Some(true), Some(false), None] {
                let whole = RequestRecord { same_host, ..RequestRecord::clone(whole) };
                assert_eq!(spans(&lean(&whole)), spans(&whole));
                seen += 1;
            }
        }
        assert!(seen >= 3);
    }
}
