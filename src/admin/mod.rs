//! The router's own endpoints.
//!
//! `table` says which they are. `workers` and `legacy` change the fleet; `describe`, `loads` and `engine_metrics` ask the
//! workers what they are and do; `capture` and `trace_tail` steer and show the trace, `live` is a page that does so for people;
//! `control` and `responses` pass a request on to all of them, by means of `fan_out`. Every other path is a worker's. Rule: these answers never wait for a worker without a time-out. Deliberately not here:
//! `/metrics`, which has a port of its own (`metrics::serve`).

use std::sync::Arc;

use http::HeaderValue;
use http::Response;
use http::header::{ALLOW, CONTENT_TYPE};

use self::errand::Errand;
pub use self::table::Access;
use self::table::Handler;
use crate::http1::Request;
use crate::proxy::Shared;
use crate::proxy::asked::Asked;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::{Journey, Refusal};
use crate::trace::record::RequestKind;
use crate::wire::problem::Problem;

pub mod capture;
pub mod control;
pub mod describe;
pub mod engine_metrics;
pub mod errand;
pub mod fan_out;
pub mod legacy;
pub mod live;
pub mod loads;
pub mod metrics;
mod percent;
pub mod probes;
pub mod responses;
pub mod table;
pub mod trace_tail;
pub mod workers;

/// The class of a path.
pub fn access(path: &str) -> Access {
    if path.contains('%') {
        return access_decoded(path);
    }
    table::find(path).map_or(Access::Proxied, |entry| entry.access)
}

/// The class of a path that a worker will decode: `/%66lush_cache` is a control endpoint to it. It is never public, as the
/// router does not answer it itself.
fn access_decoded(path: &str) -> Access {
    let mut rest = path.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let code = percent::code(rest);
        decoded.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    // What is no UTF-8 is replaced, as uvicorn does: `/workers/%ff` is still under `/workers/`.
    let entry = table::find(&String::from_utf8_lossy(&decoded));
    if entry.is_some_and(|entry| entry.access == Access::Control) { Access::Control } else { Access::Proxied }
}

/// True for a path that the router answers itself; of those with an [`crate::wire::Endpoint`] of their own none is.
pub fn owns(path: &str) -> bool {
    table::find(path).is_some()
}

/// Answers it; the request has been read whole.
pub async fn answer(
    shared: &Arc<Shared>,
    asked: &Asked,
    request: &Request,
    mut journey: Journey,
) -> Response<AnswerBody> {
    let Some(entry) = table::find(asked.path()) else {
        return journey.end_with(nothing());
    };
    let kind = entry.handler.request_kind();
    journey.note(|r| r.request_kind = kind);
    if !entry.takes(&asked.method) {
        // No worker was asked.
        journey.note(|r| r.request_kind = RequestKind::Local);
        return not_allowed(journey, entry.methods);
    }
    let errand = Errand::of(shared, asked, request, entry, &journey);
    match perform(entry.handler, &errand, &mut journey).await {
        Ok(response) => journey.local(kind, response),
        Err(refusal) => journey.end_with(refusal),
    }
}

async fn perform(
    handler: Handler,
    errand: &Errand<'_>,
    journey: &mut Journey,
) -> Result<Response<AnswerBody>, Refusal> {
    let response = match handler {
        Handler::Alive => text(200, "OK"),
        Handler::Readiness => probes::readiness(errand.shared),
        Handler::Workers => workers::all(errand),
        Handler::Worker => workers::one(errand),
        Handler::AddWorker => legacy::add(errand).await,
        Handler::RemoveWorker => legacy::remove(errand),
        Handler::ListWorkers => legacy::list(errand),
        Handler::Trace => return trace_tail::tail(errand.shared, &errand.query).await,
        Handler::Capture => return capture::steer(errand).await,
        Handler::LivePage => live::page(),
        Handler::Fleet => live::fleet::fleet(errand),
        Handler::Requests => return live::tail::requests(errand).await,
        Handler::Nothing => return Err(nothing()),
        Handler::Models => return describe::models(errand).await,
        Handler::Info => return describe::info(errand, journey).await,
        Handler::HealthGenerate => return describe::health_generate(errand).await,
        Handler::Loads => loads::numbers(errand).await,
        Handler::EngineLoads => return loads::answers(errand).await,
        Handler::EngineMetrics => return engine_metrics::merged(errand).await,
        Handler::FlushCache => control::flush_cache(errand).await,
        Handler::Everywhere => return control::everywhere(errand).await,
        Handler::Abort => return control::abort(errand, journey).await,
        Handler::Response => return responses::find(errand, journey).await,
    };
    Ok(response)
}

fn nothing() -> Refusal {
    Problem::new(404, "not_found", "no such path under /milepost/; there are /milepost/live (a page), /milepost/fleet, /milepost/requests, /milepost/trace and, under it, status, start, stop, rotate and mark").into()
}

fn not_allowed(journey: Journey, methods: &'static str) -> Response<AnswerBody> {
    let message = format!("method not allowed; this path takes {methods}");
    let mut response = journey.end_with(Problem::new(405, "method_not_allowed", message).into());
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

/// A plain text answer.
pub fn text(status: u16, body: impl Into<bytes::Bytes>) -> Response<AnswerBody> {
    with_type(status, body, HeaderValue::from_static("text/plain; charset=utf-8"))
}

/// A JSON answer.
pub fn json(status: u16, body: &serde_json::Value) -> Response<AnswerBody> {
    with_type(status, body.to_string(), HeaderValue::from_static("application/json"))
}

/// An answer with this content type.
fn with_type(status: u16, body: impl Into<bytes::Bytes>, content_type: HeaderValue) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(body));
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
