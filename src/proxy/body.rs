//! The body of an answer of the router's own.
//!
//! Deliberately not here: a worker's answer, which passes through (`relay`).

use bytes::Bytes;

use crate::admin::trace_tail::FileBody;

/// What the router says itself.
#[derive(Debug)]
pub enum AnswerBody {
    /// Bytes at hand.
    Own(Bytes),
    /// A part of a file, read as the client takes it.
    File(FileBody),
}

impl AnswerBody {
    /// The router's own words.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self::Own(bytes.into())
    }
}
