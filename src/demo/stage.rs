//! Simulated workers and a router in front of them, on free ports of the loopback interface.
//!
//! Rule: everything on a stage is a task or a thread of this process, and [`Stage::down`] returns when the last socket is
//! closed and the trace is written whole. Deliberately not here: load.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use milepost_policies::PolicyConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{DemoConfig, DemoError};
use crate::clock::Clock;
use crate::config::RouteConfig;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::ask::{Question, ask};
use crate::net::{Connector, Listener};
use crate::proxy::Shared;
use crate::proxy::serve::Router;
use crate::sim::Worker;
use crate::sim::runner::Pace;

/// Longest wait for a TCP connection to a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the workers to be healthy; a real server's /health takes a second.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Between two looks at their health.
const LOOK: Duration = Duration::from_millis(20);
/// Time for connections to end; the load has ended before.
const GRACE: Duration = Duration::from_secs(2);
/// Longest wait for a worker's own counts.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// One simulated worker.
struct Performer {
    worker: Arc<Worker>,
    host: String,
}

/// What a worker says of itself when the load is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Performance {
    /// `host:port`.
    pub host: String,
    /// How well it kept its deadlines.
    pub pace: Pace,
    /// Prompt tokens its engine found in its cache.
    pub cached_tokens: u64,
    /// Tokens its engine made.
    pub generated_tokens: u64,
    /// Requests that its engine threw out of the batch for lack of KV.
    pub retracted: u64,
}

/// The workers, serving.
struct Crew {
    performers: Vec<Performer>,
    stop: watch::Sender<bool>,
    working: JoinSet<io::Result<()>>,
}

impl Crew {
    fn new() -> Self {
        Self { performers: Vec::new(), stop: watch::channel(false).0, working: JoinSet::new() }
    }

    async fn add(&mut self, config: &DemoConfig, clock: &Clock) -> io::Result<()> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let host = listener.local_addr()?.to_string();
        let worker = Worker::start(config.worker(), clock.clone())?;
        self.working.spawn(Arc::clone(&worker).serve(listener, stopped(self.stop.subscribe())));
        self.performers.push(Performer { worker, host });
        Ok(())
    }

    async fn down(mut self) -> Result<(), DemoError> {
        self.stop.send_replace(true);
        let mut result = Ok(());
        while let Some(ended) = self.working.join_next().await {
            if let Ok(Err(e)) = ended {
                result = Err(DemoError::Run(format!("a worker ended early: {e}")));
            }
        }
        result
    }
}

/// The router, serving.
struct Front {
    address: String,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    routing: JoinSet<()>,
}

impl Front {
    async fn open(
        config: &DemoConfig,
        policy: &str,
        trace: &Path,
        clock: &Clock,
        crew: &Crew,
    ) -> Result<Self, DemoError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(system)?;
        let address = listener.local_addr().map_err(system)?.to_string();
        let workers = crew.performers.iter().map(|p| WorkerUrl::parse(&format!("http://{}", p.host)));
        let route = RouteConfig {
            workers: workers.collect::<Result<_, _>>().map_err(|e| DemoError::Run(e.to_string()))?,
            policy: policy.to_owned(),
            policy_config: PolicyConfig { seed: config.seed, ..PolicyConfig::default() },
            trace_log: Some(trace.to_owned()),
            shutdown_grace: GRACE,
            ..RouteConfig::default()
        };
        let connector = Connector::Tcp { timeout: CONNECT_TIMEOUT };
        let router = Router::start(route, &address, clock.clone(), connector)
            .map_err(|e| DemoError::Run(e.to_string()))?;
        let shared = Arc::clone(router.shared());
        let (stop, stopped) = watch::channel(false);
        let mut routing = JoinSet::new();
        routing.spawn(router.serve(Listener::Tcp(listener), None, stopped));
        Ok(Self { address, shared, stop, routing })
    }

    /// Gives the number of requests it took.
    async fn down(mut self) -> u64 {
        self.stop.send_replace(true);
        while self.routing.join_next().await.is_some() {}
        self.shared.requests.load(Ordering::Relaxed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` gives it away")]
fn system(e: io::Error) -> DemoError {
    DemoError::Run(format!("cannot start workers and router: {e}"))
}

/// Workers and a router, serving.
pub struct Stage {
    crew: Crew,
    front: Front,
}

impl Stage {
    /// Starts fresh workers, with cold caches, and a fresh router that writes `trace`.
    pub async fn up(
        config: &DemoConfig,
        policy: &str,
        trace: &Path,
        clock: &Clock,
    ) -> Result<Self, DemoError> {
        let mut crew = Crew::new();
        let opened = async {
            for _ in 0..config.workers {
                crew.add(config, clock).await.map_err(system)?;
            }
            Front::open(config, policy, trace, clock, &crew).await
        };
        match opened.await {
            Ok(front) => Ok(Self { crew, front }),
            Err(e) => {
                crew.down().await?;
                Err(e)
            }
        }
    }

    /// Where the router listens.
    pub fn address(&self) -> &str {
        &self.front.address
    }

    /// Returns when the router has found every worker healthy.
    pub async fn ready(&self) -> Result<(), DemoError> {
        let healthy = async {
            while !self.front.shared.fleet.workers().iter().all(|w| w.is_healthy()) {
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| DemoError::Run(format!("the workers were not healthy after {READY_TIMEOUT:?}"));
        tokio::time::timeout(READY_TIMEOUT, healthy).await.map_err(late)
    }

    /// What each worker says, in their order.
    pub async fn performances(&self) -> Result<Vec<Performance>, DemoError> {
        let mut all = Vec::with_capacity(self.crew.performers.len());
        for (performer, worker) in self.crew.performers.iter().zip(self.front.shared.fleet.workers()) {
            let question = Question::get("/milepost/sim", ASK_TIMEOUT);
            let fail = |e: &dyn std::fmt::Display| DemoError::Run(format!("worker {}: {e}", performer.host));
            let (_, body) = ask(&worker, &self.front.shared.clock, &question).await.map_err(|e| fail(&e))?;
            let told: serde_json::Value = serde_json::from_slice(&body).map_err(|e| fail(&e))?;
            let count = |key: &str| {
                told[key].as_u64().ok_or_else(|| fail(&format_args!("/milepost/sim does not tell {key}")))
            };
            all.push(Performance {
                host: performer.host.clone(),
                pace: performer.worker.pace(),
                cached_tokens: count("cached_tokens")?,
                generated_tokens: count("generated_tokens")?,
                retracted: count("retracted")?,
            });
        }
        Ok(all)
    }

    /// Stops the router, then the workers; gives the number of requests the router took.
    pub async fn down(self) -> Result<u64, DemoError> {
        let requests = self.front.down().await;
        self.crew.down().await?;
        Ok(requests)
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the stage is gone, which ends the workers as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
