//! A worker as `/workers` shows it.
//!
//! Rule: sglang-router's object, whose `metadata` maps texts to texts; what it does not have stands under `milepost`.
//! Deliberately not here: keys, which are never shown.

use serde_json::{Map, Value, json};

use crate::config::worker_url::WorkerUrl;
use crate::fleet::worker::Worker;
use crate::proxy::Shared;

/// A UUID made of the URL: FNV-1a in two halves, marked as version 8 (custom).
pub fn worker_id(url: &WorkerUrl) -> String {
    let half =
        |seed: u64| url.as_str().bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let (a, b) = (half(0xcbf2_9ce4_8422_2325), half(0x9ae1_6a3b_2f90_404f));
    format!(
        "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | ((b >> 48) & 0x3fff),
        b & 0xffff_ffff_ffff
    )
}

/// One worker; with `job_status` as long as it has never answered.
pub fn describe(shared: &Shared, worker: &Worker) -> Value {
    let d = worker.described();
    let settings = worker.settings();
    let mut metadata = Map::new();
    for (label, value) in &settings.labels {
        metadata.insert(label.clone(), value.as_str().into());
    }
    let mut tell = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            metadata.insert(name.to_owned(), value.into());
        }
    };
    tell("dp_size", d.dp_size.map(|n| n.to_string()));
    tell("tp_size", d.tp_size.map(|n| n.to_string()));
    tell("model_path", d.model.clone());
    tell("served_model_name", d.served_model_name.clone());
    let model = d.served_model_name.or(d.model).or(settings.model_id);
    let unchecked = !shared.fleet.health_config().for_worker(&settings.health).enabled;
    let mut shown = json!({
        "id": worker_id(&worker.url),
        "url": worker.url.as_str(),
        "model_id": model.as_deref().unwrap_or("unknown"),
        "priority": settings.priority,
        "cost": settings.cost,
        "worker_type": "regular",
        "is_healthy": worker.is_healthy(),
        "load": worker.in_flight(),
        "connection_mode": "HTTP",
        "metadata": metadata,
        "disable_health_check": unchecked,
        "milepost": {
            "version": d.version,
            "max_running_requests": d.max_running_requests,
            "simulated": d.simulated,
            "router": d.router,
            "served": worker.served(),
            "idle_connections": worker.pool.idle(),
            "failed_check": worker.failed_check(),
            "wants_key": worker.wants_key(),
            "breaker": worker.breaker().view().state.name(),
        },
    });
    if !worker.is_reached() {
        shown["job_status"] = job_status(shared, worker);
    }
    shown
}

/// A worker that has never answered, in short.
pub fn pending(shared: &Shared, worker: &Worker) -> Value {
    json!({
        "id": worker_id(&worker.url),
        "url": worker.url.as_str(),
        "job_status": job_status(shared, worker),
    })
}

/// `processing` until `--worker-startup-timeout-secs` have passed, then `failed`; it is asked all the same.
fn job_status(shared: &Shared, worker: &Worker) -> Value {
    let limit = shared.fleet.health_config().startup_timeout;
    let waited_s = worker.age().as_secs();
    let failed = worker.age() >= limit;
    let why = worker.failed_check().map(|why| format!(" ({why})")).unwrap_or_default();
    let give_up = if failed { ", DELETE the worker to give it up" } else { "" };
    let message = format!("no answer to a health check in {waited_s} s{why}; still trying{give_up}");
    json!({
        "job_type": "AddWorker",
        "worker_url": worker.url.as_str(),
        "status": if failed { "failed" } else { "processing" },
        "message": message,
        "timestamp": shared.clock.now().unix_ns / 1_000_000_000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_and_follow_the_url() {
        let id = |text| worker_id(&WorkerUrl::parse(text).unwrap());
        assert_eq!(id("http://a:1"), id("http://A:1/"));
        assert_ne!(id("http://a:1"), id("http://a:2"));
        assert!(id("http://a:1").split('-').map(str::len).eq([8, 4, 4, 4, 12]));
    }
}
