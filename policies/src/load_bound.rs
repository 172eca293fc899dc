//! How many requests one worker may have, as a multiple of its share of all.
//!
//! Rule: with a factor of at least 1 the least loaded worker is always within the bound, so that somebody takes the request.
//! The request that is to be placed counts on both sides, and the bound is a whole number (Mirrokni, Thorup, Zadimoghaddam).
//! Deliberately not here: what is done about a worker above it.

use crate::view::Workers;

/// The share that each worker would have with one request more.
pub(crate) fn share(workers: &Workers<'_>) -> f64 {
    let in_flight: u64 = workers.iter().map(|worker| u64::from(worker.in_flight_requests)).sum();
    (in_flight + 1) as f64 / workers.len() as f64
}

/// The most that a worker may have, the new request included, where `factor` times the `share` is allowed.
pub(crate) fn of(share: f64, factor: f64) -> f64 {
    (share * factor).ceil()
}

/// Whether a worker may have one request more.
pub(crate) fn admits(bound: f64, in_flight_requests: u32) -> bool {
    f64::from(in_flight_requests) + 1.0 <= bound
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fleet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_least_loaded_is_within_the_bound(
            in_flight in prop::collection::vec(0..100_000u32, 1..40),
            factor in 1.0..4.0f64,
        ) {
            let mut fleet = Fleet::of(in_flight.len() as u32);
            for (worker, &count) in fleet.workers.iter_mut().zip(&in_flight) {
                worker.in_flight_requests = count;
            }
            let workers = Workers::new(&fleet.workers).expect("not empty");
            let fewest = in_flight.iter().copied().min().expect("not empty");
            prop_assert!(admits(of(share(&workers), factor), fewest));
        }
    }

    #[test]
    fn the_bound_counts_the_request_and_is_rounded_up() {
        let mut fleet = Fleet::of(4);
        let mut bound = |in_flight: [u32; 4], factor| {
            fleet.in_flight(in_flight);
            of(share(&Workers::new(&fleet.workers).expect("not empty")), factor) as u64
        };
        assert_eq!([bound([0; 4], 1.25), bound([0; 4], 1.0), bound([3, 0, 0, 0], 1.0)], [1; 3]);
        assert_eq!([bound([4, 0, 0, 0], 1.0), bound([25, 25, 25, 24], 1.25)], [2, 32]);
    }
}
