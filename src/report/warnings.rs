//! What a reader of the figures has to know.
//!
//! Rule: one warning for one cause, with the workers, the share of its rows, and what to do; nothing that is absent goes
//! unsaid. Deliberately not here: errors of single requests, they are in their rows; whether the figures are to be believed
//! (`verdict`).

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use super::cache_hits::CacheHits;
use crate::load::row::Row;
use crate::load::run::RunReport;
use crate::trace::align;

/// Rows whose worker is not known.
const UNNAMED: &str = "(not named)";

/// What to do about each reason for which a column stays empty.
fn remedy(reason: &str) -> &'static str {
    match reason {
        align::NOT_SENT => {
            "the answers do not tell it: it takes SGLang 0.5.10 or newer (or patched) with --enable-metrics and the Python front end \
             (SGLANG_RUST_SERVER tells no times), and --backend sglang (nor do the OpenAI endpoints)"
        }
        align::NOT_STREAMED => "stream (no --disable-stream), or SGLang 0.5.23",
        align::REMOTE_MONOTONIC => {
            "the worker is on another host and its monotonic clock cannot be compared: run the router on the worker's host, or \
             SGLang 0.5.10 or newer"
        }
        align::NO_OFFSET => "nothing tells the worker's clock at that time: send more requests, streamed",
        align::UNKNOWN_WORKER => {
            "the answers do not name their worker: ask the worker itself, or through milepost route"
        }
        align::NO_CLOCK_RECORD => "the trace holds no clock record: give the whole file, from its first line",
        align::RETRACTED => {
            "the server threw requests out of the batch for lack of memory: lower the load or --max-running-requests"
        }
        _ => "the trace's documentation names this reason",
    }
}

/// All warnings of a run.
pub fn warnings(run: &RunReport) -> Vec<String> {
    let mut out = Vec::new();
    out.extend(simulated(&run.rows));
    if run.config.backend.is_sglang() {
        out.extend(stamps(&run.rows));
        out.extend(sources(&run.rows));
        out.extend(unnamed(run));
    } else {
        out.push(format!(
            "--backend {}: such a server tells no times of its own; the columns for them are empty",
            run.config.backend.name()
        ));
    }
    out.extend(order(&run.rows));
    out.extend(CacheHits::of(run).above_bound(run.config.flush_cache));
    out.extend(run.notes.iter().cloned());
    out
}

fn simulated(rows: impl IntoIterator<Item: Borrow<Row>>) -> Option<String> {
    let mut hosts = BTreeSet::new();
    for row in rows {
        let row: &Row = row.borrow();
        if let Some(host) =
            row.host.as_ref().filter(|host| row.simulated == Some(true) && !hosts.contains(*host))
        {
            hosts.insert(host.clone());
        }
    }
    (!hosts.is_empty()).then(|| {
        format!("SIMULATED: {} of these workers have no GPU and no model: {}", hosts.len(), list(&hosts))
    })
}

fn list(hosts: &BTreeSet<String>) -> String {
    hosts.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// What rows of one worker lack.
#[derive(Default)]
struct Lacking {
    rows: usize,
    /// By reason and column.
    counts: BTreeMap<(&'static str, &'static str), usize>,
}

/// One warning for workers with the same empty columns: which, how many rows, why, and what to do.
fn stamps(rows: impl IntoIterator<Item: Borrow<Row>>) -> Vec<String> {
    let mut by_worker: BTreeMap<String, Lacking> = BTreeMap::new();
    for row in rows {
        let row: &Row = row.borrow();
        // Rows without a record of the router are told by the verdict; failed ones have no answer to hold a stamp.
        if row.success() && row.arrival_ns.is_some() {
            let host = row.host.as_deref().unwrap_or(UNNAMED);
            // Looked up first: a name is copied once and not for every row.
            match by_worker.get_mut(host) {
                Some(lacking) => lacking.add(row),
                None => by_worker.entry(host.to_owned()).or_default().add(row),
            }
        }
    }
    // Workers that lack the same are told together.
    let mut hosts_by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (host, lacking) in by_worker {
        if let Some(text) = lacking.text() {
            hosts_by_text.entry(text).or_default().insert(host);
        }
    }
    let told = |(text, hosts): (&String, &BTreeSet<String>)| {
        format!("worker{} {}: empty {text}", if hosts.len() > 1 { "s" } else { "" }, list(hosts))
    };
    hosts_by_text.iter().map(told).collect()
}

impl Lacking {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        for (column, reason) in &row.missing {
            *self.counts.entry((*reason, *column)).or_insert(0) += 1;
        }
    }

    fn text(self) -> Option<String> {
        // Columns that are empty equally often for one reason are told together.
        let mut together: BTreeMap<(&str, usize), Vec<&str>> = BTreeMap::new();
        for ((reason, column), count) in self.counts {
            together.entry((reason, count)).or_default().push(column);
        }
        let parts: Vec<String> = together
            .iter()
            .map(|((reason, count), columns)| {
                let share = 100.0 * *count as f64 / self.rows as f64;
                let stream = if *reason == align::NOT_SENT && columns.contains(&"ttft") {
                    "; stream for ttft"
                } else {
                    ""
                };
                format!(
                    "in {share:.0} % of rows {}: {reason}: {}{stream}",
                    columns.join(", "),
                    remedy(reason)
                )
            })
            .collect();
        (!parts.is_empty()).then(|| parts.join("; empty "))
    }
}

fn sources(rows: impl IntoIterator<Item: Borrow<Row>>) -> Option<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        let row: &Row = row.borrow();
        if row.success() && !row.ttft_source.is_empty() {
            *counts.entry(row.ttft_source).or_insert(0) += 1;
        }
    }
    (counts.len() > 1).then(|| {
        let each: Vec<String> = counts.iter().map(|(source, n)| format!("{source} {n}")).collect();
        format!("ttft mixes sources, which do not mean quite the same moment: {}; compare within one (column ttft_source)", each.join(", "))
    })
}

/// A target that is neither a worker nor a router that names one.
fn unnamed(run: &RunReport) -> Option<String> {
    let unnamed = run.rows.iter().filter(|r| r.success() && r.host.is_none()).count();
    (unnamed > 0 && !run.has_trace).then(|| {
        format!("host is empty in {unnamed} rows: {} tells no SGLang version, so it is taken for a router, and its answers do not name their worker; arrival_time and router_send_time are the client's", run.config.target)
    })
}

fn order(rows: impl IntoIterator<Item: Borrow<Row>>) -> Option<String> {
    let broken = rows.into_iter().filter(|row| row.borrow().order_broken).count();
    (broken > 0).then(|| {
        format!("{broken} rows break the order of their stamps by more than the clock bound (column order_broken): do not use their durations across clocks")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;

    #[test]
    fn one_warning_a_worker_names_columns_share_and_remedy() {
        let missing = vec![
            ("queue_time_start", align::NOT_SENT),
            ("queue_time_end", align::NOT_SENT),
            ("ttft", align::NOT_STREAMED),
        ];
        let rows = [example(), Row { missing, ..example() }];
        let told = stamps(&rows);
        assert_eq!(told.len(), 1);
        for part in [
            "worker 127.0.0.1:31000",
            "empty in 50 % of rows queue_time_end, queue_time_start",
            "--enable-metrics",
            "--disable-stream",
        ] {
            assert!(told[0].contains(part), "{part}: {}", told[0]);
        }
        assert!(stamps(&[example()]).is_empty());
        let other = Row { host: Some("127.0.0.1:31001".to_owned()), ..rows[1].clone() };
        let told = stamps(&[rows[1].clone(), other]);
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("workers 127.0.0.1:31000, 127.0.0.1:31001: empty in 100 %"),
            "{}",
            told[0]
        );
    }

    #[test]
    fn mixed_sources_and_broken_orders_are_said() {
        let rows = [example(), Row { ttft_source: "router", order_broken: true, ..example() }];
        assert!(sources(&rows).unwrap().contains("router 1, server_patch 1"));
        assert!(order(&rows).unwrap().starts_with("1 rows"));
        assert_eq!(sources(&rows[..1]), None);
        assert_eq!(simulated(&rows), None);
        let fake = Row { simulated: Some(true), ..example() };
        assert!(simulated(&[fake]).unwrap().starts_with("SIMULATED"));
    }
}
