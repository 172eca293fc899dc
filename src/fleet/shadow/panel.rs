//! The shadow policies, asked one question after the other.
//!
//! Rule: each has its own state and is asked and told in the order of the decisions. One that panics is not asked again, and
//! the others go on. Deliberately not here: threads, limits.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use milepost_policies::{Decision, Event, Labels, Needs, Policy, Time, WorkerView, Workers};

use super::Count;
use super::inbox::{Asked, Batch, Step};
use crate::log;
use crate::trace::decision::ShadowRecord;

/// See the module.
pub(super) struct Panel {
    // `None` once it has panicked.
    policies: Vec<Option<Box<dyn Policy>>>,
    counts: Arc<[Count]>,
    /// By slot; of one that nobody holds, that of whoever had it last.
    urls: Vec<Arc<str>>,
    labels: Vec<Arc<Labels>>,
    // Reused between questions.
    views: Vec<WorkerView>,
    decision: Decision,
}

impl Panel {
    /// `counts`: one for each policy.
    pub(super) fn new(policies: Vec<Box<dyn Policy>>, counts: Arc<[Count]>) -> Self {
        let policies = policies.into_iter().map(Some).collect();
        Self {
            policies,
            counts,
            urls: Vec::new(),
            labels: Vec::new(),
            views: Vec::new(),
            decision: Decision::default(),
        }
    }

    /// Goes through a batch and empties it.
    pub(super) fn answer(&mut self, batch: &mut Batch) {
        let mut from = 0;
        for step in batch.steps.drain(..) {
            match step {
                Step::Asked(asked) => {
                    let views = &batch.views[from..from + asked.views()];
                    from += asked.views();
                    self.ask(&asked, views);
                }
                Step::Joined(at, worker, url, labels) => {
                    let slot = worker.0 as usize;
                    if self.urls.len() <= slot {
                        self.urls.resize_with(slot + 1, || "".into());
                        self.labels.resize_with(slot + 1, Arc::default);
                    }
                    (self.urls[slot], self.labels[slot]) = (url, labels);
                    self.tell(at, &Event::Joined { worker });
                }
                Step::Described(worker, labels) => {
                    if let Some(slot) = self.labels.get_mut(worker.0 as usize) {
                        *slot = labels;
                    }
                }
                Step::Left(at, worker) => self.tell(at, &Event::Left { worker }),
                Step::Event(at, event) => self.tell(at, &event),
            }
        }
        batch.views.clear();
    }

    fn ask(&mut self, asked: &Asked, seen: &[(WorkerView, [u64; 2])]) {
        let Some((taken, _)) = seen.get(asked.chosen()) else { return };
        let mut records = Vec::with_capacity(self.policies.len());
        for place in 0..self.policies.len() {
            records.extend(self.ask_one(place, asked, seen));
        }
        asked.answer(records);
        // What really happened, as every policy in the router is told.
        let seq = asked.shown(Needs::default()).seq;
        self.tell(asked.at(), &Event::Routed { seq, worker: taken.id });
    }

    /// `None` if that policy is gone.
    fn ask_one(
        &mut self,
        place: usize,
        asked: &Asked,
        seen: &[(WorkerView, [u64; 2])],
    ) -> Option<ShadowRecord> {
        let needs = self.policies[place].as_ref()?.needs();
        let request = asked.shown(needs);
        self.views.clear();
        self.views.extend(seen.iter().map(|(view, matches)| {
            let matched = request.prompt.filter(|_| needs.prefix_match);
            let prefix_match_bytes = matched.map(|_| matches[usize::from(needs.engine_text)]);
            let prefix_match_tokens =
                prefix_match_bytes.filter(|_| needs.estimates).and_then(|bytes| request.tokens_in(bytes));
            WorkerView { prefix_match_bytes, prefix_match_tokens, ..*view }
        }));
        let workers = Workers::new(&self.views)?.with_labels(&self.labels);
        let decision = &mut self.decision;
        decision.clear(workers.len());
        let choice = |policy: &mut dyn Policy| policy.choose(asked.at(), &request, &workers, decision);
        let count = &self.counts[place];
        if !guarded(&mut self.policies[place], count, choice) {
            return None;
        }
        let chosen = self.decision.chosen();
        let agrees = chosen == Some(asked.chosen());
        if agrees { &count.agreed } else { &count.differed }.fetch_add(1, Ordering::Relaxed);
        let url = |index: usize| self.urls.get(self.views[index].id.0 as usize).cloned();
        Some(ShadowRecord {
            policy: Arc::clone(&count.policy),
            worker: chosen.and_then(url),
            agrees,
            score: chosen.and_then(|index| self.decision.scores()[index]),
            reason: Cow::Borrowed(self.decision.reason()),
        })
    }

    fn tell(&mut self, at: Time, event: &Event) {
        for (policy, count) in self.policies.iter_mut().zip(&*self.counts) {
            guarded(policy, count, |policy| policy.observe(at, event));
        }
    }
}

/// Lets the policy do something; `false` if it is gone, or is now.
fn guarded(policy: &mut Option<Box<dyn Policy>>, count: &Count, act: impl FnOnce(&mut dyn Policy)) -> bool {
    let Some(live) = policy else { return false };
    let done = catch_unwind(AssertUnwindSafe(|| act(&mut **live))).is_ok();
    if !done {
        // Its state may be anything now.
        *policy = None;
        log::warn(&format!("shadow policy {} panicked and is not asked again", count.policy));
    }
    done
}

#[cfg(test)]
mod tests {
    use milepost_policies::{PolicyConfig, RequestView, WorkerId, build};

    use super::*;
    use crate::fleet::shadow::inbox::{Inbox, Seen};

    struct Clumsy;

    impl Policy for Clumsy {
        fn name(&self) -> &'static str {
            "clumsy"
        }

        fn choose(&mut self, _: Time, request: &RequestView<'_>, _: &Workers<'_>, out: &mut Decision) {
            assert!(request.seq < 2, "a defect");
            out.choose(usize::from(request.seq == 1) * 9, "x");
        }
    }

    /// Wants the worker in rack `a`.
    struct Rack;

    impl Policy for Rack {
        fn name(&self) -> &'static str {
            "rack"
        }

        fn choose(&mut self, _: Time, _: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
            let wanted =
                (0..workers.len()).find(|i| workers.labels(*i).get("rack").is_some_and(|r| r == "a"));
            if let Some(index) = wanted {
                out.choose(index, "rack");
            }
        }
    }

    #[test]
    fn labels_are_those_of_the_moment_of_the_decision() {
        let mut panel = panel(vec![Box::new(Rack)]);
        let inbox = Inbox::new();
        let rack = |name: &str| Arc::new(Labels::from([("rack".to_owned(), name.to_owned())]));
        let ask = || {
            let view = |id| WorkerView { id: WorkerId(id), ..WorkerView::default() };
            let asked = Asked::of(&RequestView::default());
            let seen = Seen { views: &[view(0), view(1)], chosen: 1, ..Seen::default() };
            inbox.ask(Time::default(), asked, &seen)
        };
        inbox.join(Time::default(), WorkerId(0), "http://w0".into(), rack("a"));
        inbox.join(Time::default(), WorkerId(1), "http://w1".into(), rack("b"));
        let before = ask();
        inbox.describe(WorkerId(0), rack("c"));
        inbox.describe(WorkerId(1), rack("a"));
        let after = ask();
        let mut batch = Batch::new();
        inbox.swap(&mut batch);
        panel.answer(&mut batch);
        let agreed = [before, after].map(|answer| answer.get().is_some_and(|said| said[0].agrees));
        assert_eq!(agreed, [false, true]);
    }

    fn panel(policies: Vec<Box<dyn Policy>>) -> Panel {
        let counts = policies.iter().map(|policy| Count::of(&**policy)).collect();
        Panel::new(policies, counts)
    }

    #[test]
    fn each_says_whom_it_would_have_chosen_and_one_that_panics_is_left_out() {
        let mut panel =
            panel(vec![Box::new(Clumsy), build("shortest_queue", &PolicyConfig::default()).unwrap()]);
        let inbox = Inbox::new();
        for id in 0..2 {
            inbox.join(Time::default(), WorkerId(id), format!("http://w{id}").into(), Arc::default());
        }
        let view = |id, in_flight_requests| WorkerView {
            id: WorkerId(id),
            in_flight_requests,
            ..WorkerView::default()
        };
        let answers: Vec<_> = (0..3)
            .map(|seq| {
                let asked = Asked::of(&RequestView { seq, ..RequestView::default() });
                let views = &[view(0, 3), view(1, 2)];
                inbox.ask(Time::default(), asked, &Seen { views, ..Seen::default() })
            })
            .collect();
        let mut batch = Batch::new();
        inbox.swap(&mut batch);
        panel.answer(&mut batch);
        assert!(batch.is_empty() && batch.views.is_empty());
        let said = |i: usize| -> Vec<(&str, Option<&str>, bool)> {
            let told = answers[i].get().unwrap();
            told.iter().map(|s| (&*s.policy, s.worker.as_deref(), s.agrees)).collect()
        };
        let other = ("shortest_queue", Some("http://w1"), false);
        assert_eq!(said(0), [("clumsy", Some("http://w0"), true), other]);
        assert_eq!(said(1), [("clumsy", None, false), other], "an index that names nobody is nobody");
        assert_eq!(said(2), [other]);
        assert_eq!(answers[0].get().unwrap()[1].score, Some(-2.0));
        let counted = panel
            .counts
            .iter()
            .map(|c| (c.agreed.load(Ordering::Relaxed), c.differed.load(Ordering::Relaxed)));
        assert_eq!(counted.collect::<Vec<_>>(), [(1, 1), (0, 3)]);
    }
}
