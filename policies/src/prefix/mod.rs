//! Which worker was sent which prompt prefix: chained block hashes in runs, each run with its set of workers.
//!
//! Rule: a match is sound. [`PrefixIndex::match_into`] never reports more of a prompt for a worker than the longest prefix it
//! shares with some prompt inserted for that worker since the worker was last removed (64-bit hash collisions aside); while
//! nothing was evicted it reports at most one block less. Memory is bounded by [`PrefixIndex::new`] at every insert, grows with
//! what is held, and nothing here takes time in proportion to what is stored: a match or insert costs its prompt's runs, growth
//! and eviction are constant for each, removing a worker is constant and lazy (`holders.rs`). A bound for each worker is kept
//! where one is asked for (`shares.rs`). Deliberately not here: locks, models (one index each), and what a policy makes of a
//! match. Chosen over a character tree by measurement: a hundredth of the time and of the memory at 100k characters.

mod hashes;
mod holders;
mod nodes;
#[cfg(test)]
mod share_tests;
mod shares;
mod table;
#[cfg(test)]
mod tests;

pub use hashes::{LARGE_BLOCK_BYTES, PromptHashes, SMALL_BLOCK_BYTES, SMALL_REGION_BYTES};
pub use holders::MAX_WORKERS;

use holders::{HolderSets, MAX_WORDS, SetId, for_each_bit};
use nodes::{Evicted, NIL, Nodes};
use shares::{Shares, Use};

use crate::view::WorkerId;

/// Smallest memory bound that [`PrefixIndex::new`] takes: room for the sets of a fleet of 512.
pub const MIN_INDEX_BYTES: usize = 1 << 20;
/// Largest memory bound that [`PrefixIndex::new`] takes: 50 million runs, or more than 100 GB of distinct long prompts.
pub const MAX_INDEX_BYTES: usize = 8 << 30;

/// Runs that a worker above its bound loses in one insert, beside as many as the prompt has.
const SHED_AT_ONCE: usize = 64;

/// Most runs that [`PrefixIndex::forget_beyond`] takes from a worker in one call.
pub const FORGOTTEN_AT_ONCE: usize = 64;

/// What the router believes about the workers' prefix caches.
#[derive(Debug)]
pub struct PrefixIndex {
    nodes: Nodes,
    holders: HolderSets,
    shares: Option<Shares>,
    max_bytes: usize,
    inserts: u32,
    evicted: u64,
    // Reused: who still matches, and the runs of an insert with the text in each.
    alive: Vec<u64>,
    path: Vec<(u32, u32)>,
    since_bytes: Option<u64>,
}

impl PrefixIndex {
    /// An empty index that grows to at most `max_bytes` of memory, brought into [`MIN_INDEX_BYTES`]`..=`[`MAX_INDEX_BYTES`]
    /// ([`PrefixIndex::max_bytes`] tells). An eighth is for sets of workers, the rest for runs of up to twelve blocks in 150
    /// bytes each.
    pub fn new(max_bytes: usize) -> Self {
        Self::build(max_bytes, None)
    }

    /// The same for workers of which each can hold so many bytes of text and no more: what it used longest ago is forgotten, the
    /// end of a prompt before its beginning. It may be above for as many inserts as that takes. A quarter of the memory goes
    /// into knowing what each of them used when.
    pub fn with_worker_capacity(max_bytes: usize, worker_bytes: u64) -> Self {
        Self::build(max_bytes, Some(worker_bytes))
    }

    fn build(max_bytes: usize, worker_bytes: Option<u64>) -> Self {
        let max_bytes = max_bytes.clamp(MIN_INDEX_BYTES, MAX_INDEX_BYTES);
        let holders_bytes = max_bytes / 8;
        let shares_bytes = worker_bytes.map_or(0, |_| max_bytes / 4);
        let fixed_bytes = HolderSets::FIXED_BYTES + worker_bytes.map_or(0, |_| Shares::FIXED_BYTES);
        let nodes_bytes = max_bytes - holders_bytes - shares_bytes - fixed_bytes;
        Self {
            nodes: Nodes::with_capacity(Nodes::capacity_in(nodes_bytes)),
            holders: HolderSets::new(holders_bytes),
            shares: worker_bytes.map(|limit_bytes| Shares::new(shares_bytes, limit_bytes)),
            max_bytes,
            inserts: 0,
            evicted: 0,
            alive: Vec::with_capacity(MAX_WORDS),
            path: Vec::new(),
            since_bytes: None,
        }
    }

    /// An empty index of the same bounds that keeps [worker capacities](PrefixIndex::with_worker_capacity), if only one that no
    /// worker reaches.
    #[must_use]
    pub fn empty_with_uses(&self) -> Self {
        let worker_bytes = self.shares.as_ref().map_or(u64::MAX, Shares::limit_bytes);
        Self::with_worker_capacity(self.max_bytes, worker_bytes)
    }

    /// From now on `worker` can hold `worker_bytes` of text, until it is removed; `None`: as much as the others. Nothing changes
    /// in an index without [worker capacity](PrefixIndex::with_worker_capacity).
    pub fn set_worker_capacity(&mut self, worker: WorkerId, worker_bytes: Option<u64>) {
        let worker = worker.0 as usize;
        if let Some(shares) = self.shares.as_mut().filter(|_| worker < MAX_WORKERS) {
            shares.set_limit(worker, worker_bytes);
        }
    }

    /// Text that `worker` is believed to hold, in bytes; `None` in an index without
    /// [worker capacity](PrefixIndex::with_worker_capacity).
    pub fn held_bytes(&self, worker: WorkerId) -> Option<u64> {
        self.shares.as_ref().map(|shares| shares.held_bytes(worker.0 as usize))
    }

    /// Remembers that `prompt` was sent to `worker`. False if not all of it could be remembered: it is longer than the whole
    /// index, its hashes collide with too many others, or `worker` is not below [`MAX_WORKERS`] or was removed half a million times. What a worker's capacity makes it lose at once is no failure.
    pub fn insert(&mut self, prompt: &PromptHashes, worker: WorkerId) -> bool {
        let worker = worker.0 as usize;
        if worker >= MAX_WORKERS || self.holders.alone(worker) == SetId::NOBODY {
            return false;
        }
        self.inserts = self.inserts.wrapping_add(1);
        self.path.clear();
        self.since_bytes = None;
        let (mut tip, mut at, mut complete) = (NIL, 0, true);
        while at < prompt.as_slice().len() {
            let Some(slot) = self.step(prompt, at, tip, worker) else {
                complete = false;
                break;
            };
            self.give(slot, worker);
            let end = at + self.nodes.len_of(slot);
            if self.shares.is_some() {
                self.path.push((slot, text_bytes(prompt, at, end)));
            }
            (tip, at) = (slot, end);
        }
        if tip != NIL {
            self.nodes.settle(tip);
        }
        self.keep_within(worker) && complete
    }

    /// The run at block `at` of `prompt`, found or made, held until the walk is over; cut where the prompt leaves it.
    fn step(&mut self, prompt: &PromptHashes, at: usize, tip: u32, worker: usize) -> Option<u32> {
        let hashes = &prompt.as_slice()[at..];
        let mut evicted = None;
        let Some(mut slot) = self.nodes.find(hashes[0], tip) else {
            let slot = self.nodes.add(hashes, tip, self.inserts, &mut evicted);
            self.settle_evicted(evicted);
            return slot;
        };
        let shared = self.nodes.shared(slot, hashes);
        let is_left = shared < self.nodes.len_of(slot);
        if is_left && (shared < hashes.len() || !self.holders.contains(self.nodes.set_of(slot), worker)) {
            slot = self.cut(slot, shared, text_bytes(prompt, at, at + shared))?;
        }
        self.nodes.hold(slot, self.inserts);
        Some(slot)
    }

    /// The first `blocks` of a run, of `head_bytes`, as a run of their own; the run is what follows them from now on. `None` if
    /// there is no place for it.
    fn cut(&mut self, slot: u32, blocks: usize, head_bytes: u32) -> Option<u32> {
        let mut evicted = None;
        let head = self.nodes.split(slot, blocks, &mut evicted);
        self.settle_evicted(evicted);
        let head = head?;
        let set = self.nodes.set_of(head);
        self.holders.retain(set);
        if let Some(shares) = &mut self.shares {
            self.holders.for_each(set, |holder, alone| shares.split(holder, alone, slot, head, head_bytes));
        }
        Some(head)
    }

    /// `worker` holds the run from now on.
    fn give(&mut self, slot: u32, worker: usize) {
        let before = self.nodes.set_of(slot);
        if self.shares.is_none() {
            *self.nodes.set_of_mut(slot) = self.holders.with(before, worker);
            return;
        }
        // Kept for as long as it takes to see who was lost for want of room.
        self.holders.retain(before);
        let set = self.holders.with(before, worker);
        *self.nodes.set_of_mut(slot) = set;
        if set != before && set.single() == Some(worker) {
            self.drop_others(before, slot, worker);
        }
        self.holders.release(before);
    }

    /// Whoever else was in `before`, the set of the run until now, no longer holds it.
    fn drop_others(&mut self, before: SetId, run: u32, worker: usize) {
        if let Some(shares) = &mut self.shares {
            self.holders.for_each(before, |holder, alone| {
                if holder != worker {
                    shares.dropped(holder, alone, run);
                }
            });
        }
    }

    fn settle_evicted(&mut self, evicted: Option<Evicted>) {
        let Some(Evicted { slot, set, blocks }) = evicted else {
            return;
        };
        if let Some(shares) = &mut self.shares {
            self.holders.for_each(set, |holder, alone| shares.dropped(holder, alone, slot));
        }
        self.holders.release(set);
        self.evicted += u64::from(blocks);
    }

    /// Notes that `worker` used the runs of the insert just made, and takes from it what is too much. False if not all of the
    /// prompt could be noted.
    fn keep_within(&mut self, worker: usize) -> bool {
        let Some(shares) = &mut self.shares else {
            return true;
        };
        shares.sweep();
        let came_kib = shares.came_kib(worker);
        let alone = self.holders.alone(worker);
        let mut noted = self.path.len();
        for index in (0..self.path.len()).rev() {
            if !self.note((worker, alone), index, came_kib) {
                noted = index;
            }
        }
        // What follows a run that is not noted must not be there either.
        for index in (noted..self.path.len()).rev() {
            let (run, _) = self.path[index];
            if let Some(shares) = &mut self.shares {
                shares.dropped(worker, alone, run);
            }
            self.take(run, worker);
        }
        for _ in 0..self.path.len() + SHED_AT_ONCE {
            let shares = self.shares.as_mut().filter(|shares| shares.is_over(worker));
            let Some(run) = shares.and_then(|shares| shares.take_oldest(worker)) else {
                break;
            };
            self.take(run, worker);
        }
        noted == self.path.len()
    }

    /// Notes that the worker used a run of the insert just made. Where no record is left, whoever used a run longest ago loses it.
    fn note(&mut self, holder: (usize, SetId), index: usize, came_kib: u32) -> bool {
        for _ in 0..SHED_AT_ONCE {
            let Some(shares) = &mut self.shares else {
                return false;
            };
            match shares.used(holder, self.path[index], came_kib) {
                Use::First => return true,
                Use::Again { since_bytes } => {
                    // The first that is told is the end of what the worker held.
                    self.since_bytes.get_or_insert(since_bytes);
                    return true;
                }
                Use::NoRoom => {}
            }
            if shares.sweep() {
                continue;
            }
            let oldest =
                self.nodes.oldest().filter(|&oldest| Some(oldest) != self.path.last().map(|last| last.0));
            let evicted = oldest.map(|oldest| self.nodes.drop_leaf(oldest));
            self.settle_evicted(evicted);
            if evicted.is_none() {
                return false;
            }
        }
        false
    }

    /// `worker` no longer holds the run, which goes if nobody does and nothing follows it.
    fn take(&mut self, run: u32, worker: usize) {
        let before = self.nodes.set_of(run);
        self.holders.retain(before);
        let set = self.holders.without(before, worker);
        *self.nodes.set_of_mut(run) = set;
        if set == SetId::NOBODY {
            // Also where there was no room for the set of the others.
            self.drop_others(before, run, worker);
        }
        self.holders.release(before);
        if set == SetId::NOBODY && self.nodes.is_leaf(run) {
            let gone = self.nodes.drop_leaf(run);
            self.evicted += u64::from(gone.blocks);
        }
    }

    /// Writes to `matched[w]`, for every worker slot `w` in it, how many leading bytes of `prompt` worker `w` is believed to
    /// hold (0 for none).
    pub fn match_into(&mut self, prompt: &PromptHashes, matched: &mut [u64]) {
        matched.fill(0);
        let workers = matched.len().min(MAX_WORKERS);
        let hashes = prompt.as_slice();
        let Some(mut slot) = hashes.first().and_then(|&first| self.nodes.find(first, NIL)) else {
            return;
        };
        let alive = &mut self.alive;
        alive.clear();
        alive.resize(workers.div_ceil(64), 0);
        let mut set = self.nodes.set_of(slot);
        if !self.holders.start(set, alive) {
            return;
        }
        if !workers.is_multiple_of(64)
            && let Some(last) = alive.last_mut()
        {
            *last &= (1 << (workers % 64)) - 1;
        }
        let mut at = self.nodes.shared(slot, hashes);
        let mut end = self.nodes.len_of(slot);
        // Beyond a run only if the prompt followed it to its end.
        while at == end && at < hashes.len() {
            let Some(next) = self.nodes.find(hashes[at], slot) else {
                break;
            };
            let next_set = self.nodes.set_of(next);
            if next_set != set {
                let depth_bytes = prompt.depth_bytes(at - 1);
                if !self.holders.narrow(next_set, alive, |worker| matched[worker] = depth_bytes) {
                    return;
                }
            }
            (slot, set) = (next, next_set);
            end += self.nodes.len_of(slot);
            at += self.nodes.shared(slot, &hashes[at..]);
        }
        let depth_bytes = prompt.depth_bytes(at - 1);
        for (index, &word) in alive.iter().enumerate() {
            for_each_bit(word, index, |worker| matched[worker] = depth_bytes);
        }
    }

    /// How much text had come anew to the worker of the last insert between its last use of what it held of that prompt, where
    /// that ends, and the insert: to the KiB. `None` if it held nothing of it, and in an index without
    /// [worker capacity](PrefixIndex::with_worker_capacity).
    pub fn last_since_bytes(&self) -> Option<u64> {
        self.since_bytes
    }

    /// From now on `worker` does not hold more than the first `held_bytes` of `prompt`, to the block. False if it was not
    /// believed to. Of other prompts that begin alike it no longer matches more either, until something is inserted for it
    /// that leads there again: what they have of their own cannot be found from here. At most [`FORGOTTEN_AT_ONCE`] runs are
    /// taken from it (200,000 characters where the runs are whole); what lies behind them ages out.
    pub fn forget_beyond(&mut self, prompt: &PromptHashes, worker: WorkerId, held_bytes: u64) -> bool {
        let worker = worker.0 as usize;
        let hashes = prompt.as_slice();
        self.path.clear();
        let (mut tip, mut at) = (NIL, 0);
        let (mut is_whole, mut was_believed) = (true, false);
        while at < hashes.len() && self.path.len() < FORGOTTEN_AT_ONCE {
            let Some(slot) = self.nodes.find(hashes[at], tip) else {
                break;
            };
            let shared = self.nodes.shared(slot, &hashes[at..]);
            let is_left = shared < self.nodes.len_of(slot);
            let kept = (at..at + shared).take_while(|&block| prompt.depth_bytes(block) <= held_bytes).count();
            // What lies behind a run that was forgotten with another prompt would be believed again with that run.
            let is_held = self.holders.contains(self.nodes.set_of(slot), worker);
            is_whole &= is_held;
            was_believed |= is_whole && kept < shared;
            if is_held
                && (1..shared).contains(&kept)
                && let Some(head) = self.cut(slot, kept, text_bytes(prompt, at, at + kept))
            {
                // What is left of the run is what comes next.
                (tip, at) = (head, at + kept);
                continue;
            }
            if is_held && kept < shared {
                self.path.push((slot, 0));
            }
            (tip, at) = (slot, at + shared);
            if is_left {
                break;
            }
        }
        for index in (0..self.path.len()).rev() {
            let (run, _) = self.path[index];
            let alone = self.holders.alone(worker);
            if let Some(shares) = &mut self.shares {
                shares.dropped(worker, alone, run);
            }
            self.take(run, worker);
        }
        was_believed
    }

    /// Forgets what `worker` held, and nothing else about it: its capacity is what it was.
    pub fn forget_worker(&mut self, worker: WorkerId) {
        self.holders.remove(worker.0 as usize);
        if let Some(shares) = &mut self.shares {
            shares.empty_shelf(worker.0 as usize);
        }
    }

    /// Forgets everything about `worker`, which may come back: what was inserted before this call never matches again.
    pub fn remove_worker(&mut self, worker: WorkerId) {
        self.holders.remove(worker.0 as usize);
        if let Some(shares) = &mut self.shares {
            shares.remove(worker.0 as usize);
        }
    }

    /// Blocks remembered, those of removed workers included until they age out.
    pub fn blocks(&self) -> usize {
        self.nodes.blocks()
    }

    /// Blocks dropped so far to stay within the bound.
    pub fn evicted_blocks(&self) -> u64 {
        self.evicted
    }

    /// Memory taken, in bytes, by runs, tables, sets and lists; never above [`PrefixIndex::max_bytes`].
    pub fn memory_bytes(&self) -> usize {
        let shares_bytes = self.shares.as_ref().map_or(0, Shares::memory_bytes);
        self.nodes.memory_bytes() + self.holders.memory_bytes() + shares_bytes
    }

    /// The bound in force, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

/// Text in the blocks from `start` on and before `end`, as far as the prompt goes.
fn text_bytes(prompt: &PromptHashes, start: usize, end: usize) -> u32 {
    let before = start.checked_sub(1).map_or(0, |last| prompt.depth_bytes(last));
    (prompt.depth_bytes(end - 1) - before) as u32
}
