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
