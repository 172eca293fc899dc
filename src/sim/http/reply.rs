//! Responses: status, headers in the order of the captured answers, whole bodies and event streams.
//!
//! Rules: one event is one HTTP chunk; every response says that it is simulated. hyper decides the case of header names and of
//! chunk sizes, and writes `transfer-encoding` last. Deliberately not here: what the bodies say.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue, SERVER, VARY,
};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};

use super::fault::poll_cut;
use crate::sim::dialect::Dialect;
use crate::sim::stamps::http_date;

/// On every response.
pub const SIMULATED: HeaderName = HeaderName::from_static("x-milepost-simulated");

/// The content type of most answers.
pub const JSON: &str = "application/json";

/// The last event of every stream.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// One event.
pub fn event(json: &str) -> Bytes {
    Bytes::from(["data: ", json, "\n\n"].concat())
}

/// The connection ends here, in the middle of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("answer cut off on purpose")
    }
}

impl std::error::Error for Cut {}

/// A piece of a stream.
pub type Piece = Result<Bytes, Cut>;

/// Makes the pieces of a stream.
pub trait Source: Send + 'static {
    /// Waits for the next pieces; none: the stream is over.
    fn more(&mut self) -> impl Future<Output = Vec<Piece>> + Send;
}

/// Pieces that are there already.
impl Source for Vec<Piece> {
    async fn more(&mut self) -> Vec<Piece> {
        std::mem::take(self)
    }
}

/// The body of a response.
pub enum SimBody {
    /// All of it.
    Whole(Bytes),
    /// Chunks.
    Chunks(Pin<Box<dyn Body<Data = Bytes, Error = Cut> + Send>>),
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Chunks(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Chunks(_) => SizeHint::default(),
        }
    }
}

type Refill<S> = Pin<Box<dyn Future<Output = (S, Vec<Piece>)> + Send>>;

/// Turns a source into a body: holds at most what one call of `more` gave.
struct Chunked<S> {
    ready: VecDeque<Piece>,
    refill: Option<Refill<S>>,
    source: Option<S>,
    flushed: bool,
}

impl<S: Source + Unpin> Body for Chunked<S> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.ready.is_empty() {
            if let Some(mut source) = self.source.take() {
                self.refill = Some(Box::pin(async move {
                    let pieces = source.more().await;
                    (source, pieces)
                }));
            }
            let Some(refill) = &mut self.refill else {
                return Poll::Ready(None);
            };
            let (source, pieces) = ready!(refill.as_mut().poll(cx));
            self.refill = None;
            self.source = (!pieces.is_empty()).then_some(source);
            self.ready = pieces.into();
        }
        if let Some(Err(Cut)) = self.ready.front() {
            return poll_cut(&mut self.flushed, cx);
        }
        Poll::Ready(self.ready.pop_front().map(|piece| piece.map(Frame::data)))
    }
}

/// Makes the responses of one server.
#[derive(Clone, Copy, Debug)]
pub struct Replies {
    /// Whose headers.
    pub dialect: Dialect,
    /// Wall time of the worker.
    pub unix_ns: u64,
}

impl Replies {
    /// A whole JSON answer.
    pub fn json(self, status: StatusCode, body: impl Into<Bytes>) -> Response<SimBody> {
        self.whole(status, Some(JSON), None, body.into())
    }

    /// 200 without a body.
    pub fn empty(self, status: StatusCode) -> Response<SimBody> {
        self.whole(status, None, None, Bytes::new())
    }

    /// A whole answer.
    pub fn whole(
        self,
        status: StatusCode,
        content_type: Option<&'static str>,
        allow: Option<&str>,
        body: Bytes,
    ) -> Response<SimBody> {
        let mut response = Response::new(SimBody::Whole(Bytes::new()));
        *response.status_mut() = status;
        self.open(&mut response);
        let headers = response.headers_mut();
        if let Some(allow) = allow.and_then(|a| HeaderValue::from_str(a).ok()) {
            headers.insert(ALLOW, allow);
        }
        let length = HeaderValue::from(body.len());
        let content_type = content_type.map(HeaderValue::from_static);
        if self.dialect.is_rust() {
            content_type.map(|value| headers.insert(CONTENT_TYPE, value));
            headers.insert(CONTENT_LENGTH, length);
        } else {
            headers.insert(CONTENT_LENGTH, length);
            content_type.map(|value| headers.insert(CONTENT_TYPE, value));
        }
        *response.body_mut() = SimBody::Whole(body);
        self.close(&mut response);
        response
    }

    /// A chunked answer.
    pub fn chunks<S: Source + Unpin>(self, content_type: &'static str, source: S) -> Response<SimBody> {
        let chunked = Chunked { ready: VecDeque::new(), refill: None, source: Some(source), flushed: false };
        let mut response = Response::new(SimBody::Chunks(Box::pin(chunked)));
        self.open(&mut response);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.dialect.is_rust() && content_type == "text/event-stream" {
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        self.close(&mut response);
        response
    }

    /// An event stream. `python_like`: the Rust front end's chat streams name their character set as uvicorn's do.
    pub fn events<S: Source + Unpin>(self, python_like: bool, source: S) -> Response<SimBody> {
        let plain = self.dialect.is_rust() && !python_like;
        self.chunks(if plain { "text/event-stream" } else { "text/event-stream; charset=utf-8" }, source)
    }

    fn open(self, response: &mut Response<SimBody>) {
        if self.dialect.is_rust() {
            return;
        }
        let headers = response.headers_mut();
        if let Ok(date) = HeaderValue::from_str(&http_date(self.unix_ns)) {
            headers.insert(DATE, date);
        }
        headers.insert(SERVER, HeaderValue::from_static("uvicorn"));
    }

    fn close(self, response: &mut Response<SimBody>) {
        let crashed = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
        let headers = response.headers_mut();
        if !self.dialect.is_rust() && !crashed {
            headers.insert(VARY, HeaderValue::from_static("Origin"));
        }
        headers.insert(SIMULATED, HeaderValue::from_static("1"));
    }
}
