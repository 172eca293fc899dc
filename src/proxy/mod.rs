//! The request path, one file a phase.
//!
//! ```text
//! accept → door → intake → limit → choose (fleet) → forward → relay → finish (journey)
//! ```
//! Rule: data goes one way and nothing calls backwards; [`handle`] shows the whole journey. Each accepted request has one
//! [`journey::Journey`], which makes exactly one trace record however the request ends. Deliberately not here: the
//! router's own endpoints (`admin`), the decision (`fleet::dispatch`).

use std::sync::Arc;

use http::{HeaderValue, Method, Response};

use self::asked::Asked;
use self::body::AnswerBody;
use self::forward::WorkerAnswer;
use self::headers::ClientHeaders;
use self::intake::Heard;
use self::journey::{Halt, Journey};
use self::limit::Limit;
use self::visit::Visit;
use crate::admin;
use crate::clock::Clock;
use crate::config::RouteConfig;
use crate::fleet::Fleet;
use crate::http1::Request;
use crate::net::tls::ServerTls;
use crate::trace::capture::Capture;
use crate::trace::record::RequestKind;
use crate::trace::sink::Sink;
use crate::wire::Endpoint;
use crate::wire::problem::Problem;

pub mod accept;
mod answer;
pub mod asked;
pub mod auth;
pub mod body;
pub mod budget;
pub mod cors;
pub mod cut;
pub mod experiment;
pub mod fallback;
pub mod forward;
pub mod headers;
pub mod intake;
pub mod journey;
pub mod limit;
mod names;
pub mod relay;
pub mod retry;
pub mod routing;
pub mod serve;
pub mod span;
pub mod splice;
mod timer;
mod verdict;
pub mod visit;

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
    /// Steers the trace, where there is or may be one.
    pub capture: Option<Arc<Capture>>,
    /// What spans are made of, where they are sent.
    pub spans: Option<span::Spans>,
    /// What the live page was shown last.
    pub live: admin::live::Live,
    /// Memory for request bodies.
    pub budget: Arc<budget::Budget>,
    /// Memory for answers that are held to be read at their end.
    pub answers: Arc<budget::Budget>,
    /// Who is in which arm of `--split`, where that was asked for.
    pub experiment: Option<experiment::Experiment>,
    /// Requests at one time, where that is limited.
    pub limit: Option<Limit>,
    /// Whose pages may read answers.
    pub cors: cors::Cors,
    /// Counters.
    pub metrics: admin::metrics::Metrics,
    /// Decisions that a policy could not make.
    pub fallbacks: fallback::Fallbacks,
    /// Tells this router's requests from those of others: loop detection, generated ids.
    pub instance: String,
    /// Requests so far.
    pub requests: std::sync::atomic::AtomicU64,
    /// The router is going away: not ready, but still serving.
    pub draining: std::sync::atomic::AtomicBool,
    /// When the router ends what is still open.
    pub cut: cut::Cut,
}

/// One request from its head to the last byte of its answer; true if the connection can carry another.
pub async fn handle(shared: &Arc<Shared>, visit: &mut Visit, request: Request) -> bool {
    let mut known = ClientHeaders::scan(request.fields(), &shared.instance);
    if !shared.config.request_id_headers.is_empty() {
        known.take_ids_from(|name| request.field(name), &shared.config.request_id_headers);
    }
    let (asked, is_readable) = match Asked::of(&request) {
        Some(asked) => (asked, true),
        None => (Asked::unreadable(&request), false),
    };
    let mut journey = Journey::begin(shared, &asked, &known, visit.client());
    note_headers(shared, &request, &mut journey);
    visit.begin(&request, journey.deadline());
    let origin = known.origin.and_then(|value| HeaderValue::from_bytes(value).ok());
    let admitted = if is_readable {
        door(shared, &request, &asked, &known, &journey)
    } else {
        Err(Problem::new(400, "bad_request", "the request target is neither a path nor a URI"))
    };
    let response = match admitted {
        Ok(Admitted::Asks(_)) if is_own(&asked, &journey) => {
            // Boxed: it is rare, and the largest of all that a connection's task would have to hold room for.
            Box::pin(own(shared, visit, asked, request, journey)).await
        }
        Ok(Admitted::Asks(heard)) => match ask(shared, visit, (asked, request, heard), &mut journey).await {
            Ok((answer, multiple)) => {
                return relay::relay(visit, journey, answer, multiple, origin.as_ref()).await;
            }
            Err(halt) => halted(halt, journey),
        },
        Ok(Admitted::Answered(preflight)) => {
            visit.dismiss(request);
            Some(journey.local(RequestKind::Local, preflight))
        }
        Err(problem) => {
            visit.dismiss(request);
            Some(journey.refuse(problem))
        }
    };
    let Some(mut response) = response else {
        return false;
    };
    if let Some(origin) = &origin {
        shared.cors.dress(origin, response.headers_mut());
    }
    answer::send(visit, response).await
}

/// The headers that the trace was asked to tell, as far as they are short visible text.
fn note_headers(shared: &Shared, request: &Request, journey: &mut Journey) {
    if shared.config.capture.headers.is_empty() || !shared.sink.is_written() {
        return;
    }
    let told = shared.config.capture.headers.iter().filter_map(|name| {
        Some((name.as_str().to_owned(), headers::visible(request.field(name.as_str())?)?))
    });
    let told = told.collect();
    journey.note(|r| r.headers = told);
}

/// The router answers it itself. What is for a model is not looked up, which is nearly every request.
fn is_own(asked: &Asked, journey: &Journey) -> bool {
    journey.record().endpoint == Endpoint::Other && admin::owns(asked.path())
}

/// Somebody who came in.
enum Admitted {
    /// With a request, and what its headers ask for.
    Asks(Heard),
    /// A browser that asked whether it may ask.
    Answered(Response<AnswerBody>),
}

/// Who comes in: what can be proxied, and whoever has the key. A browser that asks first has none yet and is answered here.
fn door(
    shared: &Shared,
    request: &Request,
    asked: &Asked,
    known: &ClientHeaders<'_>,
    journey: &Journey,
) -> Result<Admitted, Problem> {
    admit(request, asked, known)?;
    if let Some(preflight) = shared.cors.preflight(&asked.method, known) {
        return Ok(Admitted::Answered(preflight));
    }
    auth::check(&shared.config.auth, asked.path(), known.authorization, journey.record())?;
    Ok(Admitted::Asks(Heard::of(shared, known)?))
}

/// A request for the router itself; no answer if its client has left.
async fn own(
    shared: &Arc<Shared>,
    visit: &mut Visit,
    asked: Asked,
    mut request: Request,
    mut journey: Journey,
) -> Option<Response<AnswerBody>> {
    if let Err(halt) = intake::read_body(shared, visit, &mut request, &mut journey).await {
        visit.dismiss(request);
        return halted(halt, journey);
    }
    let answered = visit.watch_client(admin::answer(shared, &asked, &request, journey)).await;
    visit.give_back(request);
    answered
}

/// Reads the request, waits for its place, and sends it: a worker's answer, and whether it holds several. Not in another
/// order: a client that sends slowly would hold a place. Memory has a limit of its own, and what would be turned away is not
/// read.
async fn ask(
    shared: &Arc<Shared>,
    visit: &mut Visit,
    (asked, mut request, heard): (Asked, Request, Heard),
    journey: &mut Journey,
) -> Result<(WorkerAnswer, bool), Halt> {
    let read = match shared.limit.as_ref().map_or(Ok(()), Limit::look) {
        Ok(()) => intake::read_body(shared, visit, &mut request, journey).await,
        Err(full) => Err(full.into()),
    };
    if let Err(halt) = read {
        visit.dismiss(request);
        return Err(halt);
    }
    let call = intake::call(shared, asked, request, heard, journey);
    let answer = match enter(shared, visit, journey).await {
        Ok(()) => forward::forward(shared, visit, &call, journey).await,
        Err(halt) => Err(halt),
    };
    // No attempt is possible from here on, so the body's memory is free.
    let multiple = call.multiple;
    visit.give_back(call.request);
    journey.drop_body();
    answer.map(|answer| (answer, multiple))
}

/// What the client is told; nothing if it has left.
fn halted(halt: Halt, journey: Journey) -> Option<Response<AnswerBody>> {
    match halt {
        Halt::Refused(refusal) => Some(journey.end_with(refusal)),
        Halt::ClientGone => None,
    }
}

/// Waits for a place among the requests at workers.
async fn enter(shared: &Shared, visit: &mut Visit, journey: &mut Journey) -> Result<(), Halt> {
    let Some(limit) = &shared.limit else {
        return Ok(());
    };
    let from_ns = journey.elapsed_ns();
    let entered = visit.watch(limit.enter(journey.deadline())).await;
    let wait_ns = journey.elapsed_ns() - from_ns;
    journey.note(|r| r.limit_wait_ns = Some(wait_ns));
    journey.occupy(entered.map_err(|_| Halt::ClientGone)??);
    Ok(())
}

/// What cannot be proxied at all.
fn admit(request: &Request, asked: &Asked, known: &ClientHeaders<'_>) -> Result<(), Problem> {
    let websocket = known.upgrade.is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    // TRACE would hand a client what is added for the worker, its key among it.
    if asked.method == Method::CONNECT || asked.method == Method::TRACE || websocket {
        let message = "CONNECT, TRACE and protocol upgrades are not proxied";
        return Err(Problem::new(501, "not_implemented", message));
    }
    if request.head.is_coded {
        // The worker would get the coded bytes without the word that says so.
        return Err(Problem::new(501, "not_implemented", "of the transfer codings only chunked is proxied"));
    }
    if known.hosts > 1 || (known.hosts == 0 && request.head.message.is_http_11) {
        return Err(Problem::new(400, "bad_request", "an HTTP/1.1 request needs one Host header"));
    }
    if known.host_is_none {
        return Err(Problem::new(400, "bad_request", "the Host header is not one host, perhaps with a port"));
    }
    if known.is_loop {
        return Err(Problem::new(508, "loop_detected", "this router is its own worker: check --worker-urls"));
    }
    Ok(())
}
