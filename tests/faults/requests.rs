//! Requests that are refused, or that reach a worker in another form.

use crate::client::{Answer, post};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::ok;

rows! {
    "Requests that are not taken as they are";
    chunks_and_a_length by Pipes "Transfer-Encoding and Content-Length in one request, and another request behind it":
        "200 whole; worker got `POST /generate HTTP/1.1`, 5 B",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    two_lengths_that_differ by Pipes "two Content-Length that differ":
        "400 whole; worker got nothing",
        "connection: malformed request head: two lengths that differ",
        "none";
    two_hosts by Pipes "two Host":
        "400 bad_request, kept; worker got `GET /behind HTTP/1.1`",
        "refused 400, attempts 0, error \"bad_request: an HTTP/1.1 request needs one Host header\"; no stamps; 0 ms + done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    no_host by Pipes "HTTP/1.1 without Host":
        "400 bad_request, kept; worker got `GET /behind HTTP/1.1`",
        "refused 400, attempts 0, error \"bad_request: an HTTP/1.1 request needs one Host header\"; no stamps; 0 ms + done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    a_folded_header by Pipes "a header that goes on in the next line":
        "400 whole; worker got nothing",
        "connection: malformed request head: a header name with a character that may not be in one",
        "none";
    a_huge_head by Pipes "a head of 200 kB":
        "431 whole; worker got nothing",
        "connection: too large request head",
        "none";
    too_many_fields by Pipes "a head of 101 fields":
        "431 whole; worker got nothing",
        "connection: too large request head",
        "none";
    no_http by Pipes "bytes that are not HTTP":
        "400 whole; worker got nothing",
        "connection: malformed request head: a request line that is none",
        "none";
    http_2 by Pipes "the preface of HTTP/2":
        "400 whole; worker got nothing",
        "connection: malformed request head: a version other than HTTP/1.0 and HTTP/1.1",
        "none";
    absolute_form by Pipes "an absolute target":
        "200 whole, kept; worker got `GET /generate HTTP/1.1`",
        "done 200, attempts 1; stamps to last_byte; 0 ms ×2",
        "kept";
    connect by Pipes "CONNECT":
        "501 not_implemented, kept; worker got `GET /behind HTTP/1.1`",
        "refused 501, attempts 0, error \"not_implemented: CONNECT, TRACE and protocol upgrades are not proxied\"; no stamps; 0 ms + done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    upgrade_to_websocket by Pipes "Upgrade: websocket":
        "501 not_implemented, kept; worker got nothing",
        "refused 501, attempts 0, error \"not_implemented: CONNECT, TRACE and protocol upgrades are not proxied\"; no stamps; 0 ms + done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    upgrade_to_h2c by Pipes "Upgrade: h2c, which a server may pass over":
        "200 whole, kept; worker got `GET /generate HTTP/1.1`",
        "done 200, attempts 1; stamps to last_byte; 0 ms ×2",
        "kept";
    http_1_0 by Pipes "HTTP/1.0":
        "200 whole, closed",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    expect_continue by Pipes "Expect: 100-continue":
        "100 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    a_coded_body by Pipes "Transfer-Encoding: gzip, chunked":
        "501 not_implemented; worker got nothing",
        "refused 501, attempts 0, error \"not_implemented: of the transfer codings only chunked is proxied\"; no stamps; 0 ms",
        "none";
    a_bad_chunk by Pipes "a chunk whose size is no number":
        "400 request_body_incomplete; worker got nothing",
        "refused 400, attempts 0, error \"request_body_incomplete: the request body could not be read\"; no stamps; 0 ms",
        "none";
    a_chunk_of_wrong_size by Pipes "a chunk that is longer than its size":
        "400 request_body_incomplete; worker got nothing",
        "refused 400, attempts 0, error \"request_body_incomplete: the request body could not be read\"; no stamps; 0 ms",
        "none";
    an_announced_body_over_the_limit by Pipes "a body that is announced as larger than --max-payload-size":
        "413 payload_too_large, kept; worker got nothing",
        "refused 413, attempts 0, error \"payload_too_large: the body is larger than --max-payload-size (1000 bytes)\"; no stamps; 0 ms + done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    a_chunked_body_over_the_limit by Pipes "a chunked body that grows larger than --max-payload-size":
        "413 payload_too_large, kept; worker got `GET /behind HTTP/1.1`",
        "refused 413, attempts 0, error \"payload_too_large: the body is larger than --max-payload-size (1000 bytes)\"; no stamps; 0 ms + done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    a_body_that_is_not_json by Pipes "a body that is not JSON":
        "200 whole, kept; worker got `POST /generate HTTP/1.1`, 13 B",
        "done 200, attempts 1; stamps to last_byte; 0 ms ×2",
        "kept";
}

/// All answers to these bytes on one connection, and what the workers got.
async fn exchange(s: &Stage, bytes: impl AsRef<[u8]>) -> String {
    let worker = s.worker(|_| ok()).await;
    s.route(|c| c.max_payload_bytes = 1_000).await;
    let mut client = s.asking(bytes).await;
    let mut seen: Vec<String> = Vec::new();
    loop {
        let answer: Answer = client.answer().await;
        match answer.status {
            Some(_) => seen.push(answer.line()),
            None => break,
        }
        // One that is kept open has nothing more to say: another request on it shows that.
        if answer.whole && answer.header("connection") != Some("close") && answer.status != Some(100) {
            client.offer("GET /last HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n").await;
            let last = client.answer().await;
            assert_eq!(last.status, Some(200), "the connection is kept, and in step");
            seen.push("kept".to_owned());
            break;
        }
    }
    let got = worker.requests();
    let got: Vec<String> = got
        .iter()
        .filter(|g| !g.head.starts_with("GET /last "))
        .map(|g| {
            let line = g.head.lines().next().unwrap();
            let length = g.header("content-length").map(|n| format!(", {n} B")).unwrap_or_default();
            assert!(g.header("transfer-encoding").is_none() && g.head.matches("\r\nhost: ").count() == 1);
            format!("`{line}`{length}")
        })
        .collect();
    let got = if got.is_empty() { "nothing".to_owned() } else { got.join(", ") };
    format!("{}; worker got {got}", seen.join(", "))
}

const BEHIND: &str = "GET /behind HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n";

async fn with_fields(s: &Stage, fields: &str, body: &str) -> String {
    exchange(s, format!("POST /generate HTTP/1.1\r\nhost: r\r\n{fields}\r\n{body}{BEHIND}")).await
}

async fn chunks_and_a_length(s: &Stage) -> String {
    let both = "content-length: 3\r\ntransfer-encoding: chunked\r\n";
    with_fields(s, both, "5\r\nhello\r\n0\r\n\r\n").await
}

async fn two_lengths_that_differ(s: &Stage) -> String {
    with_fields(s, "content-length: 3\r\ncontent-length: 5\r\n", "hello").await
}

async fn two_hosts(s: &Stage) -> String {
    with_fields(s, "host: other\r\ncontent-length: 5\r\n", "hello").await
}

async fn no_host(s: &Stage) -> String {
    exchange(s, format!("GET /generate HTTP/1.1\r\n\r\n{BEHIND}")).await
}

async fn a_folded_header(s: &Stage) -> String {
    with_fields(s, "x: y\r\n z\r\ncontent-length: 5\r\n", "hello").await
}

async fn a_huge_head(s: &Stage) -> String {
    with_fields(s, &format!("x: {}\r\n", "y".repeat(200_000)), "").await
}

async fn too_many_fields(s: &Stage) -> String {
    with_fields(s, &"x: y\r\n".repeat(101), "").await
}

async fn no_http(s: &Stage) -> String {
    exchange(s, "hello\r\n").await
}

async fn http_2(s: &Stage) -> String {
    exchange(s, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await
}

async fn absolute_form(s: &Stage) -> String {
    exchange(s, "GET http://elsewhere/generate HTTP/1.1\r\nhost: elsewhere\r\n\r\n").await
}

async fn connect(s: &Stage) -> String {
    exchange(s, format!("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n{BEHIND}")).await
}

async fn upgrade_to_websocket(s: &Stage) -> String {
    let fields = "connection: upgrade\r\nupgrade: websocket\r\n";
    exchange(s, format!("GET /generate HTTP/1.1\r\nhost: r\r\n{fields}\r\n")).await
}

async fn upgrade_to_h2c(s: &Stage) -> String {
    let fields = "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    exchange(s, format!("GET /generate HTTP/1.1\r\nhost: r\r\n{fields}\r\n")).await
}

async fn http_1_0(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let mut client = s.asking("POST /generate HTTP/1.0\r\ncontent-length: 2\r\n\r\n{}").await;
    let answer = client.answer().await;
    assert!(answer.head.starts_with("HTTP/1.0 ") && client.ends().await);
    format!("{}, closed", answer.line())
}

async fn expect_continue(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let head = "POST /generate HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let mut client = s.asking(head).await;
    let told = client.answer().await.line();
    client.send("{}").await;
    format!("{told}, {}", client.answer().await.line())
}

async fn a_coded_body(s: &Stage) -> String {
    with_fields(s, "transfer-encoding: gzip, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n").await
}

async fn a_bad_chunk(s: &Stage) -> String {
    with_fields(s, "transfer-encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n").await
}

async fn a_chunk_of_wrong_size(s: &Stage) -> String {
    with_fields(s, "transfer-encoding: chunked\r\n", "4\r\nhello\r\n0\r\n\r\n").await
}

async fn an_announced_body_over_the_limit(s: &Stage) -> String {
    exchange(s, post("/generate", &"x".repeat(1_001))).await
}

async fn a_chunked_body_over_the_limit(s: &Stage) -> String {
    let chunk = format!("100\r\n{}\r\n", "x".repeat(256)).repeat(4);
    with_fields(s, "transfer-encoding: chunked\r\n", &format!("{chunk}0\r\n\r\n")).await
}

async fn a_body_that_is_not_json(s: &Stage) -> String {
    exchange(s, post("/generate", "{\"text\": nope")).await
}
