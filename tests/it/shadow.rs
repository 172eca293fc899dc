//! `--shadow-policy`: what others would have chosen from the same view is in the record, and no request waits for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use milepost::fleet::shadow::Shadows;
use milepost::trace::record::{Record, RequestRecord, ShadowRecord};
use milepost_policies::{Decision, Policy, RequestView, Time, Workers};
use tokio::sync::Notify;

use crate::harness::{PATIENCE, Step, TestRouter, Worker, ask, generate_stream, ok, post, start_error};
use crate::metrics::{scrape, serve_metrics};

async fn three() -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(
            Worker::start(|got| {
                if String::from_utf8_lossy(&got.body).contains("stream") { generate_stream(3) } else { ok() }
            })
            .await,
        );
    }
    workers
}

async fn router(workers: &[Worker], policy: &str, shadows: &[&str]) -> TestRouter {
    let workers: Vec<&Worker> = workers.iter().collect();
    TestRouter::with(&workers, |config| {
        policy.clone_into(&mut config.policy);
        config.shadow_policies = shadows.iter().map(|&name| name.to_owned()).collect();
        config.allow_policy_header = true;
    })
    .await
}

async fn send(router: &TestRouter, body: &str) {
    assert_eq!(ask(router.addr, post("/generate", body)).await.status, 200);
}

fn said(record: &RequestRecord) -> &[ShadowRecord] {
    record.shadow.get().map_or(&[], Vec::as_slice)
}

/// Prompts that share prefixes, some streamed, up to eight at a time.
async fn traffic(router: &TestRouter, requests: usize) {
    let clients = (0..8).map(|client| async move {
        for n in (client..requests).step_by(8) {
            let group = "lorem ipsum ".repeat(20 + n % 5);
            send(router, &format!(r#"{{"text":"{group}{n}","stream":{}}}"#, n % 3 == 0)).await;
        }
    });
    futures_all(clients).await;
}

/// Polls all of them in turn until each has ended.
async fn futures_all<F: Future<Output = ()>>(futures: impl Iterator<Item = F>) {
    let mut open: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        open.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if open.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

#[tokio::test]
async fn the_policy_itself_as_a_shadow_agrees_with_every_decision() {
    for policy in [
        "shortest_queue",
        "cache_aware",
        "cache_aware_improved",
        "peak_ewma",
        "round_robin",
        "random",
        "bucket",
        "prefix_hash",
    ] {
        let workers = three().await;
        let router = router(&workers, policy, &[policy]).await;
        let at = serve_metrics(&router).await;
        traffic(&router, 64).await;
        router.shared.fleet.shadows().unwrap().finish();
        let page = scrape(at).await;
        let count =
            |agrees| page.value("milepost_shadow_decisions_total", &[("policy", policy), ("agrees", agrees)]);
        assert_eq!((count("true") as u32, count("false") as u32), (64, 0), "{policy}");
        let records = router.finish_requests().await;
        assert_eq!(records.len(), 64);
        for r in &records {
            let [shadow] = said(r) else { panic!("{policy}: {:?}", r.shadow) };
            assert_eq!(
                (&*shadow.policy, shadow.agrees, &shadow.worker),
                (policy, true, &r.worker),
                "{policy}"
            );
            let decision = r.decision.as_ref().unwrap();
            let chosen = decision.candidates.iter().find(|c| c.chosen).unwrap();
            assert_eq!((&shadow.reason, shadow.score), (&decision.reason, chosen.score), "{policy}");
        }
    }
}

#[tokio::test]
async fn a_shadow_finds_what_it_needs_and_leaves_the_record_of_the_policy_as_it_is() {
    let workers = three().await;
    let router = router(&workers, "round_robin", &["cache_aware", "shortest_queue"]).await;
    let prompt = "a prompt that two requests share ".repeat(10);
    for _ in 0..3 {
        send(&router, &format!(r#"{{"text":"{prompt}"}}"#)).await;
    }
    let records = router.finish().await;
    let run = records.iter().find_map(|r| if let Record::Run(run) = r { Some(run) } else { None }).unwrap();
    assert_eq!(run.shadow_policies, ["cache_aware", "shortest_queue"]);
    let mut requests: Vec<_> =
        records.iter().filter_map(|r| if let Record::Request(r) = r { Some(r) } else { None }).collect();
    requests.sort_by_key(|r| r.seq);
    let reasons: Vec<Vec<&str>> =
        requests.iter().map(|r| said(r).iter().map(|s| &*s.reason).collect()).collect();
    let (miss, hit) = (vec!["prefix_miss", "fewest_in_flight"], vec!["prefix_hit", "fewest_in_flight"]);
    assert_eq!(reasons, [miss, hit.clone(), hit]);
    let second = said(requests[1]);
    assert_eq!(second[0].worker, requests[0].worker, "cache_aware goes where the prompt is");
    assert!(!second[0].agrees && second[1].agrees, "idle workers take turns with both others");
    for r in requests {
        let candidates = &r.decision.as_ref().unwrap().candidates;
        assert!(candidates.iter().all(|c| c.prefix_match_bytes.is_none()), "round_robin did not see it");
    }
}

/// Of a chat the engine sees roles and tools; sglang-router's text is the contents alone.
#[tokio::test]
async fn each_shadow_is_shown_the_text_that_it_reads() {
    let workers = three().await;
    let shadows = ["cache_aware", "cache_aware_improved"];
    for live in ["round_robin", "cache_aware", "cache_aware_improved"] {
        let router = router(&workers, live, &shadows).await;
        let content = "the same words by another role ".repeat(20);
        for role in ["user", "user", "system"] {
            let body = format!(r#"{{"messages":[{{"role":"{role}","content":"{content}"}}]}}"#);
            assert_eq!(ask(router.addr, post("/v1/chat/completions", &body)).await.status, 200);
        }
        let records = router.finish_requests().await;
        let reasons: Vec<Vec<&str>> =
            records.iter().map(|r| said(r).iter().map(|s| &*s.reason).collect()).collect();
        let (neither, both, routing) =
            (vec!["prefix_miss"; 2], vec!["prefix_hit"; 2], vec!["prefix_hit", "prefix_miss"]);
        assert_eq!(reasons, [neither, both, routing], "{live}");
    }
}

#[tokio::test]
async fn each_attempt_is_asked_about_and_the_record_has_the_last() {
    let failing =
        Worker::start(|_| vec![Step::Send(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec())]).await;
    let good = Worker::start(|_| ok()).await;
    let workers = [failing, good];
    let router = router(&workers, "round_robin", &["round_robin"]).await;
    send(&router, r#"{"text":"x"}"#).await;
    router.shared.fleet.shadows().unwrap().finish();
    let counts = &router.shared.fleet.shadows().unwrap().counts()[0];
    assert_eq!(counts.agreed.load(std::sync::atomic::Ordering::Relaxed), 2);
    let records = router.finish_requests().await;
    assert_eq!((records[0].attempts, &said(&records[0])[0].worker), (2, &records[0].worker));
}

/// Says when it is asked, and waits for a word before it answers.
struct Stuck {
    asked: Arc<Notify>,
    go_on: Receiver<()>,
}

impl Policy for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn choose(&mut self, _: Time, _: &RequestView<'_>, _: &Workers<'_>, out: &mut Decision) {
        self.asked.notify_one();
        let _ = self.go_on.recv();
        out.choose(0, "at_last");
    }
}

fn stuck() -> (Stuck, Arc<Notify>, Sender<()>) {
    let (asked, (tell, go_on)) = (Arc::new(Notify::new()), channel());
    (Stuck { asked: Arc::clone(&asked), go_on }, asked, tell)
}

#[tokio::test]
async fn requests_do_not_wait_for_a_shadow_and_their_records_not_for_ever() {
    let workers = three().await;
    let router = router(&workers, "round_robin", &[]).await;
    let (policy, asked, tell) = stuck();
    router.shared.fleet.set_shadows(Shadows::start(vec![Box::new(policy)]).unwrap());
    send(&router, r#"{"text":"x"}"#).await;
    asked.notified().await;
    for _ in 0..5 {
        send(&router, r#"{"text":"x"}"#).await;
    }
    // All were answered while the shadow thinks about the first; their records are written when they have waited enough.
    let sink = Arc::clone(&router.shared.sink);
    let given_up = async {
        while sink.unshadowed() < 6 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, given_up).await.expect("records are written without the answer");
    drop(tell);
    let at = serve_metrics(&router).await;
    assert_eq!(scrape(at).await.value("milepost_shadow_missing_total", &[]) as u32, 6);
    let records = router.finish_requests().await;
    assert!(records.len() == 6 && records.iter().all(|r| said(r).is_empty() && r.decision.is_some()));
}

#[tokio::test]
async fn a_shadow_that_there_is_not_stops_the_start() {
    let config = milepost::config::RouteConfig {
        shadow_policies: vec!["cache_awre".to_owned()],
        ..milepost::config::RouteConfig::default()
    };
    let said = start_error(config);
    assert!(
        said.starts_with("--shadow-policy: unknown policy \"cache_awre\"; did you mean cache_aware?"),
        "{said}"
    );
}
