//! Clients that take their time.

use std::time::Duration;

use crate::client::{generate, post};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::{Step, ok, send};

rows! {
    "Clients that take their time";
    says_nothing by Pipes "the client connects and says nothing":
        "closed, no answer after 75 s",
        "connection: no request in time",
        "none";
    says_nothing_more by Pipes "the client says nothing more after an answer":
        "200 whole; closed, no answer after 75 s",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    a_header_byte_a_second by Pipes "the client sends a byte of its head a second":
        "408 whole, 78 bytes sent",
        "connection: no whole request head in time",
        "none";
    a_short_head_byte_a_second by Pipes "the client sends a byte of its head a second; it is whole in 60 s":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    a_body_byte_a_second by Pipes "the client sends a byte of a long body a second":
        "408 request_body_timeout, 1803 bytes sent",
        "timed_out 408, attempts 0, error \"request_body_timeout: the request body did not arrive in time\"; no stamps; 1800 s",
        "none";
    a_short_body_byte_a_second by Pipes "the client sends a byte of its body a second; it is whole in 30 s":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 29 s",
        "kept";
    never_continues by Pipes "the client asks to be told to go on, is told, and does not":
        "100 whole, 408 request_body_timeout",
        "timed_out 408, attempts 0, error \"request_body_timeout: the request body did not arrive in time\"; no stamps; 1800 s",
        "none";
    reads_a_byte_a_second by Pipes "the client reads a byte of a long answer a second":
        "200 cut after 67012 B, closed, 3000 bytes read in as many seconds",
        "timed_out 200, attempts 1, error \"the answer did not end in --request-timeout-secs\"; stamps to head; 1800 s",
        "closed after 0 ms";
    reads_a_short_answer_slowly by Pipes "the client reads a byte of a short answer a second":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    reads_in_time by Pipes "the client takes 100 s for an answer of 1 MiB":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 98 s",
        "kept";
    sends_all_of_what_is_refused by Sockets "the client sends 8 MiB that are refused by their head, and only then reads":
        "413 payload_too_large",
        "refused 413, attempts 0, error \"payload_too_large: the body is larger than --max-payload-size (1000 bytes)\"; no stamps",
        "none";
    does_not_read_a_refusal by Pipes "the client sends 10 MB that are refused by their head, and reads nothing":
        "the connection ends after 1 ms",
        "refused 413, attempts 0, error \"payload_too_large: the body is larger than --max-payload-size (1000 bytes)\"; no stamps; 0 ms",
        "none";
}

const SECOND: Duration = Duration::from_secs(1);

async fn says_nothing(s: &Stage) -> String {
    s.route(|_| {}).await;
    let mut client = s.client().await;
    let began = s.now();
    client.answer().await.line() + s.since(began).as_str()
}

async fn says_nothing_more(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let mut client = s.asking(generate()).await;
    let first = client.answer().await.line();
    let began = s.now();
    format!("{first}; {}{}", client.answer().await.line(), s.since(began))
}

async fn a_header_byte_a_second(s: &Stage) -> String {
    s.route(|_| {}).await;
    let mut client = s.client().await;
    let head = format!("POST /generate HTTP/1.1\r\nhost: r\r\nx: {}\r\n\r\n", "y".repeat(200));
    let sent = client.send_slowly(head, SECOND).await;
    format!("{}, {sent} bytes sent", client.answer().await.line())
}

async fn a_short_head_byte_a_second(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let mut client = s.client().await;
    client.send_slowly("GET /generate HTTP/1.1\r\nhost: r\r\n\r\n", SECOND).await;
    client.answer().await.line()
}

async fn a_body_byte_a_second(s: &Stage) -> String {
    let worker = s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let mut client = s.asking("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 9999\r\n\r\n").await;
    let sent = client.send_slowly("x".repeat(9_999), SECOND).await;
    assert!(worker.requests().is_empty());
    format!("{}, {sent} bytes sent", client.answer().await.line())
}

async fn a_short_body_byte_a_second(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let mut client = s.asking("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 30\r\n\r\n").await;
    client.send_slowly("{\"text\":\"one two three four\"}x", SECOND).await;
    client.answer().await.line()
}

async fn never_continues(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let head = "POST /generate HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\ncontent-length: 30\r\n\r\n";
    let mut client = s.asking(head).await;
    let told = client.answer().await.line();
    format!("{told}, {}", client.answer().await.line())
}

/// A client of a worker whose answer has so many bytes.
async fn asking_for(s: &Stage, bytes: usize) -> crate::client::Client {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
    s.worker(move |_| vec![send(&head), Step::Send(vec![b'x'; bytes])]).await;
    s.route(|_| {}).await;
    s.asking(post("/other", "{}")).await
}

async fn reads_a_byte_a_second(s: &Stage) -> String {
    let mut client = asking_for(s, 1 << 20).await;
    let read = client.read_slowly(3_000, SECOND).await;
    format!("{}, {read} bytes read in as many seconds", client.answer().await.line())
}

async fn reads_a_short_answer_slowly(s: &Stage) -> String {
    let mut client = asking_for(s, 100).await;
    client.read_slowly(300, SECOND).await;
    client.answer().await.line()
}

async fn reads_in_time(s: &Stage) -> String {
    let mut client = asking_for(s, 1 << 20).await;
    for _ in 0..100 {
        client.read_slowly(10_000, Duration::ZERO).await;
        tokio::time::sleep(SECOND).await;
    }
    client.answer().await.line()
}

async fn does_not_read_a_refusal(s: &Stage) -> String {
    s.route(|c| c.max_payload_bytes = 1_000).await;
    let mut client = s.client().await;
    let head = "POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 9999999\r\n\r\n".to_owned();
    client.offer(head + "x".repeat(9_999_999).as_str()).await;
    format!("the connection ends{}", s.since(Duration::ZERO))
}

async fn sends_all_of_what_is_refused(s: &Stage) -> String {
    s.route(|c| c.max_payload_bytes = 1_000).await;
    let mut client = s.client().await;
    client.offer(post("/generate", &"x".repeat(8 << 20))).await;
    client.answer().await.line()
}
