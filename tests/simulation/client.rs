//! A simulated client: one connection, and everything it does on it.
//!
//! Rule: what it did and saw is noted with its time; whether that may be is not its question. Deliberately not here: how it
//! behaves (`asking`, drawn), how answers are read (`answer`).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use milepost::net::{Io, PipeNet};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep, sleep_until};

use crate::answer::{self, Answer};
use crate::asking::{Asked, BodyFraming, Kind, Leaving, Pace, Part, Visit};
use crate::plan::ROUTER;
use crate::story::Story;

/// Longest wait for `100 Continue`.
const CONTINUE: Duration = Duration::from_secs(1);
/// The longest that a client is slow, which is longer than the router waits for any.
const SLOW: Duration = Duration::from_secs(80);

/// What a client did with one request, and what it got. Times are virtual nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When the first byte was about to be written.
    pub began_ns: u64,
    /// When the head was written.
    pub head_ns: Option<u64>,
    /// When all was written.
    pub sent_ns: Option<u64>,
    /// When the client hung up or half-closed, the answer not yet whole.
    pub left_ns: Option<u64>,
    /// When it had the answer, or the end of the connection instead.
    pub ended_ns: Option<u64>,
    /// The answer, maybe in part.
    pub answer: Option<Answer>,
    /// Bytes of an answer came.
    pub began: bool,
    /// The connection ended before a whole answer.
    pub cut: bool,
    /// It was written before the answer to the one before had come.
    pub is_behind: bool,
}

struct Client<'a> {
    visit: &'a Visit,
    who: String,
    story: &'a Story,
    io: Io,
    buffer: Vec<u8>,
    eof: bool,
    /// A line's end has come that was not looked at: an answer may be whole.
    has_line: bool,
    /// Where the buffer must end for the answer to be whole, as far as is known.
    whole_at: Option<usize>,
    /// Waited once before reading.
    has_waited: bool,
    /// When it began to be slow at something.
    slow_since: Option<Instant>,
}

/// The client is no longer there, or need not be.
struct Over;

/// Plays one visit.
pub async fn play(visit: &Visit, number: usize, net: &PipeNet, story: &Story) {
    sleep(visit.at).await;
    let who = format!("client {number}");
    let Ok(io) = net.connect(ROUTER).await else {
        return story.tell(&who, "is refused");
    };
    let mut client = Client {
        visit,
        who,
        story,
        io,
        buffer: Vec::new(),
        eof: false,
        has_line: false,
        whole_at: None,
        has_waited: false,
        slow_since: None,
    };
    let over = if visit.pipelined { client.all_ahead().await } else { client.one_by_one().await };
    if over.is_ok() {
        story.tell(&client.who, "hangs up");
    }
}

impl Client<'_> {
    async fn one_by_one(&mut self) -> Result<(), Over> {
        let visit = self.visit;
        for (i, asked) in visit.requests.iter().enumerate() {
            let leaves = visit.manner.leaves.filter(|_| i + 1 == visit.requests.len());
            self.send(asked, leaves, false).await?;
            self.receive(asked, leaves).await?;
        }
        Ok(())
    }

    async fn all_ahead(&mut self) -> Result<(), Over> {
        let visit = self.visit;
        for (i, asked) in visit.requests.iter().enumerate() {
            let leaves = visit.manner.leaves.filter(|_| i + 1 == visit.requests.len());
            self.send(asked, leaves, i > 0).await?;
        }
        for (i, asked) in visit.requests.iter().enumerate() {
            let leaves = visit.manner.leaves.filter(|_| i + 1 == visit.requests.len());
            self.receive(asked, leaves).await?;
        }
        Ok(())
    }

    fn note(&self, asked: &Asked, change: impl FnOnce(&mut Seen, u64)) {
        let now_ns = self.story.now_ns();
        change(self.story.told().seen.entry(asked.number).or_default(), now_ns);
    }

    async fn send(&mut self, asked: &Asked, leaves: Option<Leaving>, is_behind: bool) -> Result<(), Over> {
        let manner = self.visit.manner;
        let (mut head, mut body) = asked.bytes(manner.is_http_11);
        self.note(asked, |seen, now_ns| (seen.began_ns, seen.is_behind) = (now_ns, is_behind));
        let (kind, behind) = (asked.kind, if is_behind { ", ahead of an answer" } else { "" });
        self.story
            .tell(&self.who, format_args!("sends r{}: {kind:?} of {} B{behind}", asked.number, body.len()));
        if leaves == Some(Leaving::InHead) {
            head.truncate(head.len() / 2);
            self.write(&head, manner.sends).await;
            return self.leave("in its head").await;
        }
        let pace = |part| if manner.slow_part == part { manner.sends } else { Pace::AtOnce };
        let sent = self.write(&head, pace(Part::Head)).await;
        if sent {
            self.note(asked, |seen, now_ns| seen.head_ns = Some(now_ns));
        }
        if leaves == Some(Leaving::InBody) && !body.is_empty() {
            body.truncate(body.len() / 2);
            self.write(&body, pace(Part::Body)).await;
            return self.leave("in its body").await;
        }
        let waits = asked.framing == BodyFraming::Expect && kind.method() == "POST" && !body.is_empty();
        if sent && waits && !self.may_go_on().await {
            // Told to keep its body.
            return Ok(());
        }
        if sent && self.write(&body, pace(Part::Body)).await {
            self.note(asked, |seen, now_ns| seen.sent_ns = Some(now_ns));
        }
        if let Some(Leaving::AheadInHead(wait)) = leaves {
            self.write(b"POST /generate HTTP/1.1\r\nHo", Pace::AtOnce).await;
            sleep(wait).await;
            return self.leave("with a part of the next head sent").await;
        }
        Ok(())
    }

    /// Waits for an answer to `Expect`; false if it is a final one.
    async fn may_go_on(&mut self) -> bool {
        let until = Instant::now() + CONTINUE;
        while !answer::has_head(&self.buffer) && !self.eof {
            tokio::select! {
                biased;
                read = self.io.read_buf(&mut self.buffer) => self.eof |= !matches!(read, Ok(1..)),
                () = sleep_until(until) => return true,
            }
        }
        if self.buffer.starts_with(b"HTTP/1.1 100 ") {
            self.buffer.drain(..self.buffer.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0) + 4);
            return true;
        }
        !answer::has_head(&self.buffer) && !self.eof
    }

    /// False if the router takes no more.
    async fn write(&mut self, bytes: &[u8], pace: Pace) -> bool {
        let grain = match pace {
            Pace::AtOnce | Pace::After(_) => usize::MAX,
            Pace::Pieces(grain) => grain,
            Pace::Drip(_) => 1,
        };
        self.slow_since = None;
        for piece in bytes.chunks(grain) {
            if !self.write_all(piece).await {
                return false;
            }
            self.pause(pace).await;
        }
        true
    }

    /// Takes in what comes meanwhile, or two who wait for each other to read would wait for ever.
    async fn write_all(&mut self, mut bytes: &[u8]) -> bool {
        let reads = matches!(self.visit.manner.reads, Pace::AtOnce | Pace::Pieces(_));
        while !bytes.is_empty() {
            let Self { io, buffer, eof, .. } = self;
            let written = poll_fn(|cx| {
                loop {
                    if let Poll::Ready(written) = Pin::new(&mut *io).poll_write(cx, bytes) {
                        return Poll::Ready(written);
                    }
                    let mut room = [0; 512];
                    let mut room = ReadBuf::new(&mut room);
                    if *eof || !reads || Pin::new(&mut *io).poll_read(cx, &mut room).is_pending() {
                        return Poll::Pending;
                    }
                    *eof = room.filled().is_empty();
                    buffer.extend_from_slice(room.filled());
                }
            });
            match written.await {
                Ok(written @ 1..) => bytes = &bytes[written..],
                _ => return false,
            }
        }
        true
    }

    async fn receive(&mut self, asked: &Asked, leaves: Option<Leaving>) -> Result<(), Over> {
        (self.slow_since, self.has_line, self.whole_at) = (None, true, None);
        let leave_at = match leaves {
            Some(Leaving::Waiting(wait)) => Some(Instant::now() + wait),
            _ => None,
        };
        loop {
            if !self.buffer.is_empty() {
                self.note(asked, |seen, _| seen.began = true);
            }
            let may_be_whole = self.whole_at.map_or(self.has_line, |at| self.buffer.len() >= at);
            if (may_be_whole || self.eof) && self.take(asked)? {
                return Ok(());
            }
            if matches!(leaves, Some(Leaving::Reading(bytes)) if self.buffer.len() >= bytes) {
                return self.leave("with a part of its answer").await;
            }
            tokio::select! {
                biased;
                () = self.read() => {}
                () = sleep_until(leave_at.unwrap_or_else(Instant::now)), if leave_at.is_some() => {
                    return self.leave("without waiting longer").await;
                }
            }
        }
    }

    /// Notes the answer as far as it has come; true if it is whole.
    fn take(&mut self, asked: &Asked) -> Result<bool, Over> {
        let to_head = asked.kind == Kind::UnknownHead;
        let read = answer::read(&self.buffer, self.eof, to_head, self.visit.manner.is_http_11);
        let found = match read {
            Ok(found) => found,
            Err(wrong) => {
                self.story.complain(&self.who, format_args!("got for r{}: {wrong}", asked.number));
                return Err(Over);
            }
        };
        let whole = found.as_ref().is_some_and(|answer| answer.whole);
        if !whole && !self.eof {
            self.has_line = false;
            self.whole_at = found.as_ref().and_then(|a| a.missing_bytes).map(|more| self.buffer.len() + more);
            self.note(asked, |seen, _| seen.answer = found);
            return Ok(false);
        }
        let status = found.as_ref().map_or(0, |answer| answer.status);
        let is_last = found.as_ref().is_none_or(|answer| answer.is_last);
        self.buffer.drain(..found.as_ref().map_or(0, |answer| answer.used_bytes));
        let how = if whole { "whole" } else { "cut off" };
        self.story.tell(&self.who, format_args!("has the answer to r{}, {how}: {status}", asked.number));
        self.note(asked, |seen, now_ns| {
            (seen.answer, seen.cut, seen.ended_ns) = (found, !whole, Some(now_ns));
        });
        if !whole || is_last { Err(Over) } else { Ok(true) }
    }

    /// Reads once, at this client's pace.
    async fn read(&mut self) {
        let pace = self.visit.manner.reads;
        let room_bytes = match pace {
            Pace::AtOnce => 4_096,
            Pace::Pieces(room) => room,
            Pace::Drip(_) => 1,
            Pace::After(wait) => {
                if !std::mem::replace(&mut self.has_waited, true) {
                    sleep(wait).await;
                }
                4_096
            }
        };
        let mut room = vec![0; room_bytes];
        match self.io.read(&mut room).await {
            Ok(read @ 1..) => {
                self.has_line |= room[..read].contains(&b'\n');
                self.buffer.extend_from_slice(&room[..read]);
            }
            _ => self.eof = true,
        }
        self.pause(pace).await;
    }

    /// What comes between two pieces.
    async fn pause(&mut self, pace: Pace) {
        match pace {
            Pace::AtOnce | Pace::After(_) => {}
            Pace::Pieces(_) => tokio::task::yield_now().await,
            Pace::Drip(pause) => {
                let since = *self.slow_since.get_or_insert_with(Instant::now);
                if since.elapsed() < SLOW {
                    sleep(pause).await;
                }
            }
        }
    }

    /// Hangs up, or says that nothing more comes and waits for the router to close.
    async fn leave(&mut self, when: &str) -> Result<(), Over> {
        let half = self.visit.manner.half;
        let how = if half { "half-closes" } else { "leaves" };
        self.story.tell(&self.who, format_args!("{how} {when}"));
        for asked in &self.visit.requests {
            let mut told = self.story.told();
            let now_ns = self.story.now_ns();
            if let Some(seen) = told.seen.get_mut(&asked.number).filter(|seen| seen.ended_ns.is_none()) {
                seen.left_ns = Some(now_ns);
            }
        }
        if half {
            // What an in-memory pipe says to this is no news.
            let _ = self.io.shutdown().await;
            if let Pace::After(wait) = self.visit.manner.reads {
                sleep(wait).await;
            }
            let mut rest = Vec::new();
            let _ = self.io.read_to_end(&mut rest).await;
            self.story.tell(&self.who, "finds its connection closed");
        }
        Err(Over)
    }
}
