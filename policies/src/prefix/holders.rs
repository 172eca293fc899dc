//! Sets of workers: an entry of the index holds a 4-byte id, however large the fleet.
//!
//! Most runs are held by one worker: that set is its id, the worker and its generation, and takes no memory. Other sets are
//! interned; neighbours in a chain nearly always have the same, so a walk compares ids before it touches words. Removing a
//! worker is constant and lazy: its generation ends, which ends the sets of it alone, and the epoch is noted. A set knows the
//! epoch at which it was last cleaned, and before it is read ([`HolderSets::refresh`]) the members removed since are cleared.
//! Rule: a set is never read uncleaned, so a removed worker cannot come back by an old bit. Memory is bounded: a set that does
//! not fit is replaced by the new worker alone, which forgets but never invents a holder.

use xxhash_rust::xxh3::xxh3_64;

use super::table::SlotTable;
use crate::slab::Slab;

/// Highest worker slot number that the index remembers, plus one.
pub const MAX_WORKERS: usize = 4096;
/// Words of a full set.
pub(super) const MAX_WORDS: usize = MAX_WORKERS / 64;

/// End of the list of places that are not in use.
const NONE: u32 = u32::MAX;
/// Bits of a worker slot in an id, above them its generation.
const WORKER_BITS: u32 = MAX_WORKERS.ilog2();
/// Set in the id of an interned set, and in [`SetId::NOBODY`].
const INTERNED: u32 = 1 << 31;
/// The generation at which a slot is worn out: it was removed half a million times and is remembered no more.
const LAST_GENERATION: u32 = (INTERNED >> WORKER_BITS) - 1;

/// Id of a set; [`SetId::NOBODY`] is the empty one and is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetId(u32);

impl SetId {
    pub(super) const NOBODY: Self = Self(u32::MAX);

    /// Place of an interned set.
    fn interned(self) -> Option<u32> {
        (self.0 & INTERNED != 0 && self != Self::NOBODY).then_some(self.0 & !INTERNED)
    }

    /// The only member, if it is a set of one by its id.
    pub(super) fn single(self) -> Option<usize> {
        (self.0 & INTERNED == 0).then_some(self.0 as usize % MAX_WORKERS)
    }

    /// The id as a number, to file something under.
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

#[derive(Debug, Default)]
struct HolderSet {
    /// Bit per worker slot; may end in zero words after members were cleared.
    words: Box<[u64]>,
    /// Entries that name this set; of a place that is not in use, the next one.
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

/// What is known of a worker slot.
#[derive(Clone, Copy, Debug, Default)]
struct Removals {
    /// The epoch of the last one; 0 is before the first.
    last_epoch: u64,
    /// How many there were, up to [`LAST_GENERATION`].
    generation: u32,
}

/// All sets of one index.
#[derive(Debug)]
pub(super) struct HolderSets {
    sets: Slab<HolderSet>,
    /// The first place that is not in use.
    free: u32,
    by_content: SlotTable,
    words_bytes: usize,
    words_budget_bytes: usize,
    epoch: u64,
    /// By worker slot.
    removals: Vec<Removals>,
    memo: Option<Memo>,
}

impl HolderSets {
    /// What the allocator adds to a set's words.
    const ALLOCATION_BYTES: usize = 16;

    /// What an empty slab and table take.
    const LEAST_BYTES: usize = Slab::<HolderSet>::most_bytes(1) + SlotTable::most_bytes(0);

    /// Bytes taken beside the budget, whatever it is.
    pub(super) const FIXED_BYTES: usize = MAX_WORKERS * size_of::<Removals>();

    /// Sets in at most `budget_bytes` and [`HolderSets::FIXED_BYTES`]; half of the budget is for their words.
    pub(super) fn new(budget_bytes: usize) -> Self {
        let set_bytes = Slab::<HolderSet>::most_bytes(1_000) + SlotTable::most_bytes(1_000);
        let capacity = (budget_bytes / 2).saturating_sub(Self::LEAST_BYTES) / set_bytes.div_ceil(1_000);
        Self {
            sets: Slab::with_capacity(capacity),
            free: NONE,
            by_content: SlotTable::with_capacity(capacity),
            words_bytes: 0,
            words_budget_bytes: budget_bytes / 2,
            epoch: 0,
            removals: Vec::with_capacity(MAX_WORKERS),
            memo: None,
        }
    }

    /// Bytes asked of the allocator.
    pub(super) fn memory_bytes(&self) -> usize {
        self.sets.memory_bytes()
            + self.words_bytes
            + self.by_content.memory_bytes()
            + self.removals.capacity() * size_of::<Removals>()
    }

    /// Forgets `worker` everywhere, in constant time.
    pub(super) fn remove(&mut self, worker: usize) {
        let Some(removals) = self.removals.get_mut(worker) else {
            return; // Never held anything.
        };
        self.epoch += 1;
        removals.last_epoch = self.epoch;
        removals.generation = (removals.generation + 1).min(LAST_GENERATION);
        self.memo = None;
    }

    /// The set of `worker` alone; of nobody if its slot is worn out.
    pub(super) fn alone(&mut self, worker: usize) -> SetId {
        if self.removals.len() <= worker {
            // Worker slots are dense and below `MAX_WORKERS`.
            self.removals.resize(worker + 1, Removals::default());
        }
        match self.removals[worker].generation {
            LAST_GENERATION => SetId::NOBODY,
            generation => SetId(generation << WORKER_BITS | worker as u32),
        }
    }

    /// Whether `set`, of one by its id, still has its member.
    fn is_alive(&self, set: SetId, worker: usize) -> bool {
        self.removals.get(worker).is_some_and(|known| known.generation == set.0 >> WORKER_BITS)
    }

    /// Whether `worker` is in `set`.
    pub(super) fn contains(&mut self, set: SetId, worker: usize) -> bool {
        if let Some(member) = set.single() {
            return member == worker && self.is_alive(set, member);
        }
        self.refresh(set);
        self.words(set).get(worker / 64).is_some_and(|word| word >> (worker % 64) & 1 == 1)
    }

    /// `set` with `worker`, whose slot is not worn out, in it. Takes the caller's reference to `set` and gives one to the set returned.
    pub(super) fn with(&mut self, set: SetId, worker: usize) -> SetId {
        if set == SetId::NOBODY {
            return self.alone(worker);
        }
        if let Some(memo) = self.memo
            && memo.from == set
            && memo.worker == worker
        {
            if memo.to != set {
                self.retain(memo.to);
                self.release(set);
            }
            return memo.to;
        }
        if self.contains(set, worker) {
            self.memo = Some(Memo { from: set, worker, to: set });
            return set;
        }
        let to = self.make(set, worker);
        self.retain(to);
        self.memo = Some(Memo { from: set, worker, to });
        self.release(set);
        to
    }

    /// `set` without `worker`, or a part of that if memory allows no more. Takes and gives references as [`HolderSets::with`].
    pub(super) fn without(&mut self, set: SetId, worker: usize) -> SetId {
        if !self.contains(set, worker) {
            return set;
        }
        let mut words = [0; MAX_WORDS];
        let len = self.members(set, &mut words);
        words[worker / 64] &= !(1 << (worker % 64));
        let to = self.of(trimmed(&words[..len])).unwrap_or(SetId::NOBODY);
        self.retain(to);
        self.release(set);
        to
    }

    /// One more reference to `set`.
    pub(super) fn retain(&mut self, set: SetId) {
        if let Some(place) = set.interned() {
            self.sets[place].references += 1;
        }
    }

    /// Gives back one reference.
    pub(super) fn release(&mut self, set: SetId) {
        let Some(place) = set.interned() else {
            return;
        };
        let held = &mut self.sets[place];
        held.references -= 1;
        if held.references > 0 {
            return;
        }
        if held.interned {
            self.by_content.remove(hash_of(&held.words), place);
        }
        self.words_bytes -= words_cost(held.words.len());
        *held = HolderSet { references: self.free, ..HolderSet::default() };
        self.free = place;
        if self.memo.is_some_and(|memo| memo.from == set || memo.to == set) {
            self.memo = None;
        }
    }

    /// Writes the members of `set` to `alive`, which is all zero, as far as it reaches. False when there are none.
    pub(super) fn start(&mut self, set: SetId, alive: &mut [u64]) -> bool {
        if let Some(member) = set.single() {
            let Some(word) = alive.get_mut(member / 64).filter(|_| self.is_alive(set, member)) else {
                return false;
            };
            *word = 1 << (member % 64);
            return true;
        }
        self.refresh(set);
        let words = self.words(set);
        let len = words.len().min(alive.len());
        alive[..len].copy_from_slice(&words[..len]);
        alive.iter().any(|&word| word != 0)
    }

    /// Leaves in `alive` only members of `set`; calls `dropped` with each worker that was in `alive` and is not a member.
    /// False when nobody is left.
    pub(super) fn narrow(&mut self, set: SetId, alive: &mut [u64], mut dropped: impl FnMut(usize)) -> bool {
        let only;
        let mut skipped = 0;
        let words = match set.single() {
            Some(member) if self.is_alive(set, member) => {
                only = [1 << (member % 64)];
                skipped = member / 64;
                &only[..]
            }
            Some(_) => &[][..],
            None => {
                self.refresh(set);
                self.words(set)
            }
        };
        let mut any = 0;
        for (index, word) in alive.iter_mut().enumerate() {
            let member = index.checked_sub(skipped).and_then(|index| words.get(index));
            let kept = *word & member.copied().unwrap_or(0);
            for_each_bit(*word & !kept, index, &mut dropped);
            *word = kept;
            any |= kept;
        }
        any != 0
    }

    /// Calls `each` with every member of `set`.
    pub(super) fn for_each(&mut self, set: SetId, mut each: impl FnMut(usize, SetId)) {
        let mut words = [0; MAX_WORDS];
        let len = self.members(set, &mut words);
        for (index, &word) in words[..len].iter().enumerate() {
            for_each_bit(word, index, |worker| each(worker, self.alone(worker)));
        }
    }

    /// The set of `from`'s members and `worker`, or of `worker` alone if memory allows no more. Not yet referenced.
    fn make(&mut self, from: SetId, worker: usize) -> SetId {
        let mut words = [0; MAX_WORDS];
        let len = self.members(from, &mut words).max(worker / 64 + 1);
        words[worker / 64] |= 1 << (worker % 64);
        self.of(trimmed(&words[..len])).unwrap_or_else(|| self.alone(worker))
    }

    /// Writes the members of `set` to `words`, which are all zero; how many words they reach to.
    fn members(&mut self, set: SetId, words: &mut [u64; MAX_WORDS]) -> usize {
        self.start(set, words);
        match set.single() {
            Some(member) => member / 64 + 1,
            None => self.words(set).len(),
        }
    }

    /// The set with exactly these words, not yet referenced: an existing one, else a new one, if there is room.
    fn of(&mut self, words: &[u64]) -> Option<SetId> {
        let Some(last) = words.last() else {
            return Some(SetId::NOBODY);
        };
        let first = words.iter().position(|&word| word != 0);
        if first == Some(words.len() - 1) && last.is_power_of_two() {
            return Some(self.alone((words.len() - 1) * 64 + last.trailing_zeros() as usize));
        }
        let hash = hash_of(words);
        while let Some(place) = self.by_content.find(hash, |place| trimmed(&self.sets[place].words) == words)
        {
            // An uncleaned set may only look equal; refreshed, it is equal or it is filed elsewhere.
            if !self.refresh(SetId(INTERNED | place)) {
                return Some(SetId(INTERNED | place));
            }
        }
        if self.words_bytes + words_cost(words.len()) > self.words_budget_bytes {
            return None;
        }
        let place = self.place()?;
        let filed = self.by_content.insert(hash, place);
        if !filed {
            self.sets[place].references = self.free;
            self.free = place;
            return None;
        }
        self.words_bytes += words_cost(words.len());
        self.sets[place] =
            HolderSet { words: words.into(), references: 0, clean_epoch: self.epoch, interned: true };
        Some(SetId(INTERNED | place))
    }

    /// A place for a set, if there is one.
    fn place(&mut self) -> Option<u32> {
        match self.sets.get(self.free) {
            Some(set) => Some(std::mem::replace(&mut self.free, set.references)),
            None => self.sets.push(HolderSet::default()),
        }
    }

    /// Clears the members that were removed since the set was last cleaned; true if there were any.
    fn refresh(&mut self, id: SetId) -> bool {
        let Some(place) = id.interned() else {
            return false;
        };
        let set = &mut self.sets[place];
        if set.clean_epoch == self.epoch {
            return false;
        }
        let mut stale = [0u64; MAX_WORDS];
        let mut any = 0;
        for (index, (&word, stale)) in set.words.iter().zip(&mut stale).enumerate() {
            for_each_bit(word, index, |worker| {
                let removed = self.removals[worker].last_epoch > set.clean_epoch;
                *stale |= u64::from(removed) << (worker % 64);
            });
            any |= *stale;
        }
        set.clean_epoch = self.epoch;
        if any == 0 {
            return false;
        }
        if set.interned {
            self.by_content.remove(hash_of(&set.words), place);
        }
        for (word, stale) in set.words.iter_mut().zip(&stale) {
            *word &= !stale;
        }
        self.file_again(place);
        true
    }

    /// Makes a cleaned set findable by its new content, unless it is empty or an equal one already is.
    fn file_again(&mut self, place: u32) {
        let words = trimmed(&self.sets[place].words);
        let hash = hash_of(words);
        let taken = words.is_empty()
            || self.by_content.find(hash, |s| trimmed(&self.sets[s].words) == words).is_some();
        self.sets[place].interned = !taken && self.by_content.insert(hash, place);
    }

    fn words(&self, set: SetId) -> &[u64] {
        set.interned().map_or(&[], |place| &self.sets[place].words)
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
        for place in used.iter().filter_map(|set| set.interned()) {
            references[place as usize] += 1;
        }
        let mut is_free = vec![false; self.sets.len()];
        let mut free = self.free;
        while free != NONE {
            is_free[free as usize] = true;
            free = self.sets[free].references;
        }
        let mut words_bytes = 0;
        for place in 0..self.sets.len() as u32 {
            let set = &self.sets[place];
            assert_eq!(is_free[place as usize], references[place as usize] == 0);
            assert!(is_free[place as usize] || set.references == references[place as usize], "set {place}");
            let found = self.by_content.find(hash_of(&set.words), |found| found == place);
            assert_eq!(found.is_some(), set.interned);
            words_bytes += words_cost(set.words.len());
        }
        assert_eq!(self.words_bytes, words_bytes);
        assert!(words_bytes <= self.words_budget_bytes);
    }
}
