//! Gets a response head from some worker: choose, connect, stamp, send.
//!
//! Rule: an attempt is followed by another only before a byte of an answer has gone to the client; an answer that is not
//! passed on is dropped with its connection, unread. Reconnecting is not retrying: a *reused* connection that dies before any
//! response byte, soon after the request was written, is replaced once by a fresh one to the same worker, with no new decision
//! (uvicorn closes idle connections; that race is nobody's failure). Deliberately not here: when and where another attempt is
//! made (`retry`), the body of the answer (`relay`).

use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use milepost_policies::{RequestView, WorkerId};
use tokio::time::Sleep;

use super::intake::Call;
use super::journey::{self, Journey, Refusal};
use super::retry::{self, Next, Retries};
use super::{auth, headers, splice};
use crate::fleet::breaker::Verdict;
use crate::fleet::dispatch::Chosen;
use crate::fleet::worker::Worker;
use crate::http1::Connection;
use crate::trace::record::Outcome;
use crate::wire::Endpoint;
use crate::wire::problem::Problem;

/// A response head and the connection its body comes over.
#[derive(Debug)]
pub struct WorkerAnswer {
    /// The head, and hyper's handle to the body.
    pub response: Response<Incoming>,
    /// The connection.
    pub upstream: Connection,
    /// The worker.
    pub worker: Arc<Worker>,
    /// What the path meant.
    pub endpoint: Endpoint,
    /// The answer holds several sequences.
    pub multiple: bool,
    /// When the request must have ended; one timer serves the head and the body.
    pub deadline: Pin<Box<Sleep>>,
}

/// Sends the request to workers until one gives an answer that is passed on.
pub async fn forward(
    shared: &super::Shared,
    call: &Call,
    journey: &mut Journey,
) -> Result<WorkerAnswer, Refusal> {
    let mut deadline = Box::pin(tokio::time::sleep_until(journey.deadline()));
    let mut retries = Retries::of(call);
    let mut chosen = choose(shared, call, journey, &[]);
    let mut last_error = None;
    while let Some(next_chosen) = chosen {
        let worker = journey.choose(next_chosen);
        let attempted = tokio::select! {
            biased;
            attempted = attempt(call, &worker, journey) => Some(attempted),
            () = deadline.as_mut() => None,
        };
        let (next, status, error) = match attempted {
            Some(Ok((response, upstream))) => {
                let status = response.status();
                let next = after_answer(call, journey, &mut retries, &worker, status);
                if matches!(next, Next::Nothing) {
                    // No retry is possible from here on, so the body's memory is free.
                    journey.drop_body();
                    let (endpoint, multiple) = (call.endpoint, call.multiple);
                    return Ok(WorkerAnswer { response, upstream, worker, endpoint, multiple, deadline });
                }
                (next, Some(status.as_u16()), format!("status {}", status.as_u16()))
            }
            Some(Err(Failed { error, response_began: true, .. })) => return Err(unreadable(&error)),
            Some(Err(failed)) => after_failure(call, journey, &mut retries, &worker, failed),
            None => {
                journey.judge(Verdict::Failure);
                journey.attempt_failed(&worker, None, "no response head in time".to_owned());
                let problem = Problem::new(504, "call_upstream_timeout", "the worker did not answer in time");
                return Err(Refusal { problem, outcome: Outcome::TimedOut });
            }
        };
        journey.attempt_failed(&worker, status, error.clone());
        last_error = Some((status, error));
        chosen = match next {
            Next::Nothing => None,
            Next::Now(chosen) => Some(chosen),
            Next::After(pause) => {
                journey.pausing(pause);
                tokio::time::sleep(pause).await;
                choose(shared, call, journey, retries.tried())
            }
        };
    }
    Err(nobody(last_error, call.routing.wanted.target.is_some()))
}

/// The worker has answered: what follows is nothing if the answer is passed on.
fn after_answer(
    call: &Call,
    journey: &mut Journey,
    retries: &mut Retries,
    worker: &Arc<Worker>,
    status: StatusCode,
) -> Next {
    let retryable = retry::is_retryable(status);
    // Before the question who is left: this answer may open or close the worker's breaker.
    if retryable || status.is_server_error() {
        journey.judge(journey::verdict(status.as_u16()));
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
    journey.judge(if failed.closing_race { Verdict::Neutral } else { Verdict::Failure });
    let mut error = failed.error;
    if failed.written && !retries.is_repeatable() {
        error.push_str("; it had the request, and this kind is not sent twice");
        return (Next::Nothing, None, error);
    }
    (next(call, journey, retries, worker, false), None, error)
}

fn next(call: &Call, journey: &Journey, retries: &mut Retries, worker: &Arc<Worker>, answered: bool) -> Next {
    if !retries.go_on(journey, worker, answered) {
        return Next::Nothing;
    }
    let but = |left_out| choose(journey.shared(), call, journey, left_out);
    match retries.avoided().and_then(but).or_else(|| but(retries.tried())) {
        Some(chosen) => Next::Now(chosen),
        None => retries.next_round(journey, call.routing.wanted).map_or(Next::Nothing, Next::After),
    }
}

fn choose(shared: &super::Shared, call: &Call, journey: &Journey, tried: &[WorkerId]) -> Option<Chosen> {
    let record = journey.record();
    let request = RequestView {
        seq: record.seq,
        attempts: record.attempts,
        prompt: call.prompt.as_ref(),
        prompt_bytes: record.prompt_bytes.unwrap_or(0),
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
    worker: &Worker,
    journey: &mut Journey,
) -> Result<(Response<Incoming>, Connection), Failed> {
    let clock = journey.shared().clock.clone();
    if let Some(upstream) = worker.pool.checkout(clock.mono_ns()) {
        match send(call, worker, upstream, journey).await {
            Err(Failed { closing_race: true, written, .. }) if !written || retry::is_repeatable(call) => {
                journey.note(|r| r.reconnects += 1);
            }
            other => return other,
        }
    }
    let unconnected = |error| Failed { error, written: false, response_began: false, closing_race: false };
    let upstream = worker.connect(&clock).await.map_err(unconnected)?;
    send(call, worker, upstream, journey).await
}

/// Why an attempt gave no response head.
struct Failed {
    /// In words for the record.
    error: String,
    /// Some byte of the request had been written.
    written: bool,
    /// Some byte of a response had been read.
    response_began: bool,
    /// Nobody's failure, see [`crate::http1::SendError::closing_race`].
    closing_race: bool,
}

async fn send(
    call: &Call,
    worker: &Worker,
    mut upstream: Connection,
    journey: &mut Journey,
) -> Result<(Response<Incoming>, Connection), Failed> {
    let connected_ns = journey.elapsed_ns();
    let shared = journey.shared();
    let mut out = headers::to_worker(&call.headers, &shared.config.forward_headers);
    auth::authorize(&mut out, &shared.config.auth, worker.api_key.as_ref());
    let (body, named) = splice::body_for(worker, call, &mut out);
    let mut request = Request::new(body);
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = http::Uri::from(call.path_and_query.clone());
    out.insert(http::header::HOST, worker.host_value.clone());
    out.append(headers::HOP, shared.instance_value.clone());
    if let Some(named) = named {
        journey.note(|r| (r.dp_rank, r.dp_rank_by) = (named.rank, Some(named.by)));
    }
    // The send stamp is taken last, as its value is part of the head that is about to be written.
    journey.sending(connected_ns, upstream.link().same_host);
    headers::stamp_request(&mut out, journey);
    *request.headers_mut() = out;
    let sent = upstream.send(request).await;
    let ended_ns = journey.elapsed_ns();
    let first_byte_ns = upstream.first_read_ns().map(|ns| journey.after(ns));
    let reused = upstream.is_reused();
    journey.note(|r| {
        r.first_byte_ns = first_byte_ns;
        r.reused_connection = reused && first_byte_ns.is_some();
    });
    match sent {
        // Nobody asked for it, and what follows is no HTTP.
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let error = "it switched protocols unasked".to_owned();
            Err(Failed { error, written: true, response_began: true, closing_race: false })
        }
        Ok(response) => {
            journey.note(|r| r.head_ns = Some(ended_ns));
            Ok((response, upstream))
        }
        Err(failed) => Err(Failed {
            error: words(&failed.error),
            written: upstream.first_write_ns().is_some(),
            response_began: failed.response_began,
            closing_race: failed.closing_race,
        }),
    }
}

/// hyper's error with its cause, without anything from the body.
fn words(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
