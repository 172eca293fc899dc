//! The phases of a run, in order of time: those that its faults make, or its stages.
//!
//! Rule: one table and one form in JSON for both; the figures of a phase are those of any part of the requests
//! ([`super::breakdown`]). Deliberately not here: what a fault did ([`super::faults`]).

use serde_json::{Value, json};

use super::breakdown::{KEYS, Part};
use super::lines::{Lines, figure};
use super::metrics::Metrics;
use crate::load::faults::{Phase, Phases};
use crate::load::run::RunReport;

/// The stages of a run; nothing where there are none, or where it is divided by its faults.
pub fn print_stages(out: &mut Lines, run: &RunReport, metrics: &Metrics) {
    if let Some(phases) = stages(run) {
        print(out, " Stage by stage, by due time (s, latencies ms) ", &phases, metrics);
    }
}

/// For `run.json`; null as nothing is printed.
pub fn stages_json(run: &RunReport) -> Value {
    stages(run).as_ref().map_or(Value::Null, to_json)
}

fn stages(run: &RunReport) -> Option<Phases> {
    run.phases().filter(|_| run.faults.is_none())
}

/// A line for each.
pub(super) fn print(out: &mut Lines, title: &str, phases: &Phases, metrics: &Metrics) {
    out.rule('-', title);
    out.line(&format!(
        "{:<24}{:>9}{:>9}{:>7}{:>8}{:>9}{:>9}{:>9}{:>9}",
        "", "from", "to", "n", "failed", "TTFT p50", "p99", "E2E p50", "p99"
    ));
    let by_phase = KEYS.iter().position(|key| key.name == "phase").and_then(|at| metrics.breakdown.get(at));
    for phase in &phases.0 {
        let part = by_phase.and_then(|parts| parts.iter().find(|part| part.name == phase.name));
        out.line(&line(phase, part));
    }
}

fn line(phase: &Phase, part: Option<&Part>) -> String {
    let seconds = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.2}", ns as f64 / 1e9));
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    let (ttft, e2e) = (part.and_then(|p| p.ttft), part.and_then(|p| p.e2e));
    let (requests, succeeded) = part.map_or((0, 0), |p| (p.requests, p.succeeded));
    format!(
        "{:<24}{:>9}{:>9}{:>7}{:>8}{:>9}{:>9}{:>9}{:>9}",
        phase.name,
        seconds((phase.from_ns > i64::MIN).then_some(phase.from_ns)),
        seconds(phase.to_ns),
        requests,
        requests - succeeded,
        cell(ttft.map(|s| s.median)),
        cell(ttft.map(|s| s.p99)),
        cell(e2e.map(|s| s.median)),
        cell(e2e.map(|s| s.p99)),
    )
}

/// Each with its span; its figures are `metrics.by_phase`.
pub(super) fn to_json(phases: &Phases) -> Value {
    let one = |phase: &Phase| {
        json!({
            "name": phase.name,
            "from_s": (phase.from_ns > i64::MIN).then(|| phase.from_ns as f64 / 1e9),
            "to_s": phase.to_ns.map(|ns| ns as f64 / 1e9),
            "faults": phase.faults,
        })
    };
    phases.0.iter().map(one).collect()
}
