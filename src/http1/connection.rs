//! One HTTP/1.1 connection to a server, driven by the task of the request that uses it.
//!
//! Rule: no task of its own. Dropping the request closes the socket at once, and no byte crosses a task boundary. A stamp is
//! taken where the bytes pass, in the socket's read and write. What is read of an answer is handed on where it lies. The
//! router's way to its workers and the load generator's way to its target are this one code, so that what either calls "sent"
//! or "first byte" is the same moment. Deliberately not here: which connection to use (`pool`), what to do when one fails.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::body::{Body, Taken};
use super::head::{self, Fields, ResponseHead};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::clock::Clock;
use crate::net::{Io, Link};

/// Largest response head in bytes; a worker's is a few hundred.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// Most interim answers (1xx) before the answer; a server says one or two.
const MAX_INTERIM: u32 = 32;

/// How soon after the write a reused connection must have died for its peer to have been closing it while the request was on
/// its way. Word of such a close comes one round trip after the write, and a second is longer than any; a peer that held the
/// request for longer had taken it.
const CLOSING_RACE_NS: u64 = 1_000_000_000;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    link: Link,
    clock: Clock,
    incoming: Incoming,
    fields: Fields,
    body: Body,
    /// The answer allows another request and the request was written whole.
    keeps_alive: bool,
    requests: u32,
    interim: u32,
    first_write_ns: Option<u64>,
    first_read_ns: Option<u64>,
    last_read_ns: u64,
}

/// Why a request got no response head on this connection.
#[derive(Debug)]
pub struct SendError {
    /// What happened.
    pub error: io::Error,
    /// Some byte of a response to it had been read.
    pub response_began: bool,
    /// The connection was a reused one, and died so soon after the write that its peer was closing it then: to send the
    /// request again, on a fresh connection, is no second try.
    pub closing_race: bool,
}

impl Connection {
    /// Wraps a fresh socket.
    pub fn new(io: Io, link: Link, clock: Clock) -> Self {
        Self {
            io,
            link,
            clock,
            incoming: Incoming::default(),
            fields: Fields::default(),
            body: Body::Ended,
            keeps_alive: true,
            requests: 0,
            interim: 0,
            first_write_ns: None,
            first_read_ns: None,
            last_read_ns: 0,
        }
    }

    /// Facts about the socket.
    pub fn link(&self) -> Link {
        self.link
    }

    /// True once a request before the current one has been sent on it.
    pub fn is_reused(&self) -> bool {
        self.requests > 1
    }

    /// When the first write of the current request returned, `CLOCK_MONOTONIC` nanoseconds: it is on its way.
    pub fn first_write_ns(&self) -> Option<u64> {
        self.first_write_ns
    }

    /// When the first byte of the current response was read, `CLOCK_MONOTONIC` nanoseconds.
    pub fn first_read_ns(&self) -> Option<u64> {
        self.first_read_ns
    }

    /// When bytes (or the end) of the current response were read last, `CLOCK_MONOTONIC` nanoseconds; the moment of all that
    /// they hold, a head among them.
    pub fn last_read_ns(&self) -> u64 {
        self.last_read_ns
    }

    /// Sends one request, head and body as they are, and waits for the response head. `to_head`: its method is HEAD.
    pub async fn send(
        &mut self,
        mut request: Outgoing<'_>,
        to_head: bool,
    ) -> Result<ResponseHead, SendError> {
        self.requests += 1;
        (self.first_write_ns, self.first_read_ns) = (None, None);
        (self.keeps_alive, self.body, self.interim) = (false, Body::Ended, 0);
        self.incoming.release();
        let answered = poll_fn(|cx| self.poll_head(&mut request, to_head, cx)).await;
        answered.map_err(|error| self.failed(error))
    }

    /// The fields of the response head, name in lower case and value; valid until the body is read on.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter(self.incoming.all())
    }

    /// The first value under a name given in lower case; valid as long as [`Self::fields`].
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(self.incoming.all(), name)
    }

    /// The words after the status.
    pub fn reason(&self, head: &ResponseHead) -> &[u8] {
        head.reason(self.incoming.all())
    }

    /// The last byte of the response's body has been taken.
    pub fn body_has_ended(&self) -> bool {
        self.body.has_ended()
    }

    /// Waits for bytes of the body that were not taken yet, or for its end.
    pub fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.body.has_ended() || !self.incoming.unread().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.incoming.forget();
        let read_bytes = ready!(self.incoming.poll_fill(&mut self.io, cx))?;
        self.last_read_ns = self.clock.mono_ns();
        if read_bytes == 0 && !self.body.close() {
            return Poll::Ready(Err(closed("the connection closed before the answer had ended")));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what has come of the body: `data` sees its data. What is to be passed on stands at the range returned, in
    /// [`Self::taken`], until the next [`Self::poll_body`].
    pub fn take_body(&mut self, data: impl FnMut(&[u8])) -> io::Result<Range<usize>> {
        let start = self.incoming.consumed();
        let taken = self.body.take(self.incoming.unread(), data);
        let Taken { used_bytes, pass_bytes } =
            taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.incoming.consume(used_bytes);
        Ok(start..start + pass_bytes)
    }

    /// Bytes taken last.
    pub fn taken(&self, range: Range<usize>) -> &[u8] {
        &self.incoming.all()[range]
    }

    /// Waits for more of the body's data and shows it, with the time at which it was read; `false` once it has ended.
    pub async fn read_data(&mut self, mut data: impl FnMut(&[u8], u64)) -> io::Result<bool> {
        if self.body.has_ended() {
            return Ok(false);
        }
        poll_fn(|cx| self.poll_body(cx)).await?;
        let at_ns = self.last_read_ns;
        self.take_body(|bytes| data(bytes, at_ns))?;
        Ok(true)
    }

    /// The whole body, up to `max_bytes`; the error is in words.
    pub async fn collect(&mut self, max_bytes: usize) -> Result<Bytes, String> {
        let mut all = Vec::new();
        let mut whole = true;
        while whole {
            let fits = |all: &[u8], data: &[u8]| all.len() + data.len() <= max_bytes;
            let more = self.read_data(|data, _| {
                whole &= fits(&all, data);
                if whole {
                    all.extend_from_slice(data);
                }
            });
            if !more.await.map_err(|error| error.to_string())? {
                return Ok(all.into());
            }
        }
        Err(format!("the answer is longer than {max_bytes} bytes"))
    }

    /// True if the connection can carry another request. Polls the socket once, so that a peer that has closed is seen; one
    /// that says something unasked is not to be trusted either.
    pub fn is_ready(&mut self) -> bool {
        if !self.keeps_alive || !self.body.has_ended() || !self.incoming.unread().is_empty() {
            return false;
        }
        // Nothing is expected, so nothing need be held for it.
        self.incoming.release();
        let mut byte = [0];
        let mut nothing = ReadBuf::new(&mut byte);
        let mut cx = Context::from_waker(Waker::noop());
        // However much this task has read in its turn: a read that is put off says nothing of the peer.
        let read = poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, &mut nothing));
        pin!(tokio::task::unconstrained(read)).poll(&mut cx).is_pending()
    }

    /// Waits while nothing is asked, until the peer closes the connection or says something unasked.
    pub async fn idle_end(&mut self) {
        self.incoming.release();
        let mut byte = [0];
        let mut nothing = ReadBuf::new(&mut byte);
        // Whatever it is, the connection has had its end.
        let _ = poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, &mut nothing)).await;
    }

    fn poll_head(
        &mut self,
        request: &mut Outgoing<'_>,
        to_head: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<ResponseHead>> {
        let mut unwritten = None;
        if !request.is_done() {
            // A server may answer and close before it has taken the whole request, so what it said is looked at first.
            unwritten = match request.poll(&mut self.io, cx) {
                Poll::Ready(Err(error)) => Some(error),
                _ => None,
            };
            if request.has_begun() && self.first_write_ns.is_none() {
                self.first_write_ns = Some(self.clock.mono_ns());
            }
        }
        loop {
            let seen = self.incoming.unread().len();
            match self.incoming.poll_fill(&mut self.io, cx) {
                Poll::Ready(Ok(0)) => {
                    let what = "the connection closed before a whole response head";
                    return Poll::Ready(Err(unwritten.unwrap_or_else(|| closed(what))));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(unwritten.unwrap_or(error))),
                Poll::Pending => return unwritten.map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
            }
            self.last_read_ns = self.clock.mono_ns();
            self.first_read_ns.get_or_insert(self.last_read_ns);
            if let Some(found) = self.parse(seen, to_head)? {
                self.keeps_alive = found.message.keeps_alive && request.is_done();
                return Poll::Ready(Ok(found));
            }
        }
    }

    /// A response head among the bytes read, interim ones stepped over.
    fn parse(&mut self, seen: usize, to_head: bool) -> io::Result<Option<ResponseHead>> {
        let mut seen = seen;
        // The first bytes are looked at whatever they are: what is no HTTP may never send an empty line.
        while !self.incoming.unread().is_empty()
            && (seen == 0 || head::may_be_whole(self.incoming.unread(), seen))
        {
            let parsed = head::response(self.incoming.unread_mut(), &mut self.fields, to_head);
            let Some(found) = parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            else {
                break;
            };
            if found.message.head_bytes > MAX_HEAD_BYTES {
                return Err(too_large());
            }
            match found.status {
                101 => {
                    let what = "it switched protocols unasked";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                100..=199 if self.interim == MAX_INTERIM => {
                    let what = "interim answers without end";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
                100..=199 => {
                    self.interim += 1;
                    self.incoming.consume(found.message.head_bytes);
                    self.incoming.forget();
                    seen = 0;
                }
                _ => {
                    self.incoming.consume(found.message.head_bytes);
                    self.body = Body::new(found.message.framing);
                    return Ok(Some(found));
                }
            }
        }
        if self.incoming.unread().len() > MAX_HEAD_BYTES {
            return Err(too_large());
        }
        Ok(None)
    }

    fn failed(&mut self, error: io::Error) -> SendError {
        self.keeps_alive = false;
        let response_began = self.first_read_ns.is_some();
        let held_ns =
            self.first_write_ns.map_or(0, |written_ns| self.clock.mono_ns().saturating_sub(written_ns));
        let closing_race = self.is_reused() && !response_began && held_ns < CLOSING_RACE_NS;
        SendError { error, response_began, closing_race }
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a response head that is too large")
}

/// How the end of a connection in the middle of something is told.
fn closed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
