//! A client on one connection, byte for byte, over a pipe or a socket.
//!
//! Rule: whatever it does is an event of the stage, so that what the router does next can be timed from it.

use std::sync::Arc;
use std::time::Duration;

use milepost::net::Io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::events::Events;
use crate::text;
pub use crate::text::{find, post};

/// A client.
pub struct Client {
    io: Io,
    buffer: Vec<u8>,
    broken: bool,
    events: Arc<Events>,
}

/// An answer as the client got it.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Status; none: no head came.
    pub status: Option<u16>,
    /// The head as text.
    pub head: String,
    /// The body's data.
    pub body: Vec<u8>,
    /// The body ended as announced.
    pub whole: bool,
    /// The connection was reset.
    pub reset: bool,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        text::header(&self.head, name)
    }

    /// What a person would say of it.
    pub fn line(&self) -> String {
        let end = if self.reset { "reset" } else { "closed" };
        match (self.status, self.header("x-smg-error-code")) {
            (None, _) => format!("{end}, no answer"),
            (Some(status), Some(code)) if self.whole => format!("{status} {code}"),
            (Some(status), None) if self.whole => format!("{status} whole"),
            (Some(status), _) => format!("{status} cut after {} B, {end}", self.body.len()),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.events.mark();
    }
}

impl Client {
    /// On a connection that is open.
    pub fn on(io: Io, events: Arc<Events>) -> Self {
        Self { io, buffer: Vec::new(), broken: false, events }
    }

    /// Sends all of it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
        self.events.mark();
    }

    /// Sends as much of it as the router takes.
    pub async fn offer(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.io.write_all(bytes.as_ref()).await;
        self.events.mark();
    }

    /// Sends a byte at a time until all is sent or the router has closed; how many were sent.
    pub async fn send_slowly(&mut self, bytes: impl AsRef<[u8]>, every: Duration) -> usize {
        for (sent, byte) in bytes.as_ref().iter().enumerate() {
            if self.io.write_all(&[*byte]).await.is_err() {
                return sent;
            }
            self.events.mark();
            tokio::time::sleep(every).await;
        }
        bytes.as_ref().len()
    }

    /// Says that it sends nothing more.
    pub async fn half_close(&mut self) {
        self.io.shutdown().await.unwrap();
        self.events.mark();
    }

    /// Closes the connection so that the router is told of a reset (sockets only).
    pub fn reset(self) {
        if let Io::Tcp(stream) = &self.io {
            stream.set_zero_linger().unwrap();
        }
    }

    /// Reads `count` bytes, one at a time; fewer if the router closes.
    pub async fn read_slowly(&mut self, count: usize, every: Duration) -> usize {
        for read in 0..count {
            let mut byte = [0];
            if self.io.read(&mut byte).await.unwrap_or(0) == 0 {
                return read;
            }
            self.buffer.push(byte[0]);
            self.events.mark();
            tokio::time::sleep(every).await;
        }
        count
    }

    /// Reads until `needle` has come.
    pub async fn read_until(&mut self, needle: &str) {
        while find(&self.buffer, needle.as_bytes()).is_none() {
            assert!(self.fill().await, "closed before {needle:?}");
        }
    }

    /// Reads one answer, or what there is of it.
    pub async fn answer(&mut self) -> Answer {
        let patience = self.events.patience();
        let reading = async {
            let mut answer = Answer::default();
            let Some(end) = self.find_or_end(b"\r\n\r\n").await else {
                answer.reset = self.broken;
                return answer;
            };
            answer.head = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
            self.buffer.drain(..end + 4);
            answer.status = answer.head[9..12].parse().ok();
            let length = answer.header("content-length").map(|v| v.parse::<usize>().unwrap());
            answer.whole = match (answer.header("transfer-encoding"), length) {
                (Some("chunked"), _) => self.chunks(&mut answer.body).await,
                (_, Some(length)) => self.bytes(length, &mut answer.body).await,
                _ if matches!(answer.status, Some(100..200)) => true,
                _ => {
                    while self.fill().await {}
                    answer.body = std::mem::take(&mut self.buffer);
                    !self.broken
                }
            };
            answer.reset = self.broken;
            answer
        };
        let answer = tokio::time::timeout(patience, reading).await.expect("an answer, or its end, in time");
        self.events.mark();
        answer
    }

    /// True once the router has closed the connection, with nothing more said.
    pub async fn ends(&mut self) -> bool {
        let before = self.buffer.len();
        while tokio::time::timeout(self.events.patience(), self.fill()).await.expect("an end in time") {}
        self.events.mark();
        self.buffer.len() == before
    }

    async fn bytes(&mut self, length: usize, body: &mut Vec<u8>) -> bool {
        while self.buffer.len() < length && self.fill().await {}
        let come = length.min(self.buffer.len());
        body.extend(self.buffer.drain(..come));
        come == length
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(end) = self.find_or_end(b"\r\n").await else {
                return false;
            };
            let Ok(size) = usize::from_str_radix(&String::from_utf8_lossy(&self.buffer[..end]), 16) else {
                return false;
            };
            self.buffer.drain(..end + 2);
            if !self.bytes(size, body).await || !self.bytes(2, &mut Vec::new()).await {
                return false;
            }
            if size == 0 {
                return true;
            }
        }
    }

    async fn find_or_end(&mut self, needle: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = find(&self.buffer, needle) {
                return Some(at);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Reads once; false at the end.
    async fn fill(&mut self) -> bool {
        match self.io.read_buf(&mut self.buffer).await {
            Ok(read) => read > 0,
            Err(_) => {
                self.broken = true;
                false
            }
        }
    }
}

/// A plain generation.
pub fn generate() -> String {
    post("/generate", r#"{"text":"one two"}"#)
}

/// A streamed one.
pub fn generate_stream() -> String {
    post("/generate", r#"{"text":"one two","stream":true}"#)
}
