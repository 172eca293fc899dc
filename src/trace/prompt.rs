//! What the trace tells of prompts: nothing, keyed hashes of their blocks, their beginning, or their text.
//!
//! Rule: hashes are keyed before they leave the writer. The chain of a prompt's blocks (XXH3, not secret) is what a request has anyway;
//! SipHash-2-4 of it with a key that is drawn at start and written nowhere keeps what is equal equal, and nobody who has the trace
//! can try a guess. One key holds for all workers, files and starts of a router's run. Hashes that are not keyed yet cannot be written.
//! Deliberately not here: cutting a prompt into blocks (`milepost_policies::PromptHashes`), token counts.

use std::fmt;
use std::io;

use milepost_policies::PromptHashes;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::journal::PackedHashes;

/// Text of a block in bytes, about 64 tokens: eight make a block of the Mooncake form.
pub const BLOCK_BYTES: u64 = 256;
/// Blocks of a prompt that are told; what is behind them is not.
const MAX_BLOCKS: usize = 32_768;
/// Text of a prompt that is told, where text is: six bytes a byte at most, so that a line stays readable.
pub const MAX_TEXT_BYTES: usize = 128 * 1024;

/// What the trace tells of prompts (`--trace-prompt`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptTrace {
    /// Nothing but its length.
    None,
    /// Keyed hashes of its blocks.
    #[default]
    Hash,
    /// Its first characters.
    Head(usize),
    /// Its text.
    Full,
}

impl PromptTrace {
    /// Reads the flag's word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "hash" => Some(Self::Hash),
            "full" => Some(Self::Full),
            _ => text.strip_prefix("head:")?.parse().ok().filter(|chars| *chars > 0).map(Self::Head),
        }
    }

    /// The part of a text that is told as text.
    pub fn told(self, text: &[u8]) -> Option<String> {
        let text = &text[..text.len().min(MAX_TEXT_BYTES)];
        match self {
            Self::None | Self::Hash => None,
            Self::Full => Some(String::from_utf8_lossy(text).into_owned()),
            Self::Head(chars) => {
                // No character has more than four bytes.
                let text = &text[..text.len().min(chars.saturating_mul(4))];
                Some(String::from_utf8_lossy(text).chars().take(chars).collect())
            }
        }
    }
}

impl fmt::Display for PromptTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Hash => f.write_str("hash"),
            Self::Head(chars) => write!(f, "head:{chars}"),
            Self::Full => f.write_str("full"),
        }
    }
}

/// The block hashes of a prompt on their way into the trace.
#[derive(Clone, PartialEq)]
pub enum PromptBlocks {
    /// As the request has them; never written.
    Raw(PromptHashes),
    /// As they are written.
    Keyed(PackedHashes),
}

impl PromptBlocks {
    /// The keyed hashes; none while they are not.
    pub fn keyed(&self) -> &[u64] {
        match self {
            Self::Raw(_) => &[],
            Self::Keyed(hashes) => hashes.as_slice(),
        }
    }

    /// There is nothing that may be written.
    pub fn is_untold(blocks: &Option<Self>) -> bool {
        !matches!(blocks, Some(Self::Keyed(_)))
    }

    /// Bytes that it holds.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            Self::Raw(hashes) => size_of_val(hashes.as_slice()),
            Self::Keyed(hashes) => size_of_val(hashes.as_slice()),
        }
    }

    /// Keys them: of the chain those at the ends of blocks, and the last.
    pub(super) fn key(&mut self, key: PromptKey) {
        let Self::Raw(prompt) = self else { return };
        let chain = prompt.as_slice();
        let last = chain.len().saturating_sub(1);
        let at_end = |at: usize| at == last || prompt.depth_bytes(at).is_multiple_of(BLOCK_BYTES);
        let ends = (0..chain.len()).filter(|at| at_end(*at)).take(MAX_BLOCKS);
        let keyed: Vec<u64> = ends.map(|at| key.hash(chain[at])).collect();
        *self = Self::Keyed(keyed.as_slice().into());
    }
}

impl fmt::Debug for PromptBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(hashes) => write!(f, "{} hashes, not keyed", hashes.as_slice().len()),
            Self::Keyed(hashes) => write!(f, "{hashes:?}"),
        }
    }
}

impl Serialize for PromptBlocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Raw(_) => serializer.serialize_str(""),
            Self::Keyed(hashes) => hashes.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for PromptBlocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PackedHashes::deserialize(deserializer).map(Self::Keyed)
    }
}

/// The key of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PromptKey([u64; 2]);

impl PromptKey {
    /// One that nobody can guess.
    pub fn drawn() -> io::Result<Self> {
        let mut halves = [0_u64; 2];
        for half in &mut halves {
            let mut bytes = [0; 8];
            // The kernel gives so few at once or not at all.
            if getrandom(&mut bytes, GetRandomFlags::empty())? < bytes.len() {
                return Err(io::Error::other("the system gives no random bytes"));
            }
            *half = u64::from_le_bytes(bytes);
        }
        Ok(Self(halves))
    }

    /// Tells whether two captures have the same key, and nothing else of it.
    pub fn id(self) -> String {
        format!("{:016x}", self.hash(0))
    }

    /// SipHash-2-4 of eight bytes.
    fn hash(self, value: u64) -> u64 {
        let [k0, k1] = self.0;
        let mut state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        // The value, then a word that is the length alone.
        for word in [value, 8 << 56] {
            state[3] ^= word;
            (0..2).for_each(|_| round(&mut state));
            state[0] ^= word;
        }
        state[2] ^= 0xff;
        (0..4).for_each(|_| round(&mut state));
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

impl fmt::Debug for PromptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PromptKey(..)")
    }
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(text: &[u8], key: PromptKey) -> Vec<u64> {
        let mut blocks = PromptBlocks::Raw(PromptHashes::of(text));
        blocks.key(key);
        blocks.keyed().to_vec()
    }

    const KEY: PromptKey = PromptKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);

    #[test]
    fn the_hash_is_siphash() {
        // The published vector of eight bytes.
        assert_eq!(
            KEY.hash(0x0706_0504_0302_0100),
            u64::from_le_bytes([0x62, 0x24, 0x93, 0x9a, 0x79, 0xf5, 0xf5, 0x93])
        );
    }

    #[test]
    fn equal_beginnings_have_equal_blocks_and_another_key_has_none_of_them() {
        let text: Vec<u8> = (0..20_000_u32).map(|i| (i % 251) as u8).collect();
        let whole = keyed(&text, KEY);
        assert_eq!(whole.len(), 20_000_usize.div_ceil(256));
        let mut other = text.clone();
        other[10_000] ^= 1;
        let other = keyed(&other, KEY);
        assert_eq!(whole.iter().zip(&other).filter(|(a, b)| a == b).count(), 10_000 / 256);
        assert_eq!(whole[..10_000 / 256], other[..10_000 / 256]);
        assert_eq!(keyed(&text[..300], KEY).len(), 2);
        assert_eq!(keyed(&text[..300], KEY)[0], whole[0]);
        assert!(keyed(&text, PromptKey::drawn().unwrap()).iter().all(|hash| !whole.contains(hash)));
        assert!(keyed(b"", KEY).is_empty());
    }

    #[test]
    fn hashes_that_are_not_keyed_are_not_written() {
        let raw = PromptBlocks::Raw(PromptHashes::of(b"secret"));
        assert_eq!(serde_json::to_string(&raw).unwrap(), "\"\"");
        assert!(PromptBlocks::is_untold(&Some(raw.clone())));
        assert!(
            !format!("{raw:?} {KEY:?}").contains(&format!("{:x}", PromptHashes::of(b"secret").as_slice()[0]))
        );
    }

    #[test]
    fn the_flag_is_read_as_it_is_shown() {
        for text in ["none", "hash", "head:1", "head:200", "full"] {
            assert_eq!(PromptTrace::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "head", "head:", "head:0", "head:-1", "all", "HASH"] {
            assert_eq!(PromptTrace::parse(text), None, "{text}");
        }
        let text = "aé漢😀z".as_bytes();
        assert_eq!(PromptTrace::Head(3).told(text).as_deref(), Some("aé漢"));
        assert_eq!(PromptTrace::Full.told(&vec![b'x'; 200_000]).map(|told| told.len()), Some(MAX_TEXT_BYTES));
        assert_eq!((PromptTrace::Hash.told(text), PromptTrace::None.told(text)), (None, None));
    }
}
