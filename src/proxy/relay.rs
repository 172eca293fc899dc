//! Passes a worker's answer to the client, piece by piece, unchanged.
//!
//! Rule: no channel, no extra task, no copy: what was read from the worker is written to the client from where it lies, and
//! nothing more is read before it has left, so a slow reader holds up the worker and not our memory. The bytes are looked at
//! on their way (`wire::answer::AnswerReader`). Deliberately not here: parsing, the end of the record (`journey`).

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Shared;
use super::budget::Reserved;
use super::cors::Cors;
use super::forward::WorkerAnswer;
use super::headers;
use super::journey::Journey;
use super::visit::{Interrupt, Visit};
use crate::buffer::Buffer;
use crate::fleet::breaker::Verdict;
use crate::fleet::worker::Worker;
use crate::http1::coding::Coding;
use crate::http1::{Connection, Outgoing, lines};
use crate::trace::record::Outcome;
use crate::wire::answer::AnswerReader;

/// Room made for a head at once; a longer one makes its buffer grow.
const HEAD_ROOM_BYTES: usize = 1024;

/// A plain answer up to this long is held for reading without asking whether there is room: as much as a socket holds.
const HELD_FREELY_BYTES: usize = 64 * 1024;

/// An answer on its way. Dropped early, it closes the worker's connection and ends the request.
#[derive(Debug)]
struct Passage {
    journey: Journey,
    // `None` once the request has ended.
    rest: Option<Rest>,
    status: u16,
    body_bytes: u64,
}

/// What is needed until the last byte.
#[derive(Debug)]
struct Rest {
    reader: AnswerReader,
    // The room for what the reader holds, once that is much.
    held: Option<Reserved>,
    upstream: Connection,
    worker: Arc<Worker>,
}

/// Passes an answer on to its end; true if the connection can carry another request. What is done before the first wait is
/// done in the call, so that a stream holds what it needs and nothing twice.
pub fn relay<'a>(
    visit: &'a mut Visit,
    mut journey: Journey,
    answer: WorkerAnswer,
    multiple: bool,
    origin: Option<&HeaderValue>,
) -> impl Future<Output = bool> + use<'a> {
    let WorkerAnswer { head, upstream, worker } = answer;
    let manner = visit.manner();
    let coding = Coding::of(&head.message, manner.is_http_11);
    let keeps_alive = manner.keeps_alive && coding != Coding::UntilClose;
    let mut out = Buffer::with_room(HEAD_ROOM_BYTES);
    lines::status_line(&mut out, manner.is_http_11, head.status, upstream.reason(&head));
    let fields = headers::to_client(&upstream, worker.is_router());
    push_fields(&mut out, fields, &journey.shared().cors, origin);
    headers::response_stamps(&mut out, &journey);
    lines::framing(&mut out, coding, head.message.content_length, keeps_alive, manner.is_http_11);
    journey.note(|r| r.status = Some(head.status));
    let (encoding, content_type) = (upstream.field("content-encoding"), upstream.field("content-type"));
    let reader =
        AnswerReader::by_head(journey.record().endpoint, head.status, encoding, content_type, multiple);
    let rest = Some(Rest { reader, held: None, upstream, worker });
    let mut passage = Passage { journey, rest, status: head.status, body_bytes: 0 };
    async move { passage.run(visit, coding, out).await && keeps_alive }
}

fn push_fields<'a>(
    out: &mut Buffer,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    cors: &Cors,
    origin: Option<&HeaderValue>,
) {
    let Some(origin) = origin else {
        fields.for_each(|(name, value)| lines::field(out, name, value));
        return;
    };
    let mut dressed = HeaderMap::new();
    for (name, value) in fields {
        if !Cors::concerns(name) {
            lines::field(out, name, value);
        } else if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            dressed.append(name, value);
        }
    }
    cors.dress(origin, &mut dressed);
    for (name, value) in &dressed {
        lines::field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

impl Rest {
    /// Takes room for what the reader holds, or has it let go of that.
    #[cold]
    fn hold(&mut self, shared: &Shared) {
        let held = self.held.get_or_insert_with(|| shared.answers.reserve());
        if !held.grow_to(self.reader.held_bytes() as u64) {
            self.reader.give_up();
            self.held = None;
        }
    }
}

impl Passage {
    /// True if the whole answer reached the client. `out` holds the head.
    async fn run(&mut self, visit: &mut Visit, coding: Coding, mut out: Buffer) -> bool {
        loop {
            let Some(rest) = &mut self.rest else {
                return false;
            };
            let mut come = Poll::Pending;
            if !out.is_empty() {
                // A head with nothing after it goes out alone, as the first bytes of a body may be seconds away.
                come = poll_fn(|cx| Poll::Ready(rest.upstream.poll_body(cx))).await;
                if come.is_pending() {
                    if let Err(interrupt) = visit.write(Outgoing::new([out.as_bytes()])).await {
                        return self.interrupted(interrupt, true);
                    }
                    out = Buffer::default();
                }
            }
            let come = match come {
                // Asked again, a connection that was reset would only say that it has ended.
                Poll::Ready(come) => Ok(come),
                Poll::Pending => visit.watch(poll_fn(|cx| rest.upstream.poll_body(cx))).await,
            };
            match come {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.broken(&error, visit, out.as_bytes()).await,
                Err(interrupt) => return self.interrupted(interrupt, false),
            }
            let now_ns = rest.upstream.last_read_ns();
            // A worker that always has something ready never lets the timer be asked. What comes with the head is not asked
            // either: a client that is told nothing at all could not tell this from a router that has died.
            if out.is_empty() && self.journey.is_late(now_ns) {
                return self.interrupted(Interrupt::Late, true);
            }
            let had_bytes = self.body_bytes > 0;
            let had_token = rest.reader.first_token_ns().is_some();
            let (reader, body_bytes) = (&mut rest.reader, &mut self.body_bytes);
            let taken = rest.upstream.take_body(|data| {
                *body_bytes += data.len() as u64;
                reader.push(data, now_ns);
                if !coding.passes_as_it_came() {
                    coding.push(&mut out, data);
                }
            });
            let taken = match taken {
                Ok(taken) => taken,
                Err(error) => return self.broken(&error, visit, out.as_bytes()).await,
            };
            if !had_bytes && self.body_bytes > 0 {
                self.journey.answer_began(self.status);
            }
            if !had_token && let Some(at_ns) = rest.reader.first_token_ns() {
                self.journey.first_token(at_ns);
            }
            if rest.reader.held_bytes() > HELD_FREELY_BYTES {
                rest.hold(self.journey.shared());
            } else if rest.held.is_some() {
                // It has become too long to be read.
                rest.held = None;
            }
            let ended = rest.upstream.body_has_ended();
            if ended {
                let last_byte_ns = self.journey.after(now_ns);
                self.journey.note(|r| r.last_byte_ns = Some(last_byte_ns));
                self.journey.served(self.status);
            }
            let as_it_came = if coding.passes_as_it_came() { rest.upstream.taken(taken) } else { &[] };
            let end = if ended { coding.end() } else { &[] };
            let written = visit.write(Outgoing::new([out.as_bytes(), as_it_came, end])).await;
            // The room of the head is not held for as long as the stream lasts.
            out = Buffer::default();
            match written {
                Ok(()) if ended => return self.complete(now_ns),
                Ok(()) => {}
                Err(interrupt) => return self.interrupted(interrupt, true),
            }
        }
    }

    /// The client has the whole answer: the worker's connection goes back to the pool, the request ends.
    fn complete(&mut self, now_ns: u64) -> bool {
        let Some(Rest { reader, upstream, worker, .. }) = self.rest.take() else {
            return false;
        };
        worker.pool.park(upstream, now_ns);
        let mut answer = reader.finish(true);
        if self.journey.record().max_new_tokens == Some(0) {
            // None were asked for, so none are missing.
            answer.error = answer.error.filter(|error| error.class != "no_tokens");
        }
        let failed = self.status >= 400 || answer.error.is_some();
        let body_bytes = self.body_bytes;
        self.journey.note(|r| r.response_body_bytes = body_bytes);
        self.journey.take_answer(answer);
        self.journey.end(if failed { Outcome::WorkerError } else { Outcome::Done }, None);
        true
    }

    /// The worker's connection gave something that is no answer, or nothing more. The client gets what it is due, `out`, and
    /// then the end of its connection, so that it cannot take the part for the whole.
    async fn broken(&mut self, error: &io::Error, visit: &mut Visit, out: &[u8]) -> bool {
        // Whether it still takes it makes no difference to the end.
        let _ = visit.write(Outgoing::new([out])).await;
        self.abandon(Outcome::WorkerReset, Some(&error.to_string()));
        false
    }

    /// The client has left, or the time is over; `by_client`: while it was the client that was waited for, or the worker had
    /// sent something.
    fn interrupted(&mut self, interrupt: Interrupt, by_client: bool) -> bool {
        match interrupt {
            Interrupt::Gone => self.abandon(self.journey.outcome_if_dropped(), None),
            Interrupt::Late => {
                if by_client {
                    self.journey.judge(Verdict::Neutral);
                }
                self.abandon(Outcome::TimedOut, Some("the answer did not end in --request-timeout-secs"));
            }
        }
        false
    }

    /// The client will not have the whole answer: the worker's connection is closed, the request ends.
    fn abandon(&mut self, outcome: Outcome, error: Option<&str>) {
        let Some(Rest { reader, upstream, .. }) = self.rest.take() else {
            return;
        };
        let whole = upstream.body_has_ended();
        drop(upstream);
        let body_bytes = self.body_bytes;
        self.journey.note(|r| r.response_body_bytes = body_bytes);
        let mut answer = reader.finish(whole);
        if matches!(outcome, Outcome::ClientGone | Outcome::Stopped) {
            // That it is not whole is not the worker's doing.
            answer.error = answer.error.filter(|error| error.class != "truncated");
        }
        self.journey.take_answer(answer);
        self.journey.end(outcome, error);
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if self.rest.is_some() {
            self.abandon(self.journey.outcome_if_dropped(), None);
        }
    }
}
