//! `consistent_hashing`: the same key to the same worker, by a hash ring, without remembering any key.
//!
//! As in sglang-router 0.3.2, the first of these that is there decides: the worker asked for (`X-SMG-Target-Worker`), the
//! routing key on the ring, who asks (`authorization`, `x-forwarded-for`, `cookie`) on the ring, and else any worker. A worker
//! that is asked for and may not take the request is not replaced by another one: nothing is chosen.
//! Where it differs, on purpose: a target counts all workers in the order in which they joined, where sglang-router counts
//! those available, in no order; and the ring is always there, where sglang-router looks it up under a name that most workers
//! do not have and falls back to a modulo, by which every key moves when a worker comes or goes.
//! Deliberately not here: load. A hot key stays where it is.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::decision::Decision;
use crate::hash;
use crate::policy::{Event, Needs, Policy};
use crate::registry::PolicySpec;
use crate::ring::Ring;
use crate::view::{RequestView, Time, Workers};

/// See the module.
#[derive(Debug)]
pub struct ConsistentHashing {
    ring: Ring,
    rng: ChaCha8Rng,
}

impl ConsistentHashing {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "consistent_hashing",
        about: "the same routing key (or client) to the same worker, by a hash ring",
        build: |config| Box::new(Self::new(config.seed)),
    };

    /// The policy with this seed, which only requests without any key depend on.
    pub fn new(seed: u64) -> Self {
        Self { ring: Ring::default(), rng: ChaCha8Rng::seed_from_u64(seed) }
    }
}

impl Policy for ConsistentHashing {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    fn needs(&self) -> Needs {
        Needs { client_hash: true, target: true, ..Needs::default() }
    }

    /// Does not score.
    fn choose(&mut self, _now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        if let Some(target) = request.target {
            if let Some(index) = workers.iter().position(|worker| worker.position == target) {
                out.choose(index, "target");
            }
            return;
        }
        self.ring.show(workers);
        let keyed = request.routing_key.map(|key| (hash::name_hash(key.as_bytes()), "routing_key"));
        let keyed = keyed.or_else(|| request.client_hash.map(|hash| (hash, "client")));
        if let Some((hash, reason)) = keyed
            && let Some((index, _)) = self.ring.find(hash, |_| true)
        {
            return out.choose(index, reason);
        }
        // Drawn as u64, so that 32-bit hosts decide the same.
        out.choose(self.rng.random_range(0..workers.len() as u64) as usize, "no_key");
    }

    fn observe(&mut self, _now: Time, event: &Event) {
        if let Event::Left { worker } = event {
            self.ring.remove(*worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask_for};
    use crate::view::{WorkerId, WorkerView};

    fn keyed(key: &str) -> RequestView<'_> {
        RequestView { seq: 1, routing_key: Some(key), ..RequestView::default() }
    }

    fn chosen(policy: &mut ConsistentHashing, request: &RequestView<'_>, workers: &[WorkerView]) -> u64 {
        let index = ask_for(policy, request, workers).chosen().expect("chose");
        workers[index].url_hash
    }

    #[test]
    fn a_key_goes_to_its_worker_in_every_router_and_after_every_restart() {
        let fleet = Fleet::of(5);
        let (mut one, mut other) = (ConsistentHashing::new(1), ConsistentHashing::new(2));
        for key in 0..100 {
            let key = format!("user-{key}");
            assert_eq!(
                chosen(&mut one, &keyed(&key), &fleet.workers),
                chosen(&mut other, &keyed(&key), &fleet.workers)
            );
        }
    }

    #[test]
    fn target_then_key_then_client_then_chance() {
        let fleet = Fleet::of(5);
        let mut policy = ConsistentHashing::new(1);
        let mut reason = |request| ask_for(&mut policy, &request, &fleet.workers).reason();
        let all = RequestView { target: Some(3), client_hash: Some(9), ..keyed("k") };
        assert_eq!(reason(all), "target");
        assert_eq!(reason(RequestView { target: None, ..all }), "routing_key");
        assert_eq!(reason(RequestView { target: None, routing_key: None, ..all }), "client");
        assert_eq!(reason(RequestView::default()), "no_key");
    }

    #[test]
    fn a_target_counts_all_workers_and_is_not_replaced() {
        let fleet = Fleet::of(4);
        let mut policy = ConsistentHashing::new(1);
        let target = RequestView { target: Some(3), ..keyed("k") };
        // The first two are away, so the fourth is the second that is shown.
        assert_eq!(ask_for(&mut policy, &target, &fleet.workers[2..]).chosen(), Some(1));
        assert_eq!(ask_for(&mut policy, &target, &fleet.workers[..3]).chosen(), None);
    }

    #[test]
    fn a_worker_that_left_makes_room_and_takes_its_keys_when_it_is_back_in_another_slot() {
        let mut fleet = Fleet::of(4);
        let mut policy = ConsistentHashing::new(1);
        let keys: Vec<_> = (0..200).map(|key| format!("user-{key}")).collect();
        let owners = |policy: &mut ConsistentHashing, workers: &[WorkerView]| -> Vec<u64> {
            keys.iter().map(|key| chosen(policy, &keyed(key), workers)).collect()
        };
        let before = owners(&mut policy, &fleet.workers);
        policy.observe(Time::default(), &Event::Left { worker: WorkerId(1) });
        let left = fleet.workers.remove(1);
        owners(&mut policy, &fleet.workers);
        fleet.workers.push(WorkerView { id: WorkerId(9), ..left });
        assert_eq!(owners(&mut policy, &fleet.workers), before);
    }
}
