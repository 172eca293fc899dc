//! A client's request for the router itself, read whole.
//!
//! Rule: the body counts against `--max-payload-size` and the memory for all bodies like any other; what is sent on to
//! workers carries the client's allowed headers and this router's marks. A key that was meant for the router does not go on:
//! the worker gets its own instead. Deliberately not here: what is done with it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use tokio::time::Instant;

use super::table::{Access, Entry};
use crate::buffer::Buffer;
use crate::config::access::AuthConfig;
use crate::fleet::ask::{Answer, Question};
use crate::http1::Request;
use crate::proxy::asked::Asked;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::{Journey, Refusal};
use crate::proxy::{Shared, headers, span};
use crate::trace::record::{Outcome, RequestKind};
use crate::wire::problem::Problem;
use crate::wire::traceparent::TRACEPARENT;

/// A request and what is needed to answer it.
pub struct Errand<'a> {
    /// What every request shares.
    pub shared: &'a Arc<Shared>,
    /// Method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark, maybe empty.
    pub query: String,
    /// The whole body.
    pub body: Bytes,
    // Headers for workers; empty where none are asked.
    outgoing: HeaderMap,
    deadline: Instant,
}

impl<'a> Errand<'a> {
    /// Of a request that has been read.
    pub fn of(
        shared: &'a Arc<Shared>,
        asked: &Asked,
        request: &Request,
        entry: &Entry,
        journey: &Journey,
    ) -> Self {
        let outgoing = match entry.handler.request_kind() {
            RequestKind::FanOut => outgoing(shared, request, entry.access, journey),
            _ => HeaderMap::new(),
        };
        Self {
            shared,
            method: asked.method.clone(),
            path: asked.path().to_owned(),
            query: asked.target().split_once('?').map_or("", |(_, query)| query).to_owned(),
            body: Bytes::copy_from_slice(request.body()),
            outgoing,
            deadline: journey.deadline(),
        }
    }

    /// Time until the request must have ended.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A question of the router's own on the client's behalf; ends with the request at the latest.
    pub fn question(&self, path: &str, timeout: Duration) -> Question {
        let mut question = Question::get(path, timeout.min(self.time_left()));
        question.headers.clone_from(&self.outgoing);
        question
    }

    /// The request itself as a question: method, query and body as they came.
    pub fn same(&self, timeout: Duration) -> Question {
        let mut question = self.question(&self.with_query(&self.path), timeout);
        // The answer to a HEAD has no body that could be shown, and not every engine takes it where it takes a GET.
        question.method = if self.method == Method::HEAD { Method::GET } else { self.method.clone() };
        question.body = self.body.clone();
        question
    }

    /// A path with the client's query.
    pub fn with_query(&self, path: &str) -> String {
        if self.query.is_empty() { path.to_owned() } else { format!("{path}?{}", self.query) }
    }
}

fn outgoing(shared: &Shared, request: &Request, access: Access, journey: &Journey) -> HeaderMap {
    let mut out = HeaderMap::new();
    let mut add = |name: &[u8], value: &[u8]| {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            out.append(name, value);
        }
    };
    let traceparent = span::for_worker(journey.record());
    let passes = |name: &[u8]| traceparent.is_none() || !span::is_replaced(name, journey.record());
    let fields = headers::to_worker(request.fields(), &shared.config.forward_headers);
    fields.filter(|(name, _)| passes(name)).for_each(|(n, v)| add(n, v));
    if let Some(traceparent) = traceparent {
        add(TRACEPARENT.as_bytes(), &traceparent.to_bytes());
    }
    if let Some(clients) =
        request.field("authorization").filter(|_| !is_for_the_router(&shared.config.auth, access))
    {
        add(b"authorization", clients);
    }
    add(headers::HOP.as_bytes(), shared.instance.as_bytes());
    let mut stamps = Buffer::default();
    headers::request_stamps(&mut stamps, journey);
    headers::written(&stamps).for_each(|(n, v)| add(n, v));
    out
}

/// The client's `Authorization` opened this router's door, so it says nothing to a worker.
fn is_for_the_router(auth: &AuthConfig, access: Access) -> bool {
    auth.api_key.is_some() || (access == Access::Control && !auth.control_plane.is_empty())
}

/// There is no worker to ask.
pub fn no_workers() -> Refusal {
    let message = "no worker is available; GET /workers says why";
    Refusal { problem: Problem::new(503, "no_workers", message), outcome: Outcome::Unreachable }
}

/// Workers were asked, and none gave an answer.
pub fn no_answer(error: &str) -> Refusal {
    let message = format!("no worker answered; the last one said: {error}");
    let problem = Problem::new(502, "call_upstream_request_error", message);
    Refusal { problem, outcome: Outcome::Unreachable }
}

/// A worker's answer as it came: status, content type, body.
pub fn passed(answer: Answer) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::own(answer.body));
    *response.status_mut() = answer.status;
    if let Some(content_type) = answer.content_type {
        response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::access::{ApiKey, ControlPlaneKey};

    #[test]
    fn a_key_of_the_routers_own_stays_there() {
        let key = ApiKey::new("k").unwrap();
        let open = AuthConfig::default();
        let keyed = AuthConfig { api_key: Some(key.clone()), ..AuthConfig::default() };
        let admin = ControlPlaneKey { id: "i".to_owned(), name: "n".to_owned(), is_admin: true, key };
        let steered = AuthConfig { control_plane: vec![admin], ..AuthConfig::default() };
        let stays = |auth| [Access::Proxied, Access::Control].map(|access| is_for_the_router(auth, access));
        assert_eq!(stays(&open), [false, false]);
        assert_eq!(stays(&keyed), [true, true]);
        assert_eq!(stays(&steered), [false, true]);
    }
}
