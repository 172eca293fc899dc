//! The critical section of a decision.
//!
//! Rule: reading the counts, choosing, leasing and inserting into the prefix index happen under one lock, or two requests
//! would see the same counts and herd. What can be done outside (hashing the prompt) is done before. Deliberately not here:
//! I/O, membership (`Fleet`), the policies themselves.

use std::sync::Arc;

use milepost_policies::{
    Decision, Event, Needs, Policy, PolicyConfig, PrefixIndex, RequestView, Time, UnknownPolicy, WorkerId,
    WorkerView, Workers,
};

use super::lease::Lease;
use super::policies::{Policies, PolicyId, Wanted};
use super::worker::Worker;
use crate::trace::record::{CandidateRecord, DecisionRecord};

/// Candidates kept whole in a decision record; above that the chosen one, the runner-up and a sample.
pub const MAX_CANDIDATES: usize = 16;

/// Events waiting for the next decision; more are dropped, as a policy's averages survive that and memory would not.
const MAX_EVENTS: usize = 65_536;

/// A choice that was made.
#[derive(Debug)]
pub struct Chosen {
    /// The claim on the worker.
    pub lease: Lease,
    /// What the policy saw and said.
    pub decision: DecisionRecord,
    /// The policy's name.
    pub policy: &'static str,
    /// When, `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
}

/// State behind the fleet's lock.
pub(super) struct Dispatch {
    pub(super) workers: Vec<Arc<Worker>>,
    policies: Policies,
    // Of any of the policies.
    needs: Needs,
    index: PrefixIndex,
    events: Vec<Event>,
    last_chosen: Vec<u64>,
    choices: u64,
    /// Half-opened by the last decision; told to log and trace by whoever holds no lock.
    pub(super) half_opened: Vec<Arc<Worker>>,
    // Reused between decisions.
    eligible: Vec<usize>,
    views: Vec<WorkerView>,
    matches: Vec<u64>,
    decision: Decision,
}

impl Dispatch {
    pub(super) fn new(policy: Box<dyn Policy>, index: PrefixIndex) -> Self {
        Self {
            workers: Vec::new(),
            needs: policy.needs(),
            policies: Policies::new(policy),
            index,
            events: Vec::new(),
            last_chosen: Vec::new(),
            choices: 0,
            half_opened: Vec::new(),
            eligible: Vec::new(),
            views: Vec::new(),
            matches: Vec::new(),
            decision: Decision::default(),
        }
    }

    /// The policy called `name`, built if it is not there yet.
    pub(super) fn policy_named(
        &mut self,
        name: &str,
        config: &PolicyConfig,
        now: Time,
    ) -> Result<PolicyId, UnknownPolicy> {
        let joined = self.workers.iter().map(|w| Event::Joined { worker: w.id });
        let id = self.policies.named(name, config, now, joined)?;
        self.needs = self.policies.needs();
        Ok(id)
    }

    /// What any of the policies needs.
    pub(super) fn needs(&self) -> Needs {
        self.needs
    }

    /// The lowest slot that no worker holds.
    pub(super) fn free_slot(&self) -> WorkerId {
        let taken = |id: u32| self.workers.iter().any(|w| w.id.0 == id);
        WorkerId((0..u32::MAX).find(|id| !taken(*id)).unwrap_or(u32::MAX))
    }

    pub(super) fn join(&mut self, worker: Arc<Worker>) {
        let slot = worker.id.0 as usize;
        if self.last_chosen.len() <= slot {
            self.last_chosen.resize(slot + 1, 0);
            self.matches.resize(slot + 1, 0);
        }
        self.last_chosen[slot] = 0;
        self.observe(Event::Joined { worker: worker.id });
        self.workers.push(worker);
    }

    /// `false` if it had left before.
    pub(super) fn leave(&mut self, worker: &Arc<Worker>) -> bool {
        let Some(at) = self.workers.iter().position(|w| Arc::ptr_eq(w, worker)) else {
            return false;
        };
        self.workers.remove(at);
        self.index.remove_worker(worker.id);
        self.observe(Event::Left { worker: worker.id });
        true
    }

    /// Queues an event for the policy; it is applied before the next choice.
    pub(super) fn observe(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        }
    }

    /// The same for an event of a request at this worker, unless that has left.
    pub(super) fn observe_request(&mut self, worker: &Worker, event: Event) {
        if self.workers.iter().any(|other| std::ptr::eq(&raw const **other, worker)) {
            self.observe(event);
        }
    }

    /// True if some worker, or where the policy obeys a target that one, may get a request.
    pub(super) fn is_anyone_available(&mut self, now_ns: u64, wanted: Wanted) -> bool {
        let obeyed = wanted.target.filter(|_| self.policies.get(wanted.policy).needs().target);
        let place = obeyed.map(|target| target.place(self.workers.iter().map(|w| &**w)));
        let mut candidates = self.workers.iter().zip(0..).filter(|(_, at)| place.is_none_or(|p| p == *at));
        candidates.any(|(worker, _)| worker.is_available(now_ns))
    }

    /// Chooses among the healthy workers whose breakers admit a request and that this request has not tried. None if there is
    /// none, or if the policy's answer is not one of them.
    pub(super) fn choose(
        &mut self,
        now: Time,
        wanted: Wanted,
        request: &RequestView<'_>,
        tried: &[WorkerId],
    ) -> Option<Chosen> {
        for event in self.events.drain(..) {
            self.policies.observe(now, &event);
        }
        let target = wanted.target.map(|target| target.place(self.workers.iter().map(|w| &**w)));
        let request = &RequestView { target, ..*request };
        let policy = self.policies.get(wanted.policy);
        let (policy_name, needs_match) = (policy.name(), policy.needs().prefix_match);
        self.see(now, request, needs_match, tried);
        let workers = Workers::new(&self.views)?;
        self.choices += 1;
        self.decision.clear(self.views.len());
        self.policies.get(wanted.policy).choose(now, request, &workers, &mut self.decision);
        let chosen = self.decision.chosen().filter(|i| *i < self.views.len())?;
        let worker = Arc::clone(&self.workers[self.eligible[chosen]]);
        self.last_chosen[worker.id.0 as usize] = self.choices;
        if let (true, Some(prompt)) = (self.needs.prefix_match, request.prompt) {
            self.index.insert(prompt, worker.id);
        }
        if self.needs.request_events {
            self.policies.observe(now, &Event::Routed { seq: request.seq, worker: worker.id });
        }
        let decision = self.record(chosen);
        Some(Chosen { lease: Lease::take(worker), decision, policy: policy_name, at_ns: now.us * 1_000 })
    }

    fn see(&mut self, now: Time, request: &RequestView<'_>, needs_match: bool, tried: &[WorkerId]) {
        self.eligible.clear();
        self.views.clear();
        let prompt = request.prompt.filter(|_| needs_match);
        if let Some(prompt) = prompt {
            self.index.match_into(prompt, &mut self.matches);
        }
        for (position, worker) in self.workers.iter().enumerate() {
            if !worker.is_healthy() || tried.contains(&worker.id) {
                continue;
            }
            let (admitted, half_opened) = worker.breaker().admit(now.us * 1_000);
            if half_opened.is_some() {
                self.half_opened.push(Arc::clone(worker));
            }
            if !admitted {
                continue;
            }
            let learned = worker.learned();
            let slot = worker.id.0 as usize;
            self.eligible.push(position);
            self.views.push(WorkerView {
                id: worker.id,
                position: position as u32,
                url_hash: worker.url_hash,
                in_flight_requests: worker.in_flight(),
                last_chosen_seq: self.last_chosen[slot],
                prefix_match_bytes: prompt.map(|_| self.matches[slot]),
                latency_ewma_us: learned.latency_ewma_us,
                ttft_ewma_us: learned.ttft_ewma_us,
                cache_hit_rate: learned.cache_hit_rate,
                ..WorkerView::default()
            });
        }
    }

    fn record(&self, chosen: usize) -> DecisionRecord {
        let scores = self.decision.scores();
        let candidates = sample(self.views.len(), chosen, |i| scores.get(i).copied().flatten())
            .map(|i| {
                let view = &self.views[i];
                CandidateRecord {
                    worker: self.workers[self.eligible[i]].url.shared(),
                    score: scores.get(i).copied().flatten(),
                    in_flight: view.in_flight_requests,
                    prefix_match_bytes: view.prefix_match_bytes,
                    chosen: i == chosen,
                }
            })
            .collect();
        DecisionRecord {
            reason: self.decision.reason().into(),
            took_ns: 0,
            eligible: self.views.len() as u32,
            candidates,
        }
    }
}

/// Which candidates go into the record, in fleet order: all of them, or the chosen one, the best other and an even sample.
fn sample(
    eligible: usize,
    chosen: usize,
    score: impl Fn(usize) -> Option<f64>,
) -> impl Iterator<Item = usize> {
    let all = eligible <= MAX_CANDIDATES;
    let runner_up = (0..eligible)
        .filter(|i| !all && *i != chosen)
        .max_by(|a, b| score(*a).unwrap_or(f64::MIN).total_cmp(&score(*b).unwrap_or(f64::MIN)));
    let step = eligible.div_ceil(MAX_CANDIDATES - 2).max(1);
    (0..eligible).filter(move |i| all || *i == chosen || Some(*i) == runner_up || i % step == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_all_candidates_up_to_sixteen_and_the_best_two_above() {
        assert_eq!(sample(16, 3, |_| None).count(), 16);
        let kept: Vec<usize> = sample(512, 300, |i| Some(if i == 401 { 1.0 } else { 0.0 })).collect();
        assert!(kept.len() <= MAX_CANDIDATES && kept.contains(&300) && kept.contains(&401));
        assert!(kept.is_sorted());
    }
}
