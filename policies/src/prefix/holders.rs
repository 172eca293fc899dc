//! Sets of workers, interned: an entry of the index holds a 4-byte id, however large the fleet.
//!
//! Most blocks are held by one worker and neighbours in a chain nearly always by the same ones, so few distinct sets exist and
//! a walk compares ids before it touches words. Removing a worker is lazy: it only notes the epoch. A set knows the epoch at
//! which it was last cleaned, and before it is read ([`HolderSets::refresh`]) the members removed since then are cleared.
//! Rule: a set is never read uncleaned, so a removed worker cannot come back by an old bit. Memory is bounded: a set that does
//! not fit is replaced by a smaller one (the new worker alone, else nobody), which forgets but never invents a holder.

use xxhash_rust::xxh3::xxh3_64;

use super::table::SlotTable;

/// Highest worker slot number that the index remembers, plus one.
pub const MAX_WORKERS: usize = 4096;
/// Words of a full set.
pub(super) const MAX_WORDS: usize = MAX_WORKERS / 64;

/// Id of a set; [`SetId::NOBODY`] is the empty one and is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetId(u32);

impl SetId {
    pub(super) const NOBODY: Self = Self(u32::MAX);
}

#[derive(Debug, Default)]
struct HolderSet {
    /// Bit per worker slot; may end in zero words after members were cleared.
    words: Box<[u64]>,
    /// Entries that name this set.
    references: u32,
    /// Members removed later than this are still to be cleared.
    clean_epoch: u64,
    /// Found by its content; false for a set that is empty once cleaned or equal to another one.
    interned: bool,
}

/// A transition that was just made, because the next entry of the chain most often makes the same one.
#[derive(Clone, Copy, Debug)]
struct Memo {
    from: SetId,
    worker: usize,
    to: SetId,
}

/// All sets of one index.
#[derive(Debug)]
pub(super) struct HolderSets {
    sets: Vec<HolderSet>,
    free: Vec<u32>,
    by_content: SlotTable,
    capacity: usize,
    words_bytes: usize,
    words_budget_bytes: usize,
    epoch: u64,
    /// Per worker slot, the epoch of its last removal.
    removed_at: Vec<u64>,
    memo: Option<Memo>,
}

impl HolderSets {
    /// What a set costs beside its words: itself, a place in the free list and in the table.
    const BYTES_PER_SET: usize = size_of::<HolderSet>() + size_of::<u32>() + SlotTable::BYTES_PER_SLOT;
    /// What the allocator adds to a set's words.
    const ALLOCATION_BYTES: usize = 16;

    /// Bytes taken beside the budget, whatever it is.
    pub(super) const FIXED_BYTES: usize = MAX_WORKERS * size_of::<u64>();

    /// Sets in at most `budget_bytes` and [`HolderSets::FIXED_BYTES`]; half of the budget is for their words.
    pub(super) fn new(budget_bytes: usize) -> Self {
        let capacity = budget_bytes / 2 / Self::BYTES_PER_SET;
        Self {
            sets: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            by_content: SlotTable::with_capacity(capacity),
            capacity,
            words_bytes: 0,
            words_budget_bytes: budget_bytes / 2,
            epoch: 0,
            removed_at: Vec::with_capacity(MAX_WORKERS),
            memo: None,
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let fixed = self.sets.capacity() * size_of::<HolderSet>() + self.free.capacity() * size_of::<u32>();
        fixed
            + self.words_bytes
            + self.by_content.memory_bytes()
            + self.removed_at.capacity() * size_of::<u64>()
    }

    /// Forgets `worker` everywhere, in constant time.
    pub(super) fn remove(&mut self, worker: usize) {
        if worker >= self.removed_at.len() {
            return; // Never held anything.
        }
        self.epoch += 1;
        self.removed_at[worker] = self.epoch;
        self.memo = None;
    }

    /// `set` with `worker` in it. Takes the caller's reference to `set` and gives one to the set returned.
    pub(super) fn with(&mut self, set: SetId, worker: usize) -> SetId {
        self.refresh(set);
        if self.words(set).get(worker / 64).is_some_and(|word| word >> (worker % 64) & 1 == 1) {
            return set;
        }
        let to = match self.memo {
            Some(memo) if memo.from == set && memo.worker == worker => memo.to,
            _ => self.make(set, worker),
        };
        self.retain(to);
        self.memo = Some(Memo { from: set, worker, to });
        self.release(set);
        to
    }

    /// Gives back one reference.
    pub(super) fn release(&mut self, set: SetId) {
        let Some(held) = self.sets.get_mut(set.0 as usize) else {
            return;
        };
        held.references -= 1;
        if held.references > 0 {
            return;
        }
        if held.interned {
            self.by_content.remove(hash_of(&held.words), set.0);
        }
        self.words_bytes -= words_cost(held.words.len());
        *held = HolderSet::default();
        self.free.push(set.0);
        if self.memo.is_some_and(|memo| memo.from == set || memo.to == set) {
            self.memo = None;
        }
    }

    /// Writes the members of `set` to `alive`, as far as it reaches. False when there are none.
    pub(super) fn start(&mut self, set: SetId, alive: &mut [u64]) -> bool {
        self.refresh(set);
        let words = self.words(set);
        let len = words.len().min(alive.len());
        alive[..len].copy_from_slice(&words[..len]);
        alive.iter().any(|&word| word != 0)
    }

    /// Leaves in `alive` only members of `set`; calls `dropped` with each worker that was in `alive` and is not a member.
    /// False when nobody is left.
    pub(super) fn narrow(&mut self, set: SetId, alive: &mut [u64], mut dropped: impl FnMut(usize)) -> bool {
        self.refresh(set);
        let words = self.words(set);
        let mut any = 0;
        for (index, word) in alive.iter_mut().enumerate() {
            let kept = *word & words.get(index).copied().unwrap_or(0);
            for_each_bit(*word & !kept, index, &mut dropped);
            *word = kept;
            any |= kept;
        }
        any != 0
    }

    /// The set of `from`'s members and `worker`, or the largest part of it that memory allows. Not yet referenced.
    fn make(&mut self, from: SetId, worker: usize) -> SetId {
        if self.removed_at.len() <= worker {
            // Worker slots are dense and at most `MAX_WORKERS`; 0 is before the first removal.
            self.removed_at.resize(worker + 1, 0);
        }
        let mut scratch = [0u64; MAX_WORDS];
        let old = self.words(from);
        let len = old.len().max(worker / 64 + 1);
        scratch[..old.len()].copy_from_slice(old);
        scratch[worker / 64] |= 1 << (worker % 64);
        // A quarter is kept for sets of one, so that a fleet of many overlapping sets still knows who was last.
        if let Some(id) =
            self.intern(trimmed(&scratch[..len]), self.words_budget_bytes / 4 * 3, self.capacity / 4 * 3)
        {
            return id;
        }
        scratch[..len].fill(0);
        scratch[worker / 64] = 1 << (worker % 64);
        self.intern(&scratch[..=worker / 64], self.words_budget_bytes, self.capacity).unwrap_or(SetId::NOBODY)
    }

    /// The set with exactly these words: an existing one, else a new one while there are fewer than `most_sets` in `budget_bytes`.
    fn intern(&mut self, words: &[u64], budget_bytes: usize, most_sets: usize) -> Option<SetId> {
        let hash = hash_of(words);
        while let Some(slot) =
            self.by_content.find(hash, |slot| trimmed(&self.sets[slot as usize].words) == words)
        {
            // An uncleaned set may only look equal; refreshed, it is equal or it is filed elsewhere.
            if !self.refresh(SetId(slot)) {
                return Some(SetId(slot));
            }
        }
        let in_use = self.sets.len() - self.free.len();
        if in_use >= most_sets || self.words_bytes + words_cost(words.len()) > budget_bytes {
            return None;
        }
        let slot = self.free.pop().unwrap_or(self.sets.len() as u32);
        if !self.by_content.insert(hash, slot) {
            if (slot as usize) < self.sets.len() {
                self.free.push(slot);
            }
            return None;
        }
        let set = HolderSet { words: words.into(), references: 0, clean_epoch: self.epoch, interned: true };
        self.words_bytes += words_cost(words.len());
        if (slot as usize) < self.sets.len() {
            self.sets[slot as usize] = set;
        } else {
            self.sets.push(set);
        }
        Some(SetId(slot))
    }

    /// Clears the members that were removed since the set was last cleaned; true if there were any.
    fn refresh(&mut self, id: SetId) -> bool {
        let Some(set) = self.sets.get_mut(id.0 as usize) else {
            return false;
        };
        if set.clean_epoch == self.epoch {
            return false;
        }
        let mut stale = [0u64; MAX_WORDS];
        let mut any = 0;
        for (index, (&word, stale)) in set.words.iter().zip(&mut stale).enumerate() {
            for_each_bit(word, index, |worker| {
                *stale |= u64::from(self.removed_at[worker] > set.clean_epoch) << (worker % 64);
            });
            any |= *stale;
        }
        set.clean_epoch = self.epoch;
        if any == 0 {
            return false;
        }
        if set.interned {
            self.by_content.remove(hash_of(&set.words), id.0);
        }
        for (word, stale) in set.words.iter_mut().zip(&stale) {
            *word &= !stale;
        }
        self.file_again(id.0);
        true
    }

    /// Makes a cleaned set findable by its new content, unless it is empty or an equal one already is.
    fn file_again(&mut self, slot: u32) {
        let words = trimmed(&self.sets[slot as usize].words);
        let hash = hash_of(words);
        let taken = words.is_empty()
            || self.by_content.find(hash, |s| trimmed(&self.sets[s as usize].words) == words).is_some();
        self.sets[slot as usize].interned = !taken && self.by_content.insert(hash, slot);
    }

    fn words(&self, set: SetId) -> &[u64] {
        self.sets.get(set.0 as usize).map_or(&[], |set| &set.words)
    }

    fn retain(&mut self, set: SetId) {
        if let Some(held) = self.sets.get_mut(set.0 as usize) {
            held.references += 1;
        }
    }
}

/// Calls `each` with the worker slot of every bit of word number `index`.
pub(super) fn for_each_bit(mut word: u64, index: usize, mut each: impl FnMut(usize)) {
    while word != 0 {
        each(index * 64 + word.trailing_zeros() as usize);
        word &= word - 1;
    }
}

fn words_cost(words: usize) -> usize {
    if words == 0 { 0 } else { words * size_of::<u64>() + HolderSets::ALLOCATION_BYTES }
}

/// Without the zero words at the end, so that equal sets have equal words.
fn trimmed(words: &[u64]) -> &[u64] {
    let len = words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
    &words[..len]
}

fn hash_of(words: &[u64]) -> u64 {
    let mut bytes = [0u8; MAX_WORDS * 8];
    let words = trimmed(words);
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    xxh3_64(&bytes[..words.len() * 8])
}

#[cfg(test)]
impl HolderSets {
    /// Checks that references are exactly the ones in `used`, and that bytes and the file by content are right.
    pub(super) fn check(&self, used: &[SetId]) {
        let mut references = vec![0; self.sets.len()];
        for set in used.iter().filter(|&&set| set != SetId::NOBODY) {
            references[set.0 as usize] += 1;
        }
        let mut words_bytes = 0;
        for (slot, set) in self.sets.iter().enumerate() {
            assert_eq!(set.references, references[slot], "set {slot}");
            assert_eq!(set.references == 0, self.free.contains(&(slot as u32)));
            let found = self.by_content.find(hash_of(&set.words), |found| found as usize == slot);
            assert_eq!(found.is_some(), set.interned);
            words_bytes += words_cost(set.words.len());
        }
        assert_eq!(self.words_bytes, words_bytes);
        assert!(words_bytes <= self.words_budget_bytes && self.sets.len() <= self.capacity);
    }
}
