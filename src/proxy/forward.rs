//! Gets a response head from some worker: choose, connect, stamp, send.
//!
//! Rule: an attempt is followed by another only before a byte of an answer has gone to the client; an answer that is not
//! passed on is dropped with its connection, unread. Reconnecting is not retrying: a *reused* connection that dies before any
//! response byte, soon after the request was written, is replaced once by a fresh one to the same worker, with no new decision
//! (uvicorn closes idle connections; that race is nobody's failure). Deliberately not here: when and where another attempt is
//! made (`retry`), the body of the answer (`relay`).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use milepost_policies::{RequestView, WorkerId};

use super::intake::Call;
use super::journey::{Halt, Journey, Refusal};
use super::retry::{self, Next, Retries};
use super::visit::{Interrupt, Visit};
use super::{auth, headers, span, splice, verdict};
use crate::buffer::Buffer;
use crate::fleet::breaker::Verdict;
use crate::fleet::dispatch::Chosen;
use crate::fleet::server::ConnectError;
use crate::fleet::worker::Worker;
use crate::http1::head::ResponseHead;
use crate::http1::{Connection, Outgoing, lines};
use crate::trace::record::Outcome;
use crate::wire::problem::Problem;
use crate::wire::traceparent::TRACEPARENT;

/// Room made for a head at once; a longer one makes its buffer grow.
const HEAD_ROOM_BYTES: usize = 512;

/// A response head and the connection its body comes over.
#[derive(Debug)]
pub struct WorkerAnswer {
    /// The head; its fields are the connection's.
    pub head: ResponseHead,
    /// The connection.
    pub upstream: Connection,
    /// The worker.
    pub worker: Arc<Worker>,
}

/// Sends the request to workers until one gives an answer that is passed on.
pub async fn forward(
    shared: &super::Shared,
    visit: &mut Visit,
    call: &Call,
    journey: &mut Journey,
) -> Result<WorkerAnswer, Halt> {
    let mut retries = Retries::of(call);
    let mut chosen = choose(shared, call, journey, &[]);
    let mut last_error = None;
    let mut is_short = false;
    while let Some(next_chosen) = chosen {
        let decided_at_ns = next_chosen.at_ns;
        let worker = journey.choose(next_chosen);
        let attempted = match visit.watch(pin!(attempt(call, (&worker, decided_at_ns), journey))).await {
            Ok(attempted) => Some(attempted),
            Err(Interrupt::Late) => None,
            Err(Interrupt::Gone) => return Err(Halt::ClientGone),
        };
        let (next, status, error) = match attempted {
            Some(Ok((head, upstream))) => {
                let next = after_answer(call, journey, &mut retries, &worker, head.status);
                if matches!(next, Next::Nothing) {
                    return Ok(WorkerAnswer { head, upstream, worker });
                }
                (next, Some(head.status), format!("status {}", head.status))
            }
            Some(Err(Failed { error, response_began: true, .. })) => return Err(unreadable(&error).into()),
            Some(Err(failed)) => {
                is_short = failed.fault == Fault::Router;
                after_failure(call, journey, &mut retries, &worker, failed)
            }
            None => {
                journey.judge(Verdict::Failure);
                journey.attempt_failed(&worker, None, "no response head in time".to_owned());
                let problem = Problem::new(504, "call_upstream_timeout", "the worker did not answer in time");
                return Err(Refusal { problem, outcome: Outcome::TimedOut }.into());
            }
        };
        journey.attempt_failed(&worker, status, error.clone());
        last_error = Some((status, error));
        chosen = match next {
            Next::Nothing => None,
            Next::Now(chosen) => Some(*chosen),
            Next::After(pause) => {
                rest(visit, journey, pause).await?;
                let chosen = choose(shared, call, journey, retries.tried());
                if chosen.is_none() {
                    shared.metrics.retries_exhausted(call.endpoint);
                }
                chosen
            }
        };
    }
    Err(match last_error {
        Some((None, error)) if is_short => short(&error),
        last => nobody(last, call.routing.wanted.target.is_some()),
    }
    .into())
}

/// Waits before the next round. No worker has the request now, so an abort of it ends it here.
async fn rest(visit: &mut Visit, journey: &mut Journey, pause: Duration) -> Result<(), Halt> {
    let aborted = journey.pausing(pause);
    let wait = async {
        match &aborted {
            Some(aborted) => _ = tokio::time::timeout(pause, aborted.notified()).await,
            None => tokio::time::sleep(pause).await,
        }
    };
    // A pause that would outlast the request is not made, so this is no time-out.
    visit.watch(pin!(wait)).await.map_err(|_| Halt::ClientGone)?;
    if journey.resume() {
        let message = "the request was aborted while it waited for another attempt";
        return Err(Problem::new(499, "request_aborted", message).into());
    }
    Ok(())
}

/// The worker has answered: what follows is nothing if the answer is passed on.
fn after_answer(
    call: &Call,
    journey: &mut Journey,
    retries: &mut Retries,
    worker: &Arc<Worker>,
    status: u16,
) -> Next {
    let retryable = retry::is_retryable(status);
    // Before the question who is left: this answer may open or close the worker's breaker.
    if retryable || status >= 500 {
        journey.judge(verdict::of(status));
    }
    if retryable && retries.is_repeatable() {
        next(call, journey, retries, worker, true)
    } else {
        Next::Nothing
    }
}

/// The worker has given no answer; returns what follows, and what the record says of the attempt.
fn after_failure(
    call: &Call,
    journey: &mut Journey,
    retries: &mut Retries,
    worker: &Arc<Worker>,
    failed: Failed,
) -> (Next, Option<u16>, String) {
    let blames_worker = failed.fault == Fault::Worker;
    journey.judge(if blames_worker { Verdict::Failure } else { Verdict::Neutral });
    let mut error = failed.error;
    if failed.written && !retries.is_repeatable() {
        error.push_str("; it had the request, and this kind is not sent twice");
        return (Next::Nothing, None, error);
    }
    (next(call, journey, retries, worker, false), None, error)
}

fn next(call: &Call, journey: &Journey, retries: &mut Retries, worker: &Arc<Worker>, answered: bool) -> Next {
    let but = |left_out| choose(journey.shared(), call, journey, left_out);
    if retries.go_on(journey, worker, answered) {
        if let Some(chosen) = retries.avoided().and_then(but).or_else(|| but(retries.tried())) {
            return Next::Now(Box::new(chosen));
        }
        if let Some(pause) = retries.next_round(journey, call.routing.wanted) {
            return Next::After(pause);
        }
    }
    journey.shared().metrics.retries_exhausted(call.endpoint);
    Next::Nothing
}

fn choose(shared: &super::Shared, call: &Call, journey: &Journey, tried: &[WorkerId]) -> Option<Chosen> {
    let record = journey.record();
    let request = RequestView {
        seq: record.seq,
        attempts: record.attempts,
        prompt: call.prompt.as_ref(),
        prompt_bytes: record.prompt_bytes.unwrap_or(0),
        prompt_tokens: call.prompt_ids,
        engine_prompt: call.engine_prompt.as_ref(),
        is_counted: call.is_counted,
        is_multiple: call.multiple,
        max_new_tokens: record.max_new_tokens,
        stream: record.stream,
        model: record.model.as_deref(),
        routing_key: call.routing.key.as_deref(),
        client_hash: call.routing.client_hash,
        ..RequestView::default()
    };
    shared.fleet.choose(call.routing.wanted, &request, tried)
}

/// The worker's connection gave something that is no readable answer.
fn unreadable(error: &str) -> Refusal {
    let message = format!("the worker's answer could not be read: {error}");
    let problem = Problem::new(502, "call_upstream_bad_answer", message);
    Refusal { problem, outcome: Outcome::WorkerReset }
}

/// No connection to any worker, for want of what the router itself needs for one.
fn short(error: &str) -> Refusal {
    let message = format!("the router has no room for a connection to a worker ({error}); raise `ulimit -n`");
    Problem::new(503, "router_out_of_descriptors", message).into()
}

/// No answer, and nobody to ask (again); of the last attempt its status, if any, and its error.
fn nobody(last: Option<(Option<u16>, String)>, targeted: bool) -> Refusal {
    let (status, code, message) = match last {
        None if targeted => {
            let message =
                "the worker that X-SMG-Target-Worker names is not available; GET /workers says which are";
            (503, "no_available_workers", message.to_owned())
        }
        None => (503, "no_available_workers", "no worker is available; GET /workers says why".to_owned()),
        Some((None, error)) => {
            let message = format!("no worker could be reached; the last one said: {error}");
            (502, "call_upstream_connection_failed", message)
        }
        // Its answer was given up for another attempt, and the worker to make it at left in that moment.
        Some((Some(_), error)) => {
            let message = format!("no worker is left; the last one said: {error}");
            (503, "no_available_workers", message)
        }
    };
    Refusal { problem: Problem::new(status, code, message), outcome: Outcome::Unreachable }
}

/// One worker, one attempt.
async fn attempt(
    call: &Call,
    (worker, decided_at_ns): (&Worker, u64),
    journey: &mut Journey,
) -> Result<(ResponseHead, Connection), Failed> {
    if let Some(upstream) = worker.pool.checkout(decided_at_ns) {
        match send(call, worker, upstream, journey).await {
            Err(Failed { fault: Fault::Nobody, written, .. }) if !written || retry::is_repeatable(call) => {
                journey.note(|r| r.reconnects += 1);
            }
            other => return other,
        }
    }
    // Boxed: most attempts find an idle connection, and each connection's task would have to hold room for this.
    let upstream = Box::pin(connect(worker, journey.shared())).await?;
    send(call, worker, upstream, journey).await
}

/// A fresh connection. Where this process has run out of descriptors the idle ones are closed for it.
async fn connect(worker: &Worker, shared: &super::Shared) -> Result<Connection, Failed> {
    let mut connected = worker.connect(&shared.clock).await;
    if connected.as_ref().is_err_and(|error| error.is_shortage) {
        shared.fleet.close_idle();
        connected = worker.connect(&shared.clock).await;
    }
    connected.map_err(|ConnectError { message, is_shortage }| Failed {
        error: message,
        written: false,
        response_began: false,
        fault: if is_shortage { Fault::Router } else { Fault::Worker },
    })
}

/// Why an attempt gave no response head.
struct Failed {
    /// In words for the record.
    error: String,
    /// Some byte of the request had been written.
    written: bool,
    /// Some byte of a response had been read.
    response_began: bool,
    /// Whose failure it is.
    fault: Fault,
}

/// Whom a failed attempt is put down to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The worker.
    Worker,
    /// Neither, see [`crate::http1::SendError::closing_race`].
    Nobody,
    /// The router, see [`ConnectError::is_shortage`].
    Router,
}

async fn send(
    call: &Call,
    worker: &Worker,
    mut upstream: Connection,
    journey: &mut Journey,
) -> Result<(ResponseHead, Connection), Failed> {
    let sent = splice::body_for(worker, call);
    if let Some(named) = sent.named {
        journey.note(|r| (r.dp_rank, r.dp_rank_by) = (named.rank, Some(named.by)));
    }
    // The send stamp is taken last, as its value is part of the head that is about to be written.
    journey.sending(upstream.link().same_host);
    let [before, member, after] = sent.pieces;
    let head = head(call, worker, journey, sent.rank, before.len() + member.len() + after.len());
    let to_head = call.asked.method == Method::HEAD;
    let answered = upstream.send(Outgoing::new([head.as_bytes(), before, member, after]), to_head).await;
    let first_byte_ns = upstream.first_read_ns().map(|ns| journey.after(ns));
    let reused = upstream.is_reused();
    journey.note(|r| {
        r.first_byte_ns = first_byte_ns;
        r.reused_connection = reused && first_byte_ns.is_some();
    });
    match answered {
        Ok(found) => {
            let head_ns = journey.after(upstream.last_read_ns());
            journey.note(|r| r.head_ns = Some(head_ns));
            Ok((found, upstream))
        }
        Err(failed) => Err(Failed {
            error: failed.error.to_string(),
            written: upstream.first_write_ns().is_some(),
            response_began: failed.response_began,
            fault: if failed.closing_race { Fault::Nobody } else { Fault::Worker },
        }),
    }
}

/// The bytes of the head for a worker.
fn head(call: &Call, worker: &Worker, journey: &Journey, rank: Option<&[u8]>, body_bytes: usize) -> Buffer {
    let shared = journey.shared();
    let mut out = Buffer::with_room(HEAD_ROOM_BYTES);
    lines::request_line(&mut out, call.asked.method.as_str().as_bytes(), call.asked.target().as_bytes());
    lines::field(&mut out, b"host", worker.host_value.as_bytes());
    let traceparent = span::for_worker(journey.record());
    for (name, value) in headers::to_worker(call.request.fields(), &shared.config.forward_headers) {
        if traceparent.is_none() || !span::is_replaced(name, journey.record()) {
            lines::field(&mut out, name, value);
        }
    }
    if let Some(traceparent) = traceparent {
        lines::field(&mut out, TRACEPARENT.as_bytes(), &traceparent.to_bytes());
    }
    let clients = call.request.field("authorization");
    if let Some(value) = auth::for_worker(&shared.config.auth, worker.api_key.as_ref(), clients) {
        lines::field(&mut out, b"authorization", value);
    }
    if let Some(rank) = rank {
        lines::field(&mut out, headers::RANK.as_bytes(), rank);
    }
    lines::field(&mut out, headers::HOP.as_bytes(), shared.instance.as_bytes());
    headers::request_stamps(&mut out, journey);
    // Without a body these methods say nothing of one (RFC 9110, 8.6).
    if body_bytes > 0
        || !matches!(call.asked.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE)
    {
        lines::content_length(&mut out, body_bytes as u64);
    }
    lines::end(&mut out);
    out
}
