//! A client that keeps what an HTTP library would hide: header order, chunk framing, how a connection ended.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// No test waits longer for a byte.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer as it was on the wire.
#[derive(Debug)]
pub struct Answer {
    /// `HTTP/1.1 200 OK`.
    pub status: String,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// The chunks, or the whole body as one.
    pub chunks: Vec<String>,
    /// The body ended as its framing says.
    pub complete: bool,
}

impl Answer {
    /// Parses bytes off the wire; `head_only` for an answer to HEAD.
    pub fn parse(bytes: &[u8], head_only: bool) -> Self {
        let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> =
            lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
        let length: Option<usize> =
            headers.iter().find(|h| h.0 == "content-length").and_then(|h| h.1.parse().ok());
        let chunked = headers.iter().any(|h| h.0 == "transfer-encoding");
        let (chunks, complete) = match (length, chunked) {
            _ if head_only => (Vec::new(), true),
            (Some(length), _) => (vec![body.to_owned()], body.len() == length),
            (None, true) => dechunk(body),
            _ => (vec![body.to_owned()], true),
        };
        Self { status, headers, chunks, complete }
    }

    /// The body.
    pub fn body(&self) -> String {
        self.chunks.concat()
    }

    /// The payloads of the events, each of which has to be a chunk of its own.
    pub fn events(&self) -> Vec<&str> {
        let event = |c: &'_ String| {
            c.starts_with("data: ") && c.ends_with("\n\n") && c.matches("data: ").count() == 1
        };
        assert!(self.chunks.iter().all(event), "one event a chunk: {:?}", self.chunks);
        self.chunks.iter().map(|c| c["data: ".len()..].trim_end()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|h| h.0 == name).map(|h| h.1.as_str())
    }
}

fn dechunk(mut rest: &str) -> (Vec<String>, bool) {
    let mut chunks = Vec::new();
    while let Some((size, tail)) = rest.split_once('\n') {
        let Ok(size) = usize::from_str_radix(size, 16) else {
            break;
        };
        if size == 0 {
            return (chunks, true);
        }
        let Some(chunk) = tail.get(..size) else { break };
        chunks.push(chunk.to_owned());
        rest = tail[size..].strip_prefix('\n').unwrap_or_default();
    }
    (chunks, false)
}

/// A request as text; a body is JSON unless another content type is given.
pub fn request(method: &str, path: &str, headers: &str, body: Option<&str>) -> String {
    let body_headers = match body {
        Some(_) if headers.contains("content-type") => {
            format!("content-length: {}\r\n", body.map_or(0, str::len))
        }
        Some(body) => format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()),
        None => String::new(),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: worker\r\n{headers}{body_headers}\r\n{}",
        body.unwrap_or_default()
    )
}

/// Sends one request on a connection of its own and reads until the server closes it.
pub async fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&str>,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let headers = format!("connection: close\r\n{headers}");
    stream.write_all(request(method, path, &headers, body).as_bytes()).await?;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end in time");
    if bytes.is_empty() {
        read?;
    }
    Ok(Answer::parse(&bytes, method == "HEAD"))
}
