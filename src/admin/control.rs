//! Control endpoints of the engines, for the whole fleet.
//!
//! Rule: each worker gets the request as it came, and the answer says what each of them said: a benchmark that flushed one
//! cache of eight, or a trainer that updated seven copies of eight, would go on with nonsense. 200 if all did it, 206 if some
//! did; if none did, the status that all gave alike (404 where no engine has the path), else 502. Where all gave one and the
//! same JSON object its members stand at the top too, so that a client of one engine finds `success` and `message` where it
//! looks for them. Workers that have never answered are not asked but named (`pending`): they come up with their own
//! weights. Deliberately not here: which paths these are (`table`).

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response};
use serde_json::{Map, Value, json};

use super::errand::{Errand, no_workers};
use super::fan_out::{Heard, ask_all, one_an_address, pending, servers};
use super::json as reply;
use crate::fleet::health::check_soon;
use crate::fleet::rids::Concerned;
use crate::fleet::worker::Worker;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::{Journey, Refusal};

/// Longest wait for one flush; sglang-router's.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for one abort: the engine only notes it.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest `rid` that is known by its text, see `RequestRecord::rid`.
const MAX_RID_CHARS: usize = 128;

/// `GET` or `POST /flush_cache`: 200 if every worker flushed, 206 if some did not.
pub async fn flush_cache(errand: &Errand<'_>) -> Response<AnswerBody> {
    let mut question = errand.same(FLUSH_TIMEOUT);
    question.method = Method::POST;
    let heard = ask_all(errand.shared, servers(errand.shared), &question).all().await;
    for done in heard.iter().filter(|heard| heard.success().is_some()) {
        errand.shared.fleet.cache_emptied(&done.worker);
    }
    let total = heard.len();
    let failed: Vec<Value> = heard
        .iter()
        .filter(|heard| heard.success().is_none())
        .map(|heard| json!({"worker": heard.worker.url.as_str(), "error": why(heard)}))
        .collect();
    let flushed: Vec<&str> =
        heard.iter().filter(|h| h.success().is_some()).map(|h| h.worker.url.as_str()).collect();
    let message = match failed.len() {
        0 => format!("Successfully flushed cache on all {total} HTTP workers"),
        n => format!("Flushed the cache on {} of {total} workers, {n} failed", flushed.len()),
    };
    let body = json!({
        "status": if failed.is_empty() { "success" } else { "partial_success" },
        "message": message, "workers_flushed": flushed.len(), "total_http_workers": total,
        "total_workers": total, "successful": flushed, "failed": failed, "pending": pending(errand.shared),
    });
    reply(if failed.is_empty() { 200 } else { 206 }, &body)
}

/// The request to every worker. Weights take as long as they take, so the limit is the request's own.
pub async fn everywhere(errand: &Errand<'_>) -> Result<Response<AnswerBody>, Refusal> {
    let workers = servers(errand.shared);
    if workers.is_empty() {
        return Err(no_workers());
    }
    Ok(told(errand, workers, errand.time_left()).await)
}

/// `POST /abort_request`: to the workers that hold such a request, or to all if none is known to. Requests between two attempts
/// end here.
pub async fn abort(errand: &Errand<'_>, journey: &mut Journey) -> Result<Response<AnswerBody>, Refusal> {
    let rid = rid(&errand.body);
    let concerned = rid.as_deref().map(|rid| errand.shared.fleet.rids().abort(rid)).unwrap_or_default();
    journey.note(|r| r.rid = rid);
    let Concerned { workers, ended } = concerned;
    if workers.is_empty() && ended > 0 {
        let message = format!("{ended} requests that waited for another attempt have ended");
        return Ok(reply(
            200,
            &json!({"status": "success", "success": true, "message": message, "workers": []}),
        ));
    }
    let workers = if workers.is_empty() { servers(errand.shared) } else { one_an_address(workers) };
    if workers.is_empty() {
        return Err(no_workers());
    }
    Ok(told(errand, workers, ABORT_TIMEOUT).await)
}

/// The `rid` of an abort that is for one request; `None` for `abort_all`, a list, or what only an engine can judge.
fn rid(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    if body.get("abort_all").is_some_and(|all| *all == Value::Bool(true)) {
        return None;
    }
    let rid = body.get("rid")?.as_str()?;
    let fine = (1..=MAX_RID_CHARS).contains(&rid.len()) && rid.bytes().all(|b| b.is_ascii_graphic());
    fine.then(|| rid.to_owned())
}

async fn told(errand: &Errand<'_>, workers: Vec<Arc<Worker>>, timeout: Duration) -> Response<AnswerBody> {
    let heard = ask_all(errand.shared, workers, &errand.same(timeout)).all().await;
    let empties = empties_caches(&errand.path);
    for done in heard.iter().filter(|heard| heard.success().is_some()) {
        check_soon(&errand.shared.fleet, &done.worker);
        if empties {
            errand.shared.fleet.cache_emptied(&done.worker);
        }
    }
    let (status, mut body) = summary(&heard);
    body["pending"] = json!(pending(errand.shared));
    reply(status, &body)
}

/// An engine that did this holds no prefix any more: what it had computed was with other weights, or its memory is gone.
fn empties_caches(path: &str) -> bool {
    path.starts_with("/update_weights_from_") || path == "/release_memory_occupation"
}

/// Status and body that tell what each worker said.
fn summary(heard: &[Heard]) -> (u16, Value) {
    let done = heard.iter().filter(|heard| heard.success().is_some()).count();
    let (code, status) = match done {
        n if n == heard.len() => (200, "success"),
        0 => (common_status(heard).unwrap_or(502), "failed"),
        _ => (206, "partial_success"),
    };
    let mut body = common(heard);
    // Where the engines' object has members of these names, they stand under `workers`.
    body.insert("status".to_owned(), status.into());
    body.insert("workers".to_owned(), heard.iter().map(described).collect());
    (code, body.into())
}

/// The error status that all gave. A client that asks for what these engines do not have, or in a way that none takes, is told so,
/// not that a gateway failed.
fn common_status(heard: &[Heard]) -> Option<u16> {
    let mut statuses = heard.iter().map(|heard| heard.answer.as_ref().ok().map(|answer| answer.status));
    let first = statuses.next()??;
    let is_error = first.is_client_error() || first.is_server_error();
    (is_error && statuses.all(|other| other == Some(first))).then_some(first.as_u16())
}

/// The members of an object that all gave alike; else `success` for all of them, and a message that counts.
fn common(heard: &[Heard]) -> Map<String, Value> {
    let objects: Option<Vec<Map<String, Value>>> = heard.iter().map(object).collect();
    let objects = objects.unwrap_or_default();
    match objects.split_first() {
        Some((first, rest)) if rest.iter().all(|other| other == first) => first.clone(),
        _ => {
            let done = heard.iter().filter(|h| h.success().is_some() && !denies(h)).count();
            let mut body = Map::new();
            body.insert("success".to_owned(), (done == heard.len()).into());
            let message = format!("{done} of {} workers did it", heard.len());
            body.insert("message".to_owned(), message.into());
            body
        }
    }
}

fn object(heard: &Heard) -> Option<Map<String, Value>> {
    serde_json::from_slice(&heard.answer.as_ref().ok()?.body).ok()
}

/// It says `"success":false` under whatever status.
fn denies(heard: &Heard) -> bool {
    object(heard).is_some_and(|body| body.get("success") == Some(&Value::Bool(false)))
}

fn described(heard: &Heard) -> Value {
    let mut one = Map::new();
    one.insert("worker".to_owned(), heard.worker.url.as_str().into());
    match &heard.answer {
        Ok(answer) => {
            one.insert("status".to_owned(), answer.status.as_u16().into());
            if !answer.body.is_empty() {
                let text = || String::from_utf8_lossy(&answer.body).into_owned().into();
                let body = serde_json::from_slice(&answer.body).unwrap_or_else(|_| text());
                one.insert("body".to_owned(), body);
            }
        }
        Err(error) => {
            one.insert("status".to_owned(), Value::Null);
            one.insert("error".to_owned(), error.as_str().into());
        }
    }
    one.into()
}

/// Why a worker did not do it.
fn why(heard: &Heard) -> String {
    match &heard.answer {
        Ok(answer) => format!("status {}", answer.status.as_u16()),
        Err(error) => error.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abort_of_one_request_is_told_from_one_that_is_for_all() {
        assert_eq!(rid(br#"{"rid":"a-1"}"#).as_deref(), Some("a-1"));
        assert_eq!(rid(br#"{"rid":"a-1","abort_all":false}"#).as_deref(), Some("a-1"));
        let long = format!("{{\"rid\":\"{}\"}}", "a".repeat(129));
        let bodies: [&[u8]; 8] = [
            br#"{"rid":"a","abort_all":true}"#,
            br#"{"abort_all":true}"#,
            br#"{"rid":["a","b"]}"#,
            br#"{"rid":""}"#,
            br#"{"rid":"a b"}"#,
            b"not json",
            b"",
            long.as_bytes(),
        ];
        for body in bodies {
            assert_eq!(rid(body), None, "{}", String::from_utf8_lossy(body));
        }
    }
}
