//! A hash ring: each worker stands at 150 places, a key goes clockwise to the first worker that may take it.
//!
//! Rule: a worker's places follow from the hash of its URL alone, so that they are the same in every router, over restarts and
//! in whatever slot it is; a worker that comes or goes moves only the keys of its own share. A worker that is not shown keeps
//! its places until it leaves the fleet, and its keys go on clockwise meanwhile. The ring is cut into equal arcs, each a sorted
//! list, so that a worker that joins or leaves moves a few places in its 150 arcs and not the whole ring.
//! Own code and no crate: the slots have to be followed, the walk has to ask about load, and what is left of a ring is short.
//! Bounded by the fleet: 150 places of 24 bytes a worker. Deliberately not here: weights, what the keys are.

use crate::hash;
use crate::view::{WorkerId, Workers};

/// Places of each worker; sglang-router's number.
pub(crate) const PLACES: u64 = 150;
/// Arcs of the ring, as a power of two: at 512 workers each holds some forty places.
const ARC_BITS: u32 = 11;

/// Workers that join at once and are put in place one by one; with more all arcs are sorted once.
const ONE_BY_ONE: u32 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    /// By the first bits of the hash; each is sorted.
    arcs: Vec<Vec<Place>>,
    /// By slot number.
    slots: Vec<Slot>,
    /// Number of this choice: tells which slots are shown now.
    round: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u64,
    /// Before the slot, so that equal hashes stand in an order that no slot decides.
    url_hash: u64,
    slot: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// `None` if its worker has no places.
    url_hash: Option<u64>,
    /// Index among the workers shown in `round`.
    index: usize,
    round: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Self { arcs: vec![Vec::new(); 1 << ARC_BITS], slots: Vec::new(), round: 0 }
    }
}

impl Ring {
    /// Takes in the workers that are shown for this choice.
    pub(crate) fn show(&mut self, workers: &Workers<'_>) {
        self.round += 1;
        let mut joined = 0;
        for (index, worker) in workers.iter().enumerate() {
            let at = worker.id.0 as usize;
            if self.slots.len() <= at {
                self.slots.resize(at + 1, Slot::default());
            }
            if self.slots[at].url_hash != Some(worker.url_hash) {
                self.remove(worker.id);
                joined += 1;
                self.join(worker.url_hash, worker.id, joined <= ONE_BY_ONE);
            }
            self.slots[at] = Slot { url_hash: Some(worker.url_hash), index, round: self.round };
        }
        if joined > ONE_BY_ONE {
            self.arcs.iter_mut().for_each(|arc| arc.sort_unstable());
        }
    }

    /// Puts a worker's places where they belong, or at the ends of their arcs, to be sorted with many others.
    fn join(&mut self, url_hash: u64, worker: WorkerId, in_order: bool) {
        for place in places_of(url_hash, worker) {
            let arc = &mut self.arcs[arc_of(place.hash)];
            let at = if in_order { arc.partition_point(|other| *other < place) } else { arc.len() };
            arc.insert(at, place);
        }
    }

    /// Takes a worker off the ring.
    pub(crate) fn remove(&mut self, worker: WorkerId) {
        let slot = self.slots.get_mut(worker.0 as usize);
        let Some(url_hash) = slot.and_then(|slot| slot.url_hash.take()) else {
            return;
        };
        for place in places_of(url_hash, worker) {
            let arc = &mut self.arcs[arc_of(place.hash)];
            // In the midst of a batch an arc is not in order.
            if let Some(at) = arc.iter().position(|other| *other == place) {
                arc.remove(at);
            }
        }
    }

    /// Index of the first worker from `key` on that was shown and that `takes` it, and whether another shown one was passed
    /// over for it; `None` if none takes it.
    pub(crate) fn find(&self, key: u64, mut takes: impl FnMut(usize) -> bool) -> Option<(usize, bool)> {
        let (before, from) = self.arcs.split_at(arc_of(key));
        let (arc, after) = from.split_first()?;
        let (late, early) = arc.split_at(arc.partition_point(|place| place.hash < key));
        let onwards = after.iter().chain(before).flatten();
        let mut passed_over = false;
        for place in early.iter().chain(onwards).chain(late) {
            let slot = &self.slots[place.slot as usize];
            if slot.round != self.round {
                continue;
            }
            if takes(slot.index) {
                return Some((slot.index, passed_over));
            }
            passed_over = true;
        }
        None
    }
}

fn arc_of(hash: u64) -> usize {
    (hash >> (u64::BITS - ARC_BITS)) as usize
}

fn places_of(url_hash: u64, worker: WorkerId) -> impl Iterator<Item = Place> {
    (0..PLACES).map(move |number| Place { hash: hash::derived(url_hash, number), url_hash, slot: worker.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fleet;
    use crate::view::WorkerView;

    fn places(ring: &Ring) -> Vec<Place> {
        ring.arcs.iter().flatten().copied().collect()
    }

    fn shown(ring: &mut Ring, workers: &[WorkerView]) {
        ring.show(&Workers::new(workers).expect("not empty"));
    }

    /// URL hash of the worker that each of 2,000 keys goes to.
    fn owners(ring: &mut Ring, workers: &[WorkerView]) -> Vec<u64> {
        shown(ring, workers);
        (0..2_000u64)
            .map(|key| ring.find(hash::name_hash(&key.to_le_bytes()), |_| true).expect("somebody").0)
            .map(|index| workers[index].url_hash)
            .collect()
    }

    #[test]
    fn every_worker_has_about_its_share() {
        let fleet = Fleet::of(8);
        let owners = owners(&mut Ring::default(), &fleet.workers);
        for worker in &fleet.workers {
            let share = owners.iter().filter(|&&url_hash| url_hash == worker.url_hash).count();
            assert!((150..=350).contains(&share), "{share} of 2,000 keys");
        }
    }

    #[test]
    fn the_arcs_in_turn_are_all_places_in_order() {
        let fleet = Fleet::of(40);
        let mut ring = Ring::default();
        shown(&mut ring, &fleet.workers);
        ring.remove(WorkerId(7));
        let places = places(&ring);
        assert!(places.is_sorted() && places.len() == 39 * PLACES as usize);
        for key in [0, 1, u64::MAX, places[17].hash, places[17].hash + 1] {
            let first = places.iter().find(|place| place.hash >= key).unwrap_or(&places[0]);
            assert_eq!(ring.find(key, |_| true).expect("somebody").0, first.slot as usize, "{key:x}");
        }
    }

    #[test]
    fn slots_and_the_order_of_joining_change_nothing() {
        let fleet = Fleet::of(6);
        let mut moved = fleet.workers.clone();
        moved.reverse();
        for (slot, worker) in (10..).zip(&mut moved) {
            worker.id = WorkerId(slot);
        }
        assert_eq!(owners(&mut Ring::default(), &fleet.workers), owners(&mut Ring::default(), &moved));
    }

    #[test]
    fn a_worker_that_is_away_loses_its_own_keys_only_and_gets_them_back() {
        let fleet = Fleet::of(6);
        let mut ring = Ring::default();
        let all = owners(&mut ring, &fleet.workers);
        let gone = fleet.workers[2].url_hash;
        let rest: Vec<_> = fleet.workers.iter().copied().filter(|w| w.url_hash != gone).collect();
        let without = owners(&mut ring, &rest);
        for (before, after) in all.iter().zip(&without) {
            assert!(if *before == gone { *after != gone } else { after == before });
        }
        assert_eq!(owners(&mut ring, &fleet.workers), all);
        // Whether it is off the ring or only not shown makes no difference.
        ring.remove(WorkerId(2));
        assert_eq!(places(&ring).len(), 5 * PLACES as usize);
        assert_eq!(owners(&mut ring, &rest), without);
    }

    #[test]
    fn a_slot_that_another_worker_has_now_is_that_ones() {
        let mut fleet = Fleet::of(3);
        let mut ring = Ring::default();
        shown(&mut ring, &fleet.workers);
        fleet.workers[1].url_hash = hash::name_hash(b"another");
        assert_eq!(owners(&mut ring, &fleet.workers), owners(&mut Ring::default(), &fleet.workers));
        assert_eq!(places(&ring).len(), 3 * PLACES as usize);
    }

    #[test]
    fn the_walk_says_whether_it_passed_one_over_and_ends() {
        let fleet = Fleet::of(2);
        let mut ring = Ring::default();
        shown(&mut ring, &fleet.workers);
        let (first, passed_over) = ring.find(77, |_| true).expect("somebody");
        assert!(!passed_over);
        assert_eq!(ring.find(77, |index| index != first), Some((1 - first, true)));
        assert_eq!(ring.find(77, |_| false), None);
    }
}
