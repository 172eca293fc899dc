//! Mean and percentiles.
//!
//! Rule: a percentile is the linear interpolation between closest ranks (numpy's default, `bench_serving`'s too), and a
//! distribution without a sample has no numbers rather than zeros. Limits take samples for independent of each other; gaps of one
//! stream and requests in one queue are not, and theirs are too narrow. Deliberately not here: which samples go in.

use serde::Serialize;

use super::interval::ranks;

/// The percentiles of a [`Summary`], as shares, in order.
pub const PERCENTILES: [(&str, f64); 5] =
    [("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// Two samples that enclose a percentile with 95 %; `None` where there are too few samples to say.
pub type Limits = Option<(f64, f64)>;

/// What is said about one quantity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Samples.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation of these samples (numpy's default: divided by their number).
    pub std: f64,
    /// 50th percentile.
    pub median: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest sample.
    pub max: f64,
    /// Limits of each of [`PERCENTILES`].
    pub limits: [Limits; 5],
}

impl Summary {
    /// The values of [`PERCENTILES`].
    pub fn percentiles(&self) -> [f64; 5] {
        [self.median, self.p90, self.p95, self.p99, self.p999]
    }
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
        let squares: f64 = self.0.iter().map(|(v, n)| (v - mean).powi(2) * *n as f64).sum();
        let sorted = Sorted::of(self.0);
        let [median, p90, p95, p99, p999] = PERCENTILES.map(|(_, q)| sorted.percentile(q));
        let limits = PERCENTILES.map(|(_, q)| sorted.limits(q));
        Some(Summary {
            count,
            mean,
            std: (squares / count as f64).sqrt(),
            median,
            p90,
            p95,
            p99,
            p999,
            max,
            limits,
        })
    }
}

/// Samples in order, each with how many lie up to its end.
struct Sorted {
    upto: Vec<(f64, u64)>,
    count: u64,
}

impl Sorted {
    /// `samples` in order, at least one.
    fn of(mut samples: Vec<(f64, u64)>) -> Self {
        let mut count = 0;
        for (_, times) in &mut samples {
            count += *times;
            *times = count;
        }
        Self { upto: samples, count }
    }

    fn percentile(&self, q: f64) -> f64 {
        let rank = q * (self.count - 1) as f64;
        let below = rank.floor();
        let (low, high) = (self.nth(below as u64), self.nth((below as u64 + 1).min(self.count - 1)));
        low + (high - low) * (rank - below)
    }

    /// A sample that counts several times was observed once: there are as many independent ones as were pushed.
    fn limits(&self, q: f64) -> Limits {
        let observed = self.upto.len() as u64;
        let (low, high) = ranks(observed, q)?;
        let place = |rank: u64| ((rank as f64 - 0.5) / observed as f64 * self.count as f64) as u64;
        Some((self.nth(place(low)), self.nth(place(high))))
    }

    /// The sample at a place in the sorted order, from 0.
    fn nth(&self, place: u64) -> f64 {
        let at = self.upto.partition_point(|(_, upto)| *upto <= place);
        self.upto[at.min(self.upto.len() - 1)].0
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
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// `numpy.percentile([1, 2, 3, 4], [50, 90, 95, 99])` = 2.5, 3.7, 3.85, 3.97.
    #[test]
    fn percentiles_are_numpys() {
        let s = [4.0, 1.0, 3.0, 2.0].into_iter().collect::<Samples>().summary().unwrap();
        assert_eq!((s.count, s.mean, s.max), (4, 2.5, 4.0));
        // numpy.std([1, 2, 3, 4])
        assert!((s.std - 1.25_f64.sqrt()).abs() < 1e-12);
        // numpy.percentile(.., 99.9)
        assert!((s.p999 - 3.997).abs() < 1e-12 && s.limits == [None; 5]);
        for (got, expected) in [(s.median, 2.5), (s.p90, 3.7), (s.p95, 3.85), (s.p99, 3.97)] {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }

    /// Of 1 to 10 the second and the ninth enclose the median; a p90 needs 36.
    #[test]
    fn limits_are_samples() {
        let s = (1..=10).map(f64::from).collect::<Samples>().summary().unwrap();
        assert_eq!(s.limits, [Some((2.0, 9.0)), None, None, None, None]);
        // One gap of many tokens is one observation.
        let mut one = Samples::default();
        one.push_times(1.0, 5000);
        assert_eq!(one.summary().unwrap().limits, [None; 5]);
    }

    /// 400 runs of 50 samples: the true median lies outside of its limits in at most 5 %; 8 % is 2.7 deviations above.
    #[test]
    fn limits_cover_the_true_median() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let missed = (0..400)
            .filter(|_| {
                let s = (0..50).map(|_| -rng.random::<f64>().ln()).collect::<Samples>().summary().unwrap();
                let (low, high) = s.limits[0].unwrap();
                !(low..=high).contains(&std::f64::consts::LN_2)
            })
            .count();
        assert!(missed <= 32, "{missed} of 400");
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
            prop_assert!(w.median <= w.p90 && w.p90 <= w.p95 && w.p95 <= w.p99 && w.p99 <= w.p999 && w.p999 <= w.max);
            for ((low, high), p) in r.limits.into_iter().zip(r.percentiles()).filter_map(|(l, p)| Some((l?, p))) {
                prop_assert!(low <= p && p <= high, "{low} {p} {high}");
            }
        }
    }
}
