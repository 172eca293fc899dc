//! One page of HTML with everything in it: figures, charts, tables.
//!
//! Rule: it needs no script, no other file and no network; it is light or dark as its reader's system is; every number drawn stands in
//! a table too. Deliberately not here: how a chart is drawn (`chart`), what is in one (`charts`).

mod charts;
mod logs;
mod phases;

use std::fmt::Write;

pub use self::charts::{Chart, charts};
pub use self::logs::{log_charts, logs_page};
use super::breakdown::KEYS;
use super::chart::palette::COLOURS;
use super::chart::svg::{escaped, inline, style};
use super::lines::{figure, percent};
use super::quantity;
use super::recount::{Arm, rows};

/// Parts of one key that the page lists.
const PARTS: usize = 50;

const PAGE_STYLE: &str = "\
*{box-sizing:border-box}body{margin:0 auto;padding:24px;max-width:1220px;background:var(--paper);color:var(--ink);\
font:14px/1.45 system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}\
h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:32px 0 8px}p{margin:4px 0;color:var(--soft)}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,540px),1fr));gap:16px}\
.charts svg{width:100%;height:auto;border:1px solid var(--grid);border-radius:6px}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:4px 0}\
th,td{padding:3px 12px 3px 0;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}\
td.long{white-space:normal;text-align:left;max-width:70ch;overflow-wrap:anywhere}\
.key{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:6px}\
@media print{body{max-width:none}.charts svg{break-inside:avoid}}";

/// The whole page.
pub fn page(arms: &[Arm]) -> String {
    let mut out = begun(&match arms {
        [one] => format!("milepost report: {}", one.name),
        _ => format!("milepost report: {} runs side by side", arms.len()),
    });
    for arm in arms {
        for note in arm.notes() {
            let of = if arms.len() > 1 { format!("{}: ", arm.name) } else { String::new() };
            let _ = writeln!(out, "<p>{}</p>", escaped(&format!("{of}{note}")));
        }
    }
    said(&mut out, arms);
    compared(&mut out, arms);
    let _ = writeln!(out, "<h2>Charts</h2>\n<div class=\"charts\">");
    for chart in charts(arms) {
        out.push_str(&inline(&chart.picture));
    }
    out.push_str("</div>\n");
    for arm in arms {
        quantities(&mut out, arm);
        parts(&mut out, arm);
    }
    let _ = writeln!(
        out,
        "<p>milepost {}. Definitions: milepost bench --explain=all. Percentiles by linear interpolation.</p>\n</body>\n</html>",
        env!("CARGO_PKG_VERSION")
    );
    out
}

/// What stands before everything.
fn begun(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <style>{}{PAGE_STYLE}{}</style>\n</head>\n<body>\n<h1>{title}</h1>\n",
        style(),
        key_colours()
    )
}

fn key_colours() -> String {
    let of = |n: usize| format!(".k{n}{{background:var(--c{n})}}");
    (0..COLOURS).map(of).collect::<Vec<_>>().concat()
}

fn table(out: &mut String, title: &str, heads: &[String], rows: impl IntoIterator<Item = Vec<String>>) {
    let cells = |mark: &str, row: &[String]| {
        let between = format!("</{mark}><{mark}>");
        format!("<{mark}>{}</{mark}>", row.join(&between))
    };
    let _ = writeln!(out, "<h2>{}</h2>\n<div class=\"wide\"><table>", escaped(title));
    let _ = writeln!(out, "<thead><tr>{}</tr></thead><tbody>", cells("th", heads));
    for row in rows {
        let _ = writeln!(out, "<tr>{}</tr>", cells("td", &row));
    }
    out.push_str("</tbody></table></div>\n");
}

/// What the files say of the runs.
fn said(out: &mut String, arms: &[Arm]) {
    for (n, arm) in arms.iter().enumerate() {
        let _ = writeln!(
            out,
            "<h2><span class=\"key k{}\"></span>{}</h2>\n<div class=\"wide\"><table><tbody>",
            n % COLOURS,
            escaped(&arm.name)
        );
        let read_from = ("Read from", arm.from.clone());
        for (what, value) in std::iter::once(&read_from).chain(&arm.facts.said) {
            let _ = writeln!(out, "<tr><td>{what}</td><td class=\"long\">{}</td></tr>", escaped(value));
        }
        out.push_str("</tbody></table></div>\n");
    }
}

fn compared(out: &mut String, arms: &[Arm]) {
    let heads: Vec<String> =
        std::iter::once(String::new()).chain(arms.iter().map(|arm| escaped(&arm.name))).collect();
    let rows = rows().into_iter().filter_map(|(label, value)| {
        let cells: Vec<Option<String>> = arms.iter().map(value).collect();
        let known = cells.iter().any(Option::is_some);
        let cells = cells.into_iter().map(|cell| cell.map_or_else(|| "–".to_owned(), |cell| escaped(&cell)));
        known.then(|| std::iter::once(escaped(&label)).chain(cells).collect())
    });
    table(out, if arms.len() > 1 { "Side by side" } else { "In short" }, &heads, rows);
}

fn quantities(out: &mut String, arm: &Arm) {
    let heads = ["", "mean", "p50", "p90", "p95", "p99", "p99.9", "max", "n"].map(str::to_owned);
    let rows = quantity::all().filter_map(|q| {
        let s = arm.gathered.metrics.summary(q.name)?;
        let [p50, p90, p95, p99, p999] = s.percentiles();
        let numbers = [s.mean, p50, p90, p95, p99, p999, s.max].map(figure);
        let title = format!("<span title=\"{}\">{}</span>", escaped(q.definition), escaped(q.title));
        Some(std::iter::once(title).chain(numbers).chain([s.count.to_string()]).collect())
    });
    table(out, &format!("Times of {} (ms)", arm.name), &heads, rows);
}

fn parts(out: &mut String, arm: &Arm) {
    let metrics = &arm.gathered.metrics;
    let all = metrics.requests.max(1) as f64;
    let keys = KEYS.iter().zip(&metrics.breakdown).zip(&metrics.left_out);
    for ((key, parts), left_out) in keys.filter(|((_, parts), _)| !parts.is_empty()) {
        let heads = [
            "",
            "requests",
            "share",
            "successful",
            "output tokens",
            "cached",
            "TTFT p50",
            "p99",
            "E2E p50",
            "p99",
        ];
        let or_none = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), figure);
        let rows = parts.iter().take(PARTS).map(|p| {
            vec![
                escaped(&p.name),
                p.requests.to_string(),
                percent(p.requests as f64 / all),
                p.succeeded.to_string(),
                p.output_tokens.to_string(),
                p.cache_hit_rate.map_or_else(|| "–".to_owned(), percent),
                or_none(p.ttft.map(|s| s.median)),
                or_none(p.ttft.map(|s| s.p99)),
                or_none(p.e2e.map(|s| s.median)),
                or_none(p.e2e.map(|s| s.p99)),
            ]
        });
        table(out, &format!("{} by {} (ms)", arm.name, key.title), &heads.map(str::to_owned), rows);
        if parts.len() > PARTS {
            let _ = writeln!(out, "<p>and {} more</p>", (parts.len() - PARTS) as u64 + left_out);
        }
    }
}

#[cfg(test)]
mod tests;
