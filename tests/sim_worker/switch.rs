//! Faults of the whole worker, switched while it runs.

use std::io::ErrorKind;
use std::net::SocketAddr;

use milepost::sim::Dialect;
use tokio::io::AsyncReadExt;

use crate::behaviour::{generate, get, open, post};
use crate::client::{Answer, send};
use crate::worker;

async fn set(to: SocketAddr, value: &str) -> Answer {
    send(to, "POST", &format!("/milepost/sim/fault?set={value}"), "", None).await.expect("the switch answers")
}

#[tokio::test]
async fn a_worker_without_faults_has_no_switch() {
    let (to, _stop) = worker(Dialect::V0523, |c| c.speedup = 100.0).await;
    let refused = set(to, "stall").await;
    assert_eq!(refused.status, "HTTP/1.1 403 Forbidden");
    assert!(refused.body().contains("--allow-faults"), "{refused:?}");
    assert_eq!(post(to, "/generate", &generate(2, "")).await.status, "HTTP/1.1 200 OK");
}

/// What was under way and what is asked meanwhile waits, the health check too; all of it goes on afterwards.
#[tokio::test]
async fn a_worker_that_hangs_goes_on_where_it_was() {
    let (to, _stop) = worker(Dialect::V0523, |c| (c.speedup, c.allow_faults) = (10.0, true)).await;
    let mut stream = open(to, "/generate", &generate(60, ",\"stream\":true")).await;
    let mut bytes = vec![0; 200];
    stream.read_exact(&mut bytes).await.expect("an answer has begun");
    assert_eq!(set(to, "stall").await.status, "HTTP/1.1 200 OK");
    let health = tokio::spawn(async move { send(to, "GET", "/health", "", None).await });
    let asked = tokio::spawn(async move { post(to, "/generate", &generate(2, "")).await });
    assert!(get(to, "/milepost/sim/fault").await["fault"] == "Faulty(Stall)");
    assert!(!asked.is_finished() && !health.is_finished());
    set(to, "none").await;
    assert_eq!(asked.await.expect("ends").status, "HTTP/1.1 200 OK");
    assert_eq!(health.await.expect("ends").expect("answers").status, "HTTP/1.1 200 OK");
    while !bytes.ends_with(b"0\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut bytes).await.expect("a whole answer"), 0, "cut");
    }
}

#[tokio::test]
async fn a_worker_that_resets_breaks_what_is_under_way_and_what_comes() {
    let (to, _stop) = worker(Dialect::V0523, |c| c.allow_faults = true).await;
    let mut stream = open(to, "/generate", &generate(100_000, ",\"stream\":true")).await;
    stream.read_exact(&mut [0; 200]).await.expect("an answer has begun");
    set(to, "reset_before_head").await;
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.expect_err("reset").kind(), ErrorKind::ConnectionReset);
    let refused = send(to, "GET", "/health", "", None).await.expect_err("no answer");
    assert_eq!(refused.kind(), ErrorKind::ConnectionReset);
    set(to, "none").await;
    assert_eq!(post(to, "/generate", &generate(2, "")).await.status, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn empty_answers_are_for_requests_for_tokens_alone() {
    let (to, _stop) = worker(Dialect::V0523, |c| (c.speedup, c.allow_faults) = (100.0, true)).await;
    set(to, "empty_200").await;
    let empty = post(to, "/generate", &generate(2, "")).await;
    assert_eq!((empty.status.as_str(), empty.body().as_str()), ("HTTP/1.1 200 OK", ""));
    assert!(get(to, "/get_model_info").await["model_path"].is_string());
    let refused = set(to, "explode").await;
    assert_eq!(refused.status, "HTTP/1.1 400 Bad Request");
    assert!(refused.body().contains("slow:FACTOR"), "{refused:?}");
}
