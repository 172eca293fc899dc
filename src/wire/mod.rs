//! SGLang's and OpenAI's wire formats: bytes in, facts out.
//!
//! `call` looks at a request body, `sse` finds event boundaries, `meta_info` reads the server's stamps, `answer` gathers
//! what one answer told, `problem` makes the error bodies. Rule: no I/O, no clock, nothing re-serialised, nothing here can
//! panic on any input. Deliberately not here: HTTP framing (hyper's work) and header rules (`proxy`).

use serde::{Deserialize, Serialize};

pub mod answer;
pub mod call;
mod gather;
mod json;
pub mod meta_info;
pub mod problem;
mod reply;
pub(crate) mod scan;
pub mod sse;

/// What a path means to a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// `POST /generate`, SGLang's native endpoint.
    Generate,
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// Every other path: passed through, its body not looked at.
    #[default]
    Other,
}

impl Endpoint {
    /// The endpoint behind a path (without its query).
    pub fn of_path(path: &str) -> Self {
        match path {
            "/generate" => Self::Generate,
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            _ => Self::Other,
        }
    }
}
