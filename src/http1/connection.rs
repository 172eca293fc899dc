//! One HTTP/1.1 client connection, driven by the task of the request that uses it.
//!
//! Rule: hyper's `Connection` future is polled in the request's own task, so that no byte crosses a task boundary (a spawned
//! connection task cost three times the CPU of this, see ARCHITECTURE.md), and dropping the request closes the socket at
//! once. A stamp is taken where the bytes pass, in the socket's read and write, not where a task later learns of it.
//! Deliberately not here: which connection to use (`pool`) and what to do when one fails.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::request_body::RequestBody;
use crate::clock::Clock;
use crate::net::{Io, Link};

/// Largest response head plus one read, in bytes; a worker's head is a few hundred.
const MAX_READ_BUFFER_BYTES: usize = 256 * 1024;

/// How soon after the write a reused connection must have died for its peer to have been closing it while the request was on
/// its way. Word of such a close comes one round trip after the write, and a second is longer than any; a peer that held the
/// request for longer had taken it.
const CLOSING_RACE_NS: u64 = 1_000_000_000;

/// hyper's side of a connection: polled, it reads and writes.
type Driver = http1::Connection<TokioIo<StampedIo>, RequestBody>;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<RequestBody>,
    driver: Option<Driver>,
    stamps: Arc<Stamps>,
    clock: Clock,
    link: Link,
    requests: u32,
}

/// Why a request got no response head on this connection.
#[derive(Debug)]
pub struct SendError {
    /// hyper's error.
    pub error: hyper::Error,
    /// Some byte of a response to it had been read.
    pub response_began: bool,
    /// The connection was a reused one, and died so soon after the write that its peer was closing it then: to send the
    /// request again, on a fresh connection, is no second try.
    pub closing_race: bool,
}

/// When bytes of the current request passed, `CLOCK_MONOTONIC` nanoseconds; 0 where none has yet.
#[derive(Debug, Default)]
struct Stamps {
    first_write_ns: AtomicU64,
    first_read_ns: AtomicU64,
}

impl Connection {
    /// Wraps a fresh socket.
    pub async fn handshake(io: Io, link: Link, clock: Clock) -> hyper::Result<Self> {
        let stamps = Arc::new(Stamps::default());
        let stamped = StampedIo { io, clock: clock.clone(), stamps: Arc::clone(&stamps) };
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_READ_BUFFER_BYTES)
            .handshake(TokioIo::new(stamped))
            .await?;
        Ok(Self { sender, driver: Some(driver), stamps, clock, link, requests: 0 })
    }

    /// Facts about the socket.
    pub fn link(&self) -> Link {
        self.link
    }

    /// True once a request before the current one has been sent on it.
    pub fn is_reused(&self) -> bool {
        self.requests > 1
    }

    /// When the first write of the current request returned, `CLOCK_MONOTONIC` nanoseconds: it is on its way. Over TLS that is
    /// the write of plaintext, which returns when the record has been encrypted and offered to the socket; the handshake is
    /// over by then and belongs to connecting.
    pub fn first_write_ns(&self) -> Option<u64> {
        passed(&self.stamps.first_write_ns)
    }

    /// When the first byte of the current response was read, `CLOCK_MONOTONIC` nanoseconds. Over TLS that is the first byte of
    /// plaintext: its record, up to 16 KiB, has come whole and was decrypted; session tickets and alerts are none.
    pub fn first_read_ns(&self) -> Option<u64> {
        passed(&self.stamps.first_read_ns)
    }

    /// How long ago the current request was written.
    fn held_ns(&self) -> u64 {
        self.first_write_ns().map_or(0, |written_ns| self.clock.mono_ns().saturating_sub(written_ns))
    }

    /// Sends one request and waits for the response head.
    pub async fn send(
        &mut self,
        request: Request<impl Into<RequestBody>>,
    ) -> Result<Response<Incoming>, SendError> {
        let request = request.map(Into::into);
        self.requests += 1;
        self.stamps.first_write_ns.store(0, Ordering::Relaxed);
        self.stamps.first_read_ns.store(0, Ordering::Relaxed);
        let mut response = pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        let result = poll_fn(|cx| {
            // The first poll of `response` queues the request, the driver writes it; once a head is there the driver has
            // already delivered it, so asking again here saves a wake-up of this task.
            if let Poll::Ready(done) = response.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            drive(driver, cx);
            response.as_mut().poll(cx)
        })
        .await;
        result.map_err(|error| {
            // Cancelled is what was never written: bytes that were read then answer nothing.
            let response_began = self.first_read_ns().is_some() && !error.is_canceled();
            let closing_race = self.is_reused() && !response_began && self.held_ns() < CLOSING_RACE_NS;
            SendError { error, response_began, closing_race }
        })
    }

    /// The next frame of the current response's body; `None` at its end.
    ///
    /// The body is asked before the socket: that tells hyper that there is room. Polled the other way round, it would find
    /// none and wake this task once more for every frame.
    pub fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut *body).poll_frame(cx);
        if frame.is_ready() {
            return frame;
        }
        drive(&mut self.driver, cx);
        Pin::new(body).poll_frame(cx)
    }

    /// [`Self::poll_frame`] as a future.
    pub async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|cx| self.poll_frame(body, cx)).await
    }

    /// The whole body, up to `max_bytes`; the error is in words.
    pub async fn collect(&mut self, mut body: Incoming, max_bytes: usize) -> Result<Bytes, String> {
        let mut all = bytes::BytesMut::new();
        while let Some(frame) = self.frame(&mut body).await {
            let frame = frame.map_err(|error| error.to_string())?;
            if let Some(data) = frame.data_ref() {
                if all.len() + data.len() > max_bytes {
                    return Err(format!("the answer is longer than {max_bytes} bytes"));
                }
                all.extend_from_slice(data);
            }
        }
        Ok(all.freeze())
    }

    /// Moves bytes; called whenever the body of the current response is polled by other means than [`Self::poll_frame`].
    pub fn poll_io(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// True if the connection can carry another request. Polls the socket once, so that a peer that has closed is seen.
    pub fn is_ready(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        drive(&mut self.driver, &mut cx);
        self.driver.is_some() && matches!(self.sender.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }
}

fn passed(stamp: &AtomicU64) -> Option<u64> {
    Some(stamp.load(Ordering::Relaxed)).filter(|ns| *ns != 0)
}

fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(connection) = driver {
        // Its error, if any, also reaches the response future or the body, which is where it is told.
        if Pin::new(connection).poll(cx).is_ready() {
            *driver = None;
        }
    }
}

/// A socket that notes when the first bytes of a request and of its response passed: bytes of HTTP, so above TLS.
#[derive(Debug)]
struct StampedIo {
    io: Io,
    clock: Clock,
    stamps: Arc<Stamps>,
}

impl StampedIo {
    /// Only the task that holds the connection writes, so a load and a store do.
    fn note(&self, stamp: &AtomicU64) {
        if stamp.load(Ordering::Relaxed) == 0 {
            stamp.store(self.clock.mono_ns(), Ordering::Relaxed);
        }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(_))) {
            self.note(&self.stamps.first_write_ns);
        }
        result
    }
}

impl AsyncRead for StampedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.note(&self.stamps.first_read_ns);
        }
        result
    }
}

impl AsyncWrite for StampedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, data);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(result)
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
