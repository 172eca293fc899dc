//! Every way to fail is a row with its class, and none is a success.

use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::body::Backend;
use milepost::load::failure::Class;
use milepost::load::progress::Stop;
use milepost::load::row::Row;
use milepost::load::{LoadConfig, LoadError, RunContext, run};
use milepost::report::Metrics;

use crate::server::{Server, Step, about, chunk, end, head, json, stream};
use crate::{config, context, data, measured};

const EVENT: &str = "data: {\"text\":\"a\",\"meta_info\":{\"id\":\"1\",\"finish_reason\":null,\"prompt_tokens\":6,\"completion_tokens\":1,\"cached_tokens\":0}}\n\n";

async fn one(steps: Vec<Step>) -> Row {
    let server = Server::new(&Clock::system(), move |got| about(got).unwrap_or_else(|| steps.clone()));
    let config =
        LoadConfig { request_timeout: Duration::from_millis(300), ..config(&server.listen().await, 1) };
    measured(config).await.rows.held()[0].clone()
}

fn sse() -> Step {
    head("200 OK", "text/event-stream", "")
}

#[track_caller]
fn assert_failed(row: &Row, class: Class, text: &str) {
    let failure = row.failure.as_ref().unwrap();
    assert_eq!(failure.class, class, "{failure}");
    assert!(failure.text.contains(text), "{failure}");
    assert!(!row.success());
}

#[tokio::test]
async fn broken_connections() {
    assert_failed(&one(vec![Step::Close]).await, Class::Reset, "before an answer");
    assert_failed(&one(vec![sse(), chunk(EVENT), Step::Reset]).await, Class::Reset, "inside the answer");
    let cut = one(vec![sse(), chunk(EVENT), Step::Close]).await;
    assert_failed(&cut, Class::Truncated, "");
    assert_eq!(cut.completion_tokens, Some(1));
    // SGLang 0.4.9 with a full queue: 200, head, and nothing more.
    assert_failed(&one(vec![sse(), Step::Close]).await, Class::Truncated, "");
}

#[tokio::test]
async fn answers_that_end_but_are_none() {
    assert_failed(&one(vec![sse(), chunk(EVENT), end()]).await, Class::Truncated, "[DONE]");
    let half = one(vec![sse(), chunk(EVENT), chunk(&EVENT[..EVENT.len() / 2]), end()]).await;
    assert_failed(&half, Class::Truncated, "[DONE]");
    assert_eq!(half.completion_tokens, Some(1), "half an event counts for nothing");
    assert_failed(&one(vec![sse(), chunk("data: [DONE]\n\n"), end()]).await, Class::Empty, "no token");
    assert_failed(&one(json("200 OK", "")).await, Class::Malformed, "");
    let empty = r#"{"text":"","meta_info":{"id":"x","finish_reason":{"type":"length","length":0},"prompt_tokens":6,"completion_tokens":0}}"#;
    assert_failed(&one(json("200 OK", empty)).await, Class::Empty, "");
    assert_failed(&one(vec![Step::Write(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec())]).await, Class::Malformed, "");
}

#[tokio::test]
async fn errors_of_the_server() {
    let row = one(stream(&data("sglang-0.4.9.post6_err_generate_too_long_stream.sse"), Duration::ZERO)).await;
    assert_failed(&row, Class::ErrorEvent, "longer than the model's context length");
    assert_eq!(row.status, Some(200));
    let full =
        r#"{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}"#;
    let row = one(json("503 Service Unavailable", full)).await;
    assert_failed(&row, Class::HttpStatus, "503 The request queue is full.");
    let abort = "data: {\"text\":\"\",\"meta_info\":{\"id\":\"1\",\"finish_reason\":{\"type\":\"abort\",\"message\":\"Aborted\",\"status_code\":503,\"err_type\":null},\"prompt_tokens\":6,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    assert_failed(&one(stream(abort, Duration::ZERO)).await, Class::Abort, "503 Aborted");
}

#[tokio::test]
async fn time_outs_say_what_was_missing() {
    let row = one(vec![Step::Hang]).await;
    assert_failed(&row, Class::Timeout, "no byte for 0.3 s");
    assert!(row.sent_ns.is_some());
    let row = one(vec![sse(), chunk(EVENT), Step::Hang]).await;
    assert_failed(&row, Class::Timeout, "no end of the answer for 0.3 s");
    assert_eq!(row.completion_tokens, Some(1));
}

#[tokio::test]
async fn nobody_there() {
    // Bound and not listening, it refuses; and nobody else is given its port.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    let report = measured(config(&url, 2)).await;
    report.rows.held().iter().for_each(|row| assert_failed(row, Class::Connect, ""));
    let warm = LoadConfig { warmup_requests: 1, ..config(&url, 2) };
    assert!(
        matches!(run(warm, context()).await, Err(LoadError::Target(e)) if e.contains("--warmup-requests 0"))
    );
    let chat = LoadConfig { backend: Backend::Chat, ..config(&url, 2) };
    assert!(matches!(run(chat, context()).await, Err(LoadError::Target(e)) if e.contains("--model")));
}

/// A reused connection that dies before a byte is replaced once; the request succeeds and the row counts it.
#[tokio::test]
async fn a_dead_idle_connection_is_replaced_once() {
    let events = data("sglang-0.5.23_generate_stream.sse");
    let server = Server::new(&Clock::system(), move |got| match (about(got), got.nth) {
        (Some(steps), _) => steps,
        (None, 0) => stream(&events, Duration::ZERO),
        (None, _) => vec![Step::Close],
    });
    let config = LoadConfig { max_concurrency: Some(1), ..config(&server.listen().await, 3) };
    let report = measured(config).await;
    assert!(report.rows.held().iter().all(Row::success));
    assert_eq!(report.rows.held().iter().map(|r| r.reconnects).sum::<u32>(), 2);
    assert_eq!(server.load().len(), 5);
}

/// Ctrl-C: what is in flight ends as interrupted, what had no turn is not sent, and all of them are rows.
#[tokio::test]
async fn an_interrupted_run_keeps_its_rows() {
    let (handle, stop) = Stop::pair();
    let handle = std::sync::Mutex::new(Some(handle));
    let events = data("sglang-0.5.23_generate_stream.sse");
    let server = Server::new(&Clock::system(), move |got| match (about(got), &got.body["stream"]) {
        (Some(steps), _) => steps,
        (None, _) if got.header("x-request-id").is_some_and(|id| id.ends_with("000001")) => {
            stream(&events, Duration::ZERO)
        }
        (None, _) => {
            if let Some(handle) = handle.lock().unwrap().take() {
                handle.stop();
            }
            vec![Step::Hang]
        }
    });
    let config = LoadConfig { max_concurrency: Some(1), ..config(&server.listen().await, 4) };
    let report = run(config, RunContext { stop, ..context() }).await.unwrap();
    assert!(report.partial);
    let metrics = Metrics::of(&report.rows);
    assert_eq!((metrics.requests, metrics.completed), (4, 1));
    assert_eq!(
        metrics.errors.iter().map(|(c, n)| (*c, *n)).collect::<Vec<_>>(),
        [("interrupted", 1), ("not_sent", 2)]
    );
}

/// Only a connection that has carried a request may have been closed for idleness; the request on any other is sent once.
#[tokio::test]
async fn a_fresh_connection_that_dies_is_not_replaced() {
    let server = Server::new(&Clock::system(), |got| about(got).unwrap_or_else(|| vec![Step::Close]));
    let row = measured(config(&server.listen().await, 1)).await.rows.held()[0].clone();
    assert_failed(&row, Class::Reset, "before an answer");
    assert_eq!((server.load().len(), row.reconnects), (1, 0));
}

/// A dead connection took its time from the request, from send too: else a killed server would look like a healthy one.
#[tokio::test]
async fn a_reconnect_is_inside_the_latency() {
    let events = data("sglang-0.5.23_generate_stream.sse");
    let held = Duration::from_millis(60);
    let server = Server::new(&Clock::system(), move |got| match (about(got), got.nth) {
        (Some(steps), _) => steps,
        (None, 0) => stream(&events, Duration::ZERO),
        (None, _) => vec![Step::Sleep(held), Step::Close],
    });
    let report = measured(LoadConfig { max_concurrency: Some(1), ..config(&server.listen().await, 2) }).await;
    let row = report.rows.held().iter().find(|r| r.reconnects == 1).unwrap();
    assert!(row.success(), "{:?}", row.failure);
    assert!(row.client_latency_ns().unwrap() >= 60_000_000, "{row:?}");
    assert!(row.ttft_client_ns().unwrap() >= 60_000_000, "{row:?}");
    let stamps =
        [row.dispatched_ns, row.connected_ns, row.arrival_ns, row.sent_ns, row.client_first_token_ns];
    assert!(stamps.iter().all(Option::is_some) && stamps.is_sorted(), "{stamps:?}");
}

#[tokio::test]
async fn an_encoded_answer_is_not_taken_for_one_without_tokens() {
    let head = head("200 OK", "text/event-stream", "content-encoding: gzip\r\n");
    let row = one(vec![head, chunk("\u{1f}gzip"), end()]).await;
    assert_failed(&row, Class::Malformed, "encoded");
}
