//! `--api-key` and the keys of the control plane.

use crate::client::{get_with, send_with};
use crate::stage::{PROMPT, Stage};
use crate::table::{Group, Topic, differs, same};

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Keys",
    groups: &[
        Group {
            flags: "--policy round_robin --disable-retries --api-key secret",
            workers: 1,
            cases: &[
                differs(
                    "--api-key: POST /generate without a key",
                    |s| with(s, ""),
                    "401 empty",
                    "401 empty, unauthorized",
                    "the header X-SMG-Error-Code says what it is",
                ),
                differs(
                    "--api-key: with another key",
                    |s| with(s, "authorization: Bearer other\r\n"),
                    "401 empty",
                    "401 empty, unauthorized",
                    "the header X-SMG-Error-Code says what it is",
                ),
                differs(
                    "--api-key: with the key, not as Bearer",
                    |s| with(s, "authorization: secret\r\n"),
                    "401 empty",
                    "401 empty, unauthorized",
                    "the header X-SMG-Error-Code says what it is",
                ),
                same("--api-key: with the key", |s| with(s, KEY), "200"),
                differs(
                    "--api-key: Authorization at the worker",
                    at_worker,
                    "Bearer secret & Bearer secret",
                    "Bearer secret",
                    "one Authorization, not two",
                ),
                differs(
                    "--api-key: in health checks and descriptions",
                    asked,
                    "Bearer secret or none",
                    "Bearer secret",
                    "each question shows the key",
                ),
                same(
                    "--api-key: open without a key",
                    |s| {
                        open(
                            s,
                            &[
                                "/health",
                                "/liveness",
                                "/readiness",
                                "/health_generate",
                                "/v1/models",
                                "/get_model_info",
                                "/get_server_info",
                                "/engine_metrics",
                            ],
                        )
                    },
                    "/health /liveness /readiness /health_generate /v1/models /get_model_info /get_server_info /engine_metrics",
                ),
                same(
                    "--api-key: control endpoints without a key",
                    |s| control(s, ""),
                    "/workers 401, /get_loads 401, /flush_cache 401",
                ),
                same(
                    "--api-key: control endpoints with the key",
                    |s| control(s, KEY),
                    "/workers 200, /get_loads 200, /flush_cache 200",
                ),
            ],
        },
        Group {
            flags: "--policy round_robin --disable-retries --api-key secret --control-plane-api-keys a:ann:admin:boss u:uwe:user:guest",
            workers: 1,
            cases: &[
                same(
                    "--control-plane-api-keys: control with the admin's key",
                    |s| control(s, "authorization: Bearer boss\r\n"),
                    "/workers 200, /get_loads 200, /flush_cache 200",
                ),
                same(
                    "--control-plane-api-keys: control with the user's key",
                    |s| control(s, "authorization: Bearer guest\r\n"),
                    "/workers 403, /get_loads 403, /flush_cache 403",
                ),
                same(
                    "--control-plane-api-keys: control with --api-key",
                    |s| control(s, KEY),
                    "/workers 401, /get_loads 401, /flush_cache 401",
                ),
                same("--control-plane-api-keys: POST /generate with --api-key", |s| with(s, KEY), "200"),
            ],
        },
        Group {
            flags: "--policy round_robin",
            workers: 1,
            cases: &[same(
                "without --api-key: the client's Authorization at the worker",
                |s| {
                    with(s, "authorization: Bearer mine\r\n");
                    s.only().header("authorization").unwrap_or_default()
                },
                "Bearer mine",
            )],
        },
    ],
};

const KEY: &str = "authorization: Bearer secret\r\n";

fn with(s: &Stage, headers: &str) -> String {
    let answer = s.send(send_with("POST", "/generate", headers, PROMPT));
    if answer.status == 200 { "200".to_owned() } else { answer.problem() }
}

fn at_worker(s: &Stage) -> String {
    with(s, KEY);
    s.only().header("authorization").unwrap_or_else(|| "none".to_owned())
}

fn asked(s: &Stage) -> String {
    let own =
        Stage::with(s.subject, "--policy round_robin --api-key secret", vec![crate::worker::Worker::start()]);
    own.router();
    let keys: Vec<String> = own.workers[0]
        .asked()
        .iter()
        .map(|g| g.header("authorization").unwrap_or_else(|| "none".to_owned()))
        .collect();
    let mut distinct = keys.clone();
    distinct.sort();
    distinct.dedup();
    distinct.join(" or ")
}

fn open(s: &Stage, paths: &[&str]) -> String {
    let open = paths.iter().filter(|p| s.get(p).status == 200);
    open.copied().collect::<Vec<_>>().join(" ")
}

fn control(s: &Stage, headers: &str) -> String {
    let statuses =
        [("GET", "/workers"), ("GET", "/get_loads"), ("POST", "/flush_cache")].map(|(method, path)| {
            let request =
                if method == "GET" { get_with(path, headers) } else { send_with(method, path, headers, "") };
            format!("{path} {}", s.send(request).status)
        });
    statuses.join(", ")
}
