//! One worker: a server or one data-parallel rank of it, its connections, and what is known about it.
//!
//! Rule: everything that changes here is an atomic or behind a short lock, and no lock is held across an await.
//! Deliberately not here: which worker gets a request (`dispatch`), how a server is reached (`server`).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use milepost_policies::WorkerId;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::loads::Said;
use super::meters::WorkerMeters;
use super::server::{ConnectError, Server};
use super::spec::{WorkerSettings, WorkerSpec};
use crate::clock::Clock;
use crate::config::access::ApiKey;
use crate::config::resilience::BreakerConfig;
use crate::config::worker_url::WorkerUrl;
use crate::http1::{Connection, Pool};
use crate::net::dialer::Dialer;

/// Where a server says what it is: new names first, then the old ones, since 0.4.9 has only the latter and hangs on
/// `/get_server_info` until its first request, and the Rust front end has only the former.
pub const INFO_PATHS: [&str; 3] = ["/server_info", "/get_server_info", "/get_model_info"];

/// A worker in the fleet.
#[derive(Debug)]
pub struct Worker {
    /// Slot number, stable while the worker is in the fleet.
    pub id: WorkerId,
    /// Its URL.
    pub url: WorkerUrl,
    /// Hash of its URL, for the policies.
    pub url_hash: u64,
    /// The URL that somebody gave: its own, or of a rank that was found by asking (`--dp-aware`) that of the whole server.
    pub added_as: WorkerUrl,
    /// Its URL as a header value.
    pub url_value: HeaderValue,
    /// `host:port` as a header value.
    pub host_value: HeaderValue,
    /// Its own key, sent where the client sent none.
    pub api_key: Option<ApiKey>,
    /// Which rank of its server it is, in the forms in which it is sent.
    pub rank: Option<Rank>,
    /// Idle connections to its server.
    pub pool: Arc<Pool>,
    /// What is counted at it, from its first request on.
    pub meters: OnceLock<WorkerMeters>,
    /// What its server said last of its load, where it is asked.
    pub load_said: Said,
    server: Arc<Server>,
    in_flight: AtomicU32,
    healthy: AtomicBool,
    breaker: Breaker,
    joined: Instant,
    reached: AtomicBool,
    served: AtomicU64,
    settings: Mutex<WorkerSettings>,
    settings_changed: Notify,
    check_wanted: Notify,
    described: Mutex<Described>,
    router: AtomicBool,
}

/// A data-parallel rank, ready to be sent.
#[derive(Clone, Debug)]
pub struct Rank {
    /// Its number, from 0.
    pub number: u32,
    /// As a header value.
    pub value: HeaderValue,
    /// As the first member of a JSON object, with the comma: `"data_parallel_rank":3,`.
    pub member: Bytes,
}

impl Rank {
    /// A rank in all its forms.
    pub fn new(number: u32) -> Self {
        let member = format!("\"data_parallel_rank\":{number},").into();
        Self { number, value: HeaderValue::from(number), member }
    }
}

/// What a worker said about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// `Some(true)`: it is a router, and an engine behind it answers.
    pub router: Option<bool>,
    /// Model path.
    pub model: Option<String>,
    /// The name it serves the model under.
    pub served_model_name: Option<String>,
    /// Data-parallel ranks behind its address.
    pub dp_size: Option<u32>,
    /// Tensor-parallel ranks of one copy of the model.
    pub tp_size: Option<u32>,
    /// SGLang version.
    pub version: Option<String>,
    /// Size of the running batch.
    pub max_running_requests: Option<u64>,
    /// It says that it is simulated.
    pub simulated: Option<bool>,
}

impl Described {
    /// With what one more of its answers says. `passed_on`: a router handed the question to an engine, and said so.
    #[must_use]
    pub fn with(self, info: &Value, passed_on: bool) -> Self {
        let text = |key: &str| info.get(key).and_then(Value::as_str).map(str::to_owned);
        let ranks = |key: &str| info.get(key)?.as_u64()?.try_into().ok();
        // sglang-router answers for itself and by this name.
        let router = passed_on || info.get("router_manager").is_some();
        Self {
            router: router.then_some(true).or(self.router),
            model: text("model_path").or(self.model),
            served_model_name: text("served_model_name").or(self.served_model_name),
            dp_size: ranks("dp_size").or(self.dp_size),
            tp_size: ranks("tp_size").or(self.tp_size),
            max_running_requests: info
                .get("max_running_requests")
                .and_then(Value::as_u64)
                .or(self.max_running_requests),
            // A server that tells its version and not that it is simulated is a real one.
            simulated: info
                .get("simulated")
                .and_then(Value::as_bool)
                .or_else(|| text("version").map(|_| false))
                .or(self.simulated),
            version: text("version").or(self.version),
        }
    }
}

impl fmt::Display for Described {
    /// For the log: what a person asks first about a worker.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.served_model_name.as_deref().or(self.model.as_deref()).unwrap_or("unknown");
        write!(f, "model {model}, SGLang {}", self.version.as_deref().unwrap_or("of unknown version"))?;
        if self.simulated == Some(true) {
            f.write_str(", SIMULATED")?;
        }
        match self.dp_size {
            Some(ranks @ 2..) => write!(f, ", {ranks} data-parallel ranks"),
            _ => Ok(()),
        }
    }
}

impl Worker {
    /// A worker at a server of its own, which has not been reached yet.
    pub fn new(
        id: WorkerId,
        spec: WorkerSpec,
        dialer: impl Into<Dialer>,
        breaker: BreakerConfig,
        healthy: bool,
    ) -> Self {
        let server = Arc::new(Server::new(&spec.url, dialer.into()));
        Self::at(id, spec, (server, Arc::default()), breaker, healthy)
    }

    fn at(
        id: WorkerId,
        spec: WorkerSpec,
        (server, pool): (Arc<Server>, Arc<Pool>),
        breaker: BreakerConfig,
        healthy: bool,
    ) -> Self {
        let WorkerSpec { url, api_key, settings } = spec;
        Self {
            id,
            url_hash: milepost_policies::name_hash(url.as_str().as_bytes()),
            url_value: header_value(url.as_str()),
            host_value: header_value(url.authority()),
            added_as: url.clone(),
            rank: url.rank().map(Rank::new),
            url,
            api_key,
            pool,
            meters: OnceLock::new(),
            load_said: Said::default(),
            server,
            in_flight: AtomicU32::new(0),
            healthy: AtomicBool::new(healthy),
            breaker: Breaker::new(breaker),
            joined: Instant::now(),
            reached: AtomicBool::new(healthy),
            served: AtomicU64::new(0),
            settings: Mutex::new(settings),
            settings_changed: Notify::new(),
            check_wanted: Notify::new(),
            described: Mutex::default(),
            router: AtomicBool::new(false),
        }
    }

    /// Another worker at the same server.
    pub(super) fn neighbour(&self, id: WorkerId, spec: WorkerSpec, healthy: bool) -> Self {
        let shared = (Arc::clone(&self.server), Arc::clone(&self.pool));
        Self::at(id, spec, shared, *self.breaker.config(), healthy)
    }

    /// Another rank of the same server, or the whole of it, found by asking.
    pub(super) fn found_beside(&self, id: WorkerId, url: WorkerUrl, healthy: bool) -> Self {
        let spec = WorkerSpec { url, api_key: self.api_key.clone(), settings: self.settings() };
        let mut found = self.neighbour(id, spec, healthy);
        found.added_as = self.added_as.clone();
        found.describe(self.described());
        // Its server has answered, whether it is up just now or not.
        found.reached.store(true, Ordering::Release);
        found
    }

    /// It is at the same server as `other`.
    pub(super) fn is_at_server_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.server, &other.server)
    }

    /// Requests in flight through this router.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn lease_one(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release_one(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// Attempts at it that have ended, whatever their outcome.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Its health checks pass.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    /// May get a request at `now_ns` (the router's monotonic clock, nanoseconds): it is healthy and its breaker admits one.
    pub fn is_available(&self, now_ns: u64) -> bool {
        self.is_healthy() && self.breaker.admits(now_ns)
    }

    /// Its circuit breaker.
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// Sets its health; true if that changed it.
    pub fn set_healthy(&self, healthy: bool) -> bool {
        if healthy {
            self.reached.store(true, Ordering::Release);
        }
        self.healthy.swap(healthy, Ordering::AcqRel) != healthy
    }

    /// It has been healthy at some time; until then its registration is pending.
    pub fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    /// Time in the fleet.
    pub fn age(&self) -> Duration {
        self.joined.elapsed()
    }

    /// Keeps how the last health check of its server went: what was wrong, if anything.
    pub(super) fn checked(&self, failed: Option<String>) {
        self.server.checked(failed);
    }

    /// Why the last health check of its server failed; `None` if it passed, or if there was none.
    pub fn failed_check(&self) -> Option<String> {
        self.server.failed_check()
    }

    /// Keeps whether its server wants a key that the router does not send; true if that is news.
    pub(super) fn set_wants_key(&self, wants: bool) -> bool {
        self.server.set_wants_key(wants)
    }

    /// Its server answers the router's own questions with 401.
    pub fn wants_key(&self) -> bool {
        self.server.wants_key()
    }

    /// What was said about it, as it is now.
    pub fn settings(&self) -> WorkerSettings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what was said about it.
    pub fn set_settings(&self, settings: WorkerSettings) {
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
        self.settings_changed.notify_one();
    }

    /// Returns once the settings have changed since the last call; for the worker's one health task.
    pub async fn settings_changed(&self) {
        self.settings_changed.notified().await;
    }

    /// Asks for a health check now.
    pub(super) fn want_check(&self) {
        self.check_wanted.notify_one();
    }

    /// Returns once a check has been asked for since the last call; for the worker's one health task.
    pub async fn check_wanted(&self) {
        self.check_wanted.notified().await;
    }

    /// What it said about itself.
    pub fn described(&self) -> Described {
        self.described.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what it said about itself.
    pub fn describe(&self, described: Described) {
        self.router.store(described.router == Some(true), Ordering::Relaxed);
        *self.described.lock().unwrap_or_else(PoisonError::into_inner) = described;
    }

    /// True where it is a router itself, as far as it has said so.
    pub fn is_router(&self) -> bool {
        self.router.load(Ordering::Relaxed)
    }

    /// See [`Server::take_was_gone`].
    pub(super) fn take_was_gone(&self) -> bool {
        self.server.take_was_gone()
    }

    /// A new connection to its server.
    pub async fn connect(&self, clock: &Clock) -> Result<Connection, ConnectError> {
        self.server.connect(clock).await
    }

    /// A new connection to where its name leads now.
    pub async fn connect_anew(&self, clock: &Clock) -> Result<Connection, ConnectError> {
        self.server.connect_anew(clock).await
    }
}

/// A worker URL is made of visible ASCII, so this is never empty.
fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
