//! HDR logs on the console and as JSON: each by tag, and all of them together.
//!
//! Rule: a log of ours is in milliseconds; beside one of another program all are in what they were recorded in, which no log
//! says. Percentiles are upper ends of buckets, and that is said. Deliberately not here: charts (`page`).

use serde_json::{Map, Value, json};

use super::{Counts, TAGS, Tagged};
use crate::report::lines::{Lines, figure};
use crate::report::read::hdr::HdrLog;

/// Nanoseconds of a millisecond.
const MS: f64 = 1e6;
/// What several logs together are called.
pub(in crate::report) const MERGED: &str = "merged";
/// Columns of a name.
const NAME: usize = 30;

/// The figures of one histogram by name, in the order of the table.
pub(in crate::report) fn figures(counts: &Counts, unit: f64) -> [(&'static str, f64); 7] {
    let at = |share: f64| counts.value_at_quantile(share) as f64 / unit;
    [
        ("mean", counts.mean() / unit),
        ("median", at(0.5)),
        ("p90", at(0.9)),
        ("p95", at(0.95)),
        ("p99", at(0.99)),
        ("p999", at(0.999)),
        ("max", counts.max() as f64 / unit),
    ]
}

/// Milliseconds where every log is known to be in nanoseconds.
pub(in crate::report) fn unit(logs: &[HdrLog]) -> (f64, &'static str) {
    if logs.iter().all(|log| log.nanoseconds) { (MS, "ms") } else { (1.0, "as recorded") }
}

/// In the order of our own tags, then by name.
pub(in crate::report) fn tags(merged: &Tagged) -> Vec<&str> {
    let ours = TAGS.into_iter().filter(|tag| merged.0.contains_key(*tag));
    let others = merged.0.keys().map(String::as_str).filter(|tag| !TAGS.contains(tag));
    ours.chain(others).collect()
}

/// How a tag is called.
pub(in crate::report) fn shown(tag: &str) -> &str {
    if tag.is_empty() { "without a tag" } else { tag }
}

/// The whole text.
pub fn text(logs: &[HdrLog], merged: &Tagged) -> String {
    let mut out = Lines::default();
    let (unit, unit_name) = unit(logs);
    out.rule('=', " milepost report ");
    for log in logs {
        out.pair("Read from", &format!("{} ({} histograms)", log.from, log.intervals));
    }
    for tag in tags(merged) {
        out.rule('-', &format!(" {} ({unit_name}) ", shown(tag)));
        out.line(&format!(
            "{:<NAME$}{:>9}{:>8}{:>8}{:>8}{:>8}{:>9}{:>9}{:>9}",
            "", "n", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"
        ));
        let all = (logs.len() > 1).then_some((MERGED, merged));
        for (name, tagged) in logs.iter().map(|log| (log.name.as_str(), &log.tagged)).chain(all) {
            if let Some(counts) = tagged.0.get(tag) {
                out.line(&line(name, counts, unit));
            }
        }
    }
    out.rule('=', "");
    for note in notes(logs, merged) {
        out.wrapped("note: ", &note);
    }
    out.0
}

fn line(name: &str, counts: &Counts, unit: f64) -> String {
    let [mean, p50, p90, p95, p99, p999, max] = figures(counts, unit).map(|(_, value)| figure(value));
    let name = crate::report::chart::picture::fitted(name, 6.3 * (NAME - 1) as f64);
    format!("{name:<NAME$}{:>9}{mean:>8}{p50:>8}{p90:>8}{p95:>8}{p99:>9}{p999:>9}{max:>9}", counts.len())
}

/// What a reader has to know.
pub(in crate::report) fn notes(logs: &[HdrLog], merged: &Tagged) -> Vec<String> {
    let mut notes: Vec<String> =
        logs.iter().flat_map(|log| log.notes.iter().map(|note| format!("{}: {note}", log.from))).collect();
    let finest = |log: &HdrLog| log.tagged.0.values().map(Counts::sigfig).max();
    let unequal = logs.iter().filter_map(finest).max() > merged.digits();
    if let Some(digits) = merged.digits() {
        let within = 10_f64.powi(2 - i32::from(digits));
        let at_least = if unequal { "at least " } else { "" };
        notes.push(format!(
            "HDR histograms hold {at_least}{digits} significant digits: a value is within {within} % of what was measured, and a percentile is the \
             upper end of its bucket"
        ));
    }
    if logs.len() > 1 {
        let merging = if unequal {
            "merging adds the counts of equal buckets; where logs differ in their digits, the merged figures have the fewest of them"
        } else {
            "merging adds the counts of equal buckets, and loses nothing: the merged figures are those of one log of all the samples"
        };
        notes.push(merging.to_owned());
    }
    if logs.iter().any(|log| !log.nanoseconds) {
        notes.push(
            "not all of these logs are milepost's: values are whole numbers in the unit in which they were recorded, which no log says"
                .to_owned(),
        );
    }
    notes
}

/// The same as JSON.
pub fn json(logs: &[HdrLog], merged: &Tagged) -> Value {
    let (unit, unit_name) = unit(logs);
    let suffix = if unit_name == "ms" { "_ms" } else { "" };
    let by_tag = |tagged: &Tagged| {
        let one = |counts: &Counts| {
            let named = figures(counts, unit).map(|(name, value)| (format!("{name}{suffix}"), json!(value)));
            let count = ("count".to_owned(), json!(counts.len()));
            std::iter::once(count).chain(named).collect::<Map<_, _>>()
        };
        tagged.0.iter().map(|(tag, counts)| (tag.clone(), Value::Object(one(counts)))).collect::<Map<_, _>>()
    };
    let log = |log: &HdrLog| {
        json!({
            "name": log.name,
            "read_from": log.from,
            "histograms": log.intervals,
            "tags": by_tag(&log.tagged),
            "notes": log.notes,
        })
    };
    json!({
        "format": 1,
        "unit": unit_name,
        "significant_digits": merged.digits(),
        "logs": logs.iter().map(log).collect::<Vec<_>>(),
        "merged": by_tag(merged),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::lines::WIDTH;

    fn log(name: &str, nanoseconds: bool, tag: &str, values: std::ops::RangeInclusive<u64>) -> HdrLog {
        let mut counts = Counts::new(3).unwrap();
        values.for_each(|value| counts.record(value * 1_000_000).unwrap());
        let tagged = Tagged([(tag.to_owned(), counts)].into());
        HdrLog {
            name: name.to_owned(),
            from: format!("{name}/x"),
            tagged,
            nanoseconds,
            intervals: 1,
            notes: Vec::new(),
        }
    }

    fn merged(logs: &[HdrLog]) -> Tagged {
        let mut merged = Tagged::default();
        for log in logs {
            merged.add_all(&log.tagged).unwrap();
        }
        merged
    }

    #[test]
    fn logs_stand_under_each_other_and_then_together() {
        let logs = [log("a", true, "ttft_client", 1..=100), log("b", true, "ttft_client", 101..=200)];
        let merged = merged(&logs);
        let text = text(&logs, &merged);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let of = |name: &str| lines.iter().find(|line| line[0] == name).unwrap().clone();
        assert_eq!((of("a")[1], of("b")[1], of("merged")[1]), ("100", "100", "200"));
        let p50_ms: f64 = of("merged")[3].parse().unwrap();
        assert!((p50_ms / 100.0 - 1.0).abs() < 0.0011, "{p50_ms}");
        assert!(
            text.contains("3 significant digits: a value is within 0.1 %") && text.contains("loses nothing")
        );
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        let json = json(&logs, &merged);
        assert_eq!((&json["unit"], &json["merged"]["ttft_client"]["count"]), (&json!("ms"), &json!(200)));
        assert!(
            (json["logs"][1]["tags"]["ttft_client"]["max_ms"].as_f64().unwrap() / 200.0 - 1.0).abs() < 0.0011
        );
    }

    #[test]
    fn a_coarser_log_is_not_merged_for_nothing() {
        let mut coarse = log("b", false, "ttft_client", 101..=200);
        let mut counts = Counts::new(2).unwrap();
        (101..=200).for_each(|value| counts.record(value * 1_000_000).unwrap());
        coarse.tagged = Tagged([("ttft_client".to_owned(), counts)].into());
        let logs = [log("a", true, "ttft_client", 1..=100), coarse];
        let merged = merged(&logs);
        let text = text(&logs, &merged);
        assert!(text.contains("at least 2 significant digits: a value is within 1 %"), "{text}");
        assert!(!text.contains("loses nothing") && text.contains("the fewest of"), "{text}");
        assert_eq!(json(&logs, &merged)["significant_digits"], json!(2));
    }

    #[test]
    fn a_log_of_another_program_has_no_unit() {
        let logs = [log("a", true, "ttft_client", 1..=9), log("foreign", false, "", 1..=9)];
        let merged = merged(&logs);
        let text = text(&logs, &merged);
        assert!(
            text.contains("without a tag (as recorded)") && text.contains("not all of these logs"),
            "{text}"
        );
        assert_eq!(json(&logs, &merged)["merged"][""]["median"].as_f64().map(|v| v > 4e6), Some(true));
    }
}
