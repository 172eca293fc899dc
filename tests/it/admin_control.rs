//! Control of the whole fleet: each worker gets the request as it came, and the answer says what each of them said.

use std::sync::Arc;

use milepost::trace::record::{Outcome, RequestKind};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, dead_url, json as answer, ok, post, post_with,
};

fn status(line: &str, body: &str) -> Vec<Step> {
    let length = body.len();
    vec![Step::Send(format!("HTTP/1.1 {line}\r\ncontent-length: {length}\r\n\r\n{body}").into())]
}

#[tokio::test]
async fn a_control_request_reaches_every_worker_byte_for_byte() {
    const DONE: &str =
        r#"{"success":true,"message":"Succeeded to update model weights.","num_paused_requests":0}"#;
    let (a, b) = (Worker::start(|_| answer(DONE)).await, Worker::start(|_| answer(DONE)).await);
    let router = TestRouter::start(&[&a, &b]).await;
    let said = "{ \"model_path\" : \"new\\u00e9\" }";
    let response =
        ask(router.addr, post_with("/update_weights_from_disk?x=%20", "x-custom: 1\r\n", said)).await;
    assert_eq!(response.status, 200);
    let told = response.json();
    assert_eq!(
        (&told["status"], &told["success"], &told["num_paused_requests"]),
        (&json!("success"), &json!(true), &json!(0))
    );
    assert_eq!(told["message"], "Succeeded to update model weights.");
    let one = |worker: &Worker| json!({"worker": worker.url, "status": 200, "body": serde_json::from_str::<Value>(DONE).unwrap()});
    assert_eq!(told["workers"], json!([one(&a), one(&b)]));
    for worker in [&a, &b] {
        let got = &worker.requests()[0];
        assert!(got.head.starts_with("POST /update_weights_from_disk?x=%20 HTTP/1.1\r\n"), "{}", got.head);
        assert_eq!(
            (got.body.as_slice(), got.header("content-type")),
            (said.as_bytes(), Some("application/json"))
        );
        assert_eq!(got.header("x-request-id"), response.header("x-request-id"));
        assert_eq!(got.header("host"), Some(&worker.url["http://".len()..]));
        assert_eq!(got.header("x-custom"), None);
    }
    let record = &router.finish_requests().await[0];
    assert_eq!((record.request_kind, record.outcome), (RequestKind::FanOut, Outcome::Done));
    assert_eq!((record.request_body_bytes, record.status), (said.len() as u64, Some(200)));
}

#[tokio::test]
async fn every_worker_that_did_not_do_it_is_named() {
    let fine = Worker::start(|_| answer(r#"{"success":true,"message":"ok"}"#)).await;
    let failing =
        Worker::start(|_| status("400 Bad Request", r#"{"success":false,"message":"no such path"}"#)).await;
    let dead = dead_url();
    let router = TestRouter::with_urls(&[fine.url.clone(), failing.url.clone(), dead.clone()], |_| {}).await;
    let some = ask(router.addr, post("/load_lora_adapter", "{}")).await;
    let told = some.json();
    assert_eq!(
        (some.status, &told["status"], &told["success"]),
        (206, &json!("partial_success"), &json!(false))
    );
    assert_eq!(told["message"], "1 of 3 workers did it");
    assert_eq!(told["workers"][1]["body"]["message"], "no such path");
    assert_eq!((&told["workers"][2]["worker"], &told["workers"][2]["status"]), (&json!(dead), &Value::Null));
    assert!(told["workers"][2]["error"].as_str().unwrap().contains("connect"), "{told}");
    router.finish().await;

    let router = TestRouter::start(&[&failing]).await;
    let none = ask(router.addr, post("/load_lora_adapter", "{}")).await;
    let told = none.json();
    assert_eq!((none.status, &told["status"], &told["success"]), (400, &json!("failed"), &json!(false)));
    assert_eq!(told["message"], "no such path", "what the engine's clients read");
    let record = &router.finish_requests().await[0];
    assert_eq!(record.outcome, Outcome::WorkerError);

    let unlike = TestRouter::with_urls(&[failing.url.clone(), dead], |_| {}).await;
    let none = ask(unlike.addr, post("/load_lora_adapter", "{}")).await;
    assert_eq!((none.status, &none.json()["status"]), (502, &json!("failed")), "they differ");
    assert_eq!(unlike.finish_requests().await[0].outcome, Outcome::WorkerError);

    let empty = TestRouter::with_urls(&[], |_| {}).await;
    let nobody = ask(empty.addr, post("/pause_generation", "")).await;
    assert_eq!((nobody.status, nobody.header("x-smg-error-code")), (503, Some("no_workers")));
    let flushed = ask(empty.addr, post("/flush_cache", "")).await;
    assert_eq!((flushed.status, &flushed.json()["total_workers"]), (200, &json!(0)));
    empty.finish().await;
}

#[tokio::test]
async fn what_all_workers_refuse_alike_is_refused_with_their_status() {
    // SGLang 0.4.9.post6 does not know this path, and refuses a wrong model path with these words.
    let old = |code: &'static str, body: &'static str| Worker::start(move |_| status(code, body));
    let a = old("404 Not Found", r#"{"detail":"Not Found"}"#).await;
    let b = old("404 Not Found", r#"{"detail":"Not Found"}"#).await;
    let c = old("400 Bad Request", r#"{"success":false,"message":"Failed to get model loader"}"#).await;
    for (workers, expected) in [
        (vec![a.url.clone(), b.url.clone()], 404),
        (vec![c.url.clone()], 400),
        (vec![a.url.clone(), c.url.clone()], 502),
        (vec![a.url.clone(), dead_url()], 502),
        (vec![dead_url()], 502),
    ] {
        let router = TestRouter::with_urls(&workers, |_| {}).await;
        let refused = ask(router.addr, post("/begin_weight_update", "{}")).await;
        let told = refused.json();
        assert_eq!((refused.status, &told["status"]), (expected, &json!("failed")), "{told}");
        assert_eq!(told["workers"].as_array().unwrap().len(), workers.len());
        assert_eq!(router.finish_requests().await[0].outcome, Outcome::WorkerError);
    }
}

#[tokio::test]
async fn methods_are_the_engines_and_plain_text_is_shown_as_such() {
    let worker = Worker::start(|_| status("200 OK", "Start profiling.\n")).await;
    let router = TestRouter::start(&[&worker]).await;
    let started = ask(router.addr, "GET /start_profile HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert_eq!((started.status, &started.json()["workers"][0]["body"]), (200, &json!("Start profiling.\n")));
    assert_eq!(started.json()["success"], json!(true));
    assert!(worker.requests()[0].head.starts_with("GET /start_profile HTTP/1.1\r\n"));
    let refused = ask(router.addr, "GET /pause_generation HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert_eq!((refused.status, refused.header("allow")), (405, Some("POST")));
    assert_eq!(refused.json()["error"]["code"], "method_not_allowed");
    assert_eq!(refused.header("x-smg-error-code"), Some("method_not_allowed"));
    let put =
        ask(router.addr, "PUT /set_internal_state HTTP/1.1\r\nhost: r\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(put.status, 200);
    assert_eq!(worker.requests().len(), 2);
    let records = router.finish_requests().await;
    let outcomes: Vec<_> = records.iter().map(|r| (r.request_kind, r.outcome)).collect();
    let asked = (RequestKind::FanOut, Outcome::Done);
    assert_eq!(outcomes, [asked, (RequestKind::Local, Outcome::Refused), asked]);
}

#[tokio::test]
async fn a_control_body_has_the_limits_of_any_other() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| c.max_payload_bytes = 10).await;
    assert_eq!(ask(router.addr, post("/update_weights_from_tensor", &" ".repeat(11))).await.status, 413);
    assert_eq!(ask(router.addr, post("/update_weights_from_tensor", &" ".repeat(10))).await.status, 200);
    assert_eq!(worker.requests().len(), 1);
    router.finish().await;
    let router = TestRouter::with(&[&worker], |c| c.max_buffered_request_bytes = 10).await;
    let shed = ask(router.addr, post("/update_weights_from_tensor", &" ".repeat(11))).await;
    assert_eq!((shed.status, shed.header("x-smg-error-code")), (503, Some("request_memory_exhausted")));
    router.finish().await;
}

#[tokio::test]
async fn a_worker_that_hangs_ends_with_the_request_and_the_others_are_told_of() {
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    let hanging = Worker::start(move |_| vec![Step::UntilClosed(Arc::clone(&tell))]).await;
    let fine = Worker::start(|_| answer("{}")).await;
    let router = TestRouter::with(&[&hanging, &fine], |c| {
        c.request_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let response = ask(router.addr, post("/continue_generation", "")).await;
    let told = response.json();
    assert_eq!((response.status, &told["workers"][1]["status"]), (206, &json!(200)));
    assert!(told["workers"][0]["error"].as_str().unwrap().contains("no answer in"), "{told}");
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the connection is closed");
    router.finish().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_questions_back() {
    let (closed, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, arrived) = (Arc::clone(&closed), Arc::clone(&seen));
    let worker = Worker::start(move |_| {
        arrived.notify_one();
        vec![Step::UntilClosed(Arc::clone(&tell))]
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/pause_generation", "{}")).await;
    tokio::time::timeout(PATIENCE, seen.notified()).await.expect("the worker is asked");
    drop(client);
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the connection is closed");
    let record = &router.finish_requests().await[0];
    assert_eq!((record.request_kind, record.outcome), (RequestKind::FanOut, Outcome::ClientGone));
}

/// A worker that holds generations until the gate opens, and answers aborts at once.
async fn holding(gate: &Arc<Notify>, seen: &Arc<Notify>) -> Worker {
    let (gate, seen) = (Arc::clone(gate), Arc::clone(seen));
    Worker::start(move |got| {
        if got.head.starts_with("POST /abort_request") {
            return status("200 OK", "");
        }
        seen.notify_one();
        let mut steps = vec![Step::Wait(Arc::clone(&gate))];
        steps.extend(ok());
        steps
    })
    .await
}

fn aborts(worker: &Worker) -> Vec<String> {
    let bodies = worker.requests().into_iter().filter(|got| got.head.starts_with("POST /abort_request"));
    bodies.map(|got| String::from_utf8(got.body).unwrap()).collect()
}

#[tokio::test]
async fn an_abort_goes_to_the_worker_that_holds_the_request() {
    let (gate, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (a, b) = (holding(&gate, &seen).await, holding(&gate, &seen).await);
    let router = TestRouter::start(&[&a, &b]).await;
    let mut clients = Vec::new();
    for rid in ["first", "second"] {
        let mut client = Client::connect(router.addr).await;
        client.send(post("/generate", &format!("{{\"text\":\"x\",\"rid\":\"{rid}\"}}"))).await;
        tokio::time::timeout(PATIENCE, seen.notified()).await.expect("a worker has it");
        clients.push(client);
    }
    let holds = |worker: &Worker, rid: &str| {
        worker.requests().iter().any(|got| String::from_utf8_lossy(&got.body).contains(rid))
    };
    let (holder, other) = if holds(&a, "first") { (&a, &b) } else { (&b, &a) };
    assert!(holds(other, "second"), "round robin");
    let one = ask(router.addr, post("/abort_request", r#"{"rid":"first"}"#)).await;
    assert_eq!(
        (one.status, one.json()["workers"].clone()),
        (200, json!([{"worker": holder.url, "status": 200}]))
    );
    assert_eq!((aborts(holder), aborts(other)), (vec![r#"{"rid":"first"}"#.to_owned()], vec![]));
    for for_all in [r#"{"rid":"unknown"}"#, r#"{"abort_all":true}"#, r#"{"rid":["first"]}"#] {
        let all = ask(router.addr, post("/abort_request", for_all)).await;
        assert_eq!((all.status, all.json()["workers"].as_array().unwrap().len()), (200, 2), "{for_all}");
        assert_eq!(aborts(other).last().map(String::as_str), Some(for_all));
    }
    gate.notify_one();
    gate.notify_one();
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert!(router.shared.fleet.rids().abort("first").workers.is_empty(), "over, so nobody holds it");
    drop(clients);
    let records = router.finish_requests().await;
    let aborts: Vec<_> = records.iter().filter(|r| &*r.path == "/abort_request").collect();
    assert!(aborts.iter().all(|r| r.request_kind == RequestKind::FanOut && r.outcome == Outcome::Done));
    assert_eq!((aborts[0].rid.as_deref(), aborts[2].rid.as_deref()), (Some("first"), None));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_rid_with_it() {
    let (gate, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let worker = holding(&gate, &seen).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"text":"x","rid":"mine"}"#)).await;
    tokio::time::timeout(PATIENCE, seen.notified()).await.expect("the worker has it");
    assert_eq!(router.shared.fleet.rids().abort("mine").workers.len(), 1);
    drop(client);
    let gone = async {
        while !router.shared.fleet.rids().abort("mine").workers.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the entry goes with the request");
    gate.notify_one();
    router.finish().await;
}

#[tokio::test]
async fn a_stored_response_is_found_wherever_it_is() {
    let has = Worker::start(|got| {
        if got.head.contains(" /v1/responses/r1") {
            answer(r#"{"id":"r1"}"#)
        } else {
            status("404 Not Found", "no")
        }
    })
    .await;
    let has_not = Worker::start(|_| status("404 Not Found", r#"{"error":{"code":404}}"#)).await;
    let router = TestRouter::with_urls(&[has_not.url.clone(), dead_url(), has.url.clone()], |_| {}).await;
    for (request, line) in [
        ("GET /v1/responses/r1?x=1", "GET /v1/responses/r1?x=1 HTTP/1.1"),
        ("DELETE /v1/responses/r1", "DELETE /v1/responses/r1 HTTP/1.1"),
        ("POST /v1/responses/r1/cancel", "POST /v1/responses/r1/cancel HTTP/1.1"),
        ("GET /v1/responses/r1/input_items", "GET /v1/responses/r1/input_items HTTP/1.1"),
    ] {
        let found =
            ask(router.addr, format!("{request} HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!((found.status, found.text().as_str()), (200, r#"{"id":"r1"}"#), "{request}");
        assert_eq!(found.header("content-type"), Some("application/json"));
        assert_eq!(has.requests().last().unwrap().head.lines().next(), Some(line));
    }
    let missing = ask(router.addr, "GET /v1/responses/r2 HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert_eq!(missing.status, 404, "a worker's word comes before a dead one's silence");
    let records = router.finish_requests().await;
    assert!(records.iter().all(|r| r.request_kind == RequestKind::FanOut));
    assert_eq!((records[0].outcome, records[0].worker.as_deref()), (Outcome::Done, Some(has.url.as_str())));
    assert_eq!(records[4].outcome, Outcome::WorkerError);

    let dead = TestRouter::with_urls(&[dead_url()], |_| {}).await;
    let response = ask(dead.addr, "GET /v1/responses/r1 HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert_eq!(
        (response.status, response.header("x-smg-error-code")),
        (502, Some("call_upstream_request_error"))
    );
    dead.finish().await;
}

#[tokio::test]
async fn a_flush_of_some_caches_is_not_called_a_flush_of_all() {
    let fine = Worker::start(|_| status("200 OK", "Cache flushed.")).await;
    let busy = Worker::start(|_| status("400 Bad Request", "busy")).await;
    let router = TestRouter::start(&[&fine, &busy]).await;
    let flushed = ask(router.addr, "GET /flush_cache HTTP/1.1\r\nhost: r\r\n\r\n").await;
    let told = flushed.json();
    assert_eq!(
        (flushed.status, &told["status"], &told["workers_flushed"]),
        (206, &json!("partial_success"), &json!(1))
    );
    assert_eq!(
        (&told["successful"], &told["failed"]),
        (&json!([fine.url]), &json!([{"worker": busy.url, "error": "status 400"}]))
    );
    assert!(fine.requests()[0].head.starts_with("POST /flush_cache HTTP/1.1\r\n"));
    let record = &router.finish_requests().await[0];
    assert_eq!((record.request_kind, record.outcome), (RequestKind::FanOut, Outcome::Done));
}
