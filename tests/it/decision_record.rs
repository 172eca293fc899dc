//! The record of a decision: what the policy saw, what it said of each candidate, and nothing that it did not ask for.

use std::sync::Arc;

use milepost::config::RouteConfig;
use milepost::export::otlp::send::Collector;
use milepost::fleet::policies::Wanted;
use milepost::trace::record::{DecisionRecord, RequestRecord};
use milepost_policies::RequestView;
use tokio::sync::Notify;

use crate::harness::{Client, Step, TestRouter, Worker, ask, dead_url, ok, post};

async fn workers(count: usize) -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(Worker::start(|_| ok()).await);
    }
    workers
}

async fn router(workers: &[Worker], policy: &str) -> TestRouter {
    let workers: Vec<&Worker> = workers.iter().collect();
    TestRouter::with(&workers, |config| policy.clone_into(&mut config.policy)).await
}

fn decision(record: &RequestRecord) -> &DecisionRecord {
    record.decision.as_ref().unwrap()
}

#[tokio::test]
async fn scores_margin_and_ties_say_how_close_it_was() {
    let held = Arc::new(Notify::new());
    let release = Arc::clone(&held);
    let slow = move |got: &crate::harness::Got| {
        let mut steps = ok();
        if String::from_utf8_lossy(&got.body).contains("slow") {
            steps.insert(0, Step::Wait(Arc::clone(&held)));
        }
        steps
    };
    let (one, other) = (Worker::start(slow.clone()).await, Worker::start(slow).await);
    let router = TestRouter::with(&[&one, &other], |c| "shortest_queue".clone_into(&mut c.policy)).await;
    let mut waiting = Client::connect(router.addr).await;
    waiting.send(post("/generate", r#"{"text":"slow"}"#)).await;
    while one.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        assert_eq!(ask(router.addr, post("/generate", r#"{"text":"x"}"#)).await.status, 200);
    }
    release.notify_one();
    assert_eq!(waiting.response().await.status, 200);
    let records = router.finish_requests().await;
    let (tied, clear) = (decision(&records[0]), decision(&records[1]));
    assert_eq!((tied.margin, tied.ties, tied.eligible), (Some(0.0), Some(2), 2));
    assert_eq!((clear.margin, clear.ties), (Some(1.0), Some(1)), "one request in flight against none");
    let seen: Vec<_> =
        clear.candidates.iter().map(|c| (&*c.worker, c.in_flight, c.score, c.chosen)).collect();
    assert_eq!(seen, [(&*one.url, 1, Some(-1.0), false), (&*other.url, 0, Some(0.0), true)]);
    assert_eq!((&clear.fallback, clear.parts.len()), (&None, 0));
}

#[tokio::test]
async fn a_policy_without_scores_has_no_margin_and_what_it_does_not_see_is_not_there() {
    let workers = workers(3).await;
    let router = router(&workers, "round_robin").await;
    ask(router.addr, post("/generate", r#"{"text":"some prompt"}"#)).await;
    let records = router.finish_requests().await;
    let turn = decision(&records[0]);
    assert_eq!((&*turn.reason, turn.margin, turn.ties, turn.candidates.len()), ("turn", None, None, 3));
    assert!(turn.candidates.iter().all(|c| c.score.is_none() && c.prefix_match_bytes.is_none()));
    assert!(turn.estimates.is_empty() && turn.server_loads.is_empty() && turn.part_names.is_empty());
}

#[tokio::test]
async fn above_sixteen_the_chosen_the_runner_up_and_a_sample_are_kept_with_the_total() {
    let workers = workers(20).await;
    let router = router(&workers, "cache_aware").await;
    let prompt = format!(r#"{{"text":"{}"}}"#, "a shared beginning ".repeat(20));
    let shorter = format!(r#"{{"text":"{}"}}"#, "a shared beginning ".repeat(10));
    // The second request is longer than what the first left, and goes where that is.
    for body in [&shorter, &prompt] {
        ask(router.addr, post("/generate", body)).await;
    }
    let records = router.finish_requests().await;
    let hit = decision(&records[1]);
    assert_eq!((&*hit.reason, hit.eligible), ("prefix_hit", 20));
    assert!(hit.candidates.len() <= 16, "{}", hit.candidates.len());
    let chosen = hit.candidates.iter().find(|c| c.chosen).unwrap();
    assert_eq!(Some(&chosen.worker), records[0].worker.as_ref());
    assert!(chosen.prefix_match_bytes > Some(0) && hit.margin > Some(0.0) && hit.ties == Some(1));
}

#[tokio::test]
async fn while_the_capture_is_stopped_no_candidate_is_written_down() {
    let workers = workers(2).await;
    for spans in [None, Some(Collector::parse(&dead_url()).unwrap())] {
        let change = |config: &mut RouteConfig| config.otlp_traces.clone_from(&spans);
        let router = TestRouter::with(&[&workers[0], &workers[1]], change).await;
        let decided = || {
            let chosen = router.shared.fleet.choose(Wanted::default(), &RequestView::default(), &[]);
            chosen.expect("both are free").decision
        };
        let steer = async |verb: &str| {
            let steered = ask(router.addr, post(&format!("/milepost/trace/{verb}"), "")).await;
            assert_eq!(steered.status, 200, "{verb}");
        };
        assert_eq!(decided().map(|decision| decision.candidates.len()), Some(2));
        steer("stop").await;
        // A span tells why and no more.
        let told = decided().map(|decision| (decision.reason.is_empty(), decision.candidates.len()));
        assert_eq!(told, spans.as_ref().map(|_| (false, 0)));
        steer("start").await;
        assert_eq!(decided().map(|decision| decision.candidates.len()), Some(2));
        let trace = router.shared.config.trace_log.clone().unwrap();
        router.end().await;
        std::fs::remove_file(&trace).unwrap();
    }
}
