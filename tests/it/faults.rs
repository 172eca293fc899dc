//! Workers that fail and clients that leave: what the client sees, what the record says, what is given back.

use std::sync::Arc;

use std::time::Duration;

use milepost::clock::Clock;
use milepost::net::PipeNet;
use milepost::trace::record::{Outcome, Record};
use tokio::sync::Notify;

use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, chunk, dead_url, generate_stream, ok, post, stream_head,
};
use crate::piped::{self, PipedRouter};

#[tokio::test]
async fn a_worker_that_refuses_is_left_out_and_the_next_one_answers() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with_urls(&[dead_url(), worker.url.clone()], |_| {}).await;
    for _ in 0..4 {
        assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    }
    let records = router.finish_requests().await;
    let retried: Vec<_> = records.iter().filter(|r| r.attempts == 2).collect();
    assert!(!retried.is_empty(), "round robin meets the dead one");
    for r in retried {
        assert_eq!((r.failed_attempts.len(), r.worker.as_deref()), (1, Some(worker.url.as_str())));
        assert!(
            r.failed_attempts[0].error.starts_with("connect:")
                && r.failed_attempts[0].router_send_ns.is_none()
        );
    }
}

#[tokio::test]
async fn with_nobody_left_the_client_gets_a_502_and_with_nobody_at_all_a_503() {
    let two = [dead_url(), dead_url()];
    let router = TestRouter::with_urls(&two, |c| c.retry.max_attempts = 2).await;
    let response = ask(router.addr, post("/generate", "{}")).await;
    assert_eq!(
        (response.status, response.header("x-smg-error-code")),
        (502, Some("call_upstream_connection_failed"))
    );
    let record = &router.finish_requests().await[0];
    assert_eq!((record.outcome, record.attempts, record.failed_attempts.len()), (Outcome::Unreachable, 2, 2));

    let empty = TestRouter::with_urls(&[], |_| {}).await;
    assert_eq!(ask(empty.addr, "GET /readiness HTTP/1.1\r\nhost: r\r\n\r\n").await.status, 503);
    let response = ask(empty.addr, post("/generate", "{}")).await;
    assert_eq!((response.status, response.header("x-smg-error-code")), (503, Some("no_available_workers")));
    empty.finish().await;
}

#[tokio::test]
async fn a_fresh_connection_that_dies_is_a_failed_attempt() {
    let dying = Worker::start(|_| vec![Step::Close]).await;
    let fine = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&dying, &fine]).await;
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    let record = &router.finish_requests().await[0];
    assert_eq!((record.attempts, record.reconnects), (2, 0));
    assert!(record.failed_attempts[0].router_send_ns.is_some(), "it had been sent");
    assert_eq!(dying.requests().len(), 1);
}

#[tokio::test]
async fn death_in_mid_stream_cuts_the_client_and_is_not_retried() {
    let mut steps = generate_stream(4);
    steps.truncate(2);
    steps.push(Step::Send(b"zz not a chunk\r\n".to_vec()));
    let garbage = Worker::start(move |_| steps.clone()).await;
    let fine = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&garbage, &fine]).await;
    let response = ask(router.addr, post("/generate", r#"{"stream":true,"text":"x"}"#)).await;
    assert!(!response.whole);
    let record = &router.finish_requests().await[0];
    assert_eq!((record.outcome, record.attempts), (Outcome::WorkerReset, 1));
    assert_eq!(fine.requests().len(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_worker_before_the_head_and_in_mid_stream() {
    for stream in [false, true] {
        let (closed, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, arrived) = (Arc::clone(&closed), Arc::clone(&seen));
        let worker = Worker::start(move |_| {
            arrived.notify_one();
            let wait = Step::UntilClosed(Arc::clone(&tell));
            if stream {
                vec![
                    stream_head(),
                    chunk("data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n"),
                    wait,
                ]
            } else {
                vec![wait]
            }
        })
        .await;
        let router = TestRouter::start(&[&worker]).await;
        let mut client = Client::connect(router.addr).await;
        client.send(post("/generate", r#"{"text":"a","stream":true}"#)).await;
        tokio::time::timeout(PATIENCE, seen.notified()).await.expect("the worker gets the request");
        if stream {
            client.read_until("data: ").await;
        }
        drop(client);
        tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the worker's connection is closed");
        let record = &router.finish_requests().await[0];
        assert_eq!(record.outcome, Outcome::ClientGone);
        assert_eq!((record.status, record.sse_events), if stream { (Some(200), 1) } else { (None, 0) });
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_its_own_body_is_recorded_and_no_worker_hears_of_it() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 100\r\n\r\n{\"text\":").await;
    while router.shared.requests.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    drop(client);
    let record = &router.finish_requests().await[0];
    assert_eq!((record.outcome, worker.requests().len()), (Outcome::ClientGone, 0));
}

#[tokio::test]
async fn a_worker_that_never_answers_ends_in_a_504() {
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    let worker = Worker::start(move |_| vec![Step::UntilClosed(Arc::clone(&tell))]).await;
    let router = TestRouter::with(&[&worker], |c| {
        c.request_timeout = std::time::Duration::from_millis(50);
    })
    .await;
    let response = ask(router.addr, post("/generate", "{}")).await;
    assert_eq!((response.status, response.header("x-smg-error-code")), (504, Some("call_upstream_timeout")));
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the worker's connection is closed");
    assert_eq!(router.finish_requests().await[0].outcome, Outcome::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_as_the_time_is_over_is_told_all_the_same() {
    // By the clock the time is over at once, while the timers stand: as for a head that comes between the two.
    let net = PipeNet::default();
    let steps = [stream_head(), chunk("data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n")];
    let head_and_event =
        steps.map(|step| if let Step::Send(bytes) = step { bytes } else { Vec::new() }).concat();
    let worker = piped::worker(&net, 1, move |_| {
        vec![Step::Send(head_and_event.clone()), Step::UntilClosed(Arc::new(Notify::new()))]
    });
    let router = PipedRouter::with_clock(&net, std::slice::from_ref(&worker.url), Clock::system(), |c| {
        c.request_timeout = Duration::from_nanos(1);
    });
    let response = router.ask(post("/generate", r#"{"text":"a","stream":true}"#)).await;
    assert_eq!(
        (response.status, response.whole),
        (200, false),
        "cut short, and not silence: {}",
        response.head
    );
    assert!(response.text().starts_with("data: "), "{}", response.text());
    let record = &router.finish().await.0[0];
    assert_eq!((record.outcome, record.status), (Outcome::TimedOut, Some(200)));
    assert_eq!(record.response_body_bytes, response.body.len() as u64);
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_a_connection_record() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    assert_eq!(ask(router.addr, "garbage\r\n\r\n").await.status, 400);
    let huge = format!("GET / HTTP/1.1\r\nhost: r\r\nx: {}\r\n\r\n", "a".repeat(300_000));
    assert_eq!(ask(router.addr, huge).await.status, 431);
    let records = router.finish().await;
    assert_eq!(records.iter().filter(|r| matches!(r, Record::Connection(_))).count(), 2);
}

#[tokio::test]
async fn what_cannot_be_proxied_is_refused_in_words() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let cases = [
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n", 501),
        ("GET /x HTTP/1.1\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: r\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 501),
    ];
    for (request, status) in cases {
        assert_eq!(ask(router.addr, request).await.status, status, "{request}");
    }
    let records = router.finish_requests().await;
    assert!(records.iter().all(|r| r.outcome == Outcome::Refused));
    assert_eq!(worker.requests().len(), 0);
}

#[tokio::test]
async fn a_router_that_is_its_own_worker_says_so() {
    let router = TestRouter::with_urls(&[], |_| {}).await;
    // A spelling that is not known to be this router before it has come round.
    let own = format!("{{\"url\":\"http://[::ffff:{}]:{}\"}}", router.addr.ip(), router.addr.port());
    assert_eq!(ask(router.addr, post("/workers", &own)).await.status, 202);
    let response = ask(router.addr, post("/generate", "{}")).await;
    assert_eq!((response.status, response.header("x-smg-error-code")), (508, Some("loop_detected")));
    router.finish().await;
}
