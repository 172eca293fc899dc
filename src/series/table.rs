//! A series as one table: a line a point, and where it was made several times the 95 % interval of the mean under it.
//!
//! Rule: the unit of an interval is the run, as the requests of one run hang together; Student's t over runs, nothing for one
//! run. A figure that a run does not have is a dash. Deliberately not here: which runs are of one point.

use std::fmt::Write as _;

use serde_json::Value;

use super::find_rate::Answer;

/// Columns: title, width, digits, place in the `metrics` of a line.
const COLUMNS: [(&str, usize, usize, &str); 9] = [
    ("made/s", 9, 2, "sent_request_rate"),
    ("done/s", 9, 2, "request_throughput"),
    ("tok/s", 9, 0, "output_token_throughput"),
    ("TTFT p50", 10, 1, "median_ttft_ms"),
    ("p99", 9, 1, "p99_ttft_ms"),
    ("TPOT p50", 10, 2, "median_tpot_ms"),
    ("p99", 8, 2, "p99_tpot_ms"),
    ("E2E p99", 10, 1, "p99_total_latency_ms"),
    ("failed", 7, 0, "failed"),
];
/// Least width of the first column.
const FIRST: usize = 22;

/// Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom; beyond, the normal one is within 3 %.
const STUDENT_T: [f64; 20] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086,
];
const NORMAL: f64 = 1.96;

/// Mean and half the width of its 95 % interval; none for one value.
pub fn interval(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let freedom = n.checked_sub(1)?;
    let half = (freedom > 0).then(|| {
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / freedom as f64;
        STUDENT_T.get(freedom - 1).unwrap_or(&NORMAL) * (variance / n as f64).sqrt()
    });
    Some((mean, half))
}

/// The table of a sweep: the name of each point and the lines of its runs.
pub fn of_points(points: &[(String, Vec<&Value>)]) -> String {
    let longest = points.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let first = FIRST.max(longest + 1);
    let mut out = head("point", first);
    for (name, runs) in points.iter().filter(|(_, runs)| !runs.is_empty()) {
        let (mut means, mut halves) = (String::new(), String::new());
        for (_, width, digits, key) in COLUMNS {
            let values: Vec<f64> = runs.iter().filter_map(|run| run["metrics"][key].as_f64()).collect();
            let (mean, half) = interval(&values).map_or((None, None), |(mean, half)| (Some(mean), half));
            let cell = |value: Option<f64>, sign: &str| {
                value.map(|v| format!("{sign}{v:.digits$}")).unwrap_or_default()
            };
            let mean = if mean.is_some() { cell(mean, "") } else { "-".to_owned() };
            // A string takes everything.
            let _ = write!(means, "{mean:>width$}");
            let _ = write!(halves, "{:>width$}", cell(half, "±"));
        }
        let _ = writeln!(out, "{name:<first$}{means}  {}", ratings(runs));
        if runs.len() > 1 {
            let _ = writeln!(out, "{:<first$}{halves}", format!("  {} runs, ±95 %", runs.len()));
        }
    }
    out
}

/// The table of a search: each rate that was tried, in order, and the word on it.
pub fn of_search(answer: &Answer) -> String {
    let mut out = head("asked/s", FIRST);
    for probe in answer.curve() {
        let mut cells = String::new();
        for (_, width, digits, key) in COLUMNS {
            let value = probe.run["metrics"][key].as_f64();
            let _ = write!(
                cells,
                "{:>width$}",
                value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
            );
        }
        let _ = writeln!(out, "{:<FIRST$}{cells}  {}", probe.per_s, probe.word.text());
    }
    out
}

fn head(first: &str, width: usize) -> String {
    let mut out = format!("{first:<width$}");
    for (title, width, ..) in COLUMNS {
        let _ = write!(out, "{title:>width$}");
    }
    out + "  verdict\n"
}

/// `VALID`, or how many of which.
fn ratings(runs: &[&Value]) -> String {
    let words = ["VALID", "SUSPECT", "INVALID"];
    let count = |word: &str| runs.iter().filter(|run| run["verdict"]["rating"] == word).count();
    let found = words.iter().filter(|word| count(word) > 0);
    let told: Vec<String> = match runs.len() {
        1 => found.map(|word| (*word).to_owned()).collect(),
        _ => found.map(|word| format!("{} {word}", count(word))).collect(),
    };
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::find_rate::{Probe, Word};
    use super::*;

    #[test]
    fn an_interval_is_students() {
        // Mean 12, deviation 2, n 3: 4.303 · 2 / √3.
        let (mean, half) = interval(&[10.0, 12.0, 14.0]).unwrap();
        assert!((mean - 12.0).abs() < 1e-12 && (half.unwrap() - 4.968_7).abs() < 1e-3, "{half:?}");
        assert_eq!(interval(&[3.0]), Some((3.0, None)));
        assert_eq!(interval(&[]), None);
    }

    #[test]
    fn a_point_is_a_line_and_its_repeats_have_an_interval() {
        let run = |ttft: f64| json!({"metrics": {"median_ttft_ms": ttft, "failed": 0, "sent_request_rate": 10.0}, "verdict": {"rating": "VALID"}});
        let (a, b) = (run(10.0), run(14.0));
        let text = of_points(&[
            ("request-rate=10".to_owned(), vec![&a, &b]),
            ("request-rate=20".to_owned(), vec![&a]),
            ("request-rate=30".to_owned(), vec![]),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[1].contains("12.0") && lines[1].ends_with("2 VALID"), "{text}");
        assert!(lines[2].contains("2 runs, ±95 %") && lines[2].contains("±25.4"), "{text}");
        assert!(lines[3].contains(" - ") && lines[3].ends_with("  VALID"), "{text}");
    }

    #[test]
    fn a_search_is_told_by_rate() {
        let probe = |per_s, word| Probe { per_s, word, run: json!({"metrics": {"p99_ttft_ms": 7.0}}) };
        let answer = Answer {
            good_per_s: Some(4.0),
            bad_per_s: Some(8.0),
            ended: String::new(),
            probes: vec![probe(8.0, Word::Bad("too slow".to_owned())), probe(4.0, Word::Good)],
        };
        let text = of_search(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("4 ") && lines[1].ends_with("good"), "{text}");
        assert!(lines[2].starts_with("8 ") && lines[2].ends_with("bad: too slow"), "{text}");
    }
}
