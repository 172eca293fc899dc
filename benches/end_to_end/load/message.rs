//! Reads one message after the other from whatever pieces a socket gives.
//!
//! Rule: the router's own codec says what a head means and where a body ends; a message that it cannot read is an error of
//! the run. Deliberately not here: sockets, what a message is for.

use milepost::http1::body::Body;
use milepost::http1::head::{self, Fields};

/// Bytes of a body's end that are kept: enough for `data: [DONE]` and the empty line after it.
const TAIL_BYTES: usize = 14;

/// Which side is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests; their bodies are kept whole.
    Requests,
    /// Answers; of their bodies the length and the end are kept.
    Answers,
}

/// One direction of a connection.
pub struct Reader {
    side: Side,
    head: Vec<u8>,
    fields: Fields,
    rest: Option<Body>,
    /// Of the answer.
    pub status: u16,
    /// Bytes of the body so far, without its framing.
    pub body_bytes: u64,
    /// The request's body.
    pub body: Vec<u8>,
    tail: Vec<u8>,
    /// The other side closes after this message.
    pub closes: bool,
    /// The request is for a model.
    pub is_generate: bool,
}

impl Reader {
    pub fn new(side: Side) -> Self {
        Self {
            side,
            head: Vec::new(),
            fields: Fields::default(),
            rest: None,
            status: 0,
            body_bytes: 0,
            body: Vec::new(),
            tail: Vec::new(),
            closes: false,
            is_generate: false,
        }
    }

    /// Takes what was read; true at the end of the message. Nobody here sends a message ahead, so what comes after it in the
    /// same piece is an error.
    pub fn push(&mut self, bytes: &mut [u8]) -> Result<bool, String> {
        if self.rest.is_some() {
            return self.push_body(bytes);
        }
        if self.head.is_empty() {
            if let Some(head_bytes) = self.read_head(bytes)? {
                return self.push_body(&bytes[head_bytes..]);
            }
            self.head.extend_from_slice(bytes);
            return Ok(false);
        }
        let mut whole = std::mem::take(&mut self.head);
        whole.extend_from_slice(bytes);
        if let Some(head_bytes) = self.read_head(&mut whole)? {
            return self.push_body(&whole[head_bytes..]);
        }
        self.head = whole;
        Ok(false)
    }

    /// The connection has closed: true if that ends the message.
    pub fn close(&mut self) -> bool {
        self.rest.as_mut().is_some_and(Body::close)
    }

    /// A stream that ended as SGLang ends one.
    pub fn is_done_stream(&self) -> bool {
        self.tail.ends_with(b"data: [DONE]\n\n")
    }

    fn read_head(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, String> {
        let message = match self.side {
            Side::Requests => {
                let found = head::request(bytes, &mut self.fields).map_err(|e| e.to_string())?;
                found.map(|found| {
                    self.is_generate = found.target(bytes) == b"/generate";
                    found.message
                })
            }
            Side::Answers => {
                let found = head::response(bytes, &mut self.fields, false).map_err(|e| e.to_string())?;
                found.map(|found| {
                    self.status = found.status;
                    found.message
                })
            }
        };
        let Some(message) = message else { return Ok(None) };
        (self.body_bytes, self.closes) = (0, !message.keeps_alive);
        self.body.clear();
        self.tail.clear();
        self.rest = Some(Body::new(message.framing));
        Ok(Some(message.head_bytes))
    }

    fn push_body(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let Some(rest) = &mut self.rest else { return Ok(false) };
        let (side, length, body, tail) = (self.side, &mut self.body_bytes, &mut self.body, &mut self.tail);
        let taken = rest.take(bytes, |data| {
            *length += data.len() as u64;
            match side {
                Side::Requests => body.extend_from_slice(data),
                Side::Answers => keep_end(tail, data),
            }
        });
        let taken = taken.map_err(|_| "a body whose chunks are none".to_owned())?;
        if !rest.has_ended() {
            return Ok(false);
        }
        self.rest = None;
        if taken.used_bytes < bytes.len() {
            return Err("bytes after the end of the message".to_owned());
        }
        Ok(true)
    }
}

fn keep_end(tail: &mut Vec<u8>, data: &[u8]) {
    if data.len() >= TAIL_BYTES {
        tail.clear();
        tail.extend_from_slice(&data[data.len() - TAIL_BYTES..]);
    } else {
        let excess = (tail.len() + data.len()).saturating_sub(TAIL_BYTES);
        tail.drain(..excess);
        tail.extend_from_slice(data);
    }
}
