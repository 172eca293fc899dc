//! A small question of the router's own to a worker: probes, descriptions, fan-outs.
//!
//! Rule: every question has a time-out and a cap on the answer, and shows the worker's key where it brings no
//! `Authorization` of its own. Deliberately not here: clients' requests (`proxy`).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

use super::server::ConnectError;
use super::worker::Worker;
use crate::buffer::Buffer;
use crate::clock::Clock;
use crate::config::access::ApiKey;
use crate::http1::{Connection, Outgoing, lines};

/// Largest answer kept unless the question says otherwise: SGLang 0.5.23's `/server_info` has 37 kB.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// What the routers among the workers put on each answer (`proxy::headers` has milepost's).
const ROUTED: &str = "x-smg-routed-worker-id";

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Headers to send; `Host` is the worker's whatever they say.
    pub headers: HeaderMap,
    /// Body, sent as JSON if not empty and the headers do not say otherwise.
    pub body: Bytes,
    /// Longest wait for the whole answer.
    pub timeout: Duration,
    /// Largest answer kept, in bytes; a longer one is an error.
    pub max_answer_bytes: usize,
}

/// What a worker said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Its content type.
    pub content_type: Option<HeaderValue>,
    /// A router passed the question on to an engine: milepost and smg say so.
    pub routed: bool,
    /// The whole body.
    pub body: Bytes,
}

/// Why there is no answer, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The router could not ask, see [`ConnectError::is_shortage`]: nothing is known of the worker.
    NotAsked(String),
    /// The worker gave none, or none that could be used.
    FromWorker(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked(why) | Self::FromWorker(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for NoAnswer {}

impl Question {
    /// A plain GET.
    pub fn get(path: &str, timeout: Duration) -> Self {
        Self {
            method: Method::GET,
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout,
            max_answer_bytes: MAX_ANSWER_BYTES,
        }
    }
}

/// Asks.
pub async fn ask(
    worker: &Worker,
    clock: &Clock,
    question: &Question,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    ask_whole(worker, clock, question).await.map(|answer| (answer.status, answer.body))
}

/// As [`ask`], with what the answer is made of.
pub async fn ask_whole(worker: &Worker, clock: &Clock, question: &Question) -> Result<Answer, NoAnswer> {
    let asked = ask_now(worker, clock, question);
    match tokio::time::timeout(question.timeout, asked).await {
        Ok(result) => result,
        Err(_) => {
            let waited_s = question.timeout.as_secs_f64();
            Err(NoAnswer::FromWorker(format!("{}: no answer in {waited_s:.1} s", path_alone(question))))
        }
    }
}

async fn ask_now(worker: &Worker, clock: &Clock, question: &Question) -> Result<Answer, NoAnswer> {
    // A fresh connection: a probe must not be the one that finds a stale one, and it proves that the worker accepts,
    // where its name leads now.
    let mut connection =
        worker.connect_anew(clock).await.map_err(|ConnectError { message, is_shortage }| {
            if is_shortage { NoAnswer::NotAsked(message) } else { NoAnswer::FromWorker(message) }
        })?;
    exchange(&mut connection, worker, question).await.map_err(|broken| NoAnswer::FromWorker(broken.why))
}

/// Why a connection brought no answer.
#[derive(Debug)]
pub struct Broken {
    /// In words.
    pub why: String,
    /// It had been used before, and its peer was closing it: on a fresh one the question is no second try.
    pub closing_race: bool,
}

/// Asks on a connection that is there; the question's time-out is the caller's to keep.
pub async fn exchange(
    connection: &mut Connection,
    worker: &Worker,
    question: &Question,
) -> Result<Answer, Broken> {
    let fail = |what: &dyn fmt::Display| Broken {
        why: format!("{}: {what}", path_alone(question)),
        closing_race: false,
    };
    let path: Uri = question.path.parse().map_err(|e: http::uri::InvalidUri| fail(&e))?;
    let head = head(worker, question, &path);
    let request = Outgoing::new([head.as_bytes(), &question.body]);
    let to_head = question.method == Method::HEAD;
    let sent = connection.send(request, to_head).await;
    let answer = sent.map_err(|e| Broken { closing_race: e.closing_race, ..fail(&e.error) })?;
    let content_type = connection.field("content-type").and_then(|v| HeaderValue::from_bytes(v).ok());
    let routed = connection.field(ROUTED).is_some();
    let body = connection
        .collect(question.max_answer_bytes)
        .await
        .map_err(|e| fail(&format_args!("status {}, but {e}", answer.status)))?;
    let status = StatusCode::from_u16(answer.status).map_err(|e| fail(&e))?;
    Ok(Answer { status, content_type, routed, body })
}

/// The bytes of a question's head, as the worker at hand must see them.
pub fn head(worker: &Worker, question: &Question, path: &Uri) -> Buffer {
    let has_body =
        !question.body.is_empty() || question.method == Method::POST || question.method == Method::PUT;
    let body_bytes = has_body.then_some(question.body.len() as u64);
    lines::request_head(&question.method, path, &headers(worker, question), body_bytes)
}

fn headers(worker: &Worker, question: &Question) -> HeaderMap {
    let mut headers = question.headers.clone();
    headers.insert(HOST, worker.host_value.clone());
    if !headers.contains_key(AUTHORIZATION)
        && let Some(value) = worker.api_key.as_ref().and_then(ApiKey::bearer)
    {
        headers.insert(AUTHORIZATION, value.clone());
    }
    if !question.body.is_empty() && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers
}

/// A query may hold what a client keeps to itself.
fn path_alone(question: &Question) -> &str {
    question.path.split('?').next().unwrap_or_default()
}
