//! What all clients share: where the router is, the books, the prompts, and who may send next.
//!
//! Rule: requests begin at a steady rate whatever the clients do, and a client that was late does not catch up in a burst. The
//! prompts are a limited number, each with one of a few beginnings: what the router remembers of prompts grows with new ones
//! up to a bound of its own, and the question here is what grows with time.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::answers::Length;
use crate::dice::Dice;
use crate::ledger::{self, Ledger};
use crate::worker::checksum;

const PROMPTS: u64 = 400;
const BEGINNINGS: u64 = 24;

/// What all clients share.
#[derive(Debug)]
pub struct Stage {
    /// The router.
    pub router: SocketAddr,
    /// The books.
    pub ledger: Arc<Ledger>,
    closing: AtomicBool,
    prompts: Vec<String>,
    gap: Duration,
    next: Mutex<Instant>,
}

/// A request that is about to be sent.
#[derive(Debug)]
pub struct Asked {
    /// Its number in the books.
    pub number: usize,
    /// Its head.
    pub head: Vec<u8>,
    /// Its body, coded as the head says.
    pub body: Vec<u8>,
}

/// What is special about a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Header lines.
    pub fields: &'static str,
    /// In chunks.
    pub is_chunked: bool,
    /// By a client of HTTP/1.0.
    pub is_http_10: bool,
    /// How long an answer it asks for.
    pub length: Length,
    /// A stream, or not, or either.
    pub stream: Option<bool>,
    /// At least this long a body; 0: as the prompt is.
    pub least_bytes: usize,
}

impl Stage {
    /// Prompts of a seed, and a rate in requests a second.
    pub fn new(router: SocketAddr, ledger: &Arc<Ledger>, seed: u64, rate: u64) -> Arc<Self> {
        Arc::new(Self {
            router,
            ledger: Arc::clone(ledger),
            closing: AtomicBool::new(false),
            prompts: (0..PROMPTS).map(|n| prompt(seed, n)).collect(),
            gap: Duration::from_secs(1) / u32::try_from(rate).unwrap_or(u32::MAX).max(1),
            next: Mutex::new(Instant::now()),
        })
    }

    /// No visit begins any more.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Visits end.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Waits for the turn of a request.
    pub async fn turn(&self) {
        let due = {
            let mut next = self.next.lock().await;
            *next = (*next).max(Instant::now()) + self.gap;
            *next
        };
        tokio::time::sleep_until(due).await;
    }

    /// A generation, at its turn.
    pub async fn ask(&self, visit: &'static str, dice: &mut Dice, shape: Shape) -> Asked {
        self.turn().await;
        let number = self.ledger.enter(visit);
        let is_chat = dice.one_in(3);
        let stream = shape.stream.unwrap_or_else(|| dice.one_in(2));
        let tokens = shape.length.tokens();
        let drawn = &self.prompts[dice.between(0, PROMPTS - 1) as usize];
        // Of one text, or the long ones alone would fill what the router remembers.
        let prompt = match shape.least_bytes {
            0 => drawn.clone(),
            bytes => self.prompts[0].repeat(bytes.div_ceil(self.prompts[0].len())),
        };
        let rid = if dice.one_in(8) { format!(r#""rid":"r{number}","#) } else { String::new() };
        let (path, body) = if is_chat {
            let message = format!(r#"[{{"role":"user","content":"{prompt}"}}]"#);
            (
                "/v1/chat/completions",
                format!(
                    r#"{{{rid}"model":"soak","messages":{message},"max_tokens":{tokens},"stream":{stream}}}"#
                ),
            )
        } else {
            let sampling = format!(r#"{{"max_new_tokens":{tokens}}}"#);
            (
                "/generate",
                format!(r#"{{{rid}"text":"{prompt}","sampling_params":{sampling},"stream":{stream}}}"#),
            )
        };
        let mut head = head("POST", path, number, shape.is_http_10);
        let sum = checksum(body.as_bytes());
        let policy = if dice.one_in(20) { "x-milepost-policy: round_robin\r\n" } else { "" };
        let _ = write!(
            head,
            "content-type: application/json\r\nx-request-id-sum: {sum}\r\n{policy}{}",
            shape.fields
        );
        let body = if shape.is_chunked {
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            chunks(body.as_bytes(), dice)
        } else {
            let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
            body.into_bytes()
        };
        Asked { number, head: head.into_bytes(), body }
    }

    /// A request without a body, at its turn.
    pub async fn ask_plain(&self, visit: &'static str, method: &str, target: &str, body: &str) -> Asked {
        self.turn().await;
        let number = self.ledger.enter(visit);
        let mut head = head(method, target, number, false);
        if !body.is_empty() || method == "POST" {
            let _ = write!(head, "content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        Asked { number, head: head.into_bytes(), body: body.as_bytes().to_vec() }
    }
}

impl Asked {
    /// Head and body.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body[..]].concat()
    }
}

fn head(method: &str, target: &str, number: usize, is_http_10: bool) -> String {
    let version = if is_http_10 { "1.0" } else { "1.1" };
    format!("{method} {target} HTTP/{version}\r\nhost: soak\r\nx-request-id: {}\r\n", ledger::id_of(number))
}

fn chunks(body: &[u8], dice: &mut Dice) -> Vec<u8> {
    let size = dice.between(1, 8_000).max(body.len() as u64 / 200) as usize;
    let mut out = Vec::new();
    for part in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// One of a few beginnings and an end of its own; 0.2 to 20 kB.
fn prompt(seed: u64, number: u64) -> String {
    let mut text = String::new();
    let mut beginning = Dice::of(seed, (1 << 40) + number % BEGINNINGS);
    let mut own = Dice::of(seed, (2 << 40) + number);
    let long = own.pick(&[(50, 30), (35, 300), (15, 3_000)]);
    for n in 0..long {
        let dice = if n < long / 2 { &mut beginning } else { &mut own };
        let _ = write!(text, "{:x} ", dice.between(0, 0xf_ffff));
    }
    text
}
