//! What a scraper reads after scripted requests: names, labels and values, and that the labels have an end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use milepost::admin::metrics;
use milepost::clock::Clock;
use milepost::config::split::Split;
use milepost::config::{RouteConfig, worker_urls};
use milepost::export::otlp::send::Collector;
use milepost::net::{Connector, Io, Listener, PipeNet};
use milepost::proxy::serve::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, chunk, dead_url, generate_stream, json, ok, post,
    stream_head,
};
use crate::metrics_page::{Page, get};

/// The labels that every series of a router of this kind has.
const ROUTER: [(&str, &str); 3] =
    [("router_type", "http"), ("backend_type", "regular"), ("connection_mode", "http")];

/// Serves the metrics of a router on a free port, as `--prometheus-port` does.
pub async fn serve_metrics(router: &TestRouter) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(metrics::serve(Arc::clone(&router.shared), Listener::Tcp(listener)));
    addr
}

pub async fn scrape(addr: SocketAddr) -> Page {
    let (head, body) = get(TcpStream::connect(addr).await.unwrap(), "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    Page::parse(&body)
}

/// Bad requests, failures and streams by what the body says.
fn scripted(body: &[u8]) -> Vec<Step> {
    let body = String::from_utf8_lossy(body);
    if body.contains("bad request") {
        return vec![Step::Send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec())];
    }
    if body.contains("\"stream\":true") { generate_stream(3) } else { ok() }
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&ROUTER, more].concat()
}

#[tokio::test]
async fn what_the_limits_decided_is_on_the_page() {
    let worker = Worker::start(|got| scripted(&got.body)).await;
    let change = |config: &mut RouteConfig| {
        config.limits.rate_per_second = Some(1);
        config.limits.queue_size = 0;
    };
    let router = TestRouter::with(&[&worker], change).await;
    let at = serve_metrics(&router).await;
    let statuses =
        [ask(router.addr, post("/generate", "{}")).await, ask(router.addr, post("/generate", "{}")).await];
    assert_eq!(statuses.map(|r| r.status), [200, 429]);
    let page = scrape(at).await;
    for result in ["allowed", "rejected"] {
        let found = page.value("smg_http_rate_limit_total", &[("result", result)]);
        assert!((found - 1.0).abs() < 1e-9, "{result}: {found}");
    }
    router.finish().await;
}

#[tokio::test]
async fn requests_are_on_the_page_under_sglang_routers_names() {
    let worker = Worker::start(|got| scripted(&got.body)).await;
    let router = TestRouter::start(&[&worker]).await;
    let at = serve_metrics(&router).await;
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
    for bytes in [
        post("/generate", r#"{"text":"a"}"#),
        post("/generate", r#"{"text":"a","stream":true}"#),
        post("/generate", r#"{"text":"bad request"}"#),
        post("/v1/chat/completions", chat),
        "GET /readiness HTTP/1.1\r\nhost: r\r\n\r\n".to_owned(),
        "CONNECT / HTTP/1.1\r\nhost: r\r\n\r\n".to_owned(),
    ] {
        ask(router.addr, bytes).await;
    }
    let page = scrape(at).await;
    let one = |name: &str, labels: &[(&str, &str)], value: f64| {
        let found = page.value(name, labels);
        assert!((found - value).abs() < 1e-9, "{name} {labels:?}: {found}");
    };
    one("smg_http_requests_total", &[("method", "POST"), ("path", "/generate")], 3.0);
    one("smg_http_requests_total", &[("method", "GET"), ("path", "/readiness")], 1.0);
    one("smg_http_request_duration_seconds_count", &[("method", "POST"), ("path", "/generate")], 3.0);
    one("smg_http_responses_total", &[("status_code", "400"), ("error_code", "")], 1.0);
    one("smg_http_responses_total", &[("status_code", "501"), ("error_code", "not_implemented")], 1.0);
    let generate = with(&[("model", "default"), ("endpoint", "generate")]);
    one("smg_router_requests_total", &[&generate[..], &[("streaming", "false")]].concat(), 2.0);
    one("smg_router_requests_total", &[&generate[..], &[("streaming", "true")]].concat(), 1.0);
    one("smg_router_request_duration_seconds_count", &generate, 2.0);
    one(
        "smg_router_request_errors_total",
        &[&generate[..], &[("error_type", "validation_error")]].concat(),
        1.0,
    );
    one(
        "smg_router_requests_total",
        &with(&[("model", "m"), ("endpoint", "chat"), ("streaming", "false")]),
        1.0,
    );
    let upstream = |status| [("router_type", "http"), ("status_code", status), ("error_code", "")];
    one("smg_router_upstream_responses_total", &upstream("200"), 3.0);
    one("smg_router_upstream_responses_total", &upstream("400"), 1.0);
    let regular = [("worker_type", "regular"), ("connection_mode", "http")];
    one(
        "smg_worker_selection_total",
        &[&regular[..], &[("model", "default"), ("policy", "round_robin")]].concat(),
        3.0,
    );
    let url = [("worker", worker.url.as_str())];
    one("smg_worker_requests_active", &url, 0.0);
    one("smg_worker_health", &url, 1.0);
    one("smg_worker_cb_state", &url, 0.0);
    one("milepost_worker_ttft_seconds_count", &url, 1.0);
    one("milepost_worker_itl_seconds_count", &url, 1.0);
    let tokens = |kind| [url[0], ("kind", kind)];
    one("milepost_worker_tokens_total", &tokens("cached"), 2.0);
    one("milepost_worker_requests_total", &[url[0], ("outcome", "worker_error")], 1.0);
    one("milepost_requests_ended_total", &[("outcome", "refused")], 1.0);
    one("milepost_trace_requests_lost_total", &[], 0.0);
    assert_eq!(router.finish_requests().await.len(), 6);
}

#[tokio::test]
async fn the_page_and_its_document_name_the_same_series() {
    // Nobody listens at the second: an attempt fails, and with round_robin every other request begins there.
    let worker = Worker::start(|got| {
        if got.head.starts_with("POST /v1/") {
            return json(r#"{"object":"error","message":"x","code":500}"#);
        }
        let mut steps = vec![stream_head()];
        for tokens in [1, 3] {
            steps.push(chunk(&format!(
                "data: {{\"text\":\"w\",\"meta_info\":{{\"finish_reason\":null,\"prompt_tokens\":1,\"completion_tokens\":{tokens},\"queue_time\":0.000002,\"forward_entry_time\":1800000000.5,\"prefill_finished_time\":1800000000.50001}}}}\n\n"
            )));
        }
        steps.extend([chunk("data: [DONE]\n\n"), crate::harness::end()]);
        steps
    })
    .await;
    // Nearly all in the first arm, so that the workers take turns.
    let change = |config: &mut RouteConfig| {
        config.split = Some(Split::parse("round_robin=4000000000,shortest_queue=1").unwrap());
        config.shadow_policies = vec!["cache_aware".to_owned()];
        config.otlp_traces = Some(Collector::parse("http://127.0.0.1:1").unwrap());
    };
    let router = TestRouter::with_urls(&[worker.url.clone(), dead_url()], change).await;
    let at = serve_metrics(&router).await;
    for _ in 0..2 {
        assert_eq!(ask(router.addr, post("/generate", r#"{"text":"a","stream":true}"#)).await.status, 200);
        ask(router.addr, post("/v1/completions", r#"{"prompt":"a"}"#)).await;
    }
    let page = scrape(at).await;
    let document = include_str!("../../docs/metrics-prometheus.md");
    let mut missing = BTreeSet::new();
    let mut told = 0;
    for row in document.lines().filter(|l| l.starts_with("| `") && l.matches(" | ").count() == 5) {
        told += 1;
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        let Some(family) = page.0.get(name) else {
            missing.insert(name);
            continue;
        };
        assert_eq!((family.kind.as_str(), family.help.as_str()), (cells[1], cells[4]), "{name}");
        let labels: Vec<&str> =
            cells[2].split(", ").map(|l| l.trim_matches('`')).filter(|l| !l.is_empty()).collect();
        for series in &family.series {
            let names: Vec<&str> = series
                .labels
                .iter()
                .map(|(n, _)| n.as_str())
                .filter(|n| *n != "le" || labels.contains(n))
                .collect();
            assert_eq!(names, labels, "{name}");
        }
    }
    assert_eq!(page.0.len() + missing.len(), told, "a family that the document does not have");
    // What did not happen: a policy that could not decide, a breaker that changed, a pause, an end of all retries, a question
    // about load (see `loads`), a policy that matches what engines see (see `correction`).
    let quiet = [
        "milepost_policy_fallbacks_total",
        "milepost_prefix_beliefs_total",
        "milepost_worker_server_queue_requests",
        "milepost_worker_server_running_requests",
        "milepost_worker_server_kv_usage_ratio",
        "milepost_worker_server_load_age_seconds",
        "milepost_worker_server_load_failures_total",
        "smg_worker_cb_transitions_total",
        "smg_worker_retry_backoff_seconds",
        "smg_worker_retries_exhausted_total",
    ];
    assert!(missing.iter().all(|name| quiet.contains(name)), "{missing:?}");
    let url = [("worker", worker.url.as_str())];
    assert!((page.value("milepost_worker_queue_seconds_sum", &url) - 4e-6).abs() < 1e-9);
    let prefill_s = page.value("milepost_worker_prefill_seconds_sum", &url);
    assert!((prefill_s - 20e-6).abs() < 2e-6, "{prefill_s}");
    let failed = page.value("milepost_worker_requests_total", &[("outcome", "failed_attempt")]);
    let retried: f64 = page.values("smg_worker_retries_total", &[]).iter().sum();
    let records = router.finish_requests().await;
    let attempts: usize = records.iter().map(|r| r.failed_attempts.len()).sum();
    assert!((failed - attempts as f64).abs() < 1e-9 && (retried - attempts as f64).abs() < 1e-9, "each once");
    assert!(records.iter().any(|r| !r.failed_attempts.is_empty()), "some began at the dead one");
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_last_byte_and_then_its_worker_may_leave() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let worker = Worker::start(move |_| {
        let mut steps = generate_stream(2);
        steps.insert(2, Step::Wait(Arc::clone(&wait)));
        steps
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let at = serve_metrics(&router).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"text":"a","stream":true}"#)).await;
    client.read_until("\"completion_tokens\":1").await;
    let page = scrape(at).await;
    let url = [("worker", worker.url.as_str())];
    for (name, labels) in [
        ("smg_worker_requests_active", &url[..]),
        ("milepost_worker_in_flight", &url[..]),
        ("milepost_requests_in_flight", &[]),
        ("smg_http_inflight_request_age_count", &[("gt", "0"), ("le", "30")]),
        ("smg_http_connections_active", &[]),
    ] {
        assert!((page.value(name, labels) - 1.0).abs() < 1e-9, "{name}");
    }
    go.notify_one();
    assert!(client.response().await.whole);
    let page = scrape(at).await;
    assert!(page.value("milepost_requests_in_flight", &[]).abs() < 1e-9);
    assert!(page.value("smg_worker_requests_active", &url).abs() < 1e-9);
    let [slot] = router.shared.fleet.workers().try_into().expect("one worker");
    assert!(router.shared.fleet.remove(&slot));
    let page = scrape(at).await;
    let left = page.series().filter(|s| s.labels.iter().any(|(name, _)| name == "worker")).count();
    assert_eq!(left, 0, "a worker that left has no series");
    assert!((page.value("smg_http_responses_total", &[("status_code", "200")]) - 1.0).abs() < 1e-9);
    router.finish().await;
}

#[tokio::test]
async fn a_thousand_paths_models_and_methods_make_a_bounded_page() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let at = serve_metrics(&router).await;
    let mut client = Client::connect(router.addr).await;
    for n in 0..1000 {
        let model = format!("{{\"model\":\"m{n}\\\"\\n\\\\\",\"text\":\"a\"}}");
        client.send(post("/generate", &model)).await;
        assert_eq!(client.response().await.status, 200);
        let strange = format!("M{n} /path/{n} HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\r\n");
        client.send(strange).await;
        assert_eq!(client.response().await.status, 200);
    }
    let page = scrape(at).await;
    let distinct = |label: &str| -> BTreeSet<&str> {
        let labels = page.series().flat_map(|s| &s.labels);
        labels.filter(|(name, _)| name == label).map(|(_, value)| value.as_str()).collect()
    };
    let models = distinct("model");
    assert_eq!(models.len(), 35, "32, other, default, and unknown of the worker: {models:?}");
    assert!(models.contains("m31\"\n\\") && !models.contains("m32\"\n\\"), "escaped and read back");
    assert_eq!(distinct("method"), BTreeSet::from(["OTHER", "POST"]));
    assert_eq!(distinct("path"), BTreeSet::from(["/generate", "other"]));
    let others = page.values("smg_router_requests_total", &[("model", "other"), ("endpoint", "generate")]);
    assert_eq!(others.iter().sum::<f64>().to_bits(), 968f64.to_bits());
    assert!(page.series().count() < 2_000, "{}", page.series().count());
    assert_eq!(router.finish_requests().await.len(), 2_000);
}

#[tokio::test]
async fn health_checks_are_counted_by_their_result() {
    // The harness's worker answers 404 to what is no client's request.
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |config| config.health.enabled = true).await;
    let at = serve_metrics(&router).await;
    let failures = async {
        loop {
            let page = scrape(at).await;
            if page.value("smg_worker_health_checks_total", &[("result", "failure")]) >= 1.0 {
                return page;
            }
        }
    };
    let page = tokio::time::timeout(PATIENCE, failures).await.expect("the first check fails");
    assert!(page.value("smg_worker_health_checks_total", &[("result", "success")]).abs() < 1e-9);
    assert!(page.value("smg_worker_health", &[("worker", worker.url.as_str())]).abs() < 1e-9);
    router.finish().await;
}

#[tokio::test]
async fn other_paths_of_the_metrics_port_are_not_there() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let at = serve_metrics(&router).await;
    let (head, _) = get(TcpStream::connect(at).await.unwrap(), "/workers").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    router.finish().await;
}

/// A stream that takes two seconds between its two events, on pipes and in virtual time.
#[tokio::test(start_paused = true)]
async fn a_stream_of_two_seconds_is_counted_as_two_seconds() {
    let net = PipeNet::default();
    let worker = net.listen(1);
    tokio::spawn(slow_worker(worker));
    let mut config = RouteConfig {
        workers: worker_urls(&["http://127.0.0.1:1".to_owned()], "127.0.0.1", 3).unwrap(),
        policy: "round_robin".to_owned(),
        ..RouteConfig::default()
    };
    config.health.enabled = false;
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let router = Router::start(config, "pipe", clock, Connector::Pipes(net.clone())).unwrap();
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(router.serve(net.listen(3), Some(net.listen(4)), stopped));
    let mut client = net.connect(3).await.unwrap();
    client.write_all(post("/generate", r#"{"text":"a","stream":true}"#).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"0\r\n\r\n") {
        assert_ne!(client.read_buf(&mut answer).await.unwrap(), 0);
    }
    let (_, body) = get(net.connect(4).await.unwrap(), "/metrics").await;
    let page = Page::parse(&body);
    let url = [("worker", "http://127.0.0.1:1")];
    let route = [("method", "POST"), ("path", "/generate")];
    for (name, labels) in [
        ("smg_http_request_duration_seconds", &route[..]),
        ("smg_router_request_duration_seconds", &ROUTER[..]),
        ("milepost_worker_decode_seconds", &url[..]),
        ("milepost_worker_itl_seconds", &url[..]),
    ] {
        let sum = page.value(&format!("{name}_sum"), labels);
        assert!((2.0..2.1).contains(&sum), "{name}: {sum}");
        assert!((page.value(&format!("{name}_count"), labels) - 1.0).abs() < 1e-9);
    }
    stop.send(true).unwrap();
    drop(client);
    serving.await.unwrap();
}

/// Answers a stream of two tokens, two seconds apart; hangs up on the router's own questions.
async fn slow_worker(mut listener: Listener) {
    while let Ok((io, _)) = listener.accept().await {
        tokio::spawn(answer_slowly(io));
    }
}

async fn answer_slowly(mut io: Io) {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\"stream\":true}") {
        if io.read_buf(&mut asked).await.unwrap_or(0) == 0 || asked.starts_with(b"GET ") {
            return;
        }
    }
    for (i, step) in generate_stream(2).into_iter().enumerate() {
        // After the head and the first event.
        if i == 2 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let Step::Send(bytes) = step else { continue };
        io.write_all(&bytes).await.unwrap();
    }
}

#[tokio::test]
async fn the_breaker_of_each_worker_is_on_the_page() {
    let sick =
        Worker::start(|_| vec![Step::Send(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n".to_vec())]).await;
    let well = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&sick, &well], |c| c.breaker.failure_threshold = 2).await;
    let at = serve_metrics(&router).await;
    for _ in 0..8 {
        assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    }
    let page = scrape(at).await;
    let one = |name: &str, labels: &[(&str, &str)], value: f64| {
        assert!((page.value(name, labels) - value).abs() < 1e-9, "{name}{labels:?}");
    };
    for (worker, state, failures, successes) in [(&sick, 1.0, 2.0, 0.0), (&well, 0.0, 0.0, 8.0)] {
        let url = [("worker", worker.url.as_str())];
        one("smg_worker_cb_state", &url, state);
        one("smg_worker_cb_consecutive_failures", &url, failures);
        one("smg_worker_cb_consecutive_successes", &url, successes);
        one("smg_worker_cb_outcomes_total", &[url[0], ("outcome", "failure")], failures);
        one("smg_worker_cb_outcomes_total", &[url[0], ("outcome", "success")], successes);
    }
    let opened = [("worker", sick.url.as_str()), ("from", "closed"), ("to", "open")];
    one("smg_worker_cb_transitions_total", &opened, 1.0);
    let retries: f64 = page.values("smg_worker_retries_total", &[]).iter().sum();
    assert!((retries - 2.0).abs() < 1e-9);
    let records = router.finish_requests().await;
    assert_eq!(records.iter().filter(|r| r.attempts == 2).count(), 2);
}
