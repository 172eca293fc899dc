//! From flags to the values that the router is started with.
//!
//! Rule: every setting is filled from its flag's constant; what the type of a flag alone cannot refuse is refused here.
//! Deliberately not here: what the values do; reading the files they name.

use http::HeaderName;
use http::uri::PathAndQuery;
use milepost_policies::{AssignmentMode, CacheAwareMode, PolicyConfig};

use super::notice::refusal;
use super::{Flag, FlagError, Given, access, capture, compare, fleet, observe, requests, routing, secrets};
use crate::config::access::{Identity, TlsConfig};
use crate::config::policy_file::PolicyName;
use crate::config::resilience::{BreakerConfig, LimitConfig, RetryConfig};
use crate::config::{RouteConfig, TraceDecisions, worker_urls};
use crate::fleet::health::HealthConfig;
use crate::fleet::loads::LoadConfig;
use crate::log::Level;

/// Most bounds of a histogram: each is a time series for each label.
const MAX_BUCKETS: usize = 100;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address or `localhost`, as typed.
    pub host: String,
    /// Port; 0 for a free one.
    pub port: u16,
    /// The port was typed, not the default.
    pub port_is_given: bool,
}

/// Everything a command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the router behaves.
    pub config: RouteConfig,
    /// Where clients come in.
    pub listen: Endpoint,
    /// Where `/metrics` is.
    pub metrics: Endpoint,
    /// How much is said.
    pub log_level: Level,
}

impl Settings {
    /// Reads a command line.
    pub fn read(given: &Given) -> Result<Self, FlagError> {
        refusal(given)?;
        given.check()?;
        let listen = endpoint(given, &fleet::HOST, &fleet::PORT)?;
        Ok(Self {
            config: config(given, &listen)?,
            listen,
            metrics: endpoint(given, &observe::PROMETHEUS_HOST, &observe::PROMETHEUS_PORT)?,
            log_level: log_level(given)?,
        })
    }
}

fn endpoint(given: &Given, host: &Flag, port: &Flag) -> Result<Endpoint, FlagError> {
    Ok(Endpoint {
        host: given.text(host)?.unwrap_or_default().to_owned(),
        port: given.integer(port)?,
        port_is_given: given.has(port),
    })
}

fn config(given: &Given, listen: &Endpoint) -> Result<RouteConfig, FlagError> {
    let urls: Vec<String> = given.texts(&fleet::WORKER_URLS)?.into_iter().map(str::to_owned).collect();
    let (policy, policy_config) = policy(given)?;
    Ok(RouteConfig {
        workers: worker_urls(&urls, &listen.host, listen.port).map_err(FlagError::Workers)?,
        policy,
        split: compare::split(given, &policy_config)?,
        shadow_policies: compare::shadow_policies(given, &policy_config)?,
        policy_config,
        trace_log: given.path(&observe::TRACE_LOG)?,
        capture: capture::capture(given)?,
        otlp_traces: capture::collector(given)?,
        trace_decisions: trace_decisions(given)?,
        trace_buffer_records: given.integer(&observe::TRACE_BUFFER)?,
        max_payload_bytes: given.integer(&requests::MAX_PAYLOAD)?,
        max_buffered_request_bytes: given.integer(&requests::MAX_BUFFERED)?,
        request_timeout: given.seconds(&requests::REQUEST_TIMEOUT)?,
        retry: retry(given)?,
        breaker: breaker(given)?,
        limits: limits(given)?,
        auth: secrets::auth(given)?,
        tls: tls(given)?,
        request_id_headers: header_names(given, &requests::REQUEST_ID_HEADERS)?,
        cors_allowed_origins: origins(given)?,
        forward_headers: header_names(given, &requests::FORWARD_HEADERS)?,
        allow_policy_header: given.switch(&routing::ALLOW_POLICY_HEADER),
        dp_aware: given.switch(&fleet::DP_AWARE),
        worker_prefix_bytes: given.optional_integer(&routing::MAX_TREE_SIZE)?,
        duration_buckets_s: buckets(given)?,
        drain_delay: given.seconds(&fleet::DRAIN_DELAY)?,
        shutdown_grace: given.seconds(&fleet::SHUTDOWN_GRACE)?,
        health: health(given)?,
        loads: loads(given)?,
        ..RouteConfig::default()
    })
}

fn policy(given: &Given) -> Result<(String, PolicyConfig), FlagError> {
    let config = PolicyConfig {
        seed: given.integer(&routing::SEED)?,
        cache_threshold: given.number(&routing::CACHE_THRESHOLD)?,
        balance_abs_threshold: given.integer(&routing::BALANCE_ABS)?,
        balance_rel_threshold: given.number(&routing::BALANCE_REL)?,
        cache_aware_mode: match given.text(&routing::CACHE_AWARE_MODE)? {
            Some("improved") => CacheAwareMode::Improved,
            _ => CacheAwareMode::Faithful,
        },
        assignment_mode: match given.text(&routing::ASSIGNMENT_MODE)? {
            Some("min_load") => AssignmentMode::MinLoad,
            Some("min_group") => AssignmentMode::MinGroup,
            _ => AssignmentMode::Random,
        },
        max_idle_s: given.seconds(&routing::MAX_IDLE)?.as_secs(),
        prefix_tokens: given.integer(&routing::PREFIX_TOKENS)?,
        prefix_load_factor: given.number(&routing::PREFIX_LOAD_FACTOR)?,
        consistent_load_factor: load_factor(given)?,
        bucket_adjust_interval_s: given.seconds(&routing::BUCKET_INTERVAL)?.as_secs(),
        ..PolicyConfig::default()
    };
    let name = match given.text(&routing::POLICY)?.unwrap_or_default() {
        // Under the name that says so in trace and headers.
        "cache_aware" if config.cache_aware_mode == CacheAwareMode::Improved => "cache_aware_improved",
        name => name,
    };
    // The flag is for --policy: where a shadow, an arm or a request names cache_aware, the faithful one is meant.
    let config = PolicyConfig { cache_aware_mode: CacheAwareMode::Faithful, ..config };
    // Built when the router starts; here it is only asked whether there is such a one.
    PolicyName::parse(name).map_err(FlagError::Policy)?;
    Ok((name.to_owned(), config))
}

/// Of `consistent_hashing`: off, or at least 1, below which there may be nobody who takes the request.
fn load_factor(given: &Given) -> Result<f64, FlagError> {
    let flag = &routing::CONSISTENT_LOAD_FACTOR;
    let factor = given.number(flag)?;
    if factor > 0.0 && factor < 1.0 {
        return Err(FlagError::expected(flag, "0 (load does not matter) or at least 1", &factor.to_string()));
    }
    Ok(factor)
}

fn trace_decisions(given: &Given) -> Result<TraceDecisions, FlagError> {
    let flag = &observe::TRACE_DECISIONS;
    match given.text(flag)? {
        Some("off") => Ok(TraceDecisions::Off),
        Some("journal") if !given.has(&observe::TRACE_LOG) && !given.has(&observe::TRACE_DIR) => {
            Err(FlagError::Pair {
                flag: flag.name,
                other: observe::TRACE_LOG.name,
                why: "the journal is a part of the trace, and no trace is written".to_owned(),
            })
        }
        Some("journal") => Ok(TraceDecisions::Journal),
        _ => Ok(TraceDecisions::Record),
    }
}

fn retry(given: &Given) -> Result<RetryConfig, FlagError> {
    let (initial, longest) = (&requests::INITIAL_BACKOFF, &requests::MAX_BACKOFF);
    let (initial_backoff, max_backoff) = (given.millis(initial)?, given.millis(longest)?);
    if initial_backoff > max_backoff {
        return Err(FlagError::Pair {
            flag: initial.name,
            other: longest.name,
            why: format!(
                "expected the first pause to be no longer than the longest, got {} ms and {} ms",
                initial_backoff.as_millis(),
                max_backoff.as_millis()
            ),
        });
    }
    let attempts = given.integer(&requests::MAX_ATTEMPTS)?;
    Ok(RetryConfig {
        max_attempts: if given.switch(&requests::RETRIES_OFF) { 1 } else { attempts },
        initial_backoff,
        max_backoff,
        backoff_multiplier: given.number(&requests::BACKOFF_MULTIPLIER)?,
        jitter_factor: given.number(&requests::JITTER_FACTOR)?,
    })
}

fn breaker(given: &Given) -> Result<BreakerConfig, FlagError> {
    Ok(BreakerConfig {
        enabled: !given.switch(&requests::BREAKER_OFF),
        failure_threshold: given.integer(&requests::BREAKER_FAILURES)?,
        success_threshold: given.integer(&requests::BREAKER_SUCCESSES)?,
        open_for: given.seconds(&requests::BREAKER_OPEN)?,
    })
}

fn limits(given: &Given) -> Result<LimitConfig, FlagError> {
    let max_concurrent = match given.integer::<i64>(&requests::MAX_CONCURRENT)? {
        -1 => None,
        0 => {
            let expected = "-1 (no limit) or at least 1";
            return Err(FlagError::expected(&requests::MAX_CONCURRENT, expected, "0"));
        }
        _ => Some(given.integer(&requests::MAX_CONCURRENT)?),
    };
    Ok(LimitConfig {
        max_concurrent,
        rate_per_second: given.optional_integer(&requests::RATE_LIMIT)?,
        queue_size: given.integer(&requests::QUEUE_SIZE)?,
        queue_timeout: given.seconds(&requests::QUEUE_TIMEOUT)?,
    })
}

fn health(given: &Given) -> Result<HealthConfig, FlagError> {
    let endpoint = given.text(&fleet::HEALTH_ENDPOINT)?.unwrap_or_default();
    if !endpoint.starts_with('/') || endpoint.parse::<PathAndQuery>().is_err() {
        return Err(FlagError::expected(&fleet::HEALTH_ENDPOINT, "a path such as /health", endpoint));
    }
    Ok(HealthConfig {
        enabled: !given.switch(&fleet::HEALTH_OFF),
        endpoint: endpoint.to_owned(),
        interval: given.seconds(&fleet::HEALTH_INTERVAL)?,
        timeout: given.seconds(&fleet::HEALTH_TIMEOUT)?,
        failure_threshold: given.integer(&fleet::HEALTH_FAILURES)?,
        success_threshold: given.integer(&fleet::HEALTH_SUCCESSES)?,
        startup_timeout: given.seconds(&fleet::STARTUP_TIMEOUT)?,
        startup_interval: given.seconds(&fleet::STARTUP_INTERVAL)?,
    })
}

fn tls(given: &Given) -> Result<TlsConfig, FlagError> {
    Ok(TlsConfig {
        server: identity(given, &access::TLS_CERT, &access::TLS_KEY)?,
        client: identity(given, &access::CLIENT_CERT, &access::CLIENT_KEY)?,
        ca_cert_paths: given.paths(&access::CA_CERTS)?,
        // Of the environment, not of the flags: the command sets it.
        ssl_cert_file: None,
    })
}

/// A certificate and its key, both or neither.
fn identity(given: &Given, cert: &Flag, key: &Flag) -> Result<Option<Identity>, FlagError> {
    let alone = |flag: &Flag, other: &Flag| FlagError::Pair {
        flag: flag.name,
        other: other.name,
        why: format!("one does nothing without the other, and only --{} was given", flag.name),
    };
    match (given.path(cert)?, given.path(key)?) {
        (Some(cert_path), Some(key_path)) => Ok(Some(Identity { cert_path, key_path })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(alone(cert, key)),
        (None, Some(_)) => Err(alone(key, cert)),
    }
}

/// Whoever says how often wants it done whatever the policy.
fn loads(given: &Given) -> Result<LoadConfig, FlagError> {
    let flag = &fleet::LOAD_INTERVAL;
    Ok(LoadConfig { interval: given.seconds(flag)?, always: given.has(flag) })
}

pub(super) fn header_names(given: &Given, flag: &Flag) -> Result<Vec<HeaderName>, FlagError> {
    let name = |text: &str| text.parse().map_err(|_| FlagError::expected(flag, "names of headers", text));
    given.texts(flag)?.into_iter().map(name).collect()
}

/// The origins; with `*` among them it is any, which an empty list says.
fn origins(given: &Given) -> Result<Vec<String>, FlagError> {
    let flag = &requests::CORS_ORIGINS;
    let texts = given.texts(flag)?;
    if texts.contains(&"*") {
        return Ok(Vec::new());
    }
    let origin = |text: &str| {
        // A browser sends an origin without a path, so one with a path would never be met.
        let authority = text.split_once("://").map(|(_, authority)| authority);
        let bare = authority.is_some_and(|a| !a.is_empty() && !a.contains('/'));
        if bare && text.bytes().all(|b| b.is_ascii_graphic()) {
            return Ok(text.to_owned());
        }
        Err(FlagError::expected(
            flag,
            "an origin such as https://example.com (no path, no slash behind it)",
            text,
        ))
    };
    texts.into_iter().map(origin).collect()
}

/// The bounds in order, each once; a histogram does not know in which order they were typed.
fn buckets(given: &Given) -> Result<Vec<f64>, FlagError> {
    let flag = &observe::DURATION_BUCKETS;
    let mut bounds = given.numbers(flag)?;
    if bounds.len() > MAX_BUCKETS {
        let expected = format!("at most {MAX_BUCKETS} bounds");
        return Err(FlagError::expected(flag, expected, &bounds.len().to_string()));
    }
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    Ok(bounds)
}

fn log_level(given: &Given) -> Result<Level, FlagError> {
    let word = given.text(&observe::LOG_LEVEL)?.unwrap_or_default();
    match word {
        "debug" => Ok(Level::Debug),
        "info" => Ok(Level::Info),
        "warn" | "warning" => Ok(Level::Warn),
        "error" | "critical" => Ok(Level::Error),
        _ => Err(FlagError::value(&observe::LOG_LEVEL, word)),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
