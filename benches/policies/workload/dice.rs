//! The draws of a workload. Rule: all from one seed, so that the same seed asks the same of every arm.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Seeded randomness.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// At least 0, below 1.
    pub fn share(&mut self) -> f64 {
        self.0.random::<f64>()
    }

    /// Any number.
    pub fn name(&mut self) -> u64 {
        self.0.random()
    }

    /// From `least` to `most`, each as likely.
    pub fn between(&mut self, least: u32, most: u32) -> u32 {
        self.0.random_range(least..=most)
    }

    /// Exponential with this mean: the time to the next arrival of many who know nothing of each other.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.share()).ln()
    }

    /// Log-normal with this median; `sigma` of its logarithm.
    pub fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        let (radius, angle) = (1.0 - self.share(), std::f64::consts::TAU * self.share());
        median * (sigma * (-2.0 * radius.ln()).sqrt() * angle.cos()).exp()
    }

    /// A place in a list of rising sums, each as likely as its share of the last.
    pub fn place(&mut self, sums: &[f64]) -> usize {
        let at = self.share() * sums.last().copied().unwrap_or(0.0);
        sums.partition_point(|sum| *sum <= at).min(sums.len().saturating_sub(1))
    }
}
