//! From a 64-bit hash to a 32-bit slot: open addressing at a fixed size.
//!
//! Rule: a lookup or an insert touches at most [`MAX_PROBE`] neighbours and a removal one run of them, however long the table
//! has been in use. That is why this is not `std`'s map: that one rehashes everything when it grows, and again in place when
//! inserts and removals have worn it out, and either would stall the routing lock. Here removal shifts back, so nothing wears
//! out. The hashes come in mixed; their high half is position and tag. Deliberately not here: what a slot holds; the caller
//! compares the full key.

/// Longest distance from a hash's home. Far above the longest run expected at the load factor used (about 200 at 2^20
/// entries): only keys made to collide get there, and those are refused.
const MAX_PROBE: usize = 512;

/// The map. A bucket is `tag << 32 | slot + 1`; 0 is empty.
#[derive(Debug)]
pub(super) struct SlotTable {
    buckets: Vec<u64>,
}

impl SlotTable {
    /// Bytes of table for each of `capacity` slots, see [`SlotTable::with_capacity`].
    pub(super) const BYTES_PER_SLOT: usize = 12;

    /// A table for `capacity` slots at a load factor of 2/3. Zeroed by the operating system, so pages are paid for when used.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { buckets: vec![0; capacity + capacity / 2 + 1] }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.buckets.len() * size_of::<u64>()
    }

    /// The slot stored under `hash` for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash >> 32;
        let mut at = self.home(tag);
        for _ in 0..MAX_PROBE {
            let bucket = self.buckets[at];
            if bucket == 0 {
                return None;
            }
            if bucket >> 32 == tag && is_it(slot_of(bucket)) {
                return Some(slot_of(bucket));
            }
            at = self.after(at);
        }
        None
    }

    /// Stores `slot` under `hash`; false if there is no room near its home. The caller keeps keys unique.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) -> bool {
        let tag = hash >> 32;
        let mut at = self.home(tag);
        for _ in 0..MAX_PROBE {
            if self.buckets[at] == 0 {
                self.buckets[at] = tag << 32 | (u64::from(slot) + 1);
                return true;
            }
            at = self.after(at);
        }
        false
    }

    /// Removes `slot`, stored under `hash`, and closes the gap.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let wanted = hash >> 32 << 32 | (u64::from(slot) + 1);
        let mut gap = self.home(hash >> 32);
        let mut left = MAX_PROBE;
        while self.buckets[gap] != wanted {
            left -= 1;
            if self.buckets[gap] == 0 || left == 0 {
                return;
            }
            gap = self.after(gap);
        }
        let mut at = gap;
        loop {
            at = self.after(at);
            let bucket = self.buckets[at];
            if bucket == 0 {
                break;
            }
            // An entry may move back into the gap unless its home lies behind the gap.
            if self.distance(self.home(bucket >> 32), at) >= self.distance(gap, at) {
                self.buckets[gap] = bucket;
                gap = at;
            }
        }
        self.buckets[gap] = 0;
    }

    fn home(&self, tag: u64) -> usize {
        ((tag * self.buckets.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.buckets.len() - from }
    }
}

fn slot_of(bucket: u64) -> u32 {
    (bucket as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that runs, wraps and equal tags all happen.
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0u64..24, any::<bool>()), 1..400)) {
            let mut table = SlotTable::with_capacity(24);
            let mut model = BTreeMap::new();
            for (key, insert) in steps {
                let hash = (key % 5).wrapping_mul(0x3333_3333_0000_0000) | key;
                if insert && !model.contains_key(&key) {
                    prop_assert!(table.insert(hash, key as u32));
                    model.insert(key, hash);
                } else if !insert {
                    table.remove(hash, key as u32);
                    model.remove(&key);
                }
                for key in 0..24u64 {
                    let hash = (key % 5).wrapping_mul(0x3333_3333_0000_0000) | key;
                    let found = table.find(hash, |slot| u64::from(slot) == key);
                    prop_assert_eq!(found, model.get(&key).map(|_| key as u32));
                }
            }
        }
    }

    #[test]
    fn keys_made_to_collide_are_refused_not_searched_for() {
        let mut table = SlotTable::with_capacity(4096);
        let stored = (0..2000).filter(|&slot| table.insert(7 << 32, slot)).count();
        assert_eq!(stored, MAX_PROBE);
        let mut looked_at = 0;
        assert_eq!(
            table.find(7 << 32, |_| {
                looked_at += 1;
                false
            }),
            None
        );
        assert_eq!(looked_at, MAX_PROBE);
    }
}
