//! The faults in the summary: phases in order of time, then each fault with who noticed and what was lost.
//!
//! Rule: a figure that is not known is a dash with its reason in words. Deliberately not here: the figures.

use super::Aftermath;
use crate::load::faults::{Conducted, Phases};
use crate::load::run::RunReport;
use crate::report::lines::Lines;
use crate::report::phases;
use crate::report::survey::Survey;

/// Why some figures are not there.
const UNPLACED: &str = "no answer names its worker and there is no --router-trace";

/// All of it; nothing without a schedule of failures.
pub fn print(out: &mut Lines, run: &RunReport, survey: &Survey) {
    let Some(conducted) = &run.faults else { return };
    let title = " Faults, phase by phase (s, latencies ms) ";
    phases::print(out, title, &Phases::of(conducted), survey.metrics());
    for fault in &survey.aftermaths {
        of_fault(out, fault, conducted);
    }
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
