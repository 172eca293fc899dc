//! When all was as before a fault.
//!
//! Rule: requests in a row, in the order in which they began, are within a band made of the requests before the first fault; one good
//! moment is no recovery, so all that follow must be within it too, to the next fault or the end. Too few requests are said to
//! be too few. Deliberately not here: who noticed.

use std::fmt;

use crate::load::row::Row;
use crate::report::stats::Samples;

/// Requests in a row.
const WINDOW: usize = 20;
/// Bad ones among them above the share of before, as a share: two of twenty.
const MORE_BAD: f64 = 0.1;
/// A request is slow beyond so many times the p95 of before, and so many milliseconds more, which a busy machine makes of a short
/// one.
const TIMES: f64 = 2.0;
const BUSY_MS: f64 = 5.0;

/// Whether, and when.
#[derive(Clone, Debug, PartialEq)]
pub enum Recovery {
    /// Nothing ever left the band.
    Untouched,
    /// So many nanoseconds after the action was begun.
    After(i64),
    /// The last requests were not within the band: so many of them were bad.
    NotYet(usize),
    /// Why it cannot be said.
    Unknown(String),
}

impl Recovery {
    /// `before`: requests that no fault touched; `after`: those begun since this one was, in order.
    pub(super) fn of(before: &[&Row], after: &[&Row], began_ns: i64) -> Self {
        for (rows, when) in [(before, "before the faults"), (after, "after it was begun")] {
            if rows.len() < WINDOW {
                return Self::Unknown(format!("{} requests {when}, it takes {WINDOW}", rows.len()));
            }
        }
        let Some(band) = Band::of(before) else {
            return Self::Unknown("no request succeeded before the faults".to_owned());
        };
        match after.windows(WINDOW).rposition(|window| !band.holds(window)) {
            None => Self::Untouched,
            Some(at) => match after.get(at + 1).filter(|_| at + WINDOW < after.len()) {
                Some(row) => Self::After(row.begun_ns() - began_ns),
                None => Self::NotYet(band.bad(&after[after.len() - WINDOW..])),
            },
        }
    }

    /// Nanoseconds; none where it did not, or cannot be said.
    pub fn after_ns(&self) -> Option<i64> {
        match self {
            Self::Untouched => Some(0),
            Self::After(ns) => Some(*ns),
            Self::NotYet(_) | Self::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untouched => f.write_str("never left the band"),
            Self::After(ns) => write!(f, "{:.3} s", *ns as f64 / 1e9),
            Self::NotYet(bad) => {
                write!(
                    f,
                    "not before the next fault or the end: {bad} of the last {WINDOW} failed or were slow"
                )
            }
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// What requests are like where all is well.
struct Band {
    /// What users wait for, from the send: how late the client is itself is for the verdict.
    latency: fn(&Row) -> Option<i64>,
    slow_ms: f64,
    /// Most bad ones in a row.
    most: f64,
}

impl Band {
    /// TTFT where answers are streamed; `None` without a success.
    fn of(before: &[&Row]) -> Option<Self> {
        let streamed = before.iter().any(|row| row.client_first_token_ns.is_some());
        let latency = if streamed { Row::ttft_client_ns } else { Row::client_latency_ns };
        let good = before.iter().filter(|row| row.success());
        let values: Samples = good.filter_map(|row| latency(row)).map(|ns| ns as f64 / 1e6).collect();
        let slow_ms = values.summary()?.p95 * TIMES + BUSY_MS;
        let band = Self { latency, slow_ms, most: 0.0 };
        let usual = band.bad(before) as f64 / before.len() as f64;
        Some(Self { most: (usual + MORE_BAD) * WINDOW as f64, ..band })
    }

    /// Failed or slow ones.
    fn bad(&self, rows: &[&Row]) -> usize {
        let good = |row: &&&Row| {
            row.success() && (self.latency)(row).is_some_and(|ns| ns as f64 / 1e6 <= self.slow_ms)
        };
        rows.len() - rows.iter().filter(good).count()
    }

    fn holds(&self, window: &[&Row]) -> bool {
        self.bad(window) as f64 <= self.most + 1e-9
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::{Class, Failure};

    const MS: i64 = 1_000_000;

    /// A request each 10 ms from `from`; `ttft_ms` below 0 is a failure.
    fn rows(from: i64, ttfts_ms: &[i64]) -> Vec<Row> {
        let row = |(i, ttft_ms): (i64, &i64)| {
            let due_ns = (from + i * 10) * MS;
            let failure = (*ttft_ms < 0).then(|| Failure::new(Class::Reset, "x"));
            Row {
                scheduled_ns: due_ns,
                write_begun_ns: Some(due_ns),
                client_first_token_ns: Some(due_ns + ttft_ms * MS),
                failure,
                ..Row::default()
            }
        };
        (0..).zip(ttfts_ms).map(row).collect()
    }

    fn recovery(before: &[i64], after: &[i64]) -> Recovery {
        let (before, after) = (rows(0, before), rows(1000, after));
        Recovery::of(&before.iter().collect::<Vec<_>>(), &after.iter().collect::<Vec<_>>(), 1000 * MS)
    }

    #[test]
    fn it_is_where_all_that_follows_is_good() {
        let well = [20_i64; 40];
        assert_eq!(recovery(&well, &well), Recovery::Untouched);
        // Ten failures, all good after them: two in twenty are within the band, so the eighth is the last that counts.
        let errors = [[-1_i64; 10].as_slice(), &well].concat();
        assert_eq!(recovery(&well, &errors), Recovery::After(80 * MS));
        // A good stretch between two bad ones is none.
        let relapse = [errors.as_slice(), &errors].concat();
        assert_eq!(recovery(&well, &relapse), Recovery::After(580 * MS));
    }

    #[test]
    fn slow_is_as_bad_as_failed() {
        let (well, slow) = ([20_i64; 40], [46_i64; 40]);
        let told = recovery(&well, &slow);
        assert_eq!((told.after_ns(), told), (None, Recovery::NotYet(20)));
        assert_eq!(recovery(&well, &[45; 40]), Recovery::Untouched);
        assert_eq!(recovery(&well, &[&slow[..], &well].concat()), Recovery::After(380 * MS));
        // One worker of three that hangs moves no median.
        let hangs: Vec<i64> = [20, 20, 5000].repeat(20);
        assert_eq!(recovery(&well, &hangs), Recovery::NotYet(7));
    }

    /// Of 18 of 20 ms and 2 of 30 ms, numpy.percentile(.., 95) is 30; with one of 30 ms alone it is 20.5.
    #[test]
    fn the_p95_is_that_of_every_other_table() {
        let band = |slow: usize| {
            let before = rows(0, &[vec![20; 20 - slow], vec![30; slow]].concat());
            Band::of(&before.iter().collect::<Vec<_>>()).unwrap().slow_ms
        };
        assert!((band(2) - 65.0).abs() < 1e-9 && (band(1) - 46.0).abs() < 1e-9, "{} {}", band(2), band(1));
    }

    #[test]
    fn too_few_are_too_few() {
        let told = recovery(&[20; 19], &[20; 40]).to_string();
        assert_eq!(told, "unknown: 19 requests before the faults, it takes 20");
        assert!(recovery(&[20; 40], &[20; 3]).to_string().contains("3 requests after it was begun"));
        assert!(recovery(&[-1; 40], &[20; 40]).to_string().contains("no request succeeded"));
    }
}
