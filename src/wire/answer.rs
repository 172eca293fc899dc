//! What one answer told, gathered while its bytes pass.
//!
//! Rule: the bytes are looked at, not kept, beyond one event (streams) or a capped body (plain answers). Deliberately not
//! here: HTTP, clocks; the caller says when a chunk came.

use serde::{Deserialize, Serialize};

/// Token counts as the server gave them; several choices or prompts are summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tokens {
    /// Prompt tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_tokens: Option<u64>,
    /// Generated tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens: Option<u64>,
    /// Prompt tokens found in the prefix cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_tokens: Option<u64>,
}
