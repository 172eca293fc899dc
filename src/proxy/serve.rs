//! Puts a router together from values and runs it: over TCP in production, over pipes and virtual time in simulation.
//!
//! Rule: everything that differs between the two comes in here (clock, connector, listeners). Deliberately not here: the
//! command line, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use milepost_policies::Policy;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::budget::Budget;
use super::cors::Cors;
use super::cut::Cut;
use super::experiment::Experiment;
use super::fallback::Fallbacks;
use super::limit::Limit;
use super::span::{SpanIds, Spans};
use super::{Shared, accept};
use crate::admin::live::Live;
use crate::admin::metrics::{self, Metrics};
use crate::clock::Clock;
use crate::config::access::AuthConfig;
use crate::config::policy_file::PolicyName;
use crate::config::{ConfigError, RouteConfig};
use crate::export::otlp::courier::Courier;
use crate::fleet::reload::{self, Watched};
use crate::fleet::shadow::Shadows;
use crate::fleet::spec::WorkerSpec;
use crate::fleet::{Fleet, FleetConfig};
use crate::log;
use crate::net::dialer::Dialer;
use crate::net::tls::TlsError;
use crate::net::{Connector, Listener};
use crate::trace::boot_id;
use crate::trace::record::{CaptureRecord, RunRecord};
use crate::trace::schema::SCHEMA;
use crate::trace::sink::Sink;
use crate::trace::writer::TraceWriter;

/// A router that can be served.
pub struct Router {
    shared: Arc<Shared>,
    writer: Option<TraceWriter>,
    /// Sends spans.
    courier: Option<Courier>,
    /// The configured policy's file.
    watched: Option<Watched>,
}

impl Router {
    /// Opens the trace and starts to watch the workers. Call within a tokio runtime.
    pub fn start(
        config: RouteConfig,
        listen: &str,
        clock: Clock,
        connector: Connector,
    ) -> Result<Self, ConfigError> {
        let flag = if config.split.is_some() { "--split" } else { "--policy" };
        let refuse = |e| ConfigError(format!("{flag}: {e}"));
        let name = PolicyName::parse(config.first_policy()).map_err(refuse)?;
        // Before it is read, so that a change meanwhile is seen.
        let watched = name.file().map(Watched::configured);
        let policy = name.build(&config.policy_config).map_err(refuse)?;
        let mut router = Self::start_with(policy, config, listen, clock, connector)?;
        router.watched = watched;
        Ok(router)
    }

    /// As [`Self::start`], with a policy that need not be known by a name: a simulation brings one that panics.
    pub fn start_with(
        policy: Box<dyn Policy>,
        config: RouteConfig,
        listen: &str,
        clock: Clock,
        connector: Connector,
    ) -> Result<Self, ConfigError> {
        sendable(&config.auth)?;
        let instance = instance(&clock);
        let run = run_record(&config, listen, &instance, &clock);
        let courier = courier(&config, &run, &clock)?;
        let (sink, writer) = trace(&config, run, &clock, courier.as_ref())?;
        let tls = config.tls.incoming().map_err(|e| ConfigError(e.to_string()))?;
        let dialer = dialer(&config, connector)?;
        let fleet_config = FleetConfig {
            health: config.health.clone(),
            loads: config.loads,
            breaker: config.breaker,
            dp_aware: config.dp_aware,
            max_workers: config.max_workers,
            worker_prefix_bytes: config.worker_prefix_bytes,
            decisions: config.recorded_decisions(),
            policy_config: config.policy_config,
        };
        let fleet = Fleet::new(clock.clone(), dialer, fleet_config, policy, Arc::clone(&sink));
        if let Some(shadows) = shadows(&config)? {
            fleet.set_shadows(shadows);
        }
        let experiment =
            config.split.as_ref().map(|split| Experiment::start(split, &fleet, &config.policy_config));
        let experiment = experiment.transpose().map_err(|e| ConfigError(format!("--split: {e}")))?;
        for url in &config.workers {
            let spec = WorkerSpec { api_key: config.auth.api_key.clone(), ..url.clone().into() };
            // Two equal URLs were refused with the configuration.
            let _ = fleet.add(spec);
        }
        let cors = Cors::new(&config.cors_allowed_origins)?;
        let limit = Limit::new(&config.limits)?;
        let shared = Arc::new(Shared {
            budget: Budget::new(config.max_buffered_request_bytes),
            answers: Budget::new(config.max_held_answer_bytes),
            instance,
            clock,
            listen: listen.parse().ok(),
            tls,
            fleet,
            sink,
            capture: writer.as_ref().map(TraceWriter::capture),
            spans: courier.as_ref().map(|courier| Spans {
                ids: SpanIds::drawn(config.capture.sampling),
                outbox: courier.outbox(),
            }),
            live: Live::default(),
            metrics: Metrics::with_buckets(&config.duration_buckets_s)
                .with_arms(experiment.iter().flat_map(Experiment::names)),
            fallbacks: Fallbacks::default(),
            experiment,
            limit,
            cors,
            requests: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            cut: Cut::default(),
            config,
        });
        Ok(Self { shared, writer, courier, watched: None })
    }

    /// What its requests share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Serves until `stop` turns true, then drains: not ready at once, the listeners freed after the drain delay, and the
    /// streams ended or, after the grace period, cut. [`Cut::now`] ends all of that at once. The rest of the trace is written
    /// when this value is dropped.
    pub async fn serve(mut self, listener: Listener, metrics: Option<Listener>, stop: watch::Receiver<bool>) {
        let shared = Arc::clone(&self.shared);
        let (close, closing) = watch::channel(false);
        // Dropped with this future, and its tasks with it.
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared.fleet).reap_idle());
        if let Some(watched) = self.watched.take() {
            let (fleet, config) = (Arc::clone(&shared.fleet), &shared.config);
            tasks.spawn(reload::watch(fleet, watched, config.policy_config, config.policy_file_every));
        }
        if let Some(listener) = metrics {
            let (shared, mut closing) = (Arc::clone(&shared), closing.clone());
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = accept::closed(&mut closing) => {}
                    () = metrics::serve(shared, listener) => {}
                }
            });
        }
        tasks.spawn(drain(Arc::clone(&shared), stop, close));
        accept::serve(Arc::clone(&shared), listener, closing).await;
        tasks.shutdown().await;
        shared.fleet.end_watching().await;
    }
}

/// Waits for `stop`, says "not ready", and closes the listeners after the drain delay: whoever sends requests here has that
/// long to see it. `/health` stays 200, as this process is well.
async fn drain(shared: Arc<Shared>, mut stop: watch::Receiver<bool>, close: watch::Sender<bool>) {
    // A sender that is gone cannot change its mind.
    let _ = stop.wait_for(|stop| *stop).await;
    shared.draining.store(true, Ordering::Release);
    let delay = shared.config.drain_delay;
    if !delay.is_zero() {
        log::info(&format!("not ready from now on; serving on for {} s", delay.as_secs_f64()));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shared.cut.wait() => {}
        }
    }
    close.send_replace(true);
}

impl Drop for Router {
    /// Ends the health checks, lets the shadows answer what they were asked, then writes the rest of the trace; joining the
    /// writer blocks for one write at most. Then the last spans are sent, for [`LAST_WORDS`](crate::export::otlp::courier::LAST_WORDS) at most.
    fn drop(&mut self) {
        self.shared.fleet.stop_watching();
        if let Some(shadows) = self.shared.fleet.shadows() {
            shadows.finish();
        }
        self.writer = None;
        self.courier = None;
    }
}

/// The policies of `--shadow-policy`, at work.
fn shadows(config: &RouteConfig) -> Result<Option<Arc<Shadows>>, ConfigError> {
    if config.shadow_policies.is_empty() {
        return Ok(None);
    }
    let built =
        config.shadow_policies.iter().map(|name| milepost_policies::build(name, &config.policy_config));
    let built = built.collect::<Result<_, _>>().map_err(|e| ConfigError(format!("--shadow-policy: {e}")))?;
    let started = Shadows::start(built);
    started.map(Some).map_err(|e| ConfigError(format!("--shadow-policy: no thread to ask them on: {e}")))
}

/// A key that no header can carry would lock everybody out.
fn sendable(auth: &AuthConfig) -> Result<(), ConfigError> {
    let keys = auth.api_key.iter().map(|key| ("--api-key", key));
    let control = auth.control_plane.iter().map(|known| ("--control-plane-api-keys", &known.key));
    match keys.chain(control).find(|(_, key)| key.bearer().is_none()) {
        Some((flag, _)) => Err(ConfigError(format!(
            "{flag}: expected a key of visible characters, without white space around it, as a header must carry it"
        ))),
        None => Ok(()),
    }
}

/// How workers are reached. Without roots only https workers cannot be, so that is no error while there are none.
fn dialer(config: &RouteConfig, connector: Connector) -> Result<Dialer, ConfigError> {
    let tls = config.tls.outgoing();
    let https = config.workers.iter().find(|url| url.is_https());
    match (&tls, https) {
        (Err(error @ TlsError::NoRoots { .. }), Some(url)) => Err(ConfigError(format!("{url}: {error}"))),
        (Ok(_) | Err(TlsError::NoRoots { .. }), _) => Ok(Dialer::new(connector, tls)),
        (Err(error), _) => Err(ConfigError(error.to_string())),
    }
}

/// Who sends spans, if they are sent.
fn courier(config: &RouteConfig, run: &RunRecord, clock: &Clock) -> Result<Option<Courier>, ConfigError> {
    let started = config.otlp_traces.clone().map(|collector| Courier::start(collector, run, clock.clone()));
    started.transpose().map_err(|e| ConfigError(format!("--enable-trace: no thread to send spans: {e}")))
}

/// Where records go, and who takes them from there, if there is or may be a trace, or spans are made of it.
fn trace(
    config: &RouteConfig,
    run: RunRecord,
    clock: &Clock,
    courier: Option<&Courier>,
) -> Result<(Arc<Sink>, Option<TraceWriter>), ConfigError> {
    if !config.may_write_trace() && courier.is_none() {
        return Ok((Arc::new(Sink::off()), None));
    }
    let sink = Arc::new(Sink::bounded(config.trace_buffer_records));
    let (log, capture, taken) = (config.trace_log.as_deref(), config.capture.clone(), Arc::clone(&sink));
    let followers = courier.map(Courier::follower).into_iter().collect();
    let writer = TraceWriter::start(log, capture, run, taken, clock.clone(), followers);
    Ok((sink, Some(writer.map_err(|e| ConfigError(format!("--{} {e}", e.flag())))?)))
}

fn run_record(config: &RouteConfig, listen: &str, instance: &str, clock: &Clock) -> RunRecord {
    RunRecord {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        boot_id: boot_id(),
        listen: listen.to_owned(),
        policy: config.first_policy().to_owned(),
        split: config.split.as_ref().map(ToString::to_string),
        shadow_policies: config.shadow_policies.clone(),
        seed: config.policy_config.seed,
        workers: config.workers.iter().map(|u| u.as_str().to_owned()).collect(),
        capture: Some(CaptureRecord { instance: instance.to_owned(), ..CaptureRecord::default() }),
        clock: clock.snapshot(),
    }
}

/// 14 characters that no other router has: start time and process id.
fn instance(clock: &Clock) -> String {
    let started_ms = clock.now().unix_ns / 1_000_000;
    format!("{:011x}{:03x}", started_ms, std::process::id() & 0xfff)
}
