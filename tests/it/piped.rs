//! A router, its workers and its clients over pipes, in virtual time.
//!
//! Rule: use it in tests with paused time only, and only where time matters: a pause of a minute takes none, and its length is
//! exact. Whatever is idle lets time jump to the next timer, so nothing here waits for the operating system.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::{ConfigError, RouteConfig, worker_urls};
use milepost::net::{Connector, Io, PipeNet};
use milepost::proxy::Shared;
use milepost::proxy::serve::Router;
use milepost::trace::record::{Record, RequestRecord, WorkerRecord};
use milepost_policies::Policy;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{Client, Got, Response, Script, Step, Worker, converse};

/// Port of the router.
const ROUTER_PORT: u16 = 30_000;
/// Port of its metrics.
const METRICS_PORT: u16 = 29_000;

/// A worker that follows a script, on a port of `net`.
pub fn worker(
    net: &PipeNet,
    port: u16,
    script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static,
) -> Worker {
    let mut listener = net.listen(port);
    let got = Arc::new(Mutex::new(Vec::new()));
    let (log, script): (_, Script) = (Arc::clone(&got), Arc::new(script));
    tokio::spawn(async move {
        let connections = Arc::new(AtomicU64::new(0));
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(converse(io, Arc::clone(&connections), Arc::clone(&log), Arc::clone(&script)));
        }
    });
    Worker { url: url(port), got }
}

/// The URL of a port, whether or not somebody listens.
pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A router under test.
pub struct PipedRouter {
    pub shared: Arc<Shared>,
    net: PipeNet,
    began: tokio::time::Instant,
    trace: std::path::PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl PipedRouter {
    /// Starts with health checks off.
    pub fn start(net: &PipeNet, urls: &[String], change: impl FnOnce(&mut RouteConfig)) -> Self {
        let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
        Self::with_clock(net, urls, clock, change)
    }

    /// As [`Self::start`], with a clock that may not be that of the timers.
    pub fn with_clock(
        net: &PipeNet,
        urls: &[String],
        clock: Clock,
        change: impl FnOnce(&mut RouteConfig),
    ) -> Self {
        let pipes = Connector::Pipes(net.clone());
        Self::begin(net, urls, change, |config| Router::start(config, "pipe", clock, pipes))
    }

    /// As [`Self::start`], with a policy of the test's own.
    pub fn with_policy(
        net: &PipeNet,
        urls: &[String],
        policy: Box<dyn Policy>,
        change: impl FnOnce(&mut RouteConfig),
    ) -> Self {
        let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
        let pipes = Connector::Pipes(net.clone());
        Self::begin(net, urls, change, |config| Router::start_with(policy, config, "pipe", clock, pipes))
    }

    fn begin(
        net: &PipeNet,
        urls: &[String],
        change: impl FnOnce(&mut RouteConfig),
        start: impl FnOnce(RouteConfig) -> Result<Router, ConfigError>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("milepost-piped-{}-{}.jsonl", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let trace = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&trace);
        let mut config = RouteConfig {
            workers: worker_urls(urls, "127.0.0.1", ROUTER_PORT).unwrap(),
            policy: "round_robin".to_owned(),
            trace_log: Some(trace.clone()),
            ..RouteConfig::default()
        };
        config.health.enabled = false;
        change(&mut config);
        let router = start(config).unwrap();
        let shared = Arc::clone(router.shared());
        let (stop, stopped) = watch::channel(false);
        let task =
            tokio::spawn(router.serve(net.listen(ROUTER_PORT), Some(net.listen(METRICS_PORT)), stopped));
        Self { shared, net: net.clone(), began: tokio::time::Instant::now(), trace, stop, task }
    }

    /// A client on a connection of its own.
    pub async fn client(&self) -> Client<Io> {
        Client::on(self.net.connect(ROUTER_PORT).await.unwrap())
    }

    /// Sends one request on a fresh connection.
    pub async fn ask(&self, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = self.client().await;
        client.send(bytes).await;
        client.response().await
    }

    /// Status of `/readiness`.
    pub async fn readiness(&self) -> u16 {
        self.ask("GET /readiness HTTP/1.1\r\nhost: r\r\n\r\n").await.status
    }

    /// The page of `/metrics`.
    pub async fn metrics(&self) -> String {
        let mut client = Client::on(self.net.connect(METRICS_PORT).await.unwrap());
        client.send("GET /metrics HTTP/1.1\r\nhost: r\r\n\r\n").await;
        client.response().await.text()
    }

    /// Virtual time since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Stops it; the records of clients' requests that went to workers, in order of arrival, and those of the workers.
    pub async fn finish(self) -> (Vec<RequestRecord>, Vec<WorkerRecord>) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        let text = std::fs::read_to_string(&self.trace).unwrap();
        std::fs::remove_file(&self.trace).unwrap();
        let (mut requests, mut workers) = (Vec::new(), Vec::new());
        for line in text.lines() {
            match serde_json::from_str(line).expect(line) {
                Record::Request(r) => requests.push(*r),
                Record::Worker(w) => workers.push(w),
                _ => {}
            }
        }
        assert_eq!(self.shared.requests.load(Ordering::Relaxed), requests.len() as u64, "one record each");
        assert_eq!(self.shared.budget.used_bytes(), 0, "body memory is back");
        for worker in self.shared.fleet.workers() {
            assert_eq!(worker.in_flight(), 0, "lease at {} is back", worker.url);
        }
        requests.retain(|r| r.request_kind == milepost::trace::record::RequestKind::Routed);
        requests.sort_by_key(|r| r.seq);
        (requests, workers)
    }
}

/// What happened to breakers, in order: event and worker.
pub fn breaker_events(workers: &[WorkerRecord]) -> Vec<(&str, &str)> {
    let events = workers.iter().filter(|w| w.event.starts_with("breaker_"));
    events.map(|w| (w.event.as_str(), &*w.worker)).collect()
}
