//! What could be had at best: hits of one cache as large as the fleet's, and first tokens without any wait.
//!
//! Rule: bounds of a run as it was played, in the order of its arrivals; no placement on workers of the same size can do better
//! than the first but by chance of eviction, none better than the second. The cache that never forgets is the workload's own
//! (`workload`).

use milepost::sim::Profile;
use milepost::sim::kv::PrefixCache;

use crate::play::{Fleet, Played};
use crate::prompt::{self, Piece};
use crate::workload::{Request, Workload};

/// Cached tokens of each request in one least-recently-used cache of `fleet`'s size, which has a prompt and its answer at once.
pub fn pooled(workload: &Workload, played: &Played, fleet: &Fleet) -> Vec<u32> {
    let capacity = fleet.profile.kv_tokens * fleet.workers as u64;
    let mut order: Vec<usize> = (0..played.rows.len()).collect();
    order.sort_by_key(|place| (played.rows[*place].arrived_ns, *place));
    let (mut cache, mut cached) = (PrefixCache::default(), vec![0; order.len()]);
    for place in order {
        let request = &workload.requests[place];
        let mut pieces = request.pieces.clone();
        pieces.push(Piece::answer_of(place, request.output_tokens - 1));
        let tokens = prompt::tokens(&pieces);
        let asked = &tokens[..request.prompt_tokens as usize - 1];
        cached[place] = cache.find(asked).0 as u32;
        cache.insert(&tokens);
        cache.evict(cache.tokens().saturating_sub(capacity));
    }
    cached
}

/// Time to the first token on an idle worker that has all of the prompt that any could have.
pub fn least_ttft_ns(request: &Request, profile: &Profile) -> f64 {
    let bytes = request.prompt_tokens as usize * prompt::BYTES_PER_TOKEN;
    let (mut computed, total) = (u64::from(request.possible_tokens), u64::from(request.prompt_tokens));
    let mut ns = profile.tokenize_ns(bytes);
    while computed < total {
        let chunk = (total - computed).min(profile.chunked_prefill_tokens);
        ns += profile.prefill_ns(chunk, chunk as f64 * (computed as f64 + chunk as f64 / 2.0));
        computed += chunk;
    }
    ns
}
