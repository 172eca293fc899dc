//! Clients that leave.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::client::{generate, generate_stream, post};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::{Step, Worker, event, json, ok, send, stream_head};

rows! {
    "Clients that leave";
    before_a_word by Pipes "the client connects and leaves without a word":
        "left",
        "none",
        "none";
    in_mid_head by Pipes "the client leaves in the middle of its head":
        "left",
        "connection: closed before a whole request head",
        "none";
    in_mid_head_by_reset by Sockets "the client resets its connection in the middle of its head":
        "left",
        "connection: broken before a whole request head: Connection reset by peer",
        "none";
    in_mid_body by Pipes "the client leaves in the middle of its body":
        "left",
        "client_gone 400, attempts 0, error \"request_body_incomplete: the request body could not be read\"; no stamps; 0 ms",
        "none";
    in_mid_body_by_reset by Sockets "the client resets its connection in the middle of its body":
        "left",
        "client_gone, attempts 0; no stamps",
        "none";
    in_the_queue by Pipes "the client leaves while it waits for --max-concurrent-requests":
        "200 whole; the second left",
        "done 200, attempts 1; stamps to last_byte; 3 ms + client_gone, attempts 0; stamps to limit_wait; 1 ms",
        "kept";
    in_a_pause_between_attempts by Pipes "the client leaves in the pause before another attempt":
        "left",
        "client_gone, attempts 1 (W0 status 503); stamps to decided; 1 ms",
        "closed after 0 ms";
    before_the_answer by Pipes "the client leaves before the answer's head":
        "left",
        "client_gone, attempts 1; stamps to router_send; 1 ms",
        "closed after 0 ms";
    before_the_answer_by_half_close by Pipes "the client closes its half before the answer's head":
        "closed, no answer",
        "client_gone, attempts 1; stamps to router_send; 1 ms",
        "closed after 0 ms";
    before_the_answer_by_reset by Sockets "the client resets its connection before the answer's head":
        "left",
        "client_gone, attempts 1; stamps to router_send",
        "closed";
    in_mid_answer by Pipes "the client leaves in the middle of a plain answer":
        "left",
        "client_gone 200, attempts 1; stamps to head; 1 ms",
        "closed after 0 ms";
    in_mid_stream by Pipes "the client leaves a stream between two events":
        "left",
        "client_gone 200, attempts 1; stamps to first_token; 1 ms",
        "closed after 0 ms";
    in_mid_stream_by_half_close by Pipes "the client closes its half between two events":
        "left; the stream is cut",
        "client_gone 200, attempts 1; stamps to first_token; 1 ms",
        "closed after 0 ms";
    in_mid_stream_by_reset by Sockets "the client resets its connection between two events":
        "left",
        "client_gone 200, attempts 1; stamps to first_token",
        "closed";
    after_a_second_request by Pipes "the client has sent a second request ahead and leaves before the first answer":
        "left",
        "client_gone, attempts 1; stamps to router_send; 2 ms",
        "closed after 0 ms";
    after_a_part_of_a_second_head by Pipes "the client has sent half a head ahead and leaves in mid-stream":
        "left",
        "client_gone 200, attempts 1; stamps to first_token; 2 ms",
        "closed after 0 ms";
    after_far_more_was_sent_ahead by Sockets "the client has sent 90 requests of 1 kB ahead, more than is taken in, and leaves before the first answer":
        "left",
        "client_gone, attempts 1; stamps to router_send",
        "closed";
    while_it_takes_nothing by Sockets "the client leaves with 32 MiB of answer unread":
        "left",
        "client_gone 200, attempts 1; stamps to head",
        "closed";
    while_it_takes_nothing_by_half_close by Pipes "the client closes its half and takes nothing of a long answer":
        "200 cut after 65211 B, closed",
        "client_gone 200, attempts 1; stamps to head; 1 ms",
        "closed after 0 ms";
    after_a_whole_answer by Pipes "the client leaves after a whole answer":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    two_thousand_at_once by Pipes "2,000 clients leave their streams in one moment":
        "left",
        "client_gone 200, attempts 1; stamps to first_token; 0 ms ×2000",
        "closed after 0 ms ×2000";
}

async fn before_a_word(s: &Stage) -> String {
    s.route(|_| {}).await;
    drop(s.client().await);
    "left".to_owned()
}

async fn in_mid_head(s: &Stage) -> String {
    s.route(|_| {}).await;
    drop(s.asking("POST /generate HTTP/1.1\r\nhost:").await);
    "left".to_owned()
}

async fn in_mid_head_by_reset(s: &Stage) -> String {
    s.route(|_| {}).await;
    let client = s.asking("POST /generate HTTP/1.1\r\nhost:").await;
    // A connection that is reset before it was accepted is not seen by anybody.
    s.until_connected().await;
    client.reset();
    "left".to_owned()
}

async fn in_mid_body(s: &Stage) -> String {
    let worker = s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    drop(s.asking("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 100\r\n\r\n{\"text\":").await);
    s.settle().await;
    unheard(&worker)
}

async fn in_mid_body_by_reset(s: &Stage) -> String {
    let worker = s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let client =
        s.asking("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 100\r\n\r\n{\"text\":").await;
    s.until_begun(1).await;
    client.reset();
    s.settle().await;
    unheard(&worker)
}

fn unheard(worker: &Worker) -> String {
    assert!(worker.requests().is_empty(), "no worker hears of it");
    "left".to_owned()
}

async fn in_the_queue(s: &Stage) -> String {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let worker = s.worker(move |_| [vec![Step::Wait(Arc::clone(&wait))], ok()].concat()).await;
    s.route(|c| c.limits.max_concurrent = Some(1)).await;
    let mut first = s.asking(generate()).await;
    s.settle().await;
    let second = s.asking(generate()).await;
    s.settle().await;
    let counts = || s.shared().limit.as_ref().unwrap().counts();
    assert_eq!((counts().running, counts().queued), (1, 1));
    drop(second);
    s.settle().await;
    assert_eq!((counts().running, counts().queued), (1, 0));
    go.notify_one();
    let seen = first.answer().await.line();
    assert_eq!(worker.requests().len(), 1);
    format!("{seen}; the second left")
}

async fn in_a_pause_between_attempts(s: &Stage) -> String {
    let worker = s.worker(|_| vec![json(503, "{}")]).await;
    s.route(|c| c.retry.initial_backoff = Duration::from_secs(5)).await;
    let client = s.asking(generate()).await;
    s.settle().await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(worker.requests().len(), 1, "nobody asks again");
    "left".to_owned()
}

/// A worker that keeps its request, and a client whose request is there.
async fn held(s: &Stage, steps: Vec<Step>, request: String) -> crate::client::Client {
    let worker = s.worker(move |_| [steps.clone(), vec![Step::UntilClosed]].concat()).await;
    s.route(|_| {}).await;
    let client = s.asking(request).await;
    s.until("the worker has it", || worker.requests().len() == 1).await;
    client
}

async fn before_the_answer(s: &Stage) -> String {
    drop(held(s, Vec::new(), generate()).await);
    "left".to_owned()
}

async fn before_the_answer_by_half_close(s: &Stage) -> String {
    let mut client = held(s, Vec::new(), generate()).await;
    client.half_close().await;
    client.answer().await.line()
}

async fn before_the_answer_by_reset(s: &Stage) -> String {
    held(s, Vec::new(), generate()).await.reset();
    "left".to_owned()
}

const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"text\":";

async fn in_mid_answer(s: &Stage) -> String {
    let mut client = held(s, vec![send(LONG)], generate()).await;
    client.read_until("{\"text\":").await;
    drop(client);
    "left".to_owned()
}

/// A client that has the first event of its stream.
async fn streaming(s: &Stage) -> crate::client::Client {
    let mut client = held(s, vec![stream_head(), event(1)], generate_stream()).await;
    client.read_until("data: ").await;
    client
}

async fn in_mid_stream(s: &Stage) -> String {
    drop(streaming(s).await);
    "left".to_owned()
}

async fn in_mid_stream_by_half_close(s: &Stage) -> String {
    let mut client = streaming(s).await;
    client.half_close().await;
    assert!(client.ends().await);
    "left; the stream is cut".to_owned()
}

async fn in_mid_stream_by_reset(s: &Stage) -> String {
    streaming(s).await.reset();
    "left".to_owned()
}

async fn after_a_second_request(s: &Stage) -> String {
    let mut client = held(s, Vec::new(), generate()).await;
    client.send(generate()).await;
    s.settle().await;
    drop(client);
    "left".to_owned()
}

async fn after_a_part_of_a_second_head(s: &Stage) -> String {
    let mut client = streaming(s).await;
    client.send("POST /generate HTTP/1.1\r\nho").await;
    s.settle().await;
    drop(client);
    "left".to_owned()
}

async fn after_far_more_was_sent_ahead(s: &Stage) -> String {
    let worker = s.worker(|_| vec![Step::UntilClosed]).await;
    s.route(|_| {}).await;
    let client = s.asking(post("/generate", &" ".repeat(1_000)).repeat(90)).await;
    s.until("the worker has the first", || worker.requests().len() == 1).await;
    drop(client);
    "left".to_owned()
}

async fn while_it_takes_nothing(s: &Stage) -> String {
    let length = 32 << 20;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    s.worker(move |_| vec![send(&head), Step::Send(vec![b'x'; length])]).await;
    s.route(|_| {}).await;
    let mut client = s.asking(post("/other", "{}")).await;
    client.read_until("\r\n\r\n").await;
    drop(client);
    "left".to_owned()
}

async fn while_it_takes_nothing_by_half_close(s: &Stage) -> String {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1 << 20);
    let answer = [head.into_bytes(), vec![b'x'; 1 << 20]].concat();
    s.worker(move |_| vec![Step::Send(answer.clone()), Step::UntilClosed]).await;
    s.route(|_| {}).await;
    let mut client = s.asking(post("/other", "{}")).await;
    s.settle().await;
    client.half_close().await;
    s.settle().await;
    client.answer().await.line()
}

async fn after_a_whole_answer(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn two_thousand_at_once(s: &Stage) -> String {
    let steps = vec![stream_head(), event(1), Step::UntilClosed];
    s.worker(move |_| steps.clone()).await;
    s.route(|_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..2_000 {
        let mut client = s.asking(generate_stream()).await;
        client.read_until("data: ").await;
        clients.push(client);
    }
    assert_eq!(s.shared().fleet.workers()[0].in_flight(), 2_000);
    drop(clients);
    "left".to_owned()
}
