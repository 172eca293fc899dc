//! The summary on the console.
//!
//! Rule: labels and numbers in two columns as `bench_serving` prints them; a figure without a sample is left out, never 0.
//! Deliberately not here: the figures themselves, see `metrics`.

use std::fmt::Write;

use super::json::ExportedFiles;
use super::metrics::{Metrics, QUANTITIES};
use super::warnings::warnings;
use crate::load::run::RunReport;

const WIDTH: usize = 66;

/// The whole text, ending with a line feed.
pub fn summary(run: &RunReport, metrics: &Metrics, files: &ExportedFiles) -> String {
    let mut out = Lines(String::new());
    let title = if run.partial { " milepost bench (PARTIAL: interrupted) " } else { " milepost bench " };
    out.rule('=', title);
    head(&mut out, run);
    counts(&mut out, run, metrics);
    latencies(&mut out, run, metrics);
    workers(&mut out, metrics);
    if !metrics.errors.is_empty() {
        out.rule('-', " Errors by class ");
        for (class, count) in &metrics.errors {
            let example =
                run.rows.iter().filter_map(|r| r.failure.as_ref()).find(|f| f.class.name() == *class);
            out.pair(class, &format!("{count}  ({})", example.map(|f| f.text.as_str()).unwrap_or_default()));
        }
    }
    out.rule('=', "");
    for warning in warnings(run) {
        out.line(&format!("warning: {warning}"));
    }
    for (what, path) in files {
        out.line(&format!("{what}: {path}"));
    }
    out.0
}

fn head(out: &mut Lines, run: &RunReport) {
    let config = &run.config;
    out.pair("Backend", config.backend.name());
    out.pair("Target", &config.target.to_string());
    for server in &run.servers {
        out.pair("Server", &server.to_string());
    }
    out.pair("Dataset", config.dataset.name());
    out.pair("Traffic request rate (req/s)", &config.arrivals.rate_text());
    out.pair(
        "Max request concurrency",
        &config.max_concurrency.map_or_else(|| "not set".to_owned(), |n| n.to_string()),
    );
}

fn counts(out: &mut Lines, run: &RunReport, m: &Metrics) {
    let number = |out: &mut Lines, label: &str, value: Option<f64>| {
        if let Some(value) = value {
            out.pair(label, &format!("{value:.2}"));
        }
    };
    out.pair(
        "Successful requests",
        &format!("{} of {} ({:.1} %)", m.completed, m.requests, 100.0 * m.success_rate()),
    );
    number(out, "Benchmark duration (s)", Some(m.duration_s));
    out.pair("Total input tokens", &format!("{} (planned {})", m.input_tokens, m.planned_input_tokens));
    out.pair("Total generated tokens", &m.output_tokens.to_string());
    number(out, "Offered request rate (req/s)", m.offered_rate);
    number(out, "Sent request rate (req/s)", m.sent_rate);
    number(out, "Request throughput (req/s)", m.per_second(m.completed));
    number(out, "Input token throughput (tok/s)", m.per_second(m.input_tokens));
    number(out, "Output token throughput (tok/s)", m.per_second(m.output_tokens));
    number(out, "Total token throughput (tok/s)", m.per_second(m.input_tokens + m.output_tokens));
    out.pair("Concurrency (mean, peak)", &format!("{:.2}, {}", m.in_flight.mean, m.in_flight.peak));
    if m.running.peak > 0 {
        out.pair("Past server queue (mean, peak)", &format!("{:.2}, {}", m.running.mean, m.running.peak));
    }
    out.pair("Connections opened by the client", &run.connections_opened.to_string());
    let reconnects: u64 = run.rows.iter().map(|r| u64::from(r.reconnects)).sum();
    if reconnects > 0 {
        out.pair("Dead idle connections replaced", &reconnects.to_string());
    }
}

fn latencies(out: &mut Lines, run: &RunReport, m: &Metrics) {
    out.rule('-', " Latency (ms), successful requests ");
    out.line(&format!(
        "{:<37}{:>9}{:>9}{:>9}{:>9}{:>9}{:>8}",
        "", "mean", "median", "p90", "p95", "p99", "n"
    ));
    for (name, title) in QUANTITIES {
        // Without a router the two stamps are one: a row of zeros would look like a measurement.
        let measured = run.has_trace || name != "queue_time_in_router";
        if let Some(s) = m.summary(name).filter(|_| measured) {
            out.line(&format!(
                "{title:<37}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>9.2}{:>8}",
                s.mean, s.median, s.p90, s.p95, s.p99, s.count
            ));
        }
    }
}

fn workers(out: &mut Lines, m: &Metrics) {
    if m.workers.is_empty() {
        return;
    }
    out.rule('-', " Share per worker ");
    for (host, w) in &m.workers {
        let share = 100.0 * w.requests as f64 / m.requests.max(1) as f64;
        let hits = w.cached_tokens.filter(|_| w.prompt_tokens > 0).map_or_else(String::new, |c| {
            format!(", {:.1} % of prompt tokens from cache", 100.0 * c as f64 / w.prompt_tokens as f64)
        });
        let kind = if w.simulated == Some(true) { " SIMULATED" } else { "" };
        out.pair(
            &format!("{host}{kind}"),
            &format!("{} ({share:.1} %), {} ok{hits}", w.requests, w.succeeded),
        );
    }
}

struct Lines(String);

impl Lines {
    fn line(&mut self, text: &str) {
        self.0.push_str(text.trim_end());
        self.0.push('\n');
    }

    fn pair(&mut self, label: &str, value: &str) {
        self.line(&format!("{:<37}{value}", format!("{label}:")));
    }

    fn rule(&mut self, mark: char, title: &str) {
        let left = (WIDTH.saturating_sub(title.len())) / 2;
        let right = WIDTH.saturating_sub(title.len() + left);
        let side = |n| std::iter::repeat_n(mark, n).collect::<String>();
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{}{title}{}", side(left), side(right));
    }
}
