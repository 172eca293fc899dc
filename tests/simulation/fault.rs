//! What a worker does with one request: an answer, and what may be wrong with it.
//!
//! Rule: each answer says whose it is (request, port, number), so that a client's bytes can be traced to one answer.
//! Deliberately not here: the writing of it (`worker`).

use std::time::Duration;

use crate::asking::Kind;
use crate::draw::Draw;

/// What can go wrong, or merely differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    None,
    /// Closes with the head read.
    CloseAtHead,
    /// Closes with all read.
    CloseUnanswered,
    Stall,
    HalfHead,
    HalfHeadStall,
    CutBody,
    StallInBody,
    HalfEvent,
    /// The stream ends well, without its closing event.
    NoDone,
    /// Announces more than comes.
    LengthTooLong,
    /// Announces less than comes.
    LengthTooShort,
    /// Answers before it has read the body, and reads no more.
    Early,
    NoTokens,
    /// Says more after the answer.
    BytesAfter,
    Status(u16),
    Slow,
    NoHttp,
    BadChunk,
    Interim,
    Switching,
    /// Ends the body by closing.
    UntilClose,
    /// Closes after the answer without having said so.
    CloseAfter,
}

/// A part of what a worker does.
#[derive(Clone, Debug)]
pub enum Part {
    Write(Vec<u8>),
    Wait(Duration),
    Close,
    /// Nothing more, until the router closes.
    Stall,
}

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As HTTP says it must.
    Whole,
    /// It breaks off after its head.
    Broken,
    /// It never ends.
    Never,
    /// There is no answer that could be passed on.
    NoAnswer,
}

/// What the content of a whole answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    Good,
    Bad,
}

/// An answer, and what a client must find if it gets it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub parts: Vec<Part>,
    pub status: u16,
    /// The body's data, as far as it can be passed on.
    pub data: Vec<u8>,
    pub ending: Ending,
    pub worth: Worth,
}

/// Draws what is wrong with an answer to such a request, on a connection that carried one before or not.
pub fn draw_fault(draw: &mut Draw, kind: Kind, percent: u32, reused: bool) -> Fault {
    if !draw.chance(percent) {
        return draw.weighted(&[
            (6, Fault::None),
            (1, Fault::UntilClose),
            (1, Fault::Interim),
            (1, Fault::Early),
        ]);
    }
    let stream = u32::from(kind.is_stream());
    let statuses = [500, 503, 429, 502, 504, 408, 400, 404, 204];
    let status = draw.pick(&statuses);
    draw.weighted(&[
        (if reused { 12 } else { 3 }, Fault::CloseUnanswered),
        (2, Fault::CloseAtHead),
        (2, Fault::Stall),
        (2, Fault::HalfHead),
        (1, Fault::HalfHeadStall),
        (3, Fault::CutBody),
        (2, Fault::StallInBody),
        (3 * stream, Fault::HalfEvent),
        (3 * stream, Fault::NoDone),
        (2, Fault::LengthTooLong),
        (2, Fault::LengthTooShort),
        (2, Fault::NoTokens),
        (2, Fault::BytesAfter),
        (8, Fault::Status(status)),
        (3, Fault::Slow),
        (1, Fault::NoHttp),
        (2 * stream, Fault::BadChunk),
        (1, Fault::Switching),
        (3, Fault::CloseAfter),
    ])
}

/// The events or the body of a good answer, or of one without tokens; `tag` is in it.
fn content(kind: Kind, tag: &str, tokens: u64) -> Vec<Vec<u8>> {
    let event = |data: String| format!("data: {data}\n\n").into_bytes();
    match kind {
        Kind::GenerateStream => {
            let one = |n: u64| {
                let words = "w ".repeat(n as usize);
                event(format!(
                    "{{\"text\":\"{words}\",\"meta_info\":{{\"id\":\"{tag}\",\"finish_reason\":null,\"prompt_tokens\":5,\"completion_tokens\":{n}}}}}"
                ))
            };
            (1..=tokens).map(one).chain([event("[DONE]".to_owned())]).collect()
        }
        Kind::ChatStream => {
            let one = |n| event(format!("{{\"id\":\"{tag}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"w{n}\"}}}}]}}"));
            (1..=tokens).map(one).chain([event("[DONE]".to_owned())]).collect()
        }
        Kind::Generate => vec![
            format!("{{\"text\":\"w\",\"meta_info\":{{\"id\":\"{tag}\",\"finish_reason\":{{\"type\":\"length\",\"length\":4}},\"prompt_tokens\":5,\"completion_tokens\":{tokens}}}}}")
                .into_bytes(),
        ],
        Kind::Chat => {
            let choice = "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"w\"},\"finish_reason\":\"stop\"}";
            vec![
                format!("{{\"id\":\"{tag}\",\"choices\":[{choice}],\"usage\":{{\"prompt_tokens\":5,\"completion_tokens\":{tokens}}}}}")
                    .into_bytes(),
            ]
        }
        Kind::Embed => vec![
            format!("{{\"id\":\"{tag}\",\"data\":[{{\"embedding\":[0.5],\"index\":0}}],\"usage\":{{\"prompt_tokens\":5}}}}").into_bytes(),
        ],
        _ => vec![format!("{{\"it\":\"is {tag}\"}}").into_bytes()],
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framed {
    Length(usize),
    Chunks,
    UntilClose,
}

fn head(status: u16, kind: Kind, framed: Framed) -> Vec<u8> {
    let content_type =
        if kind.is_stream() && status < 400 { "text/event-stream" } else { "application/json" };
    let framing = match framed {
        _ if status == 204 => String::new(),
        Framed::Length(bytes) => format!("Content-Length: {bytes}\r\n"),
        Framed::Chunks => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framed::UntilClose => "Connection: close\r\n".to_owned(),
    };
    format!("HTTP/1.1 {status} Said\r\nContent-Type: {content_type}\r\nX-Engine: e\r\n{framing}\r\n")
        .into_bytes()
}

fn chunk(data: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

impl Answer {
    /// The answer to a request of this kind that has this fault.
    pub fn with(fault: Fault, kind: Kind, tag: &str, draw: &mut Draw) -> Self {
        let none =
            |parts| Self { parts, status: 0, data: Vec::new(), ending: Ending::NoAnswer, worth: Worth::Bad };
        match fault {
            Fault::CloseAtHead | Fault::CloseUnanswered => none(vec![Part::Close]),
            Fault::Stall => none(vec![Part::Stall]),
            Fault::HalfHead => none(vec![Part::Write(b"HTTP/1.1 200 Sa".to_vec()), Part::Close]),
            Fault::HalfHeadStall => {
                none(vec![Part::Write(b"HTTP/1.1 200 Said\r\nX-En".to_vec()), Part::Stall])
            }
            Fault::NoHttp => none(vec![Part::Write(b"* OK IMAP4rev1 ready\r\n".to_vec()), Part::Stall]),
            Fault::Switching => none(vec![Part::Write(b"HTTP/1.1 101 Other\r\n\r\n".to_vec()), Part::Stall]),
            _ => Self::of_substance(fault, kind, tag, draw),
        }
    }

    fn of_substance(fault: Fault, kind: Kind, tag: &str, draw: &mut Draw) -> Self {
        let status = if let Fault::Status(status) = fault { status } else { 200 };
        let events = match fault {
            Fault::Status(204) => Vec::new(),
            Fault::Status(_) => vec![format!("{{\"error\":\"{tag} will not\"}}").into_bytes()],
            Fault::NoTokens if kind.is_stream() => content(kind, tag, 0),
            Fault::NoTokens => content(kind, tag, 0),
            _ => content(kind, tag, draw.number(1..6)),
        };
        let mut answer = Self {
            parts: if fault == Fault::Interim {
                vec![Part::Write(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n".to_vec())]
            } else {
                Vec::new()
            },
            status,
            data: Vec::new(),
            ending: Ending::Whole,
            worth: worth(fault, kind, status),
        };
        let bodiless = kind == Kind::UnknownHead || status == 204;
        let streams = kind.is_stream() && status < 400 && status != 204;
        let framed = match fault {
            Fault::UntilClose => Framed::UntilClose,
            Fault::LengthTooLong | Fault::LengthTooShort => Framed::Length(0),
            _ if streams || draw.chance(20) => Framed::Chunks,
            _ => Framed::Length(0),
        };
        let pause = (streams || fault == Fault::Slow).then(|| match fault {
            Fault::Slow => draw.millis(50..2_000),
            _ => draw.millis(0..40),
        });
        answer.put(fault, kind, (events, framed, pause, bodiless), draw);
        answer
    }

    fn put(
        &mut self,
        fault: Fault,
        kind: Kind,
        (mut events, framed, pause, bodiless): (Vec<Vec<u8>>, Framed, Option<Duration>, bool),
        draw: &mut Draw,
    ) {
        if fault == Fault::NoDone {
            events.pop();
        }
        let all = events.concat();
        let framed = match (framed, fault) {
            (Framed::Length(_), Fault::LengthTooLong) => Framed::Length(all.len() + 9),
            (Framed::Length(_), Fault::LengthTooShort) => Framed::Length(all.len() - 3),
            (Framed::Length(_), _) => Framed::Length(all.len()),
            (other, _) => other,
        };
        let framed = if self.status == 204 { Framed::Length(0) } else { framed };
        self.parts.push(Part::Write(head(self.status, kind, framed)));
        let broken = bodiless && !matches!(fault, Fault::BytesAfter | Fault::CloseAfter | Fault::UntilClose);
        if !bodiless {
            self.put_events(fault, &events, framed, pause, draw);
        }
        if !broken {
            match fault {
                Fault::BytesAfter => self.parts.push(Part::Write(b"HTTP/1.1 200 Forged\r\n\r\n".to_vec())),
                Fault::CloseAfter | Fault::UntilClose => self.parts.push(Part::Close),
                _ => {}
            }
        }
    }

    fn put_events(
        &mut self,
        fault: Fault,
        events: &[Vec<u8>],
        framed: Framed,
        pause: Option<Duration>,
        draw: &mut Draw,
    ) {
        let last = draw.size(0..events.len().max(1));
        let frame = |data: &[u8]| if framed == Framed::Chunks { chunk(data) } else { data.to_vec() };
        for (i, event) in events.iter().enumerate() {
            if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
                self.parts.push(Part::Wait(pause));
            }
            if i == last
                && matches!(fault, Fault::CutBody | Fault::StallInBody | Fault::HalfEvent | Fault::BadChunk)
            {
                let half = &event[..event.len() / 2];
                if framed != Framed::Chunks || fault != Fault::BadChunk {
                    self.parts.push(Part::Write(frame(half)));
                    self.data.extend_from_slice(half);
                } else {
                    self.parts.push(Part::Write(b"zz\r\n".to_vec()));
                }
                let stalls = fault == Fault::StallInBody;
                self.parts.push(if stalls { Part::Stall } else { Part::Close });
                self.ending = if stalls { Ending::Never } else { Ending::Broken };
                return;
            }
            self.parts.push(Part::Write(frame(event)));
            self.data.extend_from_slice(event);
        }
        if framed == Framed::Chunks {
            self.parts.push(Part::Write(b"0\r\n\r\n".to_vec()));
        }
        match fault {
            Fault::LengthTooLong => {
                self.parts.push(Part::Close);
                self.ending = Ending::Broken;
            }
            Fault::LengthTooShort => self.data.truncate(self.data.len() - 3),
            _ => {}
        }
    }
}

fn worth(fault: Fault, kind: Kind, status: u16) -> Worth {
    let bad = match fault {
        Fault::NoDone | Fault::NoTokens => kind.generates(),
        // Of a stream cut short by its own length the closing event is missing; a plain answer is no JSON then.
        Fault::LengthTooShort | Fault::Status(204) => kind.generates() || kind == Kind::Embed,
        _ => status >= 400,
    };
    if bad { Worth::Bad } else { Worth::Good }
}
