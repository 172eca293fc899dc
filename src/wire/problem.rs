//! The router's own error answers, in the form of sglang-router's.
//!
//! `{"error":{"type":"Service Unavailable","code":"no_available_workers","message":".."}}`, the code also in the header
//! [`CODE_HEADER`]. Rule: the message is ours, never text from a body. Deliberately not here: which error when.

use bytes::Bytes;
use serde::Serialize;

/// The header that repeats the code (sglang-router's `X-SMG-Error-Code`).
pub const CODE_HEADER: &str = "x-smg-error-code";
/// Content type of the body.
pub const CONTENT_TYPE: &str = "application/json";

/// One error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What happened, for programs: `no_available_workers`; also the value of [`CODE_HEADER`].
    pub code: &'static str,
    /// What happened and what to do, for people.
    pub message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    r#type: &'a str,
    code: &'a str,
    message: &'a str,
}

impl Problem {
    /// An error answer.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The JSON body. `type` is the status's standard phrase.
    pub fn body(&self) -> Bytes {
        let phrase = http::StatusCode::from_u16(self.status)
            .ok()
            .and_then(|s| s.canonical_reason())
            .unwrap_or("Error");
        let body = Body { error: Inner { r#type: phrase, code: self.code, message: &self.message } };
        serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_sglang_routers() {
        let p = Problem::new(503, "no_available_workers", "no \"healthy\" worker");
        assert_eq!(
            p.body(),
            r#"{"error":{"type":"Service Unavailable","code":"no_available_workers","message":"no \"healthy\" worker"}}"#
        );
        assert!(Problem::new(999, "x", "y").body().starts_with(br#"{"error":{"type":"Error""#));
    }
}
