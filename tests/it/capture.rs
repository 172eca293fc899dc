//! The capture while the router runs: started, stopped, rotated, marked and read page by page, over its own endpoints.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use milepost::export::otlp;
use milepost::export::stages::{Stage, at_router};
use milepost::export::survey::Survey;
use milepost::trace::parts::{files_of, parts_of, whole_lines};
use milepost::trace::reader::TraceFile;
use milepost::trace::record::{Record, RequestRecord};
use serde_json::Value;
use tokio::sync::Notify;

use crate::harness::{Client, Response, Step, TestRouter, Worker, ask, json, ok, post, post_with};

fn folder() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("milepost-it-capture-{}-{number}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

async fn worker() -> Worker {
    Worker::start(|_| json(r#"{"text":"x","meta_info":{"id":"x","completion_tokens":1,"prompt_tokens":1}}"#))
        .await
}

async fn steer(router: &TestRouter, verb: &str, body: &str) -> Response {
    ask(router.addr, post(&format!("/milepost/trace/{verb}"), body)).await
}

async fn status(router: &TestRouter) -> Value {
    ask(router.addr, get("/milepost/trace/status")).await.json()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: r\r\n\r\n")
}

async fn generate(router: &TestRouter) {
    assert_eq!(ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await.status, 200);
}

#[tokio::test]
async fn what_is_captured_before_a_stop_and_after_a_start_is_one_run_and_what_came_between_is_counted() {
    let worker = worker().await;
    let router = TestRouter::start(&[&worker]).await;
    generate(&router).await;
    let stopped = steer(&router, "stop", "").await;
    assert_eq!((stopped.status, &stopped.json()["state"]), (200, &Value::from("stopped")));
    for _ in 0..3 {
        generate(&router).await;
    }
    for (verb, body) in [("rotate", ""), ("mark", r#"{"label":"a"}"#)] {
        let refused = steer(&router, verb, body).await;
        assert_eq!((refused.status, refused.header("x-smg-error-code")), (409, Some("capture_stopped")));
    }
    let started = steer(&router, "start", "").await.json();
    assert_eq!((&started["state"], &started["sink"]), (&Value::from("capturing"), &Value::from("file")));
    assert_eq!(steer(&router, "start", "").await.status, 409);
    let marked = steer(&router, "mark", r#"{"label":"rollout begins"}"#).await;
    assert_eq!(marked.status, 200);
    assert_eq!(steer(&router, "mark", r#"{"label":"two\nlines"}"#).await.status, 400);
    generate(&router).await;
    let trace = router.shared.config.trace_log.clone().unwrap();
    let copy = trace.with_extension("copy.jsonl");
    let (seen, shared) = (router.shared.requests.load(Ordering::Relaxed), router.shared.clone());
    router.end().await;
    std::fs::rename(&trace, &copy).unwrap();
    let file = TraceFile::read(&copy).unwrap();
    std::fs::remove_file(&copy).unwrap();
    assert_eq!(file.runs.len(), 1);
    let run = &file.runs[0];
    assert_eq!(
        (run.accounted(), seen, shared.sink.lost_total()),
        (seen, seen, 0),
        "requests = records + missing"
    );
    // Three to the worker, the stop and two that were refused.
    assert_eq!((run.missing.stopped, run.marks.len(), &*run.marks[0].label), (6, 1, "rollout begins"));
}

/// A worker that says when it is asked, and waits for a word before it answers.
async fn slow_worker() -> (Worker, Arc<Notify>, Arc<Notify>) {
    let (asked, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&asked), Arc::clone(&go_on));
    let worker = Worker::start(move |_| {
        tell.notify_one();
        [vec![Step::Wait(Arc::clone(&wait))], ok()].concat()
    });
    (worker.await, asked, go_on)
}

/// The stages of a record, which follow each other from its arrival to its end.
fn stages(record: &RequestRecord) -> Vec<Stage> {
    let stages = at_router(record);
    let ends = (stages.first().map(|s| s.start_ns), stages.last().map(|s| s.end_ns as u64));
    assert_eq!(ends, (Some(0), Some(record.end_ns)), "{stages:?}");
    assert!(stages.iter().all(|s| s.start_ns < s.end_ns), "{stages:?}");
    assert!(stages.windows(2).all(|two| two[0].end_ns == two[1].start_ns), "{stages:?}");
    stages
}

#[tokio::test]
async fn a_request_that_was_under_way_when_a_capture_began_has_its_true_times_and_none_that_was_not_seen() {
    let ((worker, asked, go_on), folder) = (slow_worker().await, folder());
    let captures = folder.clone();
    let router = TestRouter::with(&[&worker], move |config| {
        config.trace_log = None;
        config.capture.folder = Some(captures);
    })
    .await;
    // One is at its worker, another has sent half of its body.
    let mut decided = Client::connect(router.addr).await;
    decided.send(post("/generate", r#"{"text":"a"}"#)).await;
    asked.notified().await;
    let request = post("/v1/completions", r#"{"prompt":"a","model":"m"}"#);
    let (begun, rest) = request.split_at(request.len() - 9);
    let mut half = Client::connect(router.addr).await;
    half.send(begun).await;
    while router.shared.requests.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    let started = steer(&router, "start", r#"{"name":"friday"}"#).await.json();
    half.send(rest).await;
    asked.notified().await;
    for client in [&mut decided, &mut half] {
        go_on.notify_one();
        assert_eq!(client.response().await.status, 200);
    }
    router.end().await;
    let path = folder.join("friday.jsonl");
    let file = TraceFile::read(&path).unwrap();
    let of = |path: &str| file.runs[0].requests.iter().find(|r| r.path == path).unwrap();
    let (decided, half) = (of("/generate"), of("/v1/completions"));
    let since_ns = started["since_unix_ns"].as_u64().unwrap();
    assert!(decided.arrival_unix_ns < since_ns && half.arrival_unix_ns < since_ns);
    let has = |record: &RequestRecord, name: &str| stages(record).iter().any(|stage| stage.name == name);
    // What the policy took was not written down: nobody makes up where it began.
    assert!(decided.decision.is_none() && decided.decided_ns.is_some());
    assert!(
        has(decided, "look at body + decision") && !has(decided, "decision") && has(decided, "at worker")
    );
    assert!(half.decision.is_some() && has(half, "read body") && has(half, "decision"));
    let survey = Survey::of(&[path]).unwrap();
    let mut lines = Vec::new();
    assert!(otlp::write(&survey, &mut lines).unwrap() >= 2);
    let body: Value = serde_json::from_slice(&lines).unwrap();
    for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap() {
        let at = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
        assert!(at("startTimeUnixNano") <= at("endTimeUnixNano"), "{span}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_request_that_ends_after_a_stop_is_counted_and_not_written_though_it_began_before() {
    let (worker, asked, go_on) = slow_worker().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"text":"a"}"#)).await;
    asked.notified().await;
    assert_eq!(steer(&router, "stop", "").await.status, 200);
    go_on.notify_one();
    assert_eq!(client.response().await.status, 200);
    // The next is chosen a worker while nothing is written, and ends when it is again.
    client.send(post("/generate", r#"{"text":"b"}"#)).await;
    asked.notified().await;
    assert_eq!(steer(&router, "start", "").await.status, 200);
    go_on.notify_one();
    assert_eq!(client.response().await.status, 200);
    let trace = router.shared.config.trace_log.clone().unwrap();
    let shared = router.shared.clone();
    router.end().await;
    let file = TraceFile::read(&trace).unwrap();
    std::fs::remove_file(&trace).unwrap();
    let run = &file.runs[0];
    let generated: Vec<&RequestRecord> = run.requests.iter().filter(|r| r.path == "/generate").collect();
    assert_eq!((generated.len(), generated[0].seq), (1, 3));
    stages(generated[0]);
    // The first, and the stop itself.
    assert_eq!((run.missing.stopped, shared.sink.lost_total()), (2, 0));
    assert_eq!(run.accounted(), shared.requests.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_client_reads_the_trace_through_a_rotation_without_a_gap() {
    let worker = worker().await;
    let router = TestRouter::start(&[&worker]).await;
    let mut from = "oldest".to_owned();
    let mut lines = String::new();
    for round in 0..3 {
        generate(&router).await;
        if round < 2 {
            assert_eq!(steer(&router, "rotate", "").await.json()["part"], round + 2);
        }
        loop {
            let page = ask(router.addr, get(&format!("/milepost/trace?from={from}"))).await;
            assert_eq!((page.status, page.header("content-type")), (200, Some("application/x-ndjson")));
            lines += &page.text();
            let next = page.header("x-milepost-trace-next").unwrap().to_owned();
            if next == std::mem::replace(&mut from, next.clone()) {
                break;
            }
        }
    }
    let gone = ask(router.addr, get("/milepost/trace?from=other.jsonl/1/0")).await;
    assert_eq!((gone.status, gone.header("x-smg-error-code")), (410, Some("trace_gone")));
    assert_eq!(ask(router.addr, get("/milepost/trace?from=x")).await.status, 400);
    let trace = router.shared.config.trace_log.clone().unwrap();
    router.end().await;
    let parts = parts_of(&trace).unwrap();
    assert_eq!(parts.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2]);
    let mut whole = String::new();
    for path in parts.into_iter().map(|part| part.path).chain([trace]) {
        whole += &String::from_utf8(lines_of(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
    }
    assert!(whole.starts_with(&lines), "what was read is the beginning of what is there");
    let count =
        |kind: &str| lines.lines().filter(|l| l.starts_with(&format!("{{\"kind\":\"{kind}\""))).count();
    assert!(count("request") >= 3 && count("run") == 3, "{lines}");
    assert!(whole.lines().all(|line| serde_json::from_str::<Record>(line).is_ok()));
}

#[tokio::test]
async fn a_capture_is_named_by_a_client_and_nothing_outside_the_folder_can_be() {
    let worker = worker().await;
    let folder = folder();
    let captures = folder.clone();
    let router = TestRouter::with(&[&worker], move |config| {
        config.trace_log = None;
        config.capture.folder = Some(captures);
    })
    .await;
    assert_eq!(status(&router).await["state"], "stopped");
    assert_eq!(ask(router.addr, get("/milepost/trace")).await.status, 404);
    for (body, status, code) in [
        ("", 409, "capture_without_folder"),
        (r#"{"name":"../x"}"#, 400, "bad_request"),
        (r#"{"name":"/etc/passwd"}"#, 400, "bad_request"),
        (r#"{"path":"x"}"#, 400, "bad_request"),
    ] {
        let refused = steer(&router, "start", body).await;
        assert_eq!((refused.status, refused.header("x-smg-error-code")), (status, Some(code)), "{body}");
    }
    assert_eq!(steer(&router, "start", r#"{"name":"friday"}"#).await.status, 200);
    generate(&router).await;
    steer(&router, "stop", "").await;
    assert_eq!(steer(&router, "start", r#"{"name":"friday"}"#).await.status, 409);
    router.end().await;
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["friday.jsonl"]);
    let file = TraceFile::read(&folder.join("friday.jsonl")).unwrap();
    assert_eq!(file.runs[0].requests.iter().filter(|r| r.path == "/generate").count(), 1);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_router_that_can_have_no_trace_says_so() {
    let worker = worker().await;
    let router = TestRouter::with(&[&worker], |config| config.trace_log = None).await;
    for request in [post("/milepost/trace/start", ""), get("/milepost/trace/status")] {
        let answer = ask(router.addr, request).await;
        assert_eq!((answer.status, answer.header("x-smg-error-code")), (404, Some("no_trace")));
    }
    assert_eq!(ask(router.addr, get("/milepost/trace/stop")).await.status, 405);
    router.end().await;
}

#[tokio::test]
async fn hashes_tell_what_prompts_share_and_hold_no_word_of_them_in_any_file_of_the_capture() {
    let worker = worker().await;
    let (system, folder) = ("You are the CANARY of this mine. ".repeat(20), folder());
    let log = folder.join("t.jsonl");
    for policy in ["round_robin", "cache_aware"] {
        let path = log.clone();
        let router = TestRouter::with(&[&worker], move |config| {
            config.trace_log = Some(path);
            config.policy = policy.to_owned();
        })
        .await;
        for (i, tail) in ["first", "second", "first"].into_iter().enumerate() {
            let body = serde_json::json!({ "text": format!("{system}{tail}") }).to_string();
            assert_eq!(ask(router.addr, post("/generate", &body)).await.status, 200);
            if i == 0 {
                assert_eq!(steer(&router, "rotate", "").await.status, 200);
            }
        }
        router.end().await;
        let file = TraceFile::read(&folder).unwrap();
        let run = file.runs.last().unwrap();
        let mut generated: Vec<_> = run.requests.iter().filter(|r| r.path == "/generate").collect();
        generated.sort_by_key(|r| r.seq);
        let hashes: Vec<&[u64]> =
            generated.iter().map(|r| r.prompt_hashes.as_ref().unwrap().keyed()).collect();
        // 665 and 666 bytes: two whole blocks and what is left.
        assert_eq!(
            (hashes.len(), hashes[0].len(), hashes[0]),
            (3, 3, hashes[2]),
            "{policy}: the key lasts over files"
        );
        assert_eq!(hashes[0][..2], hashes[1][..2], "{policy}: the same beginning");
        assert_ne!(hashes[0][2], hashes[1][2], "{policy}: another end");
    }
    let file = TraceFile::read(&folder).unwrap();
    let keys: Vec<_> =
        file.runs.iter().map(|run| run.run.clone().unwrap().capture.unwrap().prompt_key_id).collect();
    assert!(keys.len() == 2 && keys[0] != keys[1], "each run has a key of its own: {keys:?}");
    for path in files_of(&folder).unwrap() {
        let text = String::from_utf8(lines_of(&path)).unwrap();
        assert!(!text.contains("CANARY") && text.lines().count() > 1, "{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn lines_of(path: &std::path::Path) -> Vec<u8> {
    whole_lines(path, 0, u64::MAX).unwrap()
}

#[tokio::test]
async fn text_and_headers_are_in_the_trace_only_where_they_were_asked_for() {
    use milepost::trace::prompt::PromptTrace;
    let worker = worker().await;
    for (told, text) in [
        (PromptTrace::None, None),
        (PromptTrace::Hash, None),
        (PromptTrace::Head(3), Some("abc")),
        (PromptTrace::Full, Some("abcdef")),
    ] {
        let router = TestRouter::with(&[&worker], move |config| {
            config.capture.prompt = told;
            config.capture.headers = vec!["x-tenant".parse().unwrap()];
        })
        .await;
        let request = post_with("/generate", "x-tenant: blue\r\nx-other: red\r\n", r#"{"text":"abcdef"}"#);
        assert_eq!(ask(router.addr, request).await.status, 200);
        let requests = router.finish_requests().await;
        assert_eq!(requests[0].prompt_text.as_deref(), text);
        assert_eq!(requests[0].prompt_hashes.is_some(), told == PromptTrace::Hash);
        let headers: Vec<_> = requests[0].headers.iter().collect();
        assert_eq!(headers, [(&"x-tenant".to_owned(), &"blue".to_owned())]);
    }
}
