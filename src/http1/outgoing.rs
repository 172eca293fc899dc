//! Bytes on their way out: several pieces in one write, so that a head and its body leave in one packet and neither is copied.
//!
//! Deliberately not here: what they say.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::net::Io;

/// Most pieces of one message: head, body up to a splice, splice, rest.
const MAX_PARTS: usize = 4;

/// What is to be written, and how much of it has been.
#[derive(Debug)]
pub struct Outgoing<'a> {
    parts: [&'a [u8]; MAX_PARTS],
    written_bytes: usize,
    total_bytes: usize,
    flushed: bool,
}

impl<'a> Outgoing<'a> {
    /// These pieces, in order; what would be a fifth is the caller's mistake and is not compiled.
    pub fn new<const N: usize>(pieces: [&'a [u8]; N]) -> Self {
        const { assert!(N <= MAX_PARTS) };
        let mut parts: [&[u8]; MAX_PARTS] = [&[]; MAX_PARTS];
        parts[..N].copy_from_slice(&pieces);
        Self { parts, written_bytes: 0, total_bytes: pieces.iter().map(|p| p.len()).sum(), flushed: false }
    }

    /// Some of it has left.
    pub fn has_begun(&self) -> bool {
        self.written_bytes > 0
    }

    /// All of it has left.
    pub fn is_done(&self) -> bool {
        self.flushed && self.written_bytes == self.total_bytes
    }

    /// Writes until all has left or the socket is full.
    pub fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written_bytes < self.total_bytes {
            let mut slices = [IoSlice::new(&[]); MAX_PARTS];
            let count = self.remaining(&mut slices);
            let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written_bytes += written;
        }
        // TLS may still hold some of it; a plain socket never does.
        ready!(Pin::new(io).poll_flush(cx))?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn remaining(&self, slices: &mut [IoSlice<'a>; MAX_PARTS]) -> usize {
        let mut skip = self.written_bytes;
        let mut count = 0;
        for part in self.parts {
            let rest = part.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(part.len());
            if !rest.is_empty() {
                slices[count] = IoSlice::new(rest);
                count += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn pieces_leave_in_order_through_any_room() {
        for room in 1..12 {
            let (near, mut far) = tokio::io::duplex(room);
            let mut io = Io::Pipe(near);
            let mut outgoing = Outgoing::new([&b"head"[..], b"", b"bo", b"dy"]);
            let writing = async {
                std::future::poll_fn(|cx| outgoing.poll(&mut io, cx)).await.unwrap();
                assert!(outgoing.is_done() && outgoing.has_begun());
                drop(io);
            };
            let mut got = Vec::new();
            let ((), read) = tokio::join!(writing, far.read_to_end(&mut got));
            read.unwrap();
            assert_eq!(got, b"headbody", "{room}");
        }
    }
}
