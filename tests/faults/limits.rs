//! More than the router takes at one time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::client::{generate, generate_stream, post};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::{Step, done, event, ok, stream_head};

rows! {
    "More than there is room for";
    the_queue_is_full by Pipes "--max-concurrent-requests and --queue-size are used up":
        "200 whole, 200 whole; then 429 rate_limited; without its body 429 rate_limited",
        "done 200, attempts 1; stamps to last_byte; 1 ms ×2 + refused 429, attempts 0, error \"rate_limited: as many requests are here as this router may run and queue; try again later\"; no stamps; 0 ms ×2",
        "kept";
    the_queue_takes_too_long by Pipes "a request waits longer than --queue-timeout-secs":
        "200 whole, 408 queue_timeout",
        "done 200, attempts 1; stamps to last_byte; 7000 ms + refused 408, attempts 0, error \"queue_timeout: no place among the requests at workers in 7 s; try again later\"; stamps to limit_wait; 7000 ms",
        "kept";
    bodies_use_up_the_memory by Pipes "request bodies use up --max-buffered-request-bytes":
        "200 whole, 503 request_memory_exhausted",
        "done 200, attempts 1; stamps to last_byte; 1 ms + refused 503, attempts 0, error \"request_memory_exhausted: too many request bodies at once; try again\"; no stamps; 0 ms",
        "kept";
    connections_are_used_up by Pipes "clients' connections are used up":
        "waits, and when another leaves 200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
}

/// A router that lets one request run, and a stream that runs until it is told to end.
async fn one_runs(s: &Stage, queue_size: usize) -> (crate::client::Client, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    s.worker(move |_| vec![stream_head(), event(1), Step::Wait(Arc::clone(&wait)), done()]).await;
    s.route(|c| {
        c.limits.max_concurrent = Some(1);
        c.limits.queue_size = queue_size;
        c.limits.queue_timeout = Duration::from_secs(7);
    })
    .await;
    let mut first = s.asking(generate_stream()).await;
    first.read_until("data: ").await;
    (first, go)
}

async fn the_queue_is_full(s: &Stage) -> String {
    let (mut first, go) = one_runs(s, 1).await;
    let mut second = s.asking(generate_stream()).await;
    s.settle().await;
    let third = s.ask(generate()).await;
    assert_eq!(third.header("retry-after"), Some("1"));
    let fourth = s.ask("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 999\r\n\r\n").await.line();
    go.notify_one();
    let first = first.answer().await.line();
    go.notify_one();
    let second = second.answer().await.line();
    format!("{first}, {second}; then {}; without its body {fourth}", third.line())
}

async fn the_queue_takes_too_long(s: &Stage) -> String {
    let (mut first, go) = one_runs(s, 1).await;
    let second = s.ask(generate()).await;
    assert_eq!(second.header("retry-after"), Some("1"));
    go.notify_one();
    format!("{}, {}", first.answer().await.line(), second.line())
}

async fn bodies_use_up_the_memory(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|c| c.max_buffered_request_bytes = 100).await;
    let head = "POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 90\r\n\r\n";
    let mut slow = s.asking(head.to_owned() + "a".repeat(80).as_str()).await;
    s.settle().await;
    assert_eq!(s.shared().budget.used_bytes(), 80);
    let shed = s.ask(post("/generate", &"b".repeat(30))).await;
    assert_eq!(shed.header("retry-after"), Some("1"));
    slow.send("a".repeat(10)).await;
    format!("{}, {}", slow.answer().await.line(), shed.line())
}

async fn connections_are_used_up(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|c| c.max_connections = 2).await;
    let idle = [s.client().await, s.client().await];
    s.settle().await;
    let mut third = s.asking(generate()).await;
    s.settle().await;
    assert_eq!(s.shared().requests.load(std::sync::atomic::Ordering::Relaxed), 0, "it is not let in");
    drop(idle);
    format!("waits, and when another leaves {}", third.answer().await.line())
}
