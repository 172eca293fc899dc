//! From a 64-bit hash to a 32-bit slot: linear hashing over pages of 4 KiB.
//!
//! Rule: no step costs more than a page. A look-up, an insert or a removal stays in one page; the table grows by one page at a
//! time, by splitting one that is there, so that it takes as much memory as it holds entries for and never rehashes as a whole.
//! That is why this is not `std`'s map: that one rehashes everything when it grows, and again in place when inserts and removals
//! have worn it out, and either would stall the routing lock. Inside a page it is open addressing; removal shifts back, so
//! nothing wears out. A page is two fifths full on average and four fifths just before its split, five deviations below full.
//! The hashes come in mixed. Deliberately not here: what a slot holds; the caller compares the full key.

/// Buckets of a page: 4 KiB.
const PAGE: usize = 512;
/// Entries for each page on average: half of what a page has just before it is split.
const ENTRIES_PER_PAGE: usize = PAGE * 2 / 5;
/// Entries whose 32 bits of tag are the same; more come from keys made to collide, and are refused. Each is a look elsewhere.
const MAX_SAME_TAG: usize = 8;
/// The tag's bits from here on are the place in the page, those below say which page.
const PLACE_SHIFT: u32 = 32 - PAGE.ilog2();

/// The map. A bucket is `tag << 32 | slot + 1`; 0 is empty.
#[derive(Debug)]
pub(super) struct SlotTable {
    pages: Vec<Box<[u64]>>,
    entries: usize,
    most_pages: usize,
}

impl SlotTable {
    /// Most bytes that a table for `capacity` entries takes.
    pub(super) const fn most_bytes(capacity: usize) -> usize {
        Self::pages_for(capacity) * (PAGE * size_of::<u64>() + size_of::<Box<[u64]>>())
    }

    const fn pages_for(capacity: usize) -> usize {
        capacity / ENTRIES_PER_PAGE + 1
    }

    /// A table that grows to hold `capacity` entries; one page at first.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let most_pages = Self::pages_for(capacity);
        let mut pages = Vec::with_capacity(most_pages);
        pages.push(empty_page());
        Self { pages, entries: 0, most_pages }
    }

    /// Bytes asked of the allocator.
    pub(super) fn memory_bytes(&self) -> usize {
        self.pages.len() * PAGE * size_of::<u64>() + self.pages.capacity() * size_of::<Box<[u64]>>()
    }

    /// The slot stored under `hash` for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = hash >> 32;
        let page = &self.pages[self.page_of(tag)];
        let mut at = home(tag);
        for _ in 0..PAGE {
            let bucket = page[at];
            if bucket == 0 {
                return None;
            }
            if bucket >> 32 == tag && is_it(slot_of(bucket)) {
                return Some(slot_of(bucket));
            }
            at = after(at);
        }
        None
    }

    /// Stores `slot` under `hash`; false if its page is full or too many others have the same tag. The caller keeps keys unique.
    pub(super) fn insert(&mut self, hash: u64, slot: u32) -> bool {
        let tag = hash >> 32;
        let page = self.page_of(tag);
        if !put(&mut self.pages[page], tag << 32 | (u64::from(slot) + 1)) {
            return false;
        }
        self.entries += 1;
        if self.entries > self.pages.len() * ENTRIES_PER_PAGE && self.pages.len() < self.most_pages {
            self.split_next();
        }
        true
    }

    /// Where `slot` is stored under `hash`, `other` is from now on.
    pub(super) fn replace(&mut self, hash: u64, slot: u32, other: u32) {
        if let Some((page, at)) = self.position(hash, slot) {
            self.pages[page][at] = hash >> 32 << 32 | (u64::from(other) + 1);
        }
    }

    /// Removes `slot`, stored under `hash`, and closes the gap.
    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        let Some((page, mut gap)) = self.position(hash, slot) else {
            return;
        };
        self.entries -= 1;
        let page = &mut self.pages[page];
        let mut at = gap;
        // A full page has no end of its run but the gap itself.
        for _ in 1..PAGE {
            at = after(at);
            let bucket = page[at];
            if bucket == 0 {
                break;
            }
            // An entry may move back into the gap unless its home lies behind the gap.
            if distance(home(bucket >> 32), at) >= distance(gap, at) {
                page[gap] = bucket;
                gap = at;
            }
        }
        page[gap] = 0;
    }

    fn position(&self, hash: u64, slot: u32) -> Option<(usize, usize)> {
        let tag = hash >> 32;
        let wanted = tag << 32 | (u64::from(slot) + 1);
        let number = self.page_of(tag);
        let mut at = home(tag);
        for _ in 0..PAGE {
            match self.pages[number][at] {
                0 => return None,
                bucket if bucket == wanted => return Some((number, at)),
                _ => at = after(at),
            }
        }
        None
    }

    /// By as many low bits as there are pages for; the pages not yet split this time round have one bit less.
    fn page_of(&self, tag: u64) -> usize {
        let bits = self.pages.len().ilog2();
        let page = tag as usize & ((2 << bits) - 1);
        if page < self.pages.len() { page } else { page & ((1 << bits) - 1) }
    }

    /// One more page, which takes its part of the page whose turn it is.
    fn split_next(&mut self) {
        let added = self.pages.len();
        let split = added & !(1 << added.ilog2());
        self.pages.push(empty_page());
        let mut old = [0; PAGE];
        old.copy_from_slice(&self.pages[split]);
        self.pages[split].fill(0);
        for bucket in old.into_iter().filter(|&bucket| bucket != 0) {
            let page = self.page_of(bucket >> 32);
            // There was room for all of them in one page.
            put(&mut self.pages[page], bucket);
        }
    }
}

/// False if there is no room.
fn put(page: &mut [u64], bucket: u64) -> bool {
    let tag = bucket >> 32;
    let mut at = home(tag);
    let mut same = 0;
    for _ in 0..PAGE {
        if page[at] == 0 {
            page[at] = bucket;
            return true;
        }
        same += usize::from(page[at] >> 32 == tag);
        if same == MAX_SAME_TAG {
            return false;
        }
        at = after(at);
    }
    false
}

fn empty_page() -> Box<[u64]> {
    vec![0; PAGE].into_boxed_slice()
}

fn home(tag: u64) -> usize {
    (tag >> PLACE_SHIFT) as usize % PAGE
}

fn after(at: usize) -> usize {
    (at + 1) % PAGE
}

fn distance(from: usize, to: usize) -> usize {
    to.wrapping_sub(from) % PAGE
}

fn slot_of(bucket: u64) -> u32 {
    (bucket as u32).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Tags that agree in the bits that choose a page, in those of the place, or in all of them.
    fn hash_of(key: u64) -> u64 {
        (key % 5) << (32 + PLACE_SHIFT) | (key % 3) << 32 | key
    }

    proptest! {
        /// Few hashes, so that runs, wraps and equal tags all happen.
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((0u64..24, any::<bool>()), 1..400)) {
            let mut table = SlotTable::with_capacity(24);
            let mut model = BTreeMap::new();
            for (key, insert) in steps {
                let hash = hash_of(key);
                if insert && !model.contains_key(&key) {
                    prop_assert!(table.insert(hash, key as u32));
                    model.insert(key, hash);
                } else if !insert {
                    table.remove(hash, key as u32);
                    model.remove(&key);
                }
                for key in 0..24u64 {
                    let found = table.find(hash_of(key), |slot| u64::from(slot) == key);
                    prop_assert_eq!(found, model.get(&key).map(|_| key as u32));
                }
            }
        }

        /// Growth in the midst of inserts, removals and replacements loses nothing.
        #[test]
        fn nothing_is_lost_while_it_grows(
            keys in prop::collection::vec(any::<u64>(), 1..6_000),
            removed in prop::collection::vec(any::<prop::sample::Index>(), 0..500),
        ) {
            let mut table = SlotTable::with_capacity(keys.len());
            let mut model = BTreeMap::new();
            for (slot, &key) in (0..).zip(&keys) {
                prop_assert!(table.insert(key, slot));
                model.insert(slot, key);
            }
            for index in removed {
                let slot = index.index(keys.len()) as u32;
                if let Some(key) = model.remove(&slot) {
                    table.remove(key, slot);
                    if slot.is_multiple_of(2) {
                        prop_assert!(table.insert(key, slot));
                        table.replace(key, slot, slot + 100_000);
                        model.insert(slot + 100_000, key);
                    }
                }
            }
            prop_assert_eq!(table.entries, model.len());
            for (&slot, &key) in &model {
                prop_assert_eq!(table.find(key, |found| found == slot), Some(slot));
            }
            prop_assert!(table.memory_bytes() <= SlotTable::most_bytes(keys.len()));
        }
    }

    #[test]
    fn it_takes_memory_for_what_it_holds() {
        let mut table = SlotTable::with_capacity(1 << 20);
        assert_eq!(table.pages.len(), 1);
        let mut state = 1u64;
        for slot in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            assert!(table.insert(state, slot));
        }
        assert_eq!(table.pages.len(), 100_000usize.div_ceil(ENTRIES_PER_PAGE));
        assert!(table.pages.iter().all(|page| page.contains(&0)));
    }

    #[test]
    fn keys_made_to_collide_are_refused_not_searched_for() {
        let mut table = SlotTable::with_capacity(4096);
        let stored = (0..2000).filter(|&slot| table.insert(7 << 32, slot)).count();
        assert_eq!(stored, MAX_SAME_TAG);
        let mut looked_at = 0;
        assert_eq!(
            table.find(7 << 32, |_| {
                looked_at += 1;
                false
            }),
            None
        );
        assert_eq!(looked_at, MAX_SAME_TAG);
    }

    #[test]
    fn keys_made_for_one_page_fill_it_and_no_more() {
        let mut table = SlotTable::with_capacity(100_000);
        // Ten low bits of the tag the same, whatever the number of pages.
        let key = |n: u64| (n << 10 | 5) << 32;
        let stored: Vec<u64> = (0..5_000).filter(|&n| table.insert(key(n), n as u32)).collect();
        assert!(stored.len() >= PAGE && table.find(key(6_000), |_| true).is_none());
        for &n in &stored {
            assert_eq!(table.find(key(n), |slot| u64::from(slot) == n), Some(n as u32));
        }
        for &n in &stored {
            table.remove(key(n), n as u32);
        }
        assert!(table.pages.iter().all(|page| page.iter().all(|&bucket| bucket == 0)));
    }
}
