//! The summary on the console.
//!
//! Rule: labels and numbers in two columns as `bench_serving` prints them; a figure without a sample is left out, never 0,
//! and a percentile that its samples cannot bear is marked. Deliberately not here: the figures themselves, see `metrics`.

use std::collections::BTreeMap;

use super::breakdown::{self, KEYS};
use super::column;
use super::faults;
use super::lines::{LABEL, Lines, figure};
use super::metrics::{Metrics, ROUNDED};
use super::phases;
use super::quantity;
use super::stats::Summary;
use super::survey::Survey;
use super::verdict::Verdict;
use crate::load::run::RunReport;
use crate::load::schedule::{Arrivals, Pace};

/// The quantities whose limits are printed.
const LIMITED: [&str; 7] =
    ["ttft", "itl", "icl", "tpot", "total_latency", "ttft_from_schedule", "latency_from_schedule"];

/// The whole text, ending with a line feed.
pub fn summary(run: &RunReport, survey: &Survey, files: &[(&'static str, String)]) -> String {
    let (metrics, verdict) = (survey.metrics(), &survey.verdict);
    let mut out = Lines::default();
    let title = if run.partial { " milepost bench (PARTIAL: interrupted) " } else { " milepost bench " };
    out.rule('=', title);
    head(&mut out, run);
    judged(&mut out, verdict);
    counts(&mut out, run, survey);
    times(&mut out, metrics);
    faults::print(&mut out, run, survey);
    phases::print_stages(&mut out, run, metrics);
    // Phases are told in order of time above.
    let told = |name: &str| name == "phase" && run.phases().is_some();
    figures(&mut out, metrics, &survey.gathered.examples, &told);
    column::print(&mut out, &survey.gathered.columns);
    if let Some(split) = &metrics.split {
        split.print(&mut out, run, &survey.gathered);
    }
    out.rule('=', "");
    let rounded = metrics.rounded.then(|| ROUNDED.to_owned());
    for warning in survey.warnings.iter().chain(&rounded) {
        out.line(&format!("warning: {warning}"));
    }
    for (what, path) in files {
        out.line(&format!("{what}: {path}"));
    }
    out.0
}

/// Latencies and the limits of their percentiles.
pub(super) fn times(out: &mut Lines, metrics: &Metrics) {
    latencies(out, metrics);
    limits(out, metrics);
}

/// Parts of the requests by the keys that are not `told` elsewhere, goodput and errors.
pub(super) fn figures(
    out: &mut Lines,
    metrics: &Metrics,
    examples: &BTreeMap<&'static str, String>,
    told: &dyn Fn(&str) -> bool,
) {
    let keys = KEYS.iter().zip(&metrics.breakdown).zip(&metrics.left_out);
    for ((key, parts), left_out) in keys.filter(|((key, _), _)| !told(key.name)) {
        let all = if key.name == "worker" { metrics.placed() } else { metrics.requests };
        breakdown::print(out, key, parts, *left_out, all);
    }
    if let Some(goodput) = &metrics.goodput {
        goodput.print(out);
    }
    if !metrics.errors.is_empty() {
        out.rule('-', " Errors by class ");
        for (class, count) in &metrics.errors {
            let example = examples.get(class).map(String::as_str).unwrap_or_default();
            out.pair(class, &format!("{count}  ({example})"));
        }
    }
}

fn head(out: &mut Lines, run: &RunReport) {
    let config = &run.config;
    out.pair("Backend", config.backend.name());
    out.pair("Target", &config.target.to_string());
    for server in &run.servers {
        out.pair("Server", &server.to_string());
    }
    out.pair("Dataset", config.dataset.name());
    out.pair("Traffic request rate (req/s)", &asked_rate(&config.arrivals));
    out.pair(
        "Max request concurrency",
        &config.max_concurrency.map_or_else(|| "not set".to_owned(), |n| n.to_string()),
    );
}

/// Of stages as they were asked for, as their mean is the rate of none of them.
fn asked_rate(arrivals: &Arrivals) -> String {
    match &arrivals.pace {
        Pace::Stages(stages) => format!("{stages} (mean {:.2})", stages.mean_per_s()),
        _ => arrivals.rate_text(),
    }
}

/// One line where all is well; else one for each reason, the worst first.
fn judged(out: &mut Lines, verdict: &Verdict) {
    let judged = verdict.checks.iter().filter(|c| c.rating().is_some()).count();
    let rules = format!("{judged} of {} rules judged", verdict.checks.len());
    out.pair("Verdict", &format!("{} ({rules})", verdict.rating()));
    for check in verdict.reasons() {
        if let Some(rating) = check.rating() {
            out.line(&format!("  {rating} {}: {}", check.rule, check.text()));
        }
    }
}

fn counts(out: &mut Lines, run: &RunReport, survey: &Survey) {
    totals(out, survey.metrics());
    if let Some(hits) = survey.cache_hits.line() {
        out.pair("Prompt tokens from caches", &hits);
    }
    out.pair("Connections opened by the client", &run.connections_opened.to_string());
    if let Some(mean_ms) = run.handshakes.mean_ms() {
        out.pair(
            "TLS handshakes (mean, in no latency from send)",
            &format!("{} ({mean_ms:.2} ms)", run.handshakes.count),
        );
    }
    let reconnects = survey.gathered.reconnects;
    if reconnects > 0 {
        out.pair("Dead idle connections replaced", &reconnects.to_string());
    }
}

/// Requests, tokens, rates, concurrency.
pub(super) fn totals(out: &mut Lines, m: &Metrics) {
    let rate = |out: &mut Lines, label: &str, value: Option<f64>, of: String| {
        if let Some(value) = value {
            out.pair(label, &format!("{value:.2}{of}"));
        }
    };
    let number = |out: &mut Lines, label: &str, value: Option<f64>| rate(out, label, value, String::new());
    out.pair(
        "Successful requests",
        &format!("{} of {} ({:.1} %)", m.completed, m.requests, 100.0 * m.success_rate()),
    );
    number(out, "Benchmark duration (s)", Some(m.duration_s));
    // A router plans none.
    let planned = format!(" (planned {})", m.planned_input_tokens);
    let planned = if m.planned_input_tokens > 0 { &*planned } else { "" };
    // A sum over some of the requests looks like one over all.
    let of = |known: u64| if known == m.completed { String::new() } else { format!(" of {known} requests") };
    let sum = |tokens: Option<u64>, known: u64| match tokens {
        Some(tokens) => format!("{tokens}{}", of(known)),
        None => "not told".to_owned(),
    };
    let (input, output) = (m.input_known, m.output_known);
    let both = if input == output { of(input) } else { format!(" of {input} and {output} requests") };
    out.pair("Total input tokens", &format!("{}{planned}", sum(m.input_tokens, input)));
    out.pair("Total generated tokens", &sum(m.output_tokens, output));
    number(out, "Offered request rate (req/s)", m.offered_rate);
    number(out, "Sent request rate (req/s)", m.sent_rate);
    number(out, "Request throughput (req/s)", m.per_second(m.completed));
    rate(out, "Input token throughput (tok/s)", m.input_throughput(), of(input));
    rate(out, "Output token throughput (tok/s)", m.output_throughput(), of(output));
    rate(out, "Total token throughput (tok/s)", m.total_throughput(), both);
    out.pair("Concurrency (mean, peak)", &format!("{:.2}, {}", m.in_flight.mean, m.in_flight.peak));
    if m.running.peak > 0 {
        let (curve, of) = (&m.running, of(m.running_known));
        out.pair("Past server queue (mean, peak)", &format!("{:.2}, {}{of}", curve.mean, curve.peak));
    }
}

fn latencies(out: &mut Lines, m: &Metrics) {
    out.rule('-', " Latency (ms), successful requests ");
    out.line(&format!(
        "{:<LABEL$}{:>8}{:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "mean", "median", "p90", "p95", "p99", "p99.9", "n"
    ));
    let mut unborne = false;
    for q in quantity::all().filter(|q| q.is_latency()) {
        if let Some(s) = m.summary(q.name) {
            unborne |= s.limits.contains(&None);
            out.line(&format!(
                "{:<LABEL$}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}",
                q.title,
                figure(s.mean),
                cell(&s, 0),
                cell(&s, 1),
                cell(&s, 2),
                cell(&s, 3),
                cell(&s, 4),
                s.count
            ));
        }
    }
    if unborne {
        out.line(
            "?  n too small: no sample is surely above it (it takes 6, 36, 72, 368, 3688 for p50 to p99.9)",
        );
    }
}

/// A percentile, marked where it has no limits.
fn cell(s: &Summary, percentile: usize) -> String {
    let mark = if s.limits[percentile].is_none() { "?" } else { " " };
    format!("{}{mark}", figure(s.percentiles()[percentile]))
}

/// Between which two samples the percentiles lie.
fn limits(out: &mut Lines, m: &Metrics) {
    let told: Vec<(&str, Summary)> = LIMITED
        .into_iter()
        .filter_map(|name| Some((name, m.summary(name)?)))
        .filter(|(_, s)| s.limits.iter().any(Option::is_some))
        .collect();
    if told.is_empty() {
        return;
    }
    out.rule('-', " 95 % limits of the percentiles (ms) ");
    out.line(&format!("{:<23}{:>15}{:>15}{:>15}{:>15}{:>15}", "", "median", "p90", "p95", "p99", "p99.9"));
    for (name, s) in told {
        let [median, p90, p95, p99, p999] = s.limits.map(|l| {
            l.map_or_else(
                || "n too small".to_owned(),
                |(low, high)| format!("{}-{}", figure(low), figure(high)),
            )
        });
        out.line(&format!("{name:<23}{median:>15}{p90:>15}{p95:>15}{p99:>15}{p999:>15}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::{Row, example};

    /// A figure over some of the requests says over how many; one over none is left out.
    #[test]
    fn tokens_and_their_rates_say_of_how_many_requests_they_are() {
        let untold = Row { prompt_tokens: None, ..example() };
        let uncounted = Row { completion_tokens: None, trace_completion_tokens: None, ..untold.clone() };
        let printed = |rows: &[Row]| {
            let mut out = Lines::default();
            totals(&mut out, &Metrics::of(rows));
            let tokens = out.0.lines().filter(|line| line.contains("tok"));
            tokens.map(|line| line.split(": ").nth(1).unwrap().trim().to_owned()).collect::<Vec<_>>()
        };
        // The run is 1.062 s long.
        assert_eq!(printed(&[example()]), ["3 (planned 2)", "5", "2.82", "4.71", "7.53"]);
        assert_eq!(
            printed(&[example(), untold.clone(), uncounted.clone()]),
            [
                "3 of 1 requests (planned 6)",
                "10 of 2 requests",
                "2.82 of 1 requests",
                "9.42 of 2 requests",
                "12.24 of 1 and 2 requests"
            ]
        );
        assert_eq!(printed(&[untold]), ["not told (planned 2)", "5", "4.71"]);
        assert_eq!(printed(&[uncounted]), ["not told (planned 2)", "not told"]);
        let silent = Row { queue_end_ns: None, ..example() };
        let mut out = Lines::default();
        totals(&mut out, &Metrics::of(&[example(), silent]));
        assert!(out.0.ends_with("1.00, 1 of 1 requests\n"), "{}", out.0);
    }
}
