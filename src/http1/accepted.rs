//! A client's connection, seen from the server: requests in, bytes out, and word of a client that has left.
//!
//! Rule: a request is handed over whole, with the memory it was read into, so that the connection can go on watching the
//! socket while somebody works on it. A client that closes its side, half or whole, is gone: what it had asked for has no
//! reader. Every wait here is a poll; limits of time are the caller's. Deliberately not here: what is answered.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWriteExt;

use super::body::Body;
use super::head::{self, Fields, Framing, HeadError, RequestHead};
use super::incoming::Incoming;
use super::outgoing::Outgoing;
use crate::net::Io;

/// Most bytes of requests that a client may send ahead of the answer it waits for; more stay in the socket.
const MAX_AHEAD_BYTES: usize = 64 * 1024;
/// Most bytes of empty lines before a request; a client that is somewhat wrong sends one line.
const MAX_EMPTY_BYTES: usize = 16 * 1024;
/// What is still read of a request that was refused, so that its client reads the refusal and not a reset.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Accepted {
    io: Io,
    incoming: Incoming,
    fields: Fields,
    // Bytes of the unread part in which no end of a head was found.
    searched: usize,
    // Of empty lines, since the last request.
    empty_bytes: usize,
    // What the request in progress holds of those after it.
    ahead_bytes: usize,
    max_head_bytes: usize,
}

/// A request and the bytes it came in.
#[derive(Debug)]
pub struct Request {
    /// What its first line and framing say.
    pub head: RequestHead,
    bytes: Incoming,
    fields: Fields,
    body: Body,
    // The data of a chunked body; of any other it stays where it was read.
    unchunked: Vec<u8>,
    // Where the body lies in `bytes`.
    body_end: usize,
}

/// Why no request came.
#[derive(Debug)]
pub enum Unreadable {
    /// It is no request.
    Malformed(HeadError),
    /// Its head is longer than allowed, or has too many fields; or empty lines come without end.
    TooLarge,
    /// The client closed in the middle of a head.
    Incomplete,
    /// The socket failed.
    Io(io::Error),
}

impl Accepted {
    /// Wraps an accepted socket.
    pub fn new(io: Io, max_head_bytes: usize) -> Self {
        let (incoming, fields) = (Incoming::default(), Fields::default());
        Self { io, incoming, fields, searched: 0, empty_bytes: 0, ahead_bytes: 0, max_head_bytes }
    }

    /// Some bytes of a request are there, but not its whole head.
    pub fn has_begun(&self) -> bool {
        !self.incoming.unread().is_empty()
    }

    /// The next request, its body not read yet; `None` if the client closed between two.
    pub fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Request>, Unreadable>> {
        loop {
            if let Some(request) = self.parse()? {
                return Poll::Ready(Ok(Some(request)));
            }
            match ready!(self.incoming.poll_fill(&mut self.io, cx)) {
                Ok(0) if self.has_begun() => return Poll::Ready(Err(Unreadable::Incomplete)),
                Ok(0) => return Poll::Ready(Ok(None)),
                Ok(_) => {}
                Err(error) if self.has_begun() => return Poll::Ready(Err(Unreadable::Io(error))),
                // Between two requests a reset is a way of closing.
                Err(_) => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Request>, Unreadable> {
        if self.searched == 0 {
            self.skip_empty_lines();
            // Who always has another one would never let the time of a wait be looked at.
            if self.empty_bytes > MAX_EMPTY_BYTES {
                return Err(Unreadable::TooLarge);
            }
        }
        let unread = self.incoming.unread();
        // The first bytes are looked at whatever they are: what is no HTTP may never send an empty line.
        if !unread.is_empty() && (self.searched == 0 || head::may_be_whole(unread, self.searched)) {
            let parsed = head::request(self.incoming.unread_mut(), &mut self.fields);
            let parsed = parsed.map_err(|error| match error {
                HeadError::TooManyFields => Unreadable::TooLarge,
                HeadError::Malformed(_) => Unreadable::Malformed(error),
            });
            if let Some(found) = parsed? {
                if found.message.head_bytes > self.max_head_bytes {
                    return Err(Unreadable::TooLarge);
                }
                return Ok(Some(self.take(found)));
            }
        }
        let unread = self.incoming.unread();
        // A CR alone may be the first half of an empty line, and is looked at again.
        self.searched = if unread == b"\r" { 0 } else { unread.len() };
        if unread.len() > self.max_head_bytes {
            return Err(Unreadable::TooLarge);
        }
        Ok(None)
    }

    /// Forgets the empty lines that some clients send after a body (RFC 9112, 2.2).
    fn skip_empty_lines(&mut self) {
        let mut rest = self.incoming.unread();
        while let Some(after) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
            rest = after;
        }
        let skipped_bytes = self.incoming.unread().len() - rest.len();
        if skipped_bytes > 0 {
            self.empty_bytes += skipped_bytes;
            self.incoming.consume(skipped_bytes);
            self.incoming.forget();
        }
    }

    fn take(&mut self, found: RequestHead) -> Request {
        (self.searched, self.empty_bytes) = (0, 0);
        let mut bytes = std::mem::take(&mut self.incoming);
        bytes.consume(found.message.head_bytes);
        Request {
            body: Body::new(found.message.framing),
            body_end: found.message.head_bytes,
            head: found,
            bytes,
            fields: std::mem::take(&mut self.fields),
            unchunked: Vec::new(),
        }
    }

    /// Reads more of the request's body: how many bytes of data came, or `None` at its end.
    pub fn poll_body(
        &mut self,
        request: &mut Request,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        loop {
            let came = request.take_data()?;
            if came > 0 {
                return Poll::Ready(Ok(Some(came)));
            }
            if request.body.has_ended() {
                self.ahead_bytes = request.bytes.unread().len();
                return Poll::Ready(Ok(None));
            }
            if let Body::Length(left) = request.body {
                // As it arrives, not as it was announced.
                request.bytes.expect(
                    usize::try_from(left).unwrap_or(usize::MAX).min(super::incoming::MAX_READ_BYTES) + 1,
                );
            }
            if ready!(request.bytes.poll_fill(&mut self.io, cx))? == 0 {
                let what = "the client closed before the request body had ended";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, what)));
            }
        }
    }

    /// Takes over what was read beyond the request, and what memory can be used again.
    pub fn give_back(&mut self, request: Request) {
        let Request { mut bytes, fields, .. } = request;
        self.fields = fields;
        self.ahead_bytes = 0;
        if self.incoming.unread().is_empty() {
            bytes.shrink();
            self.incoming = bytes;
        } else {
            self.incoming.prepend(bytes.unread());
        }
    }

    /// Ready once the client has left; meanwhile takes in what it sends ahead, until [`Self::is_full`].
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.is_full() {
            match ready!(self.incoming.poll_fill(&mut self.io, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// The client has sent as much ahead as is taken in, so that reading no longer tells whether it is there.
    pub fn is_full(&self) -> bool {
        self.ahead_bytes + self.incoming.unread().len() >= MAX_AHEAD_BYTES
    }

    /// Returns once the client has left, as far as that shows without reading, see [`Io::closed`].
    pub async fn closed(&self) {
        self.io.closed().await;
    }

    /// Writes; call until it is ready.
    pub fn poll_write(&mut self, outgoing: &mut Outgoing<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        outgoing.poll(&mut self.io, cx)
    }

    /// Says that nothing more comes.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    /// Ends the connection in good order: says that nothing more comes, then reads what the client still sends, up to a
    /// limit, as closing over unread bytes would reset the connection and take the answer with it.
    pub async fn close(mut self) {
        if self.shutdown().await.is_err() {
            return;
        }
        let mut read_bytes = 0;
        while read_bytes < MAX_LINGER_BYTES {
            self.incoming.consume(usize::MAX);
            self.incoming.forget();
            match poll_fn(|cx| self.incoming.poll_fill(&mut self.io, cx)).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => read_bytes += bytes,
            }
        }
    }
}

impl Request {
    /// The method's bytes.
    pub fn method(&self) -> &[u8] {
        self.head.method(self.bytes.all())
    }

    /// The target as it came.
    pub fn target(&self) -> &[u8] {
        self.head.target(self.bytes.all())
    }

    /// Name in lower case and value of each header field, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter(self.bytes.all())
    }

    /// The first value under a name given in lower case.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(self.bytes.all(), name)
    }

    /// The body's data so far.
    pub fn body(&self) -> &[u8] {
        match self.head.message.framing {
            Framing::Chunked => &self.unchunked,
            _ => &self.bytes.all()[self.head.message.head_bytes..self.body_end],
        }
    }

    /// All of the body has been read.
    pub fn is_whole(&self) -> bool {
        self.body.has_ended()
    }

    /// All of the body has come, read or not.
    pub fn is_all_here(&self) -> bool {
        match self.body {
            Body::Length(left) => left <= self.bytes.unread().len() as u64,
            _ => self.is_whole(),
        }
    }

    /// Takes what has come of the body without waiting for more; true if that is all of it.
    pub fn skip_body(&mut self) -> bool {
        while let Ok(1..) = self.take_data() {}
        self.is_whole()
    }

    fn take_data(&mut self) -> io::Result<usize> {
        let Self { body, bytes, unchunked, head, .. } = self;
        let chunked = head.message.framing == Framing::Chunked;
        let before = unchunked.len();
        let taken = body.take(bytes.unread(), |data| {
            if chunked {
                unchunked.extend_from_slice(data);
            }
        });
        let taken = taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        bytes.consume(taken.used_bytes);
        if chunked {
            // Tiny chunks are mostly framing, which no limit of bodies counts.
            bytes.forget_from(head.message.head_bytes);
            return Ok(unchunked.len() - before);
        }
        self.body_end += taken.used_bytes;
        Ok(taken.used_bytes)
    }
}

#[cfg(test)]
#[path = "accepted_tests.rs"]
mod tests;
