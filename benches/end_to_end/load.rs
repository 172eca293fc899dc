//! A worker that answers at once and clients in a closed loop, both on blocking sockets: as little CPU of their own as can be.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Pause between two events of a stream.
const EVENT_GAP: Duration = Duration::from_millis(5);
/// Streams at one time: 150 a second of 64 events 5 ms apart.
const STREAMS: usize = 48;

/// One column of the table.
pub struct Case {
    pub name: &'static str,
    prompt_bytes: usize,
    events: usize,
    requests: usize,
    rate_per_s: Option<usize>,
    clients: usize,
}

impl Case {
    /// Plain answers in a closed loop of `clients` connections.
    pub fn plain(name: &'static str, prompt_bytes: usize, clients: usize, requests: usize) -> Self {
        Self { name, prompt_bytes, events: 0, requests, rate_per_s: None, clients }
    }

    pub fn stream(name: &'static str, events: usize, requests: usize) -> Self {
        Self { name, prompt_bytes: 120, events, requests, rate_per_s: None, clients: STREAMS }
    }

    /// Sent at a steady rate instead of in a closed loop: the proxy sleeps between requests, as it does before GPUs.
    pub fn paced(name: &'static str, prompt_bytes: usize, rate_per_s: usize, requests: usize) -> Self {
        Self { name, prompt_bytes, events: 0, requests, rate_per_s: Some(rate_per_s), clients: 16 }
    }

    fn body(&self, n: usize) -> String {
        let stream = self.events > 0;
        format!(
            r#"{{"text":"{n} {}","sampling_params":{{"max_new_tokens":16}},"stream":{stream}}}"#,
            "lorem ipsum ".repeat(self.prompt_bytes / 12)
        )
    }
}

/// Starts the worker; its port.
pub fn start_worker() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::Builder::new().stack_size(128 * 1024).spawn(|| answer(stream.unwrap())).unwrap();
        }
    });
    port
}

fn answer(stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut out = stream.try_clone().unwrap();
    let mut input = BufReader::with_capacity(128 * 1024, stream);
    let plain = plain_answer();
    let mut body = Vec::new();
    while let Some((_, length)) = read_head(&mut input) {
        body.resize(length.unwrap_or(0), 0);
        if input.read_exact(&mut body).is_err() {
            return;
        }
        let sent = if asks_for_a_stream(&body) { stream_answer(&mut out) } else { out.write_all(&plain) };
        if sent.is_err() {
            return;
        }
    }
}

/// A router may have written the body anew, so the field is looked for.
fn asks_for_a_stream(body: &[u8]) -> bool {
    body.windows(13).any(|w| w == b"\"stream\":true")
}

fn plain_answer() -> Vec<u8> {
    let body = r#"{"text":" a b c","meta_info":{"id":"0123456789abcdef","finish_reason":{"type":"length","length":16},"prompt_tokens":30,"completion_tokens":16,"cached_tokens":5,"e2e_latency":0.02}}"#;
    format!("HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn stream_answer(out: &mut TcpStream) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    out.write_all(head.as_bytes())?;
    for n in 1..=64 {
        let text = "abcd ".repeat(n);
        let event = format!(
            "data: {{\"text\":\"{text}\",\"meta_info\":{{\"id\":\"0123456789abcdef\",\"finish_reason\":null,\"prompt_tokens\":30,\"completion_tokens\":{n},\"cached_tokens\":5}}}}\n\n"
        );
        write!(out, "{:x}\r\n{event}\r\n", event.len())?;
        std::thread::sleep(EVENT_GAP);
    }
    out.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
}

/// A head: whether its body is chunked, and its length if known.
fn read_head(input: &mut BufReader<TcpStream>) -> Option<(bool, Option<usize>)> {
    let (mut chunked, mut length) = (false, None);
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return Some((chunked, length));
        }
        let lower = line.to_ascii_lowercase();
        chunked |= lower.starts_with("transfer-encoding: chunked");
        length = lower.strip_prefix("content-length:").map(|v| v.trim().parse().unwrap()).or(length);
    }
}

/// Sends the case's requests in a closed loop; the number of units (requests, or events).
pub fn run(case: &Case, port: u16) -> usize {
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..case.clients {
            scope.spawn(|| client(case, port, &next, start));
        }
    });
    case.requests * case.events.max(1)
}

fn client(case: &Case, port: u16, next: &AtomicUsize, start: Instant) {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut out = stream.try_clone().unwrap();
    let mut input = BufReader::with_capacity(64 * 1024, stream);
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if n >= case.requests {
            return;
        }
        if let Some(rate) = case.rate_per_s {
            let due = start + Duration::from_secs_f64(n as f64 / rate as f64);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let body = case.body(n);
        let request = format!(
            "POST /generate HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        out.write_all(request.as_bytes()).unwrap();
        let (chunked, length) = read_head(&mut input).expect("an answer");
        if chunked {
            read_chunks(&mut input);
        } else {
            std::io::copy(&mut (&mut input).take(length.unwrap() as u64), &mut std::io::sink()).unwrap();
        }
    }
}

fn read_chunks(input: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    loop {
        line.clear();
        input.read_line(&mut line).unwrap();
        let size = u64::from_str_radix(line.trim(), 16).unwrap();
        std::io::copy(&mut (&mut *input).take(size + 2), &mut std::io::sink()).unwrap();
        if size == 0 {
            return;
        }
    }
}
