//! Requests that mean every worker.
//!
//! Rule: all workers are asked at the same time, each with a time-out, and the answer says who failed; a benchmark that
//! flushed one cache of eight would measure nonsense. Shapes are sglang-router's. Deliberately not here: the other control
//! endpoints.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::json as reply;
use crate::fleet::ask::{Question, ask};
use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;

/// Longest wait for one worker; sglang-router's.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `GET` or `POST /flush_cache`: 200 if every worker flushed, 206 if some did not.
pub async fn flush_cache(shared: &Arc<Shared>, request: &Request<Incoming>) -> Response<AnswerBody> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return reply(405, &json!({"error": "method not allowed", "code": "METHOD_NOT_ALLOWED"}));
    }
    let mut question = Question { method: Method::POST, ..Question::get("/flush_cache", TIMEOUT) };
    if let Some(key) = request.headers().get(http::header::AUTHORIZATION) {
        question.headers.insert(http::header::AUTHORIZATION, key.clone());
    }
    let mut asked = JoinSet::new();
    for worker in shared.fleet.workers() {
        let (question, clock) = (question.clone(), shared.clock.clone());
        asked.spawn(async move {
            let answer = ask(&worker, &clock, &question).await;
            let error = match answer {
                Ok((status, _)) if status.is_success() => None,
                Ok((status, _)) => Some(format!("status {}", status.as_u16())),
                Err(error) => Some(error),
            };
            (worker.url.clone(), error)
        });
    }
    let total = asked.len();
    let mut failed: Vec<Value> = Vec::new();
    while let Some(done) = asked.join_next().await {
        if let Ok((url, Some(error))) = done {
            failed.push(json!({"worker": url.as_str(), "error": error}));
        }
    }
    failed.sort_by_key(|f| f["worker"].to_string());
    let flushed = total - failed.len();
    let status = if failed.is_empty() { "success" } else { "partial_success" };
    let message = match failed.len() {
        0 => format!("Successfully flushed cache on all {total} HTTP workers"),
        n => format!("Flushed the cache on {flushed} of {total} workers, {n} failed"),
    };
    let body = json!({
        "status": status, "message": message, "workers_flushed": flushed, "total_http_workers": total,
        "total_workers": total, "failed": failed,
    });
    reply(if failed.is_empty() { 200 } else { 206 }, &body)
}
