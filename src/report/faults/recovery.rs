//! When all was as before a fault.
//!
//! Rule: requests in a row, in the order in which they began, are within a band made of the requests before the first fault; one good
//! moment is no recovery, so all that follow must be within it too, to the next fault or the end. Too few requests are said to
//! be too few. Deliberately not here: who noticed.

use std::fmt;

use crate::load::row::Row;
use crate::report::gather::Distribution;

/// Requests in a row.
const WINDOW: usize = 20;
/// Bad ones among them above the share of before, as a share: two of twenty.
const MORE_BAD: f64 = 0.1;
/// A request is slow beyond so many times the p95 of before, and so many milliseconds more, which a busy machine makes of a short
/// one.
const TIMES: f64 = 2.0;
const BUSY_MS: f64 = 5.0;
/// Samples of before that are kept one by one: from there on their p95 is within 0.1 %.
const KEPT: usize = 1 << 20;
/// Requests between two looks at how many there are.
const LOOK: usize = 1 << 12;

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
    /// `band`: of requests that no fault touched; `after`: those begun since this one was.
    pub(super) fn of(band: &Band, mut after: Vec<Begun>, began_ns: i64) -> Self {
        for (count, when) in [(band.requests, "before the faults"), (after.len(), "after it was begun")] {
            if count < WINDOW {
                return Self::Unknown(format!("{count} requests {when}, it takes {WINDOW}"));
            }
        }
        if band.slow_ms.is_none() {
            return Self::Unknown("no request succeeded before the faults".to_owned());
        }
        after.sort_by_key(|begun| begun.ns());
        match after.windows(WINDOW).rposition(|window| !band.holds(window)) {
            None => Self::Untouched,
            Some(at) => match after.get(at + 1).filter(|_| at + WINDOW < after.len()) {
                Some(begun) => Self::After(begun.ns() - began_ns),
                None => Self::NotYet(bad(&after[after.len() - WINDOW..])),
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

/// When a request began, and whether it was bad: failed or slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun(i64);

impl Begun {
    /// Nanoseconds after the start of the run.
    pub(super) fn of(ns: i64, is_bad: bool) -> Self {
        Self(ns << 1 | i64::from(is_bad))
    }

    fn ns(self) -> i64 {
        self.0 >> 1
    }

    fn is_bad(self) -> bool {
        self.0 & 1 == 1
    }
}

fn bad(window: &[Begun]) -> usize {
    window.iter().filter(|begun| begun.is_bad()).count()
}

/// What the requests before the first fault are like, while they are gone through for the first time.
#[derive(Debug, Default)]
pub(super) struct Usual {
    requests: usize,
    streamed: bool,
    /// Of successful ones, milliseconds.
    ttft: Distribution,
    latency: Distribution,
}

impl Usual {
    /// The next request.
    pub(super) fn add(&mut self, row: &Row) {
        self.requests += 1;
        self.streamed |= row.client_first_token_ns.is_some();
        if row.success() {
            let latencies = [row.ttft_client_ns(), row.client_latency_ns()];
            for (samples, ns) in [&mut self.ttft, &mut self.latency].into_iter().zip(latencies) {
                if let Some(ns) = ns {
                    samples.add(ns as f64 / 1e6, 1);
                }
            }
        }
        if self.requests.is_multiple_of(LOOK) {
            self.ttft.shrink(KEPT);
            self.latency.shrink(KEPT);
        }
    }

    /// What is usual, before it is known how many of these requests are beyond it: TTFT where answers are streamed.
    pub(super) fn band(self) -> Band {
        let latency = if self.streamed { Row::ttft_client_ns } else { Row::client_latency_ns };
        let samples = if self.streamed { self.ttft } else { self.latency };
        let slow_ms = samples.summary().map(|summary| summary.p95 * TIMES + BUSY_MS);
        Band { latency, slow_ms, requests: 0, bad: 0 }
    }
}

/// What requests are like where all is well.
#[derive(Debug)]
pub(super) struct Band {
    /// What users wait for, from the send: how late the client is itself is for the verdict.
    latency: fn(&Row) -> Option<i64>,
    /// `None` where no request succeeded before the faults.
    slow_ms: Option<f64>,
    /// Requests before the faults.
    requests: usize,
    /// Of these, bad ones.
    bad: usize,
}

impl Band {
    /// Failed or slow.
    pub(super) fn is_bad(&self, row: &Row) -> bool {
        let slow_ms = self.slow_ms.unwrap_or(f64::INFINITY);
        !(row.success() && (self.latency)(row).is_some_and(|ns| ns as f64 / 1e6 <= slow_ms))
    }

    /// One more request of before the faults.
    pub(super) fn learn(&mut self, is_bad: bool) {
        self.requests += 1;
        self.bad += usize::from(is_bad);
    }

    fn holds(&self, window: &[Begun]) -> bool {
        let usual = self.bad as f64 / self.requests as f64;
        bad(window) as f64 <= (usual + MORE_BAD) * WINDOW as f64 + 1e-9
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

    fn band(before: &[Row]) -> Band {
        let mut usual = Usual::default();
        for row in before {
            usual.add(row);
        }
        let mut band = usual.band();
        for row in before {
            band.learn(band.is_bad(row));
        }
        band
    }

    fn recovery(before: &[i64], after: &[i64]) -> Recovery {
        let (band, after) = (band(&rows(0, before)), rows(1000, after));
        // They are gone through in the order of the plan, which is any.
        let begun = after.iter().rev().map(|row| Begun::of(row.begun_ns(), band.is_bad(row))).collect();
        Recovery::of(&band, begun, 1000 * MS)
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
        let slow_ms =
            |slow: usize| band(&rows(0, &[vec![20; 20 - slow], vec![30; slow]].concat())).slow_ms.unwrap();
        assert!((slow_ms(2) - 65.0).abs() < 1e-9, "{}", slow_ms(2));
        assert!((slow_ms(1) - 46.0).abs() < 1e-9, "{}", slow_ms(1));
    }

    /// What is kept of a request that began after a fault, of millions of them.
    #[test]
    fn when_one_began_and_whether_it_was_bad_are_eight_bytes() {
        assert_eq!(size_of::<Begun>(), 8);
        for ns in [-5, 0, 1_700_000_000_000_000_000] {
            let told = [false, true].map(|is_bad| Begun::of(ns, is_bad));
            assert_eq!(told.map(|begun| (begun.ns(), begun.is_bad())), [(ns, false), (ns, true)]);
        }
    }

    #[test]
    fn too_few_are_too_few() {
        let told = recovery(&[20; 19], &[20; 40]).to_string();
        assert_eq!(told, "unknown: 19 requests before the faults, it takes 20");
        assert!(recovery(&[20; 40], &[20; 3]).to_string().contains("3 requests after it was begun"));
        assert!(recovery(&[-1; 40], &[20; 40]).to_string().contains("no request succeeded"));
    }
}
