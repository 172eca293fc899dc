//! The server that all tools are pointed at: it stamps what arrives and sends tokens on a fixed beat.
//!
//! Rule: an arrival is stamped when the read that brought the first byte of its request returned, before anything of it is looked
//! at, and a first token when its write returned, so that what a tool reports can be held against what was. It speaks
//! `/generate`, `/v1/completions` and `/v1/chat/completions`, streamed. Deliberately not here: an engine.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use milepost::clock::Clock;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::answers::Dialect;
use crate::process;

/// A head or a body longer than this ends the connection.
const MOST_BYTES: usize = 4 << 20;
/// Tokens of an answer to a request that does not say.
const TOKENS: u64 = 16;
/// Tokens of an answer at most.
const MOST_TOKENS: u64 = 100_000;

/// What became of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Its first byte.
    pub arrived_ns: u64,
    /// Its first token was written; 0: not yet.
    pub first_token_ns: u64,
    /// Its last byte was written; 0: not yet.
    pub ended_ns: u64,
    /// Tokens written.
    pub tokens: u64,
}

/// When the tokens of an answer come.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// Arrival to the first.
    pub first: Duration,
    /// From one to the next.
    pub gap: Duration,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    seen: Mutex<Vec<Seen>>,
    first_ns: AtomicU64,
    gap_ns: AtomicU64,
}

/// A thread that serves as long as the process lives.
pub struct Server {
    /// Where.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts it on these cores; `home` are those of the calling thread.
    pub fn start(cores: &[usize], home: &[usize]) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            clock: Clock::system(),
            seen: Mutex::default(),
            first_ns: AtomicU64::new(0),
            gap_ns: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let served = Arc::clone(&shared);
        process::pin(cores)?;
        let started = std::thread::Builder::new().name("server".to_owned()).spawn(move || {
            runtime.block_on(accept(listener, served));
        });
        process::pin(home)?;
        started?;
        Ok(Self { address, shared })
    }

    /// Answers from now on are made so.
    pub fn keep(&self, beat: Beat) {
        self.shared.first_ns.store(beat.first.as_nanos() as u64, Ordering::Relaxed);
        self.shared.gap_ns.store(beat.gap.as_nanos() as u64, Ordering::Relaxed);
    }

    /// What was seen since the last call, by arrival.
    pub fn take(&self) -> Vec<Seen> {
        let mut seen = std::mem::take(&mut *self.shared.seen());
        seen.sort_by_key(|s| s.arrived_ns);
        seen
    }
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, place: usize, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.seen().get_mut(place) {
            change(seen);
        }
    }
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A tool that leaves ends its connection and nothing else.
            let _ = stream.set_nodelay(true);
            let _ = serve(stream, &shared).await;
        });
    }
}

/// One request of a connection.
struct Request {
    arrived_ns: u64,
    get: bool,
    path: String,
    body: Vec<u8>,
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut held = Vec::with_capacity(4096);
    while let Some(request) = request(&mut stream, &mut held, &shared.clock).await? {
        match Dialect::of(&request.path).filter(|_| !request.get) {
            Some(dialect) => answer(&mut stream, shared, dialect, &request).await?,
            None => plain(&mut stream, &request.path).await?,
        }
    }
    Ok(())
}

async fn request(stream: &mut TcpStream, held: &mut Vec<u8>, clock: &Clock) -> io::Result<Option<Request>> {
    if held.is_empty() && stream.read_buf(held).await? == 0 {
        return Ok(None);
    }
    let arrived_ns = clock.mono_ns();
    let head_bytes = loop {
        if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, held).await?;
    };
    let text = String::from_utf8_lossy(&held[..head_bytes]).into_owned();
    let mut first = text.split_whitespace();
    let (get, path) = (first.next() != Some("POST"), first.next().unwrap_or_default().to_owned());
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.unwrap_or(0);
    while held.len() < head_bytes + length {
        more(stream, held).await?;
    }
    let body = held[head_bytes..head_bytes + length].to_vec();
    held.drain(..head_bytes + length);
    Ok(Some(Request { arrived_ns, get, path, body }))
}

async fn more(stream: &mut TcpStream, held: &mut Vec<u8>) -> io::Result<()> {
    if held.len() > MOST_BYTES || stream.read_buf(held).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

async fn answer(
    stream: &mut TcpStream,
    shared: &Shared,
    dialect: Dialect,
    request: &Request,
) -> io::Result<()> {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let tokens = asked_tokens(&body).unwrap_or(TOKENS).clamp(1, MOST_TOKENS);
    let place = {
        let mut seen = shared.seen();
        seen.push(Seen { arrived_ns: request.arrived_ns, ..Seen::default() });
        seen.len() - 1
    };
    let first = Duration::from_nanos(shared.first_ns.load(Ordering::Relaxed));
    let gap = Duration::from_nanos(shared.gap_ns.load(Ordering::Relaxed));
    let begun = Instant::now();
    if body["stream"] != true {
        sleep_until(begun + first + gap * (tokens - 1) as u32).await;
        shared.note(place, |seen| (seen.first_token_ns, seen.tokens) = (shared.clock.mono_ns(), tokens));
        let text = dialect.whole(tokens);
        stream.write_all(with_length("application/json", &text).as_bytes()).await?;
        shared.note(place, |seen| seen.ended_ns = shared.clock.mono_ns());
        return Ok(());
    }
    let mut out = String::from(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    for token in 1..=tokens {
        sleep_until(begun + first + gap * (token - 1) as u32).await;
        chunk(&mut out, &dialect.event(token, tokens));
        if token == tokens {
            dialect.end(tokens).iter().for_each(|event| chunk(&mut out, event));
            out.push_str("0\r\n\r\n");
        }
        stream.write_all(out.as_bytes()).await?;
        out.clear();
        if token == 1 || token == tokens {
            let now_ns = shared.clock.mono_ns();
            shared.note(place, |seen| {
                seen.tokens = token;
                if token == 1 {
                    seen.first_token_ns = now_ns;
                }
                if token == tokens {
                    seen.ended_ns = now_ns;
                }
            });
        }
    }
    Ok(())
}

/// What tools ask before they begin: models, health, the server's description.
async fn plain(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    let text = match path {
        "/v1/models" => {
            r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"m","max_model_len":32768}]}"#
        }
        _ => r#"{"model_path":"m","status":"ok","version":"0"}"#,
    };
    stream.write_all(with_length("application/json", text).as_bytes()).await
}

fn asked_tokens(body: &Value) -> Option<u64> {
    ["max_completion_tokens", "max_tokens"]
        .iter()
        .find_map(|name| body[name].as_u64())
        .or_else(|| body["sampling_params"]["max_new_tokens"].as_u64())
}

fn with_length(kind: &str, text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

fn chunk(out: &mut String, event: &str) {
    let event = format!("data: {event}\n\n");
    // A string takes everything.
    let _ = write!(out, "{:x}\r\n{event}\r\n", event.len());
}
