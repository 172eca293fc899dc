//! The request path, one file a phase.
//!
//! ```text
//! accept → intake → choose (fleet) → forward → relay → finish (journey)
//! ```
//! Rule: data goes one way and nothing calls backwards; [`handle`] shows the whole journey. Each accepted request has one
//! [`journey::Journey`], which makes exactly one trace record however the request ends. Deliberately not here: the
//! router's own endpoints (`admin`), the decision (`fleet::dispatch`).

use std::sync::Arc;

use http::HeaderValue;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};

use self::body::AnswerBody;
use self::headers::ClientHeaders;
use self::journey::Journey;
use self::routing::Routing;
use crate::admin;
use crate::clock::Clock;
use crate::config::RouteConfig;
use crate::fleet::Fleet;
use crate::trace::sink::Sink;
use crate::wire::problem::Problem;

pub mod accept;
pub mod body;
pub mod budget;
pub mod client_io;
pub mod forward;
pub mod headers;
pub mod intake;
pub mod journey;
pub mod relay;
pub mod routing;
pub mod serve;

/// What every request shares.
pub struct Shared {
    /// What was asked for.
    pub config: RouteConfig,
    /// Time.
    pub clock: Clock,
    /// The workers.
    pub fleet: Arc<Fleet>,
    /// Where records go.
    pub sink: Arc<Sink>,
    /// Memory for request bodies.
    pub budget: Arc<budget::Budget>,
    /// Counters.
    pub metrics: admin::metrics::Metrics,
    /// Tells this router's requests from those of others: loop detection, generated ids.
    pub instance: String,
    /// The same as a header value.
    pub instance_value: HeaderValue,
    /// Requests so far.
    pub requests: std::sync::atomic::AtomicU64,
    /// The router is going away: not ready, but still serving.
    pub draining: std::sync::atomic::AtomicBool,
    /// The grace period is over: what is dropped from now on was dropped by the router and not by its client.
    pub cutting: std::sync::atomic::AtomicBool,
}

/// One request from head to response; the body of the response carries the rest of the journey.
pub async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
    client: Option<Arc<str>>,
) -> Response<AnswerBody> {
    let known = ClientHeaders::scan(request.headers(), &shared.instance_value);
    let mut journey = Journey::begin(&shared, &request, &known, client);
    if let Err(problem) = admit(&request, &known) {
        return journey.refuse(problem);
    }
    if admin::owns(request.uri().path()) {
        return admin::answer(&shared, request, journey).await;
    }
    let routing = match Routing::read(&shared, &known) {
        Ok(routing) => routing,
        Err(problem) => return journey.refuse(problem),
    };
    let call = match intake::read(&shared, request, routing, &mut journey).await {
        Ok(call) => call,
        Err(refusal) => return journey.end_with(refusal),
    };
    match forward::forward(&shared, call, &mut journey).await {
        Ok(answer) => relay::relay(journey, answer),
        Err(refusal) => journey.end_with(refusal),
    }
}

/// What cannot be proxied at all.
fn admit(request: &Request<Incoming>, known: &ClientHeaders<'_>) -> Result<(), Problem> {
    let websocket = known.upgrade.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if request.method() == Method::CONNECT || websocket {
        return Err(Problem::new(501, "not_implemented", "CONNECT and protocol upgrades are not proxied"));
    }
    if known.is_coded {
        // The worker would get the coded bytes without the word that says so.
        return Err(Problem::new(501, "not_implemented", "of the transfer codings only chunked is proxied"));
    }
    if known.hosts > 1 || (known.hosts == 0 && request.version() == http::Version::HTTP_11) {
        return Err(Problem::new(400, "bad_request", "an HTTP/1.1 request needs one Host header"));
    }
    if known.is_loop {
        return Err(Problem::new(508, "loop_detected", "this router is its own worker: check --worker-urls"));
    }
    Ok(())
}
