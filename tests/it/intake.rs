//! Request bodies: limits, encodings, malformed ones, and privacy.

use std::time::Duration;

use milepost::net::PipeNet;
use milepost::trace::record::Outcome;

use crate::harness::{Client, TestRouter, Worker, ask, json, ok, post, post_with};
use crate::piped::{self, PipedRouter};

#[tokio::test]
async fn a_body_over_the_limit_is_a_413_announced_or_not() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| c.max_payload_bytes = 10).await;
    assert_eq!(ask(router.addr, post("/generate", "{\"text\":\"abc\"}")).await.status, 413);
    let chunked = "POST /generate HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n14\r\n{\"text\":\"aaaaaaaaaa\"}\r\n0\r\n\r\n";
    assert_eq!(ask(router.addr, chunked).await.status, 413);
    assert_eq!(ask(router.addr, post("/generate", "{\"a\":1}")).await.status, 200);
    let outcomes: Vec<Outcome> = router.finish_requests().await.iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused, Outcome::Refused, Outcome::Done]);
}

#[tokio::test]
async fn bodies_together_over_the_memory_limit_are_shed_with_retry_after() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| c.max_buffered_request_bytes = 100).await;
    let mut slow = Client::connect(router.addr).await;
    slow.send(format!("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 90\r\n\r\n{}", "a".repeat(80)))
        .await;
    while router.shared.budget.used_bytes() < 80 {
        tokio::task::yield_now().await;
    }
    let shed = ask(router.addr, post("/generate", &"b".repeat(30))).await;
    assert_eq!((shed.status, shed.header("retry-after")), (503, Some("1")));
    slow.send("a".repeat(10)).await;
    assert_eq!(slow.response().await.status, 200);
    assert_eq!(ask(router.addr, post("/generate", &"b".repeat(30))).await.status, 200);
    let outcomes: Vec<Outcome> = router.finish_requests().await.iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Refused, Outcome::Done]);
}

#[tokio::test]
async fn a_malformed_or_encoded_body_is_forwarded_and_routed_without_text() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| c.policy = "cache_aware".to_owned()).await;
    assert_eq!(ask(router.addr, post("/generate", "{\"text\": nope")).await.status, 200);
    assert_eq!(
        ask(router.addr, post_with("/generate", "content-encoding: gzip\r\n", "\u{1f}zip")).await.status,
        200
    );
    assert_eq!(ask(router.addr, post("/generate", "{\"text\":\"fine\"}")).await.status, 200);
    let got = worker.requests();
    assert_eq!(
        (got[0].body.as_slice(), got[1].header("content-encoding")),
        (&b"{\"text\": nope"[..], Some("gzip"))
    );
    let records = router.finish_requests().await;
    let looks: Vec<&str> = records.iter().map(|r| r.body_look.as_ref()).collect();
    assert_eq!(looks, ["malformed", "content_encoding", "json"]);
    assert_eq!((records[0].prompt_bytes, records[2].prompt_bytes), (None, Some(4)));
}

#[tokio::test]
async fn a_prompt_with_escapes_keeps_its_affinity() {
    let (a, b) = (Worker::start(|_| ok()).await, Worker::start(|_| ok()).await);
    let router = TestRouter::with(&[&a, &b], |c| c.policy = "cache_aware".to_owned()).await;
    let prompts =
        [r"line\nline", r#"quote \" quote"#, r"\u00e9t\u00e9", r"\ud83d\ude00 smile", "plain été 😀"];
    for round in 0..3 {
        for prompt in prompts {
            let body = format!("{{\"text\":\"{prompt} {}\"}}", "shared prefix ".repeat(20));
            assert_eq!(ask(router.addr, post("/generate", &body)).await.status, 200, "{round}");
        }
    }
    let records = router.finish_requests().await;
    for (i, first) in records.iter().take(prompts.len()).enumerate() {
        for later in [&records[i + prompts.len()], &records[i + 2 * prompts.len()]] {
            assert_eq!(later.worker, first.worker, "prompt {i} stays with its worker");
            assert_eq!(later.decision.as_ref().unwrap().reason, "prefix_hit");
        }
    }
}

#[tokio::test]
async fn canaries_in_prompt_key_and_answer_reach_the_worker_and_never_the_trace() {
    let worker = Worker::start(|_| {
        json(r#"{"text":"CANARY-ANSWER","meta_info":{"id":"x","completion_tokens":1,"prompt_tokens":1}}"#)
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let trace = router.shared.config.trace_log.clone().unwrap();
    let headers = "authorization: Bearer CANARY-KEY\r\ncookie: CANARY-COOKIE\r\n";
    for path in ["/generate", "/v1/chat/completions", "/v1/completions"] {
        let body = r#"{"text":"CANARY-PROMPT","prompt":"CANARY-PROMPT","messages":[{"role":"user","content":"CANARY-PROMPT"}]}"#;
        assert_eq!(ask(router.addr, post_with(path, headers, body)).await.status, 200);
    }
    let got = worker.requests();
    assert_eq!((got[0].header("authorization"), got[0].header("cookie")), (Some("Bearer CANARY-KEY"), None));
    while std::fs::read_to_string(&trace).unwrap().matches("\"kind\":\"request\"").count() < 3 {
        tokio::task::yield_now().await;
    }
    let text = std::fs::read_to_string(&trace).unwrap();
    assert!(!text.contains("CANARY"), "{text}");
    router.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_head_is_told_has_time_of_its_own() {
    // The answer does not fit into the pipe at once, and the connection's time is over.
    let net = PipeNet::with_room(16);
    let router = PipedRouter::start(&net, &[piped::url(1)], |_| {});
    let mut client = router.client().await;
    client.send("GET / HT").await;
    tokio::time::sleep(Duration::from_secs(74)).await;
    assert_eq!(client.response_head().await.status, 408);
    router.finish().await;
}
