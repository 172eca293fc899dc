//! What the charts of a run are made of.
//!
//! Rule: bounded whatever the number of rows: rates are counted in slots of time, and the request in the middle is the one next to
//! it of some thousands that lie evenly over the run. Deliberately not here: the charts ([`crate::report::page`]).

use std::collections::BTreeMap;

use super::{Distribution, Side};
use crate::load::row::Row;
use crate::report::quantity::named;

/// Slots of time, of a millisecond to begin with, each time ten of them become one.
const SLOTS: u32 = 10_000;
/// Points of a curve over time at most.
const POINTS: usize = 90;
/// Rows from which the one in the middle is taken.
const CANDIDATES: usize = 4_096;
/// Policies that a chart tells apart.
const POLICIES: usize = 8;

/// The line of a distribution.
#[derive(Clone, Debug)]
pub struct Line {
    /// Of what.
    pub name: String,
    /// Values, each with the share of samples not above it; none without a sample.
    pub points: Vec<(f64, f64)>,
}

impl Line {
    pub(super) fn of(name: &str, samples: &Distribution) -> Self {
        Self { name: name.to_owned(), points: samples.line() }
    }
}

/// A rate over time.
#[derive(Clone, Debug, Default)]
pub struct Over {
    /// Beginnings of slices of time in seconds, each with the rate in it, and the end.
    pub points: Vec<(f64, f64)>,
    /// Length of a slice, seconds.
    pub slice_s: f64,
}

/// What charts are made of.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Successful requests ended a second.
    pub requests: Over,
    /// Tokens generated a second, counted at the end of their request.
    pub tokens: Over,
    /// Distribution of the E2E latency, milliseconds.
    pub latency: Line,
    /// The same at the client, from the schedule.
    pub from_schedule: Line,
    /// Distribution of the time to first token, milliseconds.
    pub ttft: Line,
    /// The same by worker.
    pub ttft_by_worker: Vec<Line>,
    /// The same by policy.
    pub ttft_by_policy: Vec<Line>,
    /// A successful request that took as long as half of them at least.
    pub median: Option<Row>,
    /// The successful request that took longest.
    pub slowest: Option<Row>,
}

/// The same as rows come.
#[derive(Clone, Debug, Default)]
pub(super) struct Drawing {
    ended: Slots,
    policies: BTreeMap<String, Distribution>,
    candidates: Candidates,
    slowest: Option<(i64, Row)>,
}

impl Drawing {
    pub(super) fn add(&mut self, row: &Row, side: Side) {
        if !row.success() {
            return;
        }
        if let Some(ns) = side.end_ns(row) {
            self.ended.add(ns, row.decode_length().unwrap_or(0), side.begin_ns(row));
        }
        if let Some(policy) = &row.policy
            && (self.policies.len() < POLICIES || self.policies.contains_key(policy))
        {
            let samples = self.policies.entry(policy.clone()).or_default();
            named("ttft").and_then(|q| q.value(row)).into_iter().for_each(|value| samples.add(value, 1));
        }
        if let Some(whole_ns) = side.whole_ns(row) {
            if self.slowest.as_ref().is_none_or(|(slowest_ns, _)| *slowest_ns < whole_ns) {
                self.slowest = Some((whole_ns, bare(row)));
            }
            self.candidates.add(whole_ns, row);
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.policies.values().map(Distribution::kept).sum()
    }

    pub(super) fn shrink(&mut self, most: usize) {
        self.policies.values_mut().for_each(|d| d.shrink(most));
    }

    /// `begin_ns`: the moment from which time is counted.
    pub(super) fn drawn(
        self,
        begin_ns: i64,
        line: impl Fn(&str) -> Vec<(f64, f64)>,
        ttft_by_worker: Vec<Line>,
    ) -> Drawn {
        let named = |name: &str| Line { name: name.to_owned(), points: line(name) };
        let (requests, tokens) = self.ended.rates(begin_ns);
        Drawn {
            requests,
            tokens,
            latency: named("total_latency"),
            from_schedule: named("latency_from_schedule"),
            ttft: named("ttft"),
            ttft_by_worker,
            ttft_by_policy: self.policies.iter().map(|(name, d)| Line::of(name, d)).collect(),
            median: self.candidates.median(),
            slowest: self.slowest.map(|(_, row)| row),
        }
    }
}

/// A row without its gaps, which may be thousands.
fn bare(row: &Row) -> Row {
    Row { gaps: Vec::new(), ..row.clone() }
}

/// Every so manieth row.
#[derive(Clone, Debug)]
struct Candidates {
    seen: u64,
    every: u64,
    rows: Vec<(i64, Row)>,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { seen: 0, every: 1, rows: Vec::new() }
    }
}

impl Candidates {
    fn add(&mut self, whole_ns: i64, row: &Row) {
        if self.seen.is_multiple_of(self.every) {
            if self.rows.len() == CANDIDATES {
                let mut place = 0;
                self.rows.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                self.every *= 2;
            }
            if self.seen.is_multiple_of(self.every) {
                self.rows.push((whole_ns, bare(row)));
            }
        }
        self.seen += 1;
    }

    fn median(mut self) -> Option<Row> {
        self.rows.sort_by_key(|(whole_ns, _)| *whole_ns);
        let middle = self.rows.len() / 2;
        (!self.rows.is_empty()).then(|| self.rows.swap_remove(middle).1)
    }
}

/// Requests and tokens in each slot of time.
#[derive(Clone, Debug)]
struct Slots {
    /// Where the first slot begins: at the start of the run, or where nobody tells that, at the first request.
    from_ms: i64,
    width_ms: i64,
    counts: Vec<(u64, u64)>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { from_ms: 0, width_ms: 1, counts: Vec::new() }
    }
}

impl Slots {
    /// `begin_ns`: when the request began, where a run begins with its first.
    fn add(&mut self, ns: i64, tokens: u64, begin_ns: Option<i64>) {
        let ms = ns.max(0) / 1_000_000;
        if self.counts.is_empty() {
            self.from_ms = begin_ns.map_or(0, |begin_ns| begin_ns.max(0) / 1_000_000).min(ms);
        }
        self.make_room_before(ms);
        while (ms - self.from_ms) / self.width_ms >= i64::from(SLOTS) {
            self.widen();
        }
        let slot = ((ms - self.from_ms) / self.width_ms) as usize;
        if slot >= self.counts.len() {
            self.counts.resize(slot + 1, (0, 0));
        }
        self.counts[slot].0 += 1;
        self.counts[slot].1 += tokens;
    }

    /// Slots before the first one, for what comes in no order.
    fn make_room_before(&mut self, ms: i64) {
        if ms >= self.from_ms {
            return;
        }
        let missing = |slots: &Self| (slots.from_ms - ms - 1) / slots.width_ms + 1;
        while missing(self) as usize + self.counts.len() > SLOTS as usize {
            self.widen();
        }
        let missing = missing(self);
        self.counts.splice(0..0, std::iter::repeat_n((0, 0), missing as usize));
        self.from_ms -= missing * self.width_ms;
    }

    /// Ten slots become one.
    fn widen(&mut self) {
        let wider = self.counts.chunks(10).map(|ten| ten.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)));
        self.counts = wider.collect();
        self.width_ms *= 10;
    }

    /// In slices of 1, 2 or 5 times a power of ten; time is counted from `begin_ns` on.
    fn rates(&self, begin_ns: i64) -> (Over, Over) {
        let steps = (0..).flat_map(|power| [1, 2, 5].map(|step| step * 10_usize.pow(power)));
        let wanted = self.counts.len().div_ceil(POINTS).max(1);
        let together = steps.take(15).find(|step| *step >= wanted).unwrap_or(wanted);
        let slice_s = self.width_ms as f64 * together as f64 / 1e3;
        let first_s = (self.from_ms - begin_ns / 1_000_000) as f64 / 1e3;
        let sums: Vec<(u64, u64)> = self
            .counts
            .chunks(together)
            .map(|slots| slots.iter().fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)))
            .collect();
        let over = |of: &dyn Fn(&(u64, u64)) -> u64| {
            let mut points: Vec<(f64, f64)> = sums
                .iter()
                .enumerate()
                .map(|(i, s)| (first_s + i as f64 * slice_s, of(s) as f64 / slice_s))
                .collect();
            // The last slice is drawn up to its end.
            points.extend(points.last().map(|last| (last.0 + slice_s, last.1)));
            Over { points, slice_s }
        };
        (over(&|s| s.0), over(&|s| s.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;

    #[test]
    fn rates_are_of_round_slices_however_long_the_run() {
        for (every_ms, slice_s) in [(10, 0.02), (1_000, 2.0), (100_000, 200.0)] {
            let mut slots = Slots::default();
            (0..100).for_each(|n| slots.add(n * every_ms * 1_000_000, 3, None));
            let (requests, tokens) = slots.rates(0);
            assert!((requests.slice_s / slice_s - 1.0_f64).abs() < 1e-9, "every {every_ms} ms");
            assert_eq!(requests.points.len(), 51);
            assert!((requests.points[10].1 * every_ms as f64 / 1e3 - 1.0).abs() < 1e-9, "{requests:?}");
            assert!((tokens.points[10].1 / requests.points[10].1 - 3.0).abs() < 1e-9);
        }
        assert!(Slots::default().rates(0).0.points.is_empty());
    }

    /// Stamps of a program that counts from 1970, its rows in no order.
    #[test]
    fn times_of_a_calendar_are_counted_from_the_first_request() {
        let begin_ns = 1_700_000_000_000_000_000;
        let mut slots = Slots::default();
        for n in [60, 20, 0, 99, 40, 80] {
            let at_ns = begin_ns + n * 1_000_000_000;
            slots.add(at_ns + 1_000_000, 3, Some(at_ns));
        }
        let (requests, _) = slots.rates(begin_ns);
        let (first, last) = (requests.points[0], requests.points[requests.points.len() - 1]);
        assert!(first.0.abs() < 1.1 && first.1 > 0.0, "{requests:?}");
        assert!((99.0..=102.0).contains(&last.0) && requests.slice_s <= 2.0, "{requests:?}");
        let ended: f64 =
            requests.points[..requests.points.len() - 1].iter().map(|p| p.1 * requests.slice_s).sum();
        assert!((ended - 6.0).abs() < 1e-9, "{requests:?}");
    }

    #[test]
    fn the_request_in_the_middle_is_found_among_many() {
        let row = |n: i64| Row {
            client_end_ns: Some(1_000_000 + (n * 7_919) % 20_011),
            scheduled_ns: 1_000_000,
            ..example()
        };
        let mut drawing = Drawing::default();
        (0..20_011).for_each(|n| drawing.add(&row(n), Side::Client));
        let drawn = drawing.drawn(0, |_| Vec::new(), Vec::new());
        let whole = |row: Option<Row>| row.unwrap().latency_from_schedule_ns().unwrap();
        assert_eq!(whole(drawn.slowest), 20_010);
        assert!((whole(drawn.median) - 10_005).abs() < 500);
        assert_eq!(drawn.ttft_by_policy.len(), 1);
    }
}
