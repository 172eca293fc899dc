//! `--max-concurrent-requests` and its queue, as clients and workers see them. Rates and order: `proxy::limit`'s own tests.

use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::RouteConfig;
use milepost::net::{Connector, PipeNet};
use milepost::proxy::limit::LimitCounts;
use milepost::proxy::serve::Router;
use milepost::trace::record::Outcome;
use tokio::sync::{Notify, watch};

use crate::drain::ask_pipe;
use crate::harness::{Client, PATIENCE, Step, TestRouter, Worker, ask, chunk, end, ok, post, stream_head};

fn one_at_a_time(queue_size: usize) -> impl FnOnce(&mut RouteConfig) {
    move |config| {
        config.limits.max_concurrent = Some(1);
        config.limits.queue_size = queue_size;
    }
}

/// A worker whose answers begin at once and end when they are told to.
async fn slow_worker() -> (Worker, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let event = "data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n";
    let script = move |_: &_| {
        vec![stream_head(), chunk(event), Step::Wait(Arc::clone(&wait)), chunk("data: [DONE]\n\n"), end()]
    };
    (Worker::start(script).await, go)
}

/// A client whose stream has begun.
async fn streaming(router: &TestRouter) -> Client {
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"text":"a","stream":true}"#)).await;
    client.read_until("data: ").await;
    client
}

fn counts(router: &TestRouter) -> LimitCounts {
    router.shared.limit.as_ref().unwrap().counts()
}

async fn until(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes to hold");
}

async fn until_queued(router: &TestRouter, number: usize) {
    until(|| counts(router).queued == number).await;
}

#[tokio::test]
async fn a_place_is_held_to_the_end_of_the_answer_and_the_next_one_waits_for_it() {
    let (worker, go) = slow_worker().await;
    let router = TestRouter::with(&[&worker], one_at_a_time(8)).await;
    let mut first = streaming(&router).await;
    let mut second = Client::connect(router.addr).await;
    second.send(post("/generate", r#"{"text":"b","stream":true}"#)).await;
    until_queued(&router, 1).await;
    assert_eq!((worker.requests().len(), counts(&router).running), (1, 1));
    go.notify_one();
    assert!(first.response().await.whole);
    second.read_until("data: ").await;
    go.notify_one();
    assert!(second.response().await.whole);
    assert_eq!(worker.requests().len(), 2);
    let records = router.finish_requests().await;
    let waits: Vec<u64> = records.iter().map(|r| r.limit_wait_ns.unwrap()).collect();
    let (read, decided) = (records[1].body_read_ns.unwrap(), records[1].decided_ns.unwrap());
    assert!(waits[0] < waits[1] && read + waits[1] <= decided, "{waits:?}, {read} to {decided}");
    assert!(records.iter().all(|r| r.outcome == Outcome::Done));
}

#[tokio::test]
async fn as_many_as_the_limit_are_at_the_workers_and_one_comes_when_one_ends() {
    let (worker, go) = slow_worker().await;
    let router = TestRouter::with(&[&worker], |c| {
        c.limits.max_concurrent = Some(3);
        c.limits.queue_size = 8;
    })
    .await;
    let asking: Vec<_> =
        (0..8).map(|_| tokio::spawn(ask(router.addr, post("/generate", r#"{"text":"a"}"#)))).collect();
    for ended in 0..=5 {
        until(|| worker.requests().len() == 3 + ended && counts(&router).queued == 5 - ended).await;
        assert_eq!(counts(&router).running, 3);
        go.notify_one();
    }
    until(|| counts(&router).running == 2).await;
    go.notify_one();
    until(|| counts(&router).running == 1).await;
    go.notify_one();
    for asked in asking {
        assert_eq!(asked.await.unwrap().status, 200);
    }
    assert_eq!(counts(&router).allowed, 8);
    assert_eq!(router.finish_requests().await.len(), 8);
}

#[tokio::test]
async fn a_full_queue_is_a_429_before_the_body_and_probes_are_not_counted() {
    let (worker, go) = slow_worker().await;
    let router = TestRouter::with(&[&worker], one_at_a_time(0)).await;
    let mut running = streaming(&router).await;
    let refused = ask(router.addr, post("/generate", "{}")).await;
    assert_eq!((refused.status, refused.header("x-smg-error-code")), (429, Some("rate_limited")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.text().starts_with(r#"{"error":{"type":"Too Many Requests","code":"rate_limited""#));
    let unsent = "POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 100000\r\n\r\n";
    assert_eq!(ask(router.addr, unsent).await.status, 429, "it is not read");
    for path in ["/health", "/readiness", "/workers"] {
        assert_eq!(ask(router.addr, format!("GET {path} HTTP/1.1\r\nhost: r\r\n\r\n")).await.status, 200);
    }
    go.notify_one();
    assert!(running.response().await.whole);
    assert_eq!(counts(&router).rejected, 2);
    let records = router.finish_requests().await;
    let refused: Vec<_> = records.iter().filter(|r| r.status == Some(429)).collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|r| r.outcome == Outcome::Refused && r.attempts == 0));
}

#[tokio::test]
async fn who_waits_too_long_gets_a_408() {
    let (worker, go) = slow_worker().await;
    let router = TestRouter::with(&[&worker], |c| {
        one_at_a_time(8)(c);
        c.limits.queue_timeout = Duration::from_millis(20);
    })
    .await;
    let mut running = streaming(&router).await;
    let refused = ask(router.addr, post("/generate", "{}")).await;
    assert_eq!((refused.status, refused.header("x-smg-error-code")), (408, Some("queue_timeout")));
    assert_eq!(refused.header("retry-after"), Some("1"));
    go.notify_one();
    assert!(running.response().await.whole);
    let record = &router.finish_requests().await[1];
    assert_eq!((record.outcome, record.status), (Outcome::Refused, Some(408)));
    assert!(record.limit_wait_ns.unwrap() >= 20_000_000);
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_makes_room_in_it() {
    let (worker, go) = slow_worker().await;
    let router = TestRouter::with(&[&worker], one_at_a_time(1)).await;
    let mut running = streaming(&router).await;
    let mut leaving = Client::connect(router.addr).await;
    leaving.send(post("/generate", r#"{"text":"leaves"}"#)).await;
    until_queued(&router, 1).await;
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 429);
    drop(leaving);
    until_queued(&router, 0).await;
    let mut next = Client::connect(router.addr).await;
    next.send(post("/generate", r#"{"text":"comes","stream":true}"#)).await;
    until_queued(&router, 1).await;
    go.notify_one();
    assert!(running.response().await.whole);
    go.notify_one();
    assert!(next.response().await.whole);
    assert!(worker.requests().iter().all(|got| !got.body.windows(6).any(|w| w == b"leaves")));
    let outcomes: Vec<Outcome> = router.finish_requests().await.iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::ClientGone, Outcome::Refused, Outcome::Done]);
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_gives_its_place_back() {
    let (worker, go) = slow_worker().await;
    let router = TestRouter::with(&[&worker], one_at_a_time(1)).await;
    drop(streaming(&router).await);
    let mut next = streaming(&router).await;
    go.notify_waiters();
    go.notify_one();
    assert!(next.response().await.whole);
    let outcomes: Vec<Outcome> = router.finish_requests().await.iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::ClientGone, Outcome::Done]);
}

#[tokio::test(start_paused = true)]
async fn a_rate_alone_limits_how_many_begin_in_a_second() {
    let net = PipeNet::default();
    let listener = net.listen(1);
    let mut config = RouteConfig { policy: "round_robin".to_owned(), ..RouteConfig::default() };
    (config.limits.rate_per_second, config.limits.queue_size) = (Some(2), 0);
    let connector = Connector::Pipes(net.clone());
    let router = Router::start(config, "pipe", Clock::virtual_time(1_000, 0), connector).unwrap();
    let shared = Arc::clone(router.shared());
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(router.serve(listener, None, stopped));
    let mut pipe = net.connect(1).await.unwrap();
    // There is no worker, so a request that is let in ends in a 503.
    for (wait_ms, statuses) in [(0, &[503, 503, 429][..]), (499, &[429]), (1, &[503, 429])] {
        tokio::time::advance(Duration::from_millis(wait_ms)).await;
        for status in statuses {
            let answer = ask_pipe(&mut pipe, "/v1/models-of-a-worker").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "after {wait_ms} ms: {answer}");
        }
    }
    stop.send_replace(true);
    serving.await.unwrap();
    let counts = shared.limit.as_ref().unwrap().counts();
    assert_eq!((counts.allowed, counts.rejected, counts.running), (3, 3, 0));
}

#[tokio::test]
async fn without_limits_nothing_is_said_of_a_wait() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    assert!(router.shared.limit.is_none());
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    assert_eq!(router.finish_requests().await[0].limit_wait_ns, None);
}
