//! The body of a response to a client: the router's own words, or a worker's passing through.
//!
//! Rule: nothing is buffered here; a frame is asked for when the client can take it, which is the back-pressure.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::relay::RelayBody;
use crate::admin::trace_tail::FileBody;

/// A response body.
#[derive(Debug)]
pub enum AnswerBody {
    /// Bytes of the router's own; taken when sent.
    Own(Option<Bytes>),
    /// A worker's answer.
    Relay(Box<RelayBody>),
    /// A part of a file.
    File(FileBody),
}

impl AnswerBody {
    /// The router's own words.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self::Own(Some(bytes.into()).filter(|b| !b.is_empty()))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Relay(relay) => Pin::new(&mut **relay).poll_frame(cx),
            Self::File(file) => Pin::new(file).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Relay(relay) => relay.is_end_stream(),
            Self::File(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Relay(relay) => relay.size_hint(),
            Self::File(_) => SizeHint::default(),
        }
    }
}
