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

/// Samples with how often each counts.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Those that count once: most are.
    ones: Vec<f64>,
    several: Vec<(f64, u64)>,
}

impl Samples {
    /// One sample.
    pub fn push(&mut self, value: f64) {
        self.push_times(value, 1);
    }

    /// The same sample several times. What is not a number is not a sample.
    pub fn push_times(&mut self, value: f64, times: u64) {
        match times {
            0 => {}
            _ if !value.is_finite() => {}
            1 => self.ones.push(value),
            times => self.several.push((value, times)),
        }
    }

    /// Samples that were pushed.
    pub fn len(&self) -> usize {
        self.ones.len() + self.several.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each sample and how often it counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (f64, u64)> {
        self.ones.iter().map(|value| (*value, 1)).chain(self.several.iter().copied())
    }

    /// In order; `None` without a sample.
    pub(super) fn sorted(self) -> Option<Sorted> {
        let observed = self.len() as u64;
        let mut all: Vec<(f64, u64)> = self.iter().collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        (observed > 0).then(|| Sorted::of(all, observed))
    }

    /// Sorts and sums up; `None` without a sample.
    pub fn summary(self) -> Option<Summary> {
        let moments = Moments::of(self.iter());
        Some(self.sorted()?.summary(&moments))
    }
}

/// What does not need the samples in order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moments {
    count: u64,
    sum: f64,
    /// The mean so far, kept for `squares` alone.
    around: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
    max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, around: 0.0, squares: 0.0, max: f64::NEG_INFINITY }
    }
}

impl Moments {
    fn of(samples: impl Iterator<Item = (f64, u64)>) -> Self {
        let mut moments = Self::default();
        samples.for_each(|(value, times)| moments.add(value, times));
        moments
    }

    /// West's update of the squares: right for any number of samples, whatever their size.
    pub(super) fn add(&mut self, value: f64, times: u64) {
        self.count += times;
        self.sum += value * times as f64;
        let off = value - self.around;
        self.around += off * times as f64 / self.count as f64;
        self.squares += times as f64 * off * (value - self.around);
        self.max = self.max.max(value);
    }

    /// All samples together.
    pub(super) fn sum(&self) -> f64 {
        self.sum
    }
}

/// Samples in order, each with how many lie up to its end.
#[derive(Clone, Debug)]
pub(super) struct Sorted {
    upto: Vec<(f64, u64)>,
    count: u64,
    /// How many were observed: one that counts several times was observed once.
    observed: u64,
}

impl Sorted {
    /// `samples` in order, at least one.
    pub(super) fn of(mut samples: Vec<(f64, u64)>, observed: u64) -> Self {
        let mut count = 0;
        for (_, times) in &mut samples {
            count += *times;
            *times = count;
        }
        Self { upto: samples, count, observed }
    }

    pub(super) fn summary(&self, moments: &Moments) -> Summary {
        let [median, p90, p95, p99, p999] = PERCENTILES.map(|(_, q)| self.percentile(q));
        Summary {
            count: moments.count,
            mean: moments.sum / moments.count as f64,
            std: (moments.squares / moments.count as f64).sqrt(),
            median,
            p90,
            p95,
            p99,
            p999,
            max: moments.max,
            limits: PERCENTILES.map(|(_, q)| self.limits(q)),
        }
    }

    /// Up to `points` pairs of value and the share of samples not above it, both ends included.
    pub(super) fn curve(&self, points: usize) -> Vec<(f64, f64)> {
        let most = points.max(2) - 1;
        let mut curve: Vec<(f64, f64)> =
            (0..=most).map(|i| i as f64 / most as f64).map(|share| (self.percentile(share), share)).collect();
        // Of equal values the first and the last draw the same line.
        curve.dedup_by(|next, last| next == last);
        curve
    }

    fn percentile(&self, q: f64) -> f64 {
        let rank = q * (self.count - 1) as f64;
        let below = rank.floor();
        let (low, high) = (self.nth(below as u64), self.nth((below as u64 + 1).min(self.count - 1)));
        low + (high - low) * (rank - below)
    }

    /// A sample that counts several times was observed once: there are as many independent ones as were pushed.
    fn limits(&self, q: f64) -> Limits {
        let (low, high) = ranks(self.observed, q)?;
        let place = |rank: u64| ((rank as f64 - 0.5) / self.observed as f64 * self.count as f64) as u64;
        Some((self.nth(place(low)), self.nth(place(high))))
    }

    /// The sample at a place in the sorted order, from 0.
    pub(super) fn nth(&self, place: u64) -> f64 {
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
