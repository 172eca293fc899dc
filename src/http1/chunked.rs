//! The chunked coding: which bytes of a body are framing and which are data.
//!
//! Rule: strict. Sizes are hex digits, lines end in CR LF, extensions are text, trailers are fields, and framing has a limit,
//! so that everybody who reads these bytes finds the same body in them. Nothing is copied; the reader is told how much comes
//! next of what. Deliberately not here: where the bytes come from and go to.

use std::fmt;

/// Most bytes of chunk extensions, and of trailers, in one body.
const MAX_EXTRA_BYTES: u32 = 16 * 1024;
/// Most digits of a chunk size.
const MAX_SIZE_DIGITS: u8 = 15;

/// Reads one chunked body.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    left: u64,
    digits: u8,
    extra_bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    // Blanks after the size: then an extension, or the end of the line.
    SizeBlank,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataEnd,
    // In the line of the last chunk's size, and what follows it.
    LastEnd,
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerCr,
    TrailerEnd,
    Ended,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// So many bytes of framing.
    Framing(usize),
    /// So many bytes of data.
    Data(usize),
    /// So many bytes of framing, and the body has ended.
    End(usize),
}

/// Bytes that are no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadChunk;

impl fmt::Display for BadChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a chunked body that is broken")
    }
}

impl std::error::Error for BadChunk {}

impl Default for Chunked {
    fn default() -> Self {
        Self { state: State::Size, left: 0, digits: 0, extra_bytes: 0 }
    }
}

impl Chunked {
    /// True once the line of the last chunk has been read: what follows are trailers.
    pub fn in_trailers(&self) -> bool {
        use State::{Ended, Trailer, TrailerCr, TrailerEnd, TrailerName, TrailerStart};
        matches!(self.state, TrailerStart | TrailerName | Trailer | TrailerCr | TrailerEnd | Ended)
    }

    /// What the first bytes of `bytes` are; never empty for a body that goes on. Call again with the rest.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Part, BadChunk> {
        if self.state == State::Data {
            let data = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= data as u64;
            if self.left == 0 {
                self.state = State::DataCr;
            }
            return Ok(Part::Data(data));
        }
        let trailers = self.in_trailers();
        for (i, byte) in bytes.iter().enumerate() {
            self.framing(*byte)?;
            match self.state {
                State::Ended => return Ok(Part::End(i + 1)),
                // The caller passes the line of the last chunk on and the trailers not.
                State::Data => return Ok(Part::Framing(i + 1)),
                State::TrailerStart if !trailers => return Ok(Part::Framing(i + 1)),
                _ => {}
            }
        }
        Ok(Part::Framing(bytes.len()))
    }

    fn framing(&mut self, byte: u8) -> Result<(), BadChunk> {
        self.state = match (self.state, byte) {
            (State::Size, _) if byte.is_ascii_hexdigit() && self.digits < MAX_SIZE_DIGITS => {
                self.digits += 1;
                self.left = self.left * 16 + u64::from(char::from(byte).to_digit(16).unwrap_or(0));
                State::Size
            }
            (State::Size | State::SizeBlank, b'\r') if self.digits > 0 => self.size_end(),
            (State::Size | State::SizeBlank, b';') if self.digits > 0 => State::Extension,
            (State::Size | State::SizeBlank, b' ' | b'\t') if self.digits > 0 => {
                self.count_extra()?;
                State::SizeBlank
            }
            (State::Extension, b'\r') => self.size_end(),
            (State::Extension, _) if is_text(byte) => {
                self.count_extra()?;
                State::Extension
            }
            (State::SizeEnd, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => {
                self.digits = 0;
                State::Size
            }
            (State::LastEnd | State::TrailerCr, b'\n') => State::TrailerStart,
            (State::TrailerStart, b'\r') => State::TrailerEnd,
            (State::Trailer, b'\r') => State::TrailerCr,
            // A line without a name may be the next request to somebody who reads no trailers.
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                self.count_extra()?;
                State::TrailerName
            }
            (State::TrailerName, b':') => State::Trailer,
            (State::Trailer, _) if is_text(byte) => {
                self.count_extra()?;
                State::Trailer
            }
            (State::TrailerEnd, b'\n') => State::Ended,
            _ => return Err(BadChunk),
        };
        Ok(())
    }

    fn size_end(&self) -> State {
        if self.left == 0 { State::LastEnd } else { State::SizeEnd }
    }

    fn count_extra(&mut self) -> Result<(), BadChunk> {
        self.extra_bytes += 1;
        if self.extra_bytes > MAX_EXTRA_BYTES { Err(BadChunk) } else { Ok(()) }
    }
}

/// A byte of a field's value (RFC 9110, 5.5): blanks, visible characters and whatever is beyond ASCII.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A byte of a field's name (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
#[path = "chunked_tests.rs"]
mod tests;
