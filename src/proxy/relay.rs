//! Passes a worker's answer to the client, frame by frame, unchanged.
//!
//! Rule: no channel, no extra task, no buffer: a frame is read from the worker when the client's connection asks for one,
//! so a slow reader holds up the worker and not our memory. The bytes are looked at on their way
//! (`wire::answer::AnswerReader`); the last one ends the journey. Deliberately not here: parsing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::body::AnswerBody;
use super::forward::WorkerAnswer;
use super::headers;
use super::journey::Journey;
use crate::fleet::breaker::Verdict;
use crate::fleet::worker::Worker;
use crate::http1::Connection;
use crate::trace::record::Outcome;
use crate::wire::answer::AnswerReader;

/// A worker's answer on its way to the client. Dropping it early closes the worker's connection.
#[derive(Debug)]
pub struct RelayBody {
    body: Incoming,
    passage: Option<Passage>,
    // Told at the next poll, see `fail`.
    failed: Option<io::Error>,
}

/// What is needed until the last byte.
#[derive(Debug)]
struct Passage {
    journey: Journey,
    reader: AnswerReader,
    upstream: Connection,
    worker: Arc<Worker>,
    deadline: Pin<Box<Sleep>>,
    status: u16,
    body_bytes: u64,
}

/// Starts to pass an answer on.
pub fn relay(mut journey: Journey, answer: WorkerAnswer) -> Response<AnswerBody> {
    let (mut head, body) = answer.response.into_parts();
    let status = head.status.as_u16();
    let event_stream = head.headers.get(CONTENT_TYPE).is_some_and(|v| {
        v.as_bytes().get(..17).is_some_and(|v| v.eq_ignore_ascii_case(b"text/event-stream"))
    });
    let reader = if head.headers.contains_key(CONTENT_ENCODING) {
        AnswerReader::blind(status)
    } else {
        AnswerReader::new(answer.endpoint, status, event_stream, answer.multiple)
    };
    headers::to_client(&mut head.headers, &journey);
    head.version = http::Version::HTTP_11;
    journey.note(|r| r.status = Some(status));
    let passage = Passage {
        deadline: answer.deadline,
        journey,
        reader,
        upstream: answer.upstream,
        worker: answer.worker,
        status,
        body_bytes: 0,
    };
    let mut relay = RelayBody { body, passage: Some(passage), failed: None };
    if relay.body.is_end_stream() {
        relay.complete();
    }
    Response::from_parts(head, AnswerBody::Relay(Box::new(relay)))
}

impl RelayBody {
    /// The last byte has been read: the connection goes back to the pool, the request ends.
    fn complete(&mut self) {
        let Some(mut passage) = self.passage.take() else {
            return;
        };
        let now_ns = passage.journey.shared().clock.mono_ns();
        passage.worker.pool.park(passage.upstream, now_ns);
        let mut answer = passage.reader.finish(true);
        if passage.journey.record().max_new_tokens == Some(0) {
            // None were asked for, so none are missing.
            answer.error = answer.error.filter(|error| error.class != "no_tokens");
        }
        let failed = passage.status >= 400 || answer.error.is_some();
        let last_byte_ns = passage.journey.after(now_ns);
        passage.journey.note(|r| {
            r.last_byte_ns = Some(last_byte_ns);
            r.response_body_bytes = passage.body_bytes;
        });
        passage.journey.take_answer(answer);
        passage.journey.end(if failed { Outcome::WorkerError } else { Outcome::Done }, None);
    }

    /// Ends the request, and at the next poll the client's connection, so that it cannot take the part for the whole. Not
    /// at this one: hyper drops what it has not flushed when a body fails, and the client would miss bytes it was due.
    fn fail(&mut self, outcome: Outcome, error: io::Error, cx: &mut Context<'_>) {
        self.abandon(outcome, Some(&error.to_string()));
        self.failed = Some(error);
        cx.waker().wake_by_ref();
    }

    /// The answer will not be complete: the worker's connection is closed, the request ends.
    fn abandon(&mut self, outcome: Outcome, error: Option<&str>) {
        let Some(passage) = self.passage.take() else {
            return;
        };
        let Passage { mut journey, reader, upstream, body_bytes, .. } = passage;
        drop(upstream);
        journey.note(|r| r.response_body_bytes = body_bytes);
        journey.take_answer(reader.finish(false));
        journey.end(outcome, error);
    }
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the answer did not end in --request-timeout-secs")
}

impl Body for RelayBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(error) = this.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(passage) = &mut this.passage else {
            return Poll::Ready(None);
        };
        let frame = passage.upstream.poll_frame(&mut this.body, cx);
        let Poll::Ready(frame) = frame else {
            ready!(passage.deadline.as_mut().poll(cx));
            this.fail(Outcome::TimedOut, late(), cx);
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let now_ns = passage.journey.shared().clock.mono_ns();
                    // A worker that always has a frame ready, or a client that takes them slowly, never lets the timer be asked.
                    if passage.journey.is_late(now_ns) {
                        // Nor is it this worker's failure: it has sent something.
                        passage.journey.judge(Verdict::Neutral);
                        this.fail(Outcome::TimedOut, late(), cx);
                        return Poll::Pending;
                    }
                    passage.body_bytes += data.len() as u64;
                    passage.reader.push(data, now_ns);
                }
                // With a known length hyper does not ask again after the last byte.
                if this.body.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.fail(Outcome::WorkerReset, io::Error::new(io::ErrorKind::ConnectionReset, error), cx);
                Poll::Pending
            }
            None => {
                this.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.passage.is_none() && self.failed.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RelayBody {
    fn drop(&mut self) {
        if let Some(passage) = &self.passage {
            let outcome = passage.journey.outcome_if_dropped();
            self.abandon(outcome, None);
        }
    }
}
