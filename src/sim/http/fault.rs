//! Faults on demand: header `x-milepost-sim-fault`, honoured only with `--allow-faults`.
//!
//! | value | what happens |
//! |---|---|
//! | `reset_before_head` | the connection is reset (RST) before any byte of the answer |
//! | `reset_mid_stream:N` | it is reset after N chunks of the answer |
//! | `stall` | no byte comes for ten minutes, then a reset |
//! | `error_500` | 500, as uvicorn says it when a handler raised |
//! | `empty_200` | 200 with an empty JSON body |
//! | `truncate` | half of a whole body, or one event of a stream, then the connection is closed without its end |
//!
//! Rule: an unknown value is a 400 that says so, never silently no fault. Deliberately not here: faults by chance (a load that
//! wants one in a hundred sends the header on one request in a hundred), and faults of the whole worker (`switch`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame};

use super::reply::{Cut, SimBody};

/// The request header.
pub const HEADER: &str = "x-milepost-sim-fault";
/// The names of all faults.
pub const EXPECTED: &str = "reset_before_head, reset_mid_stream:N, stall, error_500, empty_200 or truncate";

/// What to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `reset_before_head`.
    ResetBeforeHead,
    /// `reset_mid_stream:N`.
    ResetMidStream(usize),
    /// `stall`.
    Stall,
    /// `error_500`.
    Error500,
    /// `empty_200`.
    Empty200,
    /// `truncate`.
    Truncate,
}

impl Fault {
    /// The fault that a request asks for; the error says what was wrong with its header.
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let Some(value) = headers.get(HEADER) else {
            return Ok(None);
        };
        let value = value.to_str().unwrap_or("");
        let expected = || format!("{HEADER}: expected {EXPECTED}, got {value}");
        Self::parse(value).ok_or_else(expected).map(Some)
    }

    /// A fault by its name.
    pub fn parse(value: &str) -> Option<Self> {
        Some(match value {
            "reset_before_head" => Self::ResetBeforeHead,
            "stall" => Self::Stall,
            "error_500" => Self::Error500,
            "empty_200" => Self::Empty200,
            "truncate" => Self::Truncate,
            _ => Self::ResetMidStream(value.strip_prefix("reset_mid_stream:")?.parse().ok()?),
        })
    }

    /// Cuts an answer short where the fault says so; others leave it alone.
    pub fn cut(self, response: Response<SimBody>) -> Response<SimBody> {
        let chunks = match self {
            Self::ResetMidStream(chunks) => chunks,
            Self::Truncate => 1,
            _ => return response,
        };
        response.map(|body| {
            let body = match body {
                SimBody::Whole(bytes) if self == Self::Truncate => {
                    SimBody::Whole(bytes.slice(..bytes.len() / 2))
                }
                other => other,
            };
            SimBody::Chunks(Box::pin(Short { body, chunks_left: chunks, flushed: false }))
        })
    }
}

/// A body that ends in an error after some chunks.
struct Short {
    body: SimBody,
    chunks_left: usize,
    flushed: bool,
}

impl Body for Short {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.chunks_left == 0 {
            return poll_cut(&mut self.flushed, cx);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.chunks_left -= 1;
        if frame.is_none() {
            self.chunks_left = 0;
            return poll_cut(&mut self.flushed, cx);
        }
        Poll::Ready(frame)
    }
}

/// Ends a body with an error, one poll later, so that hyper writes what it holds before it gives the connection up.
pub fn poll_cut<T>(flushed: &mut bool, cx: &mut Context<'_>) -> Poll<Option<Result<T, Cut>>> {
    if std::mem::replace(flushed, true) {
        return Poll::Ready(Some(Err(Cut)));
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_fault_is_named_or_refused() {
        let of = |value: &'static str| {
            Fault::of(&HeaderMap::from_iter([(
                http::HeaderName::from_static(HEADER),
                HeaderValue::from_static(value),
            )]))
        };
        assert_eq!(of("stall"), Ok(Some(Fault::Stall)));
        assert_eq!(of("reset_mid_stream:3"), Ok(Some(Fault::ResetMidStream(3))));
        assert!(of("reset_mid_stream:x").is_err());
        assert!(of("explode").expect_err("unknown").contains("explode"));
        assert_eq!(Fault::of(&HeaderMap::new()), Ok(None));
    }
}
