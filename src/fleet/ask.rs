//! A small question of the router's own to a worker: probes, descriptions, fan-outs.
//!
//! Rule: every question has a time-out and a cap on the answer. Deliberately not here: clients' requests (`proxy`).

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, StatusCode};

use super::worker::Worker;
use crate::clock::Clock;

/// Largest answer kept: SGLang 0.5.23's `/server_info` has 37 kB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Body, sent as JSON if not empty.
    pub body: Bytes,
    /// `Authorization` to send.
    pub authorization: Option<http::HeaderValue>,
    /// Longest wait for the whole answer.
    pub timeout: Duration,
}

impl Question {
    /// A plain GET.
    pub fn get(path: &str, timeout: Duration) -> Self {
        Self { method: Method::GET, path: path.to_owned(), body: Bytes::new(), authorization: None, timeout }
    }
}

/// Asks; the error is in words.
pub async fn ask(worker: &Worker, clock: &Clock, question: &Question) -> Result<(StatusCode, Bytes), String> {
    let asked = ask_now(worker, clock, question);
    match tokio::time::timeout(question.timeout, asked).await {
        Ok(result) => result,
        Err(_) => Err(format!("{}: no answer in {:?}", question.path, question.timeout)),
    }
}

async fn ask_now(worker: &Worker, clock: &Clock, question: &Question) -> Result<(StatusCode, Bytes), String> {
    let fail = |what: &dyn std::fmt::Display| format!("{}: {what}", question.path);
    // A fresh connection: a probe must not be the one that finds a stale one, and it proves that the worker accepts.
    let mut connection = worker.connect(clock).await?;
    let mut request = Request::builder()
        .method(question.method.clone())
        .uri(&question.path)
        .header(http::header::HOST, worker.url.authority());
    if let Some(key) = &question.authorization {
        request = request.header(http::header::AUTHORIZATION, key);
    }
    if !question.body.is_empty() {
        request = request.header(http::header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(question.body.clone())).map_err(|e| fail(&e))?;
    let response = connection.send(request).await.map_err(|e| fail(&e.error))?;
    let status = response.status();
    let body = connection.collect(response.into_body(), MAX_ANSWER_BYTES).await.map_err(|e| fail(&e))?;
    Ok((status, body))
}
