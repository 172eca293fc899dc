//! The three shapes of an answer.
//!
//! Rule: as SGLang and vLLM send them, with nothing left out that a tool counts tokens by. Deliberately not here: when they come.

use serde_json::json;

/// Tokens that every prompt is said to have.
const PROMPT_TOKENS: u64 = 16;

/// How a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `/generate`: texts grow, counts come with every event.
    Native,
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
}

impl Dialect {
    /// By the path.
    pub fn of(path: &str) -> Option<Self> {
        match path.split('?').next() {
            Some("/generate") => Some(Self::Native),
            Some("/v1/completions") => Some(Self::Completions),
            Some("/v1/chat/completions") => Some(Self::Chat),
            _ => None,
        }
    }

    /// The event of a token.
    pub fn event(self, token: u64, tokens: u64) -> String {
        let last = token == tokens;
        let finish = last.then_some("length");
        match self {
            Self::Native => native(token, last),
            Self::Completions => json!({
                "id": "a", "object": "text_completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "text": " a", "logprobs": null, "finish_reason": finish}],
            }),
            Self::Chat => json!({
                "id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": " a"}, "finish_reason": finish}],
            }),
        }
        .to_string()
    }

    /// What follows the last token.
    pub fn end(self, tokens: u64) -> Vec<String> {
        let object = match self {
            Self::Native => return vec!["[DONE]".to_owned()],
            Self::Completions => "text_completion",
            Self::Chat => "chat.completion.chunk",
        };
        let usage = json!({
            "id": "a", "object": object, "created": 1, "model": "m", "choices": [], "usage": usage(tokens),
        });
        vec![usage.to_string(), "[DONE]".to_owned()]
    }

    /// The answer to a request that is not streamed.
    pub fn whole(self, tokens: u64) -> String {
        let text = " a".repeat(tokens as usize);
        match self {
            Self::Native => native(tokens, true),
            Self::Completions => json!({
                "id": "a", "object": "text_completion", "created": 1, "model": "m", "usage": usage(tokens),
                "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": "length"}],
            }),
            Self::Chat => json!({
                "id": "a", "object": "chat.completion", "created": 1, "model": "m", "usage": usage(tokens),
                "choices": [{
                    "index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": text},
                }],
            }),
        }
        .to_string()
    }
}

fn native(token: u64, last: bool) -> serde_json::Value {
    json!({
        "text": " a".repeat(token as usize),
        "output_ids": vec![1; token as usize],
        "meta_info": {
            "id": "a", "prompt_tokens": PROMPT_TOKENS, "completion_tokens": token, "cached_tokens": 0,
            "finish_reason": last.then(|| json!({"type": "length", "length": token})),
        },
    })
}

fn usage(tokens: u64) -> serde_json::Value {
    json!({
        "prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens,
    })
}
