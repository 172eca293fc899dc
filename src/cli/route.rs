//! `milepost route`: the command line of the router, sglang-router's names and defaults.
//!
//! Deliberately not here: what the values mean (`config`), the router (`proxy::serve`).

#![expect(clippy::doc_markdown, reason = "doc comments here are the text of --help")]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::HeaderName;
use milepost_policies::PolicyConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Failure;
use super::signal::StopSignals;
use crate::clock::Clock;
use crate::config::resilience::RetryConfig;
use crate::config::{RouteConfig, worker_urls};
use crate::fleet::health::HealthConfig;
use crate::log;
use crate::net::{Connector, Listener};
use crate::proxy::serve::Router;

/// Longest wait for a TCP connection to a worker; sglang-router's.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `milepost route`.
#[derive(Debug, Args)]
#[command(
    // As argparse does: an unambiguous beginning will do, and of a flag given twice the last one counts.
    infer_long_args = true,
    args_override_self = true,
    after_help = "Try: milepost route --worker-urls http://gpu0:8000 http://gpu1:8000 --policy cache_aware --trace-log trace.jsonl"
)]
pub struct RouteArgs {
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    host: String,
    /// Port to listen on; 0 takes a free one and prints it.
    #[arg(long, default_value_t = 30000)]
    port: u16,
    /// Workers, each http://host:port; they may come up later.
    #[arg(long, num_args = 0.., value_name = "URL")]
    worker_urls: Vec<String>,
    /// Routing policy: cache_aware, round_robin, random, shortest_queue.
    #[arg(long, default_value = "cache_aware", value_name = "NAME")]
    policy: String,
    /// Write one JSON line per request to this file (appended; mode 0600).
    #[arg(long, value_name = "FILE")]
    trace_log: Option<PathBuf>,
    /// Records held in memory for the trace writer; beyond that they are counted as lost.
    #[arg(long, default_value_t = crate::trace::sink::DEFAULT_CAPACITY_RECORDS, value_name = "N")]
    trace_buffer_records: usize,
    /// Seed of every random decision.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// cache_aware: least share of the prompt that must match a worker's prefix (strictly more than this).
    #[arg(long, default_value_t = 0.3, value_name = "SHARE")]
    cache_threshold: f64,
    /// cache_aware: the fleet is imbalanced if max - min in flight exceeds this, and
    #[arg(long, default_value_t = 64, value_name = "REQUESTS")]
    balance_abs_threshold: u64,
    /// cache_aware: max exceeds min times this.
    #[arg(long, default_value_t = 1.5, value_name = "RATIO")]
    balance_rel_threshold: f64,
    /// Largest request body, in bytes (413 above).
    #[arg(long, default_value_t = 536_870_912, value_name = "BYTES")]
    max_payload_size: u64,
    /// All request bodies in memory together, in bytes (503 above).
    #[arg(long, default_value_t = 4_294_967_296, value_name = "BYTES")]
    max_buffered_request_bytes: u64,
    /// Longest time of a whole request, its stream included.
    #[arg(long, default_value_t = 1800, value_name = "SECS")]
    request_timeout_secs: u64,
    /// Workers tried for one request before its first response byte (sglang-router's name; it counts attempts).
    #[arg(long, default_value_t = 5, value_name = "N")]
    retry_max_retries: u32,
    /// One attempt only.
    #[arg(long)]
    disable_retries: bool,
    /// Client headers passed to workers besides the allowlist.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    forward_headers: Vec<String>,
    /// Port of /metrics; 0 takes a free one. Without this flag a taken 29000 is only a warning.
    #[arg(long, value_name = "PORT")]
    prometheus_port: Option<u16>,
    /// Address of /metrics.
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    prometheus_host: String,
    #[command(flatten)]
    health: HealthArgs,
    /// At the end, wait this long for streams.
    #[arg(long, default_value_t = 180, value_name = "SECS")]
    shutdown_grace_period_secs: u64,
    /// What to say on standard error.
    #[arg(long, value_enum, default_value = "info")]
    log_level: log::Level,
}

#[derive(Debug, Args)]
struct HealthArgs {
    /// Path asked for.
    #[arg(long, default_value = "/health", value_name = "PATH")]
    health_check_endpoint: String,
    /// Pause between two checks of a worker.
    #[arg(long, default_value_t = 60, value_name = "SECS")]
    health_check_interval_secs: u64,
    /// Longest wait for one check.
    #[arg(long, default_value_t = 5, value_name = "SECS")]
    health_check_timeout_secs: u64,
    /// Failures in a row until a worker gets no more requests.
    #[arg(long, default_value_t = 3, value_name = "N")]
    health_failure_threshold: u32,
    /// Successes in a row until it gets requests again.
    #[arg(long, default_value_t = 2, value_name = "N")]
    health_success_threshold: u32,
    /// Every worker is healthy, always.
    #[arg(long)]
    disable_health_check: bool,
    /// After this long without a first answer a worker is reported; it is still asked.
    #[arg(long, default_value_t = 1800, value_name = "SECS")]
    worker_startup_timeout_secs: u64,
    /// Longest pause between two first tries to reach a worker.
    #[arg(long, default_value_t = 30, value_name = "SECS")]
    worker_startup_check_interval: u64,
}

/// Runs the router until a signal.
pub fn run(args: &RouteArgs) -> Result<(), Failure> {
    log::set_level(args.log_level);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))?;
    let result = runtime.block_on(route(args));
    runtime.shutdown_background();
    result
}

async fn route(args: &RouteArgs) -> Result<(), Failure> {
    let config = config(args)?;
    let listener = bind("--host/--port", &args.host, args.port).await?;
    let metrics = metrics_listener(args).await?;
    let address = listener.local_addr().map_err(|e| Failure::Run(e.to_string()))?;
    let (policy, workers) = (config.policy.clone(), config.workers.len());
    let trace = config.trace_log.as_ref().map_or("off".to_owned(), |p| p.display().to_string());
    let connector = Connector::Tcp { timeout: CONNECT_TIMEOUT };
    let router = Router::start(config, &address.to_string(), Clock::system(), connector)
        .map_err(|e| Failure::Usage(e.to_string()))?;
    // Before the router says that it is there: whoever reads that may stop it.
    let signals =
        StopSignals::listen().map_err(|e| Failure::Run(format!("cannot listen for signals: {e}")))?;
    let metrics_at = metrics.as_ref().and_then(Listener::local_addr);
    log::info(&format!(
        "routing on http://{address}, policy {policy}, {workers} workers, trace {trace}, metrics {}",
        metrics_at.map_or("off".to_owned(), |a| format!("http://{a}/metrics"))
    ));
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(stop_on_signal(signals, stop));
    router.serve(Listener::Tcp(listener), metrics, stopped).await;
    Ok(())
}

/// The first signal begins the drain, the second ends the process.
async fn stop_on_signal(mut signals: StopSignals, stop: watch::Sender<bool>) {
    signals.next().await;
    log::info("stopping; a second signal ends at once");
    let _ = stop.send(true);
    signals.next().await;
    std::process::exit(130);
}

fn config(args: &RouteArgs) -> Result<RouteConfig, Failure> {
    let usage = |e: String| Failure::Usage(e);
    let workers = worker_urls(&args.worker_urls, &args.host, args.port).map_err(|e| usage(e.to_string()))?;
    if !(0.0..=1.0).contains(&args.cache_threshold) {
        return Err(usage(format!("--cache-threshold: expected 0.0 to 1.0, got {}", args.cache_threshold)));
    }
    if !args.balance_rel_threshold.is_finite() || args.balance_rel_threshold < 0.0 {
        return Err(usage(format!(
            "--balance-rel-threshold: expected a ratio, got {}",
            args.balance_rel_threshold
        )));
    }
    let forward_headers = args
        .forward_headers
        .iter()
        .map(|name| {
            name.parse::<HeaderName>()
                .map_err(|_| usage(format!("--forward-headers: {name:?} is not a header name")))
        })
        .collect::<Result<_, _>>()?;
    Ok(RouteConfig {
        workers,
        policy: args.policy.clone(),
        policy_config: PolicyConfig {
            seed: args.seed,
            cache_threshold: args.cache_threshold,
            balance_abs_threshold: args.balance_abs_threshold,
            balance_rel_threshold: args.balance_rel_threshold,
            ..PolicyConfig::default()
        },
        trace_log: args.trace_log.clone(),
        trace_buffer_records: args.trace_buffer_records,
        max_payload_bytes: args.max_payload_size,
        max_buffered_request_bytes: args.max_buffered_request_bytes,
        request_timeout: positive("--request-timeout-secs", args.request_timeout_secs)?,
        retry: RetryConfig {
            max_attempts: if args.disable_retries { 1 } else { args.retry_max_retries.max(1) },
            ..RetryConfig::default()
        },
        forward_headers,
        shutdown_grace: Duration::from_secs(args.shutdown_grace_period_secs),
        health: health(&args.health)?,
        ..RouteConfig::default()
    })
}

fn health(args: &HealthArgs) -> Result<HealthConfig, Failure> {
    if !args.health_check_endpoint.starts_with('/') {
        return Err(Failure::Usage(format!(
            "--health-check-endpoint: expected a path such as /health, got {}",
            args.health_check_endpoint
        )));
    }
    Ok(HealthConfig {
        enabled: !args.disable_health_check,
        endpoint: args.health_check_endpoint.clone(),
        interval: positive("--health-check-interval-secs", args.health_check_interval_secs)?,
        timeout: positive("--health-check-timeout-secs", args.health_check_timeout_secs)?,
        failure_threshold: args.health_failure_threshold.max(1),
        success_threshold: args.health_success_threshold.max(1),
        startup_timeout: Duration::from_secs(args.worker_startup_timeout_secs),
        startup_interval: positive("--worker-startup-check-interval", args.worker_startup_check_interval)?,
    })
}

fn positive(flag: &str, secs: u64) -> Result<Duration, Failure> {
    // A century is for ever, and adding it to a clock cannot overflow.
    match secs {
        0 => Err(Failure::Usage(format!("{flag}: expected at least 1 second, got 0"))),
        secs => Ok(Duration::from_secs(secs.min(3_155_760_000))),
    }
}

async fn metrics_listener(args: &RouteArgs) -> Result<Option<Listener>, Failure> {
    let given = args.prometheus_port;
    match bind("--prometheus-host/--prometheus-port", &args.prometheus_host, given.unwrap_or(29000)).await {
        Ok(listener) => Ok(Some(Listener::Tcp(listener))),
        Err(failure) if given.is_none() => {
            log::warn(&format!("{failure}; no metrics (give --prometheus-port to choose another)"));
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// Binds an address; the error names the flags, the port and what to do.
pub(super) async fn bind(flags: &str, host: &str, port: u16) -> Result<TcpListener, Failure> {
    let ip: IpAddr = match host.trim_start_matches('[').trim_end_matches(']') {
        "localhost" => IpAddr::from([127, 0, 0, 1]),
        text => text.parse().map_err(|_| {
            Failure::Usage(format!("{flags}: expected an IP address such as 0.0.0.0, got {host}"))
        })?,
    };
    let address = SocketAddr::new(ip, port);
    TcpListener::bind(address).await.map_err(|e| {
        Failure::Usage(match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "{flags}: {address} is taken by another process; choose another port or stop that one"
                )
            }
            _ => format!("{flags}: cannot listen on {address}: {e}"),
        })
    })
}
