//! Places of one size, numbered, that grow in pieces and never move.
//!
//! Rule: growing by one costs at most one piece asked of the allocator, whose pages are touched as they fill; nothing is copied
//! and nothing is given back in bulk, as either would be a pause under the router's lock. What is taken is what
//! [`Slab::memory_bytes`] says. Deliberately not here: which places are free; who holds one says so.

use std::ops::{Index, IndexMut};

const PIECE_BITS: u32 = 11;
/// Places in a piece.
const PIECE: usize = 1 << PIECE_BITS;

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pieces: Vec<Vec<T>>,
    len: usize,
    capacity: usize,
}

impl<T> Slab<T> {
    /// Most bytes that `capacity` places take.
    pub(crate) const fn most_bytes(capacity: usize) -> usize {
        capacity * size_of::<T>() + capacity.div_ceil(PIECE) * size_of::<Vec<T>>()
    }

    /// Room for `capacity` places, none of them taken yet.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        // The list of pieces is small, and whole from the start it is never copied.
        Self { pieces: Vec::with_capacity(capacity.div_ceil(PIECE)), len: 0, capacity }
    }

    /// Places taken.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes asked of the allocator.
    pub(crate) fn memory_bytes(&self) -> usize {
        let places: usize = self.pieces.iter().map(Vec::capacity).sum();
        places * size_of::<T>() + self.pieces.capacity() * size_of::<Vec<T>>()
    }

    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.pieces.get((at >> PIECE_BITS) as usize)?.get(at as usize % PIECE)
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.pieces.get_mut((at >> PIECE_BITS) as usize)?.get_mut(at as usize % PIECE)
    }

    /// Takes one more place; its number, `None` if all are taken.
    pub(crate) fn push(&mut self, value: T) -> Option<u32> {
        if self.len == self.capacity {
            return None;
        }
        if self.len.is_multiple_of(PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE.min(self.capacity - self.len)));
        }
        self.pieces.last_mut()?.push(value);
        self.len += 1;
        Some(self.len as u32 - 1)
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.pieces[(at >> PIECE_BITS) as usize][at as usize % PIECE]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.pieces[(at >> PIECE_BITS) as usize][at as usize % PIECE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_by_pieces_to_its_capacity_and_takes_no_more_than_it_said() {
        let capacity = 2 * PIECE + 5;
        let mut slab = Slab::with_capacity(capacity);
        let empty_bytes = slab.memory_bytes();
        assert!(empty_bytes < 100);
        for n in 0..capacity {
            assert_eq!(slab.push(n as u64), Some(n as u32));
            assert!(slab.memory_bytes() <= Slab::<u64>::most_bytes(capacity));
        }
        assert_eq!(slab.push(0), None);
        assert_eq!(
            (slab.len(), slab[PIECE as u32], slab.get(capacity as u32)),
            (capacity, PIECE as u64, None)
        );
        assert_eq!(slab.memory_bytes(), Slab::<u64>::most_bytes(capacity));
    }
}
