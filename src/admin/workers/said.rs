//! What the body of `POST /workers` and `PUT /workers/{id}` says.
//!
//! Rule: a field that is known has to be right, whatever is not known is stepped over (sglang-router's clients send tokenizer
//! paths and parsers that mean nothing here). `"disable_health_check":false` is what its clients send when nobody said
//! anything, so it means "as the router's flags say". Deliberately not here: whether the worker can be added.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::config::access::ApiKey;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::spec::{HealthOverrides, WorkerSettings, WorkerSpec};

/// Largest body read.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Longest time a setting may have.
const MAX_SECS: u64 = 365 * 24 * 60 * 60;

/// Why a body is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Unfit {
    /// 400.
    NotJson(String),
    /// 422: JSON, but a field is missing or of another type.
    WrongShape(String),
    /// 400: understood, and refused.
    Refused(String),
    /// 413.
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
    /// 503: no room in the fleet.
    Full {
        /// The limit.
        max_workers: usize,
    },
}

#[derive(Deserialize)]
struct Added {
    url: String,
    worker_type: Option<String>,
    runtime: Option<String>,
    #[serde(flatten)]
    changed: Changed,
}

/// What may be said at the start and later.
#[derive(Default, Deserialize)]
struct Changed {
    api_key: Option<String>,
    model_id: Option<String>,
    priority: Option<u32>,
    cost: Option<f64>,
    labels: Option<BTreeMap<String, String>>,
    health_check_timeout_secs: Option<u64>,
    health_check_interval_secs: Option<u64>,
    health_success_threshold: Option<u32>,
    health_failure_threshold: Option<u32>,
    disable_health_check: Option<bool>,
}

/// The worker that a `POST` describes.
pub fn spec(body: &[u8]) -> Result<WorkerSpec, Unfit> {
    let said: Added = read(body)?;
    let refuse = |text: String| Err(Unfit::Refused(text));
    let url = match WorkerUrl::parse(&said.url) {
        Ok(url) => url,
        Err(error) => return refuse(format!("url: {error}")),
    };
    if let Some(kind) = said.worker_type.filter(|kind| kind != "regular") {
        let kind: String = kind.chars().take(32).collect();
        return refuse(format!(
            "worker_type: {kind} is not supported; prefill and decode workers need PD disaggregation, which this router does not do"
        ));
    }
    if said.runtime.is_some_and(|runtime| runtime.eq_ignore_ascii_case("grpc")) {
        return refuse("runtime: grpc is not supported; name the worker's HTTP port".to_owned());
    }
    let api_key = said.changed.api_key.as_deref().and_then(ApiKey::new);
    if api_key.as_ref().is_some_and(|key| key.bearer().is_none()) {
        return refuse("api_key: expected visible characters, as a header must carry it".to_owned());
    }
    let settings = apply(said.changed, WorkerSettings::default())?;
    Ok(WorkerSpec { url, api_key, settings })
}

/// The settings after a `PUT`; what it does not name stays, labels are added to those that are there.
pub fn change(body: &[u8], settings: WorkerSettings) -> Result<WorkerSettings, Unfit> {
    let said: Changed = read(body)?;
    if said.api_key.is_some() {
        let reason = "api_key: cannot be changed while requests use it; DELETE the worker and POST it again";
        return Err(Unfit::Refused(reason.to_owned()));
    }
    apply(said, settings)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unfit> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Unfit::TooLarge { max_bytes: MAX_BODY_BYTES });
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => Unfit::WrongShape(error.to_string()),
        _ => Unfit::NotJson(error.to_string()),
    })
}

fn apply(said: Changed, mut settings: WorkerSettings) -> Result<WorkerSettings, Unfit> {
    settings.model_id = said.model_id.or(settings.model_id);
    settings.priority = said.priority.unwrap_or(settings.priority);
    settings.cost = said.cost.unwrap_or(settings.cost);
    settings.labels.extend(said.labels.unwrap_or_default());
    if !(settings.cost.is_finite() && settings.cost >= 0.0) {
        return Err(Unfit::Refused("cost: expected a number from 0 on".to_owned()));
    }
    let old = std::mem::take(&mut settings.health);
    settings.health = HealthOverrides {
        disabled: match said.disable_health_check {
            Some(disabled) => disabled.then_some(true),
            None => old.disabled,
        },
        interval: seconds("health_check_interval_secs", said.health_check_interval_secs)?.or(old.interval),
        timeout: seconds("health_check_timeout_secs", said.health_check_timeout_secs)?.or(old.timeout),
        failure_threshold: count("health_failure_threshold", said.health_failure_threshold)?
            .or(old.failure_threshold),
        success_threshold: count("health_success_threshold", said.health_success_threshold)?
            .or(old.success_threshold),
    };
    Ok(settings)
}

fn seconds(name: &str, said: Option<u64>) -> Result<Option<Duration>, Unfit> {
    match said {
        Some(secs) if !(1..=MAX_SECS).contains(&secs) => {
            Err(Unfit::Refused(format!("{name}: expected 1 to {MAX_SECS}, got {secs}")))
        }
        said => Ok(said.map(Duration::from_secs)),
    }
}

fn count(name: &str, said: Option<u32>) -> Result<Option<u32>, Unfit> {
    match said {
        Some(0) => Err(Unfit::Refused(format!("{name}: expected 1 or more, got 0"))),
        said => Ok(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &str) -> String {
        match spec(body.as_bytes()) {
            Err(Unfit::Refused(reason)) => reason,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn all_that_a_client_of_sglang_router_says_is_taken() {
        let body = r#"{"url":"http://a:1","api_key":"k","model_id":"m","priority":7,"cost":2.5,"worker_type":"regular",
            "bootstrap_port":null,"runtime":"sglang","tokenizer_path":"t","reasoning_parser":"r","tool_parser":"p",
            "chat_template":"c","labels":{"rack":"4"},"health_check_timeout_secs":3,"health_check_interval_secs":10,
            "health_success_threshold":1,"health_failure_threshold":2,"disable_health_check":false,
            "max_connection_attempts":20,"dp_aware":false,"new_in_a_later_version":[1]}"#;
        let spec = spec(body.as_bytes()).unwrap();
        assert_eq!((spec.url.as_str(), spec.api_key), ("http://a:1", ApiKey::new("k")));
        let s = &spec.settings;
        assert_eq!((s.model_id.as_deref(), s.priority, s.labels["rack"].as_str()), (Some("m"), 7, "4"));
        assert!((s.cost - 2.5).abs() < f64::EPSILON);
        let health = HealthOverrides {
            disabled: None,
            interval: Some(Duration::from_secs(10)),
            timeout: Some(Duration::from_secs(3)),
            failure_threshold: Some(2),
            success_threshold: Some(1),
        };
        assert_eq!(s.health, health);
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let first = spec(
            br#"{"url":"http://a:1","priority":7,"labels":{"a":"1","b":"1"},"disable_health_check":true}"#,
        );
        let settings = change(br#"{"cost":0.5,"labels":{"b":"2"}}"#, first.unwrap().settings).unwrap();
        assert_eq!(
            (settings.priority, settings.labels["a"].as_str(), settings.labels["b"].as_str()),
            (7, "1", "2")
        );
        assert_eq!(settings.health.disabled, Some(true));
        let back = change(br#"{"disable_health_check":false}"#, settings).unwrap();
        assert_eq!(back.health.disabled, None);
        assert!(
            matches!(change(br#"{"api_key":"k"}"#, back), Err(Unfit::Refused(r)) if r.starts_with("api_key:"))
        );
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        assert!(refusal(r#"{"url":"nonsense"}"#).starts_with("url: expected http://host:port"));
        assert!(refusal(r#"{"url":"http://a:1","worker_type":"prefill"}"#).contains("PD"));
        assert!(refusal(r#"{"url":"http://a:1","runtime":"grpc"}"#).starts_with("runtime: grpc"));
        assert!(refusal(r#"{"url":"http://a:1","health_check_interval_secs":0}"#).contains("expected 1 to"));
        assert!(refusal(r#"{"url":"http://a:1","health_failure_threshold":0}"#).contains("1 or more"));
        assert!(refusal(r#"{"url":"http://a:1","cost":-1}"#).starts_with("cost:"));
        assert!(refusal(r#"{"url":"http://a:1","api_key":"se\ncret"}"#).starts_with("api_key:"));
        assert!(matches!(spec(b"{\"x\":1}"), Err(Unfit::WrongShape(why)) if why.contains("`url`")));
        let wrong = spec(br#"{"url":"http://a:1","priority":"high"}"#);
        assert!(matches!(wrong, Err(Unfit::WrongShape(_))));
        assert!(matches!(spec(b"{\"url\":"), Err(Unfit::NotJson(_))));
        assert!(matches!(spec(b""), Err(Unfit::NotJson(_))));
        assert!(matches!(spec(" ".repeat(MAX_BODY_BYTES + 1).as_bytes()), Err(Unfit::TooLarge { .. })));
    }
}
