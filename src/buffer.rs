//! Bytes that are being written: heads, lines of the trace.
//!
//! Why not `Vec<u8>` alone: each append to one is a call, with a copy of a length known only then; a head and a record are two
//! hundred of them, and were 4 of the 46 thousand instructions of a small request. Here the room is there before it is needed,
//! and a constant becomes one or two stores. Rule: a method that is inlined is small. Deliberately not here: what is written.

#![expect(
    clippy::inline_always,
    reason = "only inlined is the length of a constant known, and its copy a store"
)]

use std::fmt;

/// Eight decimal digits in one word, the first in its lowest byte, each as a number of 0 to 9: halves, then pairs, then digits
/// are split off in all places at once, with multiplications by rounded reciprocals that are exact for numbers this small.
fn eight_digits(n: u32) -> u64 {
    let halves = u64::from(n / 10_000) | u64::from(n % 10_000) << 32;
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007F_0000_007F;
    let pairs = hundreds | (halves - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000F_000F_000F_000F;
    tens | (pairs - 10 * tens) << 8
}

/// Eight times `'0'`.
const ASCII_ZEROS: u64 = 0x3030_3030_3030_3030;
/// The first number with more than eight digits.
const EIGHT: u64 = 100_000_000;

/// Bytes written so far, with room for more.
#[derive(Clone, Default)]
pub struct Buffer {
    // Behind `len` lies nothing in particular.
    room: Vec<u8>,
    len: usize,
}

impl Buffer {
    /// An empty one with room for so many bytes.
    pub fn with_room(bytes: usize) -> Self {
        Self { room: vec![0; bytes], len: 0 }
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was written; the room stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets what was written after the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Appends bytes; of a constant, without a call.
    #[inline(always)]
    pub fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if end > self.room.len() {
            self.grow(bytes.len());
        }
        if let Some(room) = self.room.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }

    /// Appends `,"key":`; the key holds nothing that JSON would escape.
    #[inline(always)]
    pub fn push_key(&mut self, key: &str) {
        let end = self.len + key.len() + 4;
        if end > self.room.len() {
            self.grow(key.len() + 4);
        }
        if let Some(room) = self.room.get_mut(self.len..end) {
            room[0] = b',';
            room[1] = b'"';
            room[2..key.len() + 2].copy_from_slice(key.as_bytes());
            room[key.len() + 2] = b'"';
            room[key.len() + 3] = b':';
            self.len = end;
        }
    }

    /// Appends text between quotes; it holds nothing that JSON would escape.
    pub fn push_quoted(&mut self, text: &[u8]) {
        let end = self.len + text.len() + 2;
        if end > self.room.len() {
            self.grow(text.len() + 2);
        }
        if let Some([open, room @ .., close]) = self.room.get_mut(self.len..end) {
            *open = b'"';
            room.copy_from_slice(text);
            *close = b'"';
            self.len = end;
        }
    }

    /// Overwrites a byte that was written.
    pub fn replace(&mut self, at: usize, byte: u8) {
        if let Some(old) = self.room[..self.len].get_mut(at) {
            *old = byte;
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, more_bytes: usize) {
        let wanted = (self.len + more_bytes).max(2 * self.room.len()).max(64);
        self.room.resize(wanted, 0);
    }

    /// Appends decimal digits.
    pub fn push_u64(&mut self, n: u64) {
        if n < 10 {
            self.push(&[b'0' + n as u8]);
        } else if n < EIGHT {
            let digits = eight_digits(n as u32);
            let leading_zeros = (digits | 1 << 56).trailing_zeros() / 8;
            // All eight in one store, and then those behind the number taken back.
            self.push(&((digits + ASCII_ZEROS) >> (8 * leading_zeros)).to_le_bytes());
            self.len -= leading_zeros as usize;
        } else {
            self.push_u64(n / EIGHT);
            self.push_eight(n % EIGHT);
        }
    }

    /// Appends eight digits, zeros in front.
    fn push_eight(&mut self, n: u64) {
        self.push(&(eight_digits(n as u32) + ASCII_ZEROS).to_le_bytes());
    }

    /// Appends Unix seconds with nine decimals (`1795302685.059300200`), so that Python's `float()` reads it.
    pub fn push_unix_seconds(&mut self, unix_ns: u64) {
        self.push_u64(unix_ns / 1_000_000_000);
        let nine = unix_ns % 1_000_000_000;
        self.push(&[b'.', b'0' + (nine / EIGHT) as u8]);
        self.push_eight(nine % EIGHT);
    }

    /// Appends a duration in milliseconds with three decimals, the form of `Server-Timing`'s `dur`.
    pub fn push_millis(&mut self, ns: u64) {
        self.push_u64(ns / 1_000_000);
        let [a, b, c] = [100, 10, 1].map(|unit| b'0' + (ns % 1_000_000 / 1_000 / unit % 10) as u8);
        self.push(&[b'.', a, b, c]);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Buffer").field(&String::from_utf8_lossy(self.as_bytes())).finish()
    }
}

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl Fn(&mut Buffer)) -> String {
        let mut out = Buffer::default();
        push(&mut out);
        String::from_utf8(out.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn grows_as_it_must_and_keeps_what_was_written() {
        let mut out = Buffer::with_room(3);
        let mut wanted = Vec::new();
        for n in 0..200u8 {
            let piece = vec![n; usize::from(n % 70)];
            out.push(&piece);
            wanted.extend_from_slice(&piece);
            assert_eq!(out.as_bytes(), wanted);
        }
        out.truncate(5);
        out.truncate(9);
        out.push(b"!");
        assert_eq!((out.as_bytes(), out.len()), (&[1, 2, 2, 3, 3, b'!'][..], 6));
        out.clear();
        assert!(out.is_empty());
    }

    #[test]
    fn digits_are_those_of_fmt() {
        for n in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(text(|o| o.push_u64(n)), n.to_string());
        }
        let mut power = 1u64;
        for _ in 0..19 {
            for n in [power - 1, power, power + 1, power * 3 / 2, power.wrapping_mul(9) / 7] {
                assert_eq!(text(|o| o.push_u64(n)), n.to_string());
            }
            power *= 10;
        }
        for n in (0..EIGHT).step_by(9_973) {
            assert_eq!(text(|o| o.push_u64(n)), n.to_string());
        }
    }

    #[test]
    fn unix_seconds_keep_nine_decimals() {
        assert_eq!(text(|o| o.push_unix_seconds(1_795_302_685_059_300_200)), "1795302685.059300200");
        assert_eq!(text(|o| o.push_unix_seconds(1_999_999_999_999_999_999)), "1999999999.999999999");
        assert_eq!(text(|o| o.push_unix_seconds(7)), "0.000000007");
    }

    #[test]
    fn millis_keep_three_decimals() {
        assert_eq!(text(|o| o.push_millis(1_234_567)), "1.234");
        assert_eq!(text(|o| o.push_millis(999)), "0.000");
        assert_eq!(text(|o| o.push_millis(70_000)), "0.070");
    }
}
