//! Where the time went: every request's way from its due time to its last byte, in parts, and one hint.
//!
//! Rule: the parts follow each other without gap or overlap, so that shares add up; time that no stamp tells apart is a line of
//! its own and is never given to a neighbour. A request whose stamps are out of order is not told apart at all. Deliberately
//! not here: the parts' definitions, see `quantity`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::gather::{Distribution, Gathered, Side};
use super::lines::{LABEL, Lines, figure, percent};
use super::metrics::Metrics;
use super::quantity::{Quantity, named};
use super::stats::Summary;
use crate::load::row::Row;
use crate::load::run::RunReport;

/// The parts, in the order of a request's way.
pub const WAY: [&str; 12] = [
    "client_queue",
    "client_connect",
    "to_router",
    "router_in",
    "decision",
    "router_out",
    "network_time",
    "tokenize_time",
    "pure_queue_time",
    "prefill_time",
    "decode_time",
    "network_back",
];

/// Parts that only a router's trace tells: left out of the table where there is none.
const ROUTERS: [&str; 5] = ["to_router", "router_in", "decision", "router_out", "network_back"];

/// Shares below this are the rounding of clocks.
const WORTH_SAYING: f64 = 0.0005;
/// Share of the time in the server's queue from which there is a hint.
const QUEUE_SHARE: f64 = 0.25;
/// Most requests of a worker, as a multiple of the mean, up to which a fleet is balanced.
const BALANCED: f64 = 1.2;

/// Where the time went.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Whose stamps begin and end the whole.
    pub side: Side,
    /// Successful requests.
    pub requests: u64,
    /// Mean latency from schedule, milliseconds: the whole.
    pub whole_ms: f64,
    /// In the order of [`WAY`].
    pub parts: Vec<Part>,
    /// Share of the time that no stamp tells apart.
    pub unknown_share: f64,
}

/// One part.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its quantity.
    pub name: &'static str,
    /// Over the requests that know it; `None` where none does.
    pub summary: Option<Summary>,
    /// Share of the whole time of all requests; `None` where no request knows it.
    pub share: Option<f64>,
}

impl Split {
    /// In `run.json`.
    pub fn to_json(&self) -> Value {
        let part = |p: &Part| {
            json!({
                "part": p.name,
                "mean_ms": p.summary.map(|s| s.mean),
                "median_ms": p.summary.map(|s| s.median),
                "p99_ms": p.summary.map(|s| s.p99),
                "count": p.summary.map_or(0, |s| s.count),
                "share": p.share,
            })
        };
        let whole = match self.side {
            Side::Client => "mean_latency_from_schedule_ms",
            Side::Router => "mean_total_latency_ms",
        };
        json!({
            "requests": self.requests,
            whole: self.whole_ms,
            "parts": self.parts.iter().map(part).collect::<Vec<_>>(),
            "unknown_share": self.unknown_share,
        })
    }

    fn share(&self, name: &str) -> Option<f64> {
        self.parts.iter().find(|p| p.name == name).and_then(|p| p.share)
    }

    /// As a table, with what is only known of a run in memory.
    pub fn print(&self, out: &mut Lines, run: &RunReport, gathered: &Gathered) {
        let metrics = &gathered.metrics;
        self.table(out, run.has_trace, metrics);
        let (rows, records) = one_sided(run, gathered);
        if let (Some(rows), Some(records)) = (rows, records) {
            out.pair(
                "Found on one side only",
                &format!("{rows} sent without a record, {records} records of others' requests"),
            );
        }
        if let Some(hint) = hint(run, metrics, self) {
            out.wrapped("hint: ", &hint);
        }
    }

    /// As a table. `has_trace`: a router's trace told its part.
    pub(super) fn table(&self, out: &mut Lines, has_trace: bool, metrics: &Metrics) {
        let (whole, title) = match self.side {
            Side::Client => ("All: client E2E, from schedule", "due time to last byte"),
            Side::Router => ("All: E2E at the router", "arrival to last byte"),
        };
        out.rule('-', &format!(" Where the time went (ms, {title}) "));
        out.line(&format!(
            "{:<LABEL$}{:>10}{:>10}{:>10}{:>12}{:>10}",
            "", "mean", "p50", "p99", "share", "n"
        ));
        for part in
            self.parts.iter().filter(|p| (has_trace || !ROUTERS.contains(&p.name)) && self.side.knows(p.name))
        {
            let title = named(part.name).map_or(part.name, |q| q.title);
            match (part.summary, part.share) {
                (Some(s), Some(share)) => out.line(&format!(
                    "{title:<LABEL$}{:>10}{:>10}{:>10}{:>12}{:>10}",
                    figure(s.mean),
                    figure(s.median),
                    figure(s.p99),
                    percent(share),
                    s.count
                )),
                _ => out.line(&format!("{title:<LABEL$}{:>10}", "unknown")),
            }
        }
        if self.unknown_share.abs() >= WORTH_SAYING {
            out.line(&format!(
                "{:<LABEL$}{:>42}",
                "Not told apart by any stamp",
                percent(self.unknown_share)
            ));
        }
        out.line(&format!(
            "{:<LABEL$}{:>10}{:>32}{:>10}",
            whole,
            figure(self.whole_ms),
            percent(1.0),
            self.requests
        ));
        if let Some(s) = metrics.summary("router_overhead") {
            out.pair("Router overhead (ms)", &format!("p50 {:.3}, p99 {:.3}", s.median, s.p99));
        }
    }
}

/// The parts as rows come.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    side: Side,
    requests: u64,
    whole_ms: f64,
    parts: Vec<(&'static Quantity, Distribution)>,
}

impl Tally {
    pub(super) fn of(side: Side) -> Self {
        let parts = WAY.into_iter().filter_map(named).map(|quantity| (quantity, Distribution::default()));
        Self { side, requests: 0, whole_ms: 0.0, parts: parts.collect() }
    }

    pub(super) fn add(&mut self, row: &Row) {
        let Some(ns) = self.side.whole_ns(row).filter(|_| row.success()) else { return };
        self.requests += 1;
        self.whole_ms += ns as f64 / 1e6;
        if row.order_broken {
            return;
        }
        for (quantity, samples) in &mut self.parts {
            quantity.each(row, &mut |value, times| samples.add(value, times));
        }
    }

    pub(super) fn kept(&self) -> usize {
        self.parts.iter().map(|(_, samples)| samples.kept()).sum()
    }

    pub(super) fn shrink(&mut self, most: usize) {
        self.parts.iter_mut().for_each(|(_, samples)| samples.shrink(most));
    }

    pub(super) fn split(self) -> Option<Split> {
        if self.requests == 0 || self.whole_ms <= 0.0 {
            return None;
        }
        let part = |(quantity, samples): (&'static Quantity, Distribution)| {
            let sum = samples.sum();
            let summary = samples.summary();
            Part { name: quantity.name, summary, share: summary.map(|_| sum / self.whole_ms) }
        };
        let parts: Vec<Part> = self.parts.into_iter().map(part).collect();
        let known: f64 = parts.iter().filter_map(|p| p.share).sum();
        let unknown_share = if (1.0 - known).abs() < 1e-9 { 0.0 } else { 1.0 - known };
        let whole_ms = self.whole_ms / self.requests as f64;
        Some(Split { side: self.side, requests: self.requests, whole_ms, parts, unknown_share })
    }
}

/// Requests sent without a record, records without a request; `None` without a trace.
pub fn one_sided(run: &RunReport, gathered: &Gathered) -> (Option<u64>, Option<u64>) {
    (run.has_trace.then_some(gathered.sent_without_record), run.strangers)
}

/// What to do first, where the figures say it.
pub fn hint(run: &RunReport, metrics: &Metrics, split: &Split) -> Option<String> {
    // One worker with too much explains a queue, so it is told first.
    let hosts = run.servers.iter().map(|s| s.host.as_str());
    let counts: BTreeMap<&str, u64> =
        hosts.map(|host| (host, metrics.workers.get(host).map_or(0, |w| w.requests))).collect();
    imbalance(&counts).or_else(|| {
        let limit = run.servers.iter().filter_map(|s| s.max_running_requests).sum::<u64>();
        queue(split.share("pure_queue_time")?, limit)
    })
}

/// More than chance does: the excess is over three standard deviations of an even draw, too.
fn imbalance(counts: &BTreeMap<&str, u64>) -> Option<String> {
    let (host, most) = counts.iter().max_by_key(|(_, n)| **n)?;
    let mean = counts.values().sum::<u64>() as f64 / counts.len() as f64;
    let most = *most as f64;
    let uneven = counts.len() > 1 && most > BALANCED * mean && most - mean > 3.0 * mean.sqrt();
    uneven.then(|| {
        let idle = counts.values().filter(|n| **n == 0).count();
        let idle = if idle > 0 { format!(" ({idle} got none)") } else { String::new() };
        format!(
            "{host} got {:.2} times the mean number of requests{idle}: a worker was not healthy (the trace has its events), or the \
             policy follows prefixes and its threshold of imbalance never acted",
            most / mean
        )
    })
}

fn queue(share: f64, limit: u64) -> Option<String> {
    let limit = if limit > 0 { format!(" ({limit} in all now)") } else { String::new() };
    (share >= QUEUE_SHARE).then(|| {
        format!(
            "{} of the time went by in the servers' waiting queue: raise --max-running-requests{limit} if memory bears it, add \
             workers, or lower the rate",
            percent(share)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;
    use crate::report::quantity;

    fn of(rows: &[Row]) -> Option<Split> {
        Metrics::of(rows).split
    }

    fn share_of(split: &Split, name: &str) -> Option<f64> {
        split.share(name)
    }

    #[test]
    fn the_parts_of_a_request_are_all_of_its_time() {
        let split = of(&[example(), example()]).unwrap();
        assert_eq!((split.requests, split.unknown_share), (2, 0.0));
        assert!((split.whole_ms - 63.0).abs() < 1e-9);
        let sum: f64 = split.parts.iter().map(|p| p.summary.unwrap().mean).sum();
        assert!((sum - 63.0).abs() < 1e-9, "{sum}");
        assert!((share_of(&split, "decode_time").unwrap() - 40.0 / 63.0).abs() < 1e-9);
        assert!(quantity::all().filter(|q| q.is_part()).all(|q| WAY.contains(&q.name)));
        assert!(WAY.iter().all(|name| named(name).is_some_and(Quantity::is_part)));
    }

    /// Without the server's queue stamps 10 + 8 of 63 ms are nobody's.
    #[test]
    fn what_is_unknown_is_said_and_given_to_nobody() {
        let row = Row { pure_queue_ns: None, queue_end_ns: None, ..example() };
        let split = of(&[row]).unwrap();
        assert_eq!((share_of(&split, "pure_queue_time"), share_of(&split, "prefill_time")), (None, None));
        assert!((split.unknown_share - 18.0 / 63.0).abs() < 1e-9);
        let broken = of(&[Row { order_broken: true, ..example() }]).unwrap();
        assert!((broken.unknown_share - 1.0).abs() < 1e-12);
        assert_eq!(broken.to_json()["parts"][0]["share"], Value::Null);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn hints_come_where_they_apply() {
        let of = |list: &[(&'static str, u64)]| imbalance(&list.iter().copied().collect());
        let text = of(&[("a", 150), ("b", 50)]).unwrap();
        assert!(text.starts_with("a got 1.50 times") && text.contains("never acted"), "{text}");
        assert!(of(&[("a", 200), ("b", 0)]).unwrap().contains("(1 got none)"));
        // 1.3 times of few requests is chance; a single worker has all.
        assert_eq!(
            (of(&[("a", 13), ("b", 7)]), of(&[("a", 110), ("b", 90)]), of(&[("a", 9)])),
            (None, None, None)
        );
        assert_eq!(queue(0.1, 16), None);
        assert!(queue(0.3, 16).unwrap().contains("--max-running-requests (16 in all now)"));
    }
}
