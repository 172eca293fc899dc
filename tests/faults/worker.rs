//! A worker that does what a row says, over a pipe or a socket, and knows how each of its connections ended.
//!
//! Rule: a connection that carried only the router's own questions is not counted. Deliberately not here: engines
//! (`milepost worker` is a simulated one).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::net::{Io, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::client::find;
use crate::events::{AT_ONCE, Events};
use crate::text;

/// What a worker does with one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes these bytes.
    Send(Vec<u8>),
    /// Writes them one at a time.
    Drip(Vec<u8>, Duration),
    /// Waits until the row says so.
    Wait(Arc<Notify>),
    /// Waits for its turn.
    Pass(Arc<Semaphore>),
    /// Waits this long.
    Pause(Duration),
    /// Closes the connection in good order.
    Close,
    /// Resets it (sockets only).
    Reset,
    /// Says nothing more; ends when the router closes.
    UntilClosed,
}

/// How much of a request is read before the script begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// All of it.
    Whole,
    /// Its head; what follows is left where it is.
    Head,
}

/// One request as a worker got it.
#[derive(Clone, Debug)]
pub struct Got {
    /// Its head.
    pub head: String,
    /// Its body; empty where only the head was read.
    pub body: Vec<u8>,
    /// How many requests its connection had carried before.
    pub earlier: usize,
}

impl Got {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        text::header(&self.head, name)
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By the router at this time.
    Router(Duration),
    /// By the router at this time, after a whole answer.
    Idle(Duration),
    Worker,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    own: bool,
    end: Option<End>,
}

type Script = Arc<dyn Fn(&Got) -> Vec<Step> + Send + Sync>;

/// What a worker knows.
#[derive(Debug, Default)]
struct Log {
    got: Mutex<Vec<Got>>,
    connections: Mutex<Vec<Connection>>,
}

/// A worker.
#[derive(Clone)]
pub struct Worker {
    /// Its URL.
    pub url: String,
    log: Arc<Log>,
    accepting: Arc<JoinHandle<()>>,
    gone: Arc<Notify>,
}

impl Worker {
    /// Serves what comes to `listener`.
    pub fn start(
        url: String,
        mut listener: Listener,
        reads: Reads,
        events: Arc<Events>,
        script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let (log, script, gone) = (Arc::new(Log::default()), Arc::new(script) as Script, Arc::default());
        let (kept, dying) = (Arc::clone(&log), Arc::clone(&gone));
        let accepting = tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let events = Arc::clone(&events);
                let (log, script, dying) = (Arc::clone(&log), Arc::clone(&script), Arc::clone(&dying));
                tokio::spawn(async move {
                    let number = log.begin();
                    let dying: Arc<Notify> = dying;
                    let conversing = converse(io, reads, &log, &script, (number, &events));
                    let end = tokio::select! {
                        end = conversing => end,
                        () = dying.notified() => End::Worker,
                    };
                    log.connections.lock().unwrap()[number].end = Some(end);
                    if end == End::Worker {
                        events.mark();
                    }
                });
            }
        });
        Self { url, log: kept, accepting: Arc::new(accepting), gone }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        let address = self.url.strip_prefix("http://").unwrap();
        address.parse::<SocketAddr>().unwrap().port()
    }

    /// Clients' requests so far.
    pub fn requests(&self) -> Vec<Got> {
        self.log.got.lock().unwrap().clone()
    }

    /// Ends it as a process ends: it listens no more, and all its connections close.
    pub fn kill(&self) {
        self.accepting.abort();
        self.gone.notify_waiters();
    }

    /// Connections that are open, the router's own questions included.
    pub fn open(&self) -> usize {
        self.log.connections.lock().unwrap().iter().filter(|c| c.end.is_none()).count()
    }

    /// How each connection that carried a client's request ended.
    pub fn ends(&self, events: &Events, times: bool) -> Vec<String> {
        let connections = self.log.connections.lock().unwrap();
        let carried = connections.iter().filter(|c| !c.own);
        let say = |connection: &Connection| match connection.end {
            None => "kept".to_owned(),
            Some(End::Worker) => "ended by the worker".to_owned(),
            // One that was kept is closed when it has been idle for long, and not because of anything.
            Some(End::Idle(at)) if !times || events.before(at) > AT_ONCE => "kept".to_owned(),
            Some(End::Router(at) | End::Idle(at)) if times => {
                format!("closed after {}", crate::told::time(events.before(at)))
            }
            Some(End::Router(_) | End::Idle(_)) => "closed".to_owned(),
        };
        carried.map(say).collect()
    }
}

impl Log {
    fn begin(&self) -> usize {
        let mut connections = self.connections.lock().unwrap();
        connections.push(Connection { own: false, end: None });
        connections.len() - 1
    }
}

/// One connection to its end.
async fn converse(
    mut io: Io,
    reads: Reads,
    log: &Log,
    script: &Script,
    (number, events): (usize, &Events),
) -> End {
    let mut buffer = Vec::new();
    let mut earlier = 0;
    loop {
        let Some((head, body)) = read_message(&mut io, &mut buffer, reads).await else {
            let now = events.now();
            return if buffer.is_empty() && earlier > 0 { End::Idle(now) } else { End::Router(now) };
        };
        let got = Got { head, body, earlier };
        // The router's own questions carry no request id; they are not what a script is about.
        if got.header("x-request-id").is_none() {
            log.connections.lock().unwrap()[number].own = true;
            let status = if got.head.starts_with("GET /health ") { "200 OK" } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            if io.write_all(answer.as_bytes()).await.is_err() {
                return End::Router(events.now());
            }
            continue;
        }
        earlier += 1;
        log.got.lock().unwrap().push(got.clone());
        for step in script(&got) {
            if let Some(end) = take(step, &mut io, events).await {
                return end;
            }
        }
    }
}

/// One step; the end, if that was it.
async fn take(step: Step, io: &mut Io, events: &Events) -> Option<End> {
    match step {
        Step::Send(bytes) => {
            if io.write_all(&bytes).await.is_err() {
                return Some(End::Router(events.now()));
            }
            events.mark();
        }
        Step::Drip(bytes, every) => {
            for byte in bytes {
                if io.write_all(&[byte]).await.is_err() {
                    return Some(End::Router(events.now()));
                }
                events.mark();
                tokio::time::sleep(every).await;
            }
        }
        Step::Wait(notify) => notify.notified().await,
        Step::Pass(turns) => turns.acquire().await.unwrap().forget(),
        Step::Pause(time) => tokio::time::sleep(time).await,
        Step::Close => return Some(End::Worker),
        Step::Reset => {
            if let Io::Tcp(stream) = io {
                stream.set_zero_linger().unwrap();
            }
            return Some(End::Worker);
        }
        Step::UntilClosed => {
            let mut rest = [0; 4096];
            while !matches!(io.read(&mut rest).await, Ok(0) | Err(_)) {}
            return Some(End::Router(events.now()));
        }
    }
    None
}

/// A message with a known length, or the part of it that is wanted.
async fn read_message(io: &mut Io, buffer: &mut Vec<u8>, reads: Reads) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end + 4]).into_owned();
            let length = head.lines().find_map(|l| {
                l.to_ascii_lowercase().strip_prefix("content-length:").map(|v| v.trim().parse().unwrap())
            });
            let length = if reads == Reads::Head { 0 } else { length.unwrap_or(0usize) };
            if buffer.len() >= end + 4 + length {
                let body = buffer[end + 4..end + 4 + length].to_vec();
                buffer.drain(..end + 4 + length);
                return Some((head, body));
            }
        }
        if io.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Bytes to be written.
pub fn send(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// A plain JSON answer.
pub fn json(status: u16, body: &str) -> Step {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    send(head + body)
}

/// A plain /generate answer with one token.
pub fn ok() -> Vec<Step> {
    vec![json(
        200,
        r#"{"text":"w","meta_info":{"id":"x","finish_reason":{"type":"length","length":1},"prompt_tokens":3,"completion_tokens":1}}"#,
    )]
}

/// The head of a chunked event stream.
pub fn stream_head() -> Step {
    send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
}

/// One chunk.
pub fn chunk(data: &str) -> Step {
    send(format!("{:x}\r\n{data}\r\n", data.len()))
}

/// One event with so many tokens so far.
pub fn event(tokens: u32) -> Step {
    chunk(&format!(
        "data: {{\"text\":\"w\",\"meta_info\":{{\"id\":\"x\",\"finish_reason\":null,\"prompt_tokens\":5,\"completion_tokens\":{tokens}}}}}\n\n"
    ))
}

/// The end of a stream.
pub fn done() -> Step {
    let mut bytes = Vec::new();
    for step in [chunk("data: [DONE]\n\n"), send("0\r\n\r\n")] {
        if let Step::Send(part) = step {
            bytes.extend(part);
        }
    }
    Step::Send(bytes)
}

/// Does `first` with the first request, `then` with all others.
pub fn first(first: Vec<Step>, then: Vec<Step>) -> impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static {
    let told = std::sync::atomic::AtomicBool::new(false);
    move |_| if told.swap(true, std::sync::atomic::Ordering::Relaxed) { then.clone() } else { first.clone() }
}
