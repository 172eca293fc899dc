//! Whether the client itself was in the way: its processor time, and whether two ways of counting what is in flight agree.
//!
//! Rule: both are judged from what the load loop measured of itself; a run that did not measure it is not judged. Deliberately
//! not here: how well the schedule was kept (`pace`).

use super::Finding;
use crate::load::row::Row;
use crate::load::run::RunReport;

/// Cores that the client can keep busy with one load: one sends and books, the other reads.
const CORES: f64 = 2.0;
/// Share of them in use on average: beyond seven tenths the peaks wait for each other, beyond nine tenths all do.
const CPU_SHARE: (f64, f64) = (0.7, 0.9);
/// A share of a shorter time is of the start.
const SHORTEST_S: f64 = 1.0;
/// A mean of fewer is that of one late moment.
const FEWEST: usize = 30;
/// How much longer a request may be in flight for the load loop than by its stamps: a share of it, and milliseconds in any case.
const BOOKED_LATE: f64 = 0.05;
const BOOKED_LATE_MS: f64 = 2.0;

pub(super) fn cpu_of(run: &RunReport) -> Option<Finding> {
    let work = &run.client;
    let cpu_s = work.cpu_ns? as f64 / 1e9;
    Some(cpu(cpu_s, work.wall_ns as f64 / 1e9, work.cores))
}

fn cpu(cpu_s: f64, wall_s: f64, cores: usize) -> Finding {
    if wall_s < SHORTEST_S {
        return Finding::Unjudged(format!(
            "the load lasted {wall_s:.2} s, processor time takes {SHORTEST_S} s"
        ));
    }
    let usable = CORES.min(cores.max(1) as f64);
    let share = cpu_s / wall_s / usable;
    let text = format!("the client used {:.0} % of {usable:.0} cores", 100.0 * share);
    Finding::above(share, CPU_SHARE.0, CPU_SHARE.1, text)
}

/// The requests that were sent and have an end, as rows come.
#[derive(Debug, Default)]
pub(super) struct Ended {
    rows: usize,
    requests: usize,
    /// Latencies from schedule of these.
    sum_ns: f64,
}

impl Ended {
    pub fn add(&mut self, row: &Row) {
        self.rows += 1;
        if let (Some(_), Some(ns)) = (row.dispatched_ns, row.latency_from_schedule_ns()) {
            self.requests += 1;
            self.sum_ns += ns as f64;
        }
    }

    /// Little's law: what is in flight is rate times time in flight. The left side is counted by the load loop, the right side is of
    /// the requests' own stamps; they differ where the loop learned late of an end, and then of arrivals too.
    pub fn littles_law_of(&self, run: &RunReport) -> Option<Finding> {
        let counted_ns = run.client.in_flight_ns?;
        if self.requests != self.rows || self.requests == 0 {
            return Some(Finding::Unjudged("not every request has an end".to_owned()));
        }
        if run.client.wall_ns < (SHORTEST_S * 1e9) as u64 || self.requests < FEWEST {
            return Some(Finding::Unjudged(format!("it takes {FEWEST} requests and {SHORTEST_S} s")));
        }
        let requests = self.requests as f64;
        let mean_ms = |ns: f64| ns / requests / 1e6;
        let wall_s = run.client.wall_ns as f64 / 1e9;
        Some(littles_law(mean_ms(counted_ns), mean_ms(self.sum_ns), requests / wall_s))
    }
}

/// Time in flight of the mean request: for the load loop and by its stamps.
fn littles_law(booked_ms: f64, stamped_ms: f64, per_s: f64) -> Finding {
    let in_flight = |ms: f64| per_s * ms / 1e3;
    let text = format!(
        "in flight {:.2} as counted, {:.2} by rate x latency: the mean request was booked {:.2} ms longer than it lasted",
        in_flight(booked_ms),
        in_flight(stamped_ms),
        booked_ms - stamped_ms
    );
    let off = (booked_ms - stamped_ms).abs() - BOOKED_LATE * stamped_ms;
    Finding::above(off, BOOKED_LATE_MS, f64::INFINITY, text)
}

#[cfg(test)]
mod tests {
    use super::super::Rating;
    use super::*;

    fn is(finding: &Finding, expected: Rating) -> bool {
        matches!(finding, Finding::Judged(rating, _) if *rating == expected)
    }

    #[test]
    fn a_busy_client_is_suspect_and_a_full_one_invalid() {
        assert!(is(&cpu(13.0, 10.0, 8), Rating::Valid));
        assert!(is(&cpu(15.0, 10.0, 8), Rating::Suspect));
        assert!(is(&cpu(19.0, 10.0, 8), Rating::Invalid));
        assert!(is(&cpu(8.0, 10.0, 1), Rating::Suspect));
        assert!(matches!(cpu(0.9, 0.5, 2), Finding::Unjudged(_)));
    }

    #[test]
    fn ends_that_are_booked_late_are_suspect() {
        assert!(is(&littles_law(101.0, 100.0, 20.0), Rating::Valid));
        assert!(is(&littles_law(1.9, 0.5, 20.0), Rating::Valid));
        assert!(is(&littles_law(120.0, 100.0, 20.0), Rating::Suspect));
        let Finding::Judged(_, text) = littles_law(120.0, 100.0, 20.0) else { panic!() };
        assert!(text.contains("2.40 as counted, 2.00 by rate"), "{text}");
    }
}
