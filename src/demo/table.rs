//! The text of a demo: what runs, one table with a column for each policy, and what to do next.
//!
//! Rule: the words SIMULATED and "not a verdict" frame every number; a figure without a sample is a dash, never 0. Colour is
//! marked here and made or left out by [`paint`]. Deliberately not here: the figures themselves (`crate::report`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::arm::Arm;
use super::picture;
use super::{DemoConfig, DemoReport};
use crate::load::dataset::Dataset;
use crate::report::stats::Summary;
use crate::trace::align;

/// Share of late simulated steps from which the numbers are called suspect.
pub const WORTH_SAYING: f64 = 0.02;

/// Begins bold text; [`paint`] makes it an escape sequence.
const BOLD: char = '\u{1}';
/// Begins a warning.
const WARN: char = '\u{2}';
/// Ends either.
const PLAIN: char = '\u{3}';

/// Width of the labels.
const LABELS: usize = 25;

/// Turns the marks into colour, or takes them out.
pub fn paint(text: &str, colour: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            BOLD if colour => out.push_str("\u{1b}[1m"),
            WARN if colour => out.push_str("\u{1b}[33m"),
            PLAIN if colour => out.push_str("\u{1b}[0m"),
            BOLD | WARN | PLAIN => {}
            other => out.push(other),
        }
    }
    out
}

/// Everything, without colour: `summary.txt`.
pub fn text(report: &DemoReport) -> String {
    paint(&format!("{}\n{}", head(report), body(report)), false)
}

/// What runs, and on what.
pub fn head(report: &DemoReport) -> String {
    let config = &report.config;
    let profile = config.worker().profile;
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "{BOLD}milepost demo{PLAIN}: {} polic{}, {} {WARN}SIMULATED{PLAIN} worker{}, one router, one load generator, one process",
            config.policies.len(),
            if config.policies.len() == 1 { "y" } else { "ies" },
            config.workers,
            if config.workers == 1 { "" } else { "s" },
        ),
    );
    line(
        &mut out,
        format_args!(
            "  workers   {WARN}SIMULATED{PLAIN} SGLang {}, timed as {}; KV cache {} tokens each{}{}",
            config.dialect.name(),
            profile.name,
            thousands(profile.kv_tokens),
            if too_small_for_all(config) { ", on purpose too few for all prefixes" } else { "" },
            speedup(config),
        ),
    );
    line(
        &mut out,
        format_args!(
            "  load      {}; Poisson, {} requests/s, seed {}",
            sent(report),
            config.workload.rate,
            config.seed
        ),
    );
    line(&mut out, format_args!("  machine   {}; real sockets on 127.0.0.1", report.machine));
    line(&mut out, format_args!("  files     {}", config.output_dir.display()));
    out
}

/// One word makes at least one token.
fn too_small_for_all(config: &DemoConfig) -> bool {
    let Dataset::SharedPrefix(o) = &config.workload.dataset else { return false };
    u64::from(o.groups) * mean(o.system_tokens, o.range_ratio) > config.worker().profile.kv_tokens
}

/// Of lengths drawn evenly between `ratio` times `most` and `most`.
fn mean(most: u64, ratio: f64) -> u64 {
    (most as f64 * f64::midpoint(ratio, 1.0)) as u64
}

fn speedup(config: &DemoConfig) -> String {
    if (config.speedup - 1.0).abs() < 1e-9 {
        String::new()
    } else {
        format!("; simulated times divided by {}", config.speedup)
    }
}

fn sent(report: &DemoReport) -> String {
    match &report.config.workload.dataset {
        Dataset::SharedPrefix(o) => {
            format!(
                "{} requests = {} shared prefixes x {}; on average {} + {} words in, {} tokens out",
                report.requests,
                o.groups,
                o.prompts_per_group,
                mean(o.system_tokens, o.range_ratio),
                mean(o.question_tokens, o.range_ratio),
                mean(o.output_tokens, o.range_ratio)
            )
        }
        Dataset::ShareGpt(o) | Dataset::Custom(o) => {
            let path = o.path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            format!("{} requests of {path} ({})", report.requests, report.config.workload.dataset.name())
        }
        Dataset::Trace(o) => {
            let path = o.path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
            format!("{} requests of {path} ({})", report.requests, o.format.name())
        }
        Dataset::MultiTurn(o) => format!("{} turns of {} users", report.requests, o.users),
        Dataset::Random(_) => format!("{} random requests", report.requests),
    }
}

/// The table, the pictures, what to watch out for.
pub fn body(report: &DemoReport) -> String {
    let mut out = String::new();
    if report.arms.is_empty() {
        return out;
    }
    let title =
        if report.partial { "PARTIAL (interrupted), one run each" } else { "one run each, not a verdict" };
    line(
        &mut out,
        format_args!("{WARN}SIMULATED{PLAIN} workers, {title}; times in ms, TTFT by {}", sources(report)),
    );
    table(&mut out, &report.arms);
    out.push('\n');
    picture::ttft(&mut out, &report.arms);
    out.push('\n');
    picture::shares(&mut out, &report.arms);
    out.push('\n');
    for warning in warnings(report) {
        line(&mut out, format_args!("{WARN}warning{PLAIN}: {warning}"));
    }
    line(
        &mut out,
        format_args!(
            "{WARN}SIMULATED{PLAIN} workers, one run each, not a verdict: another seed or machine gives other numbers. Took {:.0} s.",
            report.took_s
        ),
    );
    out
}

/// What TTFT rests on; more than one is not comparable, so all are named.
fn sources(report: &DemoReport) -> String {
    let rows = report.arms.iter().flat_map(|a| &a.run.rows).filter(|r| r.ttft_ns.is_some());
    let sources: BTreeSet<&str> = rows.map(|r| r.ttft_source).collect();
    if sources.is_empty() { "none".to_owned() } else { sources.into_iter().collect::<Vec<_>>().join(" and ") }
}

type Cell = fn(&Arm) -> String;

/// Label and what stands under each policy.
const ROWS: [(&str, Cell); 14] = [
    ("requests ok", |a| format!("{}/{}", a.metrics.completed, a.metrics.requests)),
    ("TTFT p50", |a| millis(a, "ttft", |s| s.median, 1)),
    ("TTFT p99", |a| millis(a, "ttft", |s| s.p99, 1)),
    ("E2E p50", |a| millis(a, "total_latency", |s| s.median, 1)),
    ("E2E p99", |a| millis(a, "total_latency", |s| s.p99, 1)),
    ("pure queue p50", |a| millis(a, "pure_queue_time", |s| s.median, 1)),
    ("pure queue p99", |a| millis(a, "pure_queue_time", |s| s.p99, 1)),
    ("prefill p50", |a| millis(a, "prefill_time", |s| s.median, 1)),
    ("queue in router p50", |a| millis(a, "queue_time_in_router", |s| s.median, 3)),
    ("queue in router p99", |a| millis(a, "queue_time_in_router", |s| s.p99, 3)),
    ("prompt tokens cached", |a| option(a.cached_share(), |share| format!("{:.1} %", 100.0 * share))),
    ("busiest worker / mean", |a| option(a.busiest_over_mean(), |ratio| format!("{ratio:.2}"))),
    ("output tokens/s", |a| option(a.metrics.output_throughput(), |rate| format!("{rate:.0}"))),
    ("late simulated steps", |a| format!("{:.1} %", 100.0 * a.late_share())),
];

fn table(out: &mut String, arms: &[Arm]) {
    let columns: Vec<Vec<String>> = arms
        .iter()
        .map(|arm| {
            std::iter::once(arm.policy.clone()).chain(ROWS.iter().map(|(_, cell)| cell(arm))).collect()
        })
        .collect();
    let widths: Vec<usize> =
        columns.iter().map(|cells| cells.iter().map(String::len).max().unwrap_or(0).max(9)).collect();
    let labels = std::iter::once("").chain(ROWS.iter().map(|(label, _)| *label));
    for (row, label) in labels.enumerate() {
        let mut text = format!("  {label:<LABELS$}");
        for (cells, width) in columns.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "  {:>width$}", cells[row]);
        }
        if row == 0 {
            line(out, format_args!("{BOLD}{}{PLAIN}", text.trim_end()));
        } else {
            line(out, format_args!("{}", text.trim_end()));
        }
    }
}

fn millis(arm: &Arm, quantity: &str, figure: fn(&Summary) -> f64, decimals: usize) -> String {
    option(arm.metrics.summary(quantity), |s| format!("{:.decimals$}", figure(&s)))
}

fn option<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), text)
}

/// What makes these numbers less than they seem.
pub fn warnings(report: &DemoReport) -> Vec<String> {
    let mut out = Vec::new();
    for arm in &report.arms {
        let policy = &arm.policy;
        out.extend(
            arm.books.faults.iter().map(|fault| format!("{policy}: the books do not balance: {fault}")),
        );
        let share = |n: u64| 100.0 * n as f64 / arm.books.rows.max(1) as f64;
        if arm.books.order_broken > 0 {
            out.push(format!(
                "{policy}: {} rows ({:.1} %) break the order of their stamps by more than the clock bound",
                arm.books.order_broken,
                share(arm.books.order_broken)
            ));
        }
        for (class, count) in &arm.metrics.errors {
            out.push(format!("{policy}: {count} requests failed: {class}"));
        }
        out.extend(arm.run.notes.iter().map(|note| format!("{policy}: {note}")));
    }
    out.extend(missing(report));
    out.extend(late(report));
    out
}

/// Said once for each reason: which stamps are missing is mostly a matter of the dialect, not of the policy.
fn missing(report: &DemoReport) -> Vec<String> {
    let mut all = 0;
    let mut reasons: BTreeMap<&str, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for row in report.arms.iter().flat_map(|a| &a.run.rows).filter(|r| r.success() && r.in_trace) {
        all += 1;
        let of_row: BTreeSet<&str> = row.missing.iter().map(|(_, reason)| *reason).collect();
        for reason in of_row {
            reasons.entry(reason).or_default().1 += 1;
        }
        for (column, reason) in &row.missing {
            reasons.entry(*reason).or_default().0.insert(*column);
        }
    }
    let say = |(reason, (columns, rows)): (&str, (BTreeSet<&str>, usize))| {
        let columns = columns.into_iter().collect::<Vec<_>>().join(", ");
        let why = match reason {
            align::NOT_SENT => "these workers do not tell it; --dialect 0.5.23 tells most",
            align::RETRACTED => "their worker ran out of KV cache and threw them back into its queue",
            other => other,
        };
        format!("{rows} of {all} rows without {columns}: {why}")
    };
    reasons.into_iter().map(say).collect()
}

fn late(report: &DemoReport) -> Option<String> {
    let worst = report.arms.iter().max_by(|a, b| a.late_share().total_cmp(&b.late_share()))?;
    let (mean_us, most_us) = worst.lateness_us();
    (worst.late_share() > WORTH_SAYING).then(|| {
        format!(
            "SUSPECT: up to {:.1} % of the simulated steps ended more than 2 % of their length late ({}: mean {:.2} ms, most {:.1} ms): this machine was \
             busy; E2E, tokens/s and a TTFT by router include that, the servers' own stamps far less",
            100.0 * worst.late_share(),
            worst.policy,
            mean_us / 1e3,
            most_us / 1e3
        )
    })
}

/// Two commands to go on with; `program` as it was called.
pub fn next(report: &DemoReport, program: &str) -> String {
    let Some(arm) = report.arms.first() else { return String::new() };
    let folder = &report.config.output_dir;
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "Files: {}/summary.json, and for each policy requests.csv, run.json, trace.jsonl",
            folder.display()
        ),
    );
    line(&mut out, format_args!("Next:"));
    line(&mut out, format_args!("  {program} trace check {}", arm.folder.join("trace.jsonl").display()));
    line(
        &mut out,
        format_args!(
            "  {program} bench --base-url http://YOUR-SERVER:30000 --dataset-name generated-shared-prefix --request-rate 4"
        ),
    );
    out
}

/// `400000` as `400,000`.
fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

pub(super) fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_made_or_left_out() {
        let text = format!("{BOLD}a{PLAIN} {WARN}b{PLAIN}");
        assert_eq!(paint(&text, false), "a b");
        assert_eq!(paint(&text, true), "\u{1b}[1ma\u{1b}[0m \u{1b}[33mb\u{1b}[0m");
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(
            [7, 999, 1_000, 20_000, 1_234_567].map(thousands),
            ["7", "999", "1,000", "20,000", "1,234,567"]
        );
    }
}
