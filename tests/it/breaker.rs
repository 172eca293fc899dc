//! The circuit breaker over whole requests: what counts, who gets what, and what log, trace and `/readiness` say.

use std::sync::Arc;
use std::time::Duration;

use milepost::fleet::breaker::State;
use milepost::fleet::worker::Worker as FleetWorker;
use milepost::net::PipeNet;
use milepost::trace::record::{Outcome, Record};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, chunk, end, generate_stream, ok, post, post_with,
    sequence, stream_head,
};
use crate::piped::{self, PipedRouter, breaker_events};

fn status(code: u16) -> Vec<Step> {
    vec![Step::Send(format!("HTTP/1.1 {code} Whatever\r\ncontent-length: 0\r\n\r\n").into())]
}

/// The only worker, as the router sees it.
fn only(shared: &milepost::proxy::Shared) -> Arc<FleetWorker> {
    Arc::clone(&shared.fleet.workers()[0])
}

#[tokio::test]
async fn bad_requests_never_take_a_worker_out() {
    let worker = Worker::start(|got| match got.header("x-request-id").unwrap() {
        "good" => ok(),
        code => status(code.parse().unwrap()),
    })
    .await;
    let router = TestRouter::with(&[&worker], |c| {
        (c.breaker.failure_threshold, c.retry.max_attempts) = (2, 1);
    })
    .await;
    for code in [400, 401, 404, 408, 413, 422, 429].repeat(20) {
        let request = post_with("/generate", &format!("x-request-id: {code}\r\n"), "{");
        assert_eq!(ask(router.addr, request).await.status, code);
    }
    let good = post_with("/generate", "x-request-id: good\r\n", "{}");
    assert_eq!(ask(router.addr, good).await.status, 200);
    let view = only(&router.shared).breaker().view();
    assert_eq!((view.state, view.failures, view.successes), (State::Closed, 0, 141));
    assert_eq!(ask(router.addr, "GET /readiness HTTP/1.1\r\nhost: r\r\n\r\n").await.status, 200);
    router.finish().await;
}

#[tokio::test]
async fn a_sick_worker_is_left_alone_and_the_other_gets_everything() {
    for answer in [status(500), vec![Step::Close]] {
        let sick = Worker::start(move |_| answer.clone()).await;
        let well = Worker::start(|_| ok()).await;
        let router = TestRouter::with(&[&sick, &well], |c| c.breaker.failure_threshold = 3).await;
        for _ in 0..20 {
            assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
        }
        assert_eq!((sick.requests().len(), well.requests().len()), (3, 20));
        let ready = ask(router.addr, "GET /readiness HTTP/1.1\r\nhost: r\r\n\r\n").await;
        let ready: serde_json::Value = serde_json::from_slice(&ready.body).unwrap();
        assert_eq!((&ready["healthy_workers"], &ready["total_workers"]), (&1.into(), &2.into()));
        let records = router.finish().await;
        let opened: Vec<_> = records
            .iter()
            .filter_map(|r| if let Record::Worker(w) = r { Some(w) } else { None })
            .filter(|w| w.event.starts_with("breaker_"))
            .collect();
        assert_eq!(opened.len(), 1);
        assert_eq!((opened[0].event.as_str(), &*opened[0].worker), ("breaker_open", sick.url.as_str()));
        assert_eq!(opened[0].detail.as_deref(), Some("failures in a row: 3"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_worker_out_means_503_at_once_and_not_ready_until_it_may_be_tried() {
    let net = PipeNet::default();
    let worker = piped::worker(&net, 1, sequence(vec![status(500), status(500), ok()]));
    let urls = [worker.url.clone()];
    let router = PipedRouter::start(&net, &urls, |c| {
        (c.breaker.failure_threshold, c.breaker.success_threshold) = (2, 1);
    });
    // The second failure takes the worker out: no pause for nobody, the answer passes as it came.
    assert_eq!(router.ask(post("/generate", "{}")).await.status, 500);
    let paused = router.elapsed();
    assert!(paused < Duration::from_millis(70), "one pause, between the two: {paused:?}");
    let response = router.ask(post("/generate", "{}")).await;
    assert_eq!((response.status, response.header("x-smg-error-code")), (503, Some("no_available_workers")));
    assert_eq!((router.readiness().await, router.elapsed()), (503, paused));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(router.readiness().await, 200, "the next request would go there");
    assert_eq!(router.ask(post("/generate", "{}")).await.status, 200);
    assert_eq!(only(&router.shared).breaker().view().state, State::Closed);
    let (records, workers) = router.finish().await;
    assert_eq!(records.iter().map(|r| r.attempts).collect::<Vec<_>>(), [2, 0, 1]);
    let events: Vec<&str> = breaker_events(&workers).iter().map(|(event, _)| *event).collect();
    assert_eq!(events, ["breaker_open", "breaker_half_open", "breaker_closed"]);
}

/// Sends `count` requests at the same time; their statuses, sorted.
async fn at_once(router: &Arc<PipedRouter>, count: usize, release: &Notify) -> Vec<u16> {
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let router = Arc::clone(router);
        asking.spawn(async move { router.ask(post("/generate", "{}")).await.status });
    }
    // Time moves only once nobody else has anything to do: whoever was let through is at the worker, the others are told.
    tokio::time::sleep(Duration::from_millis(1)).await;
    for _ in 0..count {
        release.notify_one();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut statuses = asking.join_all().await;
    statuses.sort_unstable();
    statuses
}

#[tokio::test(start_paused = true)]
async fn half_open_takes_one_request_at_a_time_until_enough_have_succeeded() {
    let net = PipeNet::default();
    let release = Arc::new(Notify::new());
    let held = Arc::clone(&release);
    let worker = piped::worker(&net, 1, move |got| {
        if got.header("x-request-id") == Some("bad") {
            return status(500);
        }
        let mut steps = vec![Step::Wait(Arc::clone(&held))];
        steps.extend(ok());
        steps
    });
    let urls = [worker.url.clone()];
    let router = Arc::new(PipedRouter::start(&net, &urls, |c| {
        (c.breaker.failure_threshold, c.breaker.success_threshold) = (1, 2);
        c.retry.max_attempts = 1;
    }));
    let bad = post_with("/generate", "x-request-id: bad\r\n", "{}");
    assert_eq!(router.ask(&bad).await.status, 500);
    tokio::time::sleep(Duration::from_secs(60)).await;
    for _ in 0..2 {
        let reached = worker.requests().len();
        assert_eq!(at_once(&router, 5, &release).await, [200, 503, 503, 503, 503]);
        assert_eq!(worker.requests().len(), reached + 1);
    }
    assert_eq!(at_once(&router, 5, &release).await, [200; 5], "closed again");
    let view = only(&router.shared).breaker().view();
    assert_eq!((view.state, view.transitions), (State::Closed, [1, 1, 0, 1]));
    let (records, _) = Arc::into_inner(router).unwrap().finish().await;
    let refused = records.iter().filter(|r| r.outcome == Outcome::Unreachable).count();
    assert_eq!((records.len(), refused), (16, 8));
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_fails_costs_the_worker_another_minute_and_one_that_is_given_up_nothing() {
    let net = PipeNet::default();
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    let worker = piped::worker(&net, 1, move |got| match got.header("x-request-id").unwrap() {
        "silent" => vec![Step::UntilClosed(Arc::clone(&tell))],
        _ => status(502),
    });
    let urls = [worker.url.clone()];
    let router = PipedRouter::start(&net, &urls, |c| {
        (c.breaker.failure_threshold, c.retry.max_attempts) = (1, 1);
    });
    assert_eq!(router.ask(post("/generate", "{}")).await.status, 502);
    tokio::time::sleep(Duration::from_secs(60)).await;

    let mut client = router.client().await;
    client.send(post_with("/generate", "x-request-id: silent\r\n", "{}")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(router.readiness().await, 503, "the one place is taken");
    drop(client);
    closed.notified().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(
        (router.readiness().await, only(&router.shared).breaker().view().state),
        (200, State::HalfOpen)
    );

    assert_eq!(router.ask(post("/generate", "{}")).await.status, 502);
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(router.ask(post("/generate", "{}")).await.status, 503);
    assert_eq!(router.readiness().await, 503);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(router.readiness().await, 200);
    let (_, workers) = router.finish().await;
    let events: Vec<&str> = breaker_events(&workers).iter().map(|(event, _)| *event).collect();
    assert_eq!(events, ["breaker_open", "breaker_half_open", "breaker_open"]);
}

#[tokio::test]
async fn a_stream_counts_when_it_has_ended_and_one_that_breaks_is_a_failure() {
    let worker = Worker::start(|got| match got.header("x-request-id").unwrap() {
        "whole" => generate_stream(3),
        _ => vec![stream_head(), chunk("data: {}\n\n"), Step::Close],
    })
    .await;
    let router = TestRouter::with(&[&worker], |c| c.breaker.failure_threshold = 2).await;
    let request = |id: &str| post_with("/generate", &format!("x-request-id: {id}\r\n"), r#"{"stream":true}"#);
    for (id, in_a_row) in [("broken", 1), ("whole", 0), ("broken", 1), ("broken", 2)] {
        assert_eq!(ask(router.addr, request(id)).await.whole, id == "whole");
        assert_eq!(only(&router.shared).breaker().view().consecutive_failures, in_a_row, "{id}");
    }
    assert_eq!(only(&router.shared).breaker().view().state, State::Open);
    assert_eq!(ask(router.addr, request("whole")).await.status, 503);
    let records = router.finish_requests().await;
    assert_eq!(records.iter().filter(|r| r.outcome == Outcome::WorkerReset).count(), 3);
}

#[tokio::test]
async fn a_client_that_leaves_says_nothing_of_the_worker() {
    let (closed, seen) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, arrived) = (Arc::clone(&closed), Arc::clone(&seen));
    let worker = Worker::start(move |got| {
        arrived.notify_one();
        let wait = Step::UntilClosed(Arc::clone(&tell));
        if got.body == b"{}" { vec![wait] } else { vec![stream_head(), chunk("data: {}\n\n"), wait] }
    })
    .await;
    let router = TestRouter::with(&[&worker], |c| c.breaker.failure_threshold = 1).await;
    for body in ["{}", r#"{"stream":true}"#] {
        let mut client = Client::connect(router.addr).await;
        client.send(post("/generate", body)).await;
        tokio::time::timeout(PATIENCE, seen.notified()).await.expect("the worker gets the request");
        if body != "{}" {
            client.read_until("data: ").await;
        }
        drop(client);
        tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the worker's connection is closed");
    }
    let worker = only(&router.shared);
    let records = router.finish_requests().await;
    assert!(records.iter().all(|r| r.outcome == Outcome::ClientGone));
    let view = worker.breaker().view();
    assert_eq!((view.state, view.failures, view.successes), (State::Closed, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_time_out_is_the_workers_failure_unless_its_client_was_in_no_hurry() {
    let net = PipeNet::default();
    let go = Arc::new(Notify::new());
    let going = Arc::clone(&go);
    let worker = piped::worker(&net, 1, move |got| {
        let closed = Step::UntilClosed(Arc::default());
        match got.header("x-request-id").unwrap() {
            "stalls" => vec![stream_head(), chunk("data: {}\n\n"), closed],
            _ => vec![stream_head(), Step::Wait(Arc::clone(&going)), chunk(&"x".repeat(4 << 20)), closed],
        }
    });
    let urls = [worker.url.clone()];
    let router = PipedRouter::start(&net, &urls, |c| c.request_timeout = Duration::from_secs(10));
    let request = |id: &str| post_with("/generate", &format!("x-request-id: {id}\r\n"), r#"{"stream":true}"#);
    let failures = || only(&router.shared).breaker().view().failures;

    assert!(!router.ask(request("stalls")).await.whole);
    assert_eq!((router.elapsed().as_secs(), failures()), (10, 1));

    let mut client = router.client().await;
    client.send(request("slow client")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    go.notify_one();
    // Longer than the request may take, and not so long that the write to the client times out.
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert!(!client.response().await.whole);
    assert_eq!(failures(), 1);
    let (records, _) = router.finish().await;
    assert!(records.iter().all(|r| r.outcome == Outcome::TimedOut), "{records:?}");
}

#[tokio::test]
async fn switched_off_a_worker_gets_everything_however_it_answers() {
    let worker = Worker::start(|_| status(500)).await;
    let router = TestRouter::with(&[&worker], |c| {
        (c.breaker.enabled, c.breaker.failure_threshold, c.retry.max_attempts) = (false, 1, 1);
    })
    .await;
    for _ in 0..30 {
        assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 500);
    }
    assert_eq!(worker.requests().len(), 30);
    assert!(router.finish_requests().await.iter().all(|r| r.attempts == 1));
}

#[tokio::test]
async fn probes_that_are_long_streams_close_the_breaker_when_their_answers_begin() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let event = "data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n";
    let worker = Worker::start(move |got| {
        if got.body == b"{}" {
            return status(500);
        }
        vec![stream_head(), chunk(event), Step::Wait(Arc::clone(&wait)), chunk("data: [DONE]\n\n"), end()]
    })
    .await;
    let router = TestRouter::with(&[&worker], |c| {
        (c.breaker.failure_threshold, c.breaker.success_threshold) = (1, 2);
        (c.breaker.open_for, c.retry.max_attempts) = (Duration::ZERO, 1);
    })
    .await;
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 500);
    let mut streams = Vec::new();
    for state in [State::HalfOpen, State::Closed, State::Closed] {
        let mut client = Client::connect(router.addr).await;
        client.send(post("/generate", r#"{"stream":true}"#)).await;
        client.read_until("data: ").await;
        assert_eq!(only(&router.shared).breaker().view().state, state, "after {} streams", streams.len());
        streams.push(client);
    }
    for mut client in streams {
        go.notify_one();
        assert!(client.response().await.whole);
    }
    assert_eq!(only(&router.shared).breaker().view().successes, 3, "each counts once");
    router.finish().await;
}
