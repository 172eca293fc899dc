//! What seeds of `tests/simulation` have found, each as a small script of its own.

use std::time::Duration;

use milepost::net::PipeNet;
use milepost::trace::record::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Step, chunk, post, stream_head};
use crate::piped::{self, PipedRouter};

#[tokio::test(start_paused = true)]
async fn that_a_request_was_too_late_is_told_whole_though_its_time_is_over() {
    // So little room that no answer leaves in one write.
    let net = PipeNet::with_room(100);
    let worker = piped::worker(&net, 1, |_| vec![Step::UntilClosed(std::sync::Arc::default())]);
    let router = PipedRouter::start(&net, &[worker.url], |c| c.request_timeout = Duration::from_secs(5));
    let response = router.ask(post("/generate", "{}")).await;
    assert_eq!((response.status, response.whole), (504, true));
    assert_eq!(response.json()["error"]["code"], "call_upstream_timeout");
    assert_eq!(router.elapsed().as_secs(), 5);
    assert_eq!(router.finish().await.0[0].outcome, Outcome::TimedOut);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_half_closes_without_taking_its_answer_is_gone_at_once() {
    let net = PipeNet::with_room(100);
    let long = "data: {\"text\":\"w\",\"meta_info\":{\"completion_tokens\":1}}\n\n".repeat(20);
    let worker = piped::worker(&net, 1, move |_| vec![stream_head(), chunk(&long)]);
    let router = PipedRouter::start(&net, &[worker.url], |_| {});
    let mut client = net.connect(30_000).await.unwrap();
    client.write_all(post("/generate", r#"{"stream":true}"#).as_ref()).await.unwrap();
    // The answer is on its way, and stuck: nobody reads it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    client.shutdown().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(router.elapsed().as_secs(), 4, "its connection is closed by then");
    let (records, _) = router.finish().await;
    assert_eq!((records[0].outcome, records[0].end_ns / 1_000_000_000), (Outcome::ClientGone, 3));
}
