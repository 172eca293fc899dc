//! What became of the requests when something was made to fail: phases, time to detect, time to recover, what was lost.
//!
//! Rule: pure functions of the rows and of what was done when; a moment that no row tells is unknown, never 0. Each figure has
//! one definition in words, in [`DEFINITIONS`], which `--explain` and `docs/metrics.md` are made of. Deliberately not here: the
//! phases themselves ([`super::phases`]).

mod aftermath;
mod recovery;
mod table;
mod watch;

use serde_json::{Value, json};

pub use aftermath::{Aftermath, Detection, InFlight};
pub use recovery::Recovery;
pub use table::print;

use self::recovery::Usual;
use self::watch::Watch;
use crate::load::faults::{Act, Conducted, Phase, Phases};
use crate::load::row::Row;
use crate::load::rows::Rows;
use crate::load::run::RunReport;
use crate::report::phases;

/// Each figure of a fault: its name in `run.json`, its title in the summary, its definition.
pub const DEFINITIONS: [(&str, &str, &str); 11] = [
    (
        "phase",
        "phase",
        "a fault lasts from the moment its action was begun until the action that ends it was done. A request is of the phase of \
         the first fault that it met (begun in it, or in flight when the fault began), else of the one in which it began, which is \
         when it was free to go (of one that never was: due)",
    ),
    (
        "detect_s",
        "detected after",
        "the earlier of first_error_s and first_rerouted_s: the first moment at which anybody was told",
    ),
    (
        "first_error_s",
        "first error",
        "end at the client of the first request that failed after the action was begun - that moment",
    ),
    (
        "first_rerouted_s",
        "first request routed elsewhere",
        "first send to another worker of a request whose attempt at this one had failed - the moment the action was begun. Needs the \
         router's trace",
    ),
    (
        "last_chosen_s",
        "last chosen",
        "last send to this worker, or attempt at it, while the fault lasted - the moment the action was begun; chosen counts them. \
         Needs answers that name their worker; attempts that failed need the router's trace",
    ),
    (
        "back_s",
        "back in use after its end",
        "first send to this worker after the action that ended the fault was done - that moment",
    ),
    (
        "recover_s",
        "recovered after",
        "begin of the first request from which on, to the next fault or the end, every 20 requests in a row were within the \
         band - the moment the action was begun. The band: at most 10 points of a hundred more bad requests than before the \
         faults; bad is failed, or a TTFT from the send (E2E where nothing is streamed) above twice the p95 of before and 5 ms",
    ),
    (
        "in_flight",
        "in flight at it",
        "requests at this worker when the action was begun (sent, not ended; of an unknown worker: all in flight), and what became of \
         them",
    ),
    (
        "unplaced",
        "in flight, at nobody knows which",
        "requests in flight when the action was begun whose worker neither an answer nor a trace told",
    ),
    ("lost_in_flight", "lost in flight", "those of in_flight that failed"),
    (
        "failed_later",
        "failed later",
        "requests of the fault's phases that failed and were not in flight at the worker when it was begun",
    ),
];

/// Why a request failed is the run's own doing: Ctrl-C. Such a request tells nothing about a fault.
fn cut_by_user(row: &Row) -> bool {
    use crate::load::failure::Class;
    row.failure.as_ref().is_some_and(|f| matches!(f.class, Class::Interrupted | Class::NotSent))
}

/// What has to be known of all requests before it can be told what came of a fault: what they were like before the first one, and
/// whether any names its worker.
#[derive(Debug)]
pub struct Before<'a> {
    conducted: &'a Conducted,
    phases: Phases,
    names_workers: bool,
    usual: Usual,
}

impl<'a> Before<'a> {
    /// Before the first request.
    pub fn of(conducted: &'a Conducted) -> Self {
        Self { conducted, phases: Phases::of(conducted), names_workers: false, usual: Usual::default() }
    }

    /// The next request.
    pub fn add(&mut self, row: &Row) {
        if cut_by_user(row) {
            return;
        }
        self.names_workers |= row.host.is_some();
        if self.phases.of_row(row).is_some_and(is_first) {
            self.usual.add(row);
        }
    }

    /// All faults that were begun, in order. Goes through the same requests once more; of each that began after a fault 8 bytes are
    /// kept.
    pub fn aftermaths(self, rows: &Rows) -> Vec<Aftermath> {
        let mut band = self.usual.band();
        let all = 0..self.conducted.plan.faults.len();
        let watch = |fault| Watch::begin(self.conducted, fault, self.names_workers);
        let mut watches: Vec<Watch<'_>> = all.filter_map(watch).collect();
        for row in rows.iter().filter(|row| !cut_by_user(row)) {
            let phase = self.phases.of_row(&row);
            let is_bad = band.is_bad(&row);
            if phase.is_some_and(is_first) {
                band.learn(is_bad);
            }
            for watch in &mut watches {
                watch.add(&row, phase, is_bad);
            }
        }
        watches.into_iter().map(|watch| watch.end(&band)).collect()
    }
}

/// No fault can have touched its requests.
fn is_first(phase: &Phase) -> bool {
    phase.from_ns == i64::MIN
}

/// All faults that were begun, in order.
pub fn aftermaths(conducted: &Conducted, rows: &Rows) -> Vec<Aftermath> {
    let mut before = Before::of(conducted);
    rows.iter().for_each(|row| before.add(&row));
    before.aftermaths(rows)
}

/// For `run.json`; null without a schedule of failures.
pub fn to_json(run: &RunReport, aftermaths: &[Aftermath]) -> Value {
    let Some(conducted) = &run.faults else { return Value::Null };
    json!({
        "schedule": conducted.plan.to_text(),
        "phases": phases::to_json(&Phases::of(conducted)),
        "actions": conducted.acts.iter().map(act_json).collect::<Vec<_>>(),
        "faults": aftermaths.iter().map(Aftermath::to_json).collect::<Vec<_>>(),
    })
}

fn act_json(act: &Act) -> Value {
    json!({
        "fault": act.fault + 1,
        "ends": act.ends,
        "restores": act.restores,
        "asked_s": act.asked_ns.map(|ns| ns as f64 / 1e9),
        "began_s": seconds(act.began_ns),
        "done_s": seconds(act.done_ns),
        "failure": act.failure,
    })
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}
