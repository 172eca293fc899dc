//! Block hashes as one string of hexadecimal digits.
//!
//! Rule: packed by whoever writes the line, not by the request; 16 digits a hash, the first hash first. A list of numbers would be longer, and
//! would not survive readers that hold numbers as floats. Deliberately not here: what the hashes stand for.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DIGITS: usize = 16;

/// Hashes that are written as one string.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PackedHashes(Box<[u64]>);

impl PackedHashes {
    /// The hashes.
    pub fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

impl From<&[u64]> for PackedHashes {
    fn from(hashes: &[u64]) -> Self {
        Self(hashes.into())
    }
}

impl fmt::Debug for PackedHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hashes", self.0.len())
    }
}

impl Serialize for PackedHashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len() * DIGITS);
        for hash in &self.0 {
            for shift in (0..64).step_by(4).rev() {
                text.push(char::from(b"0123456789abcdef"[(hash >> shift & 0xf) as usize]));
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for PackedHashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Digits)
    }
}

struct Digits;

impl Visitor<'_> for Digits {
    type Value = PackedHashes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hashes of {DIGITS} hexadecimal digits each")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PackedHashes, E> {
        let (hashes, rest) = text.as_bytes().as_chunks::<DIGITS>();
        if !rest.is_empty() {
            return Err(E::invalid_length(text.len(), &self));
        }
        let read = |digits: &[u8; DIGITS]| {
            let digits = digits.iter().map(|digit| char::from(*digit).to_digit(16).map(u64::from));
            digits.into_iter().try_fold(0_u64, |hash, digit| Some(hash << 4 | digit?))
        };
        let hashes: Option<Box<[u64]>> = hashes.iter().map(read).collect();
        hashes.map(PackedHashes).ok_or_else(|| E::custom("a character that is no hexadecimal digit"))
    }
}
