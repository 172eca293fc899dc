//! `power_of_two`: of two workers drawn at random, the one with fewer requests in flight.
//!
//! sglang-router 0.3.2 draws two as well, but compares token counts that it polls every 30 s (a poll that failed counts as −1
//! and wins), or without them a load that it does not keep for this policy, so that the first drawn wins. Here the load is the
//! number of requests in flight through this router at this moment. A tie goes to the first drawn, as there.
//! Deliberately not here: the servers' own queues, more than two choices.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::decision::Decision;
use crate::policy::Policy;
use crate::registry::PolicySpec;
use crate::view::{RequestView, Time, WorkerView, Workers};

/// See the module.
#[derive(Debug)]
pub struct PowerOfTwo {
    rng: ChaCha8Rng,
}

impl PowerOfTwo {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "power_of_two",
        about: "of two workers drawn at random, the one with fewer requests in flight",
        build: |config| Box::new(Self::new(config.seed)),
    };

    /// The policy with this seed.
    pub fn new(seed: u64) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// Two different indices below `workers`, which is at least 2.
    fn draw(&mut self, workers: usize) -> (usize, usize) {
        // Drawn as u64, so that 32-bit hosts decide the same.
        let first = self.rng.random_range(0..workers as u64) as usize;
        let second = self.rng.random_range(0..workers as u64 - 1) as usize;
        (first, second + usize::from(second >= first))
    }
}

impl Policy for PowerOfTwo {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    /// Scores the two by their load, negated.
    fn choose(&mut self, _now: Time, _request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        if workers.len() == 1 {
            return out.choose(0, "only_one");
        }
        let (first, second) = self.draw(workers.len());
        let load = |index| workers.get(index).map_or(u32::MAX, in_flight);
        for index in [first, second] {
            out.score(index, -f64::from(load(index)));
        }
        let chosen = if load(second) < load(first) { second } else { first };
        out.choose(chosen, "fewer_of_two");
    }
}

fn in_flight(worker: &WorkerView) -> u32 {
    worker.in_flight_requests
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask};

    #[test]
    fn two_different_workers_are_drawn_each_as_likely_as_the_others() {
        let mut policy = PowerOfTwo::new(3);
        let mut pairs = [[0u32; 4]; 4];
        for _ in 0..12_000 {
            let (a, b) = policy.draw(4);
            pairs[a][b] += 1;
        }
        for (a, row) in pairs.iter().enumerate() {
            for (b, &times) in row.iter().enumerate() {
                let expected = if a == b { 0..=0 } else { 850..=1150 };
                assert!(expected.contains(&times), "{a} then {b}: {times} of 12,000");
            }
        }
    }

    #[test]
    fn the_fewer_of_the_two_is_chosen_and_both_are_scored() {
        let mut fleet = Fleet::of(2);
        fleet.in_flight([5, 4]);
        let mut policy = PowerOfTwo::new(1);
        for seq in 1..20 {
            let decision = ask(&mut policy, seq, &fleet.workers);
            assert_eq!((decision.chosen(), decision.reason()), (Some(1), "fewer_of_two"));
            assert_eq!(decision.scores(), [Some(-5.0), Some(-4.0)]);
        }
    }

    #[test]
    fn a_tie_goes_to_the_first_drawn_so_that_idle_workers_share() {
        let fleet = Fleet::of(2);
        let (mut policy, mut twin) = (PowerOfTwo::new(9), PowerOfTwo::new(9));
        let mut counts = [0; 2];
        for seq in 1..=200 {
            let chosen = ask(&mut policy, seq, &fleet.workers).chosen().expect("chose");
            assert_eq!(chosen, twin.draw(2).0);
            counts[chosen] += 1;
        }
        assert!(counts.iter().all(|&count| count > 70), "{counts:?}");
    }

    #[test]
    fn the_busiest_worker_never_gets_a_request() {
        let mut fleet = Fleet::of(5);
        fleet.in_flight([1, 2, 90, 3, 4]);
        let mut policy = PowerOfTwo::new(1);
        assert!((1..=500).all(|seq| ask(&mut policy, seq, &fleet.workers).chosen() != Some(2)));
    }

    #[test]
    fn one_worker_needs_no_draw() {
        let decision = ask(&mut PowerOfTwo::new(1), 1, &Fleet::of(1).workers);
        assert_eq!((decision.chosen(), decision.reason()), (Some(0), "only_one"));
    }
}
