//! Connections: health, keep-alive, faults, several workers in one process.

use milepost::sim::Dialect;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::behaviour::{generate, get, open, post};
use crate::client::{request, send};
use crate::worker;

#[tokio::test]
async fn health_generates_where_the_real_one_does() {
    let (to, _stop) = worker(Dialect::V0523, |c| c.speedup = 100.0).await;
    let health = send(to, "GET", "/health", "", None).await.expect("answers");
    assert_eq!((health.status.as_str(), health.body().as_str()), ("HTTP/1.1 200 OK", ""));
    assert!(get(to, "/milepost/sim").await["generated_tokens"].as_u64() >= Some(1));
}

#[tokio::test]
async fn an_idle_connection_is_reused_and_then_closed() {
    let (to, _stop) = worker(Dialect::V0523, |c| c.speedup = 100.0).await;
    let mut stream = TcpStream::connect(to).await.expect("connects");
    for _ in 0..2 {
        stream.write_all(request("GET", "/ping", "", None).as_bytes()).await.expect("still open");
        let mut bytes = vec![0; 512];
        let read = stream.read(&mut bytes).await.expect("reads");
        assert!(bytes[..read].starts_with(b"HTTP/1.1 200 OK"));
    }
    assert_eq!(stream.read(&mut [0; 1]).await.expect("an end"), 0, "closed without a byte");
}

#[tokio::test]
async fn faults_happen_only_where_they_are_allowed() {
    let fault = |name: &str| format!("x-milepost-sim-fault: {name}\r\n");
    let body = generate(6, "");
    let stream = generate(6, ",\"stream\":true");
    let (safe, _stop) = worker(Dialect::V0523, |c| c.speedup = 100.0).await;
    let ignored = send(safe, "POST", "/generate", &fault("error_500"), Some(&body)).await.expect("answers");
    assert_eq!(ignored.status, "HTTP/1.1 200 OK");

    let (to, _stop) = worker(Dialect::V0523, |c| {
        c.speedup = 2.0;
        c.allow_faults = true;
    })
    .await;
    let with = |name: &'static str, body: String| async move {
        send(to, "POST", "/generate", &fault(name), Some(&body)).await
    };
    let reset = with("reset_before_head", body.clone()).await.expect_err("no answer");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    let cut = with("reset_mid_stream:2", stream.clone()).await.expect("a beginning");
    assert_eq!((cut.chunks.len(), cut.complete), (2, false), "{cut:?}");
    let cut = with("truncate", stream).await.expect("a beginning");
    assert_eq!((cut.chunks.len(), cut.complete), (1, false), "{cut:?}");
    let cut = with("truncate", body.clone()).await.expect("a beginning");
    assert!(!cut.complete && cut.body().starts_with("{\"text\":"), "{cut:?}");
    assert_eq!(with("error_500", body.clone()).await.expect("answers").body(), "Internal Server Error");
    let empty = with("empty_200", body.clone()).await.expect("answers");
    assert_eq!((empty.status.as_str(), empty.body().as_str()), ("HTTP/1.1 200 OK", ""));
    assert_eq!(with("explode", body).await.expect("answers").status, "HTTP/1.1 400 Bad Request");
}

#[tokio::test]
async fn four_workers_share_a_process_and_stop_when_told() {
    let mut workers = Vec::new();
    for seed in 0..4 {
        workers.push(worker(Dialect::V0523, |c| c.seed = seed).await);
    }
    for (to, stop) in workers {
        assert_eq!(post(to, "/generate", &generate(3, "")).await.status, "HTTP/1.1 200 OK");
        let mut open = open(to, "/generate", &generate(100_000, ",\"stream\":true")).await;
        open.read_exact(&mut [0; 200]).await.expect("an answer has begun");
        drop(stop);
        let mut bytes = Vec::new();
        // Closed or reset, whichever the kernel makes of it.
        let _ = open.read_to_end(&mut bytes).await;
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "cut where it was");
        // The listener is gone once its connections are.
        while TcpStream::connect(to).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
