//! `milepost doctor`: what it says of each kind of server, as text, and that it leaves nothing behind.
//!
//! Rule: whole reports are compared, with times and ports masked, so that a line which changes is seen. Where time matters the
//! server is an [`engine`] over pipes in virtual time.

mod engine;
mod verdicts;

use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::access::ApiKey;
use milepost::config::worker_url::WorkerUrl;
use milepost::doctor::report::Report;
use milepost::doctor::{DoctorConfig, Limits, Rounds, run};
use milepost::net::Connector;
use milepost::sim::{Dialect, SimConfig, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::harness::{PATIENCE, TestRouter};

fn config(urls: &[String], connector: Connector) -> DoctorConfig {
    DoctorConfig {
        workers: urls.iter().map(|url| WorkerUrl::parse(url).unwrap()).collect(),
        router: None,
        api_key: None,
        dialer: connector.into(),
        limits: Limits::default(),
        checks_stop: true,
    }
}

/// Over sockets. Idle connections are not waited for.
async fn examine(urls: &[String], change: impl FnOnce(&mut DoctorConfig)) -> Report {
    let mut config = config(urls, Connector::Tcp { timeout: PATIENCE });
    config.limits.idle = Duration::ZERO;
    change(&mut config);
    run(&config, &Clock::system(), &Arc::new(Rounds::default())).await
}

/// A report without what differs from run to run: numbers of milliseconds, seconds and events, and ports.
fn masked(report: &Report) -> String {
    let mut out = String::new();
    for line in report.text().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let masked = words.iter().enumerate().map(|(at, word)| {
            let next = words.get(at + 1).copied().unwrap_or_default();
            let unit = ["ms", "s", "events"]
                .iter()
                .find(|unit| next.trim_end_matches([',', ';', ')', ':']) == **unit);
            let number = word.trim_start_matches(['+', '-']).parse::<f64>().is_ok();
            if unit.is_some() && number { "#".to_owned() } else { without_port(word) }
        });
        out += &masked.collect::<Vec<_>>().join(" ");
        out.push('\n');
    }
    out
}

fn without_port(word: &str) -> String {
    match word.split_once("//127.0.0.1:") {
        Some((scheme, rest)) => {
            format!("{scheme}//host:{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        None => word.to_owned(),
    }
}

/// A simulated worker; it stops when the second value is dropped.
async fn simulated(dialect: Dialect, change: impl FnOnce(&mut SimConfig)) -> (String, oneshot::Sender<()>) {
    let mut config = SimConfig { dialect, ..SimConfig::default() };
    change(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, config, Clock::system(), async {
        let _ = stopped.await;
    }));
    (url, stop)
}

#[tokio::test]
async fn each_dialect_is_told_apart_and_each_remedy_is_its_own() {
    let (mut urls, mut stops) = (Vec::new(), Vec::new());
    for dialect in [Dialect::V049, Dialect::V049Patched, Dialect::V0523, Dialect::V0523Rust] {
        let (url, stop) = simulated(dialect, |_| {}).await;
        urls.push(url);
        stops.push(stop);
    }
    let (url, _without) = simulated(Dialect::V0523, |config| config.metrics = false).await;
    urls.push(url);
    let report = examine(&urls, |_| {}).await;
    assert_eq!(masked(&report), include_str!("dialects.txt"), "\n{}", report.text());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["verdict"], "lacking");
    let first = &json["targets"][2];
    assert_eq!((&first["what"], &first["identity"]["version"]), (&"sglang".into(), &"0.5.23".into()));
    assert_eq!(first["streamed"]["stamps"][0]["clock"], "wall");
    assert!(first["wall_clock"]["bound_ns"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_server_behind_a_forwarded_port_is_not_believed_to_have_this_hosts_clocks() {
    let ahead = |config: &mut SimConfig| config.clock_offset_us = -250_000;
    let (patched, _first) = simulated(Dialect::V049Patched, ahead).await;
    let (newest, _second) = simulated(Dialect::V0523, ahead).await;
    let report = examine(&[patched, newest], |config| config.checks_stop = false).await;
    let findings: Vec<&str> = report.targets.iter().map(|target| target.findings[0].what.as_str()).collect();
    assert!(findings[0].starts_with("its monotonic clock is not this host's"), "{findings:?}");
    assert!(findings[1].starts_with("its wall clock is -2"), "{findings:?}");
    for target in &report.targets {
        let wall = target.wall_clock.unwrap();
        let error_ns = (wall.ahead_ns + 250_000_000).unsigned_abs();
        assert!(error_ns <= wall.bound_ns + 1_000_000, "{wall:?}");
    }
}

#[tokio::test]
async fn a_router_is_examined_after_its_workers_and_its_stop_is_seen_at_them() {
    let (a, _a) = simulated(Dialect::V0523, |_| {}).await;
    let (b, _b) = simulated(Dialect::V0523, |_| {}).await;
    let urls = [a, b];
    let router = TestRouter::with_urls(&urls, |_| {}).await;
    let address = format!("http://{}", router.addr);
    let report = examine(&urls, |config| config.router = Some(WorkerUrl::parse(&address).unwrap())).await;
    let text = masked(&report);
    let of_router = &text[text.find(" (router)").expect("it is there")..];
    assert_eq!(of_router, include_str!("router.txt"), "\n{}", report.text());
    // One streamed, one plain, and the long one that was left.
    let outcomes: Vec<&str> = router
        .finish_requests()
        .await
        .iter()
        .filter(|record| record.path == "/generate")
        .map(|record| record.outcome.name())
        .collect();
    assert_eq!(outcomes, ["done", "done", "client_gone"]);
}

#[tokio::test]
async fn no_long_request_is_sent_where_one_may_reach_a_worker_that_was_not_named() {
    let (a, _a) = simulated(Dialect::V0523, |_| {}).await;
    let (b, _b) = simulated(Dialect::V0523, |_| {}).await;
    let urls = [a, b];
    let router = TestRouter::with_urls(&urls, |_| {}).await;
    let address = format!("http://{}", router.addr);
    let report =
        examine(&urls[..1], |config| config.router = Some(WorkerUrl::parse(&address).unwrap())).await;
    let text = report.text();
    assert!(text.contains(&format!("{} is behind the router, and not among", urls[1])), "{text}");
    let records = router.finish_requests().await;
    assert_eq!(records.iter().filter(|record| record.path == "/generate").count(), 2, "the small ones alone");
}

#[tokio::test]
async fn a_key_is_asked_for_and_sent_and_never_shown() {
    let (a, _a) = simulated(Dialect::V0523, |_| {}).await;
    let key = || ApiKey::new("a-secret");
    let router = TestRouter::with_urls(&[a], |config| config.auth.api_key = key()).await;
    let url = [format!("http://{}", router.addr)];
    let without = examine(&url, |_| {}).await;
    assert!(without.text().contains("fault        it wants a key (status 401)"), "{}", without.text());
    let with = examine(&url, |config| (config.api_key, config.checks_stop) = (key(), false)).await;
    assert!(with.text().contains("a router, milepost"), "{}", with.text());
    assert!(!format!("{}{with:?}", with.text()).contains("a-secret"));
    drop(router.finish().await);
}
