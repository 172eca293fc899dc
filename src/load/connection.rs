//! One HTTP/1.1 connection that stamps its own bytes.
//!
//! Rule: a stamp is taken where the bytes pass, in the socket's read and write, not where a task later learns of it.
//! hyper's `Connection` is polled inside the request's task: no second task, no hop. Deliberately not here: which
//! connection a request gets, see `pool`.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use crate::clock::Clock;

/// What one read takes at most.
const READ_BYTES: usize = 16 * 1024;

/// How connections are made.
#[derive(Clone, Default)]
pub enum Connector {
    /// TCP with `TCP_NODELAY`.
    #[default]
    Tcp,
    /// In-memory pipes, for simulation in virtual time; the far end is handed to whoever made the closure.
    Memory(Arc<dyn Fn() -> DuplexStream + Send + Sync>),
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "Tcp",
            Self::Memory(_) => "Memory",
        })
    }
}

/// When bytes passed, `CLOCK_MONOTONIC` nanoseconds; 0 where none has yet.
#[derive(Debug, Default)]
pub struct Marks {
    write_begun: AtomicU64,
    write_returned: AtomicU64,
    first_read: AtomicU64,
    last_read: AtomicU64,
}

impl Marks {
    fn clear(&self) {
        for mark in [&self.write_begun, &self.write_returned, &self.first_read, &self.last_read] {
            mark.store(0, Ordering::Relaxed);
        }
    }

    fn first(mark: &AtomicU64, now_ns: u64) {
        if mark.load(Ordering::Relaxed) == 0 {
            mark.store(now_ns, Ordering::Relaxed);
        }
    }

    fn get(mark: &AtomicU64) -> Option<u64> {
        Some(mark.load(Ordering::Relaxed)).filter(|ns| *ns > 0)
    }

    /// Just before the first write of this request.
    pub fn write_begun_ns(&self) -> Option<u64> {
        Self::get(&self.write_begun)
    }

    /// The first write of this request returned.
    pub fn write_returned_ns(&self) -> Option<u64> {
        Self::get(&self.write_returned)
    }

    /// First byte of the answer.
    pub fn first_read_ns(&self) -> Option<u64> {
        Self::get(&self.first_read)
    }

    /// Latest byte of the answer.
    pub fn last_read_ns(&self) -> Option<u64> {
        Self::get(&self.last_read)
    }
}

enum Stream {
    Tcp(TcpStream),
    Memory(DuplexStream),
}

struct Io {
    stream: Stream,
    marks: Arc<Marks>,
    clock: Clock,
    buffer: Box<[u8]>,
}

/// hyper's side of a connection: polled, it reads and writes.
type Driver = Pin<Box<http1::Connection<Io, Full<Bytes>>>>;

/// An open connection.
pub struct Conn {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Option<Driver>,
    marks: Arc<Marks>,
    /// Both ends are on one host, so a server's monotonic clock is ours.
    pub same_host: bool,
    /// Requests it has carried.
    pub carried: u64,
}

impl Conn {
    /// Connects to the first address that answers.
    pub async fn open(connector: &Connector, addresses: &[SocketAddr], clock: &Clock) -> io::Result<Self> {
        let (stream, same_host) = match connector {
            Connector::Memory(make) => (Stream::Memory(make()), true),
            Connector::Tcp => {
                let tcp = TcpStream::connect(addresses).await?;
                tcp.set_nodelay(true)?;
                let same_host = tcp.local_addr()?.ip() == tcp.peer_addr()?.ip();
                (Stream::Tcp(tcp), same_host)
            }
        };
        let marks = Arc::new(Marks::default());
        let io = Io {
            stream,
            marks: Arc::clone(&marks),
            clock: clock.clone(),
            buffer: vec![0; READ_BYTES].into(),
        };
        let (sender, driver) = http1::handshake(io).await.map_err(io::Error::other)?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), marks, same_host, carried: 0 })
    }

    /// The stamps of the request in progress.
    pub fn marks(&self) -> Arc<Marks> {
        Arc::clone(&self.marks)
    }

    /// Looks once whether the other side has closed; true if a request can be sent.
    pub async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            Poll::Ready(self.driver.is_some() && self.sender.is_ready())
        })
        .await
    }

    /// Sends a request and reads the answer's head.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.marks.clear();
        self.carried += 1;
        let mut answer = pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        poll_fn(|cx| {
            drive(driver, cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// The next part of the answer's body; `None` at its end.
    pub async fn frame(&mut self, body: &mut Incoming) -> Option<hyper::Result<Frame<Bytes>>> {
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            Pin::new(&mut *body).poll_frame(cx)
        })
        .await
    }
}

/// Lets the connection read and write; forgets it when it has ended (its error reaches the request through hyper's channel).
fn drive(driver: &mut Option<Driver>, cx: &mut Context<'_>) {
    if let Some(connection) = driver
        && connection.as_mut().poll(cx).is_ready()
    {
        *driver = None;
    }
}

impl hyper::rt::Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Through a buffer of our own: hyper's cursor takes bytes from outside without `unsafe` only as a copy.
        let room = this.buffer.len().min(out.remaining());
        let mut buffer = ReadBuf::new(&mut this.buffer[..room]);
        let polled = match &mut this.stream {
            Stream::Tcp(s) => Pin::new(s).poll_read(cx, &mut buffer),
            Stream::Memory(s) => Pin::new(s).poll_read(cx, &mut buffer),
        };
        if let Poll::Ready(Ok(())) = polled {
            let filled = buffer.filled();
            if !filled.is_empty() {
                let now_ns = this.clock.mono_ns();
                Marks::first(&this.marks.first_read, now_ns);
                this.marks.last_read.store(now_ns, Ordering::Relaxed);
                out.put_slice(filled);
            }
        }
        polled
    }
}

impl Io {
    fn write_with<T>(
        &mut self,
        write: impl FnOnce(&mut Stream) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.marks.write_begun_ns().is_none() {
            self.marks.write_begun.store(self.clock.mono_ns(), Ordering::Relaxed);
        }
        let polled = write(&mut self.stream);
        if matches!(polled, Poll::Ready(Ok(_))) && self.marks.write_returned_ns().is_none() {
            self.marks.write_returned.store(self.clock.mono_ns(), Ordering::Relaxed);
        }
        polled
    }
}

impl hyper::rt::Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write_with(|stream| match stream {
            Stream::Tcp(s) => Pin::new(s).poll_write(cx, bytes),
            Stream::Memory(s) => Pin::new(s).poll_write(cx, bytes),
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write_with(|stream| match stream {
            Stream::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bytes),
            Stream::Memory(s) => Pin::new(s).poll_write_vectored(cx, bytes),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(s) => Pin::new(s).poll_flush(cx),
            Stream::Memory(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Stream::Memory(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
