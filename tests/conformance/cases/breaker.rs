//! The circuit breaker of a worker.

use crate::process::until;
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, same};
use crate::worker::{Gate, begin_stream, close, send_chunk};

const FLAGS: &str = "--policy round_robin --disable-retries --cb-failure-threshold 3 --cb-success-threshold 2 --cb-timeout-duration-secs 1";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Circuit breaker",
    groups: &[
        Group {
            flags: FLAGS,
            workers: 1,
            cases: &[
                same(
                    "failures in a row open it: the worker says 500",
                    |s| statuses(s, 500, 5),
                    "500 x 3, 503 x 2",
                ),
                same("a success between failures", between, "500 x 2, 200 x 1, 500 x 2, 200 x 1"),
                differs(
                    "open: GET /readiness",
                    |s| {
                        statuses(s, 500, 4);
                        s.get("/readiness").status.to_string()
                    },
                    "200",
                    "503",
                    "not ready while no worker would be chosen",
                ),
                differs(
                    "the worker says 400",
                    |s| statuses(s, 400, 5),
                    "400 x 3, 503 x 2",
                    "400 x 5",
                    "a client's mistake says nothing about the worker",
                ),
                differs(
                    "the worker says 429",
                    |s| statuses(s, 429, 5),
                    "429 x 3, 503 x 2",
                    "429 x 5",
                    "a full worker is not a broken one",
                ),
            ],
        },
        Group {
            flags: FLAGS,
            workers: 1,
            cases: &[
                same("half-open: one failure", half_open_failure, "503 x 2"),
                differs(
                    "half-open: two requests at one time",
                    half_open_two,
                    "200 and both at the worker",
                    "200 and 503 no_available_workers",
                    "half-open admits a probe, not traffic",
                ),
                differs(
                    "streams that stop in their middle",
                    cut,
                    "200 x 5",
                    "200 x 3, 503 x 2",
                    "a broken answer is a failure",
                ),
            ],
        },
        Group {
            flags: "--policy round_robin --disable-retries --disable-circuit-breaker",
            workers: 1,
            cases: &[same("--disable-circuit-breaker: 12 failures", |s| statuses(s, 500, 12), "500 x 12")],
        },
        Group {
            flags: "--policy round_robin --disable-retries",
            workers: 1,
            cases: &[same(
                "failures that open it without flags",
                |s| statuses(s, 500, 12),
                "500 x 10, 503 x 2",
            )],
        },
    ],
};

/// Closes the breaker that an earlier case may have left open.
fn closed(s: &Stage) {
    s.clear();
    let mut good = 0;
    until("the breaker is closed", || {
        good = if s.generate().status == 200 { good + 1 } else { 0 };
        (good >= 4).then_some(())
    });
    s.clear();
}

/// The statuses of so many requests, runs of one written once: `500 x 3, 503 x 2`.
fn run_of(statuses: &[u16]) -> String {
    let runs = statuses.chunk_by(|a, b| a == b).map(|run| format!("{} x {}", run[0], run.len()));
    runs.collect::<Vec<_>>().join(", ")
}

fn statuses(s: &Stage, status: u16, requests: usize) -> String {
    closed(s);
    s.workers[0].says(status, "{}");
    let seen: Vec<u16> = (0..requests).map(|_| s.generate().status).collect();
    run_of(&seen)
}

fn between(s: &Stage) -> String {
    closed(s);
    let worker = s.workers[0].clone();
    s.workers[0].answers(move |_, stream| {
        (!worker.got().len().is_multiple_of(3))
            .then(|| crate::worker::reply(stream, 500, "application/json", "{}"))
    });
    let seen: Vec<u16> = (0..6).map(|_| s.generate().status).collect();
    run_of(&seen)
}

/// Opens it, and waits until a request is let through again.
fn until_half_open(s: &Stage) {
    statuses(s, 500, 4);
    s.workers[0].clear();
}

fn half_open_failure(s: &Stage) -> String {
    until_half_open(s);
    s.workers[0].says(500, "{}");
    until("a probe was let through", || (s.generate().status == 500).then_some(()));
    run_of(&[s.generate().status, s.generate().status])
}

fn half_open_two(s: &Stage) -> String {
    until_half_open(s);
    let gate = Gate::default();
    let door = gate.clone();
    s.workers[0].answers(move |_, _| {
        door.pass();
        None
    });
    let request = crate::client::post("/generate", PROMPT);
    // While it is open it refuses at once, so the first request that gets no answer soon is the probe.
    let first = until("a probe was let through", || {
        let exchange = s.begin(&request);
        let at_worker = until("refused or at the worker", || {
            if s.counts() == "1" { Some(true) } else { exchange.has_answer().then_some(false) }
        });
        at_worker.then_some(exchange)
    });
    let second = s.begin(&request);
    let passed = until("refused or at the worker", || {
        if s.counts() == "2" { Some(true) } else { second.has_answer().then_some(false) }
    });
    gate.open();
    let (first, second) = (first.finish().status, second.finish().problem());
    format!("{first} and {}", if passed { "both at the worker".to_owned() } else { second })
}

fn cut(s: &Stage) -> String {
    closed(s);
    s.workers[0].answers(|_, stream| {
        begin_stream(stream);
        send_chunk(stream, "data: {\"text\":\"a\"}\n\n");
        close(stream);
        Some(())
    });
    let body = r#"{"text":"a","stream":true}"#;
    let seen: Vec<u16> = (0..5).map(|_| s.post("/generate", body).status).collect();
    run_of(&seen)
}
