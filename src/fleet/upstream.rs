//! One HTTP/1.1 connection to a worker, driven by the task of the request that uses it.
//!
//! Rule: hyper's `Connection` future is polled in the request's own task, so that no byte crosses a task boundary (a spawned
//! connection task cost three times the CPU of this, see ARCHITECTURE.md), and dropping the request closes the socket at
//! once. Deliberately not here: which connection to use (`pool`) and what to do when one fails (`proxy::forward`).

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::Clock;
use crate::net::{Io, Link};

/// Largest response head plus one read, in bytes; a worker's head is a few hundred.
const MAX_READ_BUFFER_BYTES: usize = 256 * 1024;

/// A connection to a worker.
#[derive(Debug)]
pub struct Upstream {
    sender: http1::SendRequest<Full<Bytes>>,
    connection: Option<http1::Connection<TokioIo<ProbedIo>, Full<Bytes>>>,
    first_read_ns: Arc<AtomicU64>,
    link: Link,
    requests: u32,
}

/// Why a request got no response head on this connection.
#[derive(Debug)]
pub struct SendError {
    /// hyper's error.
    pub error: hyper::Error,
    /// Some byte of a response had been read.
    pub response_began: bool,
}

impl Upstream {
    /// Wraps a fresh socket.
    pub async fn handshake(io: Io, link: Link, clock: Clock) -> hyper::Result<Self> {
        let first_read_ns = Arc::new(AtomicU64::new(0));
        let probed = ProbedIo { io, clock, first_read_ns: Arc::clone(&first_read_ns) };
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_READ_BUFFER_BYTES).handshake(TokioIo::new(probed)).await?;
        Ok(Self { sender, connection: Some(connection), first_read_ns, link, requests: 0 })
    }

    /// Facts about the socket.
    pub fn link(&self) -> Link {
        self.link
    }

    /// True once a request has been sent on it.
    pub fn is_reused(&self) -> bool {
        self.requests > 1
    }

    /// When the first byte of the current response was read, `CLOCK_MONOTONIC` nanoseconds.
    pub fn first_read_ns(&self) -> Option<u64> {
        Some(self.first_read_ns.load(Ordering::Relaxed)).filter(|ns| *ns != 0)
    }

    /// Sends one request and waits for the response head.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        self.requests += 1;
        self.first_read_ns.store(0, Ordering::Relaxed);
        let mut response = pin!(self.sender.send_request(request));
        let connection = &mut self.connection;
        let result = poll_fn(|cx| {
            // The first poll of `response` queues the request, the connection writes it; once a head is there the
            // connection has already delivered it, so asking again here saves a wake-up of this task.
            if let Poll::Ready(done) = response.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            drive(connection, cx);
            response.as_mut().poll(cx)
        })
        .await;
        result.map_err(|error| SendError { error, response_began: self.first_read_ns().is_some() })
    }

    /// Moves bytes; called whenever the body of the current response is polled.
    pub fn poll_io(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, cx);
    }

    /// True if the connection can carry another request. Polls the socket once, so that a peer that has closed is seen.
    pub fn is_ready(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        drive(&mut self.connection, &mut cx);
        self.connection.is_some() && matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

fn drive(connection: &mut Option<http1::Connection<TokioIo<ProbedIo>, Full<Bytes>>>, cx: &mut Context<'_>) {
    if let Some(c) = connection {
        // Its error, if any, also reaches the response future or the body, which is where it is told.
        if Pin::new(c).poll(cx).is_ready() {
            *connection = None;
        }
    }
}

/// A socket that notes when the first byte came.
#[derive(Debug)]
struct ProbedIo {
    io: Io,
    clock: Clock,
    first_read_ns: Arc<AtomicU64>,
}

impl AsyncRead for ProbedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before && self.first_read_ns.load(Ordering::Relaxed) == 0 {
            self.first_read_ns.store(self.clock.mono_ns(), Ordering::Relaxed);
        }
        result
    }
}

impl AsyncWrite for ProbedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
