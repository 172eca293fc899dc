//! `--split`: each session stays in its arm, over restarts too, and record, answer and metrics say which arm it was.

use milepost::config::split::Split;
use milepost::trace::record::{Record, RequestRecord};

use crate::harness::{TestRouter, Worker, ask, generate_stream, ok, post, post_with, start_error};
use crate::metrics::{scrape, serve_metrics};

const TWO: &str = "round_robin=1,shortest_queue=1";

async fn router(worker: &Worker, split: &str) -> TestRouter {
    TestRouter::with(&[worker], |config| {
        config.split = Some(Split::parse(split).unwrap());
        config.allow_policy_header = true;
    })
    .await
}

async fn send(router: &TestRouter, headers: &str, body: &str) {
    let answer = ask(router.addr, post_with("/generate", headers, body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("x-policy").is_some());
}

fn arms(records: &[RequestRecord]) -> Vec<(&str, &str)> {
    records
        .iter()
        .map(|r| (r.split_arm.as_deref().unwrap_or(""), r.split_by.as_deref().unwrap_or("")))
        .collect()
}

#[tokio::test]
async fn a_session_keeps_its_arm_over_requests_and_restarts_and_the_policy_is_the_arms() {
    let worker = Worker::start(|_| ok()).await;
    let mut runs = Vec::new();
    for _ in 0..2 {
        let router = router(&worker, TWO).await;
        for n in 0..40 {
            let user = n % 20;
            send(&router, &format!("x-smg-routing-key: user-{user}\r\n"), r#"{"text":"x"}"#).await;
        }
        let records = router.finish_requests().await;
        assert!(
            records.iter().all(|r| r.policy.as_deref() == r.split_arm.as_deref()),
            "the arm's policy chose"
        );
        runs.push(
            arms(&records).into_iter().map(|(arm, by)| (arm.to_owned(), by.to_owned())).collect::<Vec<_>>(),
        );
    }
    assert_eq!(runs[0], runs[1], "after a restart");
    assert_eq!(runs[0][..20], runs[0][20..], "at the second request of each");
    assert!(runs[0].iter().all(|(_, by)| by == "routing_key"));
    for arm in ["round_robin", "shortest_queue"] {
        assert!(runs[0].iter().any(|(drawn, _)| drawn == arm), "nobody in {arm}");
    }
}

#[tokio::test]
async fn a_session_is_the_routing_key_else_the_conversation_else_the_request() {
    let worker = Worker::start(|_| ok()).await;
    let router = router(&worker, TWO).await;
    let conversation = r#"{"text":"x","session_params":{"id":"c1"}}"#;
    send(&router, "x-smg-routing-key: k\r\nx-request-id: r1\r\n", conversation).await;
    send(&router, "x-request-id: r2\r\n", conversation).await;
    send(&router, "x-request-id: r3\r\n", r#"{"session_id":"c1","text":"other"}"#).await;
    send(&router, "x-request-id: r4\r\n", r#"{"text":"x"}"#).await;
    let records = router.finish_requests().await;
    let by: Vec<&str> = arms(&records).into_iter().map(|(_, by)| by).collect();
    assert_eq!(by, ["routing_key", "conversation", "conversation", "request_id"]);
    let split = Split::parse(TWO).unwrap();
    let expected =
        ["k", "c1", "c1", "r4"].map(|name| split.arms()[split.arm_of(name.as_bytes())].policy.as_str());
    let drawn: Vec<&str> = arms(&records).into_iter().map(|(arm, _)| arm).collect();
    assert_eq!(drawn, expected);
}

#[tokio::test]
async fn whoever_names_a_policy_is_in_no_arm_and_the_record_says_who_named_it() {
    let worker = Worker::start(|_| ok()).await;
    let router = router(&worker, TWO).await;
    send(&router, "x-milepost-policy: random\r\nx-smg-routing-key: k\r\n", r#"{"text":"x"}"#).await;
    send(&router, "x-smg-routing-key: k\r\n", r#"{"text":"x"}"#).await;
    let records = router.finish().await;
    let run = records.iter().find_map(|r| if let Record::Run(run) = r { Some(run) } else { None }).unwrap();
    assert_eq!((run.policy.as_str(), run.split.as_deref()), ("round_robin", Some(TWO)));
    let of = |seq| {
        let request =
            |r: &Record| if let Record::Request(r) = r { (r.seq == seq).then(|| r.clone()) } else { None };
        records.iter().find_map(request).unwrap()
    };
    let (named, drawn) = (of(1), of(2));
    assert_eq!((named.policy.as_deref(), named.policy_by.as_deref()), (Some("random"), Some("header")));
    assert_eq!((named.split_arm, named.split_by), (None, None));
    assert_eq!((drawn.policy_by, drawn.split_arm.is_some()), (None, true));
}

#[tokio::test]
async fn metrics_tell_the_arms_apart_and_have_no_series_beyond_them() {
    let worker = Worker::start(|got| {
        if String::from_utf8_lossy(&got.body).contains("stream") { generate_stream(2) } else { ok() }
    })
    .await;
    let router = router(&worker, TWO).await;
    let at = serve_metrics(&router).await;
    for n in 0..30 {
        let body = if n % 3 == 0 { r#"{"text":"x","stream":true}"# } else { r#"{"text":"x"}"# };
        send(&router, &format!("x-smg-routing-key: user-{n}\r\n"), body).await;
    }
    send(&router, "x-milepost-policy: random\r\n", r#"{"text":"x"}"#).await;
    let page = scrape(at).await;
    let sum = |name: &str| page.values(name, &[]).iter().sum::<f64>();
    assert_eq!(sum("milepost_split_requests_total") as u64, 30, "not the one that named its policy");
    assert_eq!(sum("milepost_split_ttft_seconds_count") as u64, 10, "streams");
    assert_eq!(sum("milepost_split_e2e_seconds_count") as u64, 30);
    assert_eq!(page.values("milepost_split_e2e_seconds_count", &[]).len(), 2);
    let records = router.finish_requests().await;
    let first = records.iter().filter(|r| r.split_arm.as_deref() == Some("round_robin")).count();
    let told = page.value("milepost_split_requests_total", &[("arm", "round_robin"), ("outcome", "done")]);
    assert_eq!(told as usize, first, "metrics and trace agree");
}

#[tokio::test]
async fn an_arm_that_is_no_policy_stops_the_start() {
    let config = milepost::config::RouteConfig {
        split: Some(Split::parse("round_robin=1,shortest=1").unwrap()),
        ..milepost::config::RouteConfig::default()
    };
    let said = start_error(config);
    assert!(said.starts_with("--split: unknown policy \"shortest\""), "{said}");
}

#[tokio::test]
async fn without_a_split_nothing_is_said_of_arms() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let at = serve_metrics(&router).await;
    ask(router.addr, post("/generate", r#"{"text":"x","session_id":"s"}"#)).await;
    assert!(scrape(at).await.values("milepost_split_requests_total", &[]).is_empty());
    let records = router.finish_requests().await;
    assert_eq!((&records[0].split_arm, &records[0].split_by, &records[0].policy_by), (&None, &None, &None));
}
