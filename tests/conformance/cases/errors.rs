//! Statuses: the worker's pass, the router's own have one shape.

use crate::client::send_with;
use crate::process::Port;
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, same};
use crate::worker::{Gate, close};

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Statuses and errors",
    groups: &[
        Group {
            flags: "--policy round_robin --disable-retries --disable-circuit-breaker --max-payload-size 1000 --request-timeout-secs 1",
            workers: 1,
            cases: &[
                same(
                    "the worker's 400, body and all",
                    |s| passed(s, 400),
                    r#"400 application/json {"error":"the worker's own"}"#,
                ),
                same(
                    "the worker's 404",
                    |s| passed(s, 404),
                    r#"404 application/json {"error":"the worker's own"}"#,
                ),
                same(
                    "the worker's 422",
                    |s| passed(s, 422),
                    r#"422 application/json {"error":"the worker's own"}"#,
                ),
                same(
                    "the worker's 500, retries off",
                    |s| passed(s, 500),
                    r#"500 application/json {"error":"the worker's own"}"#,
                ),
                same(
                    "the worker's 503, retries off",
                    |s| passed(s, 503),
                    r#"503 application/json {"error":"the worker's own"}"#,
                ),
                same(
                    "a body above --max-payload-size",
                    |s| s.post("/generate", &large()).status.to_string(),
                    "413",
                ),
                differs(
                    "longer than --request-timeout-secs",
                    timeout,
                    "500 call_upstream_request_error",
                    "504 call_upstream_timeout",
                    "a time-out is told from a failure",
                ),
                differs(
                    "the worker closes without an answer, retries off",
                    closes,
                    "500 call_upstream_request_error",
                    "502 call_upstream_connection_failed",
                    "502: it was not the router that failed",
                ),
                differs(
                    "an answer that stops in its middle",
                    cut,
                    "500 read_response_body_failed",
                    "200, whole: false",
                    "passed on as it comes, not held back until its end",
                ),
                same(
                    "HEAD /health",
                    |s| s.send(send_with("HEAD", "/health", "", "")).status.to_string(),
                    "200",
                ),
            ],
        },
        Group {
            flags: "--disable-retries",
            workers: 0,
            cases: &[
                same("no workers: POST /generate", |s| s.generate().problem(), "503 no_available_workers"),
                same(
                    "no workers: the error's type",
                    |s| s.generate().json()["error"]["type"].to_string(),
                    r#""Service Unavailable""#,
                ),
                same("no workers: GET /health", |s| s.get("/health").status.to_string(), "200"),
                same(
                    "no workers: GET /readiness",
                    |s| format!("{} {}", s.get("/readiness").status, s.get("/readiness").json()),
                    r#"503 {"reason":"insufficient healthy workers","status":"not ready"}"#,
                ),
                same(
                    "no workers: GET /health_generate",
                    |s| s.get("/health_generate").status.to_string(),
                    "503",
                ),
                same("no workers: GET /v1/models", |s| s.get("/v1/models").status.to_string(), "503"),
                same(
                    "no workers: GET /get_model_info",
                    |s| s.get("/get_model_info").problem(),
                    "503 no_workers",
                ),
                same(
                    "no workers: POST /flush_cache",
                    |s| {
                        format!(
                            "{} {}",
                            s.post("/flush_cache", "").status,
                            s.post("/flush_cache", "").json()["status"]
                        )
                    },
                    r#"200 "success""#,
                ),
                same(
                    "no workers: GET /get_loads",
                    |s| format!("{} {}", s.get("/get_loads").status, s.get("/get_loads").text()),
                    r#"200 {"workers":[]}"#,
                ),
                same(
                    "no workers: GET /workers",
                    |s| format!("{} total {}", s.get("/workers").status, s.get("/workers").json()["total"]),
                    "200 total 0",
                ),
            ],
        },
        Group {
            flags: "--policy round_robin --disable-retries --disable-health-check",
            workers: 0,
            cases: &[differs(
                "the worker is not there, retries off, health checks off",
                dead,
                "503 no_available_workers",
                "502 call_upstream_connection_failed",
                "without health checks a worker counts from the start, and the answer says what failed",
            )],
        },
    ],
};

fn passed(s: &Stage, status: u16) -> String {
    s.workers[0].says(status, r#"{"error":"the worker's own"}"#);
    let answer = s.generate();
    format!("{} {} {}", answer.status, answer.kind(), answer.text())
}

fn large() -> String {
    format!("{{\"text\":\"{}\"}}", "a".repeat(2000))
}

fn timeout(s: &Stage) -> String {
    let gate = Gate::default();
    let door = gate.clone();
    s.workers[0].answers(move |_, _| {
        door.pass();
        None
    });
    let seen = s.generate().problem();
    gate.open();
    seen
}

fn closes(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        close(stream);
        Some(())
    });
    s.generate().problem()
}

fn cut(s: &Stage) -> String {
    s.workers[0].answers(|_, stream| {
        use std::io::Write;
        let _ = stream.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"te",
        );
        close(stream);
        Some(())
    });
    let answer = s.generate();
    if answer.status == 200 { format!("200, whole: {}", answer.whole) } else { answer.problem() }
}

fn dead(s: &Stage) -> String {
    let port = Port::free();
    let own = Stage::with(
        s.subject,
        &format!(
            "--policy round_robin --disable-retries --disable-health-check --worker-startup-check-interval 1 --worker-urls http://{}",
            port.address()
        ),
        Vec::new(),
    );
    own.post("/generate", PROMPT).problem()
}
