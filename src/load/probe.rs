//! What the server says about itself: model, version, `max_running_requests`.
//!
//! Rule: nothing here decides whether a run takes place, save a model name where one is needed. Names and answers changed
//! between versions (`/server_info` from 0.5.6; 0.4.9's `/get_server_info` hangs before the first generation): each is tried,
//! with a time limit. Deliberately not here: workers behind a router, the trace names them.

use std::fmt;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::backend::Backend;
use super::client::Client;
use super::target::Target;

/// One probe's time limit.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// `/flush_cache` waits for the scheduler's current step.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// A server, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// `host:port`.
    pub host: String,
    /// Model path.
    pub model: Option<String>,
    /// SGLang version.
    pub version: Option<String>,
    /// Requests it runs at a time.
    pub max_running_requests: Option<u64>,
    /// It says that it is simulated.
    pub simulated: Option<bool>,
}

impl ServerInfo {
    /// It tells its version, as every SGLang server does and no router (sglang-router 0.3.2 answers without one). What does
    /// not is not taken for the worker that answers: who stands behind it, and in which clock, is then unknown.
    pub fn is_worker(&self) -> bool {
        self.version.is_some()
    }

    /// For the report.
    pub fn to_json(&self) -> Value {
        json!({
            "host": self.host, "model": self.model, "version": self.version,
            "max_running_requests": self.max_running_requests, "simulated": self.simulated,
        })
    }
}

impl fmt::Display for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.model.as_deref().unwrap_or("model not told"))?;
        if let Some(version) = &self.version {
            write!(f, ", SGLang {version}")?;
        }
        if let Some(most) = self.max_running_requests {
            write!(f, ", max_running_requests {most}")?;
        }
        f.write_str(if self.simulated == Some(true) { ", SIMULATED" } else { "" })
    }
}

/// The model's name, by the first endpoint that tells.
pub async fn model(client: &Client, target: &Target) -> Option<String> {
    for path in ["/v1/models", "/model_info", "/get_model_info"] {
        let Some((answer, _)) = get(client, target, path).await else {
            continue;
        };
        let name = [&answer["data"][0]["id"], &answer["served_model_name"], &answer["model_path"]];
        if let Some(name) = name.into_iter().find_map(Value::as_str) {
            return Some(name.to_owned());
        }
    }
    None
}

/// Everything the target says about itself; unknown where it does not.
pub async fn server(client: &Client, target: &Target, backend: Backend) -> ServerInfo {
    let mut info = ServerInfo { host: target.host_port(), ..ServerInfo::default() };
    // Of another kind of server a page of the same name means something else.
    let pages: &[&str] = if backend.is_sglang() { &["/get_server_info", "/server_info"] } else { &[] };
    for path in pages {
        let Some((answer, simulated)) = get(client, target, path).await else {
            continue;
        };
        let text = |name: &str| answer[name].as_str().map(str::to_owned);
        info.model = text("model_path").or(info.model);
        info.version = text("version").or(info.version);
        let running = answer["max_running_requests"].as_u64();
        // Null where the server chose the number itself; newer ones tell it here.
        let chosen = answer["internal_states"][0]["effective_max_running_requests_per_dp"].as_u64();
        info.max_running_requests = chosen.or(running).or(info.max_running_requests);
        if info.version.is_some() {
            info.simulated = Some(simulated);
            break;
        }
    }
    if info.model.is_none() && backend != Backend::Triton {
        info.model = model(client, target).await;
    }
    info
}

/// What a server says of its own speed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Speed {
    /// Tokens a second of its last decode step.
    pub last_gen_per_s: Option<f64>,
    /// Tokens that a step of speculative decoding gave.
    pub accept_length: Option<f64>,
}

/// What the target says of its speed since it was asked last.
pub async fn speed(client: &Client, target: &Target) -> Speed {
    for path in ["/get_server_info", "/server_info"] {
        if let Ok(answer) = json(client, target, path).await {
            let state = &answer["internal_states"][0];
            return Speed {
                last_gen_per_s: state["last_gen_throughput"].as_f64(),
                accept_length: state["avg_spec_accept_length"].as_f64(),
            };
        }
    }
    Speed::default()
}

/// A page of the target as JSON.
///
/// # Errors
/// It has no such page, or gave no answer in time.
pub async fn json(client: &Client, target: &Target, path: &str) -> Result<Value, String> {
    let answer = client.simple(Method::GET, &target.path(path), PROBE_TIMEOUT).await?;
    if answer.status != 200 {
        return Err(format!("{path}: status {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|e| format!("{path}: {e}"))
}

/// Empties the prefix caches.
pub async fn flush_cache(client: &Client, target: &Target) -> Result<(), String> {
    let path = target.path("/flush_cache");
    match client.simple(Method::POST, &path, FLUSH_TIMEOUT).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => {
            Err(format!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim()))
        }
        Err(e) => Err(e),
    }
}

/// A JSON object and whether a simulated worker sent it.
async fn get(client: &Client, target: &Target, path: &str) -> Option<(Value, bool)> {
    let answer = client.simple(Method::GET, &target.path(path), PROBE_TIMEOUT).await.ok()?;
    let json = (answer.status == 200).then(|| serde_json::from_slice(&answer.body).ok()).flatten()?;
    Some((json, answer.simulated))
}
