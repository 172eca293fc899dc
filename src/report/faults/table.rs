//! The faults in the summary: phases in order of time, then each fault with who noticed and what was lost.
//!
//! Rule: a figure that is not known is a dash with its reason in words. Deliberately not here: the figures.

use super::{Aftermath, aftermaths};
use crate::load::faults::{Conducted, Phase, Phases};
use crate::load::run::RunReport;
use crate::report::breakdown::{KEYS, Part};
use crate::report::lines::{Lines, figure};
use crate::report::metrics::Metrics;

/// Why some figures are not there.
const UNPLACED: &str = "no answer names its worker and there is no --router-trace";

/// All of it; nothing without a schedule of failures.
pub fn print(out: &mut Lines, run: &RunReport, metrics: &Metrics) {
    let Some(conducted) = &run.faults else { return };
    out.rule('-', " Faults, phase by phase (s, latencies ms) ");
    out.line(&format!(
        "{:<20}{:>9}{:>9}{:>7}{:>8}{:>9}{:>9}{:>9}{:>9}",
        "", "from", "to", "n", "failed", "TTFT p50", "p99", "E2E p50", "p99"
    ));
    let by_phase = KEYS.iter().position(|key| key.name == "phase").and_then(|at| metrics.breakdown.get(at));
    for phase in &Phases::of(conducted).0 {
        let part = by_phase.and_then(|parts| parts.iter().find(|part| part.name == phase.name));
        out.line(&of_phase(phase, part));
    }
    for fault in aftermaths(conducted, &run.rows) {
        of_fault(out, &fault, conducted);
    }
}

fn of_phase(phase: &Phase, part: Option<&Part>) -> String {
    let seconds = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.2}", ns as f64 / 1e9));
    let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
    let (ttft, e2e) = (part.and_then(|p| p.ttft), part.and_then(|p| p.e2e));
    let (requests, succeeded) = part.map_or((0, 0), |p| (p.requests, p.succeeded));
    format!(
        "{:<20}{:>9}{:>9}{:>7}{:>8}{:>9}{:>9}{:>9}{:>9}",
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

fn of_fault(out: &mut Lines, fault: &Aftermath, conducted: &Conducted) {
    let at = fault.host.as_ref().map(|host| format!(" ({host})")).unwrap_or_default();
    let until =
        fault.ended_ns.map_or_else(|| "to the end".to_owned(), |ns| format!("to {:.3} s", ns as f64 / 1e9));
    out.line(&format!(
        "Fault {}: {}{at}, {:.3} s {until}",
        fault.number,
        fault.what,
        fault.began_ns as f64 / 1e9
    ));
    for act in conducted.acts.iter().filter(|act| act.fault + 1 == fault.number) {
        if let Some(why) = &act.failure {
            out.wrapped("  FAILED: ", why);
        }
    }
    let seen = &fault.detection;
    let each = [
        (seen.first_error_ns, "first error"),
        (seen.first_rerouted_ns, "first request routed elsewhere"),
        (seen.last_chosen_ns, "last chosen"),
    ];
    let back = match (fault.ended_ns, fault.placed, seen.back_ns) {
        (None, _, _) => "- (it lasted to the end)".to_owned(),
        (_, false, _) => format!("- ({UNPLACED})"),
        (_, _, None) => "- (not chosen any more)".to_owned(),
        (_, _, ns) => after(ns),
    };
    let each: Vec<String> =
        each.iter().filter_map(|(ns, what)| Some(format!("{what} {}", after(Some((*ns)?))))).collect();
    let each = match (each.is_empty(), fault.placed) {
        (true, true) => "no error, none routed elsewhere".to_owned(),
        (true, false) => format!("no error; {UNPLACED}"),
        (false, _) => each.join(", "),
    };
    out.pair("  detected after", &format!("{} ({each})", after(seen.first_ns())));
    out.pair("  recovered after", &fault.recovery.to_string());
    out.pair("  back in use after its end", &back);
    let there = &fault.in_flight;
    let classes: Vec<String> = there.lost.iter().map(|(class, n)| format!("{class} {n}")).collect();
    let classes = if classes.is_empty() { String::new() } else { format!(" ({})", classes.join(", ")) };
    let (all, lost) = (there.requests, there.lost());
    if fault.placed {
        let (by_it, by_another) = (there.answered, there.answered_elsewhere);
        let answered = format!("answered by it {by_it}, by another {by_another}");
        out.pair("  in flight at it", &format!("{all}: {answered}, lost {lost}{classes}"));
    } else {
        let answered = there.answered;
        out.pair("  in flight at any worker", &format!("{all}: answered {answered}, lost {lost}{classes}"));
    }
    if there.unplaced > 0 {
        out.pair("  in flight, at nobody knows which", &there.unplaced.to_string());
    }
    out.pair("  failed later", &fault.failed_later.to_string());
}

fn after(ns: Option<i64>) -> String {
    ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.3} s", ns as f64 / 1e9))
}
