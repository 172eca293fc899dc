//! What no capture holds: stamps, queues, aborts, disconnects.

use std::net::SocketAddr;

use clap::ValueEnum;
use milepost::sim::Dialect;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{Answer, request, send};
use crate::worker;

pub async fn post(to: SocketAddr, path: &str, body: &str) -> Answer {
    send(to, "POST", path, "", Some(body)).await.expect("answers")
}

pub async fn get(to: SocketAddr, path: &str) -> Value {
    let answer = send(to, "GET", path, "", None).await.expect("answers");
    serde_json::from_str(&answer.body()).expect("JSON")
}

pub fn generate(tokens: u32, more: &str) -> String {
    format!(
        r#"{{"text":"one two three four","sampling_params":{{"max_new_tokens":{tokens},"ignore_eos":true}}{more}}}"#
    )
}

fn json(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body()).unwrap_or_else(|e| panic!("{e}: {answer:?}"))
}

/// Asks until the worker says so; every ask is an answered request, so this is no sleep.
async fn until(to: SocketAddr, what: &str, is: impl Fn(&Value) -> bool) {
    for _ in 0..100_000 {
        if is(&get(to, "/milepost/sim").await) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never: {what}");
}

/// Opens a connection, sends a request and leaves the answer unread.
pub async fn open(to: SocketAddr, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("connects");
    let headers = "connection: close\r\n";
    stream.write_all(request("POST", path, headers, Some(body)).as_bytes()).await.expect("writes");
    stream
}

async fn rest(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("reads");
    Answer::parse(&bytes, false)
}

#[tokio::test]
async fn a_conversation_hits_the_cache_with_its_own_answer() {
    let (to, _stop) = worker(Dialect::V0523, |c| c.speedup = 100.0).await;
    let turn = |messages: &str| {
        format!(r#"{{"messages":[{messages}],"max_tokens":20,"ignore_eos":true,"return_meta_info":true}}"#)
    };
    let first =
        json(&post(to, "/v1/chat/completions", &turn(r#"{"role":"user","content":"tell me more"}"#)).await);
    let choice = &first["choices"][0];
    assert_eq!(choice["meta_info"]["cached_tokens"], 0);
    let said = choice["message"]["content"].as_str().expect("text");
    let messages = format!(
        r#"{{"role":"user","content":"tell me more"}},{{"role":"assistant","content":"{said}"}},{{"role":"user","content":"go on"}}"#
    );
    let second = json(&post(to, "/v1/chat/completions", &turn(&messages)).await);
    let prompt = choice["meta_info"]["prompt_tokens"].as_u64().expect("count");
    assert_eq!(
        second["choices"][0]["meta_info"]["cached_tokens"],
        prompt + 19,
        "prompt and all but the last token made"
    );
}

#[tokio::test]
async fn stamps_are_in_order_and_move_with_the_clock_offset() {
    let offset_s = 3600.0;
    for dialect in [Dialect::V049Patched, Dialect::V0523] {
        let (to, _stop) = worker(dialect, |c| {
            c.speedup = 100.0;
            c.clock_offset_us = 3_600_000_000;
        })
        .await;
        let clock = milepost::clock::Clock::system();
        let before = clock.now();
        let answer = json(&post(to, "/generate", &generate(5, "")).await);
        let after = clock.now();
        let meta = |key: &str| answer["meta_info"][key].as_f64().unwrap_or_else(|| panic!("{key}: {answer}"));
        let unix = |ns: u64| ns as f64 / 1e9 + offset_s;
        let (wall, perf): (&[&str], &[&str]) = if dialect == Dialect::V0523 {
            let wall = &[
                "request_received_ts",
                "api_server_dispatch_finish_ts",
                "forward_entry_time",
                "prefill_finished_time",
                "request_finished_ts",
                "response_sent_to_client_ts",
            ];
            (wall, &[])
        } else {
            (&["server_created_time", "server_first_token_time"], &["queue_time_start", "queue_time_end"])
        };
        for (keys, from, to) in [
            (wall, unix(before.unix_ns), unix(after.unix_ns)),
            (perf, unix(before.mono_ns), unix(after.mono_ns)),
        ] {
            let times: Vec<f64> =
                [from].into_iter().chain(keys.iter().map(|k| meta(k))).chain([to]).collect();
            // A double holds unix seconds to a quarter of a microsecond.
            assert!(times.windows(2).all(|w| w[0] <= w[1] + 1e-6), "{}: {keys:?} {times:?}", dialect.name());
        }
    }
}

#[tokio::test]
async fn without_metrics_a_server_tells_less() {
    for (dialect, gone, kept) in [
        (Dialect::V049Patched, "server_first_token_time", "queue_time_start"),
        (Dialect::V0523, "queue_time", "response_sent_to_client_ts"),
    ] {
        let (to, _stop) = worker(dialect, |c| {
            c.speedup = 100.0;
            c.metrics = false;
        })
        .await;
        let meta = json(&post(to, "/generate", &generate(2, "")).await)["meta_info"].clone();
        assert!(meta.get(gone).is_none() && meta[kept].is_number(), "{meta}");
        assert_eq!(
            send(to, "GET", "/metrics", "", None).await.expect("answers").status,
            "HTTP/1.1 404 Not Found"
        );
        if dialect == Dialect::V049Patched {
            assert!(meta.get("queue_time_end").is_some_and(Value::is_null), "{meta}");
        }
    }
}

#[tokio::test]
async fn the_first_token_time_of_0_4_9_is_wrong_unless_streamed() {
    let (to, _stop) = worker(Dialect::V049Patched, |c| c.speedup = 50.0).await;
    let share = |meta: &Value| {
        let time = |key: &str| meta[key].as_f64().expect("time");
        (time("server_first_token_time") - time("server_created_time")) / time("e2e_latency")
    };
    let whole = json(&post(to, "/generate", &generate(120, "")).await);
    assert!((0.40..0.44).contains(&share(&whole["meta_info"])), "the 50th of 120 tokens: {whole}");
    let short = json(&post(to, "/generate", &generate(8, "")).await);
    assert!((share(&short["meta_info"]) - 1.0).abs() < 1e-3, "fewer than 50: the end: {short}");
    let stream = post(to, "/generate", &generate(120, ",\"stream\":true")).await;
    let events = stream.events();
    let last: Value = serde_json::from_str(events[events.len() - 2]).expect("JSON");
    assert!(share(&last["meta_info"]) < 0.05, "streamed: the first: {last}");
}

#[tokio::test]
async fn batches_and_samples_come_as_lists_and_their_streams_are_told_apart() {
    for &dialect in Dialect::value_variants() {
        let (to, _stop) = worker(dialect, |c| c.speedup = 100.0).await;
        let body = |stream: bool| {
            format!(
                r#"{{"text":["a","b c"],"rid":["r1","r2"],"stream":{stream},"sampling_params":{{"max_new_tokens":4,"ignore_eos":true}}}}"#
            )
        };
        let whole = json(&post(to, "/generate", &body(false)).await);
        let ids: Vec<_> =
            whole.as_array().expect("list").iter().map(|a| a["meta_info"]["id"].clone()).collect();
        assert_eq!(ids, ["r1", "r2"]);
        let stream = post(to, "/generate", &body(true)).await;
        let events = stream.events();
        let parsed: Vec<Value> =
            events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).expect("JSON")).collect();
        for index in [0, 1] {
            let mine: Vec<&Value> = parsed.iter().filter(|e| e["index"] == index).collect();
            assert_eq!(
                mine.last().expect("events")["text"],
                whole[index]["text"],
                "cumulative, and the same words"
            );
        }
        let samples =
            post(to, "/generate", r#"{"text":"a","sampling_params":{"n":2,"max_new_tokens":2}}"#).await;
        if dialect.is_rust() {
            assert_eq!(samples.status, "HTTP/1.1 400 Bad Request");
        } else {
            assert_eq!(json(&samples).as_array().map(Vec::len), Some(2));
        }
    }
}

#[tokio::test]
async fn a_full_queue_refuses_as_each_server_does() {
    for dialect in [Dialect::V049, Dialect::V0523] {
        let (to, _stop) = worker(dialect, |c| {
            c.profile.max_running_requests = 1;
            c.max_queued_requests = Some(1);
        })
        .await;
        let running = open(to, "/generate", &generate(100_000, "")).await;
        until(to, "running", |s| s["running"] == 1).await;
        let waiting = open(to, "/generate", &generate(1, "")).await;
        until(to, "waiting", |s| s["waiting"] == 1).await;
        let whole = post(to, "/generate", &generate(1, "")).await;
        assert_eq!(whole.status, "HTTP/1.1 503 Service Unavailable");
        assert_eq!(
            whole.body(),
            r#"{"object":"error","message":"The request queue is full.","type":"503","param":null,"code":503}"#
        );
        let stream = post(to, "/generate", &generate(1, ",\"stream\":true")).await;
        assert_eq!(stream.status, "HTTP/1.1 200 OK");
        let chat =
            post(to, "/v1/chat/completions", r#"{"messages":[{"role":"user","content":"x"}],"stream":true}"#)
                .await;
        if dialect.is_049() {
            assert!(stream.chunks.is_empty() && !stream.complete, "closed without a chunk: {stream:?}");
            assert!(chat.chunks.is_empty() && !chat.complete);
        } else {
            let event: Value = serde_json::from_str(stream.events()[0]).expect("JSON");
            assert_eq!(event["meta_info"]["finish_reason"]["status_code"], 503);
            assert!(chat.events()[0].contains("SERVICE_UNAVAILABLE") && chat.complete);
        }
        drop((running, waiting));
        until(to, "clients that leave free the engine", |s| {
            s["running"] == 0 && s["waiting"] == 0 && s["used_tokens"] == 0
        })
        .await;
    }
}

#[tokio::test]
async fn abort_request_ends_running_and_waiting_requests_with_200() {
    for (dialect, in_queue) in
        [(Dialect::V049, "Abort before prefill"), (Dialect::V0523, "Abort in waiting queue")]
    {
        let (to, _stop) = worker(dialect, |c| c.profile.max_running_requests = 1).await;
        let running = open(to, "/generate", &generate(100_000, ",\"rid\":\"run-1\"")).await;
        until(to, "running", |s| s["running"] == 1).await;
        let waiting = open(to, "/generate", &generate(5, ",\"rid\":\"wait-1\"")).await;
        until(to, "waiting", |s| s["waiting"] == 1).await;
        for rid in ["no-such", "wait-", "run-1"] {
            let aborted = post(to, "/abort_request", &format!(r#"{{"rid":"{rid}"}}"#)).await;
            assert_eq!((aborted.status.as_str(), aborted.body().as_str()), ("HTTP/1.1 200 OK", ""));
        }
        let (running, waiting) = (json(&rest(running).await), json(&rest(waiting).await));
        assert_eq!(running["meta_info"]["finish_reason"]["message"], "Aborted");
        assert_eq!(
            (&waiting["text"], &waiting["meta_info"]["finish_reason"]["message"]),
            (&Value::from(""), &Value::from(in_queue))
        );
        assert!(waiting["meta_info"].get("cached_tokens").is_none());
    }
}

#[tokio::test]
async fn a_live_request_id_is_refused_twice_by_0_5_23() {
    let (to, _stop) = worker(Dialect::V0523, |_| {}).await;
    let first = open(to, "/generate", &generate(100_000, ",\"rid\":\"dup-1\"")).await;
    until(to, "running", |s| s["running"] == 1).await;
    let second = post(to, "/generate", &generate(1, ",\"rid\":\"dup-1\"")).await;
    assert_eq!(second.body(), r#"{"error":{"message":"Duplicate request ID detected: dup-1"}}"#);
    drop(first);
    until(to, "gone", |s| s["running"] == 0).await;
    assert_eq!(post(to, "/generate", &generate(1, ",\"rid\":\"dup-1\"")).await.status, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_stream_has_its_head_while_it_waits() {
    let (to, _stop) = worker(Dialect::V0523, |c| c.profile.max_running_requests = 1).await;
    let _running = open(to, "/generate", &generate(100_000, "")).await;
    until(to, "running", |s| s["running"] == 1).await;
    let mut waiting = open(to, "/generate", &generate(1, ",\"stream\":true")).await;
    let mut head = [0; 15];
    waiting.read_exact(&mut head).await.expect("a head");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    until(to, "still waiting", |s| s["waiting"] == 1).await;
}

#[tokio::test]
async fn server_info_says_simulated_and_what_a_router_reads() {
    for &dialect in Dialect::value_variants() {
        let (to, _stop) = worker(dialect, |c| c.model_path = "m/x".to_owned()).await;
        let path = if dialect.is_rust() { "/server_info" } else { "/get_server_info" };
        let info = get(to, path).await;
        assert_eq!(
            (&info["simulated"], &info["model_path"], &info["version"]),
            (&true.into(), &"m/x".into(), &dialect.version().into())
        );
        assert_eq!(
            (&info["max_running_requests"], &info["max_total_num_tokens"]),
            (&256.into(), &400_000.into())
        );
        assert!(info["internal_states"][0]["last_gen_throughput"].is_number());
        let metrics = send(to, "GET", "/metrics", "", None).await.expect("answers");
        assert!(
            metrics.body().contains("sglang:num_running_reqs{")
                && metrics.header("content-type").is_some_and(|t| t.starts_with("text/plain"))
        );
    }
}
