//! Names and labels of the metrics that dashboards use.

use crate::client::{Exchange, get_with};
use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Metrics",
    groups: &[Group {
        flags: "--policy round_robin --retry-initial-backoff-ms 1 --cb-failure-threshold 2",
        workers: 2,
        cases: &[
            same(
                "GET /metrics on --prometheus-port",
                |s| {
                    let a = scrape(s);
                    format!("{} {}", a.status, a.kind())
                },
                "200 text/plain",
            ),
            same("smg_http_requests_total", |s| labels(s, "smg_http_requests_total"), "method, path"),
            same(
                "smg_http_request_duration_seconds",
                |s| labels(s, "smg_http_request_duration_seconds"),
                "method, path",
            ),
            same(
                "smg_http_responses_total",
                |s| labels(s, "smg_http_responses_total"),
                "error_code, status_code",
            ),
            same("smg_http_connections_active", |s| labels(s, "smg_http_connections_active"), "no labels"),
            same(
                "smg_router_requests_total",
                |s| labels(s, "smg_router_requests_total"),
                "backend_type, connection_mode, endpoint, model, router_type, streaming",
            ),
            same(
                "smg_router_request_duration_seconds",
                |s| labels(s, "smg_router_request_duration_seconds"),
                "backend_type, connection_mode, endpoint, model, router_type",
            ),
            differs(
                "smg_router_request_errors_total",
                |s| labels(s, "smg_router_request_errors_total"),
                "absent",
                "backend_type, connection_mode, endpoint, error_type, model, router_type",
                "an engine's failure is one too",
            ),
            same(
                "smg_router_upstream_responses_total",
                |s| labels(s, "smg_router_upstream_responses_total"),
                "error_code, router_type, status_code",
            ),
            same(
                "smg_worker_pool_size",
                |s| labels(s, "smg_worker_pool_size"),
                "connection_mode, model, worker_type",
            ),
            differs(
                "smg_worker_requests_active",
                |s| labels(s, "smg_worker_requests_active"),
                "absent",
                "worker",
                "counted for every policy, not for two",
            ),
            same("smg_worker_health", |s| labels(s, "smg_worker_health"), "worker"),
            differs(
                "smg_worker_health_checks_total",
                |s| labels(s, "smg_worker_health_checks_total"),
                "absent",
                "result, worker_type",
                "the first check counts too",
            ),
            same(
                "smg_worker_selection_total",
                |s| labels(s, "smg_worker_selection_total"),
                "connection_mode, model, policy, worker_type",
            ),
            same(
                "smg_worker_errors_total",
                |s| labels(s, "smg_worker_errors_total"),
                "connection_mode, error_type, worker_type",
            ),
            same("smg_worker_cb_state", |s| labels(s, "smg_worker_cb_state"), "worker"),
            same(
                "smg_worker_cb_transitions_total",
                |s| labels(s, "smg_worker_cb_transitions_total"),
                "from, to, worker",
            ),
            same(
                "smg_worker_cb_outcomes_total",
                |s| labels(s, "smg_worker_cb_outcomes_total"),
                "outcome, worker",
            ),
            same(
                "smg_worker_cb_consecutive_failures",
                |s| labels(s, "smg_worker_cb_consecutive_failures"),
                "worker",
            ),
            same(
                "smg_worker_retries_total",
                |s| labels(s, "smg_worker_retries_total"),
                "endpoint, worker_type",
            ),
            same(
                "smg_worker_retries_exhausted_total",
                |s| labels(s, "smg_worker_retries_exhausted_total"),
                "endpoint, worker_type",
            ),
            same(
                "smg_worker_retry_backoff_seconds",
                |s| labels(s, "smg_worker_retry_backoff_seconds"),
                "attempt",
            ),
            same(
                "smg_router_requests_total after one /generate",
                router_requests,
                r#"backend_type="regular", connection_mode="http", endpoint="generate", model="default", router_type="http", streaming="false""#,
            ),
            differs(
                "smg_http_request_duration_seconds of a stream of 1 s, rounded",
                stream_duration,
                "0 s",
                "1 s",
                "a stream lasts until its end",
            ),
        ],
    }],
};

fn scrape(s: &Stage) -> crate::client::Answer {
    Exchange::begin(s.router().metrics.address(), get_with("/metrics", "")).finish()
}

/// Good requests and failed ones, once for the group.
fn exercise(s: &Stage) {
    if scrape(s).text().contains("smg_worker_retries_exhausted_total") {
        return;
    }
    s.generate();
    s.workers.iter().for_each(|w| w.says(500, "{}"));
    (0..3).for_each(|_| drop(s.generate()));
    s.clear();
}

/// The label names of a family.
fn labels(s: &Stage, family: &str) -> String {
    exercise(s);
    let text = scrape(s).text();
    let line = text.lines().find(|l| {
        let rest = l.strip_prefix(family).unwrap_or("#");
        ["", "_bucket", "_sum", "_count"]
            .iter()
            .any(|end| rest.strip_prefix(end).is_some_and(|r| r.starts_with([' ', '{'])))
    });
    let Some(line) = line else { return "absent".to_owned() };
    let Some((_, inner)) = line.split_once('{') else { return "no labels".to_owned() };
    let mut names: Vec<&str> = inner
        .split('}')
        .next()
        .unwrap_or_default()
        .split(',')
        .filter_map(|l| Some(l.split_once('=')?.0))
        .filter(|n| *n != "le" && *n != "quantile")
        .collect();
    names.sort_unstable();
    names.join(", ")
}

fn router_requests(s: &Stage) -> String {
    s.generate();
    let text = scrape(s).text();
    let line = text.lines().find(|l| l.starts_with("smg_router_requests_total{") && l.contains("generate"));
    let Some((_, inner)) = line.and_then(|l| l.split_once('{')) else { return "absent".to_owned() };
    let mut pairs: Vec<&str> = inner.split('}').next().unwrap_or_default().split(',').collect();
    pairs.sort_unstable();
    pairs.join(", ")
}

fn stream_duration(s: &Stage) -> String {
    let own = Stage::with(s.subject, "--policy round_robin", vec![crate::worker::Worker::start()]);
    own.workers[0].answers(|_, stream| {
        crate::worker::begin_stream(stream);
        crate::worker::send_chunk(stream, "data: {\"text\":\"a\"}\n\n");
        std::thread::sleep(std::time::Duration::from_secs(1));
        crate::worker::send_chunk(stream, "");
        Some(())
    });
    own.post("/generate", r#"{"text":"a","stream":true}"#);
    let seen = crate::process::until("it is counted", || {
        let text = scrape(&own).text();
        let line = text
            .lines()
            .find(|l| l.starts_with("smg_http_request_duration_seconds_sum") && l.contains("/generate"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    });
    format!("{} s", seen.floor())
}
