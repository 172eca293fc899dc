//! One request: send, read, stamp.
//!
//! Rule: no silent retry. A reused connection that dies before any byte of an answer (a server closes idle ones, and a race
//! remains) is replaced by a fresh one once, and that is counted and inside the latency; everything else is a failure of the
//! request. Whatever ends it, what was seen up to then stays. Deliberately not here: when requests are sent, see `arrivals`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::connections::Connections;
use super::failure::{Class, Failure, of_connection, of_opening};
use crate::admin::trace_tail::NEXT;
use crate::buffer::Buffer;
use crate::clock::Clock;
use crate::http1::head::ResponseHead;
use crate::http1::{self, Connection, lines};
use crate::wire::Endpoint;
use crate::wire::answer::{Answer, AnswerReader};

/// Header of every answer of a simulated worker.
const SIMULATED: &str = "x-milepost-simulated";
/// Header of every answer that passed a milepost router.
const WORKER_URL: &str = "x-worker-url";
/// Longest answer of a request that is not part of the load.
const SIMPLE_BYTES: usize = 256 << 20;

/// When the steps of one request happened, `CLOCK_MONOTONIC` nanoseconds of this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// A connection was in hand; of several, the first.
    pub connected_ns: Option<u64>,
    /// Just before the first byte was written, on the first connection.
    pub write_begun_ns: Option<u64>,
    /// The first write returned, on the first connection: the request is on its way. This is "sent".
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
    /// The answer's body, where it is needed.
    pub body: Option<BytesMut>,
}

/// A request ready to be sent.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Path with the target's prefix.
    pub path: Uri,
    /// What the path means.
    pub endpoint: Endpoint,
    /// It asks for several answers in one.
    pub multiple: bool,
    /// JSON.
    pub body: Bytes,
    /// The answer's body is needed.
    pub keep_answer: bool,
    /// Headers of this request.
    pub headers: HeaderMap,
}

/// The answer of a request that is not part of the load.
#[derive(Clone, Debug)]
pub struct SimpleAnswer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
    /// A simulated worker made it.
    pub simulated: bool,
    /// The cursor behind it, where it is a page of a router's trace.
    pub next: Option<String>,
}

/// Sees pieces of a body as they come, and when each was read.
pub type Watch<'a> = &'a mut (dyn FnMut(&[u8], u64) + Send);

/// Sends requests to one target.
#[derive(Debug)]
pub struct Client {
    /// Its connections.
    pub connections: Arc<Connections>,
    clock: Clock,
    /// Of every request.
    headers: HeaderMap,
    limits: Limits,
}

/// What an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From connecting to the last byte.
    pub whole: Duration,
    /// From one byte of the answer to the next.
    pub silence: Duration,
}

impl From<Duration> for Limits {
    /// One for both.
    fn from(limit: Duration) -> Self {
        Self { whole: limit, silence: limit }
    }
}

/// A request in progress: kept outside the future that a time-out drops.
#[derive(Default)]
struct Progress {
    seen: Exchange,
    reader: Option<AnswerReader>,
    connection: Option<Connection>,
}

impl Progress {
    /// Notes what the connection in hand knows. A first write stays the first, or the time that a dead connection took would
    /// be in no latency from send.
    fn note_connection(&mut self) {
        if let Some(connection) = &self.connection {
            let stamps = &mut self.seen.stamps;
            stamps.sent_ns = stamps.sent_ns.or(connection.first_write_ns());
            stamps.first_byte_ns = connection.first_read_ns();
            self.seen.reused_connection = connection.is_reused();
        }
    }
}

/// Why there is no head of an answer.
struct Unanswered {
    failure: Failure,
    /// The connection was an idle one that the server may just have closed.
    stale: bool,
}

impl Client {
    /// `headers` go with every request.
    pub fn new(
        connections: Connections,
        clock: Clock,
        host_port: &str,
        headers: &HeaderMap,
        limits: impl Into<Limits>,
    ) -> Result<Self, String> {
        let host =
            HeaderValue::from_str(host_port).map_err(|_| format!("{host_port} cannot be a Host header"))?;
        let mut all = HeaderMap::with_capacity(headers.len() + 4);
        all.insert(HOST, host);
        all.extend(headers.clone());
        Ok(Self { connections: Arc::new(connections), clock, headers: all, limits: limits.into() })
    }

    /// Sends one request and reads its answer. `stop` ends it early.
    pub async fn exchange(&self, outgoing: &Outgoing, stop: impl Future<Output = ()>) -> Exchange {
        self.exchange_watched(outgoing, stop, &mut |_, _| ()).await
    }

    /// As [`Self::exchange`]; `watch` sees each piece of the body, and when it was read.
    pub async fn exchange_watched(
        &self,
        outgoing: &Outgoing,
        stop: impl Future<Output = ()>,
        watch: Watch<'_>,
    ) -> Exchange {
        let mut progress = Progress::default();
        progress.seen.body = outgoing.keep_answer.then(BytesMut::new);
        let heard_ns = AtomicU64::new(0);
        let mut watch = |piece: &[u8], at_ns: u64| {
            heard_ns.store(at_ns, Ordering::Relaxed);
            watch(piece, at_ns);
        };
        let travelled = async {
            tokio::select! {
                biased;
                () = stop => Some(Failure::new(Class::Interrupted, "ended by Ctrl-C")),
                result = self.travel(outgoing, &mut progress, &mut watch) => result.err(),
                () = self.silence(&heard_ns) => Some(self.fell_silent()),
            }
        };
        // Not one more branch: a target that always has more to read would never let the time be looked at.
        let ended =
            tokio::time::timeout(self.limits.whole, travelled).await.map_or(Some(None), |end| end.map(Some));
        progress.note_connection();
        let Progress { mut seen, reader, connection } = progress;
        match connection {
            Some(connection) if ended.is_none() => self.connections.park(connection),
            // Closed now, so that the server sees that nobody waits.
            other => drop(other),
        }
        seen.answer = reader.map(|r| r.finish(ended.is_none()));
        seen.failure = ended.map(|failure| failure.unwrap_or_else(|| self.timed_out(&seen.stamps)));
        seen
    }

    /// A request without a body that is not part of the load, on a connection of its own.
    pub async fn simple(&self, method: Method, path: &str, limit: Duration) -> Result<SimpleAnswer, String> {
        self.simple_with(method, path, None, limit).await
    }

    /// As [`Self::simple`], with a body of JSON where there is one.
    pub async fn simple_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        limit: Duration,
    ) -> Result<SimpleAnswer, String> {
        tokio::time::timeout(limit, self.simple_now(method, path, body.as_ref()))
            .await
            .map_err(|_| format!("{path}: no answer in {} s", limit.as_secs_f64()))?
    }

    async fn simple_now(
        &self,
        method: Method,
        path: &str,
        body: Option<&Bytes>,
    ) -> Result<SimpleAnswer, String> {
        let fail = |e: &dyn std::fmt::Display| format!("{path}: {e}");
        let mut connection = self.connections.open().await.map_err(|e| fail(&e))?;
        let path: Uri = path.parse().map_err(|e| fail(&e))?;
        let head = head(&method, &path, &self.headers, &HeaderMap::new(), body);
        let request = http1::Outgoing::new([head.as_bytes(), body.map_or(&[], |body| body)]);
        let answer = connection.send(request, method == Method::HEAD).await.map_err(|e| fail(&e.error))?;
        let simulated = connection.field(SIMULATED).is_some();
        let next = connection.field(NEXT).map(|next| String::from_utf8_lossy(next).into_owned());
        let body = connection.collect(SIMPLE_BYTES).await.map_err(|e| fail(&e))?;
        Ok(SimpleAnswer { status: answer.status, body, simulated, next })
    }

    /// Returns once nothing was heard for too long after the last piece of a body. One timer, moved when it rings: a stream has
    /// many pieces.
    async fn silence(&self, heard_ns: &AtomicU64) {
        loop {
            let left = match heard_ns.load(Ordering::Relaxed) {
                0 => self.limits.silence,
                at_ns => {
                    let silent = Duration::from_nanos(self.clock.mono_ns().saturating_sub(at_ns));
                    match self.limits.silence.checked_sub(silent) {
                        Some(left) if !left.is_zero() => left,
                        _ => return,
                    }
                }
            };
            tokio::time::sleep(left).await;
        }
    }

    fn fell_silent(&self) -> Failure {
        let silence_s = self.limits.silence.as_secs_f64();
        Failure::new(Class::Timeout, format!("the answer stopped: no byte for {silence_s} s, and no end"))
    }

    fn timed_out(&self, stamps: &Stamps) -> Failure {
        let what = match (stamps.connected_ns, stamps.first_byte_ns) {
            (None, _) => "no connection",
            (_, None) => "no byte",
            _ => "no end of the answer",
        };
        Failure::new(Class::Timeout, format!("{what} for {} s", self.limits.whole.as_secs_f64()))
    }

    async fn travel(
        &self,
        outgoing: &Outgoing,
        progress: &mut Progress,
        watch: Watch<'_>,
    ) -> Result<(), Failure> {
        let mut idle = self.connections.take();
        loop {
            let connection = match idle.take() {
                Some(connection) => connection,
                None => {
                    let opened = self.connections.open().await;
                    opened.map_err(|e| of_opening(&e))?
                }
            };
            progress.seen.stamps.connected_ns.get_or_insert_with(|| self.clock.mono_ns());
            progress.seen.same_host = Some(connection.link().same_host);
            let connection = progress.connection.insert(connection);
            match self.ask(connection, outgoing, &mut progress.seen).await {
                Ok(answer) => {
                    progress.reader = Some(reader(outgoing, connection, answer.status).with_token_times());
                    return self.read(progress, watch).await;
                }
                Err(Unanswered { failure, stale }) => {
                    progress.note_connection();
                    if !stale {
                        return Err(failure);
                    }
                    progress.connection = None;
                    progress.seen.reconnects += 1;
                }
            }
        }
    }

    async fn ask(
        &self,
        connection: &mut Connection,
        outgoing: &Outgoing,
        seen: &mut Exchange,
    ) -> Result<ResponseHead, Unanswered> {
        let head =
            head(&Method::POST, &outgoing.path, &self.headers, &outgoing.headers, Some(&outgoing.body));
        let request = http1::Outgoing::new([head.as_bytes(), &outgoing.body]);
        seen.stamps.write_begun_ns.get_or_insert_with(|| self.clock.mono_ns());
        let answer = connection
            .send(request, false)
            .await
            .map_err(|e| Unanswered { failure: of_connection(&e.error, false), stale: e.closing_race })?;
        seen.stamps.head_ns = Some(connection.last_read_ns());
        seen.status = Some(answer.status);
        seen.simulated = connection.field(SIMULATED).is_some();
        let worker_url = connection.field(WORKER_URL).and_then(|v| std::str::from_utf8(v).ok());
        seen.worker_url = worker_url.map(str::to_owned);
        Ok(answer)
    }

    /// Reads the body. The time of its bytes is that of the read that brought them, as in the router.
    async fn read(&self, progress: &mut Progress, watch: Watch<'_>) -> Result<(), Failure> {
        let Progress { seen, reader: Some(reader), connection: Some(connection) } = progress else {
            return Ok(());
        };
        loop {
            let mut show = |data: &[u8], at_ns| {
                seen.body_bytes += data.len() as u64;
                if let Some(body) = seen.body.as_mut().filter(|body| body.len() <= SIMPLE_BYTES) {
                    body.extend_from_slice(data);
                }
                watch(data, at_ns);
                reader.push(data, at_ns);
            };
            let more = connection.read_data(&mut show).await.map_err(|e| of_connection(&e, true))?;
            seen.stamps.last_byte_ns = Some(connection.last_read_ns());
            if !more {
                return Ok(());
            }
        }
    }
}

/// The bytes of a request head: what every request has, then what this one has.
fn head(method: &Method, path: &Uri, all: &HeaderMap, own: &HeaderMap, body: Option<&Bytes>) -> Buffer {
    static JSON: HeaderValue = HeaderValue::from_static("application/json");
    let has_type = all.contains_key(CONTENT_TYPE) || own.contains_key(CONTENT_TYPE);
    let missing_type = (body.is_some() && !has_type).then_some((&CONTENT_TYPE, &JSON));
    let kept = all.iter().filter(|(name, _)| !own.contains_key(*name));
    let fields = kept.chain(own).chain(missing_type);
    lines::request_head(method, path, fields, body.map(|body| body.len() as u64))
}

fn reader(outgoing: &Outgoing, connection: &Connection, status: u16) -> AnswerReader {
    let (encoding, content_type) = (connection.field("content-encoding"), connection.field("content-type"));
    AnswerReader::by_head(outgoing.endpoint, status, encoding, content_type, outgoing.multiple)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::load::target::Target;
    use crate::net::{Connector, PipeNet};

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_comes_faster_than_it_is_read_still_has_a_time() {
        const ROOM_BYTES: usize = 32 << 20;
        let net = PipeNet::with_room(ROOM_BYTES);
        let mut listener = net.listen(1);
        let serving = tokio::spawn(async move {
            let (mut io, _) = listener.accept().await.unwrap();
            io.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let more = vec![b'x'; ROOM_BYTES];
            // There is always more to read than a task may read in one turn.
            for second in 0..20 {
                if io.write_all(&more).await.is_err() {
                    return second;
                }
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            20
        });
        let clock = Clock::virtual_time(1_000, 0);
        let target = Target::parse("http://pipe:1").unwrap();
        let connections = Connections::to(&target, Connector::Pipes(net), clock.clone()).await.unwrap();
        let limits = Limits { whole: Duration::from_secs(5), silence: Duration::from_secs(60) };
        let client = Client::new(connections, clock, "pipe:1", &HeaderMap::new(), limits).unwrap();
        let outgoing = Outgoing {
            path: Uri::from_static("/x"),
            endpoint: Endpoint::Other,
            multiple: false,
            body: Bytes::new(),
            keep_answer: false,
            headers: HeaderMap::new(),
        };
        let seen = client.exchange(&outgoing, std::future::pending()).await;
        let failure = seen.failure.expect("it has no end");
        assert_eq!((failure.class, seen.status), (Class::Timeout, Some(200)));
        let closed_s = serving.await.unwrap();
        assert!((5..=6).contains(&closed_s), "the connection was closed after {closed_s} s");
    }
}
