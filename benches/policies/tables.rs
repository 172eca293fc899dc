//! Tables of the page, in Markdown.

use std::fmt::Write;

use crate::arms::Arm;
use crate::figures::Figures;
use crate::measure::{LOADS, Measured};
use crate::stats::Mean;

/// Fewer steady runs of a cell than this share: the arm is saturated there.
const STEADY_SHARE: f64 = 0.8;

/// Whether an arm holds this load.
pub fn is_saturated(runs: &[Figures]) -> bool {
    (runs.iter().filter(|run| run.is_steady).count() as f64) < runs.len() as f64 * STEADY_SHARE
}

/// The section of one workload.
pub fn workload(measured: &Measured, arms: &[Arm]) -> String {
    let mut out = format!("### {}\n\n{}.\n\n", measured.kind.name(), measured.kind.about());
    let weakest = &arms[measured.weakest()].name;
    let _ = writeln!(
        out,
        "{} requests a run; weakest arm: `{weakest}`, {:.1} requests/s.\n",
        measured.requests,
        measured.capacities[measured.weakest()]
    );
    for (load, share) in LOADS.iter().enumerate() {
        let _ = writeln!(out, "{share} of it, {:.1} requests/s:\n", measured.rates[load]);
        out.push_str("| arm | capacity req/s | TTFT p50 ms | TTFT p99 ms | E2E p50 s | E2E p99 s | hits % of possible | max/mean requests | tokens | tokens/s |\n");
        out.push_str("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
        for (place, arm) in arms.iter().enumerate() {
            let runs = &measured.cells[place][load];
            let mean = |value: fn(&Figures) -> f64| Mean::of(runs.iter().map(value));
            let _ = write!(out, "| `{}` | {:.1} ", arm.name, measured.capacities[place]);
            if is_saturated(runs) {
                out.push_str("| saturated | saturated | saturated | saturated ");
            } else {
                let cells = [
                    with_interval(mean(|f| f.ttft_p50_ms)),
                    with_interval(mean(|f| f.ttft_p99_ms)),
                    with_interval(mean(|f| f.e2e_p50_ms / 1e3)),
                    with_interval(mean(|f| f.e2e_p99_ms / 1e3)),
                ];
                let _ = write!(out, "| {} ", cells.join(" | "));
            }
            let hits =
                mean(
                    |f| {
                        if f.possible_share > 0.0 { 100.0 * f.hit_share / f.possible_share } else { f64::NAN }
                    },
                );
            let _ = writeln!(
                out,
                "| {:.1} | {:.2} | {:.2} | {:.0} |",
                hits.value,
                mean(|f| f.requests_imbalance).value,
                mean(|f| f.tokens_imbalance).value,
                mean(|f| f.tokens_per_s).value,
            );
        }
        out.push('\n');
    }
    out
}

fn with_interval(mean: Mean) -> String {
    format!("{} ± {}", short(mean.value), short(mean.half))
}

/// As many digits as say something.
pub fn short(value: f64) -> String {
    match value.abs() {
        ..1.0 => format!("{value:.2}"),
        1.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
