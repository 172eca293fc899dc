//! Browsers: what a page of another origin may ask and read.

use milepost::config::access::ApiKey;
use milepost::trace::record::{Outcome, RequestKind};

use crate::harness::{Response, Step, TestRouter, Worker, ask, ok, post, post_with};

const PREFLIGHT: &str = "OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: r\r\norigin: https://a.org\r\n\
    access-control-request-method: POST\r\naccess-control-request-headers: authorization,content-type\r\n\r\n";

fn allowed_origins(response: &Response) -> Vec<&str> {
    response.head.lines().filter_map(|line| line.strip_prefix("access-control-allow-origin: ")).collect()
}

fn varies_by_origin(response: &Response) -> bool {
    let vary = response.head.lines().filter_map(|line| line.strip_prefix("vary: "));
    vary.flat_map(|names| names.split(", ")).any(|name| name == "origin")
}

#[tokio::test]
async fn a_preflight_is_answered_here_and_needs_no_key() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| c.auth.api_key = ApiKey::new("K")).await;
    let answer = ask(router.addr, PREFLIGHT).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(allowed_origins(&answer), ["*"]);
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,content-type"));
    assert_eq!(answer.header("access-control-max-age"), Some("3600"));
    assert!(varies_by_origin(&answer) && answer.head.contains("access-control-request-headers"));
    let refused = ask(router.addr, post_with("/generate", "origin: https://a.org\r\n", "{}")).await;
    assert_eq!((refused.status, allowed_origins(&refused)), (401, vec!["*"]), "a page can read why");
    assert_eq!(worker.requests().len(), 0);
    let records = router.finish_requests().await;
    assert_eq!((records[0].outcome, records[0].request_kind), (Outcome::Done, RequestKind::Local));
}

#[tokio::test]
async fn a_list_of_origins_lets_those_read_and_no_others() {
    let worker = Worker::start(|_| ok()).await;
    let origins = vec!["https://a.org".to_owned(), "http://localhost:3000/".to_owned()];
    let router = TestRouter::with(&[&worker], |c| c.cors_allowed_origins = origins).await;
    for (origin, expected) in [
        ("https://a.org", Some("https://a.org")),
        ("http://localhost:3000", Some("http://localhost:3000")),
        ("https://b.org", None),
        ("null", None),
    ] {
        let answer = ask(router.addr, post_with("/generate", &format!("origin: {origin}\r\n"), "{}")).await;
        assert_eq!(answer.status, 200, "what is not read is answered all the same");
        assert_eq!(allowed_origins(&answer), expected.into_iter().collect::<Vec<_>>(), "{origin}");
        assert_eq!(answer.header("access-control-expose-headers"), expected.map(|_| "*"));
        assert!(varies_by_origin(&answer));
        let preflight = ask(router.addr, PREFLIGHT.replace("https://a.org", origin)).await;
        assert_eq!(allowed_origins(&preflight), expected.into_iter().collect::<Vec<_>>(), "{origin}");
        assert_eq!(preflight.header("access-control-allow-methods"), expected.map(|_| "POST"));
    }
    assert_eq!(router.finish_requests().await.len(), 8);
}

#[tokio::test]
async fn a_workers_word_on_origins_is_replaced_and_without_an_origin_left_alone() {
    let head = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: http://worker\r\naccess-control-allow-credentials: true\r\n\
                vary: accept\r\ncontent-length: 2\r\n\r\n{}";
    let worker = Worker::start(move |_| vec![Step::Send(head.into())]).await;
    let router = TestRouter::start(&[&worker]).await;
    let answer = ask(router.addr, post_with("/generate", "origin: https://a.org\r\n", "{}")).await;
    assert_eq!(allowed_origins(&answer), ["*"]);
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert!(answer.head.contains("vary: accept\r\n") && varies_by_origin(&answer), "{}", answer.head);
    let answer = ask(router.addr, post("/generate", "{}")).await;
    assert_eq!(allowed_origins(&answer), ["http://worker"]);
    assert!(!varies_by_origin(&answer));
    router.finish().await;
}

#[tokio::test]
async fn options_from_no_browser_is_a_workers() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let plain = "OPTIONS /v1/models/tiny HTTP/1.1\r\nhost: r\r\norigin: https://a.org\r\n\r\n";
    assert_eq!(ask(router.addr, plain).await.status, 200);
    assert!(worker.requests()[0].head.starts_with("OPTIONS /v1/models/tiny "));
    router.finish().await;
}
