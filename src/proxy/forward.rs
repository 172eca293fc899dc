//! Gets a response head from some worker: choose, connect, stamp, send.
//!
//! Rule: a retry happens only before the first response byte and never at a worker this request has already tried.
//! Reconnecting is not retrying: a *reused* connection that dies before any response byte, soon after the request was
//! written, is replaced once by a fresh one to the same worker, with no new decision (uvicorn closes idle connections; that
//! race is nobody's failure). Deliberately not here: the body of the answer (`relay`).

use std::pin::Pin;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use milepost_policies::{RequestView, WorkerId};
use tokio::time::Sleep;

use super::auth;
use super::headers;
use super::intake::Call;
use super::journey::{Journey, Refusal};
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

/// Sends the request to workers until one gives a response head.
pub async fn forward(
    shared: &super::Shared,
    call: Call,
    journey: &mut Journey,
) -> Result<WorkerAnswer, Refusal> {
    let mut deadline = Box::pin(tokio::time::sleep_until(journey.deadline()));
    let mut tried = Vec::new();
    let mut last_error = None;
    while tried.len() < shared.config.retry.max_attempts as usize {
        let Some(worker) = choose(shared, &call, journey, &tried) else {
            break;
        };
        tried.push(worker.id);
        let attempted = tokio::select! {
            biased;
            attempted = attempt(&call, &worker, journey) => Some(attempted),
            () = deadline.as_mut() => None,
        };
        match attempted {
            Some(Ok((response, upstream))) => {
                // No retry is possible from here on, so the body's memory is free.
                journey.drop_body();
                return Ok(WorkerAnswer {
                    response,
                    upstream,
                    worker,
                    endpoint: call.endpoint,
                    multiple: call.multiple,
                    deadline,
                });
            }
            Some(Err(Failed { error, response_began: true, .. })) => {
                let message = format!("the worker's answer could not be read: {error}");
                let problem = Problem::new(502, "call_upstream_bad_answer", message);
                return Err(Refusal { problem, outcome: Outcome::WorkerReset });
            }
            Some(Err(Failed { error, .. })) => {
                journey.attempt_failed(&worker, error.clone());
                last_error = Some(error);
            }
            None => {
                journey.attempt_failed(&worker, "no response head in time".to_owned());
                let problem = Problem::new(504, "call_upstream_timeout", "the worker did not answer in time");
                return Err(Refusal { problem, outcome: Outcome::TimedOut });
            }
        }
    }
    Err(nobody(last_error, call.routing.wanted.target.is_some()))
}

fn choose(
    shared: &super::Shared,
    call: &Call,
    journey: &mut Journey,
    tried: &[WorkerId],
) -> Option<Arc<Worker>> {
    let record = journey.record();
    let request = RequestView {
        seq: record.seq,
        attempts: tried.len() as u32,
        prompt: call.prompt.as_ref(),
        prompt_bytes: record.prompt_bytes.unwrap_or(0),
        max_new_tokens: record.max_new_tokens,
        stream: record.stream,
        model: record.model.as_deref(),
        routing_key: call.routing.key.as_deref(),
        client_hash: call.routing.client_hash,
        ..RequestView::default()
    };
    let chosen = shared.fleet.choose(call.routing.wanted, &request, tried)?;
    Some(journey.choose(chosen))
}

fn nobody(last_error: Option<String>, targeted: bool) -> Refusal {
    match last_error {
        None => {
            let message = if targeted {
                "the worker that X-SMG-Target-Worker names is not available; GET /workers says which are"
            } else {
                "no worker is available; GET /workers says why"
            };
            Refusal {
                problem: Problem::new(503, "no_available_workers", message),
                outcome: Outcome::Unreachable,
            }
        }
        Some(error) => {
            let message = format!("no worker could be reached; the last one said: {error}");
            let problem = Problem::new(502, "call_upstream_connection_failed", &message);
            Refusal { problem, outcome: Outcome::Unreachable }
        }
    }
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
            Err(Failed { closing_race: true, .. }) => journey.note(|r| r.reconnects += 1),
            other => return other,
        }
    }
    let unconnected = |error| Failed { error, response_began: false, closing_race: false };
    let upstream = worker.connect(&clock).await.map_err(unconnected)?;
    send(call, worker, upstream, journey).await
}

/// Why an attempt gave no response head.
struct Failed {
    /// In words for the record.
    error: String,
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
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    *request.uri_mut() = http::Uri::from(call.path_and_query.clone());
    let shared = journey.shared();
    let mut out = headers::to_worker(&call.headers, &shared.config.forward_headers);
    auth::authorize(&mut out, &shared.config.auth, worker.api_key.as_ref());
    out.insert(http::header::HOST, worker.host_value.clone());
    out.append(headers::HOP, shared.instance_value.clone());
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
            Err(Failed { error, response_began: true, closing_race: false })
        }
        Ok(response) => {
            journey.note(|r| r.head_ns = Some(ended_ns));
            Ok((response, upstream))
        }
        Err(failed) => Err(Failed {
            error: words(&failed.error),
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
