//! Where a message's body ends, whichever way its head says so.
//!
//! Rule: bytes are looked at where they lie; what is passed on is what came, less the trailers, which end with their hop.
//! Deliberately not here: reading, writing.

use super::chunked::{BadChunk, Chunked, Part};
use super::head::Framing;

/// What is left of one body.
#[derive(Clone, Debug)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All until the connection closes.
    UntilClose,
    /// Nothing.
    Ended,
    /// What came is no chunked body.
    Broken,
}

/// How much of some bytes is a body's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bytes that belong to the body, from the start.
    pub used_bytes: usize,
    /// Of these, the bytes to be passed on in the same coding, from the start. Of a chunked body that has ended the empty
    /// line is missing, as trailers would come before it.
    pub pass_bytes: usize,
}

impl Body {
    /// A body that has not begun.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Ended,
            Framing::Length(bytes) => Self::Length(bytes),
            Framing::Chunked => Self::Chunked(Chunked::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// The last byte has been taken.
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }

    /// The connection has closed: true if that is how this body ends.
    pub fn close(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Ended;
        }
        self.has_ended()
    }

    /// Takes what belongs to the body from the start of `bytes`; `data` sees its data, in order. Bytes before an error are
    /// taken first.
    pub fn take(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Taken, BadChunk> {
        let all = match self {
            Self::Ended => return Ok(Taken::default()),
            Self::Broken => return Err(BadChunk),
            Self::UntilClose => bytes.len(),
            Self::Length(left) => {
                let part = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= part as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                part
            }
            Self::Chunked(_) => return self.take_chunks(bytes, data),
        };
        data(&bytes[..all]);
        Ok(Taken { used_bytes: all, pass_bytes: all })
    }

    fn take_chunks(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Taken, BadChunk> {
        let Self::Chunked(chunked) = self else {
            return Ok(Taken::default());
        };
        let mut taken = Taken::default();
        while taken.used_bytes < bytes.len() {
            let rest = &bytes[taken.used_bytes..];
            let in_trailers = chunked.in_trailers();
            let part = match chunked.next(rest) {
                Ok(part) => part,
                Err(error) => {
                    // What came before is good, and somebody is due it; the next call tells.
                    *self = Self::Broken;
                    return if taken.used_bytes > 0 { Ok(taken) } else { Err(error) };
                }
            };
            let (Part::Framing(part_bytes) | Part::Data(part_bytes) | Part::End(part_bytes)) = part;
            if matches!(part, Part::Data(_)) {
                data(&rest[..part_bytes]);
            }
            taken.used_bytes += part_bytes;
            if !in_trailers {
                taken.pass_bytes = taken.used_bytes;
            }
            if matches!(part, Part::End(_)) {
                *self = Self::Ended;
                break;
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
