//! What the workers are believed to hold, and what their answers make of it.
//!
//! Two indexes, because a prompt has two texts. **Routing text** is what sglang-router matches, and what was sent counts for
//! ever, as there. **Engine text** is what the engine will see, and is corrected by what the engine says: each answer's cached
//! tokens are held against what was believed when it was routed, and what follows is in `evidence.rs`.
//!
//! Rule: only what was clear then and is clear now corrects. A belief that rests on a request whose prompt may not have been
//! computed when this one was routed is no belief in the cache (a cold herd on one prefix forgets nothing); nor do retries,
//! batches and answers that do not tell. What an answer disproves it also ends, since its prompt has been computed by then: the
//! belief in *this* prompt stays, those that are older go where several agree. Of a request that failed before its first
//! token, what only it had brought is forgotten. Everything that is remembered of requests in flight is bounded.
//! Deliberately not here: the policies, and who is eligible.

mod evidence;

use std::collections::BTreeMap;

use self::evidence::{Evidence, Finding, Lesson};
use crate::policy::{Event, Needs};
use crate::prefix::{PrefixIndex, PromptHashes};
use crate::view::{RequestView, WorkerId};

/// Requests in flight that are remembered; beyond that the oldest are not checked.
const MAX_PREDICTIONS: usize = 65_536;
/// Hashes of their prompts, in bytes.
const MAX_HASHES_BYTES: usize = 64 << 20;
/// Requests of one worker without a first token that are compared with each new one.
const MAX_UNFINISHED: usize = 256;

/// What was corrected so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corrections {
    /// Answers that had what was believed.
    pub held: u64,
    /// Answers that had less than half of it.
    pub lost: u64,
    /// Workers whose answers say that they lost everything.
    pub emptied: u64,
    /// Times that a worker's capacity was learned.
    pub bounded: u64,
    /// Times that it turned out to be larger.
    pub widened: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Beliefs {
    routing: PrefixIndex,
    // None until a policy wants it.
    engine: Option<PrefixIndex>,
    // Only of engine text.
    predictions: BTreeMap<u64, Prediction>,
    hashes_bytes: usize,
    /// By worker slot.
    workers: Vec<Known>,
    choices: u64,
    corrections: Corrections,
    matches: Vec<u64>,
}

/// A request in flight.
#[derive(Debug)]
struct Prediction {
    worker: WorkerId,
    prompt: PromptHashes,
    is_counted: bool,
    /// How much of the prompt the worker was believed to hold.
    held_bytes: u64,
    /// How long ago it had used that; `None` if nothing can be learned from this one.
    since_bytes: Option<u64>,
    /// [`Beliefs::choices`] with this one.
    choice: u64,
    /// [`Known::emptied`] when it was routed.
    emptied: u64,
    has_token: bool,
    /// How much of the prompt others that came later have had computed there.
    computed_bytes: u64,
    /// It is one of [`Known::unlisted`].
    is_unlisted: bool,
}

/// What is known of a worker's cache beside the index.
#[derive(Debug, Default)]
struct Known {
    evidence: Evidence,
    /// Requests whose prompt may not have been computed: the first block that was new there with each.
    unfinished: Vec<NewBlock>,
    /// How many are not in that list for want of room.
    unlisted: usize,
    /// Times that everything was forgotten about it.
    emptied: u64,
}

/// A block of a prompt in flight, and so all that leads to it.
#[derive(Clone, Copy, Debug)]
struct NewBlock {
    seq: u64,
    at: usize,
    hash: u64,
}

impl Beliefs {
    /// Nothing is believed; `index` is empty and says how much may be.
    pub fn new(index: PrefixIndex) -> Self {
        Self {
            routing: index,
            engine: None,
            predictions: BTreeMap::new(),
            hashes_bytes: 0,
            workers: Vec::new(),
            choices: 0,
            corrections: Corrections::default(),
            matches: Vec::new(),
        }
    }

    /// From now on what `needs` asks for is kept.
    pub fn want(&mut self, needs: Needs) {
        if needs.prefix_match && needs.engine_text && self.engine.is_none() {
            self.engine = Some(self.routing.empty_with_uses());
        }
    }

    /// Writes to `matched[w]` how many leading bytes of the request's text, of the kind that `needs` asks for, worker `w` is
    /// believed to hold.
    pub fn match_into(&mut self, request: &RequestView<'_>, needs: Needs, matched: &mut [u64]) {
        let (index, prompt) = match &mut self.engine {
            Some(engine) if needs.engine_text => (engine, request.engine_text()),
            _ => (&mut self.routing, request.prompt),
        };
        match prompt {
            Some(prompt) => index.match_into(prompt, matched),
            None => matched.fill(0),
        }
    }

    /// The request goes to `worker`; `needs` is what all policies need. `matched_bytes` is what [`Beliefs::match_into`] found
    /// there of its engine text, if it was asked. Returns how much of that the worker was believed to hold; `None` if that is not
    /// kept.
    pub fn remember(
        &mut self,
        request: &RequestView<'_>,
        needs: Needs,
        worker: WorkerId,
        matched_bytes: Option<u64>,
    ) -> Option<u64> {
        self.choices += 1;
        if needs.matches_routing_text()
            && let Some(prompt) = request.prompt
        {
            self.routing.insert(prompt, worker);
        }
        let (Some(engine), Some(prompt)) = (&mut self.engine, request.engine_text()) else {
            return None;
        };
        let held_bytes = matched_bytes.unwrap_or_else(|| {
            let slot = worker.0 as usize;
            self.matches.resize(self.matches.len().max(slot + 1), 0);
            engine.match_into(prompt, &mut self.matches[..=slot]);
            self.matches[slot]
        });
        engine.insert(prompt, worker);
        let since_bytes = engine.last_since_bytes();
        self.predict(request, prompt, worker, (held_bytes, since_bytes));
        Some(held_bytes)
    }

    fn predict(
        &mut self,
        request: &RequestView<'_>,
        prompt: &PromptHashes,
        worker: WorkerId,
        (held_bytes, since_bytes): (u64, Option<u64>),
    ) {
        // An attempt of which no end was told: that will name a worker that is not asked for any more.
        if let Some(before) = self.drop_prediction(request.seq)
            && !before.has_token
            && before.worker != worker
        {
            self.take_back(&before);
        }
        let slot = worker.0 as usize;
        if self.workers.len() <= slot {
            self.workers.resize_with(slot + 1, Known::default);
        }
        let known = &mut self.workers[slot];
        let hashes = prompt.as_slice();
        let rests_on_one = known.unlisted > 0
            || known.unfinished.iter().any(|new| hashes.get(new.at) == Some(&new.hash))
            || request.attempts > 0
            || request.is_multiple;
        let at = prompt.blocks_within(held_bytes);
        let new = hashes.get(at).map(|&hash| NewBlock { seq: request.seq, at, hash });
        let is_unlisted = new.is_some() && known.unfinished.len() == MAX_UNFINISHED;
        if is_unlisted {
            known.unlisted += 1;
        } else {
            known.unfinished.extend(new);
        }
        let prediction = Prediction {
            worker,
            prompt: prompt.clone(),
            is_counted: request.is_counted,
            held_bytes,
            since_bytes: since_bytes.or((held_bytes == 0).then_some(0)).filter(|_| !rests_on_one),
            choice: self.choices,
            emptied: known.emptied,
            has_token: false,
            computed_bytes: 0,
            is_unlisted,
        };
        self.hashes_bytes += hashes_bytes(&prediction);
        self.predictions.insert(request.seq, prediction);
        while self.predictions.len() > MAX_PREDICTIONS || self.hashes_bytes > MAX_HASHES_BYTES {
            let Some((&oldest, _)) = self.predictions.first_key_value() else {
                break;
            };
            self.drop_prediction(oldest);
        }
    }

    /// Something happened.
    pub fn observe(&mut self, event: &Event) {
        match *event {
            Event::FirstToken { seq, worker, .. } => {
                let waiting = self.predictions.get_mut(&seq).filter(|p| p.worker == worker && !p.has_token);
                if let Some(prediction) = waiting {
                    prediction.has_token = true;
                    let is_unlisted = prediction.is_unlisted;
                    let (prompt, emptied) = (prediction.prompt.clone(), prediction.emptied);
                    self.finish(seq, worker, is_unlisted);
                    self.computed(worker, &prompt, emptied);
                }
            }
            Event::Ended { seq, worker, ok, prompt_tokens, cached_tokens, .. } => {
                if self.predictions.get(&seq).is_none_or(|p| p.worker != worker) {
                    return;
                }
                let Some(prediction) = self.drop_prediction(seq) else {
                    return;
                };
                if ok && !prediction.has_token {
                    self.computed(worker, &prediction.prompt, prediction.emptied);
                }
                match (ok, prompt_tokens, cached_tokens) {
                    (false, ..) if !prediction.has_token => self.take_back(&prediction),
                    (true, Some(tokens @ 1..), Some(cached)) => self.check(&prediction, tokens, cached),
                    _ => {}
                }
            }
            Event::CacheEmptied { worker } => self.forget(worker),
            // Who leaves is told by `Beliefs::leave`.
            Event::Routed { .. }
            | Event::Loaded { .. }
            | Event::LoadUnknown { .. }
            | Event::Joined { .. }
            | Event::Left { .. } => {}
        }
    }

    /// The prompt has been computed at `worker`: of those in flight there that begin alike, that much is no longer only theirs.
    fn computed(&mut self, worker: WorkerId, prompt: &PromptHashes, emptied: u64) {
        let Some(known) = self.workers.get(worker.0 as usize) else {
            return;
        };
        let hashes = prompt.as_slice();
        for new in known.unfinished.iter().filter(|new| hashes.get(new.at) == Some(&new.hash)) {
            if let Some(other) = self.predictions.get_mut(&new.seq).filter(|p| p.emptied == emptied) {
                let alike = other.prompt.as_slice().iter().zip(hashes).take_while(|(a, b)| a == b).count();
                let bytes = alike.checked_sub(1).map_or(0, |last| prompt.depth_bytes(last));
                other.computed_bytes = other.computed_bytes.max(bytes);
            }
        }
    }

    /// Nothing came of the request, as far as is known: what only it had brought is not there.
    fn take_back(&mut self, prediction: &Prediction) {
        if let Some(engine) = &mut self.engine
            && self.workers.get(prediction.worker.0 as usize).is_some_and(|w| w.emptied == prediction.emptied)
        {
            let held_bytes = prediction.held_bytes.max(prediction.computed_bytes);
            engine.forget_beyond(&prediction.prompt, prediction.worker, held_bytes);
        }
    }

    fn check(&mut self, prediction: &Prediction, prompt_tokens: u64, cached_tokens: u64) {
        let worker = prediction.worker;
        let Some(known) = self.workers.get_mut(worker.0 as usize) else {
            return;
        };
        let Some(since_bytes) = prediction.since_bytes.filter(|_| prediction.emptied == known.emptied) else {
            return;
        };
        let believed = prediction.held_bytes as f64 / prediction.prompt.len_bytes().max(1) as f64;
        let finding = Finding::of(believed, prediction.is_counted, prompt_tokens, cached_tokens);
        match finding {
            Finding::Held => self.corrections.held += 1,
            Finding::Lost { .. } => self.corrections.lost += 1,
            Finding::MoreThanBelieved | Finding::Unclear => {}
        }
        match known.evidence.weigh(finding, since_bytes, prediction.choice, self.choices) {
            Lesson::None => {}
            Lesson::Emptied => {
                self.corrections.emptied += 1;
                self.forget(worker);
                // It has just been computed.
                if let Some(engine) = &mut self.engine {
                    engine.insert(&prediction.prompt, worker);
                }
            }
            Lesson::Holds(capacity_bytes) => {
                let is_more = finding == Finding::MoreThanBelieved;
                *(if is_more { &mut self.corrections.widened } else { &mut self.corrections.bounded }) += 1;
                if let Some(engine) = &mut self.engine {
                    engine.set_worker_capacity(worker, capacity_bytes);
                }
                if capacity_bytes == Some(0) {
                    self.forget(worker);
                }
            }
        }
    }

    /// Nothing is believed of `worker` any more, and what is in flight there teaches nothing.
    fn forget(&mut self, worker: WorkerId) {
        if let Some(engine) = &mut self.engine {
            engine.forget_worker(worker);
        }
        if let Some(known) = self.workers.get_mut(worker.0 as usize) {
            known.emptied += 1;
        }
    }

    /// A worker goes; what was sent to it is of no use to whoever gets its slot.
    pub fn leave(&mut self, worker: WorkerId) {
        self.routing.remove_worker(worker);
        if let Some(engine) = &mut self.engine {
            engine.remove_worker(worker);
        }
        let gone: Vec<u64> =
            self.predictions.iter().filter(|(_, p)| p.worker == worker).map(|(&seq, _)| seq).collect();
        for seq in gone {
            self.drop_prediction(seq);
        }
        if let Some(known) = self.workers.get_mut(worker.0 as usize) {
            *known = Known { emptied: known.emptied + 1, ..Known::default() };
        }
    }

    fn drop_prediction(&mut self, seq: u64) -> Option<Prediction> {
        let prediction = self.predictions.remove(&seq)?;
        self.hashes_bytes -= hashes_bytes(&prediction);
        if !prediction.has_token {
            self.finish(seq, prediction.worker, prediction.is_unlisted);
        }
        Some(prediction)
    }

    /// The request's prompt has been computed, or never will be.
    fn finish(&mut self, seq: u64, worker: WorkerId, is_unlisted: bool) {
        let Some(known) = self.workers.get_mut(worker.0 as usize) else {
            return;
        };
        known.unlisted -= usize::from(is_unlisted);
        if let Some(at) = known.unfinished.iter().position(|new| new.seq == seq) {
            known.unfinished.swap_remove(at);
        }
    }

    /// What was corrected so far.
    pub fn corrections(&self) -> Corrections {
        self.corrections
    }

    /// Which worker was sent which routing text.
    pub fn routing_index(&self) -> &PrefixIndex {
        &self.routing
    }

    /// Which worker is believed to hold which engine text; `None` until a policy wants it.
    pub fn engine_index(&self) -> Option<&PrefixIndex> {
        self.engine.as_ref()
    }
}

fn hashes_bytes(prediction: &Prediction) -> usize {
    size_of_val(prediction.prompt.as_slice())
}

#[cfg(test)]
mod tests;
