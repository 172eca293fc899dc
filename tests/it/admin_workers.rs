//! `/workers` and its predecessors: what a launch script or an operator sees, says and gets.

use std::sync::Arc;
use std::time::Duration;

use milepost::trace::record::{Outcome, Record, RequestKind};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::{Client, PATIENCE, Response, Step, TestRouter, Worker, ask, dead_url, ok, post};

async fn call(router: &TestRouter, method: &str, path: &str, body: &str) -> Response {
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nhost: r\r\ncontent-length: {length}\r\n\r\n{body}");
    ask(router.addr, request).await
}

async fn add(router: &TestRouter, url: &str) -> Response {
    call(router, "POST", "/workers", &json!({"url": url}).to_string()).await
}

#[tokio::test]
async fn a_worker_is_added_looked_at_changed_and_removed() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[]).await;
    assert_eq!(call(&router, "POST", "/generate", "{}").await.status, 503);
    let said =
        json!({"url": worker.url, "priority": 7, "cost": 2.5, "labels": {"rack": "4"}, "model_id": "m"});
    let added = call(&router, "POST", "/workers", &said.to_string()).await;
    let accepted = added.json();
    let id = accepted["worker_id"].as_str().unwrap();
    let page = format!("/workers/{id}");
    assert_eq!((added.status, added.header("location")), (202, Some(page.as_str())));
    assert_eq!(
        (&accepted["status"], &accepted["url"], &accepted["location"]),
        (&json!("accepted"), &json!(worker.url), &json!(page))
    );
    let again = add(&router, &worker.url.to_uppercase().replace("HTTP", "http")).await;
    assert_eq!((again.status, &again.json()["worker_id"]), (202, &accepted["worker_id"]));
    assert_eq!(call(&router, "POST", "/generate", "{}").await.status, 200);

    let list = call(&router, "GET", "/workers", "").await.json();
    assert_eq!(list["total"], 1);
    assert_eq!(list["stats"], json!({"prefill_count": 0, "decode_count": 0, "regular_count": 1}));
    let one = call(&router, "GET", &page, "").await.json();
    assert_eq!(list["workers"][0], one);
    for (field, value) in [
        ("id", json!(id)),
        ("url", json!(worker.url)),
        ("model_id", json!("m")),
        ("priority", json!(7)),
        ("cost", json!(2.5)),
        ("worker_type", json!("regular")),
        ("is_healthy", json!(true)),
        ("load", json!(0)),
        ("connection_mode", json!("HTTP")),
        ("metadata", json!({"rack": "4"})),
        ("disable_health_check", json!(true)),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    assert!(one.get("job_status").is_none());

    let changed = call(&router, "PUT", &page, r#"{"priority":9,"labels":{"z":"1"}}"#).await;
    assert_eq!((changed.status, &changed.json()["worker_id"]), (202, &json!(id)));
    let one = call(&router, "GET", &page, "").await.json();
    assert_eq!(
        (&one["priority"], &one["cost"], &one["metadata"]),
        (&json!(9), &json!(2.5), &json!({"rack": "4", "z": "1"}))
    );
    assert_eq!(call(&router, "DELETE", &page, "").await.status, 202);
    assert_eq!(call(&router, "GET", &page, "").await.status, 404);
    assert_eq!(call(&router, "POST", "/generate", "{}").await.status, 503);
    let records = router.finish_requests().await;
    let own: Vec<_> = records.iter().filter(|r| r.path.starts_with("/workers")).collect();
    assert!(own.iter().all(|r| r.request_kind == RequestKind::Local && r.worker.is_none()));
    assert_eq!(own.iter().filter(|r| r.outcome == Outcome::Refused).count(), 1, "the 404 alone");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let router = TestRouter::with(&[], |c| c.max_workers = 1).await;
    let own = format!("{{\"url\":\"http://localhost:{}\"}}", router.addr.port());
    let other = "00000000-0000-4000-8000-000000000000";
    for (method, path, said, status, word) in [
        ("POST", "/workers", r#"{"x":1}"#, 422, "missing field `url`"),
        ("POST", "/workers", r#"{"url":"http://a:1","priority":"high"}"#, 422, "u32"),
        ("POST", "/workers", r#"{"url":"#, 400, "JSON"),
        ("POST", "/workers", r#"{"url":"nonsense"}"#, 400, "expected http://host:port"),
        ("POST", "/workers", r#"{"url":"http://a:1","worker_type":"prefill"}"#, 400, "worker_type"),
        ("POST", "/workers", r#"{"url":"http://a:1","runtime":"grpc"}"#, 400, "grpc"),
        ("POST", "/workers", &own, 400, "own address"),
        ("GET", "/workers/nonsense", "", 400, "BAD_REQUEST"),
        ("GET", &format!("/workers/{other}"), "", 404, "WORKER_NOT_FOUND"),
        ("PUT", &format!("/workers/{other}"), "{}", 404, "WORKER_NOT_FOUND"),
        ("DELETE", &format!("/workers/{other}"), "", 404, "WORKER_NOT_FOUND"),
        ("DELETE", "/workers", "", 405, "GET, HEAD, POST"),
        ("POST", &format!("/workers/{other}"), "", 405, "GET, HEAD, PUT, DELETE"),
    ] {
        let response = call(&router, method, path, said).await;
        assert_eq!(response.status, status, "{method} {path} {said}: {}", response.text());
        assert!(response.text().contains(word), "{method} {path} {said}: {}", response.text());
        assert!(status != 405 || response.header("allow") == Some(word));
    }
    assert_eq!(add(&router, &dead_url()).await.status, 202);
    let full = add(&router, &dead_url()).await;
    assert_eq!((full.status, full.header("x-smg-error-code")), (503, Some("too_many_workers")));
    assert_eq!(full.json()["error"]["code"], "too_many_workers");
    let large = " ".repeat(70_000);
    assert_eq!(call(&router, "POST", "/workers", &large).await.status, 413);
    router.finish().await;
}

#[tokio::test]
async fn dead_workers_hold_up_nobody_and_can_be_given_up() {
    let live = up().await;
    let mut urls = Vec::new();
    for _ in 0..20 {
        urls.push(dead_url());
    }
    let router = TestRouter::with_urls(&urls, |c| c.health.enabled = true).await;
    assert_eq!(call(&router, "GET", "/readiness", "").await.status, 503);
    assert_eq!(add(&router, &live.url).await.status, 202);
    let ready = async {
        while call(&router, "GET", "/readiness", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    // The pause between two tries of one worker grows up to 2 s: waiting for any of the dead would show here.
    tokio::time::timeout(PATIENCE, ready).await.expect("the live one is ready whatever the others do");
    let list = call(&router, "GET", "/workers", "").await.json();
    assert_eq!((&list["total"], &list["workers"][0]["url"]), (&json!(1), &json!(live.url)));
    let pending = list["pending"].as_array().unwrap();
    assert_eq!(pending.len(), 20);
    let page = format!("/workers/{}", pending[0]["id"].as_str().unwrap());
    let flushed = call(&router, "POST", "/flush_cache", "").await;
    assert_eq!((flushed.status, &flushed.json()["successful"]), (200, &json!([live.url])));
    assert_eq!(flushed.json()["pending"].as_array().unwrap().len(), 20, "not asked, but named");
    let one = call(&router, "GET", &page, "").await.json();
    assert_eq!(
        (&one["model_id"], &one["is_healthy"], &one["job_status"]["status"], &one["job_status"]["job_type"]),
        (&json!("unknown"), &json!(false), &json!("processing"), &json!("AddWorker"))
    );
    assert_eq!(one["job_status"]["worker_url"], one["url"]);
    assert!(one["job_status"]["message"].as_str().unwrap().contains("(connect: "), "it says why: {one}");
    assert!(one["milepost"]["failed_check"].as_str().unwrap().starts_with("connect: "), "{one}");
    let ready = &list["workers"][0]["milepost"];
    assert_eq!((&ready["failed_check"], &ready["breaker"]), (&Value::Null, &json!("closed")));
    assert_eq!(call(&router, "DELETE", &page, "").await.status, 202);
    assert_eq!(call(&router, "GET", &page, "").await.status, 404);
    let gone = one["url"].as_str().unwrap().to_owned();
    let records = router.finish().await;
    let told = |event: &str, url: &str| {
        records.iter().any(|r| matches!(r, Record::Worker(w) if w.event == event && *w.worker == *url))
    };
    assert!(told("removed", &gone) && told("healthy", &live.url) && !told("healthy", &gone));
}

#[tokio::test]
async fn a_worker_that_never_answers_is_a_failed_job_after_the_startup_time_out() {
    let router = TestRouter::with_urls(&[dead_url()], |c| {
        c.health.enabled = true;
        c.health.startup_timeout = Duration::ZERO;
    })
    .await;
    let list = call(&router, "GET", "/workers", "").await.json();
    let status = &list["pending"][0]["job_status"];
    assert_eq!(status["status"], "failed");
    assert!(status["message"].as_str().unwrap().contains("still trying"), "{status}");
    router.finish().await;
}

#[tokio::test]
async fn a_removed_worker_ends_what_it_has_begun_and_gets_nothing_more() {
    let (gate, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (open, arrived) = (Arc::clone(&gate), Arc::clone(&seen));
    let worker = Worker::start(move |_| {
        arrived.notify_one();
        let mut steps = vec![Step::Wait(Arc::clone(&gate))];
        steps.extend(ok());
        steps
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", "{}")).await;
    tokio::time::timeout(PATIENCE, seen.notified()).await.expect("the worker has the request");
    let list = call(&router, "GET", "/workers", "").await.json();
    assert_eq!(list["workers"][0]["load"], 1);
    let page = format!("/workers/{}", list["workers"][0]["id"].as_str().unwrap());
    assert_eq!(call(&router, "DELETE", &page, "").await.status, 202);
    assert_eq!(call(&router, "POST", "/generate", "{}").await.status, 503);
    open.notify_one();
    assert_eq!(client.response().await.status, 200);
    assert_eq!(worker.requests().len(), 1);
    drop(client);
    router.finish().await;
}

/// A worker that answers health checks, which the scripted one does not.
async fn up() -> Worker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let got = Arc::default();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut head = Vec::new();
                while crate::harness::find(&head, b"\r\n\r\n").is_none() {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let info = r#"{"model_path":"m/x","served_model_name":"x","tp_size":2,"dp_size":1,"version":"0.5.9","max_running_requests":16}"#;
                let text = if head.starts_with(b"GET /server_info") { info } else { "" };
                let length = text.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Worker { url, got }
}

#[tokio::test]
async fn an_old_launch_script_adds_lists_and_removes() {
    let worker = up().await;
    let router = TestRouter::with(&[], |c| c.health.enabled = true).await;
    let encoded = worker.url.replace(':', "%3A").replace('/', "%2F");
    let added = call(&router, "POST", &format!("/add_worker?url={encoded}"), "").await;
    assert_eq!((added.status, added.text()), (200, format!("Successfully added worker: {}", worker.url)));
    // It has answered, so the next line of the script may send requests.
    assert_eq!(call(&router, "GET", "/readiness", "").await.status, 200);
    let again = call(&router, "GET", &format!("/add_worker?url={}", worker.url), "").await;
    assert_eq!((again.status, again.text()), (400, format!("Worker {} already exists", worker.url)));
    let listed = call(&router, "GET", "/list_workers", "").await;
    assert_eq!((listed.status, listed.json()), (200, json!({"urls": [worker.url]})));
    for words in ["Successfully removed worker", "was not there"] {
        let removed = call(&router, "POST", &format!("/remove_worker?url={encoded}"), "").await;
        assert!(removed.status == 200 && removed.text().contains(words), "{}", removed.text());
    }
    for (query, words) in
        [("", "?url="), ("?url=nonsense", "expected http://host:port"), ("?url=%z", "percent")]
    {
        let refused = call(&router, "POST", &format!("/add_worker{query}"), "").await;
        assert!(refused.status == 400 && refused.text().contains(words), "{query}: {}", refused.text());
    }
    assert_eq!(call(&router, "GET", "/list_workers", "").await.json(), json!({"urls": []}));
    let records = router.finish_requests().await;
    assert!(records.iter().all(|r| r.request_kind == RequestKind::Local));
}

#[tokio::test]
async fn an_old_launch_script_is_answered_though_its_worker_is_not_up_yet() {
    let dead = dead_url();
    let router = TestRouter::with(&[], |c| {
        c.health.enabled = true;
        c.health.timeout = Duration::from_millis(20);
    })
    .await;
    let added = call(&router, "POST", &format!("/add_worker?url={dead}"), "").await;
    assert!(added.status == 200 && added.text().contains("not answered"), "{}", added.text());
    assert_eq!(router.shared.fleet.workers().len(), 1, "it is asked on");
    router.finish().await;
}

#[tokio::test]
async fn a_worker_that_has_answered_is_shown_as_it_described_itself() {
    let worker = up().await;
    let router = TestRouter::with(&[&worker], |c| c.health.enabled = true).await;
    let described = async {
        loop {
            let list = call(&router, "GET", "/workers", "").await.json();
            if list["workers"][0]["model_id"] == "x" {
                return list;
            }
        }
    };
    let list = tokio::time::timeout(PATIENCE, described).await.expect("it describes itself");
    let one = &list["workers"][0];
    let metadata = json!({"dp_size": "1", "tp_size": "2", "model_path": "m/x", "served_model_name": "x"});
    assert_eq!((&one["metadata"], &one["disable_health_check"]), (&metadata, &json!(false)));
    assert_eq!(
        (&one["milepost"]["version"], &one["milepost"]["max_running_requests"]),
        (&json!("0.5.9"), &json!(16))
    );
    router.finish().await;
}

#[tokio::test]
async fn a_changed_health_check_takes_effect_at_once() {
    let router = TestRouter::with_urls(&[dead_url()], |c| c.health.enabled = true).await;
    let list = call(&router, "GET", "/workers", "").await.json();
    let page = format!("/workers/{}", list["pending"][0]["id"].as_str().unwrap());
    assert_eq!(call(&router, "PUT", &page, r#"{"disable_health_check":true}"#).await.status, 202);
    let trusted = async {
        while call(&router, "GET", "/readiness", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, trusted).await.expect("unchecked, so it is trusted");
    let one = call(&router, "GET", &page, "").await.json();
    assert_eq!((&one["disable_health_check"], one.get("job_status")), (&json!(true), None));
    router.finish().await;
}
