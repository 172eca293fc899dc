//! `peak_ewma`: the worker where a request is likely to wait least, by how long answers took lately and how many are in flight.
//!
//! As in Finagle: a worker costs its average latency times its requests in flight, this one included, and the least costly takes
//! the request. The average is *peak-sensitive*: an answer slower than it replaces it at once, a faster one only counts as much
//! as time has passed since the last, and it fades while nothing is heard, so that a worker that was slow is tried again. All
//! with a time constant of 10 s. It never fades below the least that any worker shown was last known to have: after a quiet
//! time they are alike, and requests in flight decide.
//! Where it differs, on purpose: all workers are compared, not two drawn at random, as every choice is counted before the next
//! is made and nobody can herd. The latency is that of the first token, which is where a worker's queue shows; how long an
//! answer goes on is up to the request. A plain answer has no first token but its end. What was not successful only counts if
//! it is a new peak: a worker that fails quickly must not look quick.
//! A worker that has not answered yet counts as quick as the quickest, so that it is tried at once and not by all; if nobody
//! has answered, requests in flight alone decide. Ties go to the least recently chosen.
//! Deliberately not here: the prompt, what the servers say.

use std::collections::BTreeSet;

use crate::decision::Decision;
use crate::policy::{Event, Needs, Policy};
use crate::registry::PolicySpec;
use crate::view::{RequestView, Time, WorkerId, WorkerView, Workers};

/// Time in which a latency fades to 1/e.
const DECAY_US: f64 = 10_000_000.0;
/// Requests remembered that have a first token and have not ended. Of more the oldest are forgotten, and their end counts.
const MAX_BEGUN: usize = 1 << 16;
/// Cost of a request where nobody has answered; any number, as it is the same for all.
const UNKNOWN_US: f64 = 1.0;

/// See the module.
#[derive(Debug, Default)]
pub struct PeakEwma {
    /// By slot; `None` before the first answer.
    latencies: Vec<Option<Latency>>,
    /// [`RequestView::seq`] of those that have a first token.
    begun: BTreeSet<u64>,
    // Reused: of each worker shown.
    expected_us: Vec<Option<f64>>,
}

#[derive(Clone, Copy, Debug)]
struct Latency {
    us: f64,
    at: Time,
}

impl Latency {
    /// What is left of a latency at `now`, as a part of it.
    fn left(&self, now: Time) -> f64 {
        (-(now.us.saturating_sub(self.at.us) as f64) / DECAY_US).exp()
    }
}

impl PeakEwma {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "peak_ewma",
        about: "the worker with the least of average latency, peaks counting at once, times requests in flight",
        build: |_| Box::new(Self::default()),
    };

    fn latency_mut(&mut self, worker: WorkerId) -> &mut Option<Latency> {
        let slot = worker.0 as usize;
        if self.latencies.len() <= slot {
            self.latencies.resize(slot + 1, None);
        }
        &mut self.latencies[slot]
    }

    fn took(&mut self, now: Time, worker: WorkerId, took_us: u64, ok: bool) {
        let took_us = took_us as f64;
        let latency = self.latency_mut(worker);
        let us = match *latency {
            None if ok => took_us,
            Some(old) if took_us >= old.us => took_us,
            Some(old) if ok => old.us * old.left(now) + took_us * (1.0 - old.left(now)),
            // How long a good answer takes is not known from a failure.
            None | Some(_) => return,
        };
        *latency = Some(Latency { us, at: now });
    }

    /// Writes what is expected of each worker to `expected_us`; the quickest of those known.
    fn expect(&mut self, now: Time, workers: &Workers<'_>) -> f64 {
        let latencies = &self.latencies;
        let known = |worker: &WorkerView| latencies.get(worker.id.0 as usize).copied().flatten();
        let floor_us =
            workers.iter().filter_map(known).map(|latency| latency.us).reduce(f64::min).unwrap_or(0.0);
        let expected =
            |worker: &WorkerView| known(worker).map(|latency| (latency.us * latency.left(now)).max(floor_us));
        self.expected_us.clear();
        self.expected_us.extend(workers.iter().map(expected));
        self.expected_us.iter().flatten().copied().reduce(f64::min).unwrap_or(UNKNOWN_US)
    }
}

impl Policy for PeakEwma {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    fn needs(&self) -> Needs {
        Needs { request_events: true, ..Needs::default() }
    }

    /// Scores are the costs in microseconds, negated; without any latency known the load, negated.
    fn choose(&mut self, now: Time, _request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        let quickest_us = self.expect(now, workers);
        let mut best = (0, f64::INFINITY, u64::MAX);
        out.name_parts(&["expected_us"]);
        for (index, (worker, expected_us)) in workers.iter().zip(&self.expected_us).enumerate() {
            let cost = expected_us.unwrap_or(quickest_us) * (f64::from(worker.in_flight_requests) + 1.0);
            out.score(index, -cost);
            out.parts(index, &[expected_us.unwrap_or(f64::NAN)]);
            if cost < best.1 || (cost <= best.1 && worker.last_chosen_seq < best.2) {
                best = (index, cost, worker.last_chosen_seq);
            }
        }
        out.choose(best.0, "least_expected_wait");
    }

    fn observe(&mut self, now: Time, event: &Event) {
        match *event {
            Event::FirstToken { seq, worker, ttft_us } => {
                self.took(now, worker, ttft_us, true);
                self.begun.insert(seq);
                if self.begun.len() > MAX_BEGUN {
                    self.begun.pop_first();
                }
            }
            Event::Ended { seq, worker, latency_us, ok, .. } => {
                if !self.begun.remove(&seq) {
                    self.took(now, worker, latency_us, ok);
                }
            }
            Event::Joined { worker } | Event::Left { worker } => *self.latency_mut(worker) = None,
            Event::Routed { .. }
            | Event::CacheEmptied { .. }
            | Event::Loaded { .. }
            | Event::LoadUnknown { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fleet;

    const SECOND: u64 = 1_000_000;

    fn ended(seq: u64, worker: u32, latency_us: u64, ok: bool) -> Event {
        Event::Ended {
            seq,
            worker: WorkerId(worker),
            latency_us,
            ok,
            prompt_tokens: None,
            completion_tokens: None,
            cached_tokens: None,
        }
    }

    fn first_token(seq: u64, worker: u32, ttft_us: u64) -> Event {
        Event::FirstToken { seq, worker: WorkerId(worker), ttft_us }
    }

    /// What `policy` says at `now_us` to one more request.
    fn ask(policy: &mut PeakEwma, now_us: u64, fleet: &Fleet) -> Decision {
        let workers = Workers::new(&fleet.workers).expect("not empty");
        let mut decision = Decision::default();
        decision.clear(workers.len());
        policy.choose(Time { us: now_us }, &RequestView::default(), &workers, &mut decision);
        decision
    }

    fn told(events: &[(u64, Event)]) -> PeakEwma {
        let mut policy = PeakEwma::default();
        for (us, event) in events {
            policy.observe(Time { us: *us }, event);
        }
        policy
    }

    fn costs(policy: &mut PeakEwma, now_us: u64, fleet: &Fleet) -> Vec<i64> {
        let decision = ask(policy, now_us, fleet);
        decision.scores().iter().map(|score| -score.expect("scored").round() as i64).collect()
    }

    #[test]
    fn the_cost_is_latency_times_requests_and_the_least_is_chosen() {
        let mut fleet = Fleet::of(3);
        let events = [(0, 400), (1, 100), (2, 150)].map(|(worker, us)| (0, ended(1, worker, us, true)));
        let mut policy = told(&events);
        fleet.in_flight([0, 4, 1]);
        assert_eq!(costs(&mut policy, 0, &fleet), [400, 500, 300]);
        let decision = ask(&mut policy, 0, &fleet);
        assert_eq!((decision.chosen(), decision.reason()), (Some(2), "least_expected_wait"));
    }

    #[test]
    fn a_peak_counts_at_once_and_a_quick_answer_only_with_time() {
        let fleet = Fleet::of(1);
        let mut policy =
            told(&[(0, ended(1, 0, 100, true)), (0, ended(2, 0, 900, true)), (0, ended(3, 0, 100, true))]);
        assert_eq!(costs(&mut policy, 0, &fleet), [900]);
        // A time constant later 1/e of the peak is left, and the rest is what is seen now.
        policy.observe(Time { us: 10 * SECOND }, &ended(4, 0, 100, true));
        assert_eq!(costs(&mut policy, 10 * SECOND, &fleet), [394]);
    }

    #[test]
    fn a_worker_that_was_slow_is_tried_again() {
        let mut fleet = Fleet::of(2);
        let mut policy = told(&[(0, ended(1, 0, 60 * SECOND, true)), (0, ended(2, 1, SECOND, true))]);
        let mut tried_after_s = None;
        for second in 1..300 {
            // The other one goes on answering in a second.
            policy.observe(Time { us: second * SECOND }, &ended(second + 2, 1, SECOND, true));
            fleet.last_chosen([1, second]);
            if ask(&mut policy, second * SECOND, &fleet).chosen() == Some(0) {
                tried_after_s = Some(second);
                break;
            }
        }
        // 10 s times ln 60.
        assert_eq!(tried_after_s, Some(41));
    }

    #[test]
    fn after_a_quiet_time_the_worker_that_was_not_heard_of_does_not_get_everything() {
        let mut fleet = Fleet::of(2);
        let mut policy = told(&[(0, ended(1, 0, 200_000, true)), (0, ended(2, 1, 200_000, true))]);
        policy.observe(Time { us: 300 * SECOND }, &ended(3, 0, 200_000, true));
        fleet.in_flight([0, 1]);
        assert_eq!(ask(&mut policy, 300 * SECOND, &fleet).chosen(), Some(0));
        assert_eq!(costs(&mut policy, 300 * SECOND, &fleet), [200_000, 400_000]);
    }

    #[test]
    fn of_a_stream_the_first_token_counts_and_of_a_plain_answer_the_end() {
        let fleet = Fleet::of(2);
        let mut policy =
            told(&[(0, first_token(1, 0, 200)), (0, ended(1, 0, 90_000, true)), (0, ended(2, 1, 700, true))]);
        assert_eq!(costs(&mut policy, 0, &fleet), [200, 700]);
        assert!(policy.begun.is_empty());
    }

    #[test]
    fn a_quick_failure_is_no_quick_worker_and_a_time_out_is_a_slow_one() {
        let fleet = Fleet::of(3);
        let mut policy = told(&[
            (0, ended(1, 0, 500, true)),
            (0, ended(2, 0, 1, false)),
            (0, ended(3, 1, 500, true)),
            (0, ended(4, 1, 9_000, false)),
            (0, ended(5, 2, 1, false)),
        ]);
        assert_eq!(costs(&mut policy, 0, &fleet), [500, 9_000, 500]);
    }

    #[test]
    fn a_worker_not_known_is_as_quick_as_the_quickest_and_not_everybodys() {
        let mut fleet = Fleet::of(3);
        let mut policy = told(&[(0, ended(1, 0, 300, true)), (0, ended(2, 1, 200, true))]);
        fleet.in_flight([1, 1, 0]);
        assert_eq!(costs(&mut policy, 0, &fleet), [600, 400, 200]);
        fleet.in_flight([1, 1, 2]);
        assert_eq!(ask(&mut policy, 0, &fleet).chosen(), Some(1));
    }

    #[test]
    fn where_nobody_has_answered_it_is_the_shortest_queue() {
        let mut fleet = Fleet::of(4);
        let mut policy = PeakEwma::default();
        for _ in 0..18 {
            fleet.route(&mut policy);
        }
        let mut in_flight: Vec<_> = fleet.workers.iter().map(|w| w.in_flight_requests).collect();
        in_flight.sort_unstable();
        assert_eq!(in_flight, [4, 4, 5, 5]);
    }

    #[test]
    fn a_slot_that_another_worker_has_now_is_not_known() {
        let fleet = Fleet::of(2);
        let mut policy = told(&[(0, ended(1, 0, 300, true)), (0, ended(2, 1, 200, true))]);
        policy.observe(Time::default(), &Event::Left { worker: WorkerId(1) });
        assert_eq!(costs(&mut policy, 0, &fleet), [300, 300]);
    }

    #[test]
    fn streams_that_never_end_take_bounded_memory() {
        let mut policy = PeakEwma::default();
        for seq in 0..2 * MAX_BEGUN as u64 {
            policy.observe(Time::default(), &first_token(seq, 0, 1));
        }
        assert_eq!((policy.begun.len(), policy.begun.first()), (MAX_BEGUN, Some(&(MAX_BEGUN as u64))));
    }
}
