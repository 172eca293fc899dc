//! Health checks.

use crate::process::{look_for, until};
use crate::stage::Stage;
use crate::table::{Group, Topic, same};
use crate::worker::Worker;

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Health checks",
    groups: &[
        Group {
            flags: "--policy round_robin --health-check-interval-secs 1 --health-failure-threshold 1 --health-success-threshold 1",
            workers: 2,
            cases: &[
                same(
                    "a worker that fails them, and is well again",
                    sick,
                    "200 200 200 200 (0+4); 200 200 200 200 (2+2)",
                ),
                same("all workers fail them: POST /generate", all_sick, "503 no_available_workers"),
            ],
        },
        Group {
            flags: "--policy round_robin --disable-health-check --health-check-interval-secs 1 --health-failure-threshold 1",
            workers: 1,
            cases: &[same("--disable-health-check: a worker that says 503 on /health", unchecked, "ready")],
        },
        Group {
            flags: "--policy round_robin --health-check-endpoint /mine --health-check-interval-secs 1",
            workers: 1,
            cases: &[same("--health-check-endpoint is asked", endpoint, "asked")],
        },
    ],
};

fn healthy(s: &Stage, count: u64) {
    until("the router has seen it", || {
        let ready = s.get("/readiness").json();
        (ready["healthy_workers"].as_u64().unwrap_or(0) == count).then_some(())
    });
}

fn four(s: &Stage) -> String {
    s.workers.iter().for_each(Worker::forget);
    let statuses: Vec<String> = (0..4).map(|_| s.generate().status.to_string()).collect();
    format!("{} ({})", statuses.join(" "), s.counts())
}

fn sick(s: &Stage) -> String {
    healthy(s, 2);
    s.workers[0].set_healthy(false);
    healthy(s, 1);
    let while_sick = four(s);
    s.workers[0].set_healthy(true);
    healthy(s, 2);
    format!("{while_sick}; {}", four(s))
}

fn all_sick(s: &Stage) -> String {
    healthy(s, 2);
    s.workers.iter().for_each(|w| w.set_healthy(false));
    healthy(s, 0);
    let seen = s.generate().problem();
    s.workers.iter().for_each(|w| w.set_healthy(true));
    healthy(s, 2);
    seen
}

fn unchecked(s: &Stage) -> String {
    s.generate();
    s.workers[0].set_healthy(false);
    let refused = look_for(|| (s.get("/readiness").status != 200).then_some(()));
    if refused.is_some() { "not ready" } else { "ready" }.to_owned()
}

fn endpoint(s: &Stage) -> String {
    s.router();
    until("it was asked", || s.workers[0].asked().iter().any(|g| g.line == "GET /mine").then_some(()));
    "asked".to_owned()
}
