//! `/workers`: list, look at, add and remove workers while the router runs.
//!
//! Rule: shapes and status codes are sglang-router 0.3.2's. A worker's id is derived from its URL, so that it is the same in
//! every router. Deliberately not here: `PUT` (priority and cost are used by no policy), the pre-0.2.2 `/add_worker`.

use std::sync::Arc;

use http::HeaderValue;
use http::header::LOCATION;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::json as reply;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::worker::Worker;
use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;

/// Largest body of `POST /workers`.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Answers `/workers` and `/workers/{id}`.
pub async fn answer(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    deadline: Instant,
) -> Response<AnswerBody> {
    let path = request.uri().path();
    let id = path.strip_prefix("/workers").map_or("", |rest| rest.trim_start_matches('/')).to_owned();
    match (request.method().clone(), id.as_str()) {
        (Method::GET, "") => list(shared),
        (Method::POST, "") => add(shared, request, deadline).await,
        (Method::GET, id) => match find(shared, id) {
            Ok(worker) => reply(200, &describe(&worker)),
            Err(refused) => *refused,
        },
        (Method::DELETE, id) if !id.is_empty() => match find(shared, id) {
            Ok(worker) => remove(shared, &worker),
            Err(refused) => *refused,
        },
        _ => reply(405, &json!({"error": "method not allowed", "code": "METHOD_NOT_ALLOWED"})),
    }
}

/// A UUID made of the URL: FNV-1a in two halves, marked as version 8 (custom).
pub fn worker_id(url: &WorkerUrl) -> String {
    let half =
        |seed: u64| url.as_str().bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let (a, b) = (half(0xcbf2_9ce4_8422_2325), half(0x9ae1_6a3b_2f90_404f));
    format!(
        "{:08x}-{:04x}-8{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | ((b >> 48) & 0x3fff),
        b & 0xffff_ffff_ffff
    )
}

fn list(shared: &Shared) -> Response<AnswerBody> {
    let workers: Vec<Value> = shared.fleet.workers().iter().map(|w| describe(w)).collect();
    let total = workers.len();
    let stats = json!({"prefill_count": 0, "decode_count": 0, "regular_count": total});
    reply(200, &json!({"workers": workers, "total": total, "stats": stats}))
}

fn describe(worker: &Worker) -> Value {
    let d = worker.described();
    json!({
        "id": worker_id(&worker.url),
        "url": worker.url.as_str(),
        "model_id": d.model.as_deref().unwrap_or("unknown"),
        "priority": 50,
        "cost": 1.0,
        "worker_type": "regular",
        "is_healthy": worker.is_healthy(),
        "load": worker.in_flight(),
        "connection_mode": "HTTP",
        "metadata": {
            "version": d.version,
            "max_running_requests": d.max_running_requests,
            "simulated": d.simulated,
            "served": worker.served(),
            "idle_connections": worker.pool.idle(),
        },
    })
}

fn find(shared: &Shared, id: &str) -> Result<Arc<Worker>, Box<Response<AnswerBody>>> {
    let refuse =
        |status, error: String, code| Box::new(reply(status, &json!({"error": error, "code": code})));
    if !id.split('-').map(str::len).eq([8, 4, 4, 4, 12]) {
        let shown: String = id.chars().take(64).collect();
        return Err(refuse(400, format!("not a worker id: {shown}"), "BAD_REQUEST"));
    }
    let found = shared.fleet.workers().into_iter().find(|w| worker_id(&w.url) == id);
    found.ok_or_else(|| refuse(404, format!("no worker {id}"), "WORKER_NOT_FOUND"))
}

async fn add(shared: &Arc<Shared>, request: Request<Incoming>, deadline: Instant) -> Response<AnswerBody> {
    let reading = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
    let body = match tokio::time::timeout_at(deadline, reading).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return reply(413, &json!({"error": "body too large or incomplete", "code": "BAD_REQUEST"}));
        }
        Err(_) => {
            return reply(408, &json!({"error": "the body did not arrive in time", "code": "BAD_REQUEST"}));
        }
    };
    let Ok(spec) = serde_json::from_slice::<Value>(&body.to_bytes()) else {
        return reply(400, &json!({"error": "the body is not JSON", "code": "BAD_REQUEST"}));
    };
    let Some(text) = spec.get("url").and_then(Value::as_str) else {
        return reply(422, &json!({"error": "missing field `url`", "code": "BAD_REQUEST"}));
    };
    let url = match WorkerUrl::parse(text) {
        Ok(url) => url,
        Err(error) => {
            return reply(400, &json!({"error": format!("url: {error}"), "code": "BAD_REQUEST"}));
        }
    };
    let id = worker_id(&url);
    let message = match shared.fleet.add(url.clone()) {
        Ok(_) => "worker added; it gets requests once it has answered a health check",
        Err(_) => "worker is there already",
    };
    let location = format!("/workers/{id}");
    let accepted = json!({"status": "accepted", "worker_id": id, "url": url.as_str(), "location": location, "message": message});
    let mut response = reply(202, &accepted);
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

fn remove(shared: &Shared, worker: &Arc<Worker>) -> Response<AnswerBody> {
    shared.fleet.remove(worker);
    reply(
        202,
        &json!({"status": "accepted", "worker_id": worker_id(&worker.url), "message": "worker removed; its requests go on to their end"}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_and_follow_the_url() {
        let id = |text| worker_id(&WorkerUrl::parse(text).unwrap());
        assert_eq!(id("http://a:1"), id("http://A:1/"));
        assert_ne!(id("http://a:1"), id("http://a:2"));
        assert!(id("http://a:1").split('-').map(str::len).eq([8, 4, 4, 4, 12]));
    }
}
