//! A client's connection with the limits of its waits.
//!
//! Rule: whatever a request waits for, its client is watched meanwhile, and its time runs: [`Visit::watch`] ends every wait
//! when the client has left or the request has taken too long. Between two requests a client may be idle for
//! `IDLE_TIMEOUT`; a head that has begun must be whole after `HEAD_TIMEOUT`. Deliberately not here: what is answered.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::timer::Timer;
use crate::http1::{Accepted, Outgoing, Request, Unreadable};
use crate::net::Io;

/// Longest idle time between requests. Above the idle limit of common clients' pools.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Longest time from the first byte of a head to its last.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Largest request head; sglang-router's hyper takes 400 kB, nginx 32 kB.
const MAX_HEAD_BYTES: usize = 128 * 1024;
/// Longest farewell: the time a client has to read what it was told before its connection goes.
const FAREWELL: Duration = Duration::from_secs(2);

/// One client's connection.
#[derive(Debug)]
pub struct Visit {
    accepted: Accepted,
    client: Option<Arc<str>>,
    idle: Timer,
    limit: Timer,
    manner: Manner,
    closing: watch::Receiver<bool>,
}

/// How the answer to the request in progress has to be told.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// To a client of HTTP/1.1, else 1.0.
    pub is_http_11: bool,
    /// The client will take another answer on this connection.
    pub keeps_alive: bool,
    /// The method is HEAD: a head alone.
    pub to_head: bool,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The client has left.
    Gone,
    /// The request has taken longer than it may.
    Late,
}

/// Why no request came.
#[derive(Debug)]
pub enum NoRequest {
    /// Something else did.
    Unreadable(Unreadable),
    /// A head began and did not end in time.
    Slow,
    /// Nothing came in time.
    Idle,
}

impl Visit {
    /// Begins with an accepted socket.
    pub fn new(io: Io, client: Option<Arc<str>>, closing: watch::Receiver<bool>) -> Self {
        let now = Instant::now();
        Self {
            accepted: Accepted::new(io, MAX_HEAD_BYTES),
            client,
            idle: Timer::at(now + IDLE_TIMEOUT),
            limit: Timer::at(now + IDLE_TIMEOUT),
            manner: Manner { is_http_11: true, keeps_alive: true, to_head: false },
            closing,
        }
    }

    /// The client's address.
    pub fn client(&self) -> Option<Arc<str>> {
        self.client.clone()
    }

    /// Some bytes of a request are there, but not its whole head.
    pub fn has_begun(&self) -> bool {
        self.accepted.has_begun()
    }

    /// How to answer the request in progress.
    pub fn manner(&self) -> Manner {
        Manner { keeps_alive: self.manner.keeps_alive && !*self.closing.borrow(), ..self.manner }
    }

    /// The next request; `None` if the client closed between two.
    pub async fn next_request(&mut self) -> Result<Option<Request>, NoRequest> {
        let Self { accepted, idle, .. } = self;
        let mut begun = accepted.has_begun();
        idle.set(Instant::now() + IDLE_TIMEOUT);
        poll_fn(|cx| {
            if let Poll::Ready(came) = accepted.poll_request(cx) {
                return Poll::Ready(came.map_err(NoRequest::Unreadable));
            }
            if !begun && accepted.has_begun() {
                begun = true;
                idle.set(Instant::now() + HEAD_TIMEOUT);
            }
            idle.poll(cx).map(|()| Err(if begun { NoRequest::Slow } else { NoRequest::Idle }))
        })
        .await
    }

    /// A request begins that must have ended at `deadline`.
    pub fn begin(&mut self, request: &Request, deadline: Instant) {
        let head = request.head.message;
        self.limit.set(deadline);
        self.manner = Manner {
            is_http_11: head.is_http_11,
            keeps_alive: head.keeps_alive,
            to_head: request.method() == b"HEAD",
        };
    }

    /// The request is answered though nobody asked for (all of) its body. If that has come already the connection goes on
    /// behind it, else it ends with the answer.
    pub fn dismiss(&mut self, mut request: Request) {
        if request.skip_body() {
            self.give_back(request);
        } else {
            self.manner.keeps_alive = false;
        }
    }

    /// More of the request's body: how many bytes of data came, or `None` at its end.
    pub async fn read_body(&mut self, request: &mut Request) -> Result<io::Result<Option<usize>>, Interrupt> {
        let Self { accepted, limit, .. } = self;
        poll_fn(|cx| {
            if let Poll::Ready(read) = accepted.poll_body(request, cx) {
                return Poll::Ready(Ok(read));
            }
            limit.poll(cx).map(|()| Err(Interrupt::Late))
        })
        .await
    }

    /// The request has been read and sent on: what came after it is kept, its memory is free.
    pub fn give_back(&mut self, request: Request) {
        self.accepted.give_back(request);
    }

    /// Waits for `future` as long as the client is there and the request has time.
    pub async fn watch<F: Future>(&mut self, future: F) -> Result<F::Output, Interrupt> {
        let Self { accepted, limit, .. } = self;
        let mut future = pin!(future);
        let met = poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(Ok(output)));
            }
            if accepted.poll_gone(cx).is_ready() {
                return Poll::Ready(Some(Err(Interrupt::Gone)));
            }
            if limit.poll(cx).is_ready() {
                return Poll::Ready(Some(Err(Interrupt::Late)));
            }
            if accepted.is_full() { Poll::Ready(None) } else { Poll::Pending }
        });
        match met.await {
            Some(met) => met,
            // Boxed: hardly any client sends so much ahead, and every stream would hold room for it.
            None => Box::pin(watch_unread(accepted, future, |cx| limit.poll(cx))).await,
        }
    }

    /// As [`Self::watch`] for what knows the request's deadline itself; `None` if the client has left.
    pub async fn watch_client<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let accepted = &mut self.accepted;
        let mut future = pin!(future);
        let met = poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(Some(output)));
            }
            if accepted.poll_gone(cx).is_ready() {
                return Poll::Ready(Some(None));
            }
            if accepted.is_full() { Poll::Ready(None) } else { Poll::Pending }
        });
        match met.await {
            Some(met) => met,
            None => Box::pin(watch_unread(accepted, future, |_| Poll::Pending)).await.ok(),
        }
    }

    /// The router answers itself. What is to be said may be that the request's time is over, so there is time to say it.
    pub fn last_words(&mut self) {
        self.limit.put_off(Instant::now() + FAREWELL);
    }

    /// Writes all of it. A client that takes nothing has until the request's deadline, and one that leaves is noticed.
    pub async fn write(&mut self, mut outgoing: Outgoing<'_>) -> Result<(), Interrupt> {
        let Self { accepted, limit, .. } = self;
        poll_fn(|cx| {
            if let Poll::Ready(written) = accepted.poll_write(&mut outgoing, cx) {
                return Poll::Ready(written.map_err(|_| Interrupt::Gone));
            }
            // It may have half-closed, which no write finds out.
            if accepted.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Interrupt::Gone));
            }
            limit.poll(cx).map(|()| Err(Interrupt::Late))
        })
        .await
    }

    /// Tells the client to send the body of its request. Nothing is read meanwhile, as that would be the body.
    pub async fn invite_body(&mut self) -> Result<(), Interrupt> {
        let Self { accepted, limit, .. } = self;
        let mut outgoing = Outgoing::new([b"HTTP/1.1 100 Continue\r\n\r\n"]);
        poll_fn(|cx| {
            if let Poll::Ready(written) = accepted.poll_write(&mut outgoing, cx) {
                return Poll::Ready(written.map_err(|_| Interrupt::Gone));
            }
            limit.poll(cx).map(|()| Err(Interrupt::Late))
        })
        .await
    }

    /// Ends a connection on which nothing is under way.
    pub async fn leave(mut self) {
        let _ = tokio::time::timeout(FAREWELL, self.accepted.shutdown()).await;
    }

    /// Ends the connection so that the client can read what it was told last.
    pub async fn close(self) {
        // One that does not close in its turn has had its time.
        let _ = tokio::time::timeout(FAREWELL, self.accepted.close()).await;
    }
}

/// Waits for `future` as long as a client that has sent too much ahead is there, and for `late`.
async fn watch_unread<F: Future>(
    accepted: &Accepted,
    mut future: Pin<&mut F>,
    mut late: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Result<F::Output, Interrupt> {
    let mut closed = pin!(accepted.closed());
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        if closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Interrupt::Gone));
        }
        late(cx).map(|()| Err(Interrupt::Late))
    })
    .await
}
