//! How many requests may run and wait.

use crate::client::{Answer, Exchange};
use crate::process::{look_for, until};
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, ours, same};
use crate::worker::Gate;

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Limits",
    groups: &[
        Group {
            flags: "--max-concurrent-requests 1 --queue-size 0",
            workers: 1,
            cases: &[
                differs(
                    "no queue: a second request",
                    |s| busy(s, |s| s.generate().problem()),
                    "429 empty",
                    "429 rate_limited",
                    "an error says what it is",
                ),
                same(
                    "no queue: GET /health beside a request",
                    |s| busy(s, |s| s.get("/health").status.to_string()),
                    "200",
                ),
                same(
                    "no queue: GET /workers beside a request",
                    |s| busy(s, |s| s.get("/workers").status.to_string()),
                    "200",
                ),
            ],
        },
        Group {
            flags: "--max-concurrent-requests 1 --queue-size 1 --queue-timeout-secs 3",
            workers: 1,
            cases: &[ours(
                "one runs, --queue-size 1: of three more",
                queue,
                "three `408`, or a `200` among them",
                "200, 429 rate_limited, 429 rate_limited",
                "what waits is let in when a place is free, what finds no place is told so at once",
            )],
        },
        Group {
            flags: "--max-concurrent-requests 1 --queue-size 5 --queue-timeout-secs 1",
            workers: 1,
            cases: &[ours(
                "one runs and does not end, --queue-timeout-secs 1: a second",
                third,
                "`408`, or `200` since a place comes free each second",
                "408 queue_timeout",
                "a limit of requests at one time, not of their rate",
            )],
        },
        Group {
            flags: "--max-concurrent-requests 2 --queue-size 0",
            workers: 1,
            cases: &[differs(
                "two run and do not end: a third, tried for 1.5 s",
                more_than_two,
                "runs beside them",
                "is refused",
                "a limit of requests at one time, not of their rate",
            )],
        },
    ],
};

/// Lets the first `held` requests wait at the worker; the gate lets them go.
fn hold(s: &Stage, held: usize) -> (Gate, Vec<Exchange>) {
    let gate = Gate::default();
    let (door, worker) = (gate.clone(), s.workers[0].clone());
    s.workers[0].answers(move |_, _| {
        if worker.got().len() <= held {
            door.pass();
        }
        None
    });
    let request = crate::client::post("/generate", PROMPT);
    let exchanges = (1..=held)
        .map(|n| {
            let exchange = s.begin(&request);
            until("the request is at the worker", || (s.workers[0].got().len() >= n).then_some(()));
            exchange
        })
        .collect();
    (gate, exchanges)
}

fn busy(s: &Stage, look: fn(&Stage) -> String) -> String {
    // What an earlier case took has to be given back first.
    until("nothing runs", || (s.generate().status == 200).then_some(()));
    s.clear();
    let (gate, held) = until("the one place is taken", || {
        let (gate, held) = hold_one(s)?;
        Some((gate, held))
    });
    let seen = look(s);
    gate.open();
    held.finish();
    seen
}

/// One request at the worker, or none if it was refused.
fn hold_one(s: &Stage) -> Option<(Gate, Exchange)> {
    let gate = Gate::default();
    let door = gate.clone();
    s.workers[0].answers(move |_, _| {
        door.pass();
        None
    });
    let exchange = s.begin(crate::client::post("/generate", PROMPT));
    let there = until("refused or at the worker", || {
        if s.counts() == "1" { Some(true) } else { exchange.has_answer().then_some(false) }
    });
    there.then_some((gate, exchange))
}

fn end(held: Vec<Exchange>) {
    for exchange in held {
        exchange.finish();
    }
}

fn queue(s: &Stage) -> String {
    let (gate, held) = hold(s, 1);
    let request = crate::client::post("/generate", PROMPT);
    let more: Vec<Exchange> = (0..3).map(|_| s.begin(&request)).collect();
    // Who is refused is refused at once, and at most two are.
    let _ = look_for(|| (more.iter().filter(|e| e.has_answer()).count() == 2).then_some(()));
    gate.open();
    let mut seen: Vec<String> = more.into_iter().map(|e| told(&e.finish())).collect();
    seen.sort();
    end(held);
    seen.join(", ")
}

fn third(s: &Stage) -> String {
    let (gate, held) = hold(s, 1);
    let seen = told(&s.generate());
    gate.open();
    end(held);
    seen
}

fn more_than_two(s: &Stage) -> String {
    let (gate, held) = hold(s, 2);
    let ran = look_for(|| (s.generate().status == 200).then_some(()));
    gate.open();
    end(held);
    if ran.is_some() { "runs beside them" } else { "is refused" }.to_owned()
}

fn told(answer: &Answer) -> String {
    if answer.status == 200 { "200".to_owned() } else { answer.problem() }
}
