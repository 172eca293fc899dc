//! `summary.json`: everything of the table, as data.
//!
//! Rule: an unknown is null; times carry their unit in the name. Deliberately not here: rows, each policy's `run.json` has them.

use serde_json::{Value, json};

use super::arm::Arm;
use super::{DemoReport, table};

/// The whole object.
pub fn json(report: &DemoReport) -> Value {
    let config = &report.config;
    let worker = config.worker();
    json!({
        "format": 1,
        "milepost_version": env!("CARGO_PKG_VERSION"),
        "simulated": true,
        "verdict": "none: SIMULATED workers, one run each, not a verdict",
        "partial": report.partial,
        "took_s": report.took_s,
        "machine": report.machine,
        "workers": {
            "count": config.workers,
            "dialect": worker.dialect.name(),
            "speedup": worker.speedup,
            "profile": worker.profile,
        },
        "load": {
            "dataset_name": config.workload.dataset.name(),
            "dataset_options": format!("{:?}", config.workload.dataset),
            "requests": report.requests,
            "request_rate": config.workload.rate,
            "seed": config.seed,
            "notes": report.notes,
        },
        "arms": report.arms.iter().map(arm_json).collect::<Vec<_>>(),
        "warnings": table::warnings(report),
    })
}

fn arm_json(arm: &Arm) -> Value {
    let (late_mean_us, late_max_us) = arm.lateness_us();
    let requests = arm.requests_by_worker();
    let workers: Vec<Value> = arm
        .workers
        .iter()
        .zip(requests)
        .map(|(w, requests)| {
            json!({
                "host": w.host, "requests": requests, "cached_tokens": w.cached_tokens,
                "generated_tokens": w.generated_tokens, "retracted": w.retracted, "pace": w.pace,
            })
        })
        .collect();
    json!({
        "policy": arm.policy,
        "partial": arm.run.partial,
        "files": {
            "csv": arm.folder.join("requests.csv"),
            "json": arm.folder.join("run.json"),
            "trace": arm.folder.join("trace.jsonl"),
        },
        "metrics": arm.metrics.to_json(),
        "cached_share": arm.cached_share(),
        "busiest_over_mean": arm.busiest_over_mean(),
        "late_step_share": arm.late_share(),
        "late_mean_us": late_mean_us,
        "late_max_us": late_max_us,
        "workers": workers,
        "books": arm.books,
    })
}
