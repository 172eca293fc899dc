//! `consistent_hashing`: the same key to the same worker, by a hash ring, without remembering any key.
//!
//! As in sglang-router 0.3.2, the first of these that is there decides: the worker asked for (`X-SMG-Target-Worker`), the
//! routing key on the ring, who asks (`authorization`, `x-forwarded-for`, `cookie`) on the ring, and else any worker. A worker
//! that is asked for and may not take the request is not replaced by another one: nothing is chosen.
//! Where it differs, on purpose: a target counts all workers in the order in which they joined, where sglang-router counts
//! those available, in no order; and the ring is always there, where sglang-router looks it up under a name that most workers
//! do not have and falls back to a modulo, by which every key moves when a worker comes or goes.
//! A hot key stays where it is, as there, unless a load factor is given (`--consistent-hash-load-factor`): then a worker that
//! would have more than that many times its share of the requests in flight is passed over, clockwise, so that a key overflows
//! to always the same next workers (Mirrokni, Thorup, Zadimoghaddam: consistent hashing with bounded loads). The worker asked
//! for is not bounded. Deliberately not here: weights.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::decision::Decision;
use crate::load_bound;
use crate::policy::{Event, Needs, Policy};
use crate::registry::{PolicyConfig, PolicySpec};
use crate::ring::Ring;
use crate::view::{RequestView, Time, Workers};

/// See the module.
#[derive(Debug)]
pub struct ConsistentHashing {
    ring: Ring,
    rng: ChaCha8Rng,
    /// See [`PolicyConfig::consistent_load_factor`]; `None`: load does not matter.
    load_factor: Option<f64>,
}

impl ConsistentHashing {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "consistent_hashing",
        about: "the same routing key (or client) to the same worker, by a hash ring",
        build: |config| Box::new(Self::new(config)),
    };

    /// The policy with the load factor of `config`, and its seed, which only requests without any key depend on.
    pub fn new(config: &PolicyConfig) -> Self {
        Self {
            ring: Ring::default(),
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            load_factor: Some(config.consistent_load_factor).filter(|&factor| factor >= 1.0),
        }
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
        let keyed = request.key_hash().map(|hash| (hash, "routing_key"));
        let keyed = keyed.or_else(|| request.client_hash.map(|hash| (hash, "client")));
        if let Some((hash, reason)) = keyed {
            let bound = self.load_factor.map(|factor| load_bound::of(load_bound::share(workers), factor));
            let in_flight = |index| workers.get(index).map_or(u32::MAX, |worker| worker.in_flight_requests);
            let takes = |index| {
                let takes = bound.is_none_or(|bound| load_bound::admits(bound, in_flight(index)));
                if !takes {
                    out.mark(index, "over_limit");
                }
                takes
            };
            if let Some((index, passed_over)) = self.ring.find(hash, takes) {
                return out.choose(index, if passed_over { "next_on_ring" } else { reason });
            }
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

    fn seeded(seed: u64) -> ConsistentHashing {
        ConsistentHashing::new(&PolicyConfig { seed, ..PolicyConfig::default() })
    }

    fn bounded(consistent_load_factor: f64) -> ConsistentHashing {
        ConsistentHashing::new(&PolicyConfig { consistent_load_factor, ..PolicyConfig::default() })
    }

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
        let (mut one, mut other) = (seeded(1), seeded(2));
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
        let mut policy = seeded(1);
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
        let mut policy = seeded(1);
        let target = RequestView { target: Some(3), ..keyed("k") };
        // The first two are away, so the fourth is the second that is shown.
        assert_eq!(ask_for(&mut policy, &target, &fleet.workers[2..]).chosen(), Some(1));
        assert_eq!(ask_for(&mut policy, &target, &fleet.workers[..3]).chosen(), None);
    }

    #[test]
    fn a_worker_that_left_makes_room_and_takes_its_keys_when_it_is_back_in_another_slot() {
        let mut fleet = Fleet::of(4);
        let mut policy = seeded(1);
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

    /// A hundred requests of one key that none has ended: in flight at each worker, most first.
    fn in_flight_of_a_hot_key(policy: &mut ConsistentHashing) -> Vec<u32> {
        let mut fleet = Fleet::of(4);
        for _ in 0..100 {
            let index = ask_for(policy, &keyed("hot"), &fleet.workers).chosen().expect("chose");
            fleet.workers[index].in_flight_requests += 1;
        }
        let mut in_flight: Vec<_> = fleet.workers.iter().map(|w| w.in_flight_requests).collect();
        in_flight.sort_unstable_by(|a, b| b.cmp(a));
        in_flight
    }

    #[test]
    fn a_hot_key_stays_where_it_is_unless_loads_are_bounded() {
        assert_eq!(in_flight_of_a_hot_key(&mut bounded(0.0)), [100, 0, 0, 0]);
        // 1.25 times 25, rounded up; the bound grew with what was there.
        assert_eq!(in_flight_of_a_hot_key(&mut bounded(1.25)), [32, 31, 31, 6]);
        assert_eq!(in_flight_of_a_hot_key(&mut bounded(1.0)), [25; 4]);
    }

    #[test]
    fn a_key_overflows_to_the_same_worker_and_comes_back() {
        let mut fleet = Fleet::of(4);
        let mut policy = bounded(1.25);
        let mut ask = |fleet: &Fleet| {
            let decision = ask_for(&mut policy, &keyed("k"), &fleet.workers);
            (decision.chosen().expect("chose"), decision.reason())
        };
        let (owner, _) = ask(&fleet);
        fleet.workers[owner].in_flight_requests = 2;
        let (next, reason) = ask(&fleet);
        assert_eq!((next != owner, reason), (true, "next_on_ring"));
        assert_eq!(ask(&fleet), (next, reason));
        fleet.workers[owner].in_flight_requests = 0;
        assert_eq!(ask(&fleet), (owner, "routing_key"));
    }

    #[test]
    fn a_target_is_obeyed_whatever_its_load() {
        let mut fleet = Fleet::of(4);
        fleet.in_flight([0, 0, 90, 0]);
        let target = RequestView { target: Some(2), ..RequestView::default() };
        assert_eq!(ask_for(&mut bounded(1.25), &target, &fleet.workers).chosen(), Some(2));
    }
}
