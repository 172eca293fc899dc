//! What somebody said about a worker when it was added: on the command line its URL, in `POST /workers` perhaps more.
//!
//! Rule: what is left out follows the router's flags. Deliberately not here: what the worker says about itself
//! (`worker::Described`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::access::ApiKey;
use crate::config::worker_url::WorkerUrl;

/// A worker to be added.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSpec {
    /// Where it is.
    pub url: WorkerUrl,
    /// Sent to it as `Authorization: Bearer` where the client sent nothing; `None`: the router's `--api-key`.
    pub api_key: Option<ApiKey>,
    /// What may change while it is in the fleet.
    pub settings: WorkerSettings,
}

/// The settings of a worker that `PUT /workers/{id}` changes.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSettings {
    /// Model it is said to serve, where it does not say itself.
    pub model_id: Option<String>,
    /// Shown, and every policy sees it; higher is preferred by those that read it. sglang-router keeps it and nobody reads it.
    pub priority: u32,
    /// Kept and shown; no built-in policy uses it, as in sglang-router.
    pub cost: f64,
    /// Shown, and every policy sees them.
    pub labels: BTreeMap<String, String>,
    /// Health checks of this worker, where they differ from the router's.
    pub health: HealthOverrides,
}

/// What differs from the router's health flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthOverrides {
    /// Always healthy.
    pub disabled: Option<bool>,
    /// Pause between checks.
    pub interval: Option<Duration>,
    /// Longest wait for one answer.
    pub timeout: Option<Duration>,
    /// Failures in a row until unhealthy.
    pub failure_threshold: Option<u32>,
    /// Successes in a row until healthy again.
    pub success_threshold: Option<u32>,
}

impl Default for WorkerSettings {
    /// sglang-router's: priority 50, cost 1.
    fn default() -> Self {
        Self {
            model_id: None,
            priority: 50,
            cost: 1.0,
            labels: BTreeMap::new(),
            health: HealthOverrides::default(),
        }
    }
}

impl From<WorkerUrl> for WorkerSpec {
    fn from(url: WorkerUrl) -> Self {
        Self { url, api_key: None, settings: WorkerSettings::default() }
    }
}
