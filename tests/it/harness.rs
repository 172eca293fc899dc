//! A router, scripted workers and a raw client.
//!
//! Rule: no fixed port, no sleep as synchronisation; a worker shows the very bytes it got.

#[path = "text.rs"]
mod text;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::{RouteConfig, worker_urls};
use milepost::net::{Connector, Listener};
use milepost::proxy::Shared;
use milepost::proxy::serve::Router;
use milepost::trace::record::{Record, RequestRecord};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

pub use text::{find, post, post_with};

/// Longest wait for anything; a test that needs it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a scripted worker does with one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Write these bytes.
    Send(Vec<u8>),
    /// Wait until the test says so.
    Wait(Arc<Notify>),
    /// Close the connection.
    Close,
    /// Never answer; ends when the router closes.
    UntilClosed(Arc<Notify>),
}

/// One request as a worker got it.
#[derive(Clone, Debug)]
pub struct Got {
    pub head: String,
    pub body: Vec<u8>,
    /// Number of its connection among those that carried clients' requests, from 0.
    pub connection: usize,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        text::header(&self.head, name)
    }
}

pub type Script = Arc<dyn Fn(&Got) -> Vec<Step> + Send + Sync>;

/// A worker that follows a script.
pub struct Worker {
    pub url: String,
    pub got: Arc<Mutex<Vec<Got>>>,
}

impl Worker {
    pub async fn start(script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got = Arc::new(Mutex::new(Vec::new()));
        let (log, script): (_, Script) = (Arc::clone(&got), Arc::new(script));
        tokio::spawn(async move {
            let connections = Arc::new(AtomicU64::new(0));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(converse(
                    stream,
                    Arc::clone(&connections),
                    Arc::clone(&log),
                    Arc::clone(&script),
                ));
            }
        });
        Self { url, got }
    }

    pub fn requests(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

pub async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connections: Arc<AtomicU64>,
    log: Arc<Mutex<Vec<Got>>>,
    script: Script,
) {
    let mut buffer = Vec::new();
    let mut number = None;
    while let Some((head, body)) = read_message(&mut stream, &mut buffer).await {
        let mut got = Got { head, body, connection: 0 };
        // The router's own questions carry no request id; they are not what a script is about.
        if got.header("x-request-id").is_none() && !got.head.contains("/flush_cache") {
            if stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
            continue;
        }
        got.connection = *number.get_or_insert_with(|| connections.fetch_add(1, Ordering::Relaxed) as usize);
        log.lock().unwrap().push(got.clone());
        for step in script(&got) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Wait(notify) => notify.notified().await,
                Step::Close => return,
                Step::UntilClosed(closed) => {
                    let mut rest = [0; 64];
                    while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {}
                    closed.notify_one();
                    return;
                }
            }
        }
    }
}

/// One HTTP message with a known length.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end + 4]).into_owned();
            let length = head
                .lines()
                .find_map(|l| {
                    l.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().parse().unwrap())
                })
                .unwrap_or(0usize);
            if buffer.len() >= end + 4 + length {
                let body = buffer[end + 4..end + 4 + length].to_vec();
                buffer.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// A plain JSON answer.
pub fn json(body: &str) -> Vec<Step> {
    vec![Step::Send(
        format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into(),
    )]
}

/// A plain /generate answer with one token.
pub fn ok() -> Vec<Step> {
    json(
        r#"{"text":"w","meta_info":{"id":"x","finish_reason":{"type":"length","length":1},"prompt_tokens":3,"completion_tokens":1}}"#,
    )
}

/// The head of a chunked event stream.
pub fn stream_head() -> Step {
    Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".to_vec())
}

/// One chunk.
pub fn chunk(data: &str) -> Step {
    Step::Send(format!("{:x}\r\n{data}\r\n", data.len()).into())
}

/// The chunk that ends a body.
pub fn end() -> Step {
    Step::Send(b"0\r\n\r\n".to_vec())
}

/// A /generate stream of `tokens` tokens.
pub fn generate_stream(tokens: u32) -> Vec<Step> {
    let mut steps = vec![stream_head()];
    for n in 1..=tokens {
        let finish = if n == tokens { r#"{"type":"length","length":0}"# } else { "null" };
        steps.push(chunk(&format!(
            "data: {{\"text\":\"{}\",\"meta_info\":{{\"id\":\"x\",\"finish_reason\":{finish},\"prompt_tokens\":5,\"completion_tokens\":{n},\"cached_tokens\":2}}}}\n\n",
            "w ".repeat(n as usize)
        )));
    }
    steps.push(chunk("data: [DONE]\n\n"));
    steps.push(end());
    steps
}

/// A router under test.
pub struct TestRouter {
    pub addr: SocketAddr,
    pub shared: Arc<Shared>,
    trace: PathBuf,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl TestRouter {
    /// Starts with health checks off, so that a script sees clients' requests alone.
    pub async fn start(workers: &[&Worker]) -> Self {
        Self::with(workers, |_| {}).await
    }

    pub async fn with(workers: &[&Worker], change: impl FnOnce(&mut RouteConfig)) -> Self {
        let urls: Vec<String> = workers.iter().map(|w| w.url.clone()).collect();
        Self::with_urls(&urls, change).await
    }

    pub async fn with_urls(urls: &[String], change: impl FnOnce(&mut RouteConfig)) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), None, urls, change)
    }

    /// On these sockets; the second one is that of `/metrics`.
    pub fn on(
        listener: TcpListener,
        metrics: Option<TcpListener>,
        urls: &[String],
        change: impl FnOnce(&mut RouteConfig),
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let addr = listener.local_addr().unwrap();
        let name =
            format!("milepost-it-{}-{}.jsonl", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let trace = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&trace);
        let mut config = RouteConfig {
            workers: worker_urls(urls, "127.0.0.1", 0).unwrap(),
            policy: "round_robin".to_owned(),
            trace_log: Some(trace.clone()),
            shutdown_grace: PATIENCE,
            ..RouteConfig::default()
        };
        config.health.enabled = false;
        change(&mut config);
        let connector = Connector::Tcp { timeout: PATIENCE };
        let router = Router::start(config, &addr.to_string(), Clock::system(), connector).unwrap();
        let shared = Arc::clone(router.shared());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(router.serve(Listener::Tcp(listener), metrics.map(Listener::Tcp), stopped));
        Self { addr, shared, trace, stop, task }
    }

    /// Asks it to end, as a signal does.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Stops it and leaves its trace where it is, for tests of where that is.
    pub async fn end(self) {
        self.stop();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the router stops").unwrap();
    }

    /// Stops it and returns its whole trace; checks that requests = records + lost and that nothing is held any more.
    pub async fn finish(self) -> Vec<Record> {
        self.stop();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the router stops").unwrap();
        let text = std::fs::read_to_string(&self.trace).unwrap();
        std::fs::remove_file(&self.trace).unwrap();
        let records: Vec<Record> = text.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
        let written = records.iter().filter(|r| matches!(r, Record::Request(_))).count() as u64;
        let lost: u64 = records.iter().map(|r| if let Record::Lost(l) = r { l.requests } else { 0 }).sum();
        assert_eq!(self.shared.requests.load(Ordering::Relaxed), written + lost, "requests = records + lost");
        assert_eq!(self.shared.budget.used_bytes(), 0, "body memory is back");
        if let Some(limit) = &self.shared.limit {
            let counts = limit.counts();
            assert_eq!((counts.running, counts.queued), (0, 0), "every place is back");
        }
        for worker in self.shared.fleet.workers() {
            assert_eq!(worker.in_flight(), 0, "lease at {} is back", worker.url);
        }
        records
    }

    /// As [`Self::finish`], the request records alone, in order of arrival.
    pub async fn finish_requests(self) -> Vec<RequestRecord> {
        let records = self.finish().await;
        let mut requests: Vec<RequestRecord> = records
            .into_iter()
            .filter_map(|r| if let Record::Request(r) = r { Some(*r) } else { None })
            .collect();
        requests.sort_by_key(|r| r.seq);
        requests
    }
}

/// Why a router does not start with this configuration.
pub fn start_error(config: RouteConfig) -> String {
    let connector = Connector::Tcp { timeout: PATIENCE };
    Router::start(config, "127.0.0.1:1", Clock::system(), connector)
        .err()
        .expect("it does not start")
        .to_string()
}

/// A response as a client got it.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The body ended as announced.
    pub whole: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        text::header(&self.head, name)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client on one connection, byte for byte.
pub struct Client<S = TcpStream> {
    pub stream: S,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::on(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn on(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads at least until `needle` has come.
    pub async fn read_until(&mut self, needle: &str) {
        let wait = async {
            while find(&self.buffer, needle.as_bytes()).is_none() {
                assert_ne!(
                    self.stream.read_buf(&mut self.buffer).await.unwrap(),
                    0,
                    "closed before {needle:?}"
                );
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the needle comes");
    }

    /// Reads one response.
    pub async fn response(&mut self) -> Response {
        tokio::time::timeout(PATIENCE, self.read_response()).await.expect("a response in time")
    }

    /// Reads the head of a response that has no body whatever its headers say (HEAD, 204, 304).
    pub async fn response_head(&mut self) -> Response {
        tokio::time::timeout(PATIENCE, self.read_head()).await.expect("a head in time")
    }

    async fn read_head(&mut self) -> Response {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap_or(0);
            assert_ne!(read, 0, "closed before a head: {:?}", String::from_utf8_lossy(&self.buffer));
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        Response { status: head[9..12].parse().unwrap(), head, body: Vec::new(), whole: true }
    }

    async fn read_response(&mut self) -> Response {
        let mut response = self.read_head().await;
        let length = response.header("content-length").map(|v| v.parse::<usize>().unwrap());
        if response.header("transfer-encoding") == Some("chunked") {
            response.whole = self.read_chunks(&mut response.body).await;
        } else if let Some(length) = length {
            while self.buffer.len() < length {
                if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    response.whole = false;
                    break;
                }
            }
            let length = length.min(self.buffer.len());
            response.body = self.buffer.drain(..length).collect();
        }
        response
    }

    async fn read_chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            if let Some(line_end) = find(&self.buffer, b"\r\n") {
                let size =
                    usize::from_str_radix(&String::from_utf8_lossy(&self.buffer[..line_end]), 16).unwrap();
                if self.buffer.len() >= line_end + 4 + size {
                    body.extend_from_slice(&self.buffer[line_end + 2..line_end + 2 + size]);
                    self.buffer.drain(..line_end + 4 + size);
                    if size == 0 {
                        return true;
                    }
                    continue;
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return false;
            }
        }
    }
}

/// A URL on which nothing listens.
pub fn dead_url() -> String {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    // Bound and not listening, it refuses; kept to the end of the process, nobody else is given its port.
    std::mem::forget(socket);
    url
}

/// Sends one request on a fresh connection.
pub async fn ask(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let mut client = Client::connect(addr).await;
    client.send(bytes).await;
    client.response().await
}

/// Scripted answers one after the other; the last one repeats.
pub fn sequence(answers: Vec<Vec<Step>>) -> impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static {
    let left = Mutex::new(VecDeque::from(answers));
    move |_| {
        let mut left = left.lock().unwrap();
        if left.len() > 1 { left.pop_front().unwrap() } else { left[0].clone() }
    }
}
