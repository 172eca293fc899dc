//! What clients ask, and how they behave while they do: drawn.
//!
//! A visit is one connection with its requests, one after the other or sent ahead. Deliberately not here: the doing
//! (`client`).

use std::time::Duration;

use crate::draw::Draw;

/// One client's connection.
#[derive(Debug)]
pub struct Visit {
    /// When it connects.
    pub at: Duration,
    pub requests: Vec<Asked>,
    /// All requests are written before the first answer is read.
    pub pipelined: bool,
    pub manner: Manner,
}

impl Visit {
    /// Each request, with the number of the one before it on the connection.
    pub fn each_after(&self) -> impl Iterator<Item = (Option<usize>, &Asked)> {
        let before = std::iter::once(None).chain(self.requests.iter().map(|asked| Some(asked.number)));
        before.zip(&self.requests)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its number in the world; `x-request-id` is `r` and this.
    pub number: usize,
    pub kind: Kind,
    pub body: Vec<u8>,
    pub framing: BodyFraming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Generate,
    GenerateStream,
    Chat,
    ChatStream,
    Embed,
    /// A `POST` that nobody knows: it may not be carried out twice.
    Unknown,
    /// A `GET` that nobody knows.
    UnknownGet,
    UnknownHead,
    /// `POST /flush_cache`, for all workers.
    Flush,
    /// A control request that all workers get as it came.
    Pause,
    Info,
    /// `/health`, which the router answers.
    Health,
    Ready,
    Workers,
    /// No HTTP at all.
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    Length,
    Chunked,
    /// With `Expect: 100-continue`.
    Expect,
}

/// How a client behaves on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub is_http_11: bool,
    pub sends: Pace,
    /// Whose bytes are sent at that pace.
    pub slow_part: Part,
    pub reads: Pace,
    pub leaves: Option<Leaving>,
    /// It says that nothing more comes, instead of hanging up.
    pub half: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    AtOnce,
    /// So many bytes, then the others get a turn, at the same time.
    Pieces(usize),
    /// A byte, and a pause of this length.
    Drip(Duration),
    /// Nothing for so long, then at once.
    After(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Head,
    Body,
}

/// When a client leaves, in the last of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    InHead,
    InBody,
    /// So long after the last byte.
    Waiting(Duration),
    /// With so many bytes of an answer read.
    Reading(usize),
    /// With a part of the next head sent.
    AheadInHead(Duration),
}

impl Kind {
    pub fn method(self) -> &'static str {
        match self {
            Self::UnknownGet | Self::Info | Self::Health | Self::Ready | Self::Workers => "GET",
            Self::UnknownHead => "HEAD",
            _ => "POST",
        }
    }

    pub fn target(self) -> &'static str {
        match self {
            Self::Generate | Self::GenerateStream => "/generate",
            Self::Chat | Self::ChatStream => "/v1/chat/completions",
            Self::Embed => "/v1/embeddings",
            Self::Unknown => "/open_session?x=1",
            Self::UnknownGet | Self::UnknownHead => "/some/page?q=%20",
            Self::Flush => "/flush_cache",
            Self::Pause => "/pause_generation",
            Self::Info => "/get_server_info",
            Self::Health => "/health",
            Self::Ready => "/readiness",
            Self::Workers => "/workers",
            Self::Garbage => "",
        }
    }

    pub fn is_stream(self) -> bool {
        matches!(self, Self::GenerateStream | Self::ChatStream)
    }

    /// One worker gets it, as it came.
    pub fn is_routed(self) -> bool {
        self.generates() || matches!(self, Self::Embed | Self::Unknown | Self::UnknownGet | Self::UnknownHead)
    }

    pub fn generates(self) -> bool {
        matches!(self, Self::Generate | Self::GenerateStream | Self::Chat | Self::ChatStream)
    }

    pub fn is_local(self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::Workers)
    }

    /// Several workers may get it.
    pub fn is_for_many(self) -> bool {
        matches!(self, Self::Flush | Self::Pause | Self::Info)
    }
}

impl Asked {
    /// Its bytes: head, and body as it is framed.
    pub fn bytes(&self, is_http_11: bool) -> (Vec<u8>, Vec<u8>) {
        if self.kind == Kind::Garbage {
            return (b"\x16\x03\x01 what is this\r\n\r\n".to_vec(), Vec::new());
        }
        let version = if is_http_11 { "HTTP/1.1" } else { "HTTP/1.0" };
        let (method, target) = (self.kind.method(), self.kind.target());
        let mut head =
            format!("{method} {target} {version}\r\nHost: r\r\nX-Request-Id: r{}\r\n", self.number);
        if !is_http_11 {
            head += "Connection: keep-alive\r\n";
        }
        let length = self.body.len();
        let framing = match self.framing {
            _ if method != "POST" => String::new(),
            BodyFraming::Length => format!("Content-Length: {length}\r\n"),
            BodyFraming::Expect => format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"),
            BodyFraming::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        head += &framing;
        head += "\r\n";
        let body = match self.framing {
            BodyFraming::Chunked if method == "POST" => chunked(&self.body),
            _ => self.body.clone(),
        };
        (head.into_bytes(), body)
    }
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, chunk) in body.chunks(1 + body.len() / 3).enumerate() {
        let extension = if i == 1 { ";x=y" } else { "" };
        out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\nTrailer: t\r\n\r\n");
    out
}

/// Draws a visit whose first request has this number.
pub fn visit(draw: &mut Draw, first: usize, room_bytes: usize, calm: bool) -> Visit {
    let manner = manner(draw, calm);
    let count = draw.weighted(&[(5, 1), (3, 2), (2, 4)]);
    let pipelined = count > 1 && manner.is_http_11 && draw.chance(25);
    let mut requests: Vec<Asked> =
        (first..first + count).map(|number| asked(draw, number, room_bytes, manner, calm)).collect();
    for asked in requests.iter_mut().filter(|asked| pipelined && asked.framing == BodyFraming::Expect) {
        // Who does not wait for an answer cannot wait for leave to go on.
        asked.framing = BodyFraming::Length;
    }
    Visit { at: draw.millis(0..3_000), requests, pipelined, manner }
}

fn manner(draw: &mut Draw, calm: bool) -> Manner {
    let plain = Manner {
        is_http_11: draw.chance(90),
        sends: draw.weighted(&[(4, Pace::AtOnce), (1, Pace::Pieces(1)), (1, Pace::Pieces(37))]),
        slow_part: draw.pick(&[Part::Head, Part::Body]),
        reads: draw.weighted(&[(4, Pace::AtOnce), (1, Pace::Pieces(1)), (1, Pace::Pieces(50))]),
        leaves: None,
        half: draw.chance(30),
    };
    if calm || draw.chance(50) {
        return plain;
    }
    // Some of those who leave had not read for a while.
    let plain =
        if draw.chance(15) { Manner { reads: Pace::After(Duration::from_secs(9)), ..plain } } else { plain };
    let second = Duration::from_secs(1);
    let wait = draw.millis(0..1_500);
    match draw.size(0..10) {
        0 => Manner { sends: Pace::Drip(second), ..plain },
        1 => Manner { sends: Pace::Drip(Duration::from_millis(7)), ..plain },
        2 => Manner { reads: Pace::Drip(second), ..plain },
        3 => Manner { reads: Pace::After(wait * 6), ..plain },
        4 => Manner { leaves: Some(Leaving::InHead), ..plain },
        5 => Manner { leaves: Some(Leaving::InBody), ..plain },
        6 => Manner { leaves: Some(Leaving::AheadInHead(wait)), ..plain },
        7 => Manner { leaves: Some(Leaving::Reading(draw.size(1..900))), ..plain },
        8 => Manner { leaves: Some(Leaving::Waiting(Duration::ZERO)), ..plain },
        _ => Manner { leaves: Some(Leaving::Waiting(wait)), ..plain },
    }
}

fn asked(draw: &mut Draw, number: usize, room_bytes: usize, manner: Manner, calm: bool) -> Asked {
    let kind = draw.weighted(&[
        (20, Kind::Generate),
        (20, Kind::GenerateStream),
        (8, Kind::Chat),
        (8, Kind::ChatStream),
        (5, Kind::Embed),
        (8, Kind::Unknown),
        (4, Kind::UnknownGet),
        (3, Kind::UnknownHead),
        (2, Kind::Flush),
        (2, Kind::Pause),
        (2, Kind::Info),
        (4, Kind::Health),
        (2, Kind::Ready),
        (1, Kind::Workers),
        (if calm { 0 } else { 2 }, Kind::Garbage),
    ]);
    let framing =
        match draw.weighted(&[(6, BodyFraming::Length), (2, BodyFraming::Chunked), (1, BodyFraming::Expect)])
        {
            _ if !manner.is_http_11 => BodyFraming::Length,
            framing => framing,
        };
    let long = room_bytes > 10_000 && draw.chance(8) && manner.sends == Pace::AtOnce;
    let text_bytes = if long { draw.size(3_000..150_000) } else { draw.size(1..300) };
    Asked { number, kind, body: body(kind, number, text_bytes), framing }
}

fn body(kind: Kind, number: usize, text_bytes: usize) -> Vec<u8> {
    let text = format!("{number} words ").repeat(1 + text_bytes / 8);
    let text = &text[..text_bytes];
    match kind {
        Kind::Generate => format!("{{\"text\":\"{text}\",\"sampling_params\":{{\"max_new_tokens\":4}}}}"),
        Kind::GenerateStream => format!("{{\"text\":\"{text}\",\"rid\":\"rid-{number}\",\"stream\":true}}"),
        Kind::Chat => format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"),
        Kind::ChatStream => {
            format!("{{\"model\":\"m\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}")
        }
        Kind::Embed => format!("{{\"model\":\"m\",\"input\":\"{text}\"}}"),
        Kind::Unknown => format!("session {number}: {text}"),
        _ => String::new(),
    }
    .into_bytes()
}
