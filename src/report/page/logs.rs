//! HDR logs as a page: how the samples of each tag are distributed, log by log and all together.
//!
//! Rule: a curve is made of the buckets of its log, so that it is as exact as they are; a colour belongs to a log as it does to a run.
//! Deliberately not here: other charts, as a log holds no requests, and what the figures are (`hdr`).

use std::fmt::Write;

use super::charts::{Chart, file_name, fitting};
use super::{begun, escaped, figure, inline, table};
use crate::report::chart::palette::COLOURS;
use crate::report::chart::plot::{Axis, Plot, Series};
use crate::report::chart::scale::Scale;
use crate::report::hdr::{Counts, MERGED, Tagged, figures, notes, shown, tags, unit};
use crate::report::read::hdr::HdrLog;

/// Tags that are drawn.
const MOST_CHARTS: usize = 24;
/// Logs that are drawn beside all of them together: each has a colour of its own.
const MOST_CURVES: usize = COLOURS - 1;
/// Between two points of a curve, as a share of the samples.
const STEP: f64 = 0.001;

/// A chart of each tag.
pub fn log_charts(logs: &[HdrLog], merged: &Tagged) -> Vec<Chart> {
    let (unit, label) = unit(logs);
    let chart = |tag: &str| {
        let curve = |colour, name: &str, tagged: &Tagged, dashed| {
            let points = curve(tagged.0.get(tag)?, unit);
            Some(Series { name: name.to_owned(), colour, dashed, points })
        };
        let each = logs.iter().take(MOST_CURVES).enumerate();
        let mut series: Vec<Series> =
            each.filter_map(|(n, log)| curve(n, &log.name, &log.tagged, false)).collect();
        if logs.len() > 1 {
            series.extend(curve(logs.len().min(MOST_CURVES), MERGED, merged, true));
        }
        let x = Axis { label, ..fitting(series.iter().map(|s| &s.points)) };
        let y = Axis { label: "share of samples", scale: Scale::from_zero(1.0) };
        let title = format!("{}: share of samples that took no longer", shown(tag));
        let plot = Plot { title, x, y, steps: false, series, lines: Vec::new() };
        Chart { file: format!("cdf-{}", file_name(shown(tag))), picture: plot.picture() }
    };
    tags(merged).into_iter().take(MOST_CHARTS).map(chart).collect()
}

/// What the charts leave out and the tables have.
fn undrawn(logs: &[HdrLog], merged: &Tagged) -> Vec<String> {
    let mut out = Vec::new();
    if logs.len() > MOST_CURVES {
        out.push(format!(
            "drawn are the first {MOST_CURVES} of {} logs, and all of them together",
            logs.len()
        ));
    }
    let tags = tags(merged).len();
    if tags > MOST_CHARTS {
        out.push(format!("drawn are {MOST_CHARTS} of {tags} tags"));
    }
    out
}

/// The share of the samples up to each value.
fn curve(counts: &Counts, unit: f64) -> Vec<(f64, f64)> {
    let all = counts.len();
    let mut points = vec![(counts.min() as f64 / unit, 0.0)];
    let (mut seen, mut last) = (0, 0.0);
    for bucket in counts.iter_recorded() {
        seen += bucket.count_at_value();
        let share = seen as f64 / all.max(1) as f64;
        if share - last >= STEP || seen == all {
            points.push((bucket.value_iterated_to() as f64 / unit, share));
            last = share;
        }
    }
    points
}

/// The whole page.
pub fn logs_page(logs: &[HdrLog], merged: &Tagged) -> String {
    let mut out = begun(&match logs {
        [one] => format!("milepost report: {}", one.name),
        _ => format!("milepost report: {} HDR logs", logs.len()),
    });
    for log in logs {
        let _ = writeln!(
            out,
            "<p>{}</p>",
            escaped(&format!("{}: {} ({} histograms)", log.name, log.from, log.intervals))
        );
    }
    for note in notes(logs, merged) {
        let _ = writeln!(out, "<p>{}</p>", escaped(&note));
    }
    for undrawn in undrawn(logs, merged) {
        let _ = writeln!(out, "<p>{undrawn}</p>");
    }
    let _ = writeln!(out, "<h2>Charts</h2>\n<div class=\"charts\">");
    for chart in log_charts(logs, merged) {
        out.push_str(&inline(&chart.picture));
    }
    out.push_str("</div>\n");
    let (unit, label) = unit(logs);
    let heads = ["", "mean", "p50", "p90", "p95", "p99", "p99.9", "max", "n"].map(str::to_owned);
    for tag in tags(merged) {
        let all = (logs.len() > 1).then_some((MERGED, merged));
        let each = logs.iter().map(|log| (log.name.as_str(), &log.tagged)).chain(all);
        let rows = each.filter_map(|(name, tagged)| {
            let counts = tagged.0.get(tag)?;
            let numbers = figures(counts, unit).map(|(_, value)| figure(value));
            Some(std::iter::once(escaped(name)).chain(numbers).chain([counts.len().to_string()]).collect())
        });
        table(&mut out, &format!("{} ({label})", shown(tag)), &heads, rows);
    }
    let _ = writeln!(out, "<p>milepost {}</p>\n</body>\n</html>", env!("CARGO_PKG_VERSION"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str, values_ms: std::ops::RangeInclusive<u64>) -> HdrLog {
        let mut counts = Counts::new(3).unwrap();
        values_ms.for_each(|ms| counts.record(ms * 1_000_000).unwrap());
        HdrLog {
            name: name.to_owned(),
            from: format!("{name}/latency.hdr"),
            tagged: Tagged([("ttft_client".to_owned(), counts)].into()),
            nanoseconds: true,
            intervals: 1,
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_curve_goes_from_no_sample_to_all_of_them() {
        let points = curve(&log("a", 1..=100).tagged.0["ttft_client"], 1e6);
        assert_eq!((points.len(), points[0].1), (101, 0.0));
        let (half_ms, share) = points[50];
        assert!((half_ms / 50.0 - 1.0).abs() < 0.0011 && (share - 0.5).abs() < 1e-9, "{half_ms} {share}");
        assert!((points[100].1 - 1.0).abs() < 1e-9 && points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1));
        // As many points as can be seen, however many buckets there are.
        assert!(curve(&log("a", 1..=60_000).tagged.0["ttft_client"], 1e6).len() <= 1_002);
        assert_eq!(curve(&Counts::new(3).unwrap(), 1.0).len(), 1);
    }

    #[test]
    fn a_page_of_logs_has_a_curve_of_each_and_of_all_and_every_figure() {
        let logs = [log("<a>", 1..=100), log("b", 101..=200)];
        let mut merged = Tagged::default();
        for log in &logs {
            merged.add_all(&log.tagged).unwrap();
        }
        let page = logs_page(&logs, &merged);
        assert_eq!(
            (page.matches("<svg").count(), log_charts(&logs, &merged)[0].file.as_str()),
            (1, "cdf-ttft-client")
        );
        for words in
            ["&lt;a&gt;", ">merged<", "<td>200</td>", "share of samples that took no longer", "loses nothing"]
        {
            assert!(page.contains(words), "{words}");
        }
        assert!(!page.contains("<a>") && !page.contains("<script"));
    }

    #[test]
    fn logs_that_are_not_drawn_are_counted_and_one_called_merged_is_not_the_sum() {
        let logs: Vec<HdrLog> =
            (0..9).map(|n| log(if n == 0 { MERGED } else { "other" }, 1..=10 + n)).collect();
        let mut merged = Tagged::default();
        for log in &logs {
            merged.add_all(&log.tagged).unwrap();
        }
        let page = logs_page(&logs, &merged);
        assert!(page.contains("drawn are the first 7 of 9 logs"), "{page}");
        assert!(undrawn(&logs[..7], &merged).is_empty());
    }
}
