//! A client that lets the worker go on only when it holds what the worker sent before.
//!
//! Rule: the bytes are decoded as they come, so a router that holds an event back stops the test. Deliberately not here:
//! what is expected.

use milepost::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::harness::{PATIENCE, find};

/// An answer as it came.
pub struct Seen {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Of each frame: when the worker was let go to send it, and when it was here (`CLOCK_MONOTONIC`, nanoseconds).
    pub between_ns: Vec<(u64, u64)>,
}

/// Sends a request; lets the worker (which waits for `gate` before every frame) send each frame once the last one is here,
/// that is when the body has reached the length in `ends`.
pub async fn exchange(stream: &mut TcpStream, request: &[u8], ends: &[usize], gate: &Notify) -> Seen {
    let clock = Clock::system();
    stream.write_all(request).await.unwrap();
    let mut raw = Vec::new();
    let head_end = loop {
        if let Some(end) = find(&raw, b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, &mut raw).await;
    };
    let text = String::from_utf8(raw[..head_end].to_vec()).unwrap();
    let headers: Vec<(String, String)> = text
        .lines()
        .filter_map(|l| l.split_once(": "))
        .map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned()))
        .collect();
    let chunked = headers.iter().any(|h| h.0 == "transfer-encoding" && h.1 == "chunked");
    let mut between_ns = Vec::new();
    let mut body = Vec::new();
    for (i, end) in ends.iter().enumerate() {
        let released_ns = clock.mono_ns();
        gate.notify_one();
        let last = i + 1 == ends.len();
        loop {
            let whole;
            (body, whole) =
                if chunked { decoded(&raw[head_end..]) } else { (raw[head_end..].to_vec(), true) };
            if body.len() >= *end && (whole || !last) {
                break;
            }
            more(stream, &mut raw).await;
        }
        assert_eq!(body.len(), *end, "no byte comes before it was sent");
        between_ns.push((released_ns, clock.mono_ns()));
    }
    Seen { status: text[9..12].parse().unwrap(), headers, body, between_ns }
}

async fn more(stream: &mut TcpStream, raw: &mut Vec<u8>) {
    let read = tokio::time::timeout(PATIENCE, stream.read_buf(raw));
    let read = read.await.unwrap_or_else(|_| panic!("held back after {:?}", String::from_utf8_lossy(raw)));
    assert_ne!(read.unwrap(), 0, "closed after {:?}", String::from_utf8_lossy(raw));
}

/// The body so far, and whether its last chunk has come.
fn decoded(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = find(raw, b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, raw.len() == line + 4);
        }
        let data = &raw[line + 2..];
        body.extend_from_slice(&data[..size.min(data.len())]);
        if data.len() < size + 2 {
            break;
        }
        raw = &data[size + 2..];
    }
    (body, false)
}
