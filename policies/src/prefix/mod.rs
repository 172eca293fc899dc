//! Which worker was sent which prompt prefix: chained block hashes in a flat map, each entry with its set of workers.
//!
//! Rule: a match is sound. [`PrefixIndex::match_into`] never reports more of a prompt for a worker than the longest prefix it
//! shares with some prompt inserted for that worker since the worker was last removed (64-bit hash collisions aside); while
//! nothing was evicted it reports at most one block less. Memory is bounded by [`PrefixIndex::new`], and nothing here takes
//! time in proportion to what is stored: a match or insert costs its prompt's blocks, an eviction is constant, removing a
//! worker is constant and lazy (`holders.rs`). Deliberately not here: locks, models (one index each), and what a policy makes
//! of a match. Chosen over a character tree by measurement: a tenth of the time and of the memory at 100k characters.

mod hashes;
mod holders;
mod nodes;
mod table;
#[cfg(test)]
mod tests;

pub use hashes::{LARGE_BLOCK_BYTES, PromptHashes, SMALL_BLOCK_BYTES, SMALL_REGION_BYTES};
pub use holders::MAX_WORKERS;

use holders::{HolderSets, MAX_WORDS, SetId, for_each_bit};
use nodes::{NIL, Nodes};

use crate::view::WorkerId;

/// Smallest memory bound that [`PrefixIndex::new`] takes: room for the sets of a fleet of 512.
pub const MIN_INDEX_BYTES: usize = 1 << 20;
/// Largest memory bound that [`PrefixIndex::new`] takes: 170 million blocks, or about 40 GB of distinct long prompts.
pub const MAX_INDEX_BYTES: usize = 8 << 30;

/// What the router believes about the workers' prefix caches.
#[derive(Debug)]
pub struct PrefixIndex {
    nodes: Nodes,
    holders: HolderSets,
    max_bytes: usize,
    inserts: u32,
    evicted: u64,
}

impl PrefixIndex {
    /// An empty index in at most `max_bytes` of memory, brought into [`MIN_INDEX_BYTES`]`..=`[`MAX_INDEX_BYTES`]
    /// ([`PrefixIndex::max_bytes`] tells). An eighth is for sets of workers, the rest holds one block in 44 bytes. The space is
    /// reserved at once, so that nothing grows under the router's lock, and paid for as it fills.
    pub fn new(max_bytes: usize) -> Self {
        let max_bytes = max_bytes.clamp(MIN_INDEX_BYTES, MAX_INDEX_BYTES);
        let holders_bytes = max_bytes / 8;
        // Each of the two tables has one bucket more than its share.
        let nodes_bytes = max_bytes - holders_bytes - HolderSets::FIXED_BYTES - 16;
        Self {
            nodes: Nodes::with_capacity(nodes_bytes / Nodes::BYTES_PER_NODE),
            holders: HolderSets::new(holders_bytes),
            max_bytes,
            inserts: 0,
            evicted: 0,
        }
    }

    /// Remembers that `prompt` was sent to `worker`. False if not all of it could be remembered: it is longer than the whole
    /// index, its hashes collide with too many others, no room is left for sets of workers, or `worker` is not below
    /// [`MAX_WORKERS`].
    pub fn insert(&mut self, prompt: &PromptHashes, worker: WorkerId) -> bool {
        let worker = worker.0 as usize;
        if worker >= MAX_WORKERS {
            return false;
        }
        self.inserts = self.inserts.wrapping_add(1);
        let mut tip = NIL;
        let mut complete = true;
        for &hash in prompt.as_slice() {
            let Some(slot) = self.step(hash, tip) else {
                complete = false;
                break;
            };
            let set = self.holders.with(self.nodes.set_of(slot), worker);
            *self.nodes.set_of_mut(slot) = set;
            complete &= set != SetId::NOBODY;
            tip = slot;
        }
        if tip != NIL {
            self.nodes.settle(tip);
        }
        complete
    }

    /// The entry of `hash`, found or made, held until the walk is over.
    fn step(&mut self, hash: u64, tip: u32) -> Option<u32> {
        if let Some(slot) = self.nodes.find(hash, tip) {
            self.nodes.hold(slot, self.inserts);
            return Some(slot);
        }
        let mut evicted = None;
        let slot = self.nodes.add(hash, tip, self.inserts, &mut evicted);
        if let Some(set) = evicted {
            self.holders.release(set);
            self.evicted += 1;
        }
        slot
    }

    /// Writes to `matched[w]`, for every worker slot `w` in it, how many leading bytes of `prompt` worker `w` is believed to
    /// hold (0 for none).
    pub fn match_into(&mut self, prompt: &PromptHashes, matched: &mut [u64]) {
        matched.fill(0);
        let workers = matched.len().min(MAX_WORKERS);
        let mut alive = [0u64; MAX_WORDS];
        let alive = &mut alive[..workers.div_ceil(64)];
        let Some((&first, rest)) = prompt.as_slice().split_first() else {
            return;
        };
        let Some(mut slot) = self.nodes.find(first, NIL) else {
            return;
        };
        let mut set = self.nodes.set_of(slot);
        if !self.holders.start(set, alive) {
            return;
        }
        if !workers.is_multiple_of(64)
            && let Some(last) = alive.last_mut()
        {
            *last &= (1 << (workers % 64)) - 1;
        }
        let mut depth_bytes = prompt.depth_bytes(0);
        for (index, &hash) in (1..).zip(rest) {
            let Some(next) = self.nodes.find(hash, slot) else {
                break;
            };
            let next_set = self.nodes.set_of(next);
            if next_set != set
                && !self.holders.narrow(next_set, alive, |worker| matched[worker] = depth_bytes)
            {
                return;
            }
            (slot, set) = (next, next_set);
            depth_bytes = prompt.depth_bytes(index);
        }
        for (index, &word) in alive.iter().enumerate() {
            for_each_bit(word, index, |worker| matched[worker] = depth_bytes);
        }
    }

    /// Forgets everything about `worker`, which may come back: what was inserted before this call never matches again.
    pub fn remove_worker(&mut self, worker: WorkerId) {
        self.holders.remove(worker.0 as usize);
    }

    /// Blocks remembered, those of removed workers included until they age out.
    pub fn blocks(&self) -> usize {
        self.nodes.len()
    }

    /// Blocks dropped so far to stay within the bound.
    pub fn evicted_blocks(&self) -> u64 {
        self.evicted
    }

    /// Memory reserved, in bytes; never above [`PrefixIndex::max_bytes`].
    pub fn memory_bytes(&self) -> usize {
        self.nodes.memory_bytes() + self.holders.memory_bytes()
    }

    /// The bound in force, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}
