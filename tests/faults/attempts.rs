//! Workers that give no answer.

use std::time::Duration;

use crate::client::{generate, post};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::{Reads, Step, first, json, ok, send};

rows! {
    "Workers that give no answer";
    refuses_and_another_is_there by Pipes "the worker refuses the connection; there is another":
        "200 whole",
        "done 200, attempts 2 (W0 connect: connection refused); stamps to last_byte; 0 ms",
        "kept";
    refuses_and_nobody_else_is_there by Pipes "the only worker refuses the connection":
        "502 call_upstream_connection_failed",
        "unreachable 502, attempts 5 (W0 connect: connection refused), error \"call_upstream_connection_failed: no worker could be reached; the last one said: connect: connection refused\"; stamps to decided; 453 ms",
        "none";
    refuses_on_a_socket by Sockets "nobody listens at the worker's port; there is another worker":
        "200 whole",
        "done 200, attempts 2 (W0 connect: Connection refused); stamps to last_byte",
        "kept";
    resets_before_the_head by Sockets "the worker reads the request and resets the connection; there is another":
        "200 whole",
        "done 200, attempts 2 (W0 Connection reset by peer); stamps to last_byte",
        "ended by the worker, kept";
    closes_before_the_head by Pipes "the worker reads the request and closes; there is another":
        "200 whole",
        "done 200, attempts 2 (W0 the connection closed before a whole response head); stamps to last_byte; 0 ms",
        "ended by the worker, kept";
    closes_before_the_head_of_what_is_not_sent_twice by Pipes "the worker reads a POST that is not known to be harmless and closes; there is another":
        "502 call_upstream_connection_failed",
        "unreachable 502, attempts 1 (W0 the connection closed before a whole response head; it had the request, and this kind is not sent twice), error \"call_upstream_connection_failed: no worker could be reached; the last one said: the connection closed before a whole response head; it had the request, and this kind is not sent twice\"; stamps to decided; 0 ms",
        "ended by the worker";
    resets_a_reused_connection by Sockets "the worker resets a kept connection when the second request comes":
        "200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte + done 200, attempts 1, reconnects 1; stamps to last_byte",
        "ended by the worker, kept";
    closes_a_reused_connection by Pipes "the worker closes a kept connection when the second request comes":
        "200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms + done 200, attempts 1, reconnects 1; stamps to last_byte; 0 ms",
        "ended by the worker, kept";
    closes_a_reused_connection_late by Pipes "the worker closes a kept connection 2 s after the second request came; there is another":
        "200 whole, 200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms ×2 + done 200, attempts 2 (W0 the connection closed before a whole response head); stamps to last_byte; 2000 ms",
        "ended by the worker, kept";
    closes_while_idle by Pipes "the worker closes a connection that is kept":
        "200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms ×2",
        "ended by the worker, kept";
    speaks_while_idle by Pipes "the worker says something on a connection that is kept":
        "200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms ×2",
        "closed after 0 ms, kept";
    stalls_before_the_head by Pipes "the worker never answers":
        "504 call_upstream_timeout",
        "timed_out 504, attempts 1 (W0 no response head in time), error \"call_upstream_timeout: the worker did not answer in time\"; stamps to decided; 1800 s",
        "closed after 0 ms";
    takes_nothing by Pipes "the worker takes 64 KiB of a longer request and no more":
        "504 call_upstream_timeout",
        "timed_out 504, attempts 1 (W0 no response head in time), error \"call_upstream_timeout: the worker did not answer in time\"; stamps to decided; 1800 s",
        "closed after 0 ms";
    answers_500_and_another_is_there by Pipes "the worker answers 500; there is another":
        "200 whole",
        "done 200, attempts 2 (W0 status 500); stamps to last_byte; 0 ms",
        "closed after 0 ms, kept";
    all_answer_503 by Pipes "every worker answers 503, every time":
        "503 whole",
        "worker_error 503, attempts 5 (W0 status 503; W1 status 503; W0 status 503; W1 status 503), error \"http_status 503\"; stamps to last_byte; 139 ms",
        "closed after 0 ms ×4, kept";
    no_worker_at_all by Pipes "there is no worker":
        "503 no_available_workers",
        "unreachable 503, attempts 0, error \"no_available_workers: no worker is available; GET /workers says why\"; stamps to body_read; 0 ms",
        "none";
}

async fn refuses_and_another_is_there(s: &Stage) -> String {
    s.dead_worker().await;
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn refuses_and_nobody_else_is_there(s: &Stage) -> String {
    s.dead_worker().await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn refuses_on_a_socket(s: &Stage) -> String {
    let dead = s.dead_worker().await;
    s.worker(|_| ok()).await;
    s.until("the port is closed", || dead.open() == 0).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn resets_before_the_head(s: &Stage) -> String {
    s.worker(|_| vec![Step::Reset]).await;
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn closes_before_the_head(s: &Stage) -> String {
    s.worker(|_| vec![Step::Close]).await;
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn closes_before_the_head_of_what_is_not_sent_twice(s: &Stage) -> String {
    s.worker(|_| vec![Step::Close]).await;
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    s.ask(post("/open_session", "{}")).await.line()
}

/// Two requests on one connection to the worker, which does `then` when the second has come.
async fn second(s: &Stage, then: Vec<Step>) -> String {
    s.worker(move |got| if got.earlier == 1 { then.clone() } else { ok() }).await;
    s.route(|_| {}).await;
    let one = s.ask(generate()).await.line();
    format!("{one}, {}", s.ask(generate()).await.line())
}

async fn resets_a_reused_connection(s: &Stage) -> String {
    second(s, vec![Step::Reset]).await
}

async fn closes_a_reused_connection(s: &Stage) -> String {
    second(s, vec![Step::Close]).await
}

async fn closes_a_reused_connection_late(s: &Stage) -> String {
    let late = vec![Step::Pause(Duration::from_secs(2)), Step::Close];
    s.worker(first(ok(), late)).await;
    let other = s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let mut seen = Vec::new();
    // Round robin: the third is at the first worker again.
    for _ in 0..3 {
        seen.push(s.ask(generate()).await.line());
    }
    assert_eq!(other.requests().len(), 2);
    seen.join(", ")
}

/// Two requests, the first on a connection with which the worker does `meanwhile` after its answer.
async fn meanwhile(s: &Stage, meanwhile: Step) -> String {
    s.worker(first([ok(), vec![Step::Pause(Duration::from_secs(1)), meanwhile]].concat(), ok())).await;
    s.route(|_| {}).await;
    let one = s.ask(generate()).await.line();
    tokio::time::sleep(Duration::from_secs(2)).await;
    format!("{one}, {}", s.ask(generate()).await.line())
}

async fn closes_while_idle(s: &Stage) -> String {
    meanwhile(s, Step::Close).await
}

async fn speaks_while_idle(s: &Stage) -> String {
    meanwhile(s, send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")).await
}

async fn stalls_before_the_head(s: &Stage) -> String {
    s.worker(|_| vec![Step::UntilClosed]).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn takes_nothing(s: &Stage) -> String {
    let stall = vec![Step::Pause(Duration::from_secs(1_800)), Step::UntilClosed];
    s.worker_that(Reads::Head, move |_| stall.clone()).await;
    s.route(|_| {}).await;
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20));
    s.ask(post("/generate", &long)).await.line()
}

async fn answers_500_and_another_is_there(s: &Stage) -> String {
    s.worker(|_| vec![json(500, "{}")]).await;
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn all_answer_503(s: &Stage) -> String {
    for _ in 0..2 {
        s.worker(|_| vec![json(503, "{}")]).await;
    }
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}

async fn no_worker_at_all(s: &Stage) -> String {
    s.route(|_| {}).await;
    s.ask(generate()).await.line()
}
