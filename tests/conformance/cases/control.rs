//! What must reach every worker, or the one that holds a request.

use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};

const REACHES: &str = "control endpoints reach the engines; sglang-router has no catch-all";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Control of the fleet",
    groups: &[Group {
        flags: "--policy round_robin",
        workers: 2,
        cases: &[
            same(
                "POST /flush_cache",
                flush_cache,
                r#"200 "success" workers_flushed 2 total_http_workers 2 total_workers 2; each worker got 1+1"#,
            ),
            differs(
                "GET /flush_cache",
                |s| fanned(s, "GET", "/flush_cache"),
                "405; workers got 0+0",
                "200; workers got 1+1",
                "engines take GET and POST",
            ),
            same("POST /flush_cache, one worker fails", partial, r#"206 "partial_success""#),
            differs(
                "POST /abort_request for a rid nobody holds",
                |s| fanned(s, "POST", "/abort_request"),
                "404; workers got 0+0",
                "200; workers got 1+1",
                REACHES,
            ),
            differs(
                "POST /pause_generation",
                |s| fanned(s, "POST", "/pause_generation"),
                "404; workers got 0+0",
                "200; workers got 1+1",
                REACHES,
            ),
            differs(
                "POST /update_weights_from_disk",
                |s| fanned(s, "POST", "/update_weights_from_disk"),
                "404; workers got 0+0",
                "200; workers got 1+1",
                REACHES,
            ),
            same(
                "GET /v1/responses/{id}: the worker that has it answers",
                response,
                r#"200 {"id":"resp_1"}"#,
            ),
            same(
                "GET /v1/responses/{id}: no worker has it",
                |s| s.get("/v1/responses/resp_1").status.to_string(),
                "404",
            ),
        ],
    }],
};

fn flush_cache(s: &Stage) -> String {
    let answer = s.post("/flush_cache", "");
    let v = answer.json();
    let counts = ["workers_flushed", "total_http_workers", "total_workers"].map(|n| format!("{n} {}", v[n]));
    format!("{} {} {}; each worker got {}", answer.status, v["status"], counts.join(" "), s.counts())
}

fn partial(s: &Stage) -> String {
    s.workers[1].says(500, "{}");
    let answer = s.post("/flush_cache", "");
    format!("{} {}", answer.status, answer.json()["status"])
}

fn fanned(s: &Stage, method: &str, path: &str) -> String {
    let body = if method == "POST" { r#"{"rid":"r1"}"# } else { "" };
    let answer = s.send(crate::client::send_with(method, path, "", body));
    format!("{}; workers got {}", answer.status, s.counts())
}

fn response(s: &Stage) -> String {
    s.workers[1].says(200, r#"{"id":"resp_1"}"#);
    let answer = s.get("/v1/responses/resp_1");
    format!("{} {}", answer.status, answer.json())
}
