//! Everything that is drawn: one stream of random numbers for each question, all of one seed.
//!
//! Rule: what is drawn for one request does not depend on what was drawn before it, so that a change of one part of a world
//! leaves the others as they were. Deliberately not here: what is drawn (`plan`, `fault`).

use std::ops::Range;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of draws.
pub struct Draw(ChaCha8Rng);

/// Whose draws they are: the first number of a stream, kept apart by what is added to it.
#[derive(Clone, Copy)]
pub enum Of {
    World,
    Visit(usize),
    Receipt { request: usize, receipt: usize },
    Steps,
}

impl Draw {
    pub fn new(seed: u64, of: Of) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(match of {
            Of::World => 0,
            Of::Steps => 1,
            Of::Visit(number) => 1_000 + number as u64,
            Of::Receipt { request, receipt } => 1_000_000 + request as u64 * 1_000 + receipt as u64,
        });
        Self(rng)
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    pub fn number(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    pub fn size(&mut self, range: Range<usize>) -> usize {
        self.0.random_range(range)
    }

    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.number(range))
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.size(0..of.len())]
    }

    /// One of them, each as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, of: &[(u32, T)]) -> T {
        let mut left = self.0.random_range(0..of.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in of {
            if left < *weight {
                return *one;
            }
            left -= weight;
        }
        of[0].1
    }
}
