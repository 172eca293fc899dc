//! What the decisions leave for the shadows: questions and events in the order of the critical section.
//!
//! Rule: memory that is there from the start; to leave something is a copy behind a lock that is held for nothing else. Beyond
//! the limits a question is not taken, and counted. Deliberately not here: who answers (`panel`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milepost_policies::{Event, Labels, Needs, PromptHashes, RequestView, Time, WorkerId, WorkerView};

use crate::trace::decision::{Late, ShadowRecord};

/// Views held for the shadows, those of a decision together: 8,192 decisions among four workers.
const MAX_VIEWS: usize = 32_768;
/// Questions and events held.
const MAX_STEPS: usize = 32_768;
/// Workers that come and go may be held beyond that, as a shadow that missed one would choose by what is no longer so.
const MAX_STEPS_WITH_WORKERS: usize = MAX_STEPS + 8_192;

/// A request as a shadow is asked about it, made before the lock is taken.
#[derive(Debug)]
pub struct Asked {
    plain: RequestView<'static>,
    prompt: Option<PromptHashes>,
    engine_prompt: Option<PromptHashes>,
    model: Option<Box<str>>,
    routing_key: Option<Box<str>>,
    at: Time,
    prompt_tokens: [Option<u64>; 2],
    chosen: usize,
    views: usize,
    answer: Late<Vec<ShadowRecord>>,
}

/// What was found out about a request under the lock. Of two values the first is for the routing text, the second for the
/// engine text.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::fleet) struct Seen<'a> {
    /// Who was eligible, as the policy that chose saw them.
    pub(in crate::fleet) views: &'a [WorkerView],
    /// By slot, how much of the text was matched there.
    pub(in crate::fleet) matches: [&'a [u64]; 2],
    /// Length of the text.
    pub(in crate::fleet) prompt_tokens: [Option<u64>; 2],
    /// See [`RequestView::target`].
    pub(in crate::fleet) target: Option<u32>,
    /// Place of the worker that was chosen, among the views.
    pub(in crate::fleet) chosen: usize,
}

impl Asked {
    /// A copy of the request as it came.
    pub fn of(request: &RequestView<'_>) -> Box<Self> {
        // Field by field, so that one that is added does not compile until it is copied too.
        let &RequestView {
            seq,
            prompt,
            prompt_bytes,
            engine_prompt,
            is_counted,
            is_multiple,
            prompt_tokens,
            max_new_tokens,
            stream,
            model,
            routing_key,
            routing_key_hash,
            target,
            client_hash,
            attempts,
        } = request;
        let plain = RequestView {
            seq,
            prompt: None,
            prompt_bytes,
            engine_prompt: None,
            is_counted,
            is_multiple,
            prompt_tokens,
            max_new_tokens,
            stream,
            model: None,
            routing_key: None,
            routing_key_hash,
            target,
            client_hash,
            attempts,
        };
        Box::new(Self {
            plain,
            prompt: prompt.cloned(),
            engine_prompt: engine_prompt.cloned(),
            model: model.map(Into::into),
            routing_key: routing_key.map(Into::into),
            at: Time::default(),
            prompt_tokens: [prompt_tokens; 2],
            chosen: 0,
            views: 0,
            answer: Late::awaited(),
        })
    }

    /// The request as a policy of such `needs` is shown it.
    pub(super) fn shown(&self, needs: Needs) -> RequestView<'_> {
        let request = RequestView {
            prompt: self.prompt.as_ref(),
            engine_prompt: self.engine_prompt.as_ref(),
            model: self.model.as_deref(),
            routing_key: self.routing_key.as_deref(),
            ..self.plain
        };
        let (prompt, prompt_bytes) = request.text_for(needs);
        let prompt_tokens = self.prompt_tokens[usize::from(needs.engine_text)];
        RequestView { prompt, prompt_bytes, prompt_tokens, ..request }
    }

    pub(super) fn at(&self) -> Time {
        self.at
    }

    /// Place of the worker that was chosen, among the views.
    pub(super) fn chosen(&self) -> usize {
        self.chosen
    }

    pub(super) fn views(&self) -> usize {
        self.views
    }

    pub(super) fn answer(&self, answer: Vec<ShadowRecord>) {
        self.answer.set(answer);
    }
}

/// One thing that the shadows are told.
#[derive(Debug)]
pub(super) enum Step {
    Asked(Box<Asked>),
    Joined(Time, WorkerId, Arc<str>, Arc<Labels>),
    Described(WorkerId, Arc<Labels>),
    Left(Time, WorkerId),
    Event(Time, Event),
}

/// Steps in order, and the views of all their questions behind each other.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) steps: Vec<Step>,
    /// Each with what was matched of both texts.
    pub(super) views: Vec<(WorkerView, [u64; 2])>,
}

impl Batch {
    /// With all the room that it may ever need; what is not used is no memory yet.
    pub(super) fn new() -> Self {
        Self { steps: Vec::with_capacity(MAX_STEPS_WITH_WORKERS), views: Vec::with_capacity(MAX_VIEWS) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::fleet) struct Inbox {
    batch: Mutex<Batch>,
    /// Questions, events.
    dropped: [AtomicU64; 2],
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { batch: Mutex::new(Batch::new()), dropped: Default::default() }
    }

    /// Leaves a question; returns where the answer will be.
    pub(in crate::fleet) fn ask(
        &self,
        at: Time,
        mut asked: Box<Asked>,
        seen: &Seen<'_>,
    ) -> Late<Vec<ShadowRecord>> {
        asked.plain.target = seen.target;
        (asked.at, asked.prompt_tokens) = (at, seen.prompt_tokens);
        (asked.chosen, asked.views) = (seen.chosen, seen.views.len());
        let mut batch = self.lock();
        if batch.steps.len() >= MAX_STEPS || batch.views.len() + seen.views.len() > MAX_VIEWS {
            self.dropped[0].fetch_add(1, Ordering::Relaxed);
            return Late::default();
        }
        let answer = asked.answer.clone();
        batch.views.extend(seen.views.iter().map(|view| {
            let matched = |matches: &[u64]| matches.get(view.id.0 as usize).copied().unwrap_or(0);
            (*view, seen.matches.map(matched))
        }));
        batch.steps.push(Step::Asked(asked));
        answer
    }

    /// A worker comes in.
    pub(in crate::fleet) fn join(&self, at: Time, worker: WorkerId, url: Arc<str>, labels: Arc<Labels>) {
        self.put(Step::Joined(at, worker, url, labels), MAX_STEPS_WITH_WORKERS);
    }

    /// A worker's labels are others now.
    pub(in crate::fleet) fn describe(&self, worker: WorkerId, labels: Arc<Labels>) {
        self.put(Step::Described(worker, labels), MAX_STEPS_WITH_WORKERS);
    }

    /// A worker goes.
    pub(in crate::fleet) fn leave(&self, at: Time, worker: WorkerId) {
        self.put(Step::Left(at, worker), MAX_STEPS_WITH_WORKERS);
    }

    /// Something happened to a request or a worker's load.
    pub(in crate::fleet) fn observe(&self, at: Time, event: &Event) {
        self.put(Step::Event(at, *event), MAX_STEPS);
    }

    fn put(&self, step: Step, limit: usize) {
        let mut batch = self.lock();
        if batch.steps.len() < limit {
            batch.steps.push(step);
        } else {
            self.dropped[1].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what there is and leaves `empty` in its place.
    pub(super) fn swap(&self, empty: &mut Batch) {
        std::mem::swap(&mut *self.lock(), empty);
    }

    pub(super) fn dropped(&self) -> [u64; 2] {
        self.dropped.each_ref().map(|n| n.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(inbox: &Inbox, views: usize) -> Late<Vec<ShadowRecord>> {
        let asked = Asked::of(&RequestView::default());
        let views = &vec![WorkerView::default(); views];
        inbox.ask(Time::default(), asked, &Seen { views, ..Seen::default() })
    }

    #[test]
    fn what_does_not_fit_is_not_taken_and_counted_and_nobody_waits_for_it() {
        let inbox = Inbox::new();
        assert!((0..4).all(|_| ask(&inbox, MAX_VIEWS / 4).is_awaited()));
        assert!(!ask(&inbox, 1).is_awaited());
        assert_eq!(inbox.dropped(), [1, 0]);
        let event = Event::LoadUnknown { worker: WorkerId(0) };
        (0..=MAX_STEPS).for_each(|_| inbox.observe(Time::default(), &event));
        assert_eq!(inbox.dropped(), [1, 5], "four questions are there already");
        inbox.leave(Time::default(), WorkerId(0));
        assert_eq!(inbox.dropped(), [1, 5], "workers that go are told all the same");
        let mut batch = Batch::new();
        inbox.swap(&mut batch);
        assert_eq!((batch.steps.len(), batch.views.len()), (MAX_STEPS + 1, MAX_VIEWS));
        assert!(ask(&inbox, 1).is_awaited(), "there is room again");
    }

    #[test]
    fn a_copy_of_a_request_is_the_request() {
        let prompt = PromptHashes::of(b"some text");
        let request = RequestView {
            seq: 7,
            prompt: Some(&prompt),
            prompt_bytes: 9,
            max_new_tokens: Some(5),
            stream: true,
            model: Some("m"),
            routing_key: Some("k"),
            client_hash: Some(3),
            attempts: 1,
            ..RequestView::default()
        };
        assert_eq!(format!("{:?}", Asked::of(&request).shown(Needs::default())), format!("{request:?}"));
        let engine = PromptHashes::of(b"some text with its tools");
        let two = RequestView { engine_prompt: Some(&engine), ..request };
        let asked = Asked::of(&two);
        let shown = asked.shown(Needs { engine_text: true, ..Needs::default() });
        assert_eq!((shown.prompt, shown.prompt_bytes), (Some(&engine), 24));
    }
}
