//! What each worker holds, in the order in which it was last used there: for workers that can hold so much and no more.
//!
//! Rule: each worker's list is by last use *at that worker*, and in one use the deeper run is the older one. A worker that holds
//! a run holds what leads to it, and used it no later; so the oldest run of a list is always a leaf of what the worker holds,
//! and taking it first keeps chains prefix-closed. One record for each run and holder, found by the two, bounded; a run's
//! holders are the index's sets. A removed worker's records are left behind, and swept some at a time.
//! Deliberately not here: the runs and the sets. Where no worker has a bound nothing of this is kept, and nothing is paid.

use xxhash_rust::xxh3::xxh3_64;

use super::holders::{MAX_WORKERS, SetId};
use super::table::SlotTable;
use crate::slab::Slab;

const NONE: u32 = u32::MAX;

/// Records of removed workers that an insert sweeps: more than most inserts make.
const SWEPT_AT_ONCE: usize = 64;

/// One run at one holder.
#[derive(Clone, Copy, Debug)]
struct Share {
    /// The holder alone, which names its generation too.
    holder: SetId,
    run: u32,
    /// Text in the run.
    bytes: u32,
    newer: u32,
    older: u32,
    /// [`Shelf::came_bytes`] at its last use, in KiB.
    used_at_kib: u32,
}

/// What one worker holds.
#[derive(Clone, Copy, Debug)]
struct Shelf {
    newest: u32,
    oldest: u32,
    bytes: u64,
    /// All text that ever came to it anew: what was used long ago was used much text ago.
    came_bytes: u64,
    limit_bytes: u64,
}

/// What was noted of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The worker had not used it before.
    First,
    /// It had, and so much text came to it anew since then, to the KiB.
    Again { since_bytes: u64 },
    /// There is no room for the record.
    NoRoom,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shares {
    records: Slab<Share>,
    by_place: SlotTable,
    /// By worker slot.
    shelves: Vec<Shelf>,
    /// Places not in use, by `newer`.
    free: u32,
    /// Records of removed workers, by `newer`: the lists as they were, one behind the other.
    left_behind: u32,
    limit_bytes: u64,
}

impl Shares {
    /// Bytes taken beside the budget, whatever it is: of the shelves.
    pub(super) const FIXED_BYTES: usize = MAX_WORKERS * size_of::<Shelf>();

    /// Records in at most `budget_bytes` and [`Shares::FIXED_BYTES`]; every worker may hold `limit_bytes` of text.
    pub(super) fn new(budget_bytes: usize, limit_bytes: u64) -> Self {
        let record_bytes = (Slab::<Share>::most_bytes(1_000) + SlotTable::most_bytes(1_000)).div_ceil(1_000);
        let capacity = budget_bytes.saturating_sub(2 * SlotTable::most_bytes(0)) / record_bytes;
        Self {
            records: Slab::with_capacity(capacity),
            by_place: SlotTable::with_capacity(capacity),
            shelves: Vec::with_capacity(MAX_WORKERS),
            free: NONE,
            left_behind: NONE,
            limit_bytes,
        }
    }

    /// Bytes asked of the allocator.
    pub(super) fn memory_bytes(&self) -> usize {
        self.records.memory_bytes()
            + self.by_place.memory_bytes()
            + self.shelves.capacity() * size_of::<Shelf>()
    }

    /// Text that `worker` holds, in bytes.
    pub(super) fn held_bytes(&self, worker: usize) -> u64 {
        self.shelves.get(worker).map_or(0, |shelf| shelf.bytes)
    }

    /// All text that ever came to `worker` anew, in KiB; begins again at 0 after so many bytes as nobody sends.
    pub(super) fn came_kib(&self, worker: usize) -> u32 {
        self.shelves.get(worker).map_or(0, |shelf| (shelf.came_bytes >> 10) as u32)
    }

    /// Whether `worker` holds more than it may.
    pub(super) fn is_over(&self, worker: usize) -> bool {
        self.shelves.get(worker).is_some_and(|shelf| shelf.bytes > shelf.limit_bytes)
    }

    /// From now on `worker` may hold `limit_bytes` of text; `None`: as much as the others.
    pub(super) fn set_limit(&mut self, worker: usize, limit_bytes: Option<u64>) {
        self.shelf(worker).limit_bytes = limit_bytes.unwrap_or(self.limit_bytes);
    }

    /// Notes that the worker, `holder` alone, used `run`, of `bytes` of text: it is its newest now. Called from the end of a
    /// prompt to its beginning; `came_kib` is [`Shares::came_kib`] before the prompt.
    pub(super) fn used(
        &mut self,
        (worker, holder): (usize, SetId),
        (run, bytes): (u32, u32),
        came_kib: u32,
    ) -> Use {
        if let Some(at) = self.find(holder, run) {
            self.unlink(worker, at);
            self.link_newest(worker, at);
            let before_kib = std::mem::replace(&mut self.records[at].used_at_kib, came_kib);
            return Use::Again { since_bytes: u64::from(came_kib.wrapping_sub(before_kib)) << 10 };
        }
        if self.add(worker, Share { holder, run, bytes, newer: NONE, older: NONE, used_at_kib: came_kib }) {
            self.shelf(worker).came_bytes += u64::from(bytes);
            Use::First
        } else {
            Use::NoRoom
        }
    }

    /// False if there is no room for the record.
    fn add(&mut self, worker: usize, share: Share) -> bool {
        let Share { holder, run, bytes, .. } = share;
        let at = match self.records.get(self.free) {
            Some(record) => std::mem::replace(&mut self.free, record.newer),
            None => match self.records.push(share) {
                Some(at) => at,
                None => return false,
            },
        };
        self.records[at] = share;
        if !self.by_place.insert(place_hash(holder, run), at) {
            self.give_back(at);
            return false;
        }
        self.shelf(worker).bytes += u64::from(bytes);
        self.link_newest(worker, at);
        true
    }

    /// Takes the run that `worker` used longest ago off its list.
    pub(super) fn take_oldest(&mut self, worker: usize) -> Option<u32> {
        let at = self.shelves.get(worker)?.oldest;
        let run = self.records.get(at)?.run;
        self.drop_record(worker, at);
        Some(run)
    }

    /// The worker, `holder` alone, no longer holds `run`.
    pub(super) fn dropped(&mut self, worker: usize, holder: SetId, run: u32) {
        if let Some(at) = self.find(holder, run) {
            self.drop_record(worker, at);
        }
    }

    /// The first `head_bytes` of `run` have become the run `head`, for the worker, `holder` alone: used when `run` was.
    pub(super) fn split(&mut self, worker: usize, holder: SetId, run: u32, head: u32, head_bytes: u32) {
        let Some(tail) = self.find(holder, run) else {
            return;
        };
        let Share { bytes, used_at_kib, .. } = self.records[tail];
        self.records[tail].bytes = bytes.saturating_sub(head_bytes);
        self.shelf(worker).bytes -= u64::from(bytes.min(head_bytes));
        let share = Share { holder, run: head, bytes: head_bytes, newer: NONE, older: NONE, used_at_kib };
        if self.add(worker, share)
            && let Some(at) = self.find(holder, head)
        {
            self.unlink(worker, at);
            self.link_after(worker, at, tail);
        }
    }

    /// What a worker may hold of which nothing else was said.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Forgets `worker`, in constant time.
    pub(super) fn remove(&mut self, worker: usize) {
        self.empty_shelf(worker);
        if worker < self.shelves.len() {
            self.set_limit(worker, None);
        }
    }

    /// Forgets what `worker` holds, in constant time.
    pub(super) fn empty_shelf(&mut self, worker: usize) {
        let limit_bytes = self.shelves.get(worker).map_or(self.limit_bytes, |shelf| shelf.limit_bytes);
        let empty = Shelf { limit_bytes, ..self.empty() };
        let Some(held) = self.shelves.get_mut(worker).map(|held| std::mem::replace(held, empty)) else {
            return;
        };
        if let Some(newest) = self.records.get_mut(held.newest) {
            newest.newer = std::mem::replace(&mut self.left_behind, held.oldest);
        }
    }

    /// Frees some of the records of removed workers; false if there were none.
    pub(super) fn sweep(&mut self) -> bool {
        for swept in 0..SWEPT_AT_ONCE {
            let at = self.left_behind;
            let Some(&Share { holder, run, newer, .. }) = self.records.get(at) else {
                return swept > 0;
            };
            self.left_behind = newer;
            self.by_place.remove(place_hash(holder, run), at);
            self.give_back(at);
        }
        true
    }

    fn find(&self, holder: SetId, run: u32) -> Option<u32> {
        self.by_place.find(place_hash(holder, run), |at| {
            let record = &self.records[at];
            record.run == run && record.holder == holder
        })
    }

    fn empty(&self) -> Shelf {
        Shelf { newest: NONE, oldest: NONE, bytes: 0, came_bytes: 0, limit_bytes: self.limit_bytes }
    }

    fn shelf(&mut self, worker: usize) -> &mut Shelf {
        if self.shelves.len() <= worker {
            let empty = self.empty();
            self.shelves.resize(worker + 1, empty);
        }
        &mut self.shelves[worker]
    }

    fn drop_record(&mut self, worker: usize, at: u32) {
        let Share { holder, run, bytes, .. } = self.records[at];
        self.unlink(worker, at);
        self.shelf(worker).bytes -= u64::from(bytes);
        self.by_place.remove(place_hash(holder, run), at);
        self.give_back(at);
    }

    fn give_back(&mut self, at: u32) {
        self.records[at].newer = std::mem::replace(&mut self.free, at);
    }

    fn link_newest(&mut self, worker: usize, at: u32) {
        let second = std::mem::replace(&mut self.shelf(worker).newest, at);
        (self.records[at].newer, self.records[at].older) = (NONE, second);
        match self.records.get_mut(second) {
            Some(record) => record.newer = at,
            None => self.shelves[worker].oldest = at,
        }
    }

    /// Puts `at` right before `older` in the order of age: it is the next one used later.
    fn link_after(&mut self, worker: usize, at: u32, older: u32) {
        let newer = std::mem::replace(&mut self.records[older].newer, at);
        (self.records[at].newer, self.records[at].older) = (newer, older);
        match self.records.get_mut(newer) {
            Some(record) => record.older = at,
            None => self.shelves[worker].newest = at,
        }
    }

    fn unlink(&mut self, worker: usize, at: u32) {
        let Share { newer, older, .. } = self.records[at];
        match self.records.get_mut(newer) {
            Some(record) => record.older = older,
            None => self.shelves[worker].newest = older,
        }
        match self.records.get_mut(older) {
            Some(record) => record.newer = newer,
            None => self.shelves[worker].oldest = newer,
        }
    }
}

#[cfg(test)]
impl Shares {
    /// Checks that every list is whole and that the records are exactly the pairs of holder and run in `held`.
    pub(super) fn check(&self, held: &[(usize, SetId, u32)]) {
        let mut listed = 0;
        for (worker, shelf) in self.shelves.iter().enumerate() {
            let (mut at, mut older, mut bytes) = (shelf.oldest, NONE, 0);
            while at != NONE {
                let record = self.records[at];
                assert_eq!((record.older, self.find(record.holder, record.run)), (older, Some(at)));
                assert!(
                    held.contains(&(worker, record.holder, record.run)),
                    "{worker} does not hold {record:?}"
                );
                (listed, bytes) = (listed + 1, bytes + u64::from(record.bytes));
                (older, at) = (at, record.newer);
            }
            assert_eq!((shelf.newest, shelf.bytes), (older, bytes));
        }
        assert_eq!(listed, held.len());
        let mut unused = 0;
        for mut at in [self.left_behind, self.free] {
            while at != NONE {
                (at, unused) = (self.records[at].newer, unused + 1);
            }
        }
        assert_eq!(listed + unused, self.records.len());
    }
}

fn place_hash(holder: SetId, run: u32) -> u64 {
    xxh3_64(&(u64::from(holder.number()) << 32 | u64::from(run)).to_le_bytes())
}
