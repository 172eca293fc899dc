//! A client's connection and its reader of answers: HTTP/1.1 by hand, apart from the codec that is tested.
//!
//! Rule: no wait without a limit; a reader says how an answer ended and never guesses that it was whole. Deliberately not
//! here: what is asked.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::ledger;
use crate::seen::{End, Seen};

/// Longest wait for an answer or for room to write: every limit of the router ends before.
const PATIENCE: Duration = Duration::from_secs(40);
/// Longest head.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A connection to the router.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Most bytes taken in one read, and the pause after it.
    pace: Option<(usize, Duration)>,
}

/// How far an answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To its end.
    End,
    /// To its first event, then the client leaves.
    FirstEvent,
}

/// An answer.
#[derive(Debug)]
pub struct Got {
    /// How it ended.
    pub end: End,
    /// Its status, 0 without a head.
    pub status: u16,
    /// The connection can carry another request.
    pub keeps_alive: bool,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
    is_own_error: bool,
    has_own_id: bool,
}

enum Framing {
    Length(usize),
    Chunks(Chunks),
    ToTheEnd,
}

#[derive(Clone, Copy)]
enum Chunks {
    Size,
    Data(usize),
    DataEnd,
    LastLine,
}

impl Line {
    /// Connects; with a small window where the kernel would otherwise read ahead of a client that does not.
    pub async fn connect(to: SocketAddr, has_small_window: bool) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        if has_small_window {
            socket.set_recv_buffer_size(64 * 1024)?;
        }
        let stream = tokio::time::timeout(PATIENCE, socket.connect(to)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new(), pace: None })
    }

    /// Reads slowly from now on.
    pub fn dawdle(&mut self, most_bytes: usize, pause: Duration) {
        self.pace = Some((most_bytes, pause));
    }

    /// Sends; whether it was taken shows in the answer.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Says that nothing more comes, and goes on reading.
    pub async fn half_close(&mut self) {
        // If it has gone, the answer tells.
        let _ = self.stream.shutdown().await;
    }

    /// Goes without a word.
    pub fn reset(self) {
        // Then it is an ordinary close, which the rules allow too.
        let _ = self.stream.set_zero_linger();
    }

    /// Reads what the router says to somebody who sent no request: the status, 0 if it just closed.
    pub async fn farewell(&mut self) -> u16 {
        let status = match tokio::time::timeout(PATIENCE, self.head()).await {
            Ok(Some(head)) => status_of(&head),
            _ => return 0,
        };
        while matches!(tokio::time::timeout(PATIENCE, self.fill()).await, Ok(true)) {}
        status
    }

    /// Waits for leave to send the body; false if the answer came instead.
    pub async fn may_go_on(&mut self) -> bool {
        let Ok(Some(head)) = tokio::time::timeout(PATIENCE, self.head()).await else {
            return false;
        };
        let goes_on = status_of(&head) == 100;
        if !goes_on {
            self.buffer.splice(0..0, head.into_bytes());
        }
        goes_on
    }

    /// Reads the answer to the request `number`.
    pub async fn answer(&mut self, number: usize, until: Until) -> Got {
        let mut got = Got {
            end: End::Hung,
            status: 0,
            keeps_alive: false,
            is_own_error: false,
            has_own_id: true,
            body: Vec::new(),
        };
        if let Ok(end) = tokio::time::timeout(PATIENCE, self.read(&mut got, number, until)).await {
            got.end = end;
        }
        got.keeps_alive &= got.end == End::Whole;
        got
    }

    async fn read(&mut self, got: &mut Got, number: usize, until: Until) -> End {
        let Some(head) = self.head().await else {
            return End::NoAnswer;
        };
        got.status = status_of(&head);
        got.has_own_id = field(&head, "x-request-id").is_some_and(|id| id == ledger::id_of(number));
        got.is_own_error = field(&head, "x-smg-error-code").is_some();
        got.keeps_alive = field(&head, "connection") != Some("close");
        let mut framing = match field(&head, "content-length").map(str::parse) {
            _ if field(&head, "transfer-encoding") == Some("chunked") => Framing::Chunks(Chunks::Size),
            Some(Ok(bytes)) => Framing::Length(bytes),
            _ => Framing::ToTheEnd,
        };
        loop {
            if framing.take(&mut self.buffer, &mut got.body) {
                return End::Whole;
            }
            if until == Until::FirstEvent && find(&got.body, b"\n\n").is_some() {
                return End::Left;
            }
            if !self.fill().await {
                return if matches!(framing, Framing::ToTheEnd) { End::UntilClose } else { End::Broken };
            }
        }
    }

    /// Takes a head off; `None` if the connection ends before.
    async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Some(String::from_utf8_lossy(&head).into_owned());
            }
            if self.buffer.len() > MAX_HEAD_BYTES || !self.fill().await {
                return None;
            }
        }
    }

    /// False at the end of the connection, whichever way it ended.
    async fn fill(&mut self) -> bool {
        let Some((most_bytes, pause)) = self.pace else {
            return matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..));
        };
        tokio::time::sleep(pause).await;
        let mut some = vec![0; most_bytes];
        match self.stream.read(&mut some).await {
            Ok(bytes @ 1..) => {
                self.buffer.extend_from_slice(&some[..bytes]);
                true
            }
            _ => false,
        }
    }
}

impl Got {
    /// Puts what it was into the books.
    pub fn note(&self, number: usize, seen: &mut Seen) {
        let mine = ledger::id_of(number);
        let data: Vec<&[u8]> = events(&self.body).collect();
        seen.status = self.status;
        seen.is_own_error = self.is_own_error;
        seen.body_bytes = self.body.len() as u64;
        seen.is_done = data.contains(&&b"[DONE]"[..]);
        seen.events = data.len() as u64 - u64::from(seen.is_done);
        seen.is_foreign = (self.status != 0 && !self.has_own_id) || ids(&self.body).any(|id| id != mine);
    }
}

impl Framing {
    /// Moves what belongs to the body; true at its end.
    fn take(&mut self, buffer: &mut Vec<u8>, body: &mut Vec<u8>) -> bool {
        match self {
            Self::ToTheEnd => {
                body.append(buffer);
                false
            }
            Self::Length(left) => {
                let part = (*left).min(buffer.len());
                body.extend(buffer.drain(..part));
                *left -= part;
                *left == 0
            }
            Self::Chunks(chunks) => {
                let mut used = 0;
                let has_ended = chunks.take(buffer, &mut used, body);
                buffer.drain(..used);
                has_ended
            }
        }
    }
}

impl Chunks {
    /// As far as the bytes go; what is no chunk is left standing, and the end of the connection tells.
    fn take(&mut self, bytes: &[u8], used: &mut usize, body: &mut Vec<u8>) -> bool {
        loop {
            let rest = &bytes[*used..];
            match *self {
                Self::Size => {
                    let Some(end) = find(rest, b"\r\n") else { return false };
                    let digits = String::from_utf8_lossy(&rest[..end]);
                    let Ok(size) = usize::from_str_radix(&digits, 16) else { return false };
                    *used += end + 2;
                    *self = if size == 0 { Self::LastLine } else { Self::Data(size) };
                }
                Self::Data(left) => {
                    let part = left.min(rest.len());
                    body.extend_from_slice(&rest[..part]);
                    *used += part;
                    *self = if part == left { Self::DataEnd } else { Self::Data(left - part) };
                    if part < left {
                        return false;
                    }
                }
                Self::DataEnd | Self::LastLine => {
                    if !rest.starts_with(b"\r\n") {
                        return false;
                    }
                    *used += 2;
                    if matches!(self, Self::LastLine) {
                        return true;
                    }
                    *self = Self::Size;
                }
            }
        }
    }
}

/// The data of each event of a stream; of what is no stream nothing.
fn events(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    // What stands after the last empty line is no whole event.
    let whole = body.windows(2).rposition(|w| w == b"\n\n").map_or(0, |at| at + 1);
    body[..whole].split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"data: "))
}

/// The request ids that workers put into their answers.
fn ids(body: &[u8]) -> impl Iterator<Item = String> {
    const MARK: &[u8] = b"\"id\":\"soak-";
    let at = body.windows(MARK.len()).enumerate().filter(|(_, w)| *w == MARK).map(|(at, _)| at);
    at.filter_map(|at| {
        let id = &body[at + 6..];
        let end = id.iter().position(|b| *b == b'"')?;
        Some(String::from_utf8_lossy(&id[..end]).into_owned())
    })
}

fn status_of(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// A field of a head, its name in lower case as the router writes its own.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Where the needle first stands.
pub fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|w| w == needle)
}
