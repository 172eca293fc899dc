//! `random`: every eligible worker is as likely as any other.
//!
//! Rule: all randomness is `ChaCha8` from the seed in the config. Deliberately not here: two choices, weights.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::decision::Decision;
use crate::policy::Policy;
use crate::registry::PolicySpec;
use crate::view::{RequestView, Time, Workers};

/// See the module.
#[derive(Debug)]
pub struct Random {
    rng: ChaCha8Rng,
}

impl Random {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "random",
        about: "any worker, each as likely as the others",
        build: |config| Box::new(Self::new(config.seed)),
    };

    /// The policy with this seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed) }
    }
}

impl Policy for Random {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    fn choose(&mut self, _now: Time, _request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        // Drawn as u64, so that 32-bit hosts decide the same.
        out.choose(self.rng.random_range(0..workers.len() as u64) as usize, "random");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask};

    fn draw(seed: u64, times: u64, workers: u32) -> Vec<usize> {
        let mut policy = Random::new(seed);
        let fleet = Fleet::of(workers);
        (1..=times).map(|seq| ask(&mut policy, seq, &fleet.workers).chosen().expect("chose")).collect()
    }

    #[test]
    fn the_seed_decides() {
        assert_eq!(draw(7, 100, 5), draw(7, 100, 5));
        assert_ne!(draw(7, 100, 5), draw(8, 100, 5));
    }

    #[test]
    fn is_uniform() {
        let mut counts = [0u32; 7];
        for worker in draw(1, 70_000, 7) {
            counts[worker] += 1;
        }
        // Chi-square with 6 degrees of freedom: 22.5 is passed once in 1,000 seeds, and this seed is fixed.
        let chi_square: f64 = counts.iter().map(|&n| (f64::from(n) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi_square < 22.5, "{counts:?} gives {chi_square}");
    }
}
