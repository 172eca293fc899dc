//! Hashes of names: a worker's URL, a routing key, who asks.
//!
//! Rule: the same bytes give the same hash in every router, over restarts and versions, because rings and sticky keys depend on
//! it. Unseeded XXH3, as for prompts: who wants to can make names collide, which costs a placement and nothing else.
//! Deliberately not here: prompts ([`crate::PromptHashes`]), secrets that must not be guessed from their hash.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};

/// Hash of a name, such as a worker's URL.
pub fn name_hash(name: &[u8]) -> u64 {
    xxh3_64(name)
}

/// [`name_hash`] of what comes in pieces.
#[derive(Clone, Default)]
pub struct PieceHash(Xxh3);

impl PieceHash {
    /// Takes the next piece.
    pub fn add(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Of all pieces so far.
    pub fn hash(&self) -> u64 {
        self.0.digest()
    }
}

/// Another hash of a name, which says nothing of [`name_hash`] nor of the one by another `salt`.
pub fn salted_hash(name: &[u8], salt: u64) -> u64 {
    xxh3_64_with_seed(name, salt)
}

/// The `number`th hash derived from `hash`.
pub(crate) fn derived(hash: u64, number: u64) -> u64 {
    xxh3_64_with_seed(&hash.to_le_bytes(), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_do_not_change_from_version_to_version() {
        assert_eq!(name_hash(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(name_hash(b"http://127.0.0.1:8000"), name_hash(b"http://127.0.0.1:8000"));
        assert_eq!(salted_hash(b"a", 1), salted_hash(b"a", 1));
        assert_ne!(salted_hash(b"a", 1), salted_hash(b"a", 2));
        assert_ne!(derived(7, 0), derived(7, 1));
        assert_ne!(derived(7, 0), derived(8, 0));
    }

    #[test]
    fn pieces_have_the_hash_of_the_whole() {
        let whole: Vec<u8> = (0..2000_u32).flat_map(u32::to_le_bytes).collect();
        let mut pieces = PieceHash::default();
        whole.chunks(333).for_each(|piece| pieces.add(piece));
        assert_eq!(pieces.hash(), name_hash(&whole));
    }
}
