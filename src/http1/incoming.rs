//! Bytes that have come in on one socket and were not consumed yet.
//!
//! Rule: a buffer grows only when a read has filled it, up to [`MAX_READ_BYTES`] a read, and none is held while there is
//! nothing to read, so that thousands of waiting connections hold no memory. What a connection gives back when it begins to
//! wait its thread keeps for the next one, a few of the usual size. Deliberately not here: what the bytes say.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::io::AsyncReadExt;

use crate::net::Io;

/// Room for the first read: a usual head with a small body.
const FIRST_READ_BYTES: usize = 4 * 1024;
/// Most room for one read.
pub const MAX_READ_BYTES: usize = 64 * 1024;

/// Largest buffer that a thread keeps for the next connection.
const MAX_SPARE_BYTES: usize = 2 * FIRST_READ_BYTES;
/// Most buffers that a thread keeps: one connection reads on its two sides.
const MAX_SPARES: usize = 4;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer with its consumed front.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    consumed: usize,
    next_read_bytes: usize,
}

impl Incoming {
    /// What has come and was not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    /// The same, to be changed where it stands.
    pub fn unread_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.consumed..]
    }

    /// Everything held, what was consumed included; places found before stay valid until the next [`Self::forget`].
    pub fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the unread part begins in [`Self::all`].
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// The first `bytes` of the unread part are dealt with.
    pub fn consume(&mut self, bytes: usize) {
        self.consumed = self.consumed.saturating_add(bytes).min(self.bytes.len());
    }

    /// Forgets what was consumed; the unread part moves to the front.
    pub fn forget(&mut self) {
        if self.consumed == self.bytes.len() {
            self.bytes.clear();
            if self.next_read_bytes == 0 && self.bytes.capacity() > MAX_SPARE_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.consumed > 0 {
            self.bytes.drain(..self.consumed);
        }
        self.consumed = 0;
    }

    /// Forgets what was consumed from `start` on; places before it stay valid.
    pub fn forget_from(&mut self, start: usize) {
        if start < self.consumed {
            self.bytes.drain(start..self.consumed);
            self.consumed = start;
        }
    }

    /// Puts bytes that came earlier before the unread part.
    pub fn prepend(&mut self, earlier: &[u8]) {
        self.forget();
        self.bytes.splice(..0, earlier.iter().copied());
    }

    /// Gives the memory back; whatever is unread is lost.
    pub fn release(&mut self) {
        self.bytes.clear();
        (self.consumed, self.next_read_bytes) = (0, 0);
        self.rest();
    }

    /// Gives the memory back but for the unread part, if it is large.
    pub fn shrink(&mut self) {
        self.forget();
        self.next_read_bytes = 0;
        if self.bytes.capacity() > MAX_READ_BYTES {
            self.bytes.shrink_to(FIRST_READ_BYTES);
        }
    }

    /// So many bytes more will come: the next read has room for them, if they are not too many.
    pub fn expect(&mut self, more_bytes: usize) {
        self.next_read_bytes = more_bytes.min(MAX_READ_BYTES + 1);
    }

    /// Reads once; 0 is the end. A read that fills the room makes the next one larger, a small one makes it small again, so
    /// that a stream that trickles after a burst does not hold the room of the burst.
    pub fn poll_fill(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Poll::Ready(readable) = io.poll_readable(cx) else {
            self.rest();
            return Poll::Pending;
        };
        readable?;
        if self.bytes.capacity() == 0 {
            self.bytes = spare();
        }
        let wanted = self.next_read_bytes.max(FIRST_READ_BYTES);
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < self.next_read_bytes.max(FIRST_READ_BYTES / 4) {
            self.bytes.reserve(wanted);
        }
        let room = self.bytes.capacity() - self.bytes.len();
        let Poll::Ready(read) = pin!(io.read_buf(&mut self.bytes)).poll(cx) else {
            self.rest();
            return Poll::Pending;
        };
        let read = read?;
        if read == room {
            self.next_read_bytes = (wanted * 2).min(MAX_READ_BYTES);
        } else if read < FIRST_READ_BYTES / 4 {
            self.next_read_bytes = 0;
        }
        Poll::Ready(Ok(read))
    }

    /// An empty buffer is for whoever has something to read.
    fn rest(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > 0 {
            let buffer = std::mem::take(&mut self.bytes);
            if buffer.capacity() <= MAX_SPARE_BYTES {
                keep(buffer);
            }
        }
    }
}

/// A buffer that another connection of this thread has given back, or an empty one.
fn spare() -> Vec<u8> {
    SPARES.try_with(|spares| spares.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

/// A thread that is ending keeps nothing.
fn keep(buffer: Vec<u8>) {
    let _ = SPARES.try_with(|spares| {
        let mut spares = spares.borrow_mut();
        if spares.len() < MAX_SPARES {
            spares.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn reads_grow_with_what_comes_and_memory_goes_when_little_does() {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        let mut io = Io::Pipe(near);
        let mut incoming = Incoming::default();
        far.write_all(&vec![7; 1024 * 1024]).await.unwrap();
        let mut reads = 0;
        let mut left = 1024 * 1024;
        while left > 0 {
            incoming.forget();
            let read = std::future::poll_fn(|cx| incoming.poll_fill(&mut io, cx)).await.unwrap();
            incoming.consume(read);
            left -= read;
            reads += 1;
        }
        assert!(reads < 30, "{reads} reads of a megabyte");
        for _ in 0..2 {
            far.write_all(b"event").await.unwrap();
            incoming.forget();
            let read = std::future::poll_fn(|cx| incoming.poll_fill(&mut io, cx)).await.unwrap();
            incoming.consume(read);
        }
        assert!(incoming.bytes.capacity() <= 2 * FIRST_READ_BYTES, "{}", incoming.bytes.capacity());
    }

    #[tokio::test]
    async fn after_a_long_body_a_connection_holds_little() {
        let (near, mut far) = tokio::io::duplex(4 * 1024 * 1024);
        let mut io = Io::Pipe(near);
        let mut incoming = Incoming::default();
        far.write_all(&vec![7; 4 * 1024 * 1024]).await.unwrap();
        while incoming.unread().len() < 4 * 1024 * 1024 {
            incoming.expect(MAX_READ_BYTES + 1);
            std::future::poll_fn(|cx| incoming.poll_fill(&mut io, cx)).await.unwrap();
        }
        incoming.consume(4 * 1024 * 1024 - 3);
        incoming.shrink();
        assert_eq!(incoming.unread(), [7; 3]);
        far.write_all(b"GET").await.unwrap();
        std::future::poll_fn(|cx| incoming.poll_fill(&mut io, cx)).await.unwrap();
        assert!(incoming.bytes.capacity() <= 2 * FIRST_READ_BYTES, "{}", incoming.bytes.capacity());
    }

    #[tokio::test]
    async fn a_connection_that_waits_holds_no_buffer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, mut pipe) = tokio::io::duplex(1024);
        let tcp = Io::Tcp(listener.accept().await.unwrap().0);
        for (mut io, far) in
            [(tcp, &mut far as &mut (dyn tokio::io::AsyncWrite + Unpin)), (Io::Pipe(near), &mut pipe)]
        {
            let mut incoming = Incoming::default();
            for _ in 0..3 {
                far.write_all(b"event").await.unwrap();
                std::future::poll_fn(|cx| incoming.poll_fill(&mut io, cx)).await.unwrap();
                let half =
                    std::future::poll_fn(|cx| Poll::Ready(incoming.poll_fill(&mut io, cx).is_pending()))
                        .await;
                assert!(half && incoming.unread() == b"event", "what was not taken stays");
                incoming.consume(5);
                incoming.forget();
                let waits =
                    std::future::poll_fn(|cx| Poll::Ready(incoming.poll_fill(&mut io, cx).is_pending()))
                        .await;
                assert!(waits && incoming.bytes.capacity() == 0, "{}", incoming.bytes.capacity());
            }
        }
    }

    #[tokio::test]
    async fn what_is_announced_takes_no_memory_before_it_comes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut far = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut io = Io::Tcp(listener.accept().await.unwrap().0);
        let mut incoming = Incoming::default();
        far.write_all(b"head").await.unwrap();
        std::future::poll_fn(|cx| incoming.poll_fill(&mut io, cx)).await.unwrap();
        incoming.expect(MAX_READ_BYTES);
        let waits =
            std::future::poll_fn(|cx| Poll::Ready(incoming.poll_fill(&mut io, cx).is_pending())).await;
        assert!(waits && incoming.bytes.capacity() <= FIRST_READ_BYTES, "{}", incoming.bytes.capacity());
        far.write_all(b"x").await.unwrap();
        std::future::poll_fn(|cx| incoming.poll_fill(&mut io, cx)).await.unwrap();
        assert!(incoming.unread() == b"headx" && incoming.bytes.capacity() >= MAX_READ_BYTES);
    }
}
