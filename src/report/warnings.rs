//! What a reader of the figures has to know.
//!
//! Rule: one warning for one cause, with the workers, the share of its rows, and what to do; nothing that is absent goes
//! unsaid. Deliberately not here: errors of single requests, they are in their rows; whether the figures are to be believed
//! (`verdict`).

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

/// What warnings are made of, as rows come.
#[derive(Debug, Default)]
pub(super) struct Warned {
    /// One of the rows is of a simulated worker.
    pub simulated: bool,
    /// These workers, where they are known.
    simulated_hosts: BTreeSet<String>,
    by_worker: BTreeMap<String, Lacking>,
    /// What `ttft` rests on, in successful rows.
    sources: BTreeMap<&'static str, u64>,
    /// Successful rows without a worker.
    unnamed: u64,
    /// Rows whose stamps are out of order.
    broken: u64,
}

impl Warned {
    pub fn add(&mut self, row: &Row) {
        self.broken += u64::from(row.order_broken);
        if row.simulated == Some(true) {
            self.simulated = true;
            // Looked up first: a name is copied once and not for every row.
            if let Some(host) = row.host.as_ref().filter(|host| !self.simulated_hosts.contains(*host)) {
                self.simulated_hosts.insert(host.clone());
            }
        }
        // Failed rows have no answer to hold a stamp.
        if !row.success() {
            return;
        }
        self.unnamed += u64::from(row.host.is_none());
        if !row.ttft_source.is_empty() {
            *self.sources.entry(row.ttft_source).or_insert(0) += 1;
        }
        // Rows without a record of the router are told by the verdict.
        if row.arrival_ns.is_some() {
            let host = row.host.as_deref().unwrap_or(UNNAMED);
            match self.by_worker.get_mut(host) {
                Some(lacking) => lacking.add(row),
                None => self.by_worker.entry(host.to_owned()).or_default().add(row),
            }
        }
    }

    /// All warnings of the run whose rows these were.
    pub fn warnings(self, run: &RunReport, hits: CacheHits) -> Vec<String> {
        let mut out = Vec::new();
        out.extend(self.simulated());
        let order = self.order();
        if run.config.backend.is_sglang() {
            let (sources, unnamed) = (self.sources(), self.unnamed(run));
            out.extend(self.stamps());
            out.extend(sources.into_iter().chain(unnamed));
        } else {
            out.push(format!(
                "--backend {}: such a server tells no times of its own; the columns for them are empty",
                run.config.backend.name()
            ));
        }
        out.extend(order);
        out.extend(hits.above_bound(run.config.flush_cache));
        out.extend(run.notes.iter().cloned());
        out
    }

    fn simulated(&self) -> Option<String> {
        let hosts = &self.simulated_hosts;
        (!hosts.is_empty()).then(|| {
            format!("SIMULATED: {} of these workers have no GPU and no model: {}", hosts.len(), list(hosts))
        })
    }

    /// One warning for workers with the same empty columns: which, how many rows, why, and what to do.
    fn stamps(self) -> Vec<String> {
        // Workers that lack the same are told together.
        let mut hosts_by_text: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (host, lacking) in self.by_worker {
            if let Some(text) = lacking.text() {
                hosts_by_text.entry(text).or_default().insert(host);
            }
        }
        let told = |(text, hosts): (&String, &BTreeSet<String>)| {
            format!("worker{} {}: empty {text}", if hosts.len() > 1 { "s" } else { "" }, list(hosts))
        };
        hosts_by_text.iter().map(told).collect()
    }

    fn sources(&self) -> Option<String> {
        (self.sources.len() > 1).then(|| {
            let each: Vec<String> = self.sources.iter().map(|(source, n)| format!("{source} {n}")).collect();
            format!("ttft mixes sources, which do not mean quite the same moment: {}; compare within one (column ttft_source)", each.join(", "))
        })
    }

    /// A target that is neither a worker nor a router that names one.
    fn unnamed(&self, run: &RunReport) -> Option<String> {
        let unnamed = self.unnamed;
        (unnamed > 0 && !run.has_trace).then(|| {
            format!("host is empty in {unnamed} rows: {} tells no SGLang version, so it is taken for a router, and its answers do not name their worker; arrival_time and router_send_time are the client's", run.config.target)
        })
    }

    fn order(&self) -> Option<String> {
        let broken = self.broken;
        (broken > 0).then(|| {
            format!("{broken} rows break the order of their stamps by more than the clock bound (column order_broken): do not use their durations across clocks")
        })
    }
}

fn list(hosts: &BTreeSet<String>) -> String {
    hosts.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// A column that is empty, and why.
type Missing = (&'static str, &'static str);

/// What rows of one worker lack.
#[derive(Debug, Default)]
struct Lacking {
    rows: usize,
    /// By reason and column.
    counts: BTreeMap<Missing, usize>,
    /// What the last rows lack, and how many they are: mostly it is the same.
    last: (Vec<Missing>, usize),
}

impl Lacking {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        if self.last.0 != row.missing {
            self.count();
            self.last.0.clone_from(&row.missing);
        }
        self.last.1 += 1;
    }

    /// Counts what the last rows lack.
    fn count(&mut self) {
        let (missing, rows) = &mut self.last;
        for (column, reason) in missing.iter() {
            *self.counts.entry((*reason, *column)).or_insert(0) += *rows;
        }
        *rows = 0;
    }

    fn text(mut self) -> Option<String> {
        self.count();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;

    fn of(rows: &[Row]) -> Warned {
        let mut warned = Warned::default();
        for row in rows {
            warned.add(row);
        }
        warned
    }

    #[test]
    fn one_warning_a_worker_names_columns_share_and_remedy() {
        let missing = vec![
            ("queue_time_start", align::NOT_SENT),
            ("queue_time_end", align::NOT_SENT),
            ("ttft", align::NOT_STREAMED),
        ];
        let rows = [example(), Row { missing, ..example() }];
        let told = of(&rows).stamps();
        assert_eq!(told.len(), 1);
        for part in [
            "worker 127.0.0.1:31000",
            "empty in 50 % of rows queue_time_end, queue_time_start",
            "--enable-metrics",
            "--disable-stream",
        ] {
            assert!(told[0].contains(part), "{part}: {}", told[0]);
        }
        assert!(of(&[example()]).stamps().is_empty());
        let other = Row { host: Some("127.0.0.1:31001".to_owned()), ..rows[1].clone() };
        let told = of(&[rows[1].clone(), other]).stamps();
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
        assert!(of(&rows).sources().unwrap().contains("router 1, server_patch 1"));
        assert!(of(&rows).order().unwrap().starts_with("1 rows"));
        assert_eq!(of(&rows[..1]).sources(), None);
        assert_eq!(of(&rows).simulated(), None);
        let fake = Row { simulated: Some(true), ..example() };
        assert!(of(&[fake]).simulated().unwrap().starts_with("SIMULATED"));
    }
}
