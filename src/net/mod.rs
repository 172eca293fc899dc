//! Sockets as values: the same router runs over TCP and over in-memory pipes.
//!
//! Rule: whoever opens or accepts a connection gets an [`Io`] and the [`Link`] facts about it; nobody else knows the
//! transport, nor whether TLS is between. Deliberately not here: HTTP, pooling.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsStream;

pub mod descriptors;
pub mod dialer;
pub mod tls;

/// Bytes an in-memory pipe holds in each direction before the writer waits.
const PIPE_BYTES: usize = 64 * 1024;
/// Connections an in-memory listener holds before a connect waits.
const PIPE_BACKLOG: usize = 128;

/// A byte stream.
#[derive(Debug)]
pub enum Io {
    /// A TCP socket.
    Tcp(TcpStream),
    /// One end of an in-memory pipe.
    Pipe(DuplexStream),
    /// Either of them under TLS, its handshake done. Boxed: a session is a thousand bytes, and a plain connection must not
    /// carry them.
    Tls(Box<TlsStream<Io>>),
}

impl Io {
    /// Ready once a read would give something, as far as that is known without reading: only plain TCP can tell, of the others
    /// a read has to be tried. Lets a connection wait without holding a buffer.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Pipe(_) | Self::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    /// Returns once the other end has closed its side or reset the connection, though what it sent before lies unread. Only
    /// Linux tells, and only when all of that has arrived: who sends more than the kernel takes is seen when something is
    /// written to it. Of a pipe nobody tells.
    pub async fn closed(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Tcp(stream) => {
                // Of what these two wait for, a socket that is registered for reading and writing reports its end alone.
                let interest = Interest::PRIORITY | Interest::ERROR;
                if !matches!(stream.ready(interest).await, Ok(ready) if !ready.is_read_closed() && !ready.is_error())
                {
                    return;
                }
            }
            Self::Tls(stream) => return Box::pin(stream.get_ref().0.closed()).await,
            _ => {}
        }
        std::future::pending::<()>().await;
    }

    /// True once the other end has closed without having sent a byte; false when a byte is there. Only TCP can tell.
    pub async fn is_closed_unused(&self) -> bool {
        match self {
            Self::Tcp(stream) => matches!(stream.peek(&mut [0]).await, Ok(0)),
            Self::Pipe(_) | Self::Tls(_) => false,
        }
    }
}

/// What is known about a connection's two ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The other end, where it has an address.
    pub peer: Option<SocketAddr>,
    /// Both ends are on this host: the two addresses are equal.
    pub same_host: bool,
}

/// Where connections to workers come from.
#[derive(Clone, Debug)]
pub enum Connector {
    /// Real sockets.
    Tcp {
        /// Longest wait for a connection to one address.
        timeout: Duration,
    },
    /// In-memory pipes, by port.
    Pipes(PipeNet),
}

/// Where client connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A bound TCP listener.
    Tcp(TcpListener),
    /// The accepting end of [`PipeNet`].
    Pipe(mpsc::Receiver<DuplexStream>),
}

/// A network of in-memory pipes, keyed by port, for simulation.
#[derive(Clone, Debug)]
pub struct PipeNet {
    ports: Arc<Mutex<HashMap<u16, mpsc::Sender<DuplexStream>>>>,
    names: Arc<Mutex<HashMap<String, u16>>>,
    room_bytes: usize,
}

impl Default for PipeNet {
    /// Pipes that hold about what a socket does.
    fn default() -> Self {
        Self::with_room(PIPE_BYTES)
    }
}

impl PipeNet {
    /// Pipes that hold `room_bytes` in each direction, at least one: little of it makes every write a partial one.
    pub fn with_room(room_bytes: usize) -> Self {
        Self { ports: Arc::default(), names: Arc::default(), room_bytes: room_bytes.max(1) }
    }

    /// Gives a name to a port, whatever port is asked for with the name; a second time changes it.
    pub fn name(&self, host: &str, port: u16) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), port);
    }

    /// Forgets a name.
    pub fn forget(&self, host: &str) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(host);
    }

    fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let port = self.names.lock().unwrap_or_else(PoisonError::into_inner).get(host).copied();
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "a name that nobody has");
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port.ok_or_else(unknown)?))])
    }

    /// Listens on a port of this network; a second listener on it replaces the first.
    pub fn listen(&self, port: u16) -> Listener {
        let (tx, rx) = mpsc::channel(PIPE_BACKLOG);
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).insert(port, tx);
        Listener::Pipe(rx)
    }

    /// Takes a port down: connects are refused from now on.
    pub fn close(&self, port: u16) {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
    }

    /// Connects to a port of this network.
    pub async fn connect(&self, port: u16) -> io::Result<Io> {
        let sender = self.ports.lock().unwrap_or_else(PoisonError::into_inner).get(&port).cloned();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let (near, far) = tokio::io::duplex(self.room_bytes);
        sender.ok_or_else(refused)?.send(far).await.map_err(|_| refused())?;
        Ok(Io::Pipe(near))
    }
}

impl Connector {
    /// The addresses of a name.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Tcp { .. } => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            Self::Pipes(net) => net.resolve(host),
        }
    }

    /// Connects to the first address that answers; the error is that of the last one.
    pub async fn connect(&self, addrs: &[SocketAddr]) -> io::Result<(Io, Link)> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        for addr in addrs {
            match self.connect_one(*addr).await {
                Ok(connected) => return Ok(connected),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_one(&self, addr: SocketAddr) -> io::Result<(Io, Link)> {
        match self {
            Self::Tcp { timeout } => {
                let stream =
                    tokio::time::timeout(*timeout, TcpStream::connect(addr)).await.map_err(|_| {
                        let text = format!("no connection to {addr} in {} s", timeout.as_secs_f64());
                        io::Error::new(io::ErrorKind::TimedOut, text)
                    })??;
                stream.set_nodelay(true)?;
                let same_host = stream.local_addr().is_ok_and(|local| local.ip() == addr.ip());
                Ok((Io::Tcp(stream), Link { peer: Some(addr), same_host }))
            }
            Self::Pipes(net) => {
                Ok((net.connect(addr.port()).await?, Link { peer: Some(addr), same_host: true }))
            }
        }
    }
}

impl Listener {
    /// The next connection.
    pub async fn accept(&mut self) -> io::Result<(Io, Link)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let same_host = stream.local_addr().is_ok_and(|local| local.ip() == peer.ip());
                Ok((Io::Tcp(stream), Link { peer: Some(peer), same_host }))
            }
            Self::Pipe(rx) => match rx.recv().await {
                Some(pipe) => Ok((Io::Pipe(pipe), Link { peer: None, same_host: true })),
                None => Err(io::Error::new(io::ErrorKind::NotConnected, "listener closed")),
            },
        }
    }

    /// The address clients use, if it has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Pipe(_) => None,
        }
    }
}

/// True for an address that only this host can reach or that means "every address of this host".
pub fn is_this_host(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Out of line: TLS over an [`Io`] comes back to it, and what calls itself is not inlined where plain connections are.
#[inline(never)]
fn under_tls<T>(stream: &mut TlsStream<Io>, call: impl FnOnce(Pin<&mut TlsStream<Io>>) -> T) -> T {
    call(Pin::new(stream))
}

impl AsyncRead for Io {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Pipe(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => under_tls(s, |s| s.poll_read(cx, buf)),
        }
    }
}

impl AsyncWrite for Io {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, data),
            Self::Pipe(s) => Pin::new(s).poll_write(cx, data),
            Self::Tls(s) => under_tls(s, |s| s.poll_write(cx, data)),
        }
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Pipe(s) => Pin::new(s).poll_write_vectored(cx, bufs),
            Self::Tls(s) => under_tls(s, |s| s.poll_write_vectored(cx, bufs)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(s) => s.is_write_vectored(),
            Self::Pipe(s) => s.is_write_vectored(),
            Self::Tls(s) => s.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Pipe(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => under_tls(s, |s| s.poll_flush(cx)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Pipe(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_carries_nothing_of_tls() {
        let plain = size_of::<TcpStream>().max(size_of::<DuplexStream>());
        assert!(size_of::<Io>() <= plain + size_of::<usize>(), "{} bytes", size_of::<Io>());
    }
}
