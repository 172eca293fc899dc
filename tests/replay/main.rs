//! Every captured answer of a real server, played by a worker through the router, byte for byte and event by event.
//!
//! What is expected is read from the capture with `serde_json` and text search, never with the router's own readers; when an
//! event was at the router is bounded by when the worker was let go to send it and when the client held it. Deliberately not
//! here: made-up answers (`tests/it`), the reader alone (`tests/captures.rs`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod capture;
mod client;
#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "../it/harness.rs"]
mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milepost::trace::record::{Outcome, RequestRecord};
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::capture::Capture;
use crate::client::{Seen, exchange};
use crate::harness::{Got, Step, TestRouter, Worker};

/// Fields of `meta_info` that the trace keeps under the same name.
const STAMPS: [&str; 17] = [
    "e2e_latency",
    "server_created_time",
    "server_first_token_time",
    "queue_time_start",
    "queue_time_end",
    "queue_time",
    "request_received_ts",
    "request_sent_to_scheduler_ts",
    "api_server_dispatch_finish_ts",
    "forward_entry_time",
    "prefill_finished_ts",
    "prefill_finished_time",
    "first_token_latency",
    "response_sent_to_client_ts",
    "decode_finished_ts",
    "request_finished_ts",
    "num_retractions",
];

fn captures(folder: &str) -> Vec<Capture> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder);
    let names = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    // An answer to HEAD announces a body that does not come; `tests/it` has one.
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("head_")).collect();
    names.sort();
    let all = names.iter().map(|name| Capture::read(&folder, name));
    // What the router answers itself is never a worker's.
    all.filter(|c| !milepost::admin::owns(c.path.split('?').next().unwrap())).collect()
}

/// Plays all captures of a folder; at least `fewest` of them, `streams` of these streams.
async fn replay(folder: &str, fewest: usize, streams: usize) {
    let captures = captures(folder);
    assert!(captures.len() >= fewest, "{folder}: {} captures", captures.len());
    assert!(captures.iter().filter(|c| c.is_stream()).count() >= streams);
    let gate = Arc::new(Notify::new());
    let answers: BTreeMap<String, Vec<Step>> =
        captures.iter().map(|c| (c.name.clone(), answer(c, &gate))).collect();
    let worker = Worker::start(move |got| answers[got.header("x-request-id").unwrap()].clone()).await;
    // Once each: a captured 500 or 503 would be asked for again.
    let router = TestRouter::with(&[&worker], |c| c.retry.max_attempts = 1).await;
    let mut stream = TcpStream::connect(router.addr).await.unwrap();
    let mut seen = Vec::new();
    for capture in &captures {
        seen.push(exchange(&mut stream, &request(capture), &capture.ends, &gate).await);
    }
    drop(stream);
    let records = router.finish_requests().await;
    assert_eq!((records.len(), worker.requests().len()), (captures.len(), captures.len()));
    for (((capture, seen), got), record) in captures.iter().zip(&seen).zip(worker.requests()).zip(&records) {
        asked(capture, &got);
        passed(capture, seen);
        told(capture, record);
        timed(capture, seen, record);
    }
}

fn answer(capture: &Capture, gate: &Arc<Notify>) -> Vec<Step> {
    let mut steps = vec![Step::Send(capture.head.clone())];
    for frame in &capture.frames {
        steps.extend([Step::Wait(Arc::clone(gate)), Step::Send(frame.clone())]);
    }
    steps
}

fn request(capture: &Capture) -> Vec<u8> {
    let Capture { method, path, name, request_body, .. } = capture;
    let body_headers = capture.content_type.as_ref().map_or_else(String::new, |content_type| {
        format!("content-type: {content_type}\r\ncontent-length: {}\r\n", request_body.len())
    });
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: router\r\nx-request-id: {name}\r\n{body_headers}\r\n");
    [head.as_bytes(), request_body].concat()
}

/// The worker got what the client sent.
fn asked(capture: &Capture, got: &Got) {
    let line = format!("{} {} HTTP/1.1\r\n", capture.method, capture.path);
    assert!(got.head.starts_with(&line), "{}: {}", capture.name, got.head);
    assert_eq!(got.body, capture.request_body, "{}", capture.name);
    assert_eq!(got.header("content-type"), capture.content_type.as_deref(), "{}", capture.name);
}

/// The client got what the worker sent.
fn passed(capture: &Capture, seen: &Seen) {
    assert_eq!(seen.status, capture.status, "{}", capture.name);
    for header in &capture.headers {
        let same = seen.headers.iter().any(|(n, v)| *n == header.0 && v.eq_ignore_ascii_case(&header.1));
        assert!(same, "{}: {header:?} in {:?}", capture.name, seen.headers);
    }
    assert!(seen.body == capture.body, "{}: {:?}", capture.name, String::from_utf8_lossy(&seen.body));
}

/// The record says what the capture says.
fn told(capture: &Capture, record: &RequestRecord) {
    let name = &capture.name;
    let values = capture.values();
    let asked: Value = serde_json::from_slice(&capture.request_body).unwrap_or(Value::Null);
    assert_eq!((&*record.request_id, &*record.path), (name.as_str(), capture.path.as_str()));
    assert_eq!(record.status, Some(capture.status), "{name}");
    assert_eq!(record.request_body_bytes, capture.request_body.len() as u64, "{name}");
    assert_eq!(record.response_body_bytes, capture.body.len() as u64, "{name}");
    let generates = ["/generate", "/v1/chat/completions", "/v1/completions"].contains(&capture.path.as_str());
    if generates {
        assert_eq!(record.stream, asked["stream"] == Value::Bool(true), "{name}");
        assert_eq!(record.rid.as_deref(), asked["rid"].as_str(), "{name}");
        assert_eq!(record.model.as_deref(), asked["model"].as_str(), "{name}");
        let limit = number(&asked, "max_new_tokens").or_else(|| number(&asked, "max_tokens"));
        assert_eq!(record.max_new_tokens, limit.and_then(Value::as_u64), "{name}");
    }
    let error = if capture.status >= 400 {
        Some(format!("http_status {}", capture.status))
    } else {
        let event = values.iter().find(|v| v.get("error").is_some() || v["object"] == "error");
        event
            .map(|e| number(e, "code").map_or("error_event".to_owned(), |code| format!("error_event {code}")))
    };
    let outcome = if error.is_some() { Outcome::WorkerError } else { Outcome::Done };
    assert_eq!((record.outcome, &record.error), (outcome, &error), "{name}");
    let events = if capture.is_stream() { values.len() as u64 } else { 0 };
    assert_eq!((record.sse_events, record.sse_done), (events, capture.is_stream().then_some(true)), "{name}");
    if !generates {
        return;
    }
    let text = (capture.status < 400).then_some(error.is_none());
    assert_eq!(record.has_text, text, "{name}");
    let reason = values.iter().rev().find_map(finish_reason);
    assert_eq!(record.finish_reason.as_deref(), reason, "{name}");
    let count = |field| last(&values, field).and_then(Value::as_u64);
    let tokens = (record.tokens.prompt_tokens, record.tokens.completion_tokens, record.tokens.cached_tokens);
    assert_eq!(
        tokens,
        (count("prompt_tokens"), count("completion_tokens"), count("cached_tokens")),
        "{name}"
    );
    let stamps: Map<String, Value> =
        STAMPS.iter().filter_map(|f| Some(((*f).to_owned(), last(&values, f)?.clone()))).collect();
    assert_eq!(serde_json::to_value(record.server).unwrap(), Value::Object(stamps), "{name}");
}

/// The router had each event after the worker was let go to send it and before the client held it.
fn timed(capture: &Capture, seen: &Seen, record: &RequestRecord) {
    let values = capture.values();
    let within = |ns: Option<u64>, frame: usize, what: &str| {
        let at_ns = record.arrival_mono_ns + ns.unwrap_or_else(|| panic!("{}: no {what}", capture.name));
        let (from_ns, to_ns) = seen.between_ns[frame];
        assert!((from_ns..=to_ns).contains(&at_ns), "{}: {what} {at_ns} in {from_ns}..{to_ns}", capture.name);
    };
    // No upper bound: after the last frame the router still has to see that it was the last.
    let last_from_ns = seen.between_ns.last().map_or(0, |frame| frame.0);
    assert!(record.arrival_mono_ns + record.last_byte_ns.unwrap() >= last_from_ns, "{}", capture.name);
    if !capture.is_stream() {
        assert_eq!((record.first_event_ns, record.first_token_ns), (None, None), "{}", capture.name);
        return;
    }
    assert_eq!(capture.frames.len(), values.len() + 2, "{}: one event a frame, [DONE], end", capture.name);
    within(record.first_event_ns, 0, "first event");
    let token = values.iter().position(|v| match capture.path.as_str() {
        "/generate" => number(v, "completion_tokens").and_then(Value::as_u64) >= Some(1),
        _ => v["choices"].as_array().is_some_and(|choices| !choices.is_empty()),
    });
    match token {
        Some(frame) => within(record.first_token_ns, frame, "first token"),
        None => assert_eq!(record.first_token_ns, None, "{}", capture.name),
    }
}

/// The number under this name, however deep.
fn number<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members
            .get(name)
            .filter(|v| v.is_number())
            .or_else(|| members.values().find_map(|v| number(v, name))),
        Value::Array(items) => items.iter().find_map(|v| number(v, name)),
        _ => None,
    }
}

/// The number under this name in the last event that has it.
fn last<'a>(values: &'a [Value], name: &str) -> Option<&'a Value> {
    values.iter().rev().find_map(|v| number(v, name))
}

/// `"length"`, or the `type` of `{"type":"length",...}`.
fn finish_reason(value: &Value) -> Option<&str> {
    match value {
        Value::Object(members) => match members.get("finish_reason") {
            Some(Value::String(reason)) => Some(reason),
            Some(Value::Object(reason)) => reason["type"].as_str(),
            _ => members.values().find_map(finish_reason),
        },
        Value::Array(items) => items.iter().find_map(finish_reason),
        _ => None,
    }
}

#[tokio::test]
async fn released_0_4_9() {
    replay("captures/sglang-0.4.9.post6", 38, 8).await;
}

#[tokio::test]
async fn patched_0_4_9() {
    replay("captures/sglang-0.4.9.post6-patched", 38, 8).await;
}

#[tokio::test]
async fn newest() {
    replay("captures/sglang-0.5.23", 44, 7).await;
}

#[tokio::test]
async fn newest_with_its_rust_front_end() {
    replay("captures/sglang-0.5.23-rust-server", 38, 8).await;
}

#[tokio::test]
async fn those_of_the_simulated_worker() {
    replay("sim/0.4.9", 2, 1).await;
    replay("sim/0.4.9-patched", 30, 5).await;
    replay("sim/0.5.23", 30, 4).await;
    replay("sim/0.5.23-rust", 30, 4).await;
}
