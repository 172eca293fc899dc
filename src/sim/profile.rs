//! How long the simulated GPU takes, and how much it holds.
//!
//! Rule: every number is derived, not invented; the derivation stands beside it. Deliberately not here: scheduling
//! (`engine`) and waiting (`runner`).
//!
//! The default is an 8B model in bf16 (Llama-3.1-8B: 32 layers, hidden size 4096, 8 KV heads of 128) on one H100 SXM:
//!
//! | quantity | derivation | value |
//! |---|---|---|
//! | decode step, floor | 16 GB of weights ÷ 3.35 TB/s = 4.8 ms; launch, sampling and scheduling make it 7 ms in practice | 7 ms |
//! | decode, per sequence | 2 × 8e9 FLOP a token ÷ 495 TFLOP/s (half of the 990 TFLOP/s peak); under the floor until the batch is ≈ 216 | 32.3 µs |
//! | decode, per context token | KV of one token 2 × 32 × 8 × 128 × 2 B = 128 KiB ÷ 3.35 TB/s | 39.1 ns |
//! | prefill, per token | as decode per sequence: compute bound, ≈ 31k tokens/s | 32.3 µs |
//! | prefill, per token and context token | attention: 4 × 4096 × 32 FLOP ÷ 495 TFLOP/s | 1.06 ns |
//! | KV capacity | 50 GB left after weights and activations ÷ 128 KiB | 400,000 tokens |
//! | tokenise, fixed | accepted to dispatched on a real 0.5.23 server with a short prompt: 0.6 to 1.3 ms | 1 ms |
//! | tokenise, per byte of prompt | 16 MiB took 16 s on a real server | 1 µs |

use std::path::Path;

use serde::{Deserialize, Serialize};

/// Latencies and sizes of the simulated GPU. A profile file is this as JSON; a field left out keeps its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// What the numbers stand for.
    pub name: String,
    /// Shortest decode or prefill step, in microseconds.
    pub step_floor_us: f64,
    /// Decode: compute per running sequence, in microseconds.
    pub decode_sequence_us: f64,
    /// Decode: KV read per context token of the batch, in nanoseconds.
    pub decode_context_token_ns: f64,
    /// Prefill: compute per token, in microseconds.
    pub prefill_token_us: f64,
    /// Prefill: attention per pair of new token and context token, in nanoseconds.
    pub prefill_pair_ns: f64,
    /// Accepting and dispatching a request before it is queued, in microseconds.
    pub tokenize_us: f64,
    /// Tokenising, in microseconds per byte of prompt text.
    pub tokenize_byte_us: f64,
    /// KV cache in tokens.
    pub kv_tokens: u64,
    /// Most requests in one batch.
    pub max_running_requests: usize,
    /// Most tokens of one prefill step.
    pub chunked_prefill_tokens: u64,
    /// Most tokens of prompt and answer together.
    pub context_tokens: u64,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            name: "8B bf16 on one H100 SXM".to_owned(),
            step_floor_us: 7_000.0,
            decode_sequence_us: 32.3,
            decode_context_token_ns: 39.1,
            prefill_token_us: 32.3,
            prefill_pair_ns: 1.06,
            tokenize_us: 1_000.0,
            tokenize_byte_us: 1.0,
            kv_tokens: 400_000,
            max_running_requests: 256,
            chunked_prefill_tokens: 8_192,
            context_tokens: 131_072,
        }
    }
}

impl Profile {
    /// Reads a profile file; the message says what is wrong and where.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let profile: Self = serde_json::from_slice(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        profile.check().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(profile)
    }

    /// Refuses what no engine can run with.
    pub fn check(&self) -> Result<(), String> {
        let times = [
            ("step_floor_us", self.step_floor_us),
            ("decode_sequence_us", self.decode_sequence_us),
            ("decode_context_token_ns", self.decode_context_token_ns),
            ("prefill_token_us", self.prefill_token_us),
            ("prefill_pair_ns", self.prefill_pair_ns),
            ("tokenize_us", self.tokenize_us),
            ("tokenize_byte_us", self.tokenize_byte_us),
        ];
        for (field, value) in times {
            if !(0.0..=60e6).contains(&value) {
                return Err(format!("{field}: expected 0 to 60000000, got {value}"));
            }
        }
        if self.step_floor_us <= 0.0 {
            return Err(
                "step_floor_us: expected more than 0: a step without length would never let time pass"
                    .to_owned(),
            );
        }
        let sizes = [
            ("kv_tokens", self.kv_tokens, 16),
            ("max_running_requests", self.max_running_requests as u64, 1),
            ("chunked_prefill_tokens", self.chunked_prefill_tokens, 1),
            ("context_tokens", self.context_tokens, 8),
        ];
        for (field, value, least) in sizes {
            if !(least..=1 << 40).contains(&value) {
                return Err(format!("{field}: expected {least} or more, got {value}"));
            }
        }
        Ok(())
    }

    /// Length of a decode step for `sequences` running sequences with `context_tokens` KV tokens among them.
    pub fn decode_ns(&self, sequences: usize, context_tokens: u64) -> f64 {
        let compute_us = self.decode_sequence_us * sequences as f64;
        self.step_floor_us.max(compute_us) * 1e3 + self.decode_context_token_ns * context_tokens as f64
    }

    /// Length of a prefill step of `tokens` new tokens that attend to `pairs` (new token, context token) pairs.
    pub fn prefill_ns(&self, tokens: u64, pairs: f64) -> f64 {
        (self.prefill_token_us * 1e3 * tokens as f64 + self.prefill_pair_ns * pairs)
            .max(self.step_floor_us * 1e3)
    }

    /// From accepting a request to handing it to the scheduler. Requests are tokenised side by side, so this does not grow
    /// with load (a real uvicorn server tokenises on its event loop, where very long prompts delay their neighbours).
    pub fn tokenize_ns(&self, prompt_bytes: usize) -> f64 {
        (self.tokenize_us + self.tokenize_byte_us * prompt_bytes as f64) * 1e3
    }

    /// Longest prompt plus answer that one request may reach (SGLang: `max_req_len`).
    pub fn max_request_tokens(&self) -> u64 {
        self.context_tokens.min(self.kv_tokens) - 1
    }

    /// Longest prompt (SGLang: `max_req_input_len`).
    pub fn max_input_tokens(&self) -> u64 {
        self.max_request_tokens() - 5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_its_derivation() {
        let p = Profile::default();
        assert!(p.check().is_ok());
        assert!((p.decode_ns(1, 0) - 7e6).abs() < 1.0, "the floor");
        assert!(p.decode_ns(64, 64 * 2_000) > p.decode_ns(64, 0) + 4e6, "KV reads lengthen the step");
        assert!(p.decode_ns(256, 0) > p.decode_ns(64, 0), "a batch above 216 is compute bound");
        let tokens_per_s = 8_192.0 / (p.prefill_ns(8_192, 0.0) / 1e9);
        assert!((30_000.0..32_000.0).contains(&tokens_per_s), "{tokens_per_s}");
        assert!((p.prefill_ns(3, 9.0) - 7e6).abs() < 1.0, "a short prefill costs the floor");
    }

    #[test]
    fn a_profile_that_cannot_run_is_refused_by_field() {
        let bad: Profile = serde_json::from_str(r#"{"step_floor_us": 0}"#).expect("parses");
        assert!(bad.check().expect_err("no length").starts_with("step_floor_us:"));
        let bad: Profile = serde_json::from_str(r#"{"kv_tokens": 1}"#).expect("parses");
        assert!(bad.check().expect_err("too small").starts_with("kv_tokens:"));
        assert!(
            serde_json::from_str::<Profile>(r#"{"kv_token": 1}"#).is_err(),
            "a misspelt field is not silently ignored"
        );
    }
}
