//! What is sent to a server: a body as it came, or one with a few bytes put into it.
//!
//! Rule: the length is known before, so the server gets a `content-length`; nothing is copied, whatever the size. Deliberately
//! not here: which bytes and where (`proxy::splice`).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

/// A request body.
#[derive(Debug)]
pub enum RequestBody {
    /// In one piece.
    Whole(Full<Bytes>),
    /// In three pieces, sent one after the other; sent ones are empty. Boxed, as few bodies are, and hyper moves the others.
    Pieces(Box<[Bytes; 3]>),
}

impl From<Full<Bytes>> for RequestBody {
    fn from(body: Full<Bytes>) -> Self {
        Self::Whole(body)
    }
}

impl From<Bytes> for RequestBody {
    fn from(body: Bytes) -> Self {
        Self::Whole(Full::new(body))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Pieces(pieces) => {
                let next = pieces.iter_mut().find(|piece| !piece.is_empty());
                Poll::Ready(next.map(|piece| Ok(Frame::data(std::mem::take(piece)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Pieces(pieces) => pieces.iter().all(Bytes::is_empty),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Pieces(pieces) => SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn pieces_come_in_order_with_their_whole_length_known_before() {
        let piece = |text: &'static str| Bytes::from_static(text.as_bytes());
        let body = RequestBody::Pieces(Box::new([piece("{"), piece(""), piece("\"a\":1}")]));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(7), false));
        assert_eq!(body.collect().await.unwrap().to_bytes(), "{\"a\":1}");
        assert!(RequestBody::Pieces(Box::default()).is_end_stream());
    }
}
