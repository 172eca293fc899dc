//! The entries of the index: runs of blocks that the same workers hold, as a tree, the leaves in order of last use.
//!
//! Rule: only leaves are evicted, least recently used first, each in constant time; so a chain loses its tail before its head
//! and stays prefix-closed. Inner runs are in no list: every use of a prompt touches all of its prefix, so a parent is never
//! older than its children, and becomes a leaf exactly when its last child goes. A run is up to [`RUN_BLOCKS`] block hashes in
//! two cache lines; because the hashes are chained, comparing the last of them compares all. It is found from its parent if it
//! is the last child made there, and by the hash of its first block else, so that a long prompt is walked and stored without
//! the table, and so is a conversation that goes on. A prompt that ends or turns off inside a run splits it there.
//! Deliberately not here: who holds an entry, see [`super::holders`].

use super::holders::SetId;
use super::table::SlotTable;
use crate::slab::Slab;

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

/// Most blocks of one entry: what fills two cache lines.
pub(super) const RUN_BLOCKS: usize = 12;

/// Some blocks of some prompt. What a short prompt needs lies in the first line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
struct Node {
    /// Who holds the text up to the end of it.
    set: SetId,
    /// How many hashes it has; 0 for a place that is not in use.
    blocks: u32,
    parent: u32,
    /// The last child made, the one that is not filed in the table; of a place that is not in use, the next one.
    child: u32,
    children: u32,
    /// Number of the insert that last used it.
    used_at: u32,
    newer: u32,
    older: u32,
    /// Chained hashes of the blocks.
    hashes: [u64; RUN_BLOCKS],
}

const FREE: Node = Node {
    set: SetId::NOBODY,
    blocks: 0,
    parent: NIL,
    child: NIL,
    children: 0,
    used_at: 0,
    newer: NIL,
    older: NIL,
    hashes: [0; RUN_BLOCKS],
};

/// An entry that had to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evicted {
    pub(super) slot: u32,
    pub(super) set: SetId,
    pub(super) blocks: u32,
}

/// The entries and the way to find them.
#[derive(Debug)]
pub(super) struct Nodes {
    slots: Slab<Node>,
    by_hash: SlotTable,
    /// Places given back.
    free: u32,
    blocks: usize,
    newest: u32,
    oldest: u32,
}

impl Nodes {
    /// Most bytes that `capacity` entries take.
    pub(super) const fn most_bytes(capacity: usize) -> usize {
        Slab::<Node>::most_bytes(capacity) + SlotTable::most_bytes(capacity)
    }

    /// As many entries as fit in `bytes`, at least one.
    pub(super) fn capacity_in(bytes: usize) -> usize {
        let (mut fits, mut too_many) = (1, bytes / size_of::<Node>() + 2);
        while too_many - fits > 1 {
            let middle = usize::midpoint(fits, too_many);
            if Self::most_bytes(middle) <= bytes {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        fits
    }

    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self {
            slots: Slab::with_capacity(capacity),
            by_hash: SlotTable::with_capacity(capacity),
            free: NIL,
            blocks: 0,
            newest: NIL,
            oldest: NIL,
        }
    }

    /// Blocks in all entries.
    pub(super) fn blocks(&self) -> usize {
        self.blocks
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.memory_bytes() + self.by_hash.memory_bytes()
    }

    pub(super) fn set_of(&self, slot: u32) -> SetId {
        self.slots[slot].set
    }

    pub(super) fn set_of_mut(&mut self, slot: u32) -> &mut SetId {
        &mut self.slots[slot].set
    }

    /// Blocks of the entry.
    pub(super) fn len_of(&self, slot: u32) -> usize {
        self.slots[slot].blocks as usize
    }

    /// The leaf that was used longest ago.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// Whether no other entry follows.
    pub(super) fn is_leaf(&self, slot: u32) -> bool {
        self.slots[slot].children == 0
    }

    /// The entry that begins with `hash` and follows `parent` ([`NIL`] for the first of a chain).
    pub(super) fn find(&self, hash: u64, parent: u32) -> Option<u32> {
        if let Some(node) = self.slots.get(parent) {
            let first = self.slots.get(node.child).is_some_and(|child| child.hashes[0] == hash);
            if first {
                return Some(node.child);
            }
            if node.children <= u32::from(node.child != NIL) {
                return None;
            }
        }
        self.by_hash.find(hash, |slot| {
            let node = &self.slots[slot];
            node.hashes[0] == hash && node.parent == parent
        })
    }

    /// How many of the entry's blocks `hashes` begins with; the first one does.
    pub(super) fn shared(&self, slot: u32, hashes: &[u64]) -> usize {
        let node = &self.slots[slot];
        let run = &node.hashes[..(node.blocks as usize).min(hashes.len())];
        let last = run.len() - 1;
        if run[last] == hashes[last] {
            return run.len();
        }
        run.iter().zip(hashes).take_while(|(a, b)| a == b).count()
    }

    /// Notes that insert number `now` passes through `slot`, and takes it out of eviction's reach until [`Nodes::settle`].
    pub(super) fn hold(&mut self, slot: u32, now: u32) {
        self.unlink(slot);
        self.slots[slot].used_at = now;
    }

    /// Puts the last entry of a walk back: a leaf becomes the most recently used one.
    pub(super) fn settle(&mut self, slot: u32) {
        self.unlink(slot);
        if self.slots[slot].children == 0 {
            self.link_newest(slot);
        }
    }

    /// A new entry under `parent` ([`NIL`] for none) with as many of `hashes` as it takes, held as by [`Nodes::hold`]; `parent`
    /// must be held. Nothing when no place could be found.
    pub(super) fn add(
        &mut self,
        hashes: &[u64],
        parent: u32,
        now: u32,
        evicted: &mut Option<Evicted>,
    ) -> Option<u32> {
        let slot = self.take_place(NIL, evicted)?;
        let former = self.slots.get(parent).map_or(NIL, |node| node.child);
        let filed = match self.slots.get(former) {
            Some(node) => self.by_hash.insert(node.hashes[0], former),
            None => parent != NIL || self.by_hash.insert(hashes[0], slot),
        };
        if !filed {
            self.give_back(slot);
            return None;
        }
        let node = &mut self.slots[slot];
        let blocks = hashes.len().min(RUN_BLOCKS);
        node.hashes[..blocks].copy_from_slice(&hashes[..blocks]);
        // What lay here before was taken out of the list.
        (node.set, node.blocks, node.parent) = (SetId::NOBODY, blocks as u32, parent);
        (node.child, node.children, node.used_at) = (NIL, 0, now);
        self.blocks += blocks;
        if parent != NIL {
            // What was evicted may have been the parent's only child, which listed the parent as a leaf.
            self.unlink(parent);
            let parent = &mut self.slots[parent];
            parent.children += 1;
            parent.child = slot;
        }
        Some(slot)
    }

    /// Cuts `slot` after its first `blocks`, and returns the new entry of these; `slot` stays what follows. Whoever held the one
    /// holds both. Nothing when no place could be found.
    pub(super) fn split(&mut self, slot: u32, blocks: usize, evicted: &mut Option<Evicted>) -> Option<u32> {
        let head = self.take_place(slot, evicted)?;
        let old = self.slots[slot];
        match self.slots.get_mut(old.parent) {
            Some(parent) if parent.child == slot => parent.child = head,
            _ => self.by_hash.replace(old.hashes[0], slot, head),
        }
        let node = &mut self.slots[head];
        node.hashes[..blocks].copy_from_slice(&old.hashes[..blocks]);
        (node.set, node.blocks, node.parent) = (old.set, blocks as u32, old.parent);
        (node.child, node.children, node.used_at) = (slot, 1, old.used_at);
        let tail = &mut self.slots[slot];
        tail.hashes.copy_within(blocks..old.blocks as usize, 0);
        (tail.blocks, tail.parent) = (old.blocks - blocks as u32, head);
        Some(head)
    }

    /// Takes out a leaf that is on no walk.
    pub(super) fn drop_leaf(&mut self, slot: u32) -> Evicted {
        let evicted = self.take_out(slot);
        self.give_back(slot);
        evicted
    }

    /// A place for an entry: one given back, a new one, or that of the least recently used leaf other than `keep`. Nothing when
    /// every entry lies on the walk that is going on.
    fn take_place(&mut self, keep: u32, evicted: &mut Option<Evicted>) -> Option<u32> {
        if let Some(node) = self.slots.get(self.free) {
            return Some(std::mem::replace(&mut self.free, node.child));
        }
        if let Some(slot) = self.slots.push(FREE) {
            return Some(slot);
        }
        let slot = if self.oldest == keep { self.slots.get(keep)?.newer } else { self.oldest };
        self.slots.get(slot)?;
        *evicted = Some(self.take_out(slot));
        Some(slot)
    }

    fn give_back(&mut self, slot: u32) {
        self.slots[slot].blocks = 0;
        self.slots[slot].child = std::mem::replace(&mut self.free, slot);
    }

    fn take_out(&mut self, slot: u32) -> Evicted {
        let node = &self.slots[slot];
        let (set, blocks, used_at, parent) = (node.set, node.blocks, node.used_at, node.parent);
        self.blocks -= blocks as usize;
        let first = self.slots.get(parent).is_some_and(|parent| parent.child == slot);
        if !first {
            self.by_hash.remove(self.slots[slot].hashes[0], slot);
        }
        if let Some(above) = self.slots.get_mut(parent) {
            above.children -= 1;
            if first {
                above.child = NIL;
            }
            if above.children == 0 {
                // Last used together with what goes: it takes the place of that. Used later: not yet its turn.
                if above.used_at == used_at {
                    self.link_beside(parent, slot);
                } else {
                    self.link_newest(parent);
                }
            }
        }
        self.unlink(slot);
        Evicted { slot, set, blocks }
    }

    /// Takes `slot` out of the list of leaves, if it is in it.
    fn unlink(&mut self, slot: u32) {
        let Node { newer, older, .. } = self.slots[slot];
        if newer == NIL && self.newest != slot {
            return;
        }
        self.slots[slot].newer = NIL;
        self.slots[slot].older = NIL;
        match self.slots.get_mut(newer) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let second = std::mem::replace(&mut self.newest, slot);
        self.slots[slot].newer = NIL;
        self.slots[slot].older = second;
        match self.slots.get_mut(second) {
            Some(node) => node.newer = slot,
            None => self.oldest = slot,
        }
    }

    /// Puts `slot` next to `other`, which is in the list.
    fn link_beside(&mut self, slot: u32, other: u32) {
        let newer = std::mem::replace(&mut self.slots[other].newer, slot);
        self.slots[slot].newer = newer;
        self.slots[slot].older = other;
        match self.slots.get_mut(newer) {
            Some(node) => node.older = slot,
            None => self.newest = slot,
        }
    }
}

#[cfg(test)]
impl Nodes {
    /// The entries in use and their sets.
    pub(super) fn used(&self) -> Vec<(u32, SetId)> {
        let all = 0..self.slots.len() as u32;
        all.map(|slot| (slot, &self.slots[slot]))
            .filter(|(_, n)| n.blocks != 0)
            .map(|(slot, n)| (slot, n.set))
            .collect()
    }

    /// The sets of all entries in use, after checking that chains are prefix-closed, children are counted right and found, and
    /// the list holds exactly the leaves.
    pub(super) fn checked(&self) -> Vec<SetId> {
        let all = 0..self.slots.len() as u32;
        let used: Vec<u32> = all.filter(|&slot| self.slots[slot].blocks != 0).collect();
        assert_eq!(used.iter().map(|&slot| self.len_of(slot)).sum::<usize>(), self.blocks);
        let mut free = self.free;
        let mut unused = 0;
        while free != NIL {
            assert_eq!(self.slots[free].blocks, 0);
            (free, unused) = (self.slots[free].child, unused + 1);
        }
        assert_eq!(used.len() + unused, self.slots.len());
        let mut children = vec![0; self.slots.len()];
        for &slot in &used {
            let node = self.slots[slot];
            assert_eq!(self.find(node.hashes[0], node.parent), Some(slot));
            if node.parent != NIL {
                let parent = self.slots[node.parent];
                assert_ne!(parent.blocks, 0, "a parent went before its child");
                assert!(parent.child == NIL || self.slots[parent.child].parent == node.parent);
                children[node.parent as usize] += 1;
            }
        }
        assert!(used.iter().all(|&slot| self.slots[slot].children == children[slot as usize]));
        let mut listed = Vec::new();
        let (mut at, mut older) = (self.oldest, NIL);
        while at != NIL {
            assert_eq!(self.slots[at].older, older);
            listed.push(at);
            (older, at) = (at, self.slots[at].newer);
        }
        assert_eq!(older, self.newest);
        listed.sort_unstable();
        let leaves: Vec<u32> = used.iter().copied().filter(|&slot| children[slot as usize] == 0).collect();
        assert_eq!(listed, leaves);
        used.iter().map(|&slot| self.slots[slot].set).collect()
    }
}
