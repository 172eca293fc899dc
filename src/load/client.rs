//! One request: send, read, stamp.
//!
//! Rule: no silent retry. A reused connection that dies before any byte of an answer (a server closes idle ones, and a race
//! remains) is replaced by a fresh one once, and that is counted; everything else is a failure of the request. Whatever ends
//! it, what was seen up to then stays. Deliberately not here: when requests are sent, see `run`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;

use super::connection::{Conn, Marks};
use super::failure::{Class, Failure, of_connection};
use super::pool::Pool;
use crate::clock::Clock;
use crate::wire::Endpoint;
use crate::wire::answer::{Answer, AnswerReader};

/// Header of every answer of a simulated worker.
const SIMULATED: &str = "x-milepost-simulated";
/// Longest answer of a request that is not part of the load.
const SIMPLE_BYTES: usize = 256 << 20;

/// When the steps of one request happened, `CLOCK_MONOTONIC` nanoseconds of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// A connection was in hand.
    pub connected_ns: Option<u64>,
    /// Just before the first byte was written.
    pub write_begun_ns: Option<u64>,
    /// The first write returned: the request is on its way. This is "sent".
    pub sent_ns: Option<u64>,
    /// First byte of the answer.
    pub first_byte_ns: Option<u64>,
    /// The answer's head was parsed.
    pub head_ns: Option<u64>,
    /// Last byte of the answer.
    pub last_byte_ns: Option<u64>,
}

/// What was seen of one request.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The steps.
    pub stamps: Stamps,
    /// Status of the answer.
    pub status: Option<u16>,
    /// The answer says that a simulated worker made it.
    pub simulated: bool,
    /// `x-worker-url`, by a router.
    pub worker_url: Option<String>,
    /// What the answer told; absent without a head.
    pub answer: Option<Answer>,
    /// What went wrong on the way; errors inside an answer are in `answer`.
    pub failure: Option<Failure>,
    /// The connection had carried a request before.
    pub reused_connection: bool,
    /// Dead idle connections replaced.
    pub reconnects: u32,
    /// Both ends of the connection are on one host.
    pub same_host: Option<bool>,
    /// Bytes of the answer's body.
    pub body_bytes: u64,
}

/// A request ready to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Path with the target's prefix.
    pub path: Uri,
    /// What the path means.
    pub endpoint: Endpoint,
    /// JSON.
    pub body: Bytes,
    /// Headers of this request.
    pub headers: HeaderMap,
}

/// The answer of a request that is not part of the load.
#[derive(Clone, Debug)]
pub struct SimpleAnswer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
    /// A simulated worker made it.
    pub simulated: bool,
}

/// Sends requests to one target.
#[derive(Debug)]
pub struct Client {
    /// Its connections.
    pub pool: Pool,
    clock: Clock,
    host: HeaderValue,
    headers: HeaderMap,
    timeout: Duration,
}

/// A request in progress: kept outside the future that a time-out drops.
#[derive(Default)]
struct Progress {
    seen: Exchange,
    reader: Option<AnswerReader>,
    marks: Option<Arc<Marks>>,
}

impl Progress {
    fn copy_marks(&mut self) {
        if let Some(marks) = &self.marks {
            let stamps = &mut self.seen.stamps;
            stamps.write_begun_ns = marks.write_begun_ns();
            stamps.sent_ns = marks.write_returned_ns();
            stamps.first_byte_ns = marks.first_read_ns();
            stamps.last_byte_ns = marks.last_read_ns();
        }
    }
}

impl Client {
    /// `headers` go with every request; `timeout` is for a whole exchange.
    pub fn new(
        pool: Pool,
        clock: Clock,
        host_port: &str,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Self, String> {
        let host =
            HeaderValue::from_str(host_port).map_err(|_| format!("{host_port} cannot be a Host header"))?;
        Ok(Self { pool, clock, host, headers, timeout })
    }

    /// Sends one request and reads its answer. `stop` ends it early.
    pub async fn exchange(&self, outgoing: &Outgoing, stop: impl Future<Output = ()>) -> Exchange {
        let mut progress = Progress::default();
        let ended = tokio::select! {
            biased;
            () = stop => Some(Some(Failure::new(Class::Interrupted, "ended by Ctrl-C"))),
            result = self.travel(outgoing, &mut progress) => result.err().map(Some),
            () = tokio::time::sleep(self.timeout) => Some(None),
        };
        // Where it ended well, the connection is parked and its marks may already be another request's.
        if ended.is_some() {
            progress.copy_marks();
        }
        let Progress { mut seen, reader, .. } = progress;
        seen.answer = reader.map(|r| r.finish(ended.is_none()));
        seen.failure = ended.map(|failure| failure.unwrap_or_else(|| self.timed_out(&seen.stamps)));
        seen
    }

    /// A request without a body that is not part of the load, on a connection of its own.
    pub async fn simple(&self, method: Method, path: &str, limit: Duration) -> Result<SimpleAnswer, String> {
        tokio::time::timeout(limit, self.simple_now(method, path))
            .await
            .map_err(|_| format!("{path}: no answer in {} s", limit.as_secs_f64()))?
    }

    async fn simple_now(&self, method: Method, path: &str) -> Result<SimpleAnswer, String> {
        let fail = |e: &dyn std::fmt::Display| format!("{path}: {e}");
        let mut conn = self.pool.open().await.map_err(|e| fail(&e))?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|e| fail(&e))?;
        request.headers_mut().insert(HOST, self.host.clone());
        request.headers_mut().extend(self.headers.clone());
        let answer = conn.send(request).await.map_err(|e| fail(&e))?;
        let status = answer.status().as_u16();
        let simulated = answer.headers().contains_key(SIMULATED);
        let mut incoming = answer.into_body();
        let mut body = Vec::new();
        while let Some(frame) = conn.frame(&mut incoming).await {
            if let Some(data) = frame.map_err(|e| fail(&e))?.data_ref() {
                if body.len() + data.len() > SIMPLE_BYTES {
                    return Err(format!("{path}: the answer is longer than {SIMPLE_BYTES} bytes"));
                }
                body.extend_from_slice(data);
            }
        }
        Ok(SimpleAnswer { status, body, simulated })
    }

    fn timed_out(&self, stamps: &Stamps) -> Failure {
        let what = match (stamps.connected_ns, stamps.first_byte_ns) {
            (None, _) => "no connection",
            (_, None) => "no byte",
            _ => "no end of the answer",
        };
        Failure::new(Class::Timeout, format!("{what} for {} s", self.timeout.as_secs_f64()))
    }

    async fn travel(&self, outgoing: &Outgoing, progress: &mut Progress) -> Result<(), Failure> {
        let mut idle = self.pool.take().await;
        loop {
            let from_pool = idle.is_some();
            let mut conn = match idle.take() {
                Some(conn) => conn,
                None => self.pool.open().await.map_err(|e| Failure::new(Class::Connect, e.to_string()))?,
            };
            progress.marks = Some(conn.marks());
            progress.seen.stamps.connected_ns = Some(self.clock.mono_ns());
            progress.seen.reused_connection = conn.carried > 0;
            progress.seen.same_host = Some(conn.same_host);
            match self.ask(&mut conn, outgoing, progress).await {
                Ok(answer) => {
                    read(&mut conn, answer, progress).await?;
                    self.pool.park(conn).await;
                    return Ok(());
                }
                Err(failure) => {
                    let no_byte = conn.marks().first_read_ns().is_none();
                    if !(from_pool && no_byte && failure.class == Class::Reset) {
                        return Err(failure);
                    }
                    progress.seen.reconnects += 1;
                }
            }
        }
    }

    async fn ask(
        &self,
        conn: &mut Conn,
        outgoing: &Outgoing,
        progress: &mut Progress,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(outgoing.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = outgoing.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.headers.clone());
        headers.extend(outgoing.headers.clone());
        let answer = conn.send(request).await.map_err(|e| of_connection(&e, false))?;
        let head_ns = self.clock.mono_ns();
        progress.seen.stamps.head_ns = Some(head_ns);
        let status = answer.status().as_u16();
        progress.seen.status = Some(status);
        let header = |name: &str| answer.headers().get(name).and_then(|v| v.to_str().ok());
        progress.seen.simulated = answer.headers().contains_key(SIMULATED);
        progress.seen.worker_url = header("x-worker-url").map(str::to_owned);
        let event_stream = header("content-type").is_some_and(|t| t.starts_with("text/event-stream"));
        progress.reader =
            Some(AnswerReader::new(outgoing.endpoint, status, event_stream, false).with_token_times());
        Ok(answer)
    }
}

async fn read(conn: &mut Conn, answer: Response<Incoming>, progress: &mut Progress) -> Result<(), Failure> {
    let mut body = answer.into_body();
    while let Some(frame) = conn.frame(&mut body).await {
        let frame = frame.map_err(|e| of_connection(&e, true))?;
        if let (Some(data), Some(reader)) = (frame.data_ref(), progress.reader.as_mut()) {
            progress.seen.body_bytes += data.len() as u64;
            reader.push(data, conn.marks().last_read_ns().unwrap_or_default());
        }
    }
    progress.copy_marks();
    Ok(())
}
