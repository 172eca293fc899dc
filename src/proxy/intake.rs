//! Reads a request once: the body into one `Bytes`, and a look at it.
//!
//! Rule: the body is kept byte for byte as it came; what the look finds goes into the record and the decision. Limits:
//! `--max-payload-size` for one body, `--max-buffered-request-bytes` for all, `--request-timeout-secs` for the reading.
//! Deliberately not here: parsing (`wire::call`), choosing.

use std::io;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request};
use milepost_policies::PromptHashes;

use super::Shared;
use super::journey::{Journey, Refusal};
use super::routing::Routing;
use crate::trace::record::Outcome;
use crate::wire::Endpoint;
use crate::wire::call;
use crate::wire::problem::Problem;

/// A request that is ready to be sent to any worker.
#[derive(Debug)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Path and query as they came.
    pub path_and_query: http::uri::PathAndQuery,
    /// The client's headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Bytes,
    /// What the path means.
    pub endpoint: Endpoint,
    /// The answer holds several sequences (a batch, or `n` > 1).
    pub multiple: bool,
    /// Hashes of the routing text, where the policy wants them.
    pub prompt: Option<PromptHashes>,
    /// What the headers say about where it wants to go.
    pub routing: Routing,
}

/// Reads the whole request.
pub async fn read(
    shared: &Shared,
    request: Request<Incoming>,
    routing: Routing,
    journey: &mut Journey,
) -> Result<Call, Refusal> {
    let (head, body) = request.into_parts();
    let body = read_in_time(shared, &head.headers, body, journey).await?;
    let endpoint = journey.record().endpoint;
    let mut call = Call {
        method: head.method,
        path_and_query: head
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
        headers: head.headers,
        body,
        endpoint,
        multiple: false,
        prompt: None,
        routing,
    };
    look(shared, &mut call, journey);
    Ok(call)
}

/// The whole body, within every limit.
pub async fn read_in_time(
    shared: &Shared,
    head: &HeaderMap,
    body: Incoming,
    journey: &mut Journey,
) -> Result<Bytes, Refusal> {
    let reading = tokio::time::timeout_at(journey.deadline(), read_body(shared, head, body, journey));
    let Ok(body) = reading.await else {
        let problem = Problem::new(408, "request_body_timeout", "the request body did not arrive in time");
        return Err(Refusal { problem, outcome: Outcome::TimedOut });
    };
    let body = body?;
    let body_read_ns = journey.elapsed_ns();
    journey.note(|r| {
        r.body_read_ns = Some(body_read_ns);
        r.request_body_bytes = body.len() as u64;
    });
    Ok(body)
}

async fn read_body(
    shared: &Shared,
    head: &HeaderMap,
    mut body: Incoming,
    journey: &mut Journey,
) -> Result<Bytes, Refusal> {
    let limit = shared.config.max_payload_bytes;
    let announced =
        head.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(too_large(limit).into());
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let mut reserved = shared.budget.reserve();
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal {
            problem: Problem::new(400, "request_body_incomplete", "the request body could not be read"),
            outcome: if is_malformed(&error) { Outcome::Refused } else { Outcome::ClientGone },
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if (first.len().max(whole.len()) + data.len()) as u64 > limit {
            return Err(too_large(limit).into());
        }
        if !reserved.grow(data.len() as u64) {
            return Err(Problem::new(
                503,
                "request_memory_exhausted",
                "too many request bodies at once; try again",
            )
            .into());
        }
        // One frame is the usual case and needs no copy.
        if first.is_empty() {
            first = data;
        } else {
            if whole.is_empty() {
                whole.reserve(announced.unwrap_or(0).min(1 << 20) as usize);
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    journey.hold(reserved);
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// The body's framing is wrong, as against one that stops.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    cause.is_some_and(|e| matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

fn too_large(limit: u64) -> Problem {
    Problem::new(
        413,
        "payload_too_large",
        format!("the body is larger than --max-payload-size ({limit} bytes)"),
    )
}

fn look(shared: &Shared, call: &mut Call, journey: &mut Journey) {
    if !call.endpoint.has_prompt() || call.method != Method::POST {
        journey.note(|r| r.body_look = "not_json_endpoint".into());
        return;
    }
    if call.headers.contains_key(CONTENT_ENCODING) || call.headers.contains_key("x-body-compressed") {
        journey.note(|r| r.body_look = "content_encoding".into());
        return;
    }
    let look = call::look(call.endpoint, &call.body);
    if let Some(text) = &look.text {
        let hashed_bytes = shared.fleet.needs().hashed_bytes(text.len());
        call.prompt = (hashed_bytes > 0).then(|| PromptHashes::of(&text[..hashed_bytes]));
    }
    call.multiple = look.multiple();
    journey.note(|r| {
        r.body_look = look.parsed.as_str().into();
        r.model = look.model.map(|m| m.chars().take(128).collect());
        r.rid = look.rid.map(|rid| rid.chars().filter(char::is_ascii_graphic).take(128).collect());
        r.stream = look.stream;
        r.max_new_tokens = look.max_new_tokens;
        r.prompts = Some(look.prompts).filter(|p| *p > 0);
        r.prompt_bytes = look.text.as_ref().map(|t| t.len() as u64);
    });
}
