//! What a reader of the figures has to know.
//!
//! Rule: one warning for one cause, with the worker, the share of its rows, and what to do; nothing that is absent goes
//! unsaid. Deliberately not here: errors of single requests, they are in their rows.

use std::collections::{BTreeMap, BTreeSet};

use crate::load::row::Row;
use crate::load::run::RunReport;

/// A server stamp that can be absent: its column and what brings it.
type Stamp = (&'static str, fn(&Row) -> bool, &'static str);

const STAMPS: [Stamp; 4] = [
    (
        "server_created_time",
        |r| r.created_ns.is_some(),
        "start the worker with --enable-metrics; SGLang before 0.5.5 does not send it unpatched, the OpenAI endpoints never do",
    ),
    (
        "queue_time_start",
        |r| r.queue_start_ns.is_some(),
        "start the worker with --enable-metrics (SGLang 0.5.10 or newer, or patched), use --backend sglang, and run the router on the worker's host",
    ),
    (
        "queue_time_end",
        |r| r.queue_end_ns.is_some(),
        "start the worker with --enable-metrics (SGLang 0.5.10 or newer, or patched), use --backend sglang, and run the router on the worker's host",
    ),
    (
        "server_first_token_time",
        |r| r.server_first_token_ns.is_some(),
        "stream (no --disable-stream), use --backend sglang, and start the worker with --enable-metrics",
    ),
];

/// All warnings of a run.
pub fn warnings(run: &RunReport) -> Vec<String> {
    let mut out = Vec::new();
    out.extend(simulated(&run.rows));
    out.extend(stamps(&run.rows));
    out.extend(sources(&run.rows));
    out.extend(joined(run));
    out.extend(order(&run.rows));
    out.extend(pace(run));
    out.extend(run.notes.iter().cloned());
    out
}

fn simulated(rows: &[Row]) -> Option<String> {
    let hosts: BTreeSet<&str> = rows
        .iter()
        .filter(|r| r.simulated == Some(true))
        .filter_map(|r| r.host.as_deref())
        .collect();
    (!hosts.is_empty()).then(|| {
        format!(
            "SIMULATED: {} of these workers have no GPU and no model: {}",
            hosts.len(),
            list(&hosts)
        )
    })
}

fn list(hosts: &BTreeSet<&str>) -> String {
    hosts.iter().copied().collect::<Vec<_>>().join(", ")
}

fn stamps(rows: &[Row]) -> Vec<String> {
    let mut by_worker: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.success()) {
        if let Some(host) = &row.host {
            by_worker.entry(host).or_default().push(row);
        }
    }
    let mut out = Vec::new();
    for (host, rows) in by_worker {
        // One warning for each remedy, with all the columns that it brings back.
        let mut by_remedy: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (column, present, remedy) in STAMPS {
            let absent = rows.iter().filter(|r| !present(r)).count();
            if absent > 0 {
                by_remedy.entry(remedy).or_default().push(format!(
                    "{column} in {:.0} %",
                    100.0 * absent as f64 / rows.len() as f64
                ));
            }
        }
        if by_remedy.is_empty() {
            continue;
        }
        let columns: Vec<String> = by_remedy.values().flatten().cloned().collect();
        let remedies: Vec<&str> = by_remedy.keys().copied().collect();
        let reasons: BTreeSet<&str> = rows
            .iter()
            .flat_map(|r| r.missing.iter().map(String::as_str))
            .collect();
        let why = if reasons.is_empty() {
            String::new()
        } else {
            format!(" ({})", list(&reasons))
        };
        out.push(format!(
            "worker {host}: empty {} of its {} rows{why}; {}",
            columns.join(", "),
            rows.len(),
            remedies.join("; ")
        ));
    }
    out
}

fn sources(rows: &[Row]) -> Option<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|r| r.success() && !r.ttft_source.is_empty())
    {
        *counts.entry(row.ttft_source).or_insert(0) += 1;
    }
    (counts.len() > 1).then(|| {
        let each: Vec<String> = counts.iter().map(|(source, n)| format!("{source} {n}")).collect();
        format!("ttft mixes sources, which do not mean quite the same moment: {}; compare within one (column ttft_source)", each.join(", "))
    })
}

fn joined(run: &RunReport) -> Option<String> {
    if !run.has_trace {
        return None;
    }
    let sent: Vec<&Row> = run.rows.iter().filter(|r| r.sent_ns.is_some()).collect();
    let missing = sent.iter().filter(|r| !r.in_trace).count();
    (missing > 0).then(|| {
        format!(
            "{missing} of {} requests sent are not in the router's trace: their router and server columns are empty; check that \
             --router-trace is the trace of the router at this address, and its lost records",
            sent.len()
        )
    })
}

fn order(rows: &[Row]) -> Option<String> {
    let broken = rows.iter().filter(|r| r.order_broken).count();
    (broken > 0).then(|| {
        format!("{broken} rows break the order of their stamps by more than the clock bound (column order_broken): do not use their durations across clocks")
    })
}

/// A client that could not keep its schedule did not offer the load asked for.
fn pace(run: &RunReport) -> Option<String> {
    let mut late: Vec<i64> = run.rows.iter().filter_map(Row::lateness_ns).collect();
    late.sort_unstable();
    let p99 = *late.get((late.len() * 99 / 100).min(late.len().checked_sub(1)?))?;
    let bounded = run.config.max_concurrency.is_some();
    let limit_ns = 10_000_000;
    (p99 > limit_ns && !bounded && run.config.rate.per_second().is_some()).then(|| {
        format!("the schedule was kept badly: 1 % of requests left more than {:.1} ms late; the client's machine is too busy, figures from schedule include it", p99 as f64 / 1e6)
    })
}
