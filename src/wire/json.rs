//! A cursor over JSON bytes: reads the values that are asked for and steps over the rest.
//!
//! Why not serde alone: a wrong type in one field must not cost the others, a lone surrogate must not cost the prompt, and
//! `serde_json` steps over strings (images, cumulative text) a byte at a time; this does eight. It accepts what `serde_json`
//! accepts (a property test compares them), except that text inside strings is not checked to be UTF-8.
//! Rule: no recursion, no panic, depth at most [`MAX_DEPTH`]. Deliberately not here: numbers as values of a tree, writing.

use std::borrow::Cow;

use super::scan::{hex4, plain_run, unescape};

/// Deepest nesting that is stepped over; Python's own parser gives up near 1000.
pub(super) const MAX_DEPTH: usize = 1024;

/// The bytes are not JSON (or nest deeper than [`MAX_DEPTH`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

type Result<T> = std::result::Result<T, Malformed>;

/// What the next value is, from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

/// A string value as it stands between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawStr<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> RawStr<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// The text: borrowed unless it holds an escape. A lone surrogate becomes U+FFFD; nothing after it is lost.
    pub(super) fn text(self) -> Cow<'a, [u8]> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }

    /// The text as `str`; bytes that are not UTF-8 become U+FFFD.
    pub(super) fn string(self) -> Cow<'a, str> {
        match self.text() {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

/// A place in JSON bytes.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// What comes next, after white space.
    pub(super) fn peek(&mut self) -> Result<Kind> {
        match self.byte_after_space()? {
            b'{' => Ok(Kind::Object),
            b'[' => Ok(Kind::Array),
            b'"' => Ok(Kind::String),
            b'-' | b'0'..=b'9' => Ok(Kind::Number),
            b't' => Ok(Kind::True),
            b'f' => Ok(Kind::False),
            b'n' => Ok(Kind::Null),
            _ => Err(Malformed),
        }
    }

    /// Where it is, to be given to [`Cursor::since`].
    pub(super) fn place(&self) -> usize {
        self.at
    }

    /// What was consumed since it was at `place`.
    pub(super) fn since(&self, place: usize) -> &'a [u8] {
        &self.bytes[place.min(self.at)..self.at]
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<()> {
        self.space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(Malformed) }
    }

    /// Calls `member` for each member of the object that comes next; it must consume exactly one value.
    /// A value that is no object is stepped over.
    pub(super) fn object(&mut self, mut member: impl FnMut(&[u8], &mut Self) -> Result<()>) -> Result<()> {
        if self.peek()? != Kind::Object {
            return self.skip().map(drop);
        }
        self.at += 1;
        if self.byte_after_space()? == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            if key.escaped {
                member(&key.text(), self)?;
            } else {
                member(key.raw, self)?;
            }
            if !self.another(b'}')? {
                return Ok(());
            }
        }
    }

    /// Calls `element` for each element of the array that comes next; it must consume exactly one value.
    /// A value that is no array is stepped over.
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        if self.peek()? != Kind::Array {
            return self.skip().map(drop);
        }
        self.at += 1;
        if self.byte_after_space()? == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            if !self.another(b']')? {
                return Ok(());
            }
        }
    }

    /// The string that comes next; any other value is stepped over and gives `None`.
    pub(super) fn str(&mut self) -> Result<Option<RawStr<'a>>> {
        if self.peek()? == Kind::String { self.quoted().map(Some) } else { self.skip().map(|_| None) }
    }

    /// The finite number that comes next; any other value is stepped over and gives `None`.
    pub(super) fn f64(&mut self) -> Result<Option<f64>> {
        Ok(self.number()?.and_then(|text| text.parse().ok()).filter(|n: &f64| n.is_finite()))
    }

    /// The count that comes next, written as `8` or `8.0`; any other value is stepped over and gives `None`.
    pub(super) fn u64(&mut self) -> Result<Option<u64>> {
        if self.peek()? == Kind::Number
            && let Some(count) = self.plain_count()
        {
            return Ok(Some(count));
        }
        Ok(self.number()?.and_then(|text| text.parse().ok().or_else(|| count_of_float(text.parse().ok()?))))
    }

    /// A count of up to 18 digits and nothing else, as nearly all are; otherwise nothing is consumed.
    fn plain_count(&mut self) -> Option<u64> {
        let mut count = 0;
        let mut at = self.at;
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(at) {
            count = 10 * count + u64::from(digit - b'0');
            at += 1;
            if at - self.at > 18 {
                return None;
            }
        }
        let leading_zero = at - self.at > 1 && self.bytes[self.at] == b'0';
        if at == self.at || leading_zero || matches!(self.bytes.get(at), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.at = at;
        Some(count)
    }

    /// The truth value that comes next; any other value is stepped over and gives `None`.
    pub(super) fn bool(&mut self) -> Result<Option<bool>> {
        let kind = self.peek()?;
        self.skip()?;
        Ok(match kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        })
    }

    /// The digits of the number that comes next, as they stand.
    pub(super) fn number(&mut self) -> Result<Option<&'a str>> {
        if self.peek()? != Kind::Number {
            return self.skip().map(|_| None);
        }
        let start = self.at;
        self.digits()?;
        Ok(std::str::from_utf8(&self.bytes[start..self.at]).ok())
    }

    /// Steps over one value and gives its bytes.
    pub(super) fn skip(&mut self) -> Result<&'a [u8]> {
        self.space();
        let start = self.at;
        if let Some(close) = self.scalar_or_open()? {
            self.skip_nested(close)?;
        }
        Ok(&self.bytes[start..self.at])
    }

    /// Steps over a scalar, or tells how the object or array that begins here will close.
    fn scalar_or_open(&mut self) -> Result<Option<u8>> {
        match self.peek()? {
            Kind::Object => return Ok(Some(b'}')),
            Kind::Array => return Ok(Some(b']')),
            Kind::String => drop(self.quoted()?),
            Kind::Number => self.digits()?,
            Kind::True => self.literal(b"true")?,
            Kind::False => self.literal(b"false")?,
            Kind::Null => self.literal(b"null")?,
        }
        Ok(None)
    }

    fn skip_nested(&mut self, close: u8) -> Result<()> {
        let mut open = Nesting::default();
        let mut opened = Some(close);
        loop {
            if let Some(close) = opened {
                self.at += 1;
                if self.byte_after_space()? == close {
                    self.at += 1;
                } else {
                    open.push(close == b'}')?;
                    if close == b'}' {
                        self.key()?;
                    }
                    opened = self.scalar_or_open()?;
                    continue;
                }
            }
            loop {
                let Some(in_object) = open.top() else {
                    return Ok(());
                };
                if self.another(if in_object { b'}' } else { b']' })? {
                    if in_object {
                        self.key()?;
                    }
                    break;
                }
                open.pop();
            }
            opened = self.scalar_or_open()?;
        }
    }

    /// Adds the elements of a list of plain counts (token ids) to `out` as they stand, each after a space unless it is the
    /// first; false, with nothing consumed or added, if the list holds anything else.
    pub(super) fn counts(&mut self, out: &mut Vec<u8>) -> bool {
        self.space();
        let Some(list) = self.bytes[self.at..].strip_prefix(b"[") else {
            return false;
        };
        let before = out.len();
        let mut digits = 0;
        let mut ended = true;
        for (i, &byte) in list.iter().enumerate() {
            match byte {
                b'0'..=b'9' if !ended || digits == 0 => {
                    if ended && !out.is_empty() {
                        out.push(b' ');
                    }
                    ended = false;
                    digits += 1;
                    out.push(byte);
                }
                b' ' | b'\n' | b'\r' | b'\t' => ended = true,
                b',' | b']' if digits > 0 && !(digits > 1 && out[out.len() - digits] == b'0') => {
                    if byte == b']' {
                        self.at += i + 2;
                        return true;
                    }
                    digits = 0;
                    ended = true;
                }
                _ => break,
            }
        }
        out.truncate(before);
        false
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn byte_after_space(&mut self) -> Result<u8> {
        self.space();
        self.bytes.get(self.at).copied().ok_or(Malformed)
    }

    /// After a value: true at a comma, false at `close`.
    fn another(&mut self, close: u8) -> Result<bool> {
        let byte = self.byte_after_space()?;
        self.at += 1;
        match byte {
            b',' => Ok(true),
            b if b == close => Ok(false),
            _ => Err(Malformed),
        }
    }

    fn key(&mut self) -> Result<RawStr<'a>> {
        if self.byte_after_space()? != b'"' {
            return Err(Malformed);
        }
        let key = self.quoted()?;
        if self.byte_after_space()? != b':' {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(key)
    }

    /// The string whose opening quote is here.
    fn quoted(&mut self) -> Result<RawStr<'a>> {
        let start = self.at + 1;
        let mut escaped = false;
        self.at = start;
        loop {
            self.at += plain_run(&self.bytes[self.at..]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let raw = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(RawStr { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += match self.bytes.get(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') if hex4(self.bytes, self.at + 2).is_some() => 6,
                        _ => return Err(Malformed),
                    };
                }
                _ => return Err(Malformed),
            }
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(Malformed)
        }
    }

    fn digits(&mut self) -> Result<()> {
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digit_run()?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digit_run()?;
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(self.at) {
                self.at += 1;
            }
            self.digit_run()?;
        }
        Ok(())
    }

    fn digit_run(&mut self) -> Result<()> {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Malformed) }
    }
}

fn count_of_float(n: f64) -> Option<u64> {
    ((0.0..9_007_199_254_740_992.0).contains(&n) && n.fract() == 0.0).then_some(n as u64)
}

/// Which brackets are open, one bit each: set for an object.
#[derive(Default)]
struct Nesting {
    bits: [u64; MAX_DEPTH / 64],
    depth: usize,
}

impl Nesting {
    fn push(&mut self, object: bool) -> Result<()> {
        let word = self.bits.get_mut(self.depth / 64).ok_or(Malformed)?;
        let bit = 1 << (self.depth % 64);
        *word = if object { *word | bit } else { *word & !bit };
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn top(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.bits[last / 64] >> (last % 64) & 1 == 1)
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
