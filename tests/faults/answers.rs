//! Workers whose answer breaks, or is none.

use std::time::Duration;

use crate::client::{generate, generate_stream, post};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::{Reads, Step, chunk, done, event, first, json, ok, send, stream_head};

rows! {
    "Workers whose answer breaks";
    closes_in_mid_head by Pipes "the worker closes in the middle of its head; there is another":
        "502 call_upstream_bad_answer",
        "worker_reset 502, attempts 1, error \"call_upstream_bad_answer: the worker's answer could not be read: the connection closed before a whole response head\"; stamps to first_byte; 0 ms",
        "ended by the worker";
    resets_in_mid_head by Sockets "the worker resets the connection in the middle of its head":
        "502 call_upstream_bad_answer",
        "worker_reset 502, attempts 1, error \"call_upstream_bad_answer: the worker's answer could not be read: Connection reset by peer\"; stamps to first_byte",
        "ended by the worker";
    an_answer_that_is_not_http by Pipes "the worker's answer is not HTTP":
        "502 call_upstream_bad_answer",
        "worker_reset 502, attempts 1, error \"call_upstream_bad_answer: the worker's answer could not be read: a version other than HTTP/1.0 and HTTP/1.1\"; stamps to first_byte; 0 ms",
        "closed after 0 ms";
    switches_protocols by Pipes "the worker switches protocols unasked":
        "502 call_upstream_bad_answer",
        "worker_reset 502, attempts 1, error \"call_upstream_bad_answer: the worker's answer could not be read: it switched protocols unasked\"; stamps to first_byte; 0 ms",
        "closed after 0 ms";
    a_head_without_end by Pipes "the worker's head does not end in 256 KiB":
        "502 call_upstream_bad_answer",
        "worker_reset 502, attempts 1, error \"call_upstream_bad_answer: the worker's answer could not be read: a response head that is too large\"; stamps to first_byte; 0 ms",
        "closed after 0 ms";
    a_head_byte_a_second by Pipes "the worker sends its answer a byte a second":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 39 s",
        "kept";
    closes_in_mid_body by Pipes "Content-Length too long: the worker closes before it has sent all":
        "200 cut after 8 B, closed",
        "worker_reset 200, attempts 1, error \"the connection closed before the answer had ended\"; stamps to head; 0 ms",
        "ended by the worker";
    resets_in_mid_body by Sockets "the worker resets the connection in the middle of a body":
        "200 cut after 8 B, closed",
        "worker_reset 200, attempts 1, error \"Connection reset by peer\"; stamps to head",
        "ended by the worker";
    stalls_in_mid_body by Pipes "Content-Length too long: the worker sends no more and does not close":
        "200 cut after 8 B, closed",
        "timed_out 200, attempts 1, error \"the answer did not end in --request-timeout-secs\"; stamps to head; 1800 s",
        "closed after 0 ms";
    more_than_announced by Pipes "Content-Length too short: more comes than was announced":
        "200 whole `{}`, 200 whole `\"mine\"`",
        "done 200, attempts 1; stamps to last_byte; 0 ms ×2",
        "closed after 0 ms, kept";
    two_lengths_in_the_answer by Pipes "two Content-Length in the worker's head that differ":
        "502 call_upstream_bad_answer",
        "worker_reset 502, attempts 1, error \"call_upstream_bad_answer: the worker's answer could not be read: two lengths that differ\"; stamps to first_byte; 0 ms",
        "closed after 0 ms";
    closes_in_mid_stream by Pipes "the worker closes between two events of a stream":
        "200 cut after 208 B, closed",
        "worker_reset 200, attempts 1, error \"the connection closed before the answer had ended\"; stamps to first_token; 0 ms",
        "ended by the worker";
    resets_in_mid_stream by Sockets "the worker resets the connection between two events":
        "200 cut after 104 B, closed",
        "worker_reset 200, attempts 1, error \"Connection reset by peer\"; stamps to first_token",
        "ended by the worker";
    closes_in_mid_event by Pipes "the worker sends half an event and closes":
        "200 cut after 120 B, closed",
        "worker_reset 200, attempts 1, error \"the connection closed before the answer had ended\"; stamps to first_token; 0 ms",
        "ended by the worker";
    ends_in_mid_event by Pipes "the worker sends half an event and ends its stream":
        "200 whole",
        "worker_error 200, attempts 1, error \"truncated\"; stamps to last_byte; 0 ms",
        "kept";
    a_bad_chunk_in_the_answer by Pipes "the worker's second chunk has no size":
        "200 cut after 104 B, closed",
        "worker_reset 200, attempts 1, error \"a chunked body that is broken\"; stamps to first_token; 0 ms",
        "closed after 0 ms";
    stalls_in_mid_stream by Pipes "the worker sends two events and no more":
        "200 cut after 208 B, closed",
        "timed_out 200, attempts 1, error \"the answer did not end in --request-timeout-secs\"; stamps to first_token; 1800 s",
        "closed after 0 ms";
    no_done by Pipes "a stream that ends without [DONE]":
        "200 whole",
        "worker_error 200, attempts 1, error \"truncated\"; stamps to last_byte; 0 ms",
        "kept";
    an_error_event by Pipes "an error event in a stream, as SGLang reports errors there":
        "200 whole",
        "worker_error 200, attempts 1, error \"error_event 500\"; stamps to last_byte; 0 ms",
        "kept";
    no_tokens by Pipes "a 200 with no tokens though some were asked for":
        "200 whole",
        "worker_error 200, attempts 1, error \"no_tokens\"; stamps to last_byte; 0 ms",
        "kept";
    no_tokens_in_a_stream by Pipes "a stream with no tokens":
        "200 whole",
        "worker_error 200, attempts 1, error \"no_tokens\"; stamps to last_byte without first_event, first_token; 0 ms",
        "kept";
    answers_early_and_goes_on by Pipes "the worker answers 413 before it has read a request of 1 MiB":
        "413 whole",
        "worker_error 413, attempts 1, error \"http_status 413\"; stamps to last_byte; 0 ms",
        "closed after 0 ms";
    answers_early_and_closes by Sockets "the worker answers 413 before it has read a request of 8 MiB, and closes":
        "413 whole",
        "worker_error 413, attempts 1, error \"http_status 413\"; stamps to last_byte",
        "ended by the worker";
}

const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"text\":";

/// One plain request to a worker that does this; a second worker should not hear of it.
async fn plain(s: &Stage, steps: Vec<Step>) -> String {
    once(s, steps, generate()).await
}

/// The same with a streamed request.
async fn stream(s: &Stage, steps: Vec<Step>) -> String {
    once(s, [vec![stream_head(), event(1)], steps].concat(), generate_stream()).await
}

async fn once(s: &Stage, steps: Vec<Step>, request: String) -> String {
    s.worker(move |_| steps.clone()).await;
    let other = s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let seen = s.ask(request).await.line();
    assert!(other.requests().is_empty(), "an answer had begun");
    seen
}

async fn closes_in_mid_head(s: &Stage) -> String {
    plain(s, vec![send("HTTP/1.1 200 OK\r\ncontent-le"), Step::Close]).await
}

async fn resets_in_mid_head(s: &Stage) -> String {
    s.worker(|_| vec![send("HTTP/1.1 200 OK\r\ncontent-le"), Step::Reset]).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn an_answer_that_is_not_http(s: &Stage) -> String {
    plain(s, vec![send("hello\r\n"), Step::UntilClosed]).await
}

async fn switches_protocols(s: &Stage) -> String {
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    plain(s, vec![send(head), Step::UntilClosed]).await
}

async fn a_head_without_end(s: &Stage) -> String {
    let head = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(300 * 1024));
    plain(s, vec![send(head), Step::UntilClosed]).await
}

async fn a_head_byte_a_second(s: &Stage) -> String {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    s.worker(move |_| vec![Step::Drip(answer.clone(), Duration::from_secs(1))]).await;
    s.route(|_| {}).await;
    s.ask(post("/other", "{}")).await.line()
}

async fn closes_in_mid_body(s: &Stage) -> String {
    plain(s, vec![send(LONG), Step::Close]).await
}

async fn resets_in_mid_body(s: &Stage) -> String {
    reset_after(s, vec![send(LONG)], generate(), "{\"text\":").await
}

/// The worker resets once the client has what came before: a reset overtakes what is on its way.
async fn reset_after(s: &Stage, steps: Vec<Step>, request: String, seen: &str) -> String {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let steps = [steps, vec![Step::Wait(std::sync::Arc::clone(&go)), Step::Reset]].concat();
    s.worker(move |_| steps.clone()).await;
    s.route(|_| {}).await;
    let mut client = s.asking(request).await;
    client.read_until(seen).await;
    go.notify_one();
    client.answer().await.line()
}

async fn stalls_in_mid_body(s: &Stage) -> String {
    plain(s, vec![send(LONG), Step::UntilClosed]).await
}

async fn more_than_announced(s: &Stage) -> String {
    let more = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}, and this";
    s.worker(first(vec![send(more), Step::UntilClosed], vec![json(200, "\"mine\"")])).await;
    s.route(|_| {}).await;
    let mut client = s.asking(post("/other", "{}")).await;
    let one = client.answer().await;
    client.send(post("/other", "{}")).await;
    let two = client.answer().await;
    format!(
        "{} `{}`, {} `{}`",
        one.line(),
        String::from_utf8_lossy(&one.body),
        two.line(),
        String::from_utf8_lossy(&two.body)
    )
}

async fn two_lengths_in_the_answer(s: &Stage) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}";
    plain(s, vec![send(head), Step::UntilClosed]).await
}

async fn closes_in_mid_stream(s: &Stage) -> String {
    stream(s, vec![event(2), Step::Close]).await
}

async fn resets_in_mid_stream(s: &Stage) -> String {
    reset_after(s, vec![stream_head(), event(1)], generate_stream(), "data: ").await
}

async fn closes_in_mid_event(s: &Stage) -> String {
    stream(s, vec![chunk("data: {\"text\":\"w"), Step::Close]).await
}

async fn ends_in_mid_event(s: &Stage) -> String {
    stream(s, vec![chunk("data: {\"text\":\"w"), send("0\r\n\r\n")]).await
}

async fn a_bad_chunk_in_the_answer(s: &Stage) -> String {
    stream(s, vec![send("zz\r\nhello\r\n"), Step::UntilClosed]).await
}

async fn stalls_in_mid_stream(s: &Stage) -> String {
    stream(s, vec![event(2), Step::UntilClosed]).await
}

async fn no_done(s: &Stage) -> String {
    stream(s, vec![event(2), send("0\r\n\r\n")]).await
}

async fn an_error_event(s: &Stage) -> String {
    let error = "data: {\"error\":{\"message\":\"out of memory\",\"code\":500}}\n\n";
    stream(s, vec![chunk(error), done()]).await
}

async fn no_tokens(s: &Stage) -> String {
    let body = r#"{"text":"","meta_info":{"finish_reason":{"type":"stop"},"prompt_tokens":3,"completion_tokens":0}}"#;
    plain(s, vec![json(200, body)]).await
}

async fn no_tokens_in_a_stream(s: &Stage) -> String {
    once(s, vec![stream_head(), done()], generate_stream()).await
}

/// The connection cannot carry another request, as the worker has not had the whole of this one.
async fn answers_early_and_goes_on(s: &Stage) -> String {
    let steps = vec![json(413, "{\"error\":\"too long\"}"), Step::UntilClosed];
    s.worker_that(Reads::Head, move |_| steps.clone()).await;
    s.route(|_| {}).await;
    s.ask(post("/generate", &"x".repeat(1 << 20))).await.line()
}

async fn answers_early_and_closes(s: &Stage) -> String {
    let steps = vec![json(413, "{\"error\":\"too long\"}"), Step::Close];
    s.worker_that(Reads::Head, move |_| steps.clone()).await;
    s.route(|_| {}).await;
    s.ask(post("/generate", &"x".repeat(8 << 20))).await.line()
}
