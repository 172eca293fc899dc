//! `shortest_queue`: the worker with the fewest requests in flight through this router.
//!
//! Ties go to the least recently chosen, then to the lowest id, so that idle workers take turns and a cold fleet fills evenly.
//! What other routers or clients send there is not counted. An extension: sglang-router never had a policy of this name.
//! Deliberately not here: the server's own queue, and the work in a request.

use crate::decision::Decision;
use crate::policy::Policy;
use crate::registry::PolicySpec;
use crate::view::{RequestView, Time, Workers};

/// See the module.
#[derive(Debug, Default)]
pub struct ShortestQueue;

impl ShortestQueue {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "shortest_queue",
        about: "the worker with the fewest requests in flight through this router",
        build: |_| Box::new(Self),
    };
}

impl Policy for ShortestQueue {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    fn choose(&mut self, _now: Time, _request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        choose_least_loaded(workers, out, "fewest_in_flight");
    }
}

/// Chooses the least loaded worker and scores each by its load, negated.
pub(crate) fn choose_least_loaded(workers: &Workers<'_>, out: &mut Decision, reason: &'static str) {
    for (index, worker) in workers.iter().enumerate() {
        out.score(index, -f64::from(worker.in_flight_requests));
    }
    if let Some(index) = workers.least_loaded(|_| true) {
        out.choose(index, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask};
    use crate::view::WorkerId;

    #[test]
    fn takes_the_fewest_then_the_least_recent_then_the_lowest_id() {
        let mut fleet = Fleet::of(4);
        fleet.in_flight([3, 1, 1, 1]);
        fleet.last_chosen([1, 9, 4, 4]);
        let decision = ask(&mut ShortestQueue, 10, &fleet.workers);
        assert_eq!((decision.chosen(), decision.reason()), (Some(2), "fewest_in_flight"));
        assert_eq!(decision.scores(), [Some(-3.0), Some(-1.0), Some(-1.0), Some(-1.0)]);
        fleet.workers.swap(2, 3);
        assert_eq!(fleet.workers[3].id, WorkerId(2));
        assert_eq!(ask(&mut ShortestQueue, 10, &fleet.workers).chosen(), Some(3));
    }

    #[test]
    fn sequential_requests_take_turns() {
        let mut fleet = Fleet::of(5);
        let mut counts = [0; 5];
        for _ in 0..500 {
            let index = fleet.route(&mut ShortestQueue);
            counts[index] += 1;
            fleet.workers[index].in_flight_requests -= 1;
        }
        assert_eq!(counts, [100; 5]);
    }

    #[test]
    fn a_burst_fills_all_evenly() {
        let mut fleet = Fleet::of(4);
        for _ in 0..18 {
            fleet.route(&mut ShortestQueue);
        }
        let mut loads: Vec<_> = fleet.workers.iter().map(|w| w.in_flight_requests).collect();
        loads.sort_unstable();
        assert_eq!(loads, [4, 4, 5, 5]);
    }
}
