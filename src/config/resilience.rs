//! How failed attempts are repeated, when a worker is left alone, and how many requests run at one time.
//!
//! Defaults are sglang-router 0.3.2's. Deliberately not here: the state machines (`fleet::breaker`, `proxy`).

use std::time::Duration;

/// `--retry-*`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryConfig {
    /// Attempts for one request before its first response byte, at least 1 (`--retry-max-retries`, which counts attempts; 1
    /// with `--disable-retries`).
    pub max_attempts: u32,
    /// Pause once every eligible worker has been tried (`--retry-initial-backoff-ms`).
    pub initial_backoff: Duration,
    /// Longest such pause (`--retry-max-backoff-ms`).
    pub max_backoff: Duration,
    /// Each pause is this many times the one before (`--retry-backoff-multiplier`).
    pub backoff_multiplier: f64,
    /// A pause is made longer or shorter by up to this share of it, 0 to 1 (`--retry-jitter-factor`).
    pub jitter_factor: f64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(30),
            backoff_multiplier: 1.5,
            jitter_factor: 0.2,
        }
    }
}

/// `--cb-*`: when a worker gets no requests though it answers health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Off with `--disable-circuit-breaker`.
    pub enabled: bool,
    /// Failures in a row that open it (`--cb-failure-threshold`).
    pub failure_threshold: u32,
    /// Successes in a row that close it again (`--cb-success-threshold`).
    pub success_threshold: u32,
    /// From open to half-open (`--cb-timeout-duration-secs`).
    pub open_for: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { enabled: true, failure_threshold: 10, success_threshold: 3, open_for: Duration::from_secs(60) }
    }
}

/// How many requests may run, wait and begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// Requests at workers at one time (`--max-concurrent-requests`; `None` for -1).
    pub max_concurrent: Option<u32>,
    /// Requests that may begin in a second (`--rate-limit-tokens-per-second`).
    pub rate_per_second: Option<u32>,
    /// Requests waiting for either; 0: none waits (`--queue-size`).
    pub queue_size: usize,
    /// Longest such wait (`--queue-timeout-secs`).
    pub queue_timeout: Duration,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            max_concurrent: None,
            rate_per_second: None,
            queue_size: 100,
            queue_timeout: Duration::from_secs(60),
        }
    }
}
