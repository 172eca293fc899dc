//! What the router says when it is there: where it is, and the settings that explain most surprises.
//!
//! Rule: two lines, no key, no path of a key. Deliberately not here: a listing of all settings.

use std::net::SocketAddr;

use crate::config::RouteConfig;

/// The lines for a router at `address`, with its metrics at `metrics` if they are to be had.
pub(super) fn of(config: &RouteConfig, address: SocketAddr, metrics: Option<SocketAddr>) -> [String; 2] {
    let scheme = if config.tls.server.is_some() { "https" } else { "http" };
    let trace = config.trace_log.as_ref().map_or("off".to_owned(), |p| p.display().to_string());
    let metrics = metrics.map_or("off".to_owned(), |at| format!("http://{at}/metrics"));
    let spans = config.otlp_traces.as_ref().map_or(String::new(), |to| format!(", spans to {to}"));
    let place = format!(
        "routing on {scheme}://{address}, {}, {}, trace {trace}{spans}, metrics {metrics}",
        policy(config),
        workers(config.workers.len()),
    );
    let settings = format!(
        "version {}, pid {}, {}; {}; {}; {}; {}",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        keys(config),
        limits(config),
        attempts(config),
        breaker(config),
        health(config),
    );
    [place, settings]
}

fn policy(config: &RouteConfig) -> String {
    let policy = match &config.split {
        Some(split) => format!("split {split}"),
        None => format!("policy {}", config.policy),
    };
    match config.shadow_policies.as_slice() {
        [] => policy,
        shadows => format!("{policy} (shadows: {})", shadows.join(", ")),
    }
}

fn workers(count: usize) -> String {
    match count {
        0 => "no workers yet (POST /workers adds one)".to_owned(),
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    }
}

fn keys(config: &RouteConfig) -> &'static str {
    match (&config.auth.api_key, config.auth.control_plane.is_empty()) {
        (None, true) => "open to everybody (no --api-key)",
        (None, false) => "requests open to everybody, control endpoints by key",
        (Some(_), true) => "requests and control endpoints by --api-key",
        (Some(_), false) => "requests by --api-key, control endpoints by keys of their own",
    }
}

fn limits(config: &RouteConfig) -> String {
    let limits = &config.limits;
    let limit = match (limits.max_concurrent, limits.rate_per_second) {
        (None, None) => return "no limit of requests".to_owned(),
        (Some(n), None) => format!("at most {n} requests at once"),
        (None, Some(rate)) => format!("at most {rate} requests/s"),
        (Some(n), Some(rate)) => format!("at most {n} requests at once, {rate} a second"),
    };
    format!("{limit}, {} wait up to {} s", limits.queue_size, limits.queue_timeout.as_secs())
}

fn attempts(config: &RouteConfig) -> String {
    let timeout_s = config.request_timeout.as_secs();
    match config.retry.max_attempts {
        1 => format!("1 attempt in {timeout_s} s"),
        n => format!("{n} attempts in {timeout_s} s"),
    }
}

fn breaker(config: &RouteConfig) -> String {
    match config.breaker {
        breaker if breaker.enabled => {
            format!(
                "breaker opens for {} s at {} failures",
                breaker.open_for.as_secs(),
                breaker.failure_threshold
            )
        }
        _ => "no breaker".to_owned(),
    }
}

fn health(config: &RouteConfig) -> String {
    let health = &config.health;
    if !health.enabled {
        return "no health checks".to_owned();
    }
    format!(
        "health {} every {} s, out at {} failures",
        health.endpoint,
        health.interval.as_secs(),
        health.failure_threshold
    )
}
