//! What is known of the clocks of a trace, worker by worker, as a table for people.
//!
//! Rule: the offset is told against the router's wall clock, which people compare clocks with; of requests that could not be
//! placed the reason is counted. Memory is that of the fleet. Deliberately not here: how stamps are placed (`trace::axis`).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::source::Placed;
use super::survey::{RunClocks, Survey};
use crate::trace::drift::WallClock;
use crate::trace::record::RequestRecord;

/// Requests that no worker answered.
const NO_WORKER: &str = "no_worker";

/// The requests of each worker in each run, placed or not.
#[derive(Debug, Default)]
pub struct Clocks {
    workers: BTreeMap<(u64, String), Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    aligned: u64,
    /// Of these it is known that the worker is on the router's host.
    same_host: u64,
    widest_bound_ns: u64,
    order_broken: u64,
    /// Why the others have no moment of the server.
    reasons: BTreeMap<&'static str, u64>,
}

impl Clocks {
    /// Counts a request.
    pub fn add(&mut self, placed: &Placed<'_>) {
        let (record, aligned) = (placed.record, &placed.aligned);
        let counted = self.of(placed.run, record);
        counted.requests += 1;
        counted.same_host += u64::from(record.same_host == Some(true));
        counted.order_broken += u64::from(aligned.order_broken);
        if let Some(bound_ns) = aligned.clock_bound_ns {
            counted.aligned += 1;
            counted.widest_bound_ns = counted.widest_bound_ns.max(bound_ns);
            return;
        }
        let reason = match record.worker {
            Some(_) => reason(&aligned.missing),
            None => NO_WORKER,
        };
        *counted.reasons.entry(reason).or_default() += 1;
    }

    fn of(&mut self, run: u64, record: &RequestRecord) -> &mut Counted {
        let worker = record.worker.as_deref().unwrap_or("-");
        self.workers.entry((run, worker.to_owned())).or_default()
    }

    /// The table: a line for each worker of each run.
    pub fn table(&self, survey: &Survey) -> String {
        let mut text = String::new();
        let mut last = 0;
        for ((run, worker), counted) in &self.workers {
            let at = usize::try_from(*run).unwrap_or(usize::MAX).wrapping_sub(1);
            let Some(known) = survey.runs.get(at) else { continue };
            if *run != last {
                last = *run;
                // Writing into a string cannot fail.
                let _ = writeln!(
                    text,
                    "run {run}: router's wall clock stepped {} times, read within {}\n{:<34} {:<9} {:>14} {:>12} {:>17} {:>5} {:>9} {:>9}  not aligned",
                    known.clocks.steps(),
                    time(known.clocks.widest_bracket_ns().unwrap_or(0)),
                    "  worker",
                    "clock",
                    "offset",
                    "widest bound",
                    "drift ppm",
                    "steps",
                    "requests",
                    "aligned",
                );
            }
            text += &line(worker, counted, known);
        }
        text
    }
}

/// The first that says more than that nothing was sent.
fn reason(missing: &[(&'static str, &'static str)]) -> &'static str {
    let told = |why: &str| why != crate::trace::align::NOT_SENT;
    let reasons = || missing.iter().map(|(_, why)| *why);
    reasons().find(|why| told(why)).or_else(|| reasons().next()).unwrap_or(crate::trace::align::NOT_SENT)
}

fn line(worker: &str, counted: &Counted, known: &RunClocks) -> String {
    let remote = WallClock::of(known.offsets.pairs(worker));
    let clock = match &remote {
        _ if known.offsets.is_router(worker) => "router",
        Some(_) => "remote",
        None if counted.same_host > 0 => "same host",
        None => "unknown",
    };
    let (mut offset, mut drift, mut steps) = ("-".to_owned(), "-".to_owned(), "-".to_owned());
    if let Some(remote) = &remote {
        if let Some(own_ns) = known.clocks.offset_ns_near(remote.best.at_ns) {
            offset = signed_time(remote.best.offset_ns.saturating_sub(own_ns));
        }
        drift = remote.drift_ppm.map_or(drift, |(ppm, error)| format!("{ppm:+.1} +-{error:.1}"));
        steps = remote.steps.to_string();
    }
    let bound = if counted.aligned > 0 { time(counted.widest_bound_ns) } else { "-".to_owned() };
    let mut not: Vec<String> = counted.reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
    if counted.order_broken > 0 {
        not.push(format!("({} with stages out of order)", counted.order_broken));
    }
    let line = format!(
        "  {worker:<32} {clock:<9} {offset:>14} {bound:>12} {drift:>17} {steps:>5} {:>9} {:>9}  {}",
        counted.requests,
        counted.aligned,
        not.join(", ")
    );
    line.trim_end().to_owned() + "\n"
}

/// `0.40 us`, `12.35 ms`, `3.20 s`.
fn time(ns: u64) -> String {
    let ns = ns as f64;
    match ns {
        _ if ns < 1e6 => format!("{:.2} us", ns / 1e3),
        _ if ns < 1e9 => format!("{:.2} ms", ns / 1e6),
        _ => format!("{:.2} s", ns / 1e9),
    }
}

fn signed_time(ns: i64) -> String {
    format!("{}{}", if ns < 0 { '-' } else { '+' }, time(ns.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::align::{Aligned, NO_OFFSET, NOT_SENT, NOT_STREAMED};

    #[test]
    fn the_reason_is_what_keeps_the_others_away() {
        assert_eq!(reason(&[("a", NOT_SENT), ("b", NO_OFFSET)]), NO_OFFSET);
        assert_eq!(reason(&[("a", NOT_STREAMED), ("b", NO_OFFSET)]), NOT_STREAMED);
        assert_eq!((reason(&[("a", NOT_SENT)]), reason(&[])), (NOT_SENT, NOT_SENT));
    }

    #[test]
    fn requests_are_counted_by_worker_and_reason() {
        let mut clocks = Clocks::default();
        let at = |worker: Option<&str>| RequestRecord {
            worker: worker.map(Into::into),
            same_host: worker.map(|_| true),
            ..RequestRecord::default()
        };
        let (placed, refused) = (at(Some("http://w")), at(None));
        let aligned = Aligned { clock_bound_ns: Some(400), ..Aligned::default() };
        clocks.add(&Placed { run: 1, record: &placed, aligned });
        let aligned = Aligned { missing: vec![("ttft", NOT_SENT)], ..Aligned::default() };
        clocks.add(&Placed { run: 1, record: &placed, aligned });
        clocks.add(&Placed { run: 1, record: &refused, aligned: Aligned::default() });
        let mut survey = Survey::default();
        survey.runs.push(RunClocks::default());
        let table = clocks.table(&survey);
        let row = |name: &str| {
            let line = table.lines().find(|line| line.trim_start().starts_with(name)).expect(name);
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("http://w"), "http://w same host - 0.40 us - - 2 1 1 not_sent");
        assert_eq!(row("- "), "- unknown - - - - 1 0 1 no_worker");
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        assert_eq!(
            (time(400), time(12_350_000), time(3_200_000_000)),
            ("0.40 us".into(), "12.35 ms".into(), "3.20 s".into())
        );
        assert_eq!((signed_time(-1_500), signed_time(0)), ("-1.50 us".into(), "+0.00 us".into()));
    }
}
