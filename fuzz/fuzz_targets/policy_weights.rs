//! Fuzz target: the text of the weights of a policy, by the properties that `tests/fuzz_corpus.rs` replays.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code, reason = "one property a target")]
mod properties;

libfuzzer_sys::fuzz_target!(|data: &[u8]| properties::policy_weights(data));
