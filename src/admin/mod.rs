//! The router's own endpoints.
//!
//! `/health`, `/liveness`, `/readiness`, `/workers…`, `/flush_cache` (to every worker) and `/milepost/…`; every other path
//! is a worker's. Rule: these answers never wait for a worker without a time-out. Deliberately not here: `/metrics`, which
//! has a port of its own (`metrics::serve`).

use std::sync::Arc;

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use hyper::{Request, Response};

use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::Journey;
use crate::trace::record::RequestKind;

pub mod fan_out;
pub mod metrics;
pub mod probes;
pub mod trace_tail;
pub mod workers;

/// Who may ask for a path, in sglang-router's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody: probes and descriptions.
    Public,
    /// Whoever has the `--api-key`; counted by the limits. Everything that goes to one worker.
    Proxied,
    /// Whoever may steer the fleet.
    Control,
}

/// The class of a path.
pub fn access(path: &str) -> Access {
    match path {
        "/health" | "/liveness" | "/readiness" => Access::Public,
        _ if owns(path) => Access::Control,
        _ => Access::Proxied,
    }
}

/// True for a path that the router answers itself.
pub fn owns(path: &str) -> bool {
    matches!(path, "/health" | "/liveness" | "/readiness" | "/workers" | "/flush_cache")
        || path.starts_with("/workers/")
        || path.starts_with("/milepost/")
}

/// Answers it.
pub async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    journey: Journey,
) -> Response<AnswerBody> {
    let path = request.uri().path().to_owned();
    let kind = if path == "/flush_cache" { RequestKind::FanOut } else { RequestKind::Local };
    let response = match path.as_str() {
        "/health" | "/liveness" => text(200, "OK"),
        "/readiness" => probes::readiness(shared),
        "/flush_cache" => fan_out::flush_cache(shared, &request).await,
        "/milepost/trace" => trace_tail::tail(shared, request.uri().query().unwrap_or("")),
        p if p.starts_with("/workers") => workers::answer(shared, request, journey.deadline()).await,
        _ => json(
            404,
            &serde_json::json!({"error": {"type": "Not Found", "code": "not_found", "message": "no such path under /milepost/; GET /milepost/trace"}}),
        ),
    };
    journey.local(kind, response)
}

/// A plain text answer.
pub fn text(status: u16, body: &'static str) -> Response<AnswerBody> {
    with_type(status, body, "text/plain; charset=utf-8")
}

/// A JSON answer.
pub fn json(status: u16, body: &serde_json::Value) -> Response<AnswerBody> {
    with_type(status, body.to_string(), "application/json")
}

fn with_type(status: u16, body: impl Into<bytes::Bytes>, content_type: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(body));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
