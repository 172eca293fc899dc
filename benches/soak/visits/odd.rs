//! Clients that ask for what they do not get, and some that ask the router itself.

use super::{exchange, read};
use crate::dice::Dice;
use crate::ledger::count;
use crate::line::{Line, Until};
use crate::router::MAX_PAYLOAD_BYTES;
use crate::seen::End;
use crate::stage::{Shape, Stage};

/// A body above the limit, announced or not.
pub async fn sends_too_much(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let least_bytes = MAX_PAYLOAD_BYTES + dice.between(1, 300_000) as usize;
    let shape = Shape { least_bytes, is_chunked: dice.one_in(2), ..Shape::default() };
    let asked = stage.ask("too big", dice, shape).await;
    exchange(stage, &mut line, &asked).await;
}

/// The router's own endpoints, and a path that is a worker's.
pub async fn asks_the_router(stage: &Stage, dice: &mut Dice, mut line: Line) {
    for _ in 0..dice.between(1, 4) {
        let (method, target) = dice.pick(&[
            (2, ("GET", "/health")),
            (2, ("GET", "/readiness")),
            (2, ("GET", "/workers")),
            (2, ("GET", "/v1/models")),
            (1, ("GET", "/get_server_info")),
            (1, ("GET", "/get_loads")),
            (1, ("POST", "/flush_cache")),
            (2, ("POST", "/abort_request")),
            (1, ("DELETE", "/health")),
            (2, ("GET", "/of/a/worker?q=1")),
            (1, ("POST", "/of/a/worker")),
        ]);
        // One that may be in flight just now, under the name that it may have been given.
        let some = stage.ledger.tally().asked.saturating_sub(dice.between(1, 40));
        let body = if target == "/abort_request" { format!(r#"{{"rid":"r{some}"}}"#) } else { String::new() };
        let asked = stage.ask_plain("asks the router", method, target, &body).await;
        if !exchange(stage, &mut line, &asked).await {
            return;
        }
    }
}

/// Requests that can be read and are refused.
pub async fn refused(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let asked = stage.ask("refused", dice, Shape::default()).await;
    let head = String::from_utf8_lossy(&asked.head).into_owned();
    let bytes = match dice.between(1, 4) {
        1 => [head.replacen("host: soak\r\n", "", 1).as_bytes(), &asked.body[..]].concat(),
        2 => [head.replacen("host: soak\r\n", "host: soak\r\nhost: b\r\n", 1).as_bytes(), &asked.body[..]]
            .concat(),
        3 => {
            let length = format!("content-length: {}\r\n", asked.body.len());
            [
                head.replacen(&length, "transfer-encoding: chunked\r\n", 1).as_bytes(),
                b"2\r\n{}\r\nno size\r\n",
            ]
            .concat()
        }
        _ => {
            let upgrade = "host: soak\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
            [head.replacen("host: soak\r\n", upgrade, 1).as_bytes(), &asked.body[..]].concat()
        }
    };
    line.send(&bytes).await;
    read(stage, &mut line, asked.number).await;
}

/// What is no request: the router says so and notes the connection.
pub async fn unreadable(stage: &Stage, dice: &mut Dice, mut line: Line) {
    let huge = format!("GET / HTTP/1.1\r\nhost: s\r\nx: {}\r\n\r\n", "a".repeat(200_000));
    let many = format!("GET / HTTP/1.1\r\nhost: s\r\n{}\r\n", "x: y\r\n".repeat(120));
    let post = "POST /generate HTTP/1.1\r\nhost: s\r\n";
    let (bytes, status) = match dice.between(1, 10) {
        1 => ("\u{16}\u{3}\u{1} not http\r\n\r\n".to_owned(), 400),
        2 => (huge, 431),
        3 => (many, 431),
        4 => (format!("{post}content-length: +5\r\n\r\nhello"), 400),
        5 => (format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nhello!"), 400),
        6 => (format!("{post}transfer-encoding: gzip\r\n\r\n"), 400),
        7 => (format!("{post}x-a: b\r\n folded: c\r\ncontent-length: 0\r\n\r\n"), 400),
        8 => (format!("{post}x bad: name\r\ncontent-length: 0\r\n\r\n"), 400),
        // Half a head, and gone.
        9 => (post.to_owned(), 0),
        _ => {
            line.send(post.as_bytes()).await;
            line.reset();
            count(&stage.ledger.perhaps_unreadable);
            return;
        }
    };
    count(&stage.ledger.unreadable);
    line.send(bytes.as_bytes()).await;
    if status == 0 {
        line.half_close().await;
    }
    let told = line.farewell().await;
    if told != status {
        let start: String = bytes.chars().take(60).collect();
        stage.ledger.complain(format!("{start:?} was told {told}, not {status}"));
    }
}

/// An errand of the operator's: status and body of the whole answer.
pub async fn errand(stage: &Stage, method: &str, target: &str, body: &str) -> Option<(u16, Vec<u8>)> {
    let mut line = super::connect(stage, false).await?;
    let asked = stage.ask_plain("operator", method, target, body).await;
    line.send(&asked.bytes()).await;
    let got = line.answer(asked.number, Until::End).await;
    stage.ledger.end(asked.number, got.end, |seen| got.note(asked.number, seen));
    (got.end == End::Whole).then_some((got.status, got.body))
}
