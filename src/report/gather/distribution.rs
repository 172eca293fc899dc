//! The samples of one quantity as they come.
//!
//! Rule: count, mean, deviation and largest value are exact; percentiles are exact as long as the samples are kept, and within
//! 0.1 % after that. Deliberately not here: when it is time to let samples go ([`super::Gathering`]).

use super::sketch::Sketch;
use crate::report::stats::{Moments, Samples, Sorted, Summary};

/// Points of the line of a distribution.
const POINTS: usize = 401;

/// Samples, kept or counted by size.
#[derive(Clone, Debug, Default)]
pub(in crate::report) struct Distribution {
    moments: Moments,
    held: Held,
}

#[derive(Clone, Debug)]
enum Held {
    Samples(Samples),
    Sketch(Box<Sketch>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Samples(Samples::default())
    }
}

impl Distribution {
    /// A sample that counts several times; what is not a number is none.
    pub(in crate::report) fn add(&mut self, value: f64, times: u64) {
        if !value.is_finite() || times == 0 {
            return;
        }
        self.moments.add(value, times);
        match &mut self.held {
            Held::Samples(samples) => samples.push_times(value, times),
            Held::Sketch(sketch) => sketch.add(value, times),
        }
    }

    /// Samples that are kept one by one.
    pub(in crate::report) fn kept(&self) -> usize {
        match &self.held {
            Held::Samples(samples) => samples.len(),
            Held::Sketch(_) => 0,
        }
    }

    /// Lets the samples go if there are more than `most`: from here on they are counted by size.
    pub(in crate::report) fn shrink(&mut self, most: usize) {
        if let Held::Samples(samples) = &self.held
            && samples.len() > most
        {
            let mut sketch = Sketch::default();
            samples.iter().for_each(|(value, times)| sketch.add(value, times));
            self.held = Held::Sketch(Box::new(sketch));
        }
    }

    /// All samples together.
    pub(in crate::report) fn sum(&self) -> f64 {
        self.moments.sum()
    }

    /// Its numbers; `None` without a sample.
    pub(in crate::report) fn summary(self) -> Option<Summary> {
        let moments = self.moments;
        Some(self.sorted()?.summary(&moments))
    }

    /// The line of its cumulative distribution: values, each with the share of samples not above it.
    pub(in crate::report) fn line(&self) -> Vec<(f64, f64)> {
        self.clone().sorted().map(|sorted| sorted.curve(POINTS)).unwrap_or_default()
    }

    fn sorted(self) -> Option<Sorted> {
        match self.held {
            Held::Samples(samples) => samples.sorted(),
            Held::Sketch(sketch) => sketch.sorted(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letting_samples_go_changes_percentiles_by_a_thousandth_and_nothing_else() {
        let mut kept = Distribution::default();
        (0..50_000).for_each(|n| kept.add(f64::from(n % 977) + 0.5, 1 + u64::from(n % 3 == 0)));
        let mut counted = kept.clone();
        counted.shrink(50_000);
        assert_eq!(counted.kept(), 50_000, "it is not too many");
        counted.shrink(49_999);
        counted.add(3.0, 2);
        kept.add(3.0, 2);
        assert_eq!(counted.kept(), 0);
        let (exact, near) = (kept.summary().unwrap(), counted.summary().unwrap());
        assert_eq!(
            (exact.count, exact.mean, exact.std, exact.max),
            (near.count, near.mean, near.std, near.max)
        );
        for (exact, near) in exact.percentiles().into_iter().zip(near.percentiles()) {
            assert!((near / exact - 1.0).abs() < 0.0011, "{near} {exact}");
        }
        let limits = |s: Summary| s.limits.iter().filter(|l| l.is_some()).count();
        assert_eq!(limits(exact), limits(near));
    }
}
