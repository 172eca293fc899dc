//! Which worker each routing key has: a bounded memory that forgets the key that was idle longest.
//!
//! Rule: at most [`MAX_KEYS`] keys, about 100 bytes each. A key seen again becomes the youngest, so that the list of ages is in
//! order, and what is too old goes from its end without a sweep. Keys are their hashes: two keys that collide share a worker.
//! An ordered map and not a hash table, which grows at once and whose buckets a client could aim at; the counts are by worker,
//! which no client names, and are asked for by the fleet. Nothing here is copied as it grows.
//! Deliberately not here: who gets a new key ([`crate::manual`]).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use crate::slab::Slab;
use crate::view::Time;

/// Keys remembered at one time.
pub(crate) const MAX_KEYS: usize = 1 << 20;

/// End of the list of ages.
const NONE: u32 = u32::MAX;

/// See the module. Workers are known by the hash of their URL, so that one that left and comes back has its keys again.
#[derive(Debug)]
pub(crate) struct StickyKeys {
    /// Place in `entries` of each key's hash.
    places: BTreeMap<u64, u32>,
    entries: Slab<Entry>,
    /// Places not in use, by `younger`.
    free: u32,
    youngest: u32,
    oldest: u32,
    /// Keys that each worker has; none at 0. Nobody walks it.
    counts: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    max_keys: usize,
    /// Microseconds; 0: for ever.
    max_idle_us: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u64,
    /// The first one available is used.
    workers: [Option<u64>; 2],
    /// The one that was used last; counted.
    current: Option<u64>,
    seen: Time,
    older: u32,
    younger: u32,
}

impl StickyKeys {
    /// An empty memory; a key not seen for `max_idle_s` seconds is forgotten, with 0 never.
    pub(crate) fn new(max_keys: usize, max_idle_s: u64) -> Self {
        let max_keys = max_keys.clamp(1, NONE as usize);
        Self {
            places: BTreeMap::new(),
            entries: Slab::with_capacity(max_keys),
            free: NONE,
            youngest: NONE,
            oldest: NONE,
            counts: HashMap::default(),
            max_keys,
            max_idle_us: max_idle_s.saturating_mul(1_000_000),
        }
    }

    /// The workers of `key`, first choice first, as seen at `now`; `None` if it is not known. What is too old is forgotten
    /// first.
    pub(crate) fn workers(&mut self, key: u64, now: Time) -> Option<[Option<u64>; 2]> {
        self.forget_idle(now);
        let place = *self.places.get(&key)?;
        self.unlink(place);
        self.link_youngest(place, now);
        Some(self.entries[place].workers)
    }

    /// `key`, which is known, goes to the worker it has.
    pub(crate) fn used(&mut self, key: u64, worker: u64) {
        let Some(&place) = self.places.get(&key) else {
            return;
        };
        let before = self.entries[place].current.replace(worker);
        if before != Some(worker) {
            self.uncount(before);
            *self.counts.entry(worker).or_default() += 1;
        }
    }

    /// Gives `key` one more worker, after the one it has; of three the first goes. The key that was idle longest makes room.
    pub(crate) fn assign(&mut self, key: u64, worker: u64, now: Time) {
        if let Some(&place) = self.places.get(&key) {
            let [first, second] = &mut self.entries[place].workers;
            if second.is_some() {
                *first = *second;
            }
            *second = Some(worker);
        } else {
            if self.places.len() >= self.max_keys {
                self.forget(self.oldest);
            }
            let entry = Entry {
                key,
                workers: [Some(worker), None],
                current: None,
                seen: now,
                older: NONE,
                younger: NONE,
            };
            let place = match self.entries.get(self.free) {
                Some(unused) => Some(std::mem::replace(&mut self.free, unused.younger)),
                None => self.entries.push(entry),
            };
            let Some(place) = place else {
                return; // There are as many places as there may be keys.
            };
            self.entries[place] = entry;
            self.places.insert(key, place);
            self.link_youngest(place, now);
        }
        self.used(key, worker);
    }

    /// Keys that were last sent to `worker`.
    pub(crate) fn keys_of(&self, worker: u64) -> u32 {
        self.counts.get(&worker).copied().unwrap_or(0)
    }

    /// Keys remembered.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.places.len()
    }

    fn forget_idle(&mut self, now: Time) {
        if self.max_idle_us == 0 {
            return;
        }
        while let Some(oldest) = self.entries.get(self.oldest)
            && now.us.saturating_sub(oldest.seen.us) >= self.max_idle_us
        {
            self.forget(self.oldest);
        }
    }

    fn forget(&mut self, place: u32) {
        let Some(entry) = self.entries.get(place).copied() else {
            return;
        };
        self.unlink(place);
        self.places.remove(&entry.key);
        self.uncount(entry.current);
        self.entries[place].younger = std::mem::replace(&mut self.free, place);
    }

    fn uncount(&mut self, worker: Option<u64>) {
        if let Some(worker) = worker
            && let Some(count) = self.counts.get_mut(&worker)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&worker);
            }
        }
    }

    fn link_youngest(&mut self, place: u32, now: Time) {
        let older = std::mem::replace(&mut self.youngest, place);
        let entry = &mut self.entries[place];
        (entry.seen, entry.older, entry.younger) = (now, older, NONE);
        match self.entries.get_mut(older) {
            Some(older) => older.younger = place,
            None => self.oldest = place,
        }
    }

    fn unlink(&mut self, place: u32) {
        let Entry { older, younger, .. } = self.entries[place];
        match self.entries.get_mut(older) {
            Some(entry) => entry.younger = younger,
            None => self.oldest = younger,
        }
        match self.entries.get_mut(younger) {
            Some(entry) => entry.older = older,
            None => self.youngest = older,
        }
    }
}

/// A hash is its own hash.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        // Keys are `u64`, which come by the other way.
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(s: u64) -> Time {
        Time { us: s * 1_000_000 }
    }

    #[test]
    fn a_key_keeps_two_workers_the_latest_ones() {
        let mut sticky = StickyKeys::new(10, 0);
        assert_eq!(sticky.workers(1, at(0)), None);
        sticky.assign(1, 100, at(0));
        assert_eq!(sticky.workers(1, at(0)), Some([Some(100), None]));
        sticky.assign(1, 200, at(0));
        sticky.assign(1, 300, at(0));
        assert_eq!(sticky.workers(1, at(0)), Some([Some(200), Some(300)]));
        assert_eq!([100, 200, 300].map(|worker| sticky.keys_of(worker)), [0, 0, 1]);
        sticky.used(1, 200);
        assert_eq!([100, 200, 300].map(|worker| sticky.keys_of(worker)), [0, 1, 0]);
    }

    #[test]
    fn an_idle_key_is_forgotten_and_one_that_is_seen_is_not() {
        let mut sticky = StickyKeys::new(10, 60);
        sticky.assign(1, 100, at(0));
        sticky.assign(2, 100, at(1));
        assert!(sticky.workers(1, at(59)).is_some());
        assert_eq!(sticky.workers(2, at(61)), None);
        assert_eq!((sticky.len(), sticky.keys_of(100)), (1, 1));
        assert!(sticky.workers(1, at(118)).is_some());
        assert_eq!(sticky.workers(1, at(178)), None);
        let mut for_ever = StickyKeys::new(10, 0);
        for_ever.assign(1, 100, at(0));
        assert!(for_ever.workers(1, Time { us: u64::MAX }).is_some());
    }

    #[test]
    fn beyond_the_bound_the_one_idle_longest_goes() {
        let mut sticky = StickyKeys::new(3, 0);
        for key in 1..=3 {
            sticky.assign(key, 100, at(key));
        }
        sticky.workers(1, at(9));
        sticky.assign(4, 100, at(10));
        assert_eq!([1, 2, 3, 4].map(|key| sticky.workers(key, at(11)).is_some()), [true, false, true, true]);
        assert_eq!((sticky.len(), sticky.entries.len(), sticky.keys_of(100)), (3, 3, 3));
    }

    proptest! {
        /// The memory against a plain list, oldest first.
        #[test]
        fn behaves_like_a_list(steps in prop::collection::vec((0u64..12, 0u64..4, 0u64..9), 0..120)) {
            let mut sticky = StickyKeys::new(6, 20);
            let mut list: Vec<(u64, Vec<u64>, u64, u64)> = Vec::new();
            let mut now = 0;
            for (key, worker, pause) in steps {
                now += pause;
                list.retain(|(.., seen)| now - seen < 20);
                let known = list.iter().position(|(k, ..)| *k == key).map(|place| list.remove(place));
                let found = sticky.workers(key, at(now));
                let expected = known.as_ref().map(|(_, workers, ..)| [workers.first().copied(), workers.get(1).copied()]);
                prop_assert_eq!(found, expected);
                let mut workers = known.map(|(_, workers, ..)| workers).unwrap_or_default();
                workers.push(worker);
                if workers.len() > 2 {
                    workers.remove(0);
                }
                sticky.assign(key, worker, at(now));
                list.push((key, workers, worker, now));
                if list.len() > 6 {
                    list.remove(0);
                }
                for worker in 0..4 {
                    let count = list.iter().filter(|(_, _, current, _)| *current == worker).count();
                    prop_assert_eq!(sticky.keys_of(worker) as usize, count);
                }
                prop_assert_eq!(sticky.len(), list.len());
            }
        }
    }
}
