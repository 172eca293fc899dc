//! The block hashes of one prompt, hashed once and before any lock is taken.
//!
//! Rule: hash `i` stands for *everything* up to [`PromptHashes::depth_bytes`]`(i)`, because each block's XXH3 is mixed with the
//! hash before it; equal hashes mean equal prefixes (64 bits: a wrong match costs one bad placement, never a wrong answer).
//! Blocks are 64 bytes for the first 4 KiB and 256 beyond; what is left over is hashed as one short last block, so that an
//! identical prompt matches to its last byte whatever its length. XXH3 runs unseeded: a seed derives a new secret for each
//! block and costs twice the time. Deliberately not here: which worker has what, see [`super::PrefixIndex`].

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

/// Block length in the first [`SMALL_REGION_BYTES`].
pub const SMALL_BLOCK_BYTES: usize = 64;
/// Where the long blocks begin.
pub const SMALL_REGION_BYTES: usize = 4096;
/// Block length beyond [`SMALL_REGION_BYTES`].
pub const LARGE_BLOCK_BYTES: usize = 256;

const SMALL_BLOCKS: usize = SMALL_REGION_BYTES / SMALL_BLOCK_BYTES;
/// Chain value before the first block: the golden ratio's bits, any odd constant would do.
const CHAIN_START: u64 = 0x9E37_79B9_7F4A_7C15;

/// Chained block hashes of a text. Reusable: [`PromptHashes::rehash`] keeps the buffer. A clone shares it, so that a request in
/// flight can be remembered without a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptHashes {
    hashes: Arc<Vec<u64>>,
    len_bytes: u64,
}

impl PromptHashes {
    /// Hashes `text`.
    pub fn of(text: &[u8]) -> Self {
        let mut prompt = Self::default();
        prompt.rehash(text);
        prompt
    }

    /// The hashes of a text of `len_bytes` bytes that were told by [`PromptHashes::as_slice`]; `None` if no text of that length
    /// has so many, or one of them is 0.
    pub fn from_chain(hashes: Vec<u64>, len_bytes: u64) -> Option<Self> {
        let fits = hashes.len() == Self::block_count(len_bytes) && !hashes.contains(&0);
        fits.then(|| Self { hashes: hashes.into(), len_bytes })
    }

    /// How many hashes a text of `len_bytes` bytes has.
    pub fn block_count(len_bytes: u64) -> usize {
        let small = len_bytes.min(SMALL_REGION_BYTES as u64).div_ceil(SMALL_BLOCK_BYTES as u64);
        let large = len_bytes.saturating_sub(SMALL_REGION_BYTES as u64).div_ceil(LARGE_BLOCK_BYTES as u64);
        usize::try_from(small + large).unwrap_or(usize::MAX)
    }

    /// Replaces what is held by the hashes of `text`. The buffer takes 1/8 of the text's size at most (1/32 of a long one).
    pub fn rehash(&mut self, text: &[u8]) {
        self.len_bytes = text.len() as u64;
        let (small, large) = text.split_at(text.len().min(SMALL_REGION_BYTES));
        let blocks = small.len().div_ceil(SMALL_BLOCK_BYTES) + large.len().div_ceil(LARGE_BLOCK_BYTES);
        if Arc::get_mut(&mut self.hashes).is_none() {
            self.hashes = Arc::default();
        }
        let hashes = Arc::make_mut(&mut self.hashes);
        hashes.clear();
        hashes.reserve(blocks);
        let mut chain = CHAIN_START;
        for block in small.chunks(SMALL_BLOCK_BYTES).chain(large.chunks(LARGE_BLOCK_BYTES)) {
            chain = mix(chain, xxh3_64(block));
            hashes.push(chain);
        }
    }

    /// Hash of the first `prefix_bytes` of the text, which must be a length of [`PromptHashes::whole_blocks_bytes`]; of all of it
    /// if it is no longer than that. `None` if there is no text.
    pub fn prefix_hash(&self, prefix_bytes: u64) -> Option<u64> {
        let small = prefix_bytes.min(SMALL_REGION_BYTES as u64) / SMALL_BLOCK_BYTES as u64;
        let large = prefix_bytes.saturating_sub(SMALL_REGION_BYTES as u64) / LARGE_BLOCK_BYTES as u64;
        let blocks = usize::try_from(small + large).unwrap_or(usize::MAX).clamp(1, self.hashes.len().max(1));
        self.hashes.get(blocks - 1).copied()
    }

    /// How many blocks the first `bytes` of the text have, the whole ones and the short last one.
    pub fn blocks_within(&self, bytes: u64) -> usize {
        if bytes >= self.len_bytes {
            return self.hashes.len();
        }
        let small = bytes.min(SMALL_REGION_BYTES as u64) / SMALL_BLOCK_BYTES as u64;
        let large = bytes.saturating_sub(SMALL_REGION_BYTES as u64) / LARGE_BLOCK_BYTES as u64;
        (small + large) as usize
    }

    /// `bytes` rounded down to whole blocks, at least one: a length at which a hash stands for just this much.
    pub fn whole_blocks_bytes(bytes: u64) -> u64 {
        let block =
            if bytes < SMALL_REGION_BYTES as u64 { SMALL_BLOCK_BYTES } else { LARGE_BLOCK_BYTES } as u64;
        (bytes / block * block).max(SMALL_BLOCK_BYTES as u64)
    }

    /// Length of the text hashed, in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The chain, first block first; never holds 0.
    pub fn as_slice(&self) -> &[u64] {
        &self.hashes
    }

    /// How many bytes of the text the first `index + 1` hashes stand for.
    pub fn depth_bytes(&self, index: usize) -> u64 {
        let blocks = index + 1;
        let small = blocks.min(SMALL_BLOCKS) * SMALL_BLOCK_BYTES;
        let large = blocks.saturating_sub(SMALL_BLOCKS) * LARGE_BLOCK_BYTES;
        self.len_bytes.min((small + large) as u64)
    }
}

#[cfg(test)]
impl PromptHashes {
    /// A prompt of whole small blocks with this chain, as no text has it.
    pub(super) fn of_chain(hashes: Vec<u64>) -> Self {
        let len_bytes = (hashes.len() * SMALL_BLOCK_BYTES) as u64;
        Self { hashes: Arc::new(hashes), len_bytes }
    }
}

/// Folded 64 x 64 multiply (as in wyhash): order matters, every input bit reaches every output bit. 0 is kept free as a marker.
fn mix(chain: u64, block: u64) -> u64 {
    let wide = u128::from(chain ^ 0xA076_1D64_78BD_642F) * u128::from(block ^ 0xE703_7ED1_A0B4_28DB);
    ((wide as u64) ^ ((wide >> 64) as u64)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depths_are_the_block_ends_and_the_last_is_the_text() {
        let prompt = PromptHashes::of(&vec![b'x'; SMALL_REGION_BYTES + LARGE_BLOCK_BYTES + 7]);
        assert_eq!(prompt.as_slice().len(), SMALL_BLOCKS + 2);
        assert_eq!(prompt.depth_bytes(0), 64);
        assert_eq!(prompt.depth_bytes(63), 4096);
        assert_eq!(prompt.depth_bytes(64), 4096 + 256);
        assert_eq!(prompt.depth_bytes(65), prompt.len_bytes());
        for blocks in 1..=prompt.as_slice().len() {
            assert_eq!(prompt.blocks_within(prompt.depth_bytes(blocks - 1)), blocks);
            assert_eq!(prompt.blocks_within(prompt.depth_bytes(blocks - 1) - 1), blocks - 1);
        }
    }

    #[test]
    fn a_short_text_has_one_hash_and_an_empty_one_none() {
        assert_eq!(PromptHashes::of(b"hi").as_slice().len(), 1);
        assert_eq!(PromptHashes::of(b"hi").depth_bytes(0), 2);
        assert!(PromptHashes::of(b"").as_slice().is_empty());
    }

    #[test]
    fn equal_blocks_at_different_depths_hash_differently() {
        let prompt = PromptHashes::of(&[b'a'; 640]);
        let mut seen = prompt.as_slice().to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn one_changed_byte_changes_every_hash_from_its_block_on() {
        let text = vec![b'a'; 5000];
        let mut other = text.clone();
        other[70] = b'b';
        let (a, b) = (PromptHashes::of(&text), PromptHashes::of(&other));
        assert_eq!(a.as_slice()[0], b.as_slice()[0]);
        assert!(a.as_slice()[1..].iter().zip(&b.as_slice()[1..]).all(|(x, y)| x != y));
    }

    #[test]
    fn a_prefix_has_the_same_hash_however_far_the_text_was_hashed() {
        let text: Vec<u8> = (0..6_000u32).map(|n| (n % 251) as u8).collect();
        let whole = PromptHashes::of(&text);
        for (asked, blocks) in [(0, 64), (63, 64), (130, 128), (1024, 1024), (4500, 4352), (100_000, 99_840)]
        {
            let bytes = PromptHashes::whole_blocks_bytes(asked);
            assert_eq!(bytes, blocks);
            let cut = PromptHashes::of(&text[..text.len().min(bytes as usize)]);
            assert_eq!(whole.prefix_hash(bytes), cut.prefix_hash(bytes), "{asked}");
            assert_eq!(cut.prefix_hash(bytes), cut.as_slice().last().copied(), "{asked}");
        }
        assert_eq!(PromptHashes::of(b"").prefix_hash(1024), None);
    }

    #[test]
    fn a_chain_that_was_told_is_the_prompt_again_and_no_other_length_has_it() {
        for len in [0_usize, 1, 64, 65, 4096, 4097, 4352, 9000] {
            let prompt = PromptHashes::of(&vec![b'q'; len]);
            let chain = || prompt.as_slice().to_vec();
            assert_eq!(PromptHashes::from_chain(chain(), len as u64), Some(prompt.clone()), "{len}");
            assert_eq!(PromptHashes::from_chain(chain(), len as u64 + 256), None, "{len}");
        }
        assert_eq!(PromptHashes::from_chain(vec![0], 1), None);
    }

    #[test]
    fn a_reused_buffer_gives_the_same_hashes() {
        let mut reused = PromptHashes::of(&[b'z'; 9000]);
        reused.rehash(b"a later and shorter text");
        assert_eq!(reused, PromptHashes::of(b"a later and shorter text"));
    }

    #[test]
    fn a_clone_keeps_what_it_had_when_the_buffer_is_used_again() {
        let mut reused = PromptHashes::of(&[b'z'; 9000]);
        let kept = reused.clone();
        reused.rehash(b"another text");
        assert_eq!((kept, reused), (PromptHashes::of(&[b'z'; 9000]), PromptHashes::of(b"another text")));
    }
}
