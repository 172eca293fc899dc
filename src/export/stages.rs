//! What a request went through, stage after stage, at the router and at its workers.
//!
//! Rule: stages follow each other without a gap and end with the request; a boundary that nobody told is left out and its two
//! stages are one, named after both (`server queue + prefill`). A moment that lies before an earlier one, or beyond the end, is
//! moved there: alignment is as good as its bound, and no viewer can draw a stage that ends before it begins. Deliberately not
//! here: how stages are drawn.

use std::borrow::Cow;

use serde::Serialize;

use super::source::Placed;
use crate::trace::record::{AttemptRecord, RequestRecord};
use crate::wire::traceparent::SpanId;

/// A part of a request's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// What went on.
    pub name: Cow<'static, str>,
    /// Its beginning, nanoseconds after arrival.
    pub start_ns: i64,
    /// Its end, nanoseconds after arrival.
    pub end_ns: i64,
}

/// A request at one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit<'a> {
    /// The worker's URL.
    pub worker: &'a str,
    /// The span that the worker was told to belong to, if it was told one.
    pub span_id: Option<SpanId>,
    /// First byte sent, nanoseconds after arrival.
    pub start_ns: i64,
    /// Last byte read, or it failed, nanoseconds after arrival.
    pub end_ns: i64,
    /// What the worker did; none of a failed attempt.
    pub stages: Vec<Stage>,
    /// Why the attempt failed.
    pub error: Option<&'a str>,
}

/// The stage at the router while the request is at a worker.
const AT_WORKER: &str = "at worker";

/// Stages that follow each other.
struct Walk {
    at_ns: i64,
    end_ns: i64,
    stages: Vec<Stage>,
    /// Names of stages whose end was not told.
    open: Vec<&'static str>,
}

impl Walk {
    fn new(start_ns: i64, end_ns: i64) -> Self {
        Self { at_ns: start_ns, end_ns: end_ns.max(start_ns), stages: Vec::new(), open: Vec::new() }
    }

    /// The stage `name` ends at `ns`, if that is known.
    fn to(&mut self, name: &'static str, ns: Option<i64>) {
        self.open.push(name);
        let Some(ns) = ns else { return };
        let end_ns = ns.clamp(self.at_ns, self.end_ns);
        let name = match self.open.as_slice() {
            [alone] => Cow::Borrowed(*alone),
            several => several.join(" + ").into(),
        };
        self.open.clear();
        // What took no time at all is no stage.
        if end_ns > self.at_ns {
            self.stages.push(Stage { name, start_ns: self.at_ns, end_ns });
        }
        self.at_ns = end_ns;
    }

    /// As [`Self::to`]; a stage whose end is not known did not take place.
    fn perhaps(&mut self, name: &'static str, ns: Option<i64>) {
        if ns.is_some() {
            self.to(name, ns);
        }
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// The request at the router, from arrival to its end.
pub fn at_router(record: &RequestRecord) -> Vec<Stage> {
    let mut walk = Walk::new(0, signed(record.end_ns));
    walk.perhaps("read body", record.body_read_ns.map(signed));
    let waited_ns = record.limit_wait_ns.map(signed);
    walk.perhaps("router queue", waited_ns.map(|ns| walk.at_ns.saturating_add(ns)));
    for attempt in &record.failed_attempts {
        walk.to("failed attempt", Some(signed(attempt.failed_ns)));
        let paused_ns = attempt.backoff_ns.map(signed);
        walk.perhaps("pause", paused_ns.map(|ns| walk.at_ns.saturating_add(ns)));
    }
    if let Some(decided_ns) = record.decided_ns.map(signed) {
        let took_ns = record.decision.as_ref().map(|decision| signed(decision.took_ns));
        // Not told where nobody wrote decisions then: with the capture stopped, or switched off.
        walk.to("look at body", took_ns.map(|ns| decided_ns.saturating_sub(ns)));
        walk.to("decision", Some(decided_ns));
    }
    walk.perhaps("connect", record.connected_ns.map(signed));
    if let Some(sent_ns) = record.router_send_ns.map(signed) {
        walk.to("send", Some(sent_ns));
        walk.to(AT_WORKER, record.last_byte_ns.or(Some(record.end_ns)).map(signed));
    }
    walk.to("finish", Some(signed(record.end_ns)));
    walk.stages
}

/// The request at its workers: attempts that failed, then the one whose answer it is.
pub fn at_workers<'a>(placed: &'a Placed<'_>) -> Vec<Visit<'a>> {
    let record = placed.record;
    let mut visits: Vec<Visit<'a>> = record.failed_attempts.iter().map(failed).collect();
    if let (Some(worker), Some(sent_ns)) = (record.worker.as_deref(), record.router_send_ns.map(signed)) {
        let end_ns = signed(record.last_byte_ns.unwrap_or(record.end_ns)).max(sent_ns);
        let stages = server_stages(placed, sent_ns, end_ns);
        visits.push(Visit {
            worker,
            span_id: record.worker_span_id,
            start_ns: sent_ns,
            end_ns,
            stages,
            error: None,
        });
    }
    visits
}

/// The request from arrival to its end in one row: at the router, and while it was at the worker that answered, there.
pub fn whole(placed: &Placed<'_>) -> Vec<Stage> {
    let mut answered = at_workers(placed).pop().map(|visit| visit.stages).unwrap_or_default();
    let mut stages = Vec::new();
    for stage in at_router(placed.record) {
        if stage.name == AT_WORKER && !answered.is_empty() {
            stages.append(&mut answered);
        } else {
            stages.push(stage);
        }
    }
    stages
}

fn failed(attempt: &AttemptRecord) -> Visit<'_> {
    let end_ns = signed(attempt.failed_ns);
    let start_ns = attempt.router_send_ns.map_or(end_ns, signed).min(end_ns);
    let error = Some(attempt.error.as_str());
    Visit { worker: &attempt.worker, span_id: attempt.span_id, start_ns, end_ns, stages: Vec::new(), error }
}

fn server_stages(placed: &Placed<'_>, sent_ns: i64, end_ns: i64) -> Vec<Stage> {
    let (record, aligned) = (placed.record, &placed.aligned);
    let mut walk = Walk::new(sent_ns, end_ns);
    if !record.endpoint.generates() || (aligned.ttft_ns.is_none() && aligned.queue_end_ns.is_none()) {
        walk.to("answer", Some(end_ns));
        return walk.stages;
    }
    walk.to("to server", aligned.created_ns);
    walk.to("tokenize", aligned.queue_start_ns);
    walk.to("server queue", aligned.queue_end_ns);
    walk.to("prefill", aligned.ttft_ns);
    walk.to("decode", Some(end_ns));
    walk.stages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::align::Aligned;
    use crate::trace::record::DecisionRecord;
    use crate::wire::Endpoint;

    fn names(stages: &[Stage]) -> Vec<(&str, i64, i64)> {
        stages.iter().map(|stage| (stage.name.as_ref(), stage.start_ns, stage.end_ns)).collect()
    }

    fn record() -> RequestRecord {
        RequestRecord {
            endpoint: Endpoint::Generate,
            worker: Some("http://w".into()),
            body_read_ns: Some(0),
            limit_wait_ns: Some(10),
            decision: Some(DecisionRecord { took_ns: 2, ..DecisionRecord::default() }),
            decided_ns: Some(15),
            connected_ns: Some(20),
            router_send_ns: Some(20),
            last_byte_ns: Some(90),
            end_ns: 100,
            ..RequestRecord::default()
        }
    }

    #[test]
    fn a_request_goes_through_the_router_without_a_gap() {
        let stages = at_router(&record());
        assert_eq!(
            names(&stages),
            [
                ("router queue", 0, 10),
                ("look at body", 10, 13),
                ("decision", 13, 15),
                ("connect", 15, 20),
                ("at worker", 20, 90),
                ("finish", 90, 100)
            ]
        );
    }

    #[test]
    fn a_decision_that_was_not_written_down_is_one_stage_with_the_look_at_the_body() {
        let untold = RequestRecord { decision: None, ..record() };
        let stages = at_router(&untold);
        assert_eq!(names(&stages)[..2], [("router queue", 0, 10), ("look at body + decision", 10, 15)]);
        assert_eq!(stages.last().map(|last| last.end_ns), Some(100));
    }

    #[test]
    fn a_request_that_was_turned_away_ends_where_it_was() {
        let refused = RequestRecord { limit_wait_ns: Some(40), end_ns: 50, ..RequestRecord::default() };
        assert_eq!(names(&at_router(&refused)), [("router queue", 0, 40), ("finish", 40, 50)]);
    }

    #[test]
    fn attempts_that_failed_stand_before_the_one_that_did_not() {
        let mut record = record();
        let failed_attempt = AttemptRecord {
            worker: "http://bad".into(),
            router_send_ns: Some(11),
            failed_ns: 12,
            error: "reset".into(),
            ..AttemptRecord::default()
        };
        record.failed_attempts = vec![failed_attempt];
        assert_eq!(names(&at_router(&record))[1], ("failed attempt", 10, 12));
        let placed = Placed { run: 1, record: &record, aligned: Aligned::default() };
        let visits = at_workers(&placed);
        let told: Vec<_> = visits.iter().map(|v| (v.worker, v.start_ns, v.end_ns, v.error)).collect();
        assert_eq!(told, [("http://bad", 11, 12, Some("reset")), ("http://w", 20, 90, None)]);
    }

    #[test]
    fn what_the_server_did_not_tell_is_one_stage_with_what_follows() {
        let record = record();
        let aligned =
            Aligned { created_ns: Some(25), ttft_ns: Some(50), finish_ns: Some(90), ..Aligned::default() };
        let placed = Placed { run: 1, record: &record, aligned };
        assert_eq!(
            names(&at_workers(&placed)[0].stages),
            [("to server", 20, 25), ("tokenize + server queue + prefill", 25, 50), ("decode", 50, 90)]
        );
        let silent = Placed { run: 1, record: &record, aligned: Aligned::default() };
        assert_eq!(names(&at_workers(&silent)[0].stages), [("answer", 20, 90)]);
    }

    #[test]
    fn in_one_row_the_workers_stages_stand_where_the_request_was_there() {
        let record = record();
        let aligned = Aligned {
            created_ns: Some(25),
            queue_start_ns: Some(26),
            queue_end_ns: Some(40),
            ttft_ns: Some(50),
            ..Aligned::default()
        };
        let stages = whole(&Placed { run: 1, record: &record, aligned });
        let told: Vec<&str> = stages.iter().map(|stage| stage.name.as_ref()).collect();
        assert_eq!(
            told[3..],
            ["connect", "to server", "tokenize", "server queue", "prefill", "decode", "finish"]
        );
        assert!(stages.windows(2).all(|two| two[0].end_ns == two[1].start_ns), "without a gap");
        let refused = RequestRecord { end_ns: 50, ..RequestRecord::default() };
        let placed = Placed { run: 1, record: &refused, aligned: Aligned::default() };
        assert_eq!(names(&whole(&placed)), [("finish", 0, 50)]);
    }

    #[test]
    fn moments_that_cannot_be_are_moved_to_the_nearest_that_can() {
        let record = record();
        let aligned = Aligned {
            created_ns: Some(-5),
            queue_start_ns: Some(40),
            queue_end_ns: Some(30),
            ttft_ns: Some(1_000),
            ..Aligned::default()
        };
        let placed = Placed { run: 1, record: &record, aligned };
        let visits = at_workers(&placed);
        assert_eq!(names(&visits[0].stages), [("tokenize", 20, 40), ("prefill", 40, 90)]);
    }
}
