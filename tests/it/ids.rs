//! Request ids and the headers of an answer: where an id comes from and goes to, and what of a worker's head passes.

use http::HeaderName;

use crate::harness::{Step, TestRouter, Worker, ask, ok, post, post_with};

#[tokio::test]
async fn a_generated_id_says_what_was_asked_and_is_the_same_everywhere() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut ids = Vec::new();
    for (path, prefix) in [
        ("/generate", "gnt-"),
        ("/v1/chat/completions", "chatcmpl-"),
        ("/v1/completions", "cmpl-"),
        ("/v1/responses", "resp-"),
        ("/v1/embeddings", "req-"),
    ] {
        let response = ask(router.addr, post(path, "{}")).await;
        let id = response.header("x-request-id").unwrap().to_owned();
        assert!(id.starts_with(prefix) && id.len() == prefix.len() + 24, "{path}: {id}");
        assert_eq!(worker.requests().last().unwrap().header("x-request-id"), Some(id.as_str()));
        ids.push(id);
    }
    let recorded: Vec<String> = router.finish_requests().await.into_iter().map(|r| r.request_id).collect();
    assert_eq!(recorded, ids);
}

#[tokio::test]
async fn the_flag_replaces_the_names_under_which_an_id_is_looked_for() {
    let worker = Worker::start(|_| ok()).await;
    let names = ["x-span", "x-request-id"].map(|n| n.parse::<HeaderName>().unwrap());
    let router = TestRouter::with(&[&worker], |c| c.request_id_headers = names.to_vec()).await;
    for (headers, expected) in [
        ("x-request-id: r\r\nx-span: s\r\n", Some("s")),
        ("x-request-id: r\r\n", Some("r")),
        ("x-correlation-id: c\r\n", None),
    ] {
        let response = ask(router.addr, post_with("/generate", headers, "{}")).await;
        let id = response.header("x-request-id").unwrap();
        assert!(expected.map_or(id.starts_with("gnt-"), |expected| id == expected), "{headers}: {id}");
        assert_eq!(worker.requests().last().unwrap().header("x-request-id"), Some(id));
    }
    assert_eq!(router.finish_requests().await[0].request_id, "s");
}

#[tokio::test]
async fn an_answer_names_its_worker_keeps_its_headers_and_loses_those_of_one_hop() {
    let head = "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-encoding: br\r\nx-own: 1\r\n\
                keep-alive: timeout=5\r\nconnection: x-hop\r\nx-hop: 1\r\nx-request-id: the-workers\r\ncontent-length: 2\r\n\r\n{}";
    let worker = Worker::start(move |_| vec![Step::Send(head.into())]).await;
    let router = TestRouter::start(&[&worker]).await;
    let response = ask(router.addr, post_with("/generate", "x-request-id: mine\r\n", "{}")).await;
    let cookies: Vec<&str> =
        response.head.lines().filter_map(|line| line.strip_prefix("set-cookie: ")).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!((response.header("content-encoding"), response.header("x-own")), (Some("br"), Some("1")));
    assert_eq!((response.header("keep-alive"), response.header("x-hop")), (None, None));
    assert_eq!(response.head.matches("x-request-id: ").count(), 1, "{}", response.head);
    assert_eq!(response.header("x-request-id"), Some("mine"));
    for name in ["x-worker-url", "x-smg-routed-worker-id"] {
        assert_eq!(response.header(name), Some(worker.url.as_str()));
    }
    let health = ask(router.addr, "GET /health HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert_eq!(health.header("x-smg-routed-worker-id"), None, "no worker was asked");
    assert_eq!(router.finish_requests().await[0].worker.as_deref(), Some(worker.url.as_str()));
}
