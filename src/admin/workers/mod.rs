//! `/workers`: list, look at, add, change and remove workers while the router runs.
//!
//! Rule: shapes and status codes are sglang-router 0.3.2's. A worker's id is derived from its URL, so that it is the same in
//! every router. A worker that has never answered is pending: it is not listed among the others, and its own page says why.
//! Registrations do not wait for each other, and one that is pending can be deleted. Differences on purpose: what could only
//! fail later (an URL that is none, this router's own, a prefill worker, one too many) is refused at once with the reason.
//! Deliberately not here: the pre-0.2.2 `/add_worker` (`legacy`).

use std::sync::Arc;

use http::HeaderValue;
use http::header::LOCATION;
use http::{Method, Response};
use serde_json::{Value, json};

use self::said::Unfit;
use self::view::{describe, pending, worker_id};
use super::errand::Errand;
use super::{json as reply, text};
use crate::config;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::NotAdded;
use crate::fleet::spec::WorkerSpec;
use crate::fleet::worker::Worker;
use crate::proxy::body::AnswerBody;
use crate::proxy::{Shared, headers};
use crate::wire::problem::Problem;

pub mod said;
pub mod view;

/// Answers `/workers`.
pub fn all(errand: &Errand<'_>) -> Response<AnswerBody> {
    if errand.method == Method::POST {
        return post(errand);
    }
    let shared = errand.shared;
    let (reached, waiting): (Vec<_>, Vec<_>) =
        shared.fleet.workers().into_iter().partition(|worker| worker.is_reached());
    let workers: Vec<Value> = reached.iter().map(|worker| describe(shared, worker)).collect();
    let waiting: Vec<Value> = waiting.iter().map(|worker| pending(shared, worker)).collect();
    let total = workers.len();
    let stats = json!({"prefill_count": 0, "decode_count": 0, "regular_count": total});
    reply(200, &json!({"workers": workers, "total": total, "stats": stats, "pending": waiting}))
}

/// Answers `/workers/{id}`.
pub fn one(errand: &Errand<'_>) -> Response<AnswerBody> {
    let shared = errand.shared;
    let id = errand.path.strip_prefix("/workers/").unwrap_or_default();
    let workers = find(shared, id);
    let Some(worker) = workers.first() else {
        return unknown(id);
    };
    let accepted = |message| reply(202, &json!({"status": "accepted", "worker_id": id, "message": message}));
    match errand.method {
        Method::PUT => match said::change(&errand.body, worker.settings()) {
            Ok(settings) => {
                for worker in &workers {
                    shared.fleet.set_settings(worker, settings.clone());
                }
                accepted("worker changed")
            }
            Err(unfit) => refused(unfit),
        },
        Method::DELETE => {
            for worker in &workers {
                shared.fleet.remove(worker);
            }
            accepted("worker removed; its requests go on to their end")
        }
        _ => reply(200, &describe(shared, worker)),
    }
}

/// The worker with this id, or all the ranks of the server that was added under it (`--dp-aware`).
fn find(shared: &Shared, id: &str) -> Vec<Arc<Worker>> {
    let workers = shared.fleet.workers();
    let is = |url: &WorkerUrl| worker_id(url).eq_ignore_ascii_case(id);
    match workers.iter().find(|worker| is(&worker.url)) {
        Some(worker) => vec![Arc::clone(worker)],
        None => workers.into_iter().filter(|worker| is(&worker.added_as)).collect(),
    }
}

fn unknown(id: &str) -> Response<AnswerBody> {
    let refuse = |status, error: String, code| reply(status, &json!({"error": error, "code": code}));
    let shape = id.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    if !shape || !id.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
        let shown: String = id.chars().take(64).collect();
        return refuse(400, format!("not a worker id (a UUID): {shown}"), "BAD_REQUEST");
    }
    refuse(404, format!("Worker {id} not found"), "WORKER_NOT_FOUND")
}

fn post(errand: &Errand<'_>) -> Response<AnswerBody> {
    let shared = errand.shared;
    let spec = match said::spec(&errand.body) {
        Ok(spec) => spec,
        Err(unfit) => return refused(unfit),
    };
    let url = spec.url.clone();
    let message = match add(shared, spec) {
        Ok(_) => "worker added; it gets requests once it has answered a health check",
        Err(CannotAdd::AlreadyThere) => "worker is there already",
        Err(CannotAdd::Unfit(unfit)) => return refused(unfit),
    };
    let id = worker_id(&url);
    let location = format!("/workers/{id}");
    let accepted = json!({"status": "accepted", "worker_id": id, "url": url.as_str(), "location": location, "message": message});
    let mut response = reply(202, &accepted);
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// Why a worker is not added.
pub enum CannotAdd {
    /// It is in the fleet.
    AlreadyThere,
    /// It cannot be, for this reason.
    Unfit(Unfit),
}

/// Adds a worker that somebody named at run time.
pub fn add(shared: &Shared, mut spec: WorkerSpec) -> Result<Arc<Worker>, CannotAdd> {
    if is_own(shared, &spec.url) {
        let reason = format!("url: {} is this router's own address", spec.url);
        return Err(CannotAdd::Unfit(Unfit::Refused(reason)));
    }
    if let Err(error) = shared.fleet.check(&spec.url) {
        return Err(CannotAdd::Unfit(Unfit::Refused(format!("url: {}: {error}", spec.url))));
    }
    spec.api_key = spec.api_key.or_else(|| shared.config.auth.api_key.clone());
    let max_workers = shared.config.max_workers;
    shared.fleet.add_up_to(max_workers, spec).map_err(|not| match not {
        NotAdded::AlreadyThere => CannotAdd::AlreadyThere,
        NotAdded::Full => CannotAdd::Unfit(Unfit::Full { max_workers }),
    })
}

fn is_own(shared: &Shared, url: &WorkerUrl) -> bool {
    shared.listen.is_some_and(|at| config::is_listener(url, &at.ip().to_string(), at.port()))
}

fn refused(unfit: Unfit) -> Response<AnswerBody> {
    match unfit {
        Unfit::NotJson(why) => text(400, format!("the body is not JSON: {why}")),
        Unfit::WrongShape(why) => text(422, format!("the body does not describe a worker: {why}")),
        Unfit::Refused(error) => reply(400, &json!({"error": error, "code": "BAD_REQUEST"})),
        Unfit::TooLarge { max_bytes } => {
            let error = format!("the body is larger than {max_bytes} bytes");
            reply(413, &json!({"error": error, "code": "BAD_REQUEST"}))
        }
        Unfit::Full { max_workers } => {
            let message =
                format!("there are {max_workers} workers, as many as there may be; DELETE one first");
            let problem = Problem::new(503, "too_many_workers", message);
            let mut response =
                super::with_type(503, problem.body(), HeaderValue::from_static("application/json"));
            response.headers_mut().insert(headers::ERROR_CODE, HeaderValue::from_static(problem.code));
            response
        }
    }
}
