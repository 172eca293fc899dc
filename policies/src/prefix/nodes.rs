//! The entries of the index: one per known block chain, in one array of fixed capacity, the leaves in order of last use.
//!
//! Rule: only leaves are evicted, least recently used first, each in constant time; so a chain loses its tail before its head
//! and stays prefix-closed. Internal entries are in no list: every use of a prompt touches all of its prefix, so a parent is
//! never older than its children, and becomes a leaf exactly when its last child goes. A new chain takes places side by side
//! (forward in fresh space, backward where an old chain goes tail first), and an entry beside its parent is found from there:
//! only the others are filed by hash, so a walk mostly reads on in memory and a long insert rarely misses the cache.
//! Deliberately not here: who holds an entry, see [`super::holders`].

use super::holders::SetId;
use super::table::SlotTable;

/// No entry.
pub(super) const NIL: u32 = u32::MAX;

/// One block of some prompt: 32 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Chained hash of the block; 0 for a place that is not in use.
    hash: u64,
    /// Who holds the text up to here.
    pub(super) set: SetId,
    parent: u32,
    children: u32,
    /// Number of the insert that last used it.
    used_at: u32,
    newer: u32,
    older: u32,
}

/// The entries and the way to find them.
#[derive(Debug)]
pub(super) struct Nodes {
    slots: Vec<Node>,
    by_hash: SlotTable,
    capacity: usize,
    /// A place whose entry could not be filed.
    spare: Option<u32>,
    newest: u32,
    oldest: u32,
}

impl Nodes {
    /// What one entry costs.
    pub(super) const BYTES_PER_NODE: usize = size_of::<Node>() + SlotTable::BYTES_PER_SLOT;

    pub(super) fn with_capacity(capacity: usize) -> Self {
        let by_hash = SlotTable::with_capacity(capacity);
        Self { slots: Vec::with_capacity(capacity), by_hash, capacity, spare: None, newest: NIL, oldest: NIL }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - usize::from(self.spare.is_some())
    }

    /// Address space taken: the array is reserved whole, its pages are paid for when used.
    pub(super) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Node>() + self.by_hash.memory_bytes()
    }

    pub(super) fn set_of(&self, slot: u32) -> SetId {
        self.slots[slot as usize].set
    }

    pub(super) fn set_of_mut(&mut self, slot: u32) -> &mut SetId {
        &mut self.slots[slot as usize].set
    }

    /// The entry of `hash`, which follows `parent` ([`NIL`] for the first of a chain).
    pub(super) fn find(&self, hash: u64, parent: u32) -> Option<u32> {
        if self.slots.get(parent as usize).is_some_and(|node| node.children == 0) {
            return None;
        }
        let beside =
            |slot: u32| self.slots.get(slot as usize).is_some_and(|node| node.hash == hash).then_some(slot);
        beside(parent.wrapping_add(1))
            .or_else(|| beside(parent.wrapping_sub(1)))
            .or_else(|| self.by_hash.find(hash, |slot| self.slots[slot as usize].hash == hash))
    }

    /// Notes that insert number `now` passes through `slot`, and takes it out of eviction's reach until [`Nodes::settle`].
    pub(super) fn hold(&mut self, slot: u32, now: u32) {
        self.unlink(slot);
        self.slots[slot as usize].used_at = now;
    }

    /// Puts the last entry of a walk back: a leaf becomes the most recently used one.
    pub(super) fn settle(&mut self, slot: u32) {
        self.unlink(slot);
        if self.slots[slot as usize].children == 0 {
            self.link_newest(slot);
        }
    }

    /// A new entry under `parent` ([`NIL`] for none), held as by [`Nodes::hold`]; `parent` must be held. Nothing when no place
    /// could be found. When another entry had to go, its holders are in `evicted`.
    pub(super) fn add(
        &mut self,
        hash: u64,
        parent: u32,
        now: u32,
        evicted: &mut Option<SetId>,
    ) -> Option<u32> {
        let slot = match self.spare.take() {
            Some(slot) => slot,
            None if self.slots.len() < self.capacity => self.slots.len() as u32,
            None => {
                let (slot, set) = self.evict()?;
                *evicted = Some(set);
                slot
            }
        };
        let free = Node {
            hash: 0,
            set: SetId::NOBODY,
            parent: NIL,
            children: 0,
            used_at: 0,
            newer: NIL,
            older: NIL,
        };
        let filed = is_beside(slot, parent) || self.by_hash.insert(hash, slot);
        let node = if filed { Node { hash, parent, used_at: now, ..free } } else { free };
        if (slot as usize) < self.slots.len() {
            self.slots[slot as usize] = node;
        } else {
            self.slots.push(node);
        }
        if !filed {
            self.spare = Some(slot);
            return None;
        }
        if parent != NIL {
            // What was evicted may have been the parent's only child, which listed the parent as a leaf.
            self.unlink(parent);
            self.slots[parent as usize].children += 1;
        }
        Some(slot)
    }

    /// Takes out the least recently used leaf. Nothing when every entry lies on the walk that is going on.
    fn evict(&mut self) -> Option<(u32, SetId)> {
        let slot = self.oldest;
        let node = *self.slots.get(slot as usize)?;
        self.unlink(slot);
        if !is_beside(slot, node.parent) {
            self.by_hash.remove(node.hash, slot);
        }
        self.slots[slot as usize].hash = 0;
        if let Some(parent) = self.slots.get_mut(node.parent as usize) {
            parent.children -= 1;
            if parent.children == 0 {
                // Last used together with what went: it is now the oldest. Used later than that: not yet its turn.
                if parent.used_at == node.used_at {
                    self.link_oldest(node.parent);
                } else {
                    self.link_newest(node.parent);
                }
            }
        }
        Some((slot, node.set))
    }

    /// Takes `slot` out of the list of leaves, if it is in it.
    fn unlink(&mut self, slot: u32) {
        let Node { newer, older, .. } = self.slots[slot as usize];
        if newer == NIL && self.newest != slot {
            return;
        }
        self.slots[slot as usize].newer = NIL;
        self.slots[slot as usize].older = NIL;
        match self.slots.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let second = std::mem::replace(&mut self.newest, slot);
        self.slots[slot as usize].newer = NIL;
        self.slots[slot as usize].older = second;
        match self.slots.get_mut(second as usize) {
            Some(node) => node.newer = slot,
            None => self.oldest = slot,
        }
    }

    fn link_oldest(&mut self, slot: u32) {
        let second = std::mem::replace(&mut self.oldest, slot);
        self.slots[slot as usize].older = NIL;
        self.slots[slot as usize].newer = second;
        match self.slots.get_mut(second as usize) {
            Some(node) => node.older = slot,
            None => self.newest = slot,
        }
    }
}

/// An entry right before or behind its parent is found from there, and not filed.
fn is_beside(slot: u32, parent: u32) -> bool {
    slot.abs_diff(parent) == 1
}

#[cfg(test)]
impl Nodes {
    /// The sets of all entries in use, after checking that chains are prefix-closed, children are counted right, and the list
    /// holds exactly the leaves.
    pub(super) fn checked(&self) -> Vec<SetId> {
        let used: Vec<u32> =
            (0..self.slots.len() as u32).filter(|&slot| self.slots[slot as usize].hash != 0).collect();
        assert_eq!(used.len(), self.len());
        assert!(self.slots.len() <= self.capacity);
        let mut children = vec![0; self.slots.len()];
        for &slot in &used {
            let node = self.slots[slot as usize];
            assert_eq!(self.find(node.hash, node.parent), Some(slot));
            if node.parent != NIL {
                assert_ne!(self.slots[node.parent as usize].hash, 0, "a parent went before its child");
                children[node.parent as usize] += 1;
            }
        }
        assert!(used.iter().all(|&slot| self.slots[slot as usize].children == children[slot as usize]));
        let mut listed = Vec::new();
        let (mut at, mut older) = (self.oldest, NIL);
        while at != NIL {
            assert_eq!(self.slots[at as usize].older, older);
            listed.push(at);
            (older, at) = (at, self.slots[at as usize].newer);
        }
        assert_eq!(older, self.newest);
        listed.sort_unstable();
        let leaves: Vec<u32> = used.iter().copied().filter(|&slot| children[slot as usize] == 0).collect();
        assert_eq!(listed, leaves);
        used.iter().map(|&slot| self.slots[slot as usize].set).collect()
    }
}
