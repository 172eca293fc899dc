//! Requests in flight over time.
//!
//! Rule: a sweep line over begins and ends, so the curve is exact; buckets are only for drawing. Deliberately not here:
//! statistics of latency.

use std::collections::BTreeMap;

use serde::Serialize;

/// How many requests were in flight.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Concurrency {
    /// Most at one moment.
    pub peak: u64,
    /// Mean over the time from the first begin to the last end, weighted by time.
    pub mean: f64,
    /// Up to 200 points in order: most in flight in each slice of time.
    pub points: Vec<Point>,
}

impl Concurrency {
    /// With time counted from this moment on.
    #[must_use]
    pub fn since(mut self, begin_ns: i64) -> Self {
        let zero_s = begin_ns as f64 / 1e9;
        self.points.iter_mut().for_each(|point| point.at_s -= zero_s);
        self
    }
}

/// One slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Where it begins, seconds after the start of the run.
    pub at_s: f64,
    /// Most requests in flight in it.
    pub in_flight: u64,
}

/// Points of a curve at most.
pub(super) const MAX_POINTS: i64 = 200;

/// The curve of intervals `[begin, end)` in nanoseconds.
pub fn concurrency(intervals: impl IntoIterator<Item = (i64, i64)>) -> Concurrency {
    let mut steps: Vec<(i64, i64)> = Vec::new();
    for (begin, end) in intervals {
        if end > begin {
            steps.push((begin, 1));
            steps.push((end, -1));
        }
    }
    // At one moment ends come before begins: requests one after the other are never two.
    steps.sort_unstable();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return Concurrency::default();
    };
    let (first_ns, span_ns) = (first.0, last.0 - first.0);
    let slice_ns = span_ns / MAX_POINTS + 1;
    let (mut now, mut peak, mut area, mut at_ns) = (0_i64, 0_i64, 0.0, first_ns);
    let mut slices: BTreeMap<i64, i64> = BTreeMap::new();
    for (ns, step) in steps {
        for slice in (at_ns - first_ns) / slice_ns..=(ns - 1 - first_ns).max(0) / slice_ns {
            let most = slices.entry(slice).or_insert(0);
            *most = now.max(*most);
        }
        area += (ns - at_ns) as f64 * now as f64;
        now += step;
        peak = peak.max(now);
        at_ns = ns;
    }
    let points = slices
        .into_iter()
        .map(|(slice, most)| Point {
            at_s: (first_ns + slice * slice_ns) as f64 / 1e9,
            in_flight: most as u64,
        })
        .collect();
    Concurrency { peak: peak as u64, mean: area / span_ns as f64, points }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_curve_by_hand() {
        let c = concurrency([(0, 100), (50, 150), (150, 200)]);
        assert_eq!(c.peak, 2);
        assert!((c.mean - 250.0 / 200.0).abs() < 1e-12);
        assert_eq!(concurrency([]), Concurrency::default());
        assert_eq!(concurrency([(5, 5)]), Concurrency::default());
    }

    proptest! {
        /// Against the count at every moment.
        #[test]
        fn the_sweep_agrees_with_counting(list in proptest::collection::vec((0_i64..60, 1_i64..30), 1..30)) {
            let intervals: Vec<(i64, i64)> = list.iter().map(|(b, l)| (*b, b + l)).collect();
            let at = |t: i64| intervals.iter().filter(|(b, e)| *b <= t && t < *e).count() as u64;
            let (first, last) = (intervals.iter().map(|i| i.0).min().unwrap(), intervals.iter().map(|i| i.1).max().unwrap());
            let c = concurrency(intervals.clone());
            prop_assert_eq!(c.peak, (first..last).map(at).max().unwrap());
            let mean = (first..last).map(at).sum::<u64>() as f64 / (last - first) as f64;
            prop_assert!((c.mean - mean).abs() < 1e-9);
            // Fewer than 200 ns: each slice is one moment.
            for (i, point) in c.points.iter().enumerate() {
                prop_assert_eq!(point.in_flight, at(first + i64::try_from(i).unwrap()));
            }
            prop_assert_eq!(c.points.len() as u64, (last - first) as u64);
        }
    }
}
