//! Streams, slow clients and clients that leave.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::process::{look_for, until};
use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};
use crate::worker::{Gate, begin_stream, close, send_chunk};

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Streams",
    groups: &[Group {
        flags: "--policy round_robin --disable-retries --disable-circuit-breaker",
        workers: 1,
        cases: &[
            same(
                "an event reaches the client before the next is there",
                event_by_event,
                r#"200 whole: true ends with "data: [DONE]""#,
            ),
            same(
                "chunks of the worker at the client",
                chunks,
                r#"": comment\r\n\r\ndata: {\"text\":\"é\"}\n\n""#,
            ),
            same("a stream that stops in its middle", cut, "200, whole: false"),
            same(
                "the client leaves before the answer's head: the worker's connection",
                leaves_early,
                "closed at once",
            ),
            differs(
                "the client leaves a silent stream: the worker's connection",
                leaves_silent,
                "still open after 1.5 s",
                "closed at once",
                "the engine stops generating for nobody",
            ),
            differs(
                "a client that reads nothing of 64 MiB: read from the worker",
                slow,
                "all of it",
                "a part, then it waits",
                "a slow client must not fill the router's memory",
            ),
        ],
    }],
};

const BODY: &str = r#"{"text":"a","stream":true}"#;

fn event_by_event(s: &Stage) -> String {
    let gate = Gate::default();
    let door = gate.clone();
    s.workers[0].answers(move |_, stream| {
        begin_stream(stream);
        send_chunk(stream, "data: {\"text\":\"first\"}\n\n");
        door.pass();
        send_chunk(stream, "data: [DONE]\n\n");
        send_chunk(stream, "");
        Some(())
    });
    let mut exchange = s.begin(crate::client::post("/generate", BODY));
    exchange.read_until("first");
    gate.open();
    let answer = exchange.finish();
    format!(
        "{} whole: {} ends with {:?}",
        answer.status,
        answer.whole,
        answer.text().trim_end().lines().last().unwrap()
    )
}

fn chunks(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        begin_stream(stream);
        send_chunk(stream, ": comment\r\n\r\ndata: {\"te");
        send_chunk(stream, "xt\":\"\u{e9}\"}\n\n");
        send_chunk(stream, "");
        Some(())
    });
    let answer = s.post("/generate", BODY);
    format!("{:?}", answer.text())
}

fn cut(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        begin_stream(stream);
        send_chunk(stream, "data: {\"text\":\"a\"}\n\n");
        close(stream);
        Some(())
    });
    let answer = s.post("/generate", BODY);
    format!("{}, whole: {}", answer.status, answer.whole)
}

fn closed_soon(s: &Stage) -> String {
    let closed = look_for(|| (s.workers[0].closed() > 0).then_some(()));
    if closed.is_some() { "closed at once" } else { "still open after 1.5 s" }.to_owned()
}

fn leaves_early(s: &Stage) -> String {
    s.workers[0].waits_until_closed(false);
    let exchange = s.begin(crate::client::post("/generate", BODY));
    until("the worker has it", || (s.counts() == "1").then_some(()));
    drop(exchange);
    closed_soon(s)
}

fn leaves_silent(s: &Stage) -> String {
    s.workers[0].waits_until_closed(true);
    let mut exchange = s.begin(crate::client::post("/generate", BODY));
    exchange.read_until("data:");
    drop(exchange);
    closed_soon(s)
}

fn slow(s: &Stage) -> String {
    const MIB: usize = 1024 * 1024;
    let written = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&written);
    s.workers[0].answers(move |_, stream| {
        begin_stream(stream);
        let data = "x".repeat(MIB);
        for _ in 0..64 {
            write!(stream, "{MIB:x}\r\n{data}\r\n").ok()?;
            count.fetch_add(1, Ordering::AcqRel);
        }
        send_chunk(stream, "");
        Some(())
    });
    let mut exchange = s.begin(crate::client::post("/generate", BODY));
    exchange.read_until("200");
    let (mut last, mut looks) = (0, 0);
    let all = until("all is read, or no more", || {
        let now = written.load(Ordering::Acquire);
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        if now == 64 { Some(true) } else { (looks > 150).then_some(false) }
    });
    drop(exchange);
    if all { "all of it" } else { "a part, then it waits" }.to_owned()
}
