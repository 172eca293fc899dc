//! Which waiting requests go into the next prefill step.
//!
//! Rule: strictly in order; the first one that does not fit ends the search. All KV that a prefill needs is taken here.
//! Deliberately not here: `max_prefill_tokens`, a second limit that the chunk size makes moot in SGLang's defaults.

use super::{Engine, JobId};

/// SGLang's `CLIP_MAX_NEW_TOKENS`: no request reserves for more than this many tokens to come.
const CLIP_NEW_TOKENS: u64 = 4_096;

/// The share of their possible tokens for which running requests hold room (SGLang's `new_token_ratio`): starts at 0.7, falls
/// to 0.14 of that over 600 decode steps, and is set anew when a retraction shows it was too low.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserve(f64);

impl Reserve {
    const START: f64 = 0.7;
    const FLOOR: f64 = 0.7 * 0.14;
    const DECAY_STEPS: f64 = 600.0;

    pub(super) fn decay(&mut self) {
        self.0 = (self.0 - (Self::START - Self::FLOOR) / Self::DECAY_STEPS).max(Self::FLOOR);
    }

    /// From (tokens made, tokens allowed) of what still runs.
    pub(super) fn after_retraction(&mut self, left: impl Iterator<Item = (u32, u32)>) {
        let (made, allowed) = left.fold((0_u64, 0_u64), |(made, allowed), (m, a)| {
            (made + u64::from(m) + super::RETRACT_DECODE_STEPS, allowed + u64::from(a))
        });
        self.0 = (made as f64 / allowed.max(1) as f64).min(1.0);
    }
}

impl Default for Reserve {
    fn default() -> Self {
        Self(Self::START)
    }
}

impl Engine {
    /// The parts of the next prefill step: which job, how many tokens of it. Empty: nothing to prefill.
    pub(super) fn plan_prefill(&mut self, now_ns: u64) -> Vec<(JobId, u64)> {
        let mut parts = Vec::new();
        let mut budget = self.profile.chunked_prefill_tokens;
        if let Some(task) = self.chunked.and_then(|id| self.tasks.get(&id)) {
            let rest = (task.len() - task.computed).min(budget);
            parts.push((task.job.id, rest));
            budget -= rest;
            if task.computed + rest < task.len() {
                return parts;
            }
        }
        // With nobody to admit it is not asked for, and the sum costs as much as the rest of a step.
        let mut reserved = if self.waiting.is_empty() { 0 } else { self.reserved_tokens() };
        while budget > 0 && self.running.len() + parts.len() < self.profile.max_running_requests {
            let Some(&id) = self.waiting.front() else {
                break;
            };
            let Some((missing, new)) = self.admit(id, reserved, now_ns) else {
                break;
            };
            self.waiting.pop_front();
            reserved += new;
            parts.push((id, missing.min(budget)));
            if missing > budget {
                self.chunked = Some(id);
                break;
            }
            budget -= missing;
        }
        parts
    }

    /// Room that running requests and the one in chunks are likely to need.
    fn reserved_tokens(&self) -> u64 {
        let live = self.running.iter().chain(&self.chunked).filter_map(|id| self.tasks.get(id));
        live.map(|t| {
            let to_come =
                u64::from(t.job.max_new_tokens.saturating_sub(t.progress.tokens)).min(CLIP_NEW_TOKENS);
            (to_come as f64 * self.reserve.0).ceil() as u64
        })
        .sum()
    }

    /// Admits one request if it fits beside `reserved` tokens: takes its KV; gives the tokens to compute and those it reserves.
    fn admit(&mut self, id: JobId, reserved: u64, now_ns: u64) -> Option<(u64, u64)> {
        let sequence = self.tasks.get(&id)?.sequence();
        // The last token is always computed: its output is the next token.
        let (shared, node) = self.cache.find(&sequence[..sequence.len() - 1]);
        self.cache.lock(node);
        let missing = (sequence.len() - shared) as u64;
        let task = self.tasks.get_mut(&id)?;
        let new =
            u64::from(task.job.max_new_tokens.saturating_sub(task.progress.tokens)).min(CLIP_NEW_TOKENS);
        let empty = self.running.is_empty() && self.chunked.is_none() && reserved == 0;
        if self.available() < missing + if empty { 0 } else { new + reserved } {
            self.cache.unlock(node);
            return None;
        }
        self.take(missing);
        let task = self.tasks.get_mut(&id)?;
        (task.node, task.shared, task.private, task.computed) = (node, shared as u64, missing, shared as u64);
        if task.progress.queue_end_ns.is_none() {
            task.progress.queue_end_ns = Some(now_ns);
            task.progress.cached_tokens = shared as u32;
            self.totals.prompt_tokens_total += task.job.prompt.len() as u64;
            self.totals.cached_tokens_total += shared as u64;
        }
        Some((missing, new))
    }
}
