//! The request path, one file a phase.
//!
//! ```text
//! accept → door → intake → limit → choose (fleet) → forward → relay → finish (journey)
//! ```
//! Rule: data goes one way and nothing calls backwards; [`handle`] shows the whole journey. Each accepted request has one
//! [`journey::Journey`], which makes exactly one trace record however the request ends. Deliberately not here: the
//! router's own endpoints (`admin`), the decision (`fleet::dispatch`).

use std::sync::Arc;

use http::HeaderValue;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};

use self::body::AnswerBody;
use self::forward::WorkerAnswer;
use self::headers::ClientHeaders;
use self::journey::{Journey, Refusal};
use self::limit::Limit;
use self::routing::Routing;
use crate::admin;
use crate::clock::Clock;
use crate::config::RouteConfig;
use crate::fleet::Fleet;
use crate::net::tls::ServerTls;
use crate::trace::record::RequestKind;
use crate::trace::sink::Sink;
use crate::wire::Endpoint;
use crate::wire::problem::Problem;

pub mod accept;
pub mod auth;
pub mod body;
pub mod budget;
pub mod client_io;
pub mod cors;
pub mod forward;
pub mod headers;
pub mod intake;
pub mod journey;
pub mod limit;
pub mod relay;
pub mod retry;
pub mod routing;
pub mod serve;
pub mod splice;

/// What every request shares.
pub struct Shared {
    /// What was asked for.
    pub config: RouteConfig,
    /// Time.
    pub clock: Clock,
    /// Where it listens; `None` if that is no address.
    pub listen: Option<std::net::SocketAddr>,
    /// What clients' connections are accepted with; `None`: plain.
    pub tls: Option<ServerTls>,
    /// The workers.
    pub fleet: Arc<Fleet>,
    /// Where records go.
    pub sink: Arc<Sink>,
    /// Memory for request bodies.
    pub budget: Arc<budget::Budget>,
    /// Requests at one time, where that is limited.
    pub limit: Option<Limit>,
    /// Whose pages may read answers.
    pub cors: cors::Cors,
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
    let mut known = ClientHeaders::scan(request.headers(), &shared.instance_value);
    if !shared.config.request_id_headers.is_empty() {
        known.take_ids_from(request.headers(), &shared.config.request_id_headers);
    }
    let mut journey = Journey::begin(&shared, &request, &known, client);
    let origin = known.origin.cloned();
    let mut response = match door(&shared, &request, &known, &journey) {
        Ok(Admitted::Asks(_)) if is_own(&request, &journey) => admin::answer(&shared, request, journey).await,
        Ok(Admitted::Asks(routing)) => match ask(&shared, request, routing, &mut journey).await {
            Ok(answer) => relay::relay(journey, answer),
            Err(refusal) => journey.end_with(refusal),
        },
        Ok(Admitted::Answered(preflight)) => journey.local(RequestKind::Local, preflight),
        Err(problem) => journey.refuse(problem),
    };
    if let Some(origin) = origin {
        shared.cors.dress(&origin, response.headers_mut());
    }
    response
}

/// The router answers it itself. What is for a model is not looked up, which is nearly every request.
fn is_own(request: &Request<Incoming>, journey: &Journey) -> bool {
    journey.record().endpoint == Endpoint::Other && admin::owns(request.uri().path())
}

/// Somebody who came in.
enum Admitted {
    /// With a request, and what its headers ask of the routing.
    Asks(Routing),
    /// A browser that asked whether it may ask.
    Answered(Response<AnswerBody>),
}

/// Who comes in: what can be proxied, and whoever has the key. A browser that asks first has none yet and is answered here.
fn door(
    shared: &Shared,
    request: &Request<Incoming>,
    known: &ClientHeaders<'_>,
    journey: &Journey,
) -> Result<Admitted, Problem> {
    admit(request, known)?;
    if let Some(preflight) = shared.cors.preflight(request.method(), known) {
        return Ok(Admitted::Answered(preflight));
    }
    auth::check(&shared.config.auth, request.uri().path(), known.authorization, journey.record())?;
    Ok(Admitted::Asks(Routing::read(shared, known)?))
}

/// Reads the request, waits for its place, and sends it. Not in another order: hyper does not look at a connection whose body
/// nobody asks for, so a client that left would keep its place in the queue until its turn, and one that sends slowly would
/// hold a place at the workers. Memory has a limit of its own, and what would be turned away is not read.
async fn ask(
    shared: &Shared,
    request: Request<Incoming>,
    routing: Routing,
    journey: &mut Journey,
) -> Result<WorkerAnswer, Refusal> {
    if let Some(limit) = &shared.limit {
        limit.look()?;
    }
    let call = intake::read(shared, request, routing, journey).await?;
    if let Some(limit) = &shared.limit {
        wait_for_place(limit, journey).await?;
    }
    forward::forward(shared, &call, journey).await
}

async fn wait_for_place(limit: &Limit, journey: &mut Journey) -> Result<(), Problem> {
    let from_ns = journey.elapsed_ns();
    let entered = limit.enter(journey.deadline()).await;
    let wait_ns = journey.elapsed_ns() - from_ns;
    journey.note(|r| r.limit_wait_ns = Some(wait_ns));
    journey.occupy(entered?);
    Ok(())
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
