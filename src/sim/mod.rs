//! The simulated SGLang worker: real scheduling and real wire format, no GPU.
//!
//! | module | what it is |
//! |---|---|
//! | [`profile`] | how long the simulated GPU takes, and why |
//! | [`tokens`], [`kv`], [`engine`] | pure: tokeniser and answers, prefix cache, continuous batching |
//! | [`runner`] | drives an engine in real or virtual time and measures its lateness |
//! | [`virtual_fleet`] | drives several engines in virtual time, without tasks or sockets |
//! | [`dialect`], [`stamps`], [`meta_info`] | which server it speaks like, and in which clocks |
//! | [`http`] | the endpoints |
//!
//! Rule: whatever it makes says that it is simulated: header `x-milepost-simulated: 1` on every response, `"simulated":true` in
//! the server's info. Deliberately not here: the router's own idea of the wire format (`crate::wire`), which is thereby tested
//! against a second writer of it.

pub mod dialect;
pub mod engine;
pub mod http;
pub mod kv;
pub mod meta_info;
pub mod profile;
pub mod runner;
pub mod stamps;
pub mod tokens;
pub mod virtual_fleet;

use std::future::Future;
use std::io;

use tokio::net::TcpListener;

pub use self::dialect::Dialect;
pub use self::http::Worker;
pub use self::profile::Profile;
use crate::clock::Clock;

/// What a worker is.
#[derive(Clone, Debug, PartialEq)]
pub struct SimConfig {
    /// The server it speaks like.
    pub dialect: Dialect,
    /// Name of the model.
    pub model_path: String,
    /// Latencies and sizes.
    pub profile: Profile,
    /// Divides all times; 1.0 is as derived.
    pub speedup: f64,
    /// Seed of the answers.
    pub seed: u64,
    /// Most requests that wait; more are refused. `None`: no limit, SGLang's default.
    pub max_queued_requests: Option<usize>,
    /// How far the worker's two clocks are ahead of this host's, in microseconds; negative: behind.
    pub clock_offset_us: i64,
    /// `--enable-metrics`: without it a server leaves out most stamps and /metrics.
    pub metrics: bool,
    /// Whether `x-milepost-sim-fault` is honoured.
    pub allow_faults: bool,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            dialect: Dialect::default(),
            model_path: "simulated-8b".to_owned(),
            profile: Profile::default(),
            speedup: 1.0,
            seed: 1,
            max_queued_requests: None,
            clock_offset_us: 0,
            metrics: true,
            allow_faults: false,
        }
    }
}

impl SimConfig {
    /// Refuses what no worker can run with; the message names the field.
    pub fn check(&self) -> Result<(), String> {
        if !(0.001..=1e6).contains(&self.speedup) {
            return Err(format!("speedup: expected 0.001 to 1000000, got {}", self.speedup));
        }
        self.profile.check()
    }
}

/// Serves on `listener` until `shutdown` is done, then drops every connection. See [`Worker`] for a worker that can be asked
/// how well it kept its deadlines.
pub async fn serve(
    listener: TcpListener,
    config: SimConfig,
    clock: Clock,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    Worker::start(config, clock)?.serve(listener, shutdown).await
}
