//! A replay for people: what is exact and what is not, the simulated workers, one line a policy, where they differ.
//!
//! Rule: the first line says whether what follows is exact, approximate, or both; the recorded figures stand above the simulated
//! ones, and between them how far the simulation is from them. A figure without a sample is a dash. Deliberately not here: the
//! figures.

use std::fmt::Write;

use super::exact::Verdict;
use super::figures::{Difference, Figures};
use super::fit::FittedWorker;
use super::{Replay, Tried, WhatIf};

/// Simulated workers that are listed one by one.
const WORKERS: usize = 16;

/// The whole text.
pub fn text(replay: &Replay) -> String {
    let mut out = String::new();
    if let Some(verdict) = &replay.reading.exact {
        exact(&mut out, verdict);
    }
    for reason in &replay.approximate {
        line(&mut out, format_args!("approximate: {reason}"));
    }
    if let Some(what_if) = &replay.what_if {
        let (rows, requests) = (replay.reading.rows.len() as u64, replay.reading.requests);
        let left_out = requests - rows;
        let of = if left_out == 0 {
            String::new()
        } else {
            format!(" of {requests} ({left_out} have no answer to go by)")
        };
        line(&mut out, format_args!("simulated: {rows} requests{of} on workers fitted to their answers\n"));
        workers(&mut out, &what_if.fitted.workers);
        policies(&mut out, what_if, rows);
        for tried in &what_if.arms {
            differences(&mut out, tried, rows);
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn exact(out: &mut String, verdict: &Verdict) {
    let Verdict { decisions, reproduced, later, later_agreeing, not_tried, .. } = verdict;
    line(out, format_args!("exact: {reproduced} of {decisions} decisions reproduced"));
    if let Some(mismatch) = &verdict.mismatch {
        line(out, format_args!("MISMATCH: {mismatch}"));
    }
    if *later > 0 {
        line(out, format_args!("after the hole: {later_agreeing} of {later} decisions agree"));
    }
    if *not_tried > 0 {
        line(out, format_args!("not tried: {not_tried} decisions"));
    }
}

fn workers(out: &mut String, workers: &[FittedWorker]) {
    let width = workers.iter().take(WORKERS).map(|w| w.url.len()).max().unwrap_or(0).max(6);
    line(
        out,
        format_args!(
            "{:<width$} {:>8} {:>15} {:>10} {:>6} {:>10}  found from",
            "worker", "requests", "prefill tokens/s", "step ms", "batch", "KV tokens"
        ),
    );
    for worker in workers.iter().take(WORKERS) {
        let profile = &worker.profile;
        line(
            out,
            format_args!(
                "{:<width$} {:>8} {:>16} {:>10.2} {:>6} {:>10}  {}; {}; {}; {}",
                worker.url,
                worker.requests,
                (1e6 / profile.prefill_token_us.max(1e-6)).round(),
                profile.step_floor_us / 1e3,
                profile.max_running_requests,
                profile.kv_tokens,
                worker.prefill_from,
                worker.decode_from,
                worker.batch_from,
                worker.cache_from
            ),
        );
    }
    if workers.len() > WORKERS {
        line(out, format_args!("... and {} more (--json has them)", workers.len() - WORKERS));
    }
}

fn policies(out: &mut String, what_if: &WhatIf, rows: u64) {
    const AGAIN: &str = "  the same choices, simulated";
    let names = what_if.arms.iter().map(|tried| tried.policy.len() + 11);
    let width = names.max().unwrap_or(0).max(AGAIN.len());
    line(
        out,
        format_args!(
            "\n{:<width$} {:>9} {:>9} {:>9} {:>9} {:>7} {:>9} {:>15}",
            "", "TTFT p50", "TTFT p99", "E2E p50", "E2E p99", "hits", "max/mean", "sent elsewhere"
        ),
    );
    let mut row = |name: &str, figures: &Figures, elsewhere: &str| {
        let cells =
            [figures.ttft_p50_ms, figures.ttft_p99_ms, figures.e2e_p50_ms, figures.e2e_p99_ms].map(ms);
        let hits = figures.hit_share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let busiest = figures.max_over_mean_requests.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let refused =
            if figures.refused > 0 { format!("  {} nowhere", figures.refused) } else { String::new() };
        let text = format!(
            "{name:<width$} {:>9} {:>9} {:>9} {:>9} {hits:>7} {busiest:>9} {elsewhere:>15}{refused}",
            cells[0], cells[1], cells[2], cells[3]
        );
        line(out, format_args!("{}", text.trim_end()));
    };
    row("recorded", &what_if.recorded, "");
    row(AGAIN, &what_if.again, "0 (0.0 %)");
    for tried in &what_if.arms {
        let name =
            if tried.is_recorded { format!("{} (recorded)", tried.policy) } else { tried.policy.clone() };
        let share = tried.elsewhere as f64 * 100.0 / rows.max(1) as f64;
        row(&name, &tried.figures, &format!("{} ({share:.1} %)", tried.elsewhere));
    }
    line(out, format_args!("calibration: {}", calibration(&what_if.recorded, &what_if.again)));
}

/// How far the same choices on the simulated workers are from what was recorded.
fn calibration(recorded: &Figures, again: &Figures) -> String {
    let relative = |name: &str, recorded: Option<f64>, again: Option<f64>| {
        let (recorded, again) = (recorded.filter(|value| *value > 0.0)?, again?);
        Some(format!("{name} {:+.1} %", (again / recorded - 1.0) * 100.0))
    };
    let hits = match (recorded.hit_share, again.hit_share) {
        (Some(recorded), Some(again)) => Some(format!("hits {:+.1} points", (again - recorded) * 100.0)),
        _ => None,
    };
    let parts = [
        relative("TTFT p50", recorded.ttft_p50_ms, again.ttft_p50_ms),
        relative("TTFT p99", recorded.ttft_p99_ms, again.ttft_p99_ms),
        relative("E2E p50", recorded.e2e_p50_ms, again.e2e_p50_ms),
        relative("E2E p99", recorded.e2e_p99_ms, again.e2e_p99_ms),
        hits,
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "nothing recorded to compare with".to_owned()
    } else {
        format!("the same choices, simulated beside recorded: {}", parts.join(", "))
    }
}

fn differences(out: &mut String, tried: &Tried, rows: u64) {
    let Tried { policy, gains, elsewhere, .. } = tried;
    if gains.is_empty() {
        return;
    }
    let most = gains.len();
    line(
        out,
        format_args!(
            "\n{policy} sends {elsewhere} of {rows} elsewhere; the {most} that gain most (TTFT, simulated):"
        ),
    );
    for gain in gains {
        let Difference { seq, recorded, chosen, simulated_ttft_ms, chosen_ttft_ms, saved_ms, .. } = gain;
        line(
            out,
            format_args!(
                "  request {seq:>8}  {recorded} → {chosen}  {} → {} ms, {} saved",
                number(*simulated_ttft_ms),
                number(*chosen_ttft_ms),
                number(*saved_ms)
            ),
        );
    }
}

fn ms(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{} ms", number(value)))
}

/// Three digits or more, without those that say nothing.
fn number(value: f64) -> String {
    if value >= 99.95 { format!("{value:.0}") } else { format!("{value:.1}") }
}
