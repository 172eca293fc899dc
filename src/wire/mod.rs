//! SGLang's and OpenAI's wire formats: bytes in, facts out.
//!
//! `call` looks at a request body (`prompt`: its routing text, `engine_text`: what an engine will see of it), `sse` finds event
//! boundaries, `meta_info` reads the server's stamps, `answer` gathers what one answer told, `loads` and `exposition` read what a
//! server says of its load, `problem` makes the error bodies, `rank` finds where a body can name a data-parallel rank,
//! `traceparent` says which trace a request is part of. Rule: no I/O, no clock, nothing re-serialised, nothing here can panic on
//! any input. Deliberately not here: HTTP framing (`http1`) and header rules (`proxy`).

use serde::{Deserialize, Serialize};

pub mod answer;
pub mod call;
mod engine_text;
pub mod exposition;
mod gather;
mod json;
pub mod loads;
pub mod meta_info;
pub mod problem;
mod prompt;
pub mod rank;
mod reply;
mod response;
pub(crate) mod scan;
mod session;
pub mod sse;
pub mod traceparent;

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
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1/embeddings` and SGLang's native `/encode`.
    Embeddings,
    /// `POST /v1/rerank` and `/rerank`.
    Rerank,
    /// `POST /v1/classify` and SGLang's native `/classify`.
    Classify,
    /// `POST /v2/models/…/generate_stream`, Triton's generate extension: the load generator's alone. A router takes the path for
    /// any other.
    Triton,
    /// Every other path: passed through, its body not looked at.
    #[default]
    Other,
}

impl Endpoint {
    /// Its answers hold generated tokens: one without any is no good answer, and a stream has an end of its own.
    pub fn generates(self) -> bool {
        matches!(self, Self::Generate | Self::Chat | Self::Completions | Self::Responses | Self::Triton)
    }

    /// Its streams have a closing event, without which they were cut.
    pub fn closes_streams(self) -> bool {
        self.generates() && self != Self::Triton
    }

    /// Its requests hold text for a model, whatever the answer is: bodies are looked at, both ways.
    pub fn has_prompt(self) -> bool {
        self != Self::Other
    }

    /// What a generated request id begins with; sglang-router's.
    pub fn id_prefix(self) -> &'static str {
        match self {
            Self::Generate => "gnt-",
            Self::Chat => "chatcmpl-",
            Self::Completions => "cmpl-",
            Self::Responses => "resp-",
            Self::Embeddings | Self::Rerank | Self::Classify | Self::Triton | Self::Other => "req-",
        }
    }

    /// The endpoint behind a path (without its query).
    pub fn of_path(path: &str) -> Self {
        match path {
            "/generate" => Self::Generate,
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/responses" => Self::Responses,
            "/v1/embeddings" | "/encode" => Self::Embeddings,
            "/v1/rerank" | "/rerank" => Self::Rerank,
            "/v1/classify" | "/classify" => Self::Classify,
            _ => Self::Other,
        }
    }
}
