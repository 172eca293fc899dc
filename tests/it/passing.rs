//! What passes through: bodies byte for byte, headers by rule, stamps, streams.

use milepost::trace::record::RequestKind::{FanOut, Local, Routed};
use milepost::trace::record::{Outcome, Record, RequestKind};

use crate::harness::{
    Client, Step, TestRouter, Worker, ask, chunk, end, generate_stream, json, post, post_with, stream_head,
};

#[tokio::test]
async fn a_plain_request_passes_unchanged_and_is_stamped_both_ways() {
    let answer = r#"{"text":"hi","meta_info":{"id":"a","finish_reason":{"type":"stop","matched":2},"prompt_tokens":6,"completion_tokens":8,"cached_tokens":5,"e2e_latency":0.5}}"#;
    let worker = Worker::start(move |_| json(answer)).await;
    let router = TestRouter::start(&[&worker]).await;
    let body = "{ \"text\" : \"Hello \\u00e9\",\n \"sampling_params\":{\"max_new_tokens\":8, \"top_k\":-1} }";
    let response =
        ask(router.addr, post_with("/generate?x=1", "x-request-id: my-id\r\nx-custom: 1\r\n", body)).await;
    assert_eq!((response.status, response.text().as_str()), (200, answer));

    let got = &worker.requests()[0];
    assert_eq!(got.body, body.as_bytes());
    assert!(got.head.starts_with("POST /generate?x=1 HTTP/1.1\r\n"), "{}", got.head);
    assert_eq!(got.header("x-request-id"), Some("my-id"));
    assert_eq!(got.header("x-custom"), None);
    assert_eq!(got.header("host"), Some(&worker.url["http://".len()..]));
    for name in ["x-request-id", "x-arrival-time", "x-router-send-time"] {
        assert_eq!(got.header(name), response.header(name), "{name} is the same both ways");
    }
    assert_eq!(response.header("x-worker-url"), Some(worker.url.as_str()));
    assert_eq!(response.header("x-policy"), Some("round_robin"));
    assert!(response.header("server-timing").unwrap().starts_with("router;dur="));

    let seconds = |name: &str| response.header(name).unwrap().parse::<f64>().unwrap();
    let records = router.finish_requests().await;
    let r = &records[0];
    assert!((seconds("x-arrival-time") - r.arrival_unix_ns as f64 / 1e9).abs() < 1e-6);
    assert!(
        (seconds("x-router-send-time") - seconds("x-arrival-time") - r.router_send_ns.unwrap() as f64 / 1e9)
            .abs()
            < 1e-6
    );
    assert_eq!((r.outcome, r.status, r.attempts, r.reconnects), (Outcome::Done, Some(200), 1, 0));
    assert_eq!(
        (r.request_id.as_str(), &*r.path, r.request_kind),
        ("my-id", "/generate", RequestKind::Routed)
    );
    assert_eq!(
        (r.tokens.prompt_tokens, r.tokens.completion_tokens, r.tokens.cached_tokens),
        (Some(6), Some(8), Some(5))
    );
    assert_eq!((r.finish_reason.as_deref(), r.server.e2e_latency), (Some("stop"), Some(0.5)));
    assert_eq!((r.request_body_bytes, r.response_body_bytes), (body.len() as u64, answer.len() as u64));
    assert_eq!(
        (r.max_new_tokens, r.prompt_bytes, r.same_host),
        (Some(8), Some("Hello é".len() as u64), Some(true))
    );
    let order = [
        r.body_read_ns,
        r.decided_ns,
        r.connected_ns,
        r.router_send_ns,
        r.first_byte_ns,
        r.head_ns,
        r.last_byte_ns,
    ];
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
    assert_eq!(r.decision.as_ref().unwrap().candidates.len(), 1);
}

#[tokio::test]
async fn a_stream_keeps_its_chunks_and_first_token_is_not_the_head() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let open = std::sync::Arc::clone(&gate);
    let worker = Worker::start(move |_| {
        let mut steps = generate_stream(3);
        steps.insert(1, Step::Wait(std::sync::Arc::clone(&gate)));
        steps
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"text":"a","stream":true}"#)).await;
    // The head passes while the worker has not yet made a token.
    client.read_until("\r\n\r\n").await;
    open.notify_one();
    let response = client.response().await;
    assert!(response.whole);
    let text = response.text();
    assert_eq!((text.matches("data: ").count(), text.ends_with("data: [DONE]\n\n")), (4, true));

    let r = &router.finish_requests().await[0];
    assert_eq!((r.stream, r.sse_events, r.sse_done, r.outcome), (true, 3, Some(true), Outcome::Done));
    assert!(r.first_token_ns > r.head_ns && r.first_token_ns <= r.last_byte_ns);
    assert_eq!((r.tokens.completion_tokens, r.has_text), (Some(3), Some(true)));
}

#[tokio::test]
async fn an_error_event_an_abort_and_a_cut_stream_inside_a_200_are_failures() {
    let error = vec![
        stream_head(),
        chunk("data: {\"error\":{\"message\":\"too long\"}}\n\n"),
        chunk("data: [DONE]\n\n"),
        end(),
    ];
    let abort = "data: {\"text\":\"\",\"meta_info\":{\"id\":\"x\",\"finish_reason\":{\"type\":\"abort\",\"message\":\"Aborted\",\"status_code\":null},\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n";
    let aborted = vec![stream_head(), chunk(abort), chunk("data: [DONE]\n\n"), end()];
    let mut cut = generate_stream(5);
    cut.truncate(3);
    cut.push(Step::Close);
    let empty_close = vec![stream_head(), Step::Close];
    let worker = Worker::start(crate::harness::sequence(vec![error, aborted, cut, empty_close])).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut whole = Vec::new();
    for _ in 0..4 {
        whole.push(ask(router.addr, post("/generate", r#"{"text":"a","stream":true}"#)).await.whole);
    }
    assert_eq!(whole, [true, true, false, false], "a cut stream is cut for the client too");
    let records = router.finish_requests().await;
    let outcomes: Vec<Outcome> = records.iter().map(|r| r.outcome).collect();
    assert_eq!(
        outcomes,
        [Outcome::WorkerError, Outcome::WorkerError, Outcome::WorkerReset, Outcome::WorkerReset]
    );
    assert_eq!((records[2].tokens.completion_tokens, records[2].sse_events), (Some(2), 2));
    assert!(
        !records[0].error.as_deref().unwrap().contains("too long"),
        "a server's message may quote a prompt"
    );
}

#[tokio::test]
async fn every_other_path_is_a_workers_and_the_routers_own_are_not() {
    let worker = Worker::start(|got| json(&format!("\"{}\"", got.head.lines().next().unwrap()))).await;
    let router = TestRouter::start(&[&worker]).await;
    let model = ask(router.addr, "GET /v1/models/tiny HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert_eq!(model.text(), "\"GET /v1/models/tiny HTTP/1.1\"");
    let put = ask(router.addr, "PUT /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 2\r\n\r\n{}").await;
    assert_eq!(put.text(), "\"PUT /generate HTTP/1.1\"");
    for (path, status) in
        [("/health", 200), ("/liveness", 200), ("/readiness", 200), ("/workers", 200), ("/milepost/x", 404)]
    {
        let response = ask(router.addr, format!("GET {path} HTTP/1.1\r\nhost: r\r\n\r\n")).await;
        assert_eq!(response.status, status, "{path}");
    }
    let flushed =
        ask(router.addr, "POST /flush_cache HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\r\n").await;
    assert!(flushed.text().contains("\"workers_flushed\":1"), "{}", flushed.text());
    assert_eq!(worker.requests().len(), 3);
    let records = router.finish_requests().await;
    let kinds: Vec<RequestKind> = records.iter().map(|r| r.request_kind).collect();
    assert_eq!(kinds, [Routed, Routed, Local, Local, Local, Local, Local, FanOut]);
}

#[tokio::test]
async fn a_http_1_0_answer_to_the_end_of_the_connection_is_whole() {
    let worker = Worker::start(|_| {
        vec![
            Step::Send(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nto the end".to_vec()),
            Step::Close,
        ]
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let response = ask(router.addr, post("/other", "{}")).await;
    assert_eq!((response.text().as_str(), response.whole), ("to the end", true));
    assert_eq!(router.finish_requests().await[0].outcome, Outcome::Done);
}

#[tokio::test]
async fn answers_without_a_body_and_interim_heads_pass() {
    let worker = Worker::start(crate::harness::sequence(vec![
        vec![Step::Send(
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        )],
        vec![Step::Send(b"HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n".to_vec())],
        vec![Step::Send(
            b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 31\r\nallow: GET\r\n\r\n".to_vec(),
        )],
    ]))
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    for (method, status) in [("GET", 204), ("GET", 304), ("HEAD", 405)] {
        client.send(format!("{method} /x HTTP/1.1\r\nhost: r\r\n\r\n")).await;
        assert_eq!(client.response_head().await.status, status);
    }
    let records = router.finish().await;
    let outcomes: Vec<Outcome> = records
        .iter()
        .filter_map(|r| if let Record::Request(r) = r { Some(r.outcome) } else { None })
        .collect();
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::WorkerError]);
    assert_eq!(
        worker.requests().iter().map(|g| g.connection).max(),
        Some(0),
        "one connection served all three"
    );
}
