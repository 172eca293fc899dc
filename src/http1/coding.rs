//! How the body of an answer is told to a client: as it came, in chunks of our own, or up to the end of the connection.
//!
//! Rule: a body that came in chunks goes out in the same chunks, byte for byte; it is coded anew only where the client's
//! version or the answer's framing leaves no choice. Deliberately not here: reading it (`body`).

use super::head::{Framing, Message};
use crate::buffer::Buffer;

/// The coding of one answer towards its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// The bytes as they came, a known number of them.
    Length,
    /// The bytes as they came, chunks and all.
    SameChunks,
    /// Chunks made here: the answer ends with its connection, and this client can be told in another way.
    OwnChunks,
    /// Data alone, ended by closing: the client knows no chunks.
    UntilClose,
}

impl Coding {
    /// The coding for an answer to a client of HTTP/1.1, or 1.0.
    pub fn of(answer: &Message, client_is_http_11: bool) -> Self {
        match (answer.framing, client_is_http_11) {
            (Framing::Length(_), _) => Self::Length,
            (Framing::Chunked, true) => Self::SameChunks,
            (Framing::UntilClose, true) => Self::OwnChunks,
            (Framing::Chunked | Framing::UntilClose, false) => Self::UntilClose,
        }
    }

    /// The head must say `transfer-encoding: chunked`.
    pub fn is_chunked(self) -> bool {
        matches!(self, Self::SameChunks | Self::OwnChunks)
    }

    /// The bytes that came can be passed on where they lie.
    pub fn passes_as_it_came(self) -> bool {
        matches!(self, Self::Length | Self::SameChunks)
    }

    /// Codes data that cannot be passed on as it came.
    pub fn push(self, out: &mut Buffer, data: &[u8]) {
        if self == Self::OwnChunks && !data.is_empty() {
            let digits = format!("{:x}\r\n", data.len());
            out.push(digits.as_bytes());
            out.push(data);
            out.push(b"\r\n");
        } else {
            out.push(data);
        }
    }

    /// What ends the body.
    pub fn end(self) -> &'static [u8] {
        match self {
            // The line of the last chunk has been passed on, trailers have not.
            Self::SameChunks => b"\r\n",
            Self::OwnChunks => b"0\r\n\r\n",
            Self::Length | Self::UntilClose => b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(framing: Framing, client_is_http_11: bool) -> Coding {
        let answer =
            Message { head_bytes: 0, is_http_11: true, keeps_alive: true, framing, content_length: None };
        Coding::of(&answer, client_is_http_11)
    }

    #[test]
    fn every_client_is_told_where_the_body_ends() {
        assert_eq!(of(Framing::Length(3), true), Coding::Length);
        assert_eq!(of(Framing::Length(3), false), Coding::Length);
        assert_eq!(of(Framing::Chunked, true), Coding::SameChunks);
        assert_eq!(of(Framing::Chunked, false), Coding::UntilClose);
        assert_eq!(of(Framing::UntilClose, true), Coding::OwnChunks);
        assert_eq!(of(Framing::UntilClose, false), Coding::UntilClose);
    }

    #[test]
    fn own_chunks_are_chunks() {
        let mut out = Buffer::default();
        for data in [&b"hello"[..], b"", &[b'x'; 20]] {
            Coding::OwnChunks.push(&mut out, data);
        }
        out.push(Coding::OwnChunks.end());
        let text = std::str::from_utf8(out.as_bytes()).unwrap();
        assert_eq!(text, format!("5\r\nhello\r\n14\r\n{}\r\n0\r\n\r\n", "x".repeat(20)));
    }
}
