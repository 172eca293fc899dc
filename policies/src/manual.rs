//! `manual`: a routing key stays with the worker that got it first.
//!
//! As in sglang-router 0.3.2: the key (`X-SMG-Routing-Key`) is remembered with up to two workers, of which the first that may
//! take the request is used; if none may, a new one is assigned and added, and of three the first is dropped. So a key comes
//! back to a worker that was away for a while. A key not seen for `max_idle_s` is forgotten (0: never). A request without a key
//! goes where a new key would, and nothing is remembered. Keys are never moved because a worker joined.
//! Where it differs, on purpose: at most 1,048,576 keys are remembered (about 100 MB), the key idle longest makes room, where
//! sglang-router's map has no bound; idle keys go at once and not at the next sweep; `min_group` counts the keys remembered for
//! a worker, not those with a request in flight; and ties go to the least loaded, then to the least recently chosen, not to
//! chance. A worker is known by its URL, whatever its slot.
//! Deliberately not here: moving keys for balance; a busy key stays where it is.

use std::cmp::Reverse;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::decision::Decision;
use crate::policy::Policy;
use crate::registry::{AssignmentMode, PolicyConfig, PolicySpec};
use crate::shortest_queue::choose_least_loaded;
use crate::sticky::{MAX_KEYS, StickyKeys};
use crate::view::{RequestView, Time, Workers};

/// See the module.
#[derive(Debug)]
pub struct Manual {
    keys: StickyKeys,
    mode: AssignmentMode,
    rng: ChaCha8Rng,
}

impl Manual {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "manual",
        about: "a routing key stays with the worker that got it first",
        build: |config| Box::new(Self::new(config)),
    };

    /// The policy with the assignment mode, idle time and seed of `config`.
    pub fn new(config: &PolicyConfig) -> Self {
        Self {
            keys: StickyKeys::new(MAX_KEYS, config.max_idle_s),
            mode: config.assignment_mode,
            rng: ChaCha8Rng::seed_from_u64(config.seed),
        }
    }

    /// Chooses as for a key that nobody has.
    fn assign(&mut self, workers: &Workers<'_>, out: &mut Decision, reason: &'static str) {
        match self.mode {
            // Drawn as u64, so that 32-bit hosts decide the same.
            AssignmentMode::Random => {
                out.choose(self.rng.random_range(0..workers.len() as u64) as usize, reason);
            }
            AssignmentMode::MinLoad => choose_least_loaded(workers, out, reason),
            AssignmentMode::MinGroup => {
                let mut best = None;
                for (index, worker) in workers.iter().enumerate() {
                    let keys = self.keys.keys_of(worker.url_hash);
                    out.score(index, -f64::from(keys));
                    let rank = Reverse((keys, worker.in_flight_requests, worker.last_chosen_seq, worker.id));
                    best = best.max(Some((rank, index)));
                }
                if let Some((_, index)) = best {
                    out.choose(index, reason);
                }
            }
        }
    }
}

impl Policy for Manual {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    /// Scores where somebody is assigned: by load with `min_load`, by keys with `min_group`, both negated.
    fn choose(&mut self, now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        let Some(key) = request.key_hash() else {
            return self.assign(workers, out, "no_key");
        };
        let known = self.keys.workers(key, now);
        for url_hash in known.into_iter().flatten().flatten() {
            if let Some(index) = workers.iter().position(|worker| worker.url_hash == url_hash) {
                self.keys.used(key, url_hash);
                return out.choose(index, "sticky");
            }
        }
        self.assign(workers, out, if known.is_some() { "reassigned" } else { "assigned" });
        if let Some(worker) = out.chosen().and_then(|index| workers.get(index)) {
            self.keys.assign(key, worker.url_hash, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask_for};
    use crate::view::{WorkerId, WorkerView};

    fn policy(assignment_mode: AssignmentMode) -> Manual {
        Manual::new(&PolicyConfig { assignment_mode, seed: 5, ..PolicyConfig::default() })
    }

    fn ask(policy: &mut Manual, key: &str, workers: &[WorkerView]) -> (u64, &'static str) {
        let request = RequestView { seq: 1, routing_key: Some(key), ..RequestView::default() };
        let decision = ask_for(policy, &request, workers);
        (workers[decision.chosen().expect("chose")].url_hash, decision.reason())
    }

    #[test]
    fn a_key_stays_whatever_the_load_and_whoever_joins() {
        let mut fleet = Fleet::of(4);
        let mut policy = policy(AssignmentMode::MinLoad);
        let (owner, reason) = ask(&mut policy, "a", &fleet.workers);
        assert_eq!(reason, "assigned");
        for worker in &mut fleet.workers {
            worker.in_flight_requests = if worker.url_hash == owner { 99 } else { 0 };
        }
        assert_eq!(ask(&mut policy, "a", &fleet.workers), (owner, "sticky"));
        fleet.workers.insert(0, WorkerView { id: WorkerId(9), url_hash: 999, ..WorkerView::default() });
        assert_eq!(ask(&mut policy, "a", &fleet.workers), (owner, "sticky"));
    }

    #[test]
    fn a_key_goes_to_a_second_worker_while_its_own_is_away_and_comes_back() {
        let fleet = Fleet::of(4);
        let mut policy = policy(AssignmentMode::Random);
        let (first, _) = ask(&mut policy, "a", &fleet.workers);
        let without_first: Vec<_> = fleet.workers.iter().copied().filter(|w| w.url_hash != first).collect();
        let (second, reason) = ask(&mut policy, "a", &without_first);
        assert_eq!(reason, "reassigned");
        assert_eq!(ask(&mut policy, "a", &without_first), (second, "sticky"));
        assert_eq!(ask(&mut policy, "a", &fleet.workers), (first, "sticky"));
        // The slot is another one after it left and joined again.
        let mut rejoined = fleet.workers.clone();
        for worker in &mut rejoined {
            worker.id.0 += 10;
        }
        assert_eq!(ask(&mut policy, "a", &rejoined), (first, "sticky"));
    }

    #[test]
    fn min_group_gives_every_worker_as_many_keys() {
        let mut fleet = Fleet::of(4);
        fleet.in_flight([9, 0, 0, 0]);
        let mut policy = policy(AssignmentMode::MinGroup);
        for key in 0..40 {
            ask(&mut policy, &format!("key-{key}"), &fleet.workers);
        }
        assert!(fleet.workers.iter().all(|worker| policy.keys.keys_of(worker.url_hash) == 10));
    }

    #[test]
    fn no_key_is_assigned_and_not_remembered() {
        let fleet = Fleet::of(3);
        let mut policy = policy(AssignmentMode::MinGroup);
        for _ in 0..9 {
            let decision = ask_for(&mut policy, &RequestView::default(), &fleet.workers);
            assert_eq!((decision.chosen(), decision.reason()), (Some(0), "no_key"));
            assert_eq!(decision.scores(), [Some(0.0); 3]);
        }
    }

    #[test]
    fn random_assignment_follows_the_seed_and_reaches_everybody() {
        let fleet = Fleet::of(4);
        let draw = |mut policy: Manual| -> Vec<u64> {
            (0..100).map(|key| ask(&mut policy, &format!("key-{key}"), &fleet.workers).0).collect()
        };
        let drawn = draw(policy(AssignmentMode::Random));
        assert_eq!(drawn, draw(policy(AssignmentMode::Random)));
        assert!(fleet.workers.iter().all(|worker| drawn.contains(&worker.url_hash)));
    }
}
