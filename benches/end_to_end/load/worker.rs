//! What the scripted worker answers: at once, or as a stream of events by the clock.
//!
//! Rule: the order for an answer stands in the prompt (`bench:EVENTS:GAP_US `), because a router may write the rest of the
//! body anew. Text is cumulative, as SGLang's is. Deliberately not here: sockets.

use std::io::Write;

/// How an answer is asked for, in the prompt.
const ORDER: &[u8] = b"bench:";

/// The body of a plain answer.
const PLAIN: &str = r#"{"text":" a b c","meta_info":{"id":"0123456789abcdef","finish_reason":{"type":"length","length":16},"prompt_tokens":30,"completion_tokens":16,"cached_tokens":5,"e2e_latency":0.02}}"#;
/// What every other path gets: enough for a router that asks who this is.
const DESCRIBED: &str = r#"{"status":"ok","model_path":"bench","served_model_name":"bench","tokenizer_path":"","max_total_num_tokens":1000000,"version":"0.0.0","dp_size":1,"data":[{"id":"bench"}]}"#;

/// Bytes of the body of a plain answer.
pub const PLAIN_BYTES: u64 = PLAIN.len() as u64;

/// An answer in events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    sent: u64,
    events: u64,
    gap_ns: u64,
}

/// What to do about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Answer a question that is not for a model.
    Describe,
    /// Answer at once.
    Plain,
    /// Answer in events.
    Stream(Stream),
}

impl Order {
    /// What a request's body asks for.
    pub fn of(is_generate: bool, body: &[u8]) -> Self {
        if !is_generate {
            return Self::Describe;
        }
        let at = body.windows(ORDER.len()).position(|window| window == ORDER);
        let words = at.map(|at| &body[at + ORDER.len()..]).unwrap_or_default();
        let mut numbers = words.split(|b| !b.is_ascii_digit()).map(|digits| {
            digits.iter().fold(0_u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0')))
        });
        match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
            (0, _) => Self::Plain,
            (events, gap_us) => Self::Stream(Stream { sent: 0, events, gap_ns: gap_us * 1_000 }),
        }
    }

    /// Appends an order to a prompt.
    pub fn push(out: &mut Vec<u8>, events: u64, gap_us: u64) {
        out.extend_from_slice(format!("bench:{events}:{gap_us} ").as_bytes());
    }
}

/// The whole answer to an order without events.
pub fn whole_answer(order: Order) -> Vec<u8> {
    let body = if order == Order::Describe { DESCRIBED } else { PLAIN };
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

impl Stream {
    /// Time between two events.
    pub fn gap_ns(&self) -> u64 {
        self.gap_ns
    }

    /// Appends what is due: the head before the first event, the end one gap after the last. True at the end.
    pub fn push_next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.sent == self.events {
            out.extend_from_slice(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
            return true;
        }
        if self.sent == 0 {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
        }
        self.sent += 1;
        let text = "abcd ".repeat(usize::try_from(self.sent).unwrap_or(0).min(64));
        let n = self.sent;
        let event = format!(
            r#"data: {{"text":"{text}","meta_info":{{"id":"0123456789abcdef","finish_reason":null,"prompt_tokens":30,"completion_tokens":{n},"cached_tokens":5}}}}"#
        );
        // Into memory: cannot fail.
        let _ = write!(out, "{:x}\r\n{event}\n\n\r\n", event.len() + 2);
        false
    }
}
