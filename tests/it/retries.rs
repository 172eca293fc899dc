//! Retries: which answers are given up for another attempt, at whom, after what pause, and what the record says.

use std::sync::Arc;
use std::time::Duration;

use milepost::net::PipeNet;
use milepost::trace::record::Outcome;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::{
    Got, PATIENCE, Step, TestRouter, Worker, ask, chunk, dead_url, ok, post, post_with, sequence, stream_head,
};
use crate::piped::{self, PipedRouter};

/// An answer with this status, a header and a body of its own.
fn status(code: u16, body: &str) -> Vec<Step> {
    let head = format!("HTTP/1.1 {code} Whatever\r\ncontent-type: application/json\r\nx-engine: e\r\n");
    vec![Step::Send(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into())]
}

fn millis(ns: Option<u64>) -> Option<f64> {
    ns.map(|ns| ns as f64 / 1e6)
}

#[tokio::test]
async fn an_answer_that_another_worker_may_better_is_given_up_at_once() {
    for code in [408, 429, 500, 502, 503, 504] {
        let bad = Worker::start(move |_| status(code, "{}")).await;
        let fine = Worker::start(|_| ok()).await;
        let router = TestRouter::start(&[&bad, &fine]).await;
        assert_eq!(ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await.status, 200, "{code}");
        assert_eq!((bad.requests().len(), fine.requests().len()), (1, 1), "{code}");
        assert_eq!(fine.requests()[0].body, bad.requests()[0].body);
        let r = &router.finish_requests().await[0];
        assert_eq!((r.outcome, r.status, r.attempts), (Outcome::Done, Some(200), 2));
        assert_eq!(r.worker.as_deref(), Some(fine.url.as_str()));
        let [failed] = r.failed_attempts.as_slice() else { panic!("{:?}", r.failed_attempts) };
        assert_eq!((&*failed.worker, failed.status), (bad.url.as_str(), Some(code)));
        assert_eq!((failed.error.as_str(), failed.backoff_ns), (format!("status {code}").as_str(), None));
        let sent_ns = failed.router_send_ns.unwrap();
        assert!(sent_ns <= failed.failed_ns && failed.failed_ns <= r.router_send_ns.unwrap());
        assert!(r.router_send_ns <= r.first_byte_ns, "the stamps are those of the answer that was passed on");
    }
}

#[tokio::test]
async fn an_answer_that_is_given_up_is_not_read_to_its_end() {
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    let bad = Worker::start(move |_| {
        let head = "HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\nthe first bytes";
        vec![Step::Send(head.as_bytes().to_vec()), Step::UntilClosed(Arc::clone(&tell))]
    })
    .await;
    let fine = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&bad, &fine]).await;
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("its connection is closed");
    assert!(router.shared.fleet.workers().iter().all(|w| w.in_flight() == 0));
    router.finish().await;
}

#[tokio::test]
async fn an_error_that_is_the_requests_own_passes_at_the_first_attempt() {
    let bad = Worker::start(|got| {
        let code = got.header("x-request-id").unwrap().parse().unwrap();
        status(code, "{\"detail\":\"why\"}")
    })
    .await;
    let router = TestRouter::start(&[&bad]).await;
    let codes = [400, 401, 403, 404, 409, 413, 415, 422, 501, 505, 507];
    for code in codes {
        let request = post_with("/generate", &format!("x-request-id: {code}\r\n"), "{}");
        let response = ask(router.addr, request).await;
        assert_eq!((response.status, response.header("x-engine")), (code, Some("e")));
        assert_eq!(
            (response.text().as_str(), response.header("x-smg-error-code")),
            ("{\"detail\":\"why\"}", None)
        );
    }
    assert_eq!(bad.requests().len(), codes.len());
    for r in router.finish_requests().await {
        assert_eq!((r.outcome, r.attempts, r.failed_attempts.len()), (Outcome::WorkerError, 1, 0));
    }
}

#[tokio::test]
async fn the_last_answer_is_passed_on_as_it_came() {
    let first = Worker::start(|_| status(500, "the first")).await;
    let last = Worker::start(|_| status(503, "the last")).await;
    let router = TestRouter::with(&[&first, &last], |c| c.retry.max_attempts = 2).await;
    let response = ask(router.addr, post("/v1/chat/completions", "{}")).await;
    assert_eq!((response.status, response.text().as_str()), (503, "the last"));
    assert_eq!((response.header("x-engine"), response.header("x-smg-error-code")), (Some("e"), None));
    assert_eq!(response.header("x-worker-url"), Some(last.url.as_str()));
    let r = &router.finish_requests().await[0];
    assert_eq!((r.outcome, r.status, r.attempts), (Outcome::WorkerError, Some(503), 2));
    assert_eq!((r.failed_attempts.len(), r.failed_attempts[0].status), (1, Some(500)));
}

#[tokio::test(start_paused = true)]
async fn a_lone_worker_is_asked_again_after_growing_pauses_that_replay() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let net = PipeNet::default();
        let busy = status(429, "busy");
        let answers = vec![busy.clone(), busy.clone(), busy.clone(), busy, ok()];
        let worker = piped::worker(&net, 1, sequence(answers));
        let router = PipedRouter::start(&net, &[worker.url], |c| c.policy_config.seed = seed);
        assert_eq!(router.ask(post("/generate", "{}")).await.status, 200);
        let (records, _) = router.finish().await;
        let r = &records[0];
        assert_eq!((r.attempts, r.failed_attempts.len()), (5, 4));
        let pauses: Vec<u64> = r.failed_attempts.iter().map(|a| a.backoff_ns.unwrap()).collect();
        for (pause, middle_ms) in pauses.iter().zip([50.0, 75.0, 112.5, 168.75]) {
            let share = millis(Some(*pause)).unwrap() / middle_ms;
            assert!((0.8..=1.2).contains(&share), "{pauses:?}");
        }
        // Timers run on a grid of a millisecond, and never fire early.
        let waited_ns = r.router_send_ns.unwrap();
        let told_ns: u64 = pauses.iter().sum();
        assert!((told_ns..=told_ns + 8_000_000).contains(&waited_ns), "{waited_ns} {told_ns}");
        runs.push(pauses);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[tokio::test(start_paused = true)]
async fn only_when_all_have_been_tried_is_there_a_pause_and_all_are_free_again() {
    let net = PipeNet::default();
    let workers: Vec<Worker> = [1, 2].map(|p| piped::worker(&net, p, |_| status(503, "busy"))).into();
    let urls = [workers[0].url.clone(), workers[1].url.clone(), piped::url(3)];
    let router = PipedRouter::start(&net, &urls, |c| c.retry.max_attempts = 7);
    let response = router.ask(post("/generate", "{}")).await;
    assert!([502, 503].contains(&response.status));
    let (records, _) = router.finish().await;
    let failed = &records[0].failed_attempts;
    assert_eq!(records[0].attempts, 7);
    for round in [&failed[..3], &failed[3..6]] {
        let mut tried: Vec<&str> = round.iter().map(|a| &*a.worker).collect();
        tried.sort_unstable();
        assert_eq!(tried, urls, "each once before any a second time");
        let paused: Vec<bool> = round.iter().map(|a| a.backoff_ns.is_some()).collect();
        assert_eq!(paused, [false, false, true]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_at_whose_end_the_request_would_be_over_is_not_made() {
    let net = PipeNet::default();
    let worker = piped::worker(&net, 1, |_| status(503, "as it came"));
    let router = PipedRouter::start(&net, &[worker.url, piped::url(2)], |c| {
        c.request_timeout = Duration::from_secs(10);
        c.retry.initial_backoff = Duration::from_secs(20);
    });
    let response = router.ask(post("/generate", "{}")).await;
    assert!(response.text() == "as it came" || response.status == 502);
    assert_eq!(router.elapsed(), Duration::ZERO);
    let (records, _) = router.finish().await;
    assert_eq!(records[0].attempts, 2);
    assert!(records[0].failed_attempts.iter().all(|a| a.backoff_ns.is_none()));
}

#[tokio::test(start_paused = true)]
async fn the_routers_own_503_is_never_waited_for() {
    let router = PipedRouter::start(&PipeNet::default(), &[], |_| {});
    let response = router.ask(post("/generate", "{}")).await;
    assert_eq!((response.status, response.header("x-smg-error-code")), (503, Some("no_available_workers")));
    assert_eq!(router.elapsed(), Duration::ZERO);
    let (records, _) = router.finish().await;
    assert_eq!((records[0].outcome, records[0].attempts), (Outcome::Unreachable, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_a_pause_ends_it() {
    let net = PipeNet::default();
    let worker = piped::worker(&net, 1, |_| status(503, "busy"));
    let router = PipedRouter::start(&net, std::slice::from_ref(&worker.url), |c| {
        c.retry.initial_backoff = Duration::from_secs(30);
    });
    let mut client = router.client().await;
    client.send(post("/generate", "{}")).await;
    // Time moves only once nobody else has anything to do: the pause has begun.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(client);
    let (records, _) = router.finish().await;
    let r = &records[0];
    assert_eq!((r.outcome, r.status, r.attempts), (Outcome::ClientGone, None, 1));
    assert!(r.failed_attempts[0].backoff_ns.unwrap() >= 24_000_000_000);
    assert!(millis(Some(r.end_ns)).unwrap() < 1_100.0, "{}", r.end_ns);
    assert_eq!(worker.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_abort_in_a_pause_ends_the_request_that_waits() {
    let net = PipeNet::default();
    let worker = piped::worker(&net, 1, |_| status(503, "busy"));
    let router = PipedRouter::start(&net, std::slice::from_ref(&worker.url), |c| {
        c.retry.initial_backoff = Duration::from_secs(30);
    });
    let mut client = router.client().await;
    client.send(post("/generate", r#"{"text":"a","rid":"mine"}"#)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let told = router.ask(post("/abort_request", r#"{"rid":"mine"}"#)).await;
    assert_eq!((told.status, &told.json()["success"]), (200, &true.into()), "{}", told.text());
    let response = client.response().await;
    assert_eq!((response.status, response.header("x-smg-error-code")), (499, Some("request_aborted")));
    assert_eq!(router.elapsed(), Duration::from_secs(1), "at once");
    let (records, _) = router.finish().await;
    let r = &records[0];
    assert_eq!((r.outcome, r.status, r.attempts), (Outcome::Refused, Some(499), 1));
    assert!(r.error.as_deref().unwrap().starts_with("request_aborted: "));
    assert_eq!(worker.requests().len(), 1, "the worker heard of neither");
}

#[tokio::test(start_paused = true)]
async fn a_time_out_is_not_retried_and_is_the_workers_failure() {
    let net = PipeNet::default();
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    let silent = piped::worker(&net, 1, move |_| vec![Step::UntilClosed(Arc::clone(&tell))]);
    let fine = piped::worker(&net, 2, |_| ok());
    let router = PipedRouter::start(&net, &[silent.url.clone(), fine.url.clone()], |c| {
        c.request_timeout = Duration::from_secs(5);
    });
    assert_eq!(router.ask(post("/generate", "{}")).await.status, 504);
    closed.notified().await;
    assert_eq!(fine.requests().len(), 0);
    assert_eq!(router.shared.fleet.workers()[0].breaker().view().consecutive_failures, 1);
    let (records, _) = router.finish().await;
    let r = &records[0];
    assert_eq!((r.outcome, r.attempts, r.failed_attempts.len()), (Outcome::TimedOut, 1, 1));
    assert_eq!((r.failed_attempts[0].status, r.failed_attempts[0].backoff_ns), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_dead_worker_beside_a_live_one_costs_no_client_an_error_or_a_pause_whatever_the_policy() {
    for policy in milepost_policies::POLICIES {
        let net = PipeNet::default();
        let live = piped::worker(&net, 2, |_| ok());
        let router = PipedRouter::start(&net, &[piped::url(1), live.url.clone()], |c| {
            c.policy = policy.name.to_owned();
        });
        for n in 0..24 {
            let body = format!("{{\"text\":\"the same beginning of a prompt, and then {n}\"}}");
            assert_eq!(router.ask(post("/generate", &body)).await.status, 200, "{}", policy.name);
        }
        assert_eq!((router.elapsed(), live.requests().len()), (Duration::ZERO, 24), "{}", policy.name);
        let (records, _) = router.finish().await;
        assert!(records.iter().all(|r| r.attempts <= 2 && r.outcome == Outcome::Done), "{}", policy.name);
        let paused = records.iter().flat_map(|r| &r.failed_attempts).any(|a| a.backoff_ns.is_some());
        assert!(!paused, "{}", policy.name);
    }
}

#[tokio::test]
async fn what_does_no_harm_twice_is_repeated() {
    let paths = [
        "/generate",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/encode",
        "/v1/rerank",
        "/rerank",
        "/v1/classify",
        "/classify",
    ];
    let mut requests: Vec<String> = paths.iter().map(|path| post(path, "{}")).collect();
    requests.push("GET /any/thing HTTP/1.1\r\nhost: r\r\n\r\n".to_owned());
    for request in requests {
        for failing in [status(503, "busy"), vec![Step::Close]] {
            let worker = Worker::start(move |_| failing.clone()).await;
            let fine = Worker::start(|_| ok()).await;
            let router = TestRouter::start(&[&worker, &fine]).await;
            assert_eq!(ask(router.addr, &request).await.status, 200, "{request}");
            assert_eq!((worker.requests().len(), fine.requests().len()), (1, 1), "{request}");
            router.finish().await;
        }
    }
}

#[tokio::test]
async fn what_may_do_harm_twice_is_not_written_twice() {
    for request in [post("/set_weights", "{}"), post("/generate", "{}").replacen("POST", "DELETE", 1)] {
        let busy = Worker::start(|_| status(503, "busy")).await;
        let dying = Worker::start(|_| vec![Step::Close]).await;
        let fine = Worker::start(|_| ok()).await;

        let router = TestRouter::start(&[&busy, &fine]).await;
        assert_eq!(ask(router.addr, &request).await.text(), "busy");
        router.finish().await;

        let router = TestRouter::start(&[&dying, &fine]).await;
        let response = ask(router.addr, &request).await;
        assert_eq!(response.status, 502);
        assert!(response.text().contains("is not sent twice"), "{}", response.text());
        let r = &router.finish_requests().await[0];
        assert_eq!((r.outcome, r.attempts, r.failed_attempts.len()), (Outcome::Unreachable, 1, 1));
        assert_eq!(fine.requests().len(), 0);

        let router = TestRouter::with_urls(&[dead_url(), fine.url.clone()], |_| {}).await;
        assert_eq!(ask(router.addr, &request).await.status, 200, "nobody had it before");
        assert_eq!(router.finish_requests().await[0].attempts, 2);
    }
}

#[tokio::test]
async fn on_a_reused_connection_that_dies_it_is_not_written_twice_either() {
    // The worker closes after having read the second request: it may have obeyed it or not.
    let script =
        |got: &Got| if got.header("x-request-id") == Some("second") { vec![Step::Close] } else { ok() };
    let worker = Worker::start(script).await;
    let router = TestRouter::start(&[&worker]).await;
    let request = |id: &str| post_with("/set_weights", &format!("x-request-id: {id}\r\n"), "{}");
    assert_eq!(ask(router.addr, request("first")).await.status, 200);
    assert_eq!(ask(router.addr, request("second")).await.status, 502);
    assert_eq!(worker.requests().len(), 2);
    let view = router.shared.fleet.workers()[0].breaker().view();
    assert_eq!(view.failures, 0, "a connection that closes when idle is nobody's failure");
    assert_eq!(router.finish_requests().await[1].reconnects, 0);
}

#[tokio::test]
async fn nothing_is_tried_again_once_the_client_has_a_byte() {
    let breaking = Worker::start(|_| vec![stream_head(), chunk("data: {}\n\n"), Step::Close]).await;
    let fine = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&breaking, &fine]).await;
    let response = ask(router.addr, post("/generate", r#"{"stream":true}"#)).await;
    assert_eq!((response.status, response.whole), (200, false));
    assert_eq!(fine.requests().len(), 0);
    assert_eq!(router.finish_requests().await[0].outcome, Outcome::WorkerReset);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_names_its_worker_is_repeated_there_and_nowhere_else() {
    let net = PipeNet::default();
    let busy = || status(503, "busy");
    let named = piped::worker(&net, 1, sequence(vec![busy(), ok(), busy()]));
    let other = piped::worker(&net, 2, |_| ok());
    let router = PipedRouter::start(&net, &[named.url.clone(), other.url.clone()], |c| {
        c.policy = "consistent_hashing".to_owned();
        c.retry.max_attempts = 2;
    });
    let request = post_with("/generate", "x-smg-target-worker: 0\r\n", "{}");
    assert_eq!(router.ask(&request).await.status, 200);
    let response = router.ask(&request).await;
    assert_eq!((response.status, response.text().as_str()), (503, "busy"));
    assert_eq!((named.requests().len(), other.requests().len()), (4, 0));
    let (records, _) = router.finish().await;
    assert!(records.iter().all(|r| r.attempts == 2 && r.failed_attempts[0].backoff_ns.is_some()));
}

#[tokio::test(start_paused = true)]
async fn the_answer_of_a_named_worker_is_not_given_up_for_a_worker_that_may_not_be_asked() {
    let net = PipeNet::default();
    let named = piped::worker(&net, 1, |_| status(503, "as it came"));
    let other = piped::worker(&net, 2, |_| ok());
    let router = PipedRouter::start(&net, &[named.url.clone(), other.url.clone()], |c| {
        c.policy = "consistent_hashing".to_owned();
        c.breaker.failure_threshold = 1;
    });
    let response = router.ask(post_with("/generate", "x-smg-target-worker: 0\r\n", "{}")).await;
    assert_eq!((response.status, response.text().as_str()), (503, "as it came"));
    assert_eq!((router.elapsed(), other.requests().len()), (Duration::ZERO, 0), "no pause for nobody");
    let (records, _) = router.finish().await;
    assert_eq!((records[0].outcome, records[0].attempts), (Outcome::WorkerError, 1));
}

#[tokio::test]
async fn only_a_request_that_failed_at_its_last_attempt_has_exhausted_its_retries() {
    for (answers, exhausted) in [([500, 400], None), ([500, 500], Some("1")), ([500, 200], None)] {
        let answers = answers.map(|code: u16| {
            vec![Step::Send(format!("HTTP/1.1 {code} X\r\ncontent-length: 0\r\n\r\n").into())]
        });
        let worker = Worker::start(sequence(answers.to_vec())).await;
        let metrics = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scraped = metrics.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let router = TestRouter::on(listener, Some(metrics), std::slice::from_ref(&worker.url), |c| {
            (c.retry.max_attempts, c.retry.initial_backoff) = (2, Duration::from_millis(1));
        });
        ask(router.addr, post("/generate", "{}")).await;
        let page = ask(scraped, "GET /metrics HTTP/1.1\r\nhost: r\r\n\r\n").await.text();
        let mut lines = page.lines().filter(|l| l.starts_with("smg_worker_retries_exhausted_total{"));
        assert_eq!(lines.next().and_then(|l| l.rsplit(' ').next()), exhausted, "{page}");
        assert_eq!(router.finish_requests().await[0].attempts, 2);
    }
}

#[tokio::test]
async fn a_request_whose_workers_leave_in_its_pause_has_exhausted_its_retries() {
    let worker = Worker::start(|_| status(500, "{}")).await;
    let metrics = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let scraped = metrics.local_addr().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let router = TestRouter::on(listener, Some(metrics), std::slice::from_ref(&worker.url), |c| {
        c.retry.initial_backoff = Duration::from_millis(300);
    });
    let addr = router.addr;
    let asked = tokio::spawn(async move { ask(addr, post("/generate", "{}")).await });
    let known = Arc::clone(&router.shared.fleet.workers()[0]);
    while worker.requests().is_empty() || known.in_flight() > 0 {
        tokio::task::yield_now().await;
    }
    router.shared.fleet.remove(&known);
    assert_eq!(asked.await.unwrap().status, 503);
    let page = ask(scraped, "GET /metrics HTTP/1.1\r\nhost: r\r\n\r\n").await.text();
    let mut lines = page.lines().filter(|l| l.starts_with("smg_worker_retries_exhausted_total{"));
    assert_eq!(lines.next().and_then(|l| l.rsplit(' ').next()), Some("1"), "{page}");
    assert_eq!(router.finish_requests().await[0].outcome, Outcome::Unreachable);
}
