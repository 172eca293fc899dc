//! A raw HTTP client: one request a connection, every byte of the answer kept.
//!
//! Deliberately not here: anything that would hide what a router sent.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::process::PATIENCE;

/// A request that was sent, and what has come of its answer.
pub struct Exchange {
    stream: TcpStream,
    /// What has come so far, as it came.
    pub bytes: Vec<u8>,
}

impl Exchange {
    /// Connects and sends.
    pub fn begin(address: SocketAddr, request: impl AsRef<[u8]>) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        // A router may refuse a large body before it has all of it; its answer is still to be read.
        let _ = stream.write_all(request.as_ref());
        Self { stream, bytes: Vec::new() }
    }

    /// Reads until these bytes have come.
    pub fn read_until(&mut self, needle: &str) {
        while !contains(&self.bytes, needle) {
            assert!(self.more(), "closed before {needle:?}: {}", String::from_utf8_lossy(&self.bytes));
        }
    }

    /// True once something of the answer is there to be read, or the connection is closed.
    pub fn has_answer(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !matches!(peeked, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Reads to the end.
    pub fn finish(mut self) -> Answer {
        while self.more() {}
        Answer::parse(&self.bytes)
    }

    fn more(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part) {
            Ok(0) => false,
            Ok(read) => {
                self.bytes.extend_from_slice(&part[..read]);
                true
            }
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => panic!("no answer in {PATIENCE:?}"),
            Err(_) => false,
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 0 where nothing came.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Without its chunks' framing.
    pub body: Vec<u8>,
    /// It came to its proper end.
    pub whole: bool,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
        let mut answer = Self { status, head, body: bytes[end..].to_vec(), whole: status != 0 };
        if answer.header("transfer-encoding").is_some() {
            let (body, whole) = unchunk(&answer.body);
            (answer.body, answer.whole) = (body, whole);
        } else if let Some(length) = answer.header("content-length") {
            answer.whole = answer.body.len().to_string() == length;
        }
        answer
    }

    /// A header's value; of several, separated by ` & `.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, else null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The content type without its parameters.
    pub fn kind(&self) -> String {
        let kind = self.header("content-type").unwrap_or_else(|| "no type".to_owned());
        kind.split(';').next().unwrap_or_default().to_owned()
    }

    /// Status and, where it is one of the router's own errors, its two codes.
    pub fn problem(&self) -> String {
        let code = self.json()["error"]["code"].as_str().map(str::to_owned);
        let named = self.header("x-smg-error-code");
        match (code, named) {
            (Some(code), Some(named)) if code == named => format!("{} {code}", self.status),
            (None, None) if self.body.is_empty() => format!("{} empty", self.status),
            (None, Some(named)) if self.body.is_empty() => format!("{} empty, {named}", self.status),
            (None, None) => format!("{} {}", self.status, self.kind()),
            (code, named) => format!("{} body {code:?} header {named:?}", self.status),
        }
    }
}

/// A header's value in a head; of several, separated by ` & `.
pub fn header(head: &str, name: &str) -> Option<String> {
    let values: Vec<&str> = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
        .collect();
    (!values.is_empty()).then(|| values.join(" & "))
}

fn unchunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") {
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let Ok(size) = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16) else {
            return (body, false);
        };
        bytes = &bytes[end + 2..];
        if size == 0 {
            return (body, true);
        }
        if bytes.len() < size + 2 {
            body.extend_from_slice(bytes);
            return (body, false);
        }
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
    (body, false)
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
}

/// A GET with more header lines, each ended by CR LF.
pub fn get_with(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: router\r\nconnection: close\r\n{headers}\r\n")
}

/// Any method with a JSON body and more header lines, each ended by CR LF.
pub fn send_with(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: router\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A POST of JSON.
pub fn post(path: &str, body: &str) -> String {
    send_with("POST", path, "", body)
}
