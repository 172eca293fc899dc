//! How large a worker's KV cache is: as large as it must be for the hits that were recorded.
//!
//! Rule: the worker's requests go through a prefix cache like the engine's, and its capacity is halved into the smallest that
//! gives the recorded share of hits; the more it holds the more it hits. Deliberately not here: what requests hold while they
//! run.

use super::Found;
use crate::replay::arm::tokens_of;
use crate::replay::reading::Reading;
use crate::sim::Profile;
use crate::sim::kv::PrefixCache;
use crate::sim::tokens::Token;

/// Prompt tokens that go through the cache at each try.
const MOST_TOKENS: u64 = 3_000_000;
/// Tries.
const TRIES: u32 = 8;
/// A share of hits as near as this to the endless cache's is reached by it.
const NEAR: f64 = 0.98;

/// What one request holds: its prompt, and how much of it is prompt.
struct Held {
    tokens: Vec<Token>,
    prompt: usize,
}

/// The KV cache of the worker with this number, in tokens.
pub(super) fn tokens(reading: &Reading, worker: usize) -> Found<u64> {
    let least = reading.rows.iter().map(|row| row.prompt_tokens + u64::from(row.output_tokens)).max();
    // Room for the longest request, whoever gets it.
    let least = least.unwrap_or(0) + 16;
    let usual = Profile::default().kv_tokens.max(least);
    let (mut held, mut recorded, mut prompts, mut sum) = (Vec::new(), 0, 0, 0);
    for (place, row) in reading.rows.iter().enumerate().filter(|(_, row)| row.recorded.worker == worker) {
        let mut tokens = tokens_of(reading, place);
        let prompt = tokens.len();
        sum += prompt as u64;
        if sum > MOST_TOKENS {
            break;
        }
        if let (Some(cached), Some(told)) = (row.recorded.cached_tokens, row.recorded.prompt_tokens) {
            (recorded, prompts) = (recorded + cached, prompts + told);
        }
        tokens.extend((0..row.output_tokens).map(|at| (row.seq as u32) << 8 ^ at));
        held.push(Held { tokens, prompt });
    }
    if prompts == 0 {
        return Found { value: usual, from: "default, no hits were told" };
    }
    let wanted = recorded as f64 / prompts as f64;
    let endless = share(&held, u64::MAX);
    if endless <= 0.0 || wanted >= endless * NEAR {
        return Found { value: usual.max(least), from: "never full" };
    }
    let largest: u64 = held.iter().map(|one| one.tokens.len() as u64).sum();
    let (mut low, mut high) = ((least as f64).ln(), (largest.max(least + 1) as f64).ln());
    for _ in 0..TRIES {
        let middle = f64::midpoint(low, high);
        if share(&held, middle.exp() as u64) < wanted { low = middle } else { high = middle }
    }
    Found { value: (high.exp() as u64).max(least), from: "recorded hits" }
}

/// Part of the prompts that a cache of this capacity has.
fn share(held: &[Held], capacity: u64) -> f64 {
    let mut cache = PrefixCache::default();
    let (mut found, mut all) = (0, 0);
    for one in held {
        // The last token is always computed.
        found += cache.find(&one.tokens[..one.prompt.saturating_sub(1)]).0;
        all += one.prompt;
        cache.insert(&one.tokens);
        cache.evict(cache.tokens().saturating_sub(capacity));
    }
    found as f64 / all.max(1) as f64
}
