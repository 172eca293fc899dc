//! Rows → the log: an interval of time after the other, a histogram for each quantity.
//!
//! Rule: what a quantity is is said in the table of quantities and not here; a sample is of the interval in which the client saw
//! it end (its token, its last byte), successful requests only. Intervals are of a second; where a run has so many of them that
//! the counts would take more than some 300 MB, they are of 2, 4, 8 s and so on. Deliberately not here: reading.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::encoded::encoded;
use super::{Counts, DIGITS, HIGHEST_NS, LEGEND, NOTE, OURS};
use crate::load::row::Row;
use crate::report::quantity::named;
use crate::units::utc;

/// Buckets that are kept at most.
const MOST: usize = 1 << 22;
/// Nanoseconds of `Interval_Max`'s unit, the milliseconds of `HdrHistogram`'s own logs.
const MAX_UNIT: f64 = 1e6;

/// When the samples of a row were seen.
#[derive(Clone, Copy, Debug)]
enum Seen {
    FirstToken,
    End,
    /// Each with its own token, in order.
    Gaps,
}

/// What is written, by the name of the quantity, in the order within an interval.
pub const TAGS: [&str; 7] = [
    "ttft_client",
    "ttft_from_schedule",
    "itl",
    "icl",
    "tpot_client",
    "client_latency",
    "latency_from_schedule",
];

fn seen(tag: &str) -> Seen {
    match tag {
        "ttft_client" | "ttft_from_schedule" => Seen::FirstToken,
        "itl" | "icl" => Seen::Gaps,
        _ => Seen::End,
    }
}

/// The log of a run as its rows come.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Which bucket a value is of.
    buckets: Counts,
    /// Of an interval, by its number, the place of the tag, and the lowest value of the bucket: how many.
    counts: BTreeMap<(u64, usize, u64), u64>,
    interval_s: u64,
    most: usize,
    /// Requests whose tokens are in neither `itl` nor `icl`.
    without_token_times: u64,
}

impl Recording {
    /// Without a sample.
    ///
    /// # Errors
    /// None in practice: the bounds are fixed.
    pub fn begin() -> io::Result<Self> {
        let buckets = Counts::new_with_bounds(1, HIGHEST_NS, DIGITS).map_err(io::Error::other)?;
        Ok(Self { buckets, counts: BTreeMap::new(), interval_s: 1, most: MOST, without_token_times: 0 })
    }

    /// Says of so many requests that there was no room for the times of their tokens.
    #[must_use]
    pub fn without_token_times(self, requests: u64) -> Self {
        Self { without_token_times: requests, ..self }
    }

    /// One row more.
    pub fn add(&mut self, row: &Row) {
        for (place, tag) in TAGS.into_iter().enumerate() {
            let Some(quantity) = named(tag) else { continue };
            let (moment, mut gaps) = (seen(tag), row.stream_gaps());
            let from_ns = match moment {
                Seen::End => row.client_end_ns,
                Seen::FirstToken => row.client_first_token_ns,
                Seen::Gaps => row.gaps_from_ns,
            }
            .unwrap_or(0);
            quantity.each(row, &mut |ms, times| {
                let after_ns = if let Seen::Gaps = moment { gaps.next().map_or(0, |(_, ns)| ns) } else { 0 };
                self.count(place, from_ns.saturating_add_unsigned(after_ns), ms, times);
            });
        }
    }

    fn count(&mut self, place: usize, at_ns: i64, ms: f64, times: u64) {
        // A float below zero becomes 0.
        let value = ((ms * 1e6).round() as u64).min(HIGHEST_NS);
        let interval = at_ns.max(0) as u64 / 1_000_000_000 / self.interval_s;
        let bucket = self.buckets.lowest_equivalent(value);
        *self.counts.entry((interval, place, bucket)).or_insert(0) += times;
        while self.counts.len() > self.most && self.counts.keys().next_back().is_some_and(|last| last.0 > 0) {
            self.widen();
        }
    }

    /// Two intervals become one.
    fn widen(&mut self) {
        self.interval_s *= 2;
        for ((interval, place, bucket), times) in std::mem::take(&mut self.counts) {
            *self.counts.entry((interval / 2, place, bucket)).or_insert(0) += times;
        }
    }

    /// Writes the log of a run that began at this moment.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, out: &mut impl Write, start_unix_ns: u64) -> io::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        let start_s = start_unix_ns as f64 / 1e9;
        writeln!(out, "{OURS}{version} bench: values in nanoseconds, Interval_Max in milliseconds]")?;
        writeln!(out, "#[Histogram log format version 1.3]")?;
        writeln!(out, "#[StartTime: {start_s:.3} (seconds since epoch), {}]", utc(start_unix_ns))?;
        if self.without_token_times > 0 {
            let left_out = self.without_token_times;
            writeln!(
                out,
                "{NOTE}itl and icl leave out {left_out} requests for whose token times there was no room]"
            )?;
        }
        writeln!(out, "{LEGEND}")?;
        let mut one = self.buckets.clone();
        let mut entries = self.counts.iter().peekable();
        while let Some(((interval, place, bucket), times)) = entries.next() {
            one.saturating_record_n(*bucket, *times);
            let goes_on = entries.peek().is_some_and(|((i, p, _), _)| (i, p) == (interval, place));
            if !goes_on {
                let (from_s, long_s) = (interval * self.interval_s, self.interval_s);
                let max = one.max() as f64 / MAX_UNIT;
                let text = encoded(&one).map_err(io::Error::other)?;
                writeln!(out, "Tag={},{from_s}.000,{long_s}.000,{max:.3},{text}", TAGS[*place])?;
                one.reset();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::row::example;
    use crate::report::Metrics;
    use crate::report::hdr::decoded;

    fn log(rows: &[Row], most: usize) -> Vec<(String, f64, f64, f64, Counts)> {
        let mut recording = Recording { most, ..Recording::begin().unwrap() };
        for row in rows {
            recording.add(row);
        }
        let mut text = Vec::new();
        recording.write(&mut text, 1_700_000_000_250_000_000).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("#[StartTime: 1700000000.250 (seconds since epoch), 2023-11-14T"), "{text}");
        let lines = text.lines().filter(|line| line.starts_with("Tag="));
        lines
            .map(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                let number = |at: usize| cells[at].parse().unwrap();
                (cells[0][4..].to_owned(), number(1), number(2), number(3), decoded(cells[4]).unwrap())
            })
            .collect()
    }

    #[test]
    fn a_sample_is_of_the_second_in_which_it_was_seen() {
        let failed = Row { failure: Some(Failure::new(Class::Reset, "x")), ..example() };
        // First token at 1.0225 s, then gaps of 10 and 30 ms, the second of three tokens; end at 1.062 s.
        let late = Row { client_end_ns: Some(2_062_000_000), ..example() };
        let lines = log(&[example(), failed, late], MOST);
        let told: Vec<_> = lines.iter().map(|l| (l.0.as_str(), l.1, l.2, l.4.len())).collect();
        assert_eq!(
            told,
            [
                ("ttft_client", 1.0, 1.0, 2),
                ("ttft_from_schedule", 1.0, 1.0, 2),
                ("itl", 1.0, 1.0, 8),
                ("icl", 1.0, 1.0, 4),
                ("tpot_client", 1.0, 1.0, 1),
                ("client_latency", 1.0, 1.0, 1),
                ("latency_from_schedule", 1.0, 1.0, 1),
                ("tpot_client", 2.0, 1.0, 1),
                ("client_latency", 2.0, 1.0, 1),
                ("latency_from_schedule", 2.0, 1.0, 1),
            ]
        );
        let (_, _, _, max_ms, latency) = &lines[6];
        assert!((max_ms / 63.0 - 1.0).abs() < 0.001 && (latency.mean() / 63e6 - 1.0).abs() < 0.001);
    }

    /// Every tag has the samples of its quantity, within a thousandth.
    #[test]
    fn a_tag_is_the_quantity_of_its_name() {
        let rows: Vec<Row> = (0..500)
            .map(|n| Row { client_end_ns: Some(1_062_000_000 + n * n * 70_001), ..example() })
            .collect();
        let metrics = Metrics::of(&rows);
        for most in [MOST, 300] {
            let lines = log(&rows, most);
            assert_eq!(
                lines.iter().any(|line| line.2 > 1.0),
                most == 300,
                "intervals grow where there is no room"
            );
            for tag in TAGS {
                let mut all = Counts::new(DIGITS).unwrap();
                for line in lines.iter().filter(|line| line.0 == tag) {
                    all.add(&line.4).unwrap();
                }
                let summary = metrics.summary(tag).unwrap();
                assert_eq!(all.len(), summary.count, "{tag}");
                let near = |ns: f64, ms: f64| (ns / 1e6 / ms - 1.0).abs() < 0.0011;
                assert!(near(all.mean(), summary.mean) && near(all.max() as f64, summary.max), "{tag}");
            }
        }
    }

    #[test]
    fn a_run_without_a_success_has_a_log_without_a_line() {
        assert!(log(&[Row::default()], MOST).is_empty());
        let endless = Row { client_end_ns: Some(i64::MAX), ..example() };
        assert!(log(&[endless], MOST).iter().any(|l| l.0 == "client_latency" && l.4.max() >= HIGHEST_NS));
    }
}
