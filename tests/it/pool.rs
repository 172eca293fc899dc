//! Connections to workers: reuse, idle limits, and the race with a worker that closes.

use std::sync::Arc;

use milepost::trace::record::Outcome;
use tokio::sync::Notify;

use crate::harness::{
    Client, Step, TestRouter, Worker, ask, chunk, end, generate_stream, ok, post, stream_head,
};

#[tokio::test]
async fn connections_are_reused_for_plain_answers_and_streams() {
    let worker = Worker::start(|got| if got.body.is_empty() { ok() } else { generate_stream(2) }).await;
    let router = TestRouter::start(&[&worker]).await;
    for body in ["", "{\"stream\":true}", "", "{\"stream\":true}"] {
        assert_eq!(ask(router.addr, post("/generate", body)).await.status, 200);
    }
    assert!(worker.requests().iter().all(|g| g.connection == 0));
    let reused: Vec<bool> = router.finish_requests().await.iter().map(|r| r.reused_connection).collect();
    assert_eq!(reused, [false, true, true, true]);
}

#[tokio::test]
async fn a_reused_connection_that_dies_is_replaced_and_the_client_sees_200() {
    // The worker closes after having read the second request on a connection: the race that no check can see.
    let worker = Worker::start(|got| {
        let second = got.header("x-request-id") == Some("second") && got.connection == 0;
        if second { vec![Step::Close] } else { ok() }
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    for id in ["first", "second"] {
        let request =
            crate::harness::post_with("/generate", &format!("x-request-id: {id}\r\n"), "{\"text\":\"a\"}");
        assert_eq!(ask(router.addr, request).await.status, 200);
    }
    let records = router.finish_requests().await;
    let r = &records[1];
    assert_eq!((r.outcome, r.attempts, r.reconnects, r.reused_connection), (Outcome::Done, 1, 1, false));
    assert!(r.failed_attempts.is_empty(), "a reconnect is no failed attempt");
    assert_eq!(worker.requests()[2].body, b"{\"text\":\"a\"}");
}

#[tokio::test]
async fn a_connection_that_the_worker_closed_while_idle_is_found_by_the_check() {
    let closed = Arc::new(Notify::new());
    let worker = Worker::start(|_| {
        let mut steps = ok();
        steps.push(Step::Close);
        steps
    })
    .await;
    drop(closed);
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    for _ in 0..3 {
        client.send(post("/generate", "{}")).await;
        assert_eq!(client.response().await.status, 200);
    }
    let records = router.finish_requests().await;
    assert!(records.iter().all(|r| r.outcome == Outcome::Done && r.attempts == 1));
}

#[tokio::test]
async fn idle_connections_to_a_removed_worker_close_at_once_though_a_stream_there_goes_on() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let event = "data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n";
    let worker = Worker::start(move |got| {
        let first = vec![
            stream_head(),
            chunk(event),
            Step::Wait(Arc::clone(&wait)),
            chunk("data: [DONE]\n\n"),
            end(),
        ];
        if got.body == b"{}" { ok() } else { first }
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"stream":true}"#)).await;
    client.read_until("data: ").await;
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    let removed = Arc::clone(&router.shared.fleet.workers()[0]);
    assert_eq!(removed.pool.idle(), 1);
    assert!(router.shared.fleet.remove(&removed));
    assert_eq!(removed.pool.idle(), 0);
    go.notify_one();
    assert!(client.response().await.whole);
    assert_eq!(removed.pool.idle(), 0, "nor is that of the stream kept");
    assert!(router.finish_requests().await.iter().all(|r| r.outcome == Outcome::Done));
}
