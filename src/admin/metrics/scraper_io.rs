//! A socket under hyper that gives up on a peer which takes nothing: the page of metrics is served through it.
//!
//! Rule: hyper asks the body of a response for nothing while it cannot write, so no timer of its own runs then; the wait for
//! room in the socket has its limit here. Any byte taken starts it anew. Deliberately not here: clients' requests (`visit`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::net::Io;

/// A socket whose writes fail when none has gone through for the limit.
#[derive(Debug)]
pub struct ScraperIo {
    io: Io,
    limit: Duration,
    // Running while the socket has no room.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl ScraperIo {
    /// Wraps an accepted socket.
    pub fn new(io: Io, limit: Duration) -> Self {
        Self { io, limit, stalled: None }
    }

    #[inline]
    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() && self.stalled.is_none() {
            return written;
        }
        self.watch_stalled(cx, written)
    }

    fn watch_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        ready!(stalled.as_mut().poll(cx));
        let text = format!("the client has taken no byte for {limit:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }
}

impl AsyncRead for ScraperIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for ScraperIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush, but TLS holds records that the socket had no room for.
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Under TLS the farewell is bytes that need room like others.
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_given_up_and_a_slow_one_is_not() {
        let (near, mut far) = tokio::io::duplex(1);
        let mut near = ScraperIo::new(Io::Pipe(near), Duration::from_secs(10));
        let slow = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                far.read_u8().await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(b"12345"), slow);
        written.unwrap();
        let error = near.write_all(b"67").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn what_tls_holds_back_counts_as_not_taken() {
        let (near, _far) = crate::net::tls::tests::secured_pipe(1024).await;
        let mut near = ScraperIo::new(near, Duration::from_secs(10));
        near.write_all(&[7; 4000]).await.unwrap();
        assert_eq!(near.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_farewell_that_finds_no_room_has_the_limit_too() {
        let (near, _far) = crate::net::tls::tests::secured_pipe(1024).await;
        let mut near = ScraperIo::new(near, Duration::from_secs(10));
        near.write_all(&[7; 4000]).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(60), near.shutdown()).await;
        assert_eq!(closed.expect("it has a limit").unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
