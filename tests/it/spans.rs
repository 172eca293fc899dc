//! `traceparent` to workers and spans to a collector: what the engine continues is what the collector has.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use milepost::config::{RouteConfig, TraceDecisions};
use milepost::export::otlp::send::Collector;
use milepost::trace::sample::Sampling;
use serde_json::Value;

use crate::harness::{Got, PATIENCE, Step, TestRouter, Worker, ask, json, ok, post, post_with};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

/// A collector on a thread of its own, as the last spans come while the test's thread waits for the router's end.
struct Stand {
    url: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Stand {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                take(stream, &kept);
            }
        });
        Self { url, spans }
    }

    fn collector(&self) -> Collector {
        Collector::parse(&self.url).unwrap()
    }

    fn spans(&self) -> Vec<Value> {
        self.spans.lock().unwrap().clone()
    }
}

fn take(mut stream: TcpStream, kept: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut length = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
            kept.lock().unwrap().extend(spans.as_array().unwrap().iter().cloned());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        }
        line.clear();
    }
}

/// Returns when the spans of so many requests were sent: a router that ends waits two seconds for them, and a busy machine longer.
async fn sent(router: &TestRouter, requests: u64) {
    let outbox = &router.shared.spans.as_ref().unwrap().outbox;
    let wait = async {
        while outbox.status().sent < requests {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the collector takes them");
}

/// What a worker was told: trace, span, flags.
fn told(got: &Got) -> (String, String, String) {
    let value = got.header("traceparent").expect("a traceparent");
    let parts: Vec<&str> = value.split('-').collect();
    assert_eq!((parts.len(), parts[0]), (4, "00"), "{value}");
    assert_eq!(got.head.to_ascii_lowercase().matches("traceparent:").count(), 1);
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

fn by_id(spans: &[Value]) -> BTreeMap<String, &Value> {
    spans.iter().map(|span| (span["spanId"].as_str().unwrap().to_owned(), span)).collect()
}

fn from_client(flags: &str) -> String {
    let headers = format!("traceparent: 00-{TRACE}-{CLIENT}-{flags}\r\ntracestate: vendor=1\r\n");
    post_with("/generate", &headers, r#"{"text":"a"}"#)
}

#[tokio::test]
async fn the_span_that_a_worker_continues_is_the_one_that_the_collector_gets_under_the_clients() {
    let (worker, stand) = (Worker::start(|_| ok()).await, Stand::start());
    let router = TestRouter::with(&[&worker], |c| c.otlp_traces = Some(stand.collector())).await;
    assert_eq!(ask(router.addr, from_client("01")).await.status, 200);
    assert_eq!(ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await.status, 200);
    let outbox = Arc::clone(&router.shared.spans.as_ref().unwrap().outbox);
    sent(&router, 2).await;
    let records = router.finish_requests().await;
    let (spans, got) = (stand.spans(), worker.requests());
    let spans = by_id(&spans);
    let (trace, at_worker, flags) = told(&got[0]);
    assert_eq!(
        (trace.as_str(), flags.as_str(), got[0].header("tracestate")),
        (TRACE, "01", Some("vendor=1"))
    );
    let attempt = spans[&at_worker];
    assert_eq!((&attempt["kind"], &attempt["traceId"]), (&3.into(), &Value::from(TRACE)));
    let request = spans[attempt["parentSpanId"].as_str().unwrap()];
    assert_eq!((&request["kind"], &request["parentSpanId"]), (&2.into(), &Value::from(CLIENT)));
    let record = &records[0];
    let ids =
        [record.worker_span_id, record.span_id, record.parent_span_id].map(|id| id.unwrap().to_string());
    assert_eq!(ids, [at_worker.as_str(), request["spanId"].as_str().unwrap(), CLIENT]);
    // Without one of the client's: a trace of its own.
    let (trace, at_worker, flags) = told(&got[1]);
    assert_eq!((flags.as_str(), records[1].trace_id.unwrap().to_string() == trace), ("01", true));
    let request = spans[spans[&at_worker]["parentSpanId"].as_str().unwrap()];
    assert_eq!((&request["traceId"], request.get("parentSpanId")), (&Value::from(trace.as_str()), None));
    assert_ne!(trace, TRACE);
    let status = outbox.status();
    assert_eq!((status.sent, status.waiting, status.overflow + status.not_taken + status.refused), (2, 0, 0));
}

#[tokio::test]
async fn each_attempt_is_a_span_of_its_own_and_each_worker_is_told_its_own() {
    let failing = Worker::start(|_| {
        vec![Step::Send(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n".to_vec())]
    })
    .await;
    let (good, stand) = (Worker::start(|_| ok()).await, Stand::start());
    let router = TestRouter::with(&[&failing, &good], |c| c.otlp_traces = Some(stand.collector())).await;
    assert_eq!(ask(router.addr, from_client("01")).await.status, 200);
    sent(&router, 1).await;
    let records = router.finish_requests().await;
    let (first, second) = (told(&failing.requests()[0]), told(&good.requests()[0]));
    assert_eq!((first.0.as_str(), second.0.as_str()), (TRACE, TRACE));
    let spans = stand.spans();
    let spans = by_id(&spans);
    let (first, second) = (spans[&first.1], spans[&second.1]);
    assert_ne!(first["spanId"], second["spanId"]);
    assert_eq!(first["parentSpanId"], second["parentSpanId"]);
    assert_eq!((first.get("status").is_some(), second.get("status").is_some()), (true, false));
    let failed = records[0].failed_attempts[0].span_id.unwrap().to_string();
    assert_eq!(first["spanId"], Value::from(failed));
}

#[tokio::test]
async fn without_enable_trace_a_worker_gets_what_the_client_sent_and_the_record_has_no_ids() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let headers = "traceparent: 00-UPPER-and-wrong\r\ntracestate: vendor=1\r\n";
    assert_eq!(ask(router.addr, post_with("/generate", headers, r#"{"text":"a"}"#)).await.status, 200);
    assert_eq!(ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await.status, 200);
    let records = router.finish_requests().await;
    let got = worker.requests();
    assert_eq!(got[0].header("traceparent"), Some("00-UPPER-and-wrong"));
    assert_eq!((got[0].header("tracestate"), got[1].header("traceparent")), (Some("vendor=1"), None));
    assert!(
        records.iter().all(|r| r.trace_id.is_none() && r.span_id.is_none() && r.worker_span_id.is_none())
    );
}

#[tokio::test]
async fn a_traceparent_that_is_none_begins_another_trace_without_its_tracestate() {
    let (worker, stand) = (Worker::start(|_| ok()).await, Stand::start());
    let router = TestRouter::with(&[&worker], |c| c.otlp_traces = Some(stand.collector())).await;
    let wrong = from_client("01").replace("traceparent: 00", "traceparent: ff");
    let twice = from_client("01").replace("traceparent:", "traceparent: x\r\ntraceparent:");
    for request in [wrong, twice] {
        assert_eq!(ask(router.addr, request).await.status, 200);
    }
    let records = router.finish_requests().await;
    for (got, record) in worker.requests().iter().zip(&records) {
        let (trace, _, _) = told(got);
        assert_ne!(trace, TRACE);
        assert_eq!((got.header("tracestate"), record.parent_span_id), (None, None));
    }
}

#[tokio::test]
async fn the_client_decides_for_its_trace_and_the_share_of_the_file_for_all_others() {
    let (worker, stand) = (Worker::start(|_| ok()).await, Stand::start());
    let change = |c: &mut RouteConfig| {
        c.otlp_traces = Some(stand.collector());
        c.capture.sampling = Sampling { share: 0.0, slowest_per_minute: 0 };
    };
    let router = TestRouter::with(&[&worker], change).await;
    for request in [from_client("01"), from_client("00"), post("/generate", r#"{"text":"a"}"#)] {
        assert_eq!(ask(router.addr, request).await.status, 200);
    }
    let trace = router.shared.config.trace_log.clone().unwrap();
    sent(&router, 1).await;
    router.end().await;
    std::fs::remove_file(&trace).unwrap();
    let flags: Vec<String> = worker.requests().iter().map(|got| told(got).2).collect();
    assert_eq!(flags, ["01", "00", "00"]);
    let spans = stand.spans();
    assert!(!spans.is_empty() && spans.iter().all(|span| span["traceId"] == TRACE));
    let sampled = told(&worker.requests()[0]).1;
    assert_eq!(by_id(&spans)[&sampled]["kind"], 3);
    assert_eq!(spans.iter().filter(|span| span["kind"] == 2).count(), 1, "of the one that was sampled");
}

#[tokio::test]
async fn spans_need_no_trace_file_and_go_on_where_its_capture_is_stopped() {
    let (worker, stand) = (Worker::start(|_| json(r#"{"text":"x"}"#)).await, Stand::start());
    let alone = |c: &mut RouteConfig| {
        c.otlp_traces = Some(stand.collector());
        c.trace_log = None;
    };
    let router = TestRouter::with(&[&worker], alone).await;
    assert_eq!(ask(router.addr, from_client("01")).await.status, 200);
    let status = ask(router.addr, "GET /milepost/trace/status HTTP/1.1\r\nhost: r\r\n\r\n").await.json();
    assert_eq!((&status["state"], &status["spans"]["state"]), (&"stopped".into(), &"sending".into()));
    assert_eq!(status["spans"]["collector"], format!("{}/v1/traces", stand.url));
    sent(&router, 1).await;
    let (sink, config) = (Arc::clone(&router.shared.sink), &router.shared.config);
    assert_eq!((sink.is_taking(), sink.is_written()), (true, false), "no prompt is hashed for nobody");
    assert_eq!(config.recorded_decisions(), TraceDecisions::Reason, "nor candidates written down");
    router.end().await;
    assert!(Value::from(stand.spans()).to_string().contains("milepost.decision.reason"));
    let requests = |spans: &[Value]| spans.iter().filter(|span| span["kind"] == 2).count();
    assert_eq!(requests(&stand.spans()), 1, "and the router's own answer is not told of");
    let router = TestRouter::with(&[&worker], |c| c.otlp_traces = Some(stand.collector())).await;
    assert!(router.shared.sink.is_written());
    assert_eq!(ask(router.addr, post("/milepost/trace/stop", "")).await.status, 200);
    assert!(!router.shared.sink.is_written());
    assert_eq!(ask(router.addr, from_client("01")).await.status, 200);
    let trace = router.shared.config.trace_log.clone().unwrap();
    sent(&router, 1).await;
    router.end().await;
    let text = std::fs::read_to_string(&trace).unwrap();
    std::fs::remove_file(&trace).unwrap();
    assert_eq!((requests(&stand.spans()), text.contains(TRACE)), (2, false));
}

#[tokio::test]
async fn a_collector_that_is_away_costs_its_spans_alone() {
    let worker = Worker::start(|_| ok()).await;
    // Held to the end: a port that is let go may become another test's.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector::parse(&format!("http://{}", gone.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || gone.incoming().for_each(drop));
    let router = TestRouter::with(&[&worker], |c| c.otlp_traces = Some(collector)).await;
    for _ in 0..5 {
        assert_eq!(ask(router.addr, from_client("01")).await.status, 200);
    }
    let outbox = Arc::clone(&router.shared.spans.as_ref().unwrap().outbox);
    assert_eq!(router.finish_requests().await.len(), 5, "the file has them all");
    let status = outbox.status();
    assert_eq!((status.sent, status.waiting, status.not_taken), (0, 0, 5));
    assert!(status.error.is_some());
}
