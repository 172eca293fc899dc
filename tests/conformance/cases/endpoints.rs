//! What the router answers itself, and what it asks one worker.

use serde_json::Value;

use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};
use crate::worker::Worker;

const CATCH_ALL: &str = "every path that is not the router's is a worker's";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Endpoints",
    groups: &[
        Group {
            flags: "--policy round_robin",
            workers: 2,
            cases: &[
                same("GET /health", |s| text(s, "/health"), "200 OK"),
                same("GET /liveness", |s| text(s, "/liveness"), "200 OK"),
                same(
                    "GET /readiness",
                    |s| format!("{} {}", s.get("/readiness").status, s.get("/readiness").json()),
                    r#"200 {"healthy_workers":2,"status":"ready","total_workers":2}"#,
                ),
                same("GET /health_generate", |s| s.get("/health_generate").status.to_string(), "200"),
                same("GET /v1/models: names", models, r#"200 "m""#),
                differs(
                    "GET /v1/models: content type",
                    |s| s.get("/v1/models").kind(),
                    "text/plain",
                    "application/json",
                    "it is JSON",
                ),
                same(
                    "GET /get_model_info",
                    |s| field(s, "/get_model_info", "model_path"),
                    r#"200 model_path "/models/m""#,
                ),
                differs(
                    "GET /model_info",
                    |s| field(s, "/model_info", "model_path"),
                    "404 model_path null",
                    r#"200 model_path "/models/m""#,
                    "newer engines and clients use this name",
                ),
                differs(
                    "GET /get_server_info",
                    |s| field(s, "/get_server_info", "max_running_requests"),
                    "200 max_running_requests null",
                    "200 max_running_requests 8",
                    "clients such as bench_serving read the engine's answer",
                ),
                differs(
                    "GET /server_info",
                    |s| field(s, "/server_info", "max_running_requests"),
                    "404 max_running_requests null",
                    "200 max_running_requests 8",
                    "newer engines and clients use this name",
                ),
                same("GET /get_loads", loads, r#"200 {"load":7,"worker":"W0"}, {"load":7,"worker":"W1"}"#),
                differs(
                    "GET /v1/loads",
                    |s| s.get("/v1/loads").status.to_string(),
                    "404",
                    "200",
                    "newer engines have it",
                ),
                same(
                    "GET /engine_metrics",
                    engine_metrics,
                    r#"200 sglang_num_running_reqs{model_name="m",worker_addr="W0"} 2; sglang_num_running_reqs{model_name="m",worker_addr="W1"} 2"#,
                ),
                differs(
                    "GET /metrics on the router's own port",
                    |s| went(s, "GET", "/metrics"),
                    "404, the router's own answer",
                    "200, a worker's answer",
                    CATCH_ALL,
                ),
                differs(
                    "GET of an unknown path",
                    |s| went(s, "GET", "/nothing/here"),
                    "404, the router's own answer",
                    "404, a worker's answer",
                    CATCH_ALL,
                ),
                differs(
                    "POST to an unknown path",
                    |s| went(s, "POST", "/encode"),
                    "404, the router's own answer",
                    "200, a worker's answer",
                    CATCH_ALL,
                ),
                differs(
                    "GET /generate",
                    |s| went(s, "GET", "/generate"),
                    "405, the router's own answer",
                    "404, a worker's answer",
                    CATCH_ALL,
                ),
                same("POST /health", |s| s.post("/health", "{}").status.to_string(), "405"),
                differs(
                    "POST /v1/tokenize",
                    |s| went(s, "POST", "/v1/tokenize"),
                    "422, the router's own answer",
                    "404, a worker's answer",
                    "the tokenizer is the engine's",
                ),
                differs(
                    "POST /v1/conversations",
                    |s| went(s, "POST", "/v1/conversations"),
                    "200, the router's own answer",
                    "404, a worker's answer",
                    "no storage of conversations here",
                ),
                differs(
                    "GET /v1/tokenizers",
                    |s| went(s, "GET", "/v1/tokenizers"),
                    "200, the router's own answer",
                    "404, a worker's answer",
                    "no tokenizers here",
                ),
                differs(
                    "GET /ha/status",
                    |s| went(s, "GET", "/ha/status"),
                    "503, the router's own answer",
                    "404, a worker's answer",
                    "no mesh here",
                ),
            ],
        },
        Group {
            flags: "--policy round_robin",
            workers: 1,
            cases: &[
                same(
                    "POST /generate",
                    |s| routed(s, "/generate", crate::stage::PROMPT),
                    "200 application/json; worker got POST /generate",
                ),
                same(
                    "POST /v1/chat/completions",
                    |s| routed(s, "/v1/chat/completions", CHAT),
                    "200 application/json; worker got POST /v1/chat/completions",
                ),
                same(
                    "POST /v1/completions",
                    |s| routed(s, "/v1/completions", r#"{"model":"m","prompt":"p"}"#),
                    "200 application/json; worker got POST /v1/completions",
                ),
                same(
                    "POST /v1/embeddings",
                    |s| routed(s, "/v1/embeddings", r#"{"model":"m","input":"p"}"#),
                    "200 application/json; worker got POST /v1/embeddings",
                ),
                same(
                    "POST /v1/classify",
                    |s| routed(s, "/v1/classify", r#"{"model":"m","input":"p"}"#),
                    "200 application/json; worker got POST /v1/classify",
                ),
                same(
                    "POST /v1/responses",
                    |s| routed(s, "/v1/responses", r#"{"model":"m","input":"p"}"#),
                    "200 application/json; worker got POST /v1/responses",
                ),
                same(
                    "POST /v1/rerank",
                    |s| routed(s, "/v1/rerank", RERANK),
                    "200 application/json; worker got POST /v1/rerank",
                ),
                differs(
                    "POST /rerank",
                    |s| routed(s, "/rerank", RERANK),
                    "200 application/json; worker got POST /v1/rerank",
                    "200 application/json; worker got POST /rerank",
                    "paths pass as they came",
                ),
                differs(
                    "POST /v1/rerank: the body of the answer",
                    |s| keys(&s.post("/v1/rerank", RERANK).json()),
                    "created, id, model, object, results, usage",
                    "[document, index, score]",
                    "answers pass as they came",
                ),
            ],
        },
    ],
};

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
const RERANK: &str = r#"{"model":"m","query":"q","documents":["d"]}"#;

fn text(s: &Stage, path: &str) -> String {
    let answer = s.get(path);
    format!("{} {}", answer.status, answer.text())
}

fn field(s: &Stage, path: &str, name: &str) -> String {
    let answer = s.get(path);
    format!("{} {name} {}", answer.status, answer.json()[name])
}

fn models(s: &Stage) -> String {
    let answer = s.get("/v1/models");
    let ids: Vec<String> =
        answer.json()["data"].as_array().into_iter().flatten().map(|m| m["id"].to_string()).collect();
    format!("{} {}", answer.status, ids.join(", "))
}

fn loads(s: &Stage) -> String {
    let answer = s.get("/get_loads");
    let v = answer.json();
    let mut loads: Vec<String> =
        v["workers"].as_array().into_iter().flatten().map(|w| s.plain(&w.to_string())).collect();
    loads.sort();
    format!("{} {}", answer.status, loads.join(", "))
}

/// The series, labels in the order of their names, values as numbers.
fn engine_metrics(s: &Stage) -> String {
    let answer = s.get("/engine_metrics");
    let text = s.plain(&answer.text());
    let series = text.lines().filter(|l| !l.starts_with('#')).filter_map(|line| {
        let (name, rest) = line.split_once('{')?;
        let (labels, value) = rest.split_once('}')?;
        let mut labels: Vec<&str> = labels.split(',').collect();
        labels.sort_unstable();
        Some(format!("{name}{{{}}} {}", labels.join(","), value.trim().parse::<f64>().ok()?))
    });
    let mut series: Vec<String> = series.collect();
    series.sort();
    format!("{} {}", answer.status, series.join("; "))
}

/// Status, and whether a worker was asked.
fn went(s: &Stage, method: &str, path: &str) -> String {
    let answer = s.send(crate::client::send_with(method, path, "", if method == "POST" { "{}" } else { "" }));
    let asked = s.workers.iter().flat_map(Worker::got).count();
    let by = if asked == 0 { "the router's own answer" } else { "a worker's answer" };
    format!("{}, {by}", answer.status)
}

fn routed(s: &Stage, path: &str, body: &str) -> String {
    let answer = s.post(path, body);
    let got: Vec<String> = s.workers.iter().flat_map(Worker::got).map(|g| g.line).collect();
    format!("{} {}; worker got {}", answer.status, answer.kind(), got.join(", "))
}

fn keys(value: &Value) -> String {
    match value {
        Value::Object(map) => map.keys().cloned().collect::<Vec<_>>().join(", "),
        Value::Array(items) => format!("[{}]", items.first().map(keys).unwrap_or_default()),
        other => other.to_string(),
    }
}
