//! Mean and percentiles.
//!
//! Rule: a percentile is the linear interpolation between closest ranks (numpy's default, `bench_serving`'s too), and a
//! distribution without a sample has no numbers rather than zeros. Deliberately not here: which samples go in.

use serde::Serialize;

/// What is said about one quantity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Samples.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// 50th percentile.
    pub median: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest sample.
    pub max: f64,
}

/// Samples with how often each counts, in order.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<(f64, u64)>);

impl Samples {
    /// One sample.
    pub fn push(&mut self, value: f64) {
        self.push_times(value, 1);
    }

    /// The same sample several times. What is not a number is not a sample.
    pub fn push_times(&mut self, value: f64, times: u64) {
        if value.is_finite() && times > 0 {
            self.0.push((value, times));
        }
    }

    /// Sorts and sums up; `None` without a sample.
    pub fn summary(mut self) -> Option<Summary> {
        self.0.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count: u64 = self.0.iter().map(|s| s.1).sum();
        let max = self.0.last()?.0;
        let mean = self.0.iter().map(|(v, n)| v * *n as f64).sum::<f64>() / count as f64;
        let at = |q: f64| self.percentile(q, count);
        Some(Summary { count, mean, median: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), max })
    }

    fn percentile(&self, q: f64, count: u64) -> f64 {
        let rank = q * (count - 1) as f64;
        let below = rank.floor();
        let (low, high) = (self.nth(below as u64), self.nth((below as u64 + 1).min(count - 1)));
        low + (high - low) * (rank - below)
    }

    /// The sample at a place in the sorted order, from 0.
    fn nth(&self, place: u64) -> f64 {
        let mut passed = 0;
        for (value, times) in &self.0 {
            passed += times;
            if passed > place {
                return *value;
            }
        }
        self.0.last().map_or(f64::NAN, |s| s.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut samples = Self::default();
        values.into_iter().for_each(|v| samples.push(v));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `numpy.percentile([1, 2, 3, 4], [50, 90, 95, 99])` = 2.5, 3.7, 3.85, 3.97.
    #[test]
    fn percentiles_are_numpys() {
        let s = [4.0, 1.0, 3.0, 2.0].into_iter().collect::<Samples>().summary().unwrap();
        assert_eq!((s.count, s.mean, s.max), (4, 2.5, 4.0));
        for (got, expected) in [(s.median, 2.5), (s.p90, 3.7), (s.p95, 3.85), (s.p99, 3.97)] {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    #[test]
    fn no_sample_no_numbers() {
        assert_eq!(Samples::default().summary(), None);
        assert_eq!([f64::NAN].into_iter().collect::<Samples>().summary(), None);
    }

    proptest! {
        #[test]
        fn weights_are_repetitions(values in proptest::collection::vec((-1e6_f64..1e6, 1_u64..5), 1..40)) {
            let mut weighted = Samples::default();
            let mut repeated = Samples::default();
            for (value, times) in &values {
                weighted.push_times(*value, *times);
                (0..*times).for_each(|_| repeated.push(*value));
            }
            let (w, r) = (weighted.summary().unwrap(), repeated.summary().unwrap());
            prop_assert_eq!((w.count, w.median, w.p90, w.p95, w.p99, w.max), (r.count, r.median, r.p90, r.p95, r.p99, r.max));
            prop_assert!((w.mean - r.mean).abs() <= 1e-6);
            prop_assert!(w.median <= w.p90 && w.p90 <= w.p95 && w.p95 <= w.p99 && w.p99 <= w.max);
        }
    }
}
