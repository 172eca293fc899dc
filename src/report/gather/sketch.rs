//! A histogram for more samples than are kept: buckets that are each a fifth of a percent wider than the one before.
//!
//! Rule: a value comes back within 0.1 % of itself, whatever the order in which samples came. It costs 8 bytes for each fifth of a
//! percent between the smallest and the largest: of latencies from a microsecond to an hour 90 kB, never more than some 1 MB.
//! Deliberately not here: mean, deviation and largest value, which are exact (`stats`).

use std::collections::VecDeque;

use crate::report::stats::Sorted;

/// Each bucket ends at so many times its beginning; its middle is then within 0.1 % of all in it.
const STEP: f64 = 1.002;
/// Sizes below are counted as this one. What a user computes may have any unit.
const LEAST: f64 = 1e-30;
/// Sizes above are counted as this one.
const MOST: f64 = 1e30;

/// Samples by size, those below zero apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Sketch {
    above: Buckets,
    zero: u64,
    below: Buckets,
    observed: u64,
}

impl Sketch {
    /// A sample that counts several times.
    pub(super) fn add(&mut self, value: f64, times: u64) {
        self.observed += 1;
        if value == 0.0 {
            self.zero += times;
        } else if value > 0.0 {
            self.above.add(value, times);
        } else {
            self.below.add(-value, times);
        }
    }

    /// In order; `None` without a sample.
    pub(super) fn sorted(&self) -> Option<Sorted> {
        let mut all: Vec<(f64, u64)> = self.below.iter().map(|(size, n)| (-size, n)).collect();
        all.reverse();
        all.extend((self.zero > 0).then_some((0.0, self.zero)));
        all.extend(self.above.iter());
        (!all.is_empty()).then(|| Sorted::of(all, self.observed))
    }
}

/// Counts by size: as long as the samples are apart.
#[derive(Clone, Debug, Default)]
struct Buckets {
    first: i32,
    counts: VecDeque<u64>,
}

impl Buckets {
    fn add(&mut self, size: f64, times: u64) {
        let at = (size.clamp(LEAST, MOST).ln() / STEP.ln()).floor() as i32;
        if self.counts.is_empty() {
            self.first = at;
        }
        while at < self.first {
            self.counts.push_front(0);
            self.first -= 1;
        }
        let place = (at - self.first) as usize;
        if place >= self.counts.len() {
            self.counts.resize(place + 1, 0);
        }
        self.counts[place] += times;
    }

    fn iter(&self) -> impl Iterator<Item = (f64, u64)> {
        let middle = |at: usize| STEP.powf(f64::from(self.first) + at as f64 + 0.5);
        self.counts.iter().enumerate().filter(|(_, n)| **n > 0).map(move |(at, n)| (middle(at), *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::stats::Samples;
    use proptest::prelude::*;

    proptest! {
        /// Against the exact samples, whatever their size and sign.
        #[test]
        fn every_sample_is_within_a_thousandth(
            samples in proptest::collection::vec((-1_f64..1.0, -25_i32..25, 1_u64..4), 1..300)
        ) {
            let (mut sketch, mut exact, mut count) = (Sketch::default(), Samples::default(), 0);
            for (part, size, times) in samples {
                let value = part * 10_f64.powi(size);
                prop_assume!(value == 0.0 || value.abs() > LEAST);
                sketch.add(value, times);
                exact.push_times(value, times);
                count += times;
            }
            let (sketch, exact) = (sketch.sorted().unwrap(), exact.sorted().unwrap());
            for place in 0..count {
                let (got, value) = (sketch.nth(place), exact.nth(place));
                prop_assert!((got - value).abs() <= 0.001 * value.abs(), "{got} {value}");
            }
        }
    }

    #[test]
    fn a_million_samples_of_one_decade_are_right_to_a_thousandth_and_small() {
        let mut sketch = Sketch::default();
        (1..=1_000_000).for_each(|n| sketch.add(f64::from(n) / 1e5, 1));
        let sorted = sketch.sorted().unwrap();
        for place in (99_999..1_000_000).step_by(100_000) {
            let expected = (place + 1) as f64 / 1e5;
            assert!((sorted.nth(place) / expected - 1.0).abs() < 0.001, "{place}");
        }
        assert!(sketch.above.counts.len() < 8 * 1024, "{}", sketch.above.counts.len());
    }
}
