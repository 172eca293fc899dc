//! Continuous batching as a pure step: no clock, no threads, no I/O. Same submissions at the same times, same events.
//!
//! Rules, as SGLang's scheduler with its default flags: the queue is first come, first served; a prefill step goes before
//! decoding and holds up to `chunked_prefill_tokens` of as many requests as fit; at most one request is prefilled in chunks;
//! a decode step makes one token for every running request; admission reserves a share of the tokens that running requests may
//! still make; when decoding runs out of KV the request with the fewest tokens made loses its KV and goes to the end of the
//! queue. KV in use never exceeds the capacity. Deliberately not here: waiting for real time (`runner`), overlap scheduling,
//! mixed chunks, priorities, speculative decoding.

mod admission;
mod job;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

pub use job::{End, Event, Job, JobId, Load, Progress, Step, StepKind};

use super::kv::{NodeId, PrefixCache, ROOT};
use super::profile::Profile;
use super::tokens::Token;
use admission::Reserve;

/// SGLang's `global_config.retract_decode_steps`: retraction makes room for this many steps, so that it is rare.
const RETRACT_DECODE_STEPS: u64 = 20;

/// The scheduler and its KV cache.
#[derive(Debug)]
pub struct Engine {
    profile: Profile,
    speedup: f64,
    /// Multiplies all times; 1.0 is well.
    slowness: f64,
    max_queued_requests: Option<usize>,
    cache: PrefixCache,
    /// KV tokens of running requests that are not in the prefix cache.
    private_tokens: u64,
    /// Submitted, not yet in the queue.
    arriving: BTreeSet<(u64, JobId)>,
    waiting: VecDeque<JobId>,
    /// In the batch; the order of admission.
    running: Vec<JobId>,
    /// Admitted, its prompt not all computed yet.
    chunked: Option<JobId>,
    tasks: BTreeMap<JobId, Task>,
    reserve: Reserve,
    totals: Load,
}

#[derive(Debug)]
struct Task {
    job: Job,
    progress: Progress,
    /// End of the cached prefix; locked while the task is admitted.
    node: NodeId,
    /// Tokens of the sequence in the cached prefix.
    shared: u64,
    /// KV tokens held beside it; all that the prefill needs is taken at admission.
    private: u64,
    /// Tokens of the sequence whose KV is computed.
    computed: u64,
}

/// The tokens of a task.
enum Sequence {
    Prompt(Arc<[Token]>),
    Grown(Vec<Token>),
}

impl Deref for Sequence {
    type Target = [Token];

    fn deref(&self) -> &[Token] {
        match self {
            Self::Prompt(tokens) => tokens,
            Self::Grown(tokens) => tokens,
        }
    }
}

impl Task {
    /// Prompt and what was generated: what a prefill after a retraction has to compute. Prompts are long and most are asked for
    /// before anything was generated, so those are not copied.
    fn sequence(&self) -> Sequence {
        if self.progress.tokens == 0 {
            return Sequence::Prompt(Arc::clone(&self.job.prompt));
        }
        let mut tokens = Vec::with_capacity(self.job.prompt.len() + self.progress.tokens as usize);
        tokens.extend_from_slice(&self.job.prompt);
        tokens.extend((0..self.progress.tokens).map(|i| self.job.answer.token(i)));
        Sequence::Grown(tokens)
    }

    fn len(&self) -> u64 {
        self.job.prompt.len() as u64 + u64::from(self.progress.tokens)
    }
}

impl Engine {
    /// An idle engine with an empty cache. `speedup` divides all times; a queue limit of `None` is no limit.
    pub fn new(profile: Profile, speedup: f64, max_queued_requests: Option<usize>) -> Self {
        Self {
            profile,
            speedup,
            slowness: 1.0,
            max_queued_requests,
            cache: PrefixCache::default(),
            private_tokens: 0,
            arriving: BTreeSet::new(),
            waiting: VecDeque::new(),
            running: Vec::new(),
            chunked: None,
            tasks: BTreeMap::new(),
            reserve: Reserve::default(),
            totals: Load::default(),
        }
    }

    /// From the next step on all times are `factor` times as long as they would be.
    pub fn slow_down(&mut self, factor: f64) {
        self.slowness = factor;
    }

    /// Takes a job; it enters the queue at its `queued_at_ns`.
    pub fn submit(&mut self, job: Job) {
        self.arriving.insert((job.queued_at_ns, job.id));
        let progress = Progress { queue_start_ns: job.queued_at_ns, ..Progress::default() };
        self.tasks.insert(job.id, Task { job, progress, node: ROOT, shared: 0, private: 0, computed: 0 });
    }

    /// When there is something to do: 0 for at once, `None` for not before another job comes.
    pub fn next_ns(&self) -> Option<u64> {
        if self.waiting.is_empty() && self.running.is_empty() && self.chunked.is_none() {
            return self.arriving.first().map(|(at_ns, _)| *at_ns);
        }
        Some(0)
    }

    /// Moves what has arrived by `now_ns` into the queue; the events are the refusals of a full one.
    pub fn receive(&mut self, now_ns: u64) -> Vec<Event> {
        let mut refused = Vec::new();
        while let Some(&(at_ns, id)) = self.arriving.first() {
            if at_ns > now_ns {
                break;
            }
            self.arriving.pop_first();
            if self.max_queued_requests.is_some_and(|limit| self.waiting.len() >= limit) {
                refused.extend(self.end(id, at_ns, End::QueueFull));
            } else {
                self.waiting.push_back(id);
            }
        }
        refused
    }

    /// Ends a job now, wherever it is; `None` if it has ended before.
    pub fn abort(&mut self, id: JobId, now_ns: u64) -> Option<Event> {
        let (queued_at_ns, queued_before) =
            self.tasks.get(&id).map(|t| (t.job.queued_at_ns, t.progress.queue_end_ns.is_none()))?;
        self.arriving.remove(&(queued_at_ns, id));
        self.waiting.retain(|w| *w != id);
        if self.running.contains(&id) || self.chunked == Some(id) {
            self.running.retain(|r| *r != id);
            self.chunked = self.chunked.filter(|c| *c != id);
            self.release(id);
        }
        self.totals.aborted_total += 1;
        self.end(id, now_ns.max(queued_at_ns), if queued_before { End::AbortedInQueue } else { End::Aborted })
    }

    /// Runs one forward pass that starts at `now_ns`; `None` if there is nothing to run.
    pub fn step(&mut self, now_ns: u64) -> Option<Step> {
        let parts = self.plan_prefill(now_ns);
        if !parts.is_empty() {
            return Some(self.prefill(now_ns, &parts));
        }
        if self.running.is_empty() {
            self.reserve = Reserve::default();
            return None;
        }
        Some(self.decode(now_ns))
    }

    /// Empties the prefix cache, if nothing runs or waits; says whether it did.
    pub fn flush(&mut self) -> bool {
        let idle = self.tasks.is_empty();
        if idle {
            self.cache = PrefixCache::default();
        }
        idle
    }

    /// Gauges and counters.
    pub fn load(&self) -> Load {
        let evictable_tokens = self.cache.evictable_tokens();
        Load {
            running: self.running.len() + usize::from(self.chunked.is_some()),
            waiting: self.waiting.len(),
            waiting_tokens: self.waiting.iter().filter_map(|id| self.tasks.get(id)).map(Task::len).sum(),
            used_tokens: self.cache.tokens() + self.private_tokens - evictable_tokens,
            evictable_tokens,
            capacity_tokens: self.profile.kv_tokens,
            tokens_per_s: if self.running.is_empty() { 0.0 } else { self.totals.tokens_per_s },
            ..self.totals
        }
    }

    fn prefill(&mut self, now_ns: u64, parts: &[(JobId, u64)]) -> Step {
        let tokens = parts.iter().map(|(_, n)| n).sum();
        let pairs = parts
            .iter()
            .filter_map(|(id, n)| Some(*n as f64 * (self.tasks.get(id)?.computed as f64 + *n as f64 / 2.0)));
        let duration_ns = self.scaled_ns(self.profile.prefill_ns(tokens, pairs.sum()));
        let at_ns = now_ns + duration_ns;
        let mut events = Vec::with_capacity(parts.len());
        for (id, new) in parts {
            let Some(task) = self.tasks.get_mut(id) else {
                continue;
            };
            task.computed += new;
            if task.computed < task.len() {
                self.chunked = Some(*id);
                continue;
            }
            self.chunked = self.chunked.filter(|c| c != id);
            let prompt = task.sequence();
            self.share(*id, &prompt);
            self.running.push(*id);
            events.extend(self.token(*id, at_ns));
        }
        self.totals.prefill_steps += 1;
        self.totals.prefill_busy_ns += duration_ns;
        Step { kind: StepKind::Prefill { tokens }, duration_ns, events }
    }

    fn decode(&mut self, now_ns: u64) -> Step {
        self.make_room();
        let batch = self.running.clone();
        let context: u64 = batch.iter().filter_map(|id| self.tasks.get(id)).map(Task::len).sum();
        let duration_ns = self.scaled_ns(self.profile.decode_ns(batch.len(), context));
        self.reserve.decay();
        let mut events = Vec::with_capacity(batch.len());
        for id in &batch {
            self.take(1);
            if let Some(task) = self.tasks.get_mut(id) {
                task.private += 1;
                task.computed += 1;
            }
            events.extend(self.token(*id, now_ns + duration_ns));
        }
        self.totals.decode_steps += 1;
        self.totals.tokens_per_s = (batch.len() as f64 / (duration_ns as f64 / 1e9)).round();
        Step { kind: StepKind::Decode { batch: batch.len() }, duration_ns, events }
    }

    /// Retracts until every running request can get a token.
    fn make_room(&mut self) {
        if self.available() >= self.running.len() as u64 {
            return;
        }
        while self.running.len() > 1 && self.available() < self.running.len() as u64 * RETRACT_DECODE_STEPS {
            let fewest = |id: &JobId| {
                self.tasks.get(id).map(|t| (t.progress.tokens, std::cmp::Reverse(t.job.prompt.len())))
            };
            let Some(at) = (0..self.running.len()).min_by_key(|i| fewest(&self.running[*i])) else {
                return;
            };
            let id = self.running.remove(at);
            self.release(id);
            if let Some(task) = self.tasks.get_mut(&id) {
                task.progress.retractions += 1;
            }
            self.waiting.push_back(id);
            self.totals.retracted_total += 1;
        }
        let left = self.running.iter().filter_map(|id| self.tasks.get(id));
        self.reserve.after_retraction(left.map(|t| (t.progress.tokens, t.job.max_new_tokens)));
    }

    /// One more token of a running job.
    fn token(&mut self, id: JobId, at_ns: u64) -> Option<Event> {
        self.totals.generated_tokens_total += 1;
        let task = self.tasks.get_mut(&id)?;
        let progress = &mut task.progress;
        progress.tokens += 1;
        progress.first_token_ns.get_or_insert(at_ns);
        let last = progress.tokens >= task.job.output_tokens;
        if last || progress.tokens.is_multiple_of(task.job.report_every) {
            progress.first_report_ns.get_or_insert(at_ns);
        }
        if !last {
            return Some(Event { id, progress: *progress });
        }
        // The last token was sampled, not computed: it has no KV.
        let sequence = task.sequence();
        self.share(id, &sequence[..sequence.len() - 1]);
        self.running.retain(|r| *r != id);
        self.release(id);
        self.totals.finished_total += 1;
        self.end(id, at_ns, End::Finished)
    }

    fn end(&mut self, id: JobId, at_ns: u64, end: End) -> Option<Event> {
        let mut progress = self.tasks.remove(&id)?.progress;
        progress.ended_ns = Some(at_ns);
        progress.end = Some(end);
        Some(Event { id, progress })
    }

    /// Puts the computed tokens of a task into the prefix cache, where others find them; what was there already is held once.
    fn share(&mut self, id: JobId, computed: &[Token]) {
        let (node, added) = self.cache.insert(computed);
        self.cache.lock(node);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        self.cache.unlock(task.node);
        debug_assert!(added <= task.private && task.shared + task.private == computed.len() as u64);
        self.private_tokens -= task.private;
        (task.node, task.shared, task.private) = (node, computed.len() as u64, 0);
    }

    /// Gives back what a task holds.
    fn release(&mut self, id: JobId) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        self.cache.unlock(task.node);
        self.private_tokens -= task.private;
        (task.node, task.shared, task.private, task.computed) = (ROOT, 0, 0, 0);
    }

    /// KV tokens that could be had, by eviction if need be.
    fn available(&self) -> u64 {
        self.profile.kv_tokens - self.private_tokens - self.cache.tokens() + self.cache.evictable_tokens()
    }

    /// Takes KV tokens that are `available`.
    fn take(&mut self, tokens: u64) {
        let free = self.profile.kv_tokens - self.private_tokens - self.cache.tokens();
        if free < tokens {
            self.cache.evict(tokens - free);
        }
        self.private_tokens += tokens;
    }

    fn scaled_ns(&self, full_ns: f64) -> u64 {
        ((full_ns * self.slowness / self.speedup) as u64).max(1)
    }
}

#[cfg(test)]
mod tests;
