//! Finding a byte in long text, eight bytes a step, and undoing JSON escapes.
//!
//! Prompts and cumulative answers are long, so the loops over them are the cost of looking. Rule: portable arithmetic on
//! `u64` ("zero in word", Mycroft), no panic. Deliberately not here: grammar.

const ONES: u64 = u64::MAX / 255;
const HIGHS: u64 = ONES << 7;

/// Eight copies of a byte.
const fn splat(byte: u8) -> u64 {
    ONES * byte as u64
}

/// Sets the high bit of each byte of `word` that equals `byte`; exact up to and including the lowest one.
fn equal(word: u64, byte: u8) -> u64 {
    let word = word ^ splat(byte);
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Bytes looked at together in long text: the loop over them has no way out, so the compiler makes vector instructions of it.
const BLOCK_BYTES: usize = 64;
/// Most texts (keys, ids, words) end within so many.
const SHORT_BYTES: usize = 24;

/// Index of the first byte that `marks` marks (by its high bit) and `is_marked` says yes to, else the length.
#[inline]
fn find(bytes: &[u8], marks: impl Fn(u64) -> u64, is_marked: impl Fn(u8) -> bool) -> usize {
    let mut rest = bytes;
    let at = |rest: &[u8]| bytes.len() - rest.len();
    while let Some((word, after)) = rest.split_first_chunk() {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return at(rest) + found.trailing_zeros() as usize / 8;
        }
        rest = after;
        if at(rest) == SHORT_BYTES {
            let any = |block: &[u8]| block.iter().fold(false, |any, &b| any | is_marked(b));
            let plain = rest.chunks_exact(BLOCK_BYTES).take_while(|block| !any(block)).count();
            rest = &rest[plain * BLOCK_BYTES..];
        }
    }
    at(rest) + rest.iter().position(|&b| is_marked(b)).unwrap_or(rest.len())
}

fn unplain(word: u64) -> u64 {
    let (quote, backslash) = (word ^ splat(b'"'), word ^ splat(b'\\'));
    let control = word.wrapping_sub(splat(0x20)) & !word;
    (control | quote.wrapping_sub(ONES) & !quote | backslash.wrapping_sub(ONES) & !backslash) & HIGHS
}

/// Length of the run before the first `"`, `\` or control character.
#[inline]
pub(super) fn plain_run(bytes: &[u8]) -> usize {
    find(bytes, unplain, |b| b == b'"' || b == b'\\' || b < 0x20)
}

/// Nothing in it is a `"`, a `\` or a control character.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    // The last word may overlap the one before; of less than a word the rest is made up.
    let last = match (bytes.last_chunk(), bytes) {
        (Some(last), _) => u64::from_le_bytes(*last),
        (None, short) => short.iter().fold(splat(b' '), |word, b| word << 8 | u64::from(*b)),
    };
    let (words, _) = bytes.as_chunks();
    words.iter().fold(unplain(last), |marks, word| marks | unplain(u64::from_le_bytes(*word))) == 0
}

/// Length of the line that begins here, or `None` if its CR or LF has not come yet.
pub(super) fn line_length(bytes: &[u8]) -> Option<usize> {
    let length = find(bytes, |word| equal(word, b'\n') | equal(word, b'\r'), |b| b == b'\n' || b == b'\r');
    (length < bytes.len()).then_some(length)
}

/// The value of four hex digits.
pub(super) fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, &b| Some(n << 4 | char::from(b).to_digit(16)?))
}

/// Undoes the escapes of a checked JSON string.
pub(super) fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let run = find(&raw[at..], |word| equal(word, b'\\'), |b| b == b'\\');
        text.extend_from_slice(&raw[at..at + run]);
        at += run;
        let Some(&kind) = raw.get(at + 1) else { break };
        at += 2;
        match kind {
            b'b' => text.push(8),
            b'f' => text.push(12),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            b'u' => {
                let (c, used) = code_point(raw, at);
                at += used;
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            other => text.push(other),
        }
    }
    text
}

/// The character of the hex digits at `at` (after `\u`) and how many bytes it took; a pair takes ten.
fn code_point(raw: &[u8], at: usize) -> (char, usize) {
    let high = hex4(raw, at).unwrap_or(0xFFFD);
    if (0xD800..0xDC00).contains(&high)
        && raw.get(at + 4..at + 6) == Some(b"\\u")
        && let Some(low @ 0xDC00..0xE000) = hex4(raw, at + 6)
    {
        let c = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        return (char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER), 10);
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 4)
}
