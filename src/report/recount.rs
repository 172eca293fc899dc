//! The summary of runs that were read back from their files.
//!
//! Rule: the same lines as after the run itself; what files cannot tell (whether the load was made as asked, what an infinite cache
//! had given) is not told. Deliberately not here: the page with charts (`page`).

use std::collections::BTreeSet;
use std::path::Path;

use super::gather::{Gathered, Gathering, Side};
use super::lines::{LABEL, Lines, figure, percent};
use super::marks;
use super::metrics::{Metrics, ROUNDED};
use super::quantity;
use super::read::Facts;
use super::summary::{figures, times, totals};
use super::verdict::Verdict;
use crate::load::run::RunReport;
use crate::units::utc;

/// Columns of a name where several runs stand side by side.
const ARM: usize = 15;

/// A run that was read back.
#[derive(Debug)]
pub struct Arm {
    /// How it is called beside others.
    pub name: String,
    /// Where its requests stood.
    pub from: String,
    /// What is known of it beside its rows.
    pub facts: Facts,
    /// Its figures.
    pub gathered: Gathered,
}

impl Arm {
    /// A run that is in memory, whose files go into `folder`.
    pub fn of_run(run: &RunReport, verdict: &Verdict, folder: &Path) -> Self {
        let mut gathering = Gathering::bounded(Side::Client).drawn();
        for row in &run.rows {
            gathering.add(&row);
        }
        let said = vec![
            ("Started", utc(run.start.unix_ns)),
            ("Target", run.config.target.to_string()),
            ("Verdict of the run", verdict.rating().to_string()),
            ("Arguments", run.config.arguments.join(" ")),
        ];
        let reasons = verdict.reasons().into_iter().map(|check| format!("{}: {}", check.rule, check.text()));
        let facts = Facts { side: Side::Client, said, notes: reasons.collect(), marks: marks::of_run(run) };
        let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        Self { name, from: folder.display().to_string(), facts, gathered: gathering.gathered() }
    }

    /// What a reader has to know, the files' own notes first.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.facts.notes.clone();
        let g = &self.gathered;
        if g.metrics.rounded {
            notes.push(ROUNDED.to_owned());
        }
        if g.unnamed > 0 {
            notes.push(format!("{} requests are of parts that are too many to be told apart; left_out counts these parts, to a million of each key", g.unnamed));
        }
        let simulated: Vec<&str> = g
            .metrics
            .workers
            .iter()
            .filter(|(_, w)| w.simulated == Some(true))
            .map(|(host, _)| host.as_str())
            .collect();
        if !simulated.is_empty() {
            notes.push(format!("SIMULATED, no GPU and no model: {}", simulated.join(", ")));
        }
        if self.facts.side == Side::Client && g.rows_in_trace > 0 && g.sent_without_record > 0 {
            notes.push(format!(
                "{} requests were sent and are not in the router's trace",
                g.sent_without_record
            ));
        }
        notes
    }
}

/// Gives runs side by side the shortest names that tell them apart: their policies where no two have the same, else what differs.
pub fn shorten(arms: &mut [Arm]) {
    let all_differ = |names: &[String]| {
        names.iter().collect::<BTreeSet<_>>().len() == names.len() && !names.iter().any(String::is_empty)
    };
    let policies: Vec<String> = arms.iter().filter_map(policy).collect();
    let names: Vec<&str> = arms.iter().map(|arm| arm.name.as_str()).collect();
    let (head, tail) = common(&names);
    let rests: Vec<String> =
        names.iter().map(|name| name[head..(name.len() - tail).max(head)].to_owned()).collect();
    let shorter = if policies.len() == arms.len() && all_differ(&policies) { policies } else { rests };
    if arms.len() > 1 && all_differ(&shorter) {
        arms.iter_mut().zip(shorter).for_each(|(arm, name)| arm.name = name);
    }
}

/// The policy of a run, if it is one.
fn policy(arm: &Arm) -> Option<String> {
    match arm.gathered.drawn.as_ref()?.ttft_by_policy.as_slice() {
        [one] => Some(one.name.clone()),
        _ => None,
    }
}

/// Bytes that all names begin and end with, up to a place between words.
fn common(names: &[&str]) -> (usize, usize) {
    let Some(first) = names.first() else { return (0, 0) };
    let between = |c: char| !c.is_alphanumeric();
    let shortest = names.iter().map(|name| name.len()).min().unwrap_or(0);
    let head = first
        .match_indices(between)
        .map(|(at, mark)| at + mark.len())
        .filter(|at| *at < shortest && names.iter().all(|name| name.starts_with(&first[..*at])))
        .max()
        .unwrap_or(0);
    let tail = first
        .match_indices(between)
        .map(|(at, _)| first.len() - at)
        .filter(|long| {
            *long + head < shortest && names.iter().all(|n| n.ends_with(&first[first.len() - long..]))
        })
        .max()
        .unwrap_or(0);
    (head, tail)
}

/// The whole text of one run, ending with a line feed.
pub fn summary(arm: &Arm) -> String {
    let mut out = Lines::default();
    let (g, m) = (&arm.gathered, &arm.gathered.metrics);
    out.rule('=', " milepost report ");
    out.pair("Read from", &arm.from);
    for (what, value) in &arm.facts.said {
        out.wrapped(&format!("{:<LABEL$}", format!("{what}:")), value);
    }
    totals(&mut out, m);
    if let Some(share) = g.cache_hit_share {
        out.pair("Prompt tokens from caches", &percent(share));
    }
    if g.reconnects > 0 {
        out.pair("Dead idle connections replaced", &g.reconnects.to_string());
    }
    times(&mut out, m);
    figures(&mut out, m, &g.examples, &|_| false);
    if let Some(split) = &m.split {
        split.table(&mut out, g.rows_in_trace > 0, m);
    }
    out.rule('=', "");
    for note in arm.notes() {
        out.wrapped("note: ", &note);
    }
    out.0
}

/// Runs side by side, a column each, as many as fit a line.
pub fn compared(arms: &[Arm]) -> String {
    let mut out = Lines::default();
    for arms in arms.chunks(4) {
        out.rule('=', " side by side ");
        let line = |out: &mut Lines, label: &str, cell: &dyn Fn(&Arm) -> String| {
            let cells: Vec<String> = arms.iter().map(|arm| format!("{:>ARM$}", cell(arm))).collect();
            out.line(&format!("{label:<LABEL$}{}", cells.concat()));
        };
        line(&mut out, "", &|arm| cut(&arm.name));
        for (label, value) in rows() {
            if arms.iter().any(|arm| value(arm).is_some()) {
                line(&mut out, &label, &|arm| value(arm).unwrap_or_else(|| "-".to_owned()));
            }
        }
    }
    out.0
}

fn cut(name: &str) -> String {
    let long = name.chars().count();
    if long < ARM {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(long + 2 - ARM).collect::<String>())
    }
}

/// Makes one cell of a table with a column for each run.
pub type Cell = Box<dyn Fn(&Arm) -> Option<String>>;

/// What runs are compared by, with its unit.
pub fn rows() -> Vec<(String, Cell)> {
    let mut rows: Vec<(String, Cell)> = vec![
        ("Policy".to_owned(), Box::new(policy)),
        ("Requests".to_owned(), Box::new(|a| Some(a.gathered.metrics.requests.to_string()))),
        ("Successful".to_owned(), Box::new(|a| Some(percent(a.gathered.metrics.success_rate())))),
        ("Duration (s)".to_owned(), Box::new(|a| Some(figure(a.gathered.metrics.duration_s)))),
        ("Offered rate (req/s)".to_owned(), Box::new(|a| a.gathered.metrics.offered_rate.map(figure))),
        (
            "Throughput (req/s)".to_owned(),
            Box::new(|a| a.gathered.metrics.per_second(a.gathered.metrics.completed).map(figure)),
        ),
        ("Output tokens (tok/s)".to_owned(), Box::new(|a| output_rate(&a.gathered.metrics))),
        ("Concurrency, mean".to_owned(), Box::new(|a| Some(figure(a.gathered.metrics.in_flight.mean)))),
        ("Concurrency, peak".to_owned(), Box::new(|a| Some(a.gathered.metrics.in_flight.peak.to_string()))),
        ("Prompt tokens from caches".to_owned(), Box::new(|a| a.gathered.cache_hit_share.map(percent))),
    ];
    for q in quantity::all().filter(|q| COMPARED.contains(&q.name)) {
        for (figure_name, place) in [("p50", 0), ("p90", 1), ("p99", 3)] {
            let label = format!("{} {figure_name} (ms)", short(q.title));
            let name = q.name;
            let cell = move |a: &Arm| Some(figure(a.gathered.metrics.summary(name)?.percentiles()[place]));
            rows.push((label, Box::new(cell)));
        }
    }
    rows
}

/// Marked where it is of some of the requests.
fn output_rate(metrics: &Metrics) -> Option<String> {
    let rate = figure(metrics.output_throughput()?);
    let all = metrics.output_known == metrics.completed;
    Some(if all { rate } else { format!("{rate} of {}", metrics.output_known) })
}

/// The quantities by which runs are compared.
const COMPARED: [&str; 5] = ["ttft", "tpot", "total_latency", "latency_from_schedule", "router_overhead"];

/// Without the abbreviation's long form.
fn short(title: &str) -> &str {
    title.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or(title, |(short, _)| short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::{Row, example};

    #[test]
    fn a_rate_of_some_of_the_requests_says_so_beside_others() {
        let uncounted = || Row { completion_tokens: None, trace_completion_tokens: None, ..example() };
        let told = |rows: &[Row]| output_rate(&Metrics::of(rows));
        // Five tokens in 1.062 s.
        assert_eq!(told(&[example()]).as_deref(), Some("4.71"));
        assert_eq!(told(&[example(), uncounted()]).as_deref(), Some("4.71 of 1"));
        assert_eq!(told(&[uncounted()]), None);
    }
}
