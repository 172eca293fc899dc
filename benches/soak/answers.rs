//! What a worker says to one request: good answers of several shapes, and every way to fail at it.
//!
//! Rule: pure: a plan and a request in, steps out. Each object of an answer names the request that it is for, so that an
//! answer that went astray is seen by whoever gets it. Deliberately not here: sockets.

use std::time::Duration;

use crate::dice::Dice;

/// What is done with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A good answer, as one would like it.
    Good,
    /// A good one in many small pieces.
    Drip,
    /// A good one whose end is the connection's.
    UntilClose,
    /// A good one after `100 Continue`.
    Interim,
    /// A good one that says `connection: close`.
    SaysClose,
    /// A good one, and the connection closes without having said so.
    ClosesUnsaid,
    /// A good one, and something behind it that nobody asked for.
    Unasked,
    /// A body that is longer than was announced.
    LongerThanSaid,
    /// An error of this status.
    Status(u16),
    /// An answer before the body was read, then the end.
    Early,
    /// A 200 whose stream holds an error.
    ErrorEvent,
    /// A stream without its `[DONE]`.
    NoDone,
    /// Something that is not HTTP.
    Garbage,
    /// A chunk whose size is no number.
    BadChunk,
    /// Reset before a byte.
    ResetBeforeHead,
    /// Closed before a byte.
    CloseBeforeHead,
    /// Reset inside the head.
    ResetMidHead,
    /// Reset inside the body.
    ResetMidBody,
    /// Closed inside the body, which is then shorter than was announced.
    ShorterThanSaid,
    /// Nothing, for ever.
    Stall,
    /// A part, and then nothing, for ever.
    StallMidBody,
}

impl Plan {
    /// The whole answer is a good one. Some faults are of streams alone, and some of what is none; of what nobody reads a
    /// length that is wrong is not one.
    pub fn is_good(self, stream: bool, is_read: bool) -> bool {
        match self {
            Self::Good
            | Self::Drip
            | Self::UntilClose
            | Self::Interim
            | Self::SaysClose
            | Self::ClosesUnsaid
            | Self::Unasked => true,
            Self::LongerThanSaid => stream || !is_read,
            Self::ErrorEvent | Self::NoDone | Self::BadChunk => !stream,
            _ => false,
        }
    }
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Most answers are good.
    Well,
    /// Few are.
    Sick,
}

/// One move.
#[derive(Clone, Debug)]
pub enum Step {
    /// Write this.
    Send(Vec<u8>),
    /// Do nothing for a while.
    Pause(Duration),
}

/// How a script ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The connection goes on.
    GoesOn,
    /// It closes in good order.
    Close,
    /// It is reset.
    Reset,
    /// It stays open and says nothing.
    Stall,
}

/// What a worker knows of the request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its id.
    pub id: &'a str,
    /// It wants events.
    pub stream: bool,
    /// It goes to `/v1/chat/completions`.
    pub chat: bool,
    /// How much it wants.
    pub length: Length,
}

/// How long an answer a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// Some tokens, which come at once.
    #[default]
    Short,
    /// Far more than fits into a socket's buffers.
    Long,
    /// Some that take their time, a second or two in all.
    Lasting,
}

impl Length {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Short, Self::Long, Self::Lasting];

    /// The tokens by which a request asks for it.
    pub fn tokens(self) -> u64 {
        match self {
            Self::Short => 16,
            Self::Long => 100_000,
            Self::Lasting => 50,
        }
    }
}

/// Draws a plan.
pub fn plan(dice: &mut Dice, health: Health) -> Plan {
    use Plan::{
        BadChunk, CloseBeforeHead, ClosesUnsaid, Drip, Early, ErrorEvent, Garbage, Good, Interim,
        LongerThanSaid, NoDone, ResetBeforeHead, ResetMidBody, ResetMidHead, SaysClose, ShorterThanSaid,
        Stall, StallMidBody, Status, Unasked, UntilClose,
    };
    let good = if health == Health::Well { 2_000 } else { 20 };
    let status = dice.pick(&[(4, 500), (3, 503), (1, 502), (1, 504), (1, 429), (1, 408), (2, 400), (1, 404)]);
    dice.pick(&[
        (good, Good),
        (good / 20, Drip),
        (good / 40, UntilClose),
        (good / 40, Interim),
        (good / 40, SaysClose),
        (good / 40, ClosesUnsaid),
        (good / 40, Unasked),
        (10, LongerThanSaid),
        (80, Status(status)),
        (10, Early),
        (10, ErrorEvent),
        (10, NoDone),
        (10, Garbage),
        (10, BadChunk),
        (15, ResetBeforeHead),
        (15, CloseBeforeHead),
        (10, ResetMidHead),
        (15, ResetMidBody),
        (15, ShorterThanSaid),
        (6, Stall),
        (6, StallMidBody),
    ])
}

/// The moves of a plan.
pub fn script(plan: Plan, request: Request<'_>, dice: &mut Dice) -> (Vec<Step>, Ending) {
    if let Some(ends_at_once) = abrupt(plan) {
        return ends_at_once;
    }
    let mut pieces = body(plan, request, dice);
    let whole_bytes: usize = pieces.iter().map(Vec::len).sum();
    let half = matches!(plan, Plan::ResetMidBody | Plan::ShorterThanSaid | Plan::StallMidBody);
    if half {
        let keep = pieces.len().div_ceil(2);
        pieces.truncate(keep);
        if let [only] = &mut pieces[..] {
            only.truncate(only.len() / 2);
        }
    }
    let chunked = request.stream && plan != Plan::UntilClose;
    let said_bytes = match plan {
        Plan::LongerThanSaid => whole_bytes / 2,
        Plan::Early => 0,
        _ => whole_bytes,
    };
    let mut first = head(plan, request.stream, chunked, said_bytes).into_bytes();
    let mut steps = Vec::new();
    if dice.one_in(3) {
        // Else head and first piece come in one packet.
        steps.push(Step::Send(std::mem::take(&mut first)));
    }
    for piece in pieces {
        let piece = if chunked { chunk(&piece) } else { piece };
        first.extend_from_slice(&piece);
        steps.push(Step::Send(std::mem::take(&mut first)));
        let most_ms = match plan {
            _ if request.length == Length::Lasting => 60,
            Plan::Drip => 6,
            _ if request.stream && request.length == Length::Short => 2,
            _ => continue,
        };
        steps.push(Step::Pause(Duration::from_millis(dice.between(0, most_ms))));
    }
    if plan == Plan::BadChunk && chunked {
        steps.push(Step::Send(b"no size\r\n".to_vec()));
    } else if chunked && !half {
        steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    }
    if let (Plan::Unasked, Some(Step::Send(last))) = (plan, steps.last_mut()) {
        // In one packet with the end, so that it is there when the router looks whether the connection can be used again.
        last.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\n{\"id\":\"soak-unasked\"}");
    }
    (steps, ending(plan))
}

/// Plans without an answer.
fn abrupt(plan: Plan) -> Option<(Vec<Step>, Ending)> {
    let send = |text: &str| vec![Step::Send(text.as_bytes().to_vec())];
    Some(match plan {
        Plan::ResetBeforeHead => (Vec::new(), Ending::Reset),
        Plan::CloseBeforeHead => (Vec::new(), Ending::Close),
        Plan::Stall => (Vec::new(), Ending::Stall),
        Plan::ResetMidHead => (send("HTTP/1.1 200 OK\r\ncontent-ty"), Ending::Reset),
        Plan::Garbage => (send("+OK this is another protocol\r\n\r\n"), Ending::Close),
        _ => return None,
    })
}

fn ending(plan: Plan) -> Ending {
    match plan {
        Plan::UntilClose | Plan::SaysClose | Plan::ClosesUnsaid | Plan::Early | Plan::ShorterThanSaid => {
            Ending::Close
        }
        Plan::ResetMidBody => Ending::Reset,
        Plan::StallMidBody => Ending::Stall,
        _ => Ending::GoesOn,
    }
}

fn head(plan: Plan, stream: bool, chunked: bool, said_bytes: usize) -> String {
    let interim = if plan == Plan::Interim { "HTTP/1.1 100 Continue\r\n\r\n" } else { "" };
    let status = match plan {
        Plan::Status(status) => status,
        Plan::Early => 413,
        _ => 200,
    };
    let kind = if stream && status == 200 { "text/event-stream; charset=utf-8" } else { "application/json" };
    let framing = match plan {
        _ if chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Plan::UntilClose => String::new(),
        _ => format!("content-length: {said_bytes}\r\n"),
    };
    let close = if matches!(plan, Plan::SaysClose | Plan::Early) { "connection: close\r\n" } else { "" };
    format!("{interim}HTTP/1.1 {status} Said\r\ncontent-type: {kind}\r\n{framing}{close}\r\n")
}

fn body(plan: Plan, request: Request<'_>, dice: &mut Dice) -> Vec<Vec<u8>> {
    let id = request.id;
    match plan {
        Plan::Early => return Vec::new(),
        Plan::Status(status) => {
            let error = format!(r#"{{"error":{{"message":"as planned","code":{status}}},"id":"{id}"}}"#);
            return vec![error.into_bytes()];
        }
        _ => {}
    }
    let long = request.length == Length::Long;
    let tokens = match request.length {
        Length::Short => dice.between(1, 20),
        Length::Long => dice.between(500, 2_000),
        Length::Lasting => 50,
    };
    if !request.stream {
        let text = "so many words ".repeat(if long { 50 * tokens as usize } else { tokens as usize });
        let whole = object(request, &text, tokens, true).into_bytes();
        let size = if plan == Plan::Drip { whole.len().div_ceil(20) } else { whole.len() };
        return whole.chunks(size).map(<[u8]>::to_vec).collect();
    }
    let text = "word ".repeat(if long { 80 } else { 2 });
    let mut all = Vec::new();
    for n in 1..=tokens {
        let event = object(request, &text, n, n == tokens);
        all.push(format!("data: {event}\n\n").into_bytes());
    }
    if plan == Plan::ErrorEvent {
        let error = r#"{"error":{"message":"as planned","code":500}"#;
        all.push(format!("data: {error},\"id\":\"{id}\"}}\n\n").into_bytes());
    }
    if plan != Plan::NoDone {
        all.push(b"data: [DONE]\n\n".to_vec());
    }
    if plan == Plan::Drip || (dice.one_in(4) && request.length == Length::Short) {
        // Pieces that have nothing to do with events.
        let size = dice.between(60, 600) as usize;
        return all.concat().chunks(size).map(<[u8]>::to_vec).collect();
    }
    all
}

/// An answer or an event, as SGLang writes them.
fn object(request: Request<'_>, text: &str, tokens: u64, is_last: bool) -> String {
    let id = request.id;
    if !request.chat {
        let reason = if is_last { r#"{"type":"length","length":0}"# } else { "null" };
        let counts = format!(r#""prompt_tokens":9,"completion_tokens":{tokens},"cached_tokens":3"#);
        let meta = format!(r#"{{"id":"{id}","finish_reason":{reason},{counts}}}"#);
        return format!(r#"{{"text":"{text}","meta_info":{meta}}}"#);
    }
    let reason = if is_last { r#""length""# } else { "null" };
    let said = if request.stream { "delta" } else { "message" };
    let usage =
        format!(r#"{{"prompt_tokens":9,"completion_tokens":{tokens},"total_tokens":{}}}"#, 9 + tokens);
    format!(
        r#"{{"id":"{id}","choices":[{{"index":0,"{said}":{{"content":"{text}"}},"finish_reason":{reason}}}],"usage":{usage}}}"#
    )
}

fn chunk(data: &[u8]) -> Vec<u8> {
    let mut out = format!("{:x}\r\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    out
}
