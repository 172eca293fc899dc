//! Tables of the page, in Markdown.

use std::fmt::Write;

use crate::arms::Arm;
use crate::figures::Figures;
use crate::measure::{Cell, Measured, USUAL};
use crate::stats::Mean;

const HEAD: &str = "\
| arm | TTFT p50, ms | TTFT p99, ms | E2E p50, s | E2E p99, s | hits | requests max/mean | tokens max/mean | tokens/s |
|---|--:|--:|--:|--:|--:|--:|--:|--:|
";

/// The section of one workload.
pub fn workload(measured: &Measured, arms: &[Arm]) -> String {
    let mut out = format!("### {}\n\n{}.\n\n", measured.kind.name(), measured.kind.about());
    let weakest = &arms[measured.weakest()].name;
    let _ = writeln!(
        out,
        "{} requests a run. The weakest arm is `{weakest}` with {:.1} requests/s.",
        measured.requests,
        measured.capacities[measured.weakest()]
    );
    for (place, load) in measured.loads.iter().enumerate() {
        let any = &measured.cells[0][place];
        let _ = write!(out, "\n**{}**: {:.1} requests/s. ", load.name, load.rate);
        if measured.kind.shares() {
            let _ = write!(
                out,
                "A cache that never forgets has {:.1} % of all prompt tokens, one of the fleet's size {:.1} %. ",
                any.mean(|run| run.possible_share).value * 100.0,
                measured.pooled_shares[place] * 100.0,
            );
        }
        let least = any.mean(|run| run.least_ttft_p99_ms).value;
        let _ =
            write!(out, "Without any wait and with all hits the TTFT p99 is {} ms.\n\n{HEAD}", short(least));
        for (arm, cells) in arms.iter().zip(&measured.cells) {
            out.push_str(&row(&arm.name, &cells[place], measured.kind.shares()));
        }
    }
    out
}

fn row(name: &str, cell: &Cell, shares: bool) -> String {
    let mut cells = vec![format!("`{name}`")];
    if cell.is_saturated() {
        cells.extend(["saturated"; 4].map(str::to_owned));
    } else {
        cells.extend([
            with_interval(cell.mean(|run| run.ttft_p50_ms)),
            with_interval(cell.mean(|run| run.ttft_p99_ms)),
            with_interval(cell.mean(|run| run.e2e_p50_ms / 1e3)),
            with_interval(cell.mean(|run| run.e2e_p99_ms / 1e3)),
        ]);
    }
    cells.push(if shares { format!("{:.1} %", hits(cell).value * 100.0) } else { "-".to_owned() });
    cells.push(format!("{:.2}", cell.mean(|run| run.requests_imbalance).value));
    cells.push(format!("{:.2}", cell.mean(|run| run.tokens_imbalance).value));
    cells.push(format!("{:.0}", cell.mean(|run| run.tokens_per_s).value));
    format!("| {} |\n", cells.join(" | "))
}

/// Hits as a share of those that a cache which never forgets would have had.
pub fn hits(cell: &Cell) -> Mean {
    cell.mean(|run: &Figures| run.hit_share / run.possible_share.max(f64::MIN_POSITIVE))
}

/// Every arm and workload at a glance.
pub fn glance(all: &[Measured], arms: &[Arm]) -> String {
    let names: Vec<&str> = all.iter().map(|measured| measured.kind.name()).collect();
    let head =
        |what: &str| format!("| {what} | {} |\n|---|{}\n", names.join(" | "), "--:|".repeat(names.len()));
    let mut out =
        head(&format!("TTFT p99 at {} of the weakest arm's capacity, ms", crate::measure::SHARES[USUAL]));
    for (place, arm) in arms.iter().enumerate() {
        let cell = |measured: &Measured| {
            let cell = &measured.cells[place][USUAL];
            if cell.is_saturated() {
                "saturated".to_owned()
            } else {
                with_interval(cell.mean(|run| run.ttft_p99_ms))
            }
        };
        let cells: Vec<String> = all.iter().map(cell).collect();
        let _ = writeln!(out, "| `{}` | {} |", arm.name, cells.join(" | "));
    }
    out.push('\n');
    out.push_str(&head("capacity, requests/s"));
    for (place, arm) in arms.iter().enumerate() {
        let cells: Vec<String> =
            all.iter().map(|measured| format!("{:.1}", measured.capacities[place])).collect();
        let _ = writeln!(out, "| `{}` | {} |", arm.name, cells.join(" | "));
    }
    out
}

/// A mean and half its interval.
pub fn with_interval(mean: Mean) -> String {
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
