//! Draws: what happens next, from one seed.
//!
//! Rule: every drawer has a stream of its own, so that who is quicker does not change what another one draws. What the router
//! makes of it still depends on time; the mix does not.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of draws.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of this number.
    pub fn of(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.random_range(least..=most)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }

    /// One of these, each as often as its weight says.
    pub fn pick<T: Copy>(&mut self, weighted: &[(u64, T)]) -> T {
        let total: u64 = weighted.iter().map(|(weight, _)| weight).sum();
        let mut left = self.0.next_u64() % total.max(1);
        for (weight, what) in weighted {
            if left < *weight {
                return *what;
            }
            left -= weight;
        }
        weighted[0].1
    }
}
