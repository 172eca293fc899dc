//! A small question of the router's own to a worker: probes, descriptions, fan-outs.
//!
//! Rule: every question has a time-out and a cap on the answer. Deliberately not here: clients' requests (`proxy`).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, StatusCode};

use super::upstream::Upstream;
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
    let mut upstream = worker.connect(clock).await?;
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
    let response = upstream.send(request).await.map_err(|e| fail(&e.error))?;
    let status = response.status();
    let body = collect(&mut upstream, response.into_body()).await.map_err(|e| fail(&e))?;
    Ok((status, body))
}

async fn collect(upstream: &mut Upstream, mut body: Incoming) -> Result<Bytes, String> {
    let mut all = BytesMut::new();
    loop {
        let frame = std::future::poll_fn(|cx| {
            let frame = std::pin::Pin::new(&mut body).poll_frame(cx);
            if frame.is_ready() {
                return frame;
            }
            upstream.poll_io(cx);
            std::pin::Pin::new(&mut body).poll_frame(cx)
        })
        .await;
        match frame {
            None => return Ok(all.freeze()),
            Some(Err(error)) => return Err(error.to_string()),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if all.len() + data.len() > MAX_ANSWER_BYTES {
                    return Err(format!("answer larger than {MAX_ANSWER_BYTES} bytes"));
                }
                all.extend_from_slice(&data);
            }
        }
    }
}
