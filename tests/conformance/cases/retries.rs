//! Attempts: how many, after what, at which worker.

use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};
use crate::worker::{Worker, begin_stream, close, send_chunk};

const LEFT_OUT: &str = "a retry leaves out the worker that failed";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Retries",
    groups: &[
        Group {
            flags: "--policy round_robin --disable-circuit-breaker --retry-max-retries 3 --retry-initial-backoff-ms 1 --retry-max-backoff-ms 2",
            workers: 1,
            cases: &[
                // First: no connection is idle yet, and none is replaced.
                differs(
                    "the worker closes without an answer: attempts",
                    closes,
                    "500 call_upstream_request_error, attempts 3",
                    "502 call_upstream_connection_failed, attempts 3",
                    "502: it was not the router that failed",
                ),
                same(
                    "--retry-max-retries 3: attempts by the worker's status",
                    attempts,
                    "400: 1, 404: 1, 408: 3, 422: 1, 429: 3, 500: 3, 501: 1, 502: 3, 503: 3, 504: 3",
                ),
                same("the last attempt's answer", last_answer, r#"503 {"busy":true}"#),
                same("an attempt that succeeds", recovers, "200 after 3 attempts"),
                same("a stream that stops in its middle: attempts", cut, "200, whole: false, attempts 1"),
            ],
        },
        Group {
            flags: "--policy round_robin --disable-circuit-breaker --retry-initial-backoff-ms 1",
            workers: 1,
            cases: &[same("attempts without --retry-max-retries", default_attempts, "500, attempts 5")],
        },
        Group {
            flags: "--policy cache_aware --disable-circuit-breaker --retry-initial-backoff-ms 1",
            workers: 2,
            cases: &[
                differs(
                    "cache_aware, the prompt's worker fails: answer",
                    sticky,
                    "500; attempts there 5, at the other 0",
                    "200; attempts there 1, at the other 1",
                    LEFT_OUT,
                ),
                same(
                    "POST /flush_cache that fails is repeated",
                    |s| {
                        s.workers[0].says(500, "{}");
                        s.post("/flush_cache", "");
                        s.counts()
                    },
                    "1+1",
                ),
            ],
        },
        Group {
            flags: "",
            workers: 0,
            cases: &[differs(
                "cache_aware, the prompt's worker is gone, another is there: 4 requests",
                dead_beside_live,
                "500 500 200 200",
                "200 200 200 200",
                LEFT_OUT,
            )],
        },
    ],
};

fn attempts(s: &Stage) -> String {
    let tell = |status: u16| {
        s.clear();
        s.workers[0].says(status, "{}");
        s.generate();
        format!("{status}: {}", s.counts())
    };
    [400, 404, 408, 422, 429, 500, 501, 502, 503, 504].map(tell).join(", ")
}

fn last_answer(s: &Stage) -> String {
    s.workers[0].says(503, r#"{"busy":true}"#);
    let answer = s.generate();
    format!("{} {}", answer.status, answer.text())
}

fn recovers(s: &Stage) -> String {
    let worker = s.workers[0].clone();
    s.workers[0].answers(move |_, stream| {
        (worker.got().len() < 3).then(|| crate::worker::reply(stream, 500, "application/json", "{}"))
    });
    format!("{} after {} attempts", s.generate().status, s.counts())
}

fn closes(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        close(stream);
        Some(())
    });
    let answer = s.generate();
    format!("{}, attempts {}", answer.problem(), s.counts())
}

fn cut(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        begin_stream(stream);
        send_chunk(stream, "data: {\"text\":\"a\"}\n\n");
        close(stream);
        Some(())
    });
    let answer = s.post("/generate", r#"{"text":"a","stream":true}"#);
    format!("{}, whole: {}, attempts {}", answer.status, answer.whole, s.counts())
}

fn default_attempts(s: &Stage) -> String {
    s.workers[0].says(500, "{}");
    format!("{}, attempts {}", s.generate().status, s.counts())
}

fn sticky(s: &Stage) -> String {
    s.generate();
    let holder = usize::from(s.workers[0].got().is_empty());
    s.clear();
    s.workers[holder].says(500, "{}");
    let answer = s.generate();
    let (own, other) = (s.workers[holder].got().len(), s.workers[1 - holder].got().len());
    format!("{}; attempts there {own}, at the other {other}", answer.status)
}

/// A worker that was healthy and is gone, as after a crash: refused connections, health checks not yet due.
fn dead_beside_live(s: &Stage) -> String {
    let own = Stage::with(
        s.subject,
        "--policy cache_aware --retry-initial-backoff-ms 1",
        vec![Worker::start(), Worker::start()],
    );
    own.generate();
    let preferred = usize::from(own.workers[0].got().is_empty());
    own.workers[preferred].stop();
    let statuses: Vec<String> = (0..4).map(|_| own.generate().status.to_string()).collect();
    statuses.join(" ")
}
