//! What was asked for, as values that cannot be wrong.
//!
//! Rule: text is turned into these types once, at the edge; what cannot be used is an error that names the flag, the value
//! and what was expected. Deliberately not here: parsing of the command line (`cli`), I/O other than
//! reading a policy's file.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use milepost_policies::PolicyConfig;

use self::access::{AuthConfig, TlsConfig};
use self::resilience::{BreakerConfig, LimitConfig, RetryConfig};
use self::split::Split;
use self::worker_url::WorkerUrl;
use crate::export::otlp::send::Collector;
use crate::fleet::health::HealthConfig;
use crate::fleet::loads::LoadConfig;
use crate::trace::writer::CaptureConfig;

pub mod access;
pub mod flags;
pub mod policy_file;
pub mod resilience;
pub mod split;
pub mod worker_url;

/// How a router behaves.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Workers at start.
    pub workers: Vec<WorkerUrl>,
    /// Policy, as [`policy_file::PolicyName`] reads it; with `split` those of its arms count instead.
    pub policy: String,
    /// Pause between two looks at a policy's file.
    pub policy_file_every: Duration,
    /// An experiment on live traffic (`--split`).
    pub split: Option<Split>,
    /// Policies that are asked after each decision what they would have chosen (`--shadow-policy`).
    pub shadow_policies: Vec<String>,
    /// Policy settings, the seed of its random choices included.
    pub policy_config: PolicyConfig,
    /// Text that a worker is believed to hold at most, in bytes (`--max-tree-size`); `None`: bounded for all together alone.
    pub worker_prefix_bytes: Option<u64>,
    /// Where the trace goes, if anywhere.
    pub trace_log: Option<PathBuf>,
    /// How it is captured.
    pub capture: CaptureConfig,
    /// Where its spans are sent while the router runs (`--enable-trace`), if anywhere.
    pub otlp_traces: Option<Collector>,
    /// What the trace tells of each decision (`--trace-decisions`).
    pub trace_decisions: TraceDecisions,
    /// Records held for the writer.
    pub trace_buffer_records: usize,
    /// Largest request body (`--max-payload-size`).
    pub max_payload_bytes: u64,
    /// All request bodies together (`--max-buffered-request-bytes`).
    pub max_buffered_request_bytes: u64,
    /// All plain answers together that are held to be read at their end; beyond it they are passed on unread.
    pub max_held_answer_bytes: u64,
    /// Whole time of a request (`--request-timeout-secs`).
    pub request_timeout: Duration,
    /// Repeated attempts.
    pub retry: RetryConfig,
    /// The circuit breaker of each worker.
    pub breaker: BreakerConfig,
    /// Requests at one time.
    pub limits: LimitConfig,
    /// Keys.
    pub auth: AuthConfig,
    /// Certificates.
    pub tls: TlsConfig,
    /// Where a request id is looked for, in this order (`--request-id-headers`); empty: the four usual names.
    pub request_id_headers: Vec<HeaderName>,
    /// Browser origins that may read answers (`--cors-allowed-origins`); empty: any, as in sglang-router 0.3.2.
    pub cors_allowed_origins: Vec<String>,
    /// Headers passed to workers besides the allowlist (`--forward-headers`).
    pub forward_headers: Vec<HeaderName>,
    /// A client may name the policy for its request in `x-milepost-policy` (`--allow-policy-header`).
    pub allow_policy_header: bool,
    /// Each worker is expanded into its data-parallel ranks, `url@rank` (`--dp-aware`).
    pub dp_aware: bool,
    /// Workers at one time, those added later included.
    pub max_workers: usize,
    /// Upper bounds of the duration histograms in seconds (`--prometheus-duration-buckets`); empty: the built-in ones.
    pub duration_buckets_s: Vec<f64>,
    /// Client connections at one time.
    pub max_connections: usize,
    /// At the end, say "not ready" and serve on for this long before the listeners close (`--drain-delay-secs`).
    pub drain_delay: Duration,
    /// Wait for streams at the end (`--shutdown-grace-period-secs`).
    pub shutdown_grace: Duration,
    /// Health checks.
    pub health: HealthConfig,
    /// Questions to servers about their load.
    pub loads: LoadConfig,
}

impl Default for RouteConfig {
    /// sglang-router 0.3.2's defaults where it has the setting.
    fn default() -> Self {
        Self {
            workers: Vec::new(),
            policy: "cache_aware".to_owned(),
            policy_file_every: Duration::from_secs(1),
            split: None,
            shadow_policies: Vec::new(),
            policy_config: PolicyConfig::default(),
            worker_prefix_bytes: None,
            trace_log: None,
            capture: CaptureConfig::default(),
            otlp_traces: None,
            trace_decisions: TraceDecisions::default(),
            trace_buffer_records: crate::trace::sink::DEFAULT_CAPACITY_RECORDS,
            max_payload_bytes: 512 * 1024 * 1024,
            max_buffered_request_bytes: 4 * 1024 * 1024 * 1024,
            max_held_answer_bytes: 256 * 1024 * 1024,
            request_timeout: Duration::from_secs(1800),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
            limits: LimitConfig::default(),
            auth: AuthConfig::default(),
            tls: TlsConfig::default(),
            request_id_headers: Vec::new(),
            cors_allowed_origins: Vec::new(),
            forward_headers: Vec::new(),
            allow_policy_header: false,
            dp_aware: false,
            max_workers: 4096,
            duration_buckets_s: Vec::new(),
            max_connections: 65_536,
            drain_delay: Duration::ZERO,
            shutdown_grace: Duration::from_secs(180),
            health: HealthConfig::default(),
            loads: LoadConfig::default(),
        }
    }
}

/// What the trace tells of each decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TraceDecisions {
    /// Nothing.
    Off,
    /// Why this worker, and what that took: all that a span tells.
    Reason,
    /// What the policy saw and said.
    #[default]
    Record,
    /// The same, and every call into the core that decides, for an exact replay.
    Journal,
}

impl TraceDecisions {
    /// The part of it that spans tell.
    #[must_use]
    pub fn of_spans(self) -> Self {
        if self == Self::Off { Self::Off } else { Self::Reason }
    }
}

impl RouteConfig {
    /// A trace file is written, or one may be started while the router runs.
    pub fn may_write_trace(&self) -> bool {
        self.trace_log.is_some() || self.capture.folder.is_some()
    }

    /// What is to be recorded of each decision: where no file can be written, no more than spans tell.
    pub fn recorded_decisions(&self) -> TraceDecisions {
        if self.may_write_trace() { self.trace_decisions } else { self.trace_decisions.of_spans() }
    }

    /// Name of the policy that is built first: the configured one, or that of the first arm.
    pub fn first_policy(&self) -> &str {
        self.split.as_ref().and_then(|split| split.arms().first()).map_or(&self.policy, |arm| &arm.policy)
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Reads `--worker-urls`: each a worker, none twice, none this router itself.
pub fn worker_urls(
    texts: &[String],
    listen_host: &str,
    listen_port: u16,
) -> Result<Vec<WorkerUrl>, ConfigError> {
    let mut urls: Vec<WorkerUrl> = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let number = i + 1;
        let refuse = |why: String| ConfigError(format!("worker {number} of {}: {why}", texts.len()));
        let url = WorkerUrl::parse(text).map_err(|e| refuse(e.to_string()))?;
        if let Some(first) = urls.iter().position(|u| *u == url) {
            return Err(refuse(format!("{url} is worker {} already; name each worker once", first + 1)));
        }
        if is_listener(&url, listen_host, listen_port) {
            let why = "is this router's own address; a router cannot be its own worker";
            return Err(refuse(format!("{url} {why}")));
        }
        urls.push(url);
    }
    Ok(urls)
}

/// True where the address certainly is the router's own; other spellings are caught at the first request (508).
pub fn is_listener(url: &WorkerUrl, listen_host: &str, listen_port: u16) -> bool {
    let local = |host: &str| {
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| crate::net::is_this_host(ip))
    };
    url.port() == listen_port && (url.host() == listen_host || (local(url.host()) && local(listen_host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Vec<WorkerUrl>, String> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        worker_urls(&texts, "0.0.0.0", 30_000).map_err(|e| e.to_string())
    }

    #[test]
    fn errors_name_the_worker_and_what_to_do() {
        assert_eq!(
            parse(&["http://a:1", "http://b:2", "gpu3:8000"]).unwrap_err(),
            "worker 3 of 3: expected http://host:port, got gpu3:8000 (http:// is missing)"
        );
        assert!(
            parse(&["http://a:1", "http://A:1/"])
                .unwrap_err()
                .contains("worker 2 of 2: http://a:1 is worker 1 already")
        );
        assert!(parse(&["http://localhost:30000"]).unwrap_err().contains("its own worker"));
        assert_eq!(parse(&["http://localhost:30001"]).unwrap().len(), 1);
    }
}
