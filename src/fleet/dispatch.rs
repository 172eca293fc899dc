//! The critical section of a decision.
//!
//! Rule: reading the counts, choosing, leasing and inserting into the prefix index happen under one lock, or two requests
//! would see the same counts and herd. What can be done outside (hashing the prompt) is done before. Deliberately not here:
//! I/O, membership (`Fleet`), the policies themselves.

use std::sync::Arc;

use milepost_policies::{
    Corrections, Eligible, Event, Joining, Needs, Policy, PolicyConfig, PolicyId, RequestView, Time,
    UnknownPolicy, WorkerId,
};

use super::decided;
use super::journal::Recorder;
use super::lease::Lease;
use super::policies::Wanted;
use super::shadow::{Asked, Seen, Shadows};
use super::spec::WorkerSettings;
use super::worker::Worker;
use crate::config::TraceDecisions;
use crate::trace::journal::JournalRecord;
use crate::trace::record::{DecisionRecord, Late, ShadowRecord};
use crate::trace::sink::Sink;

/// A choice that was made.
#[derive(Debug)]
pub struct Chosen {
    /// The claim on the worker.
    pub lease: Lease,
    /// What the policy saw and said, where that is recorded.
    pub decision: Option<DecisionRecord>,
    /// What the shadow policies will say.
    pub shadow: Late<Vec<ShadowRecord>>,
    /// The policy's name.
    pub policy: &'static str,
    /// Why this worker, in the policy's words.
    pub reason: &'static str,
    /// The part of the prompt that the worker was thought to hold, 0 to 1, by length; `None` if the policy does not ask.
    pub held_share: Option<f64>,
    /// What was wrong with the policy, for whoever wrote it.
    pub complaint: Option<Box<str>>,
    /// When, `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
}

/// State behind the fleet's lock.
pub(super) struct Dispatch {
    // In the order of the chooser's.
    pub(super) workers: Vec<Arc<Worker>>,
    chooser: Recorder,
    /// What is recorded where a file is written.
    recorded: TraceDecisions,
    sink: Arc<Sink>,
    shadows: Option<Arc<Shadows>>,
    /// Half-opened by the last decision; told to log and trace by whoever holds no lock.
    pub(super) half_opened: Vec<Arc<Worker>>,
    // Reused between decisions.
    eligible: Vec<Eligible>,
}

impl Dispatch {
    /// Decisions by `chooser`, of which so much is recorded as long as `sink` takes it.
    pub(super) fn new(chooser: Recorder, recorded: TraceDecisions, sink: Arc<Sink>) -> Self {
        Self {
            workers: Vec::new(),
            chooser,
            recorded,
            sink,
            shadows: None,
            half_opened: Vec::new(),
            eligible: Vec::new(),
        }
    }

    /// The policy called `name`, built if it is not there yet; from then on it is told everything.
    pub(super) fn policy_named(
        &mut self,
        name: &str,
        config: &PolicyConfig,
        now: Time,
    ) -> Result<PolicyId, UnknownPolicy> {
        match self.chooser.policy_named(name) {
            Some(id) => Ok(id),
            None => Ok(self.chooser.add_policy(now, milepost_policies::build(name, config)?, config)),
        }
    }

    /// Puts `policy` in the place of another one, which is returned: it may take long to drop.
    pub(super) fn replace_policy(
        &mut self,
        now: Time,
        id: PolicyId,
        policy: Box<dyn Policy>,
    ) -> Box<dyn Policy> {
        self.chooser.replace_policy(now, id, policy)
    }

    /// Asks these after each decision from now on.
    pub(super) fn set_shadows(&mut self, now: Time, shadows: Arc<Shadows>) {
        self.chooser.show_also(shadows.needs());
        for worker in &self.workers {
            let labels = Arc::new(worker.settings().labels);
            shadows.inbox.join(now, worker.id, worker.url.shared(), labels);
        }
        self.shadows = Some(shadows);
    }

    /// What any of the policies needs.
    pub(super) fn needs(&self) -> Needs {
        self.chooser.needs()
    }

    /// The lowest slot that no worker holds.
    pub(super) fn free_slot(&self) -> WorkerId {
        let taken = |id: u32| self.workers.iter().any(|w| w.id.0 == id);
        WorkerId((0..u32::MAX).find(|id| !taken(*id)).unwrap_or(u32::MAX))
    }

    pub(super) fn join(&mut self, now: Time, worker: Arc<Worker>) {
        let settings = worker.settings();
        let (priority, labels) = (settings.priority, Arc::new(settings.labels));
        let joining = Joining { id: worker.id, url_hash: worker.url_hash, priority };
        self.chooser.join(now, joining, || worker.url.shared());
        if !labels.is_empty() {
            self.chooser.describe(now, worker.id, priority, &labels);
        }
        if let Some(shadows) = &self.shadows {
            shadows.inbox.join(now, worker.id, worker.url.shared(), labels);
        }
        self.workers.push(worker);
    }

    /// Keeps what an operator says of a worker, for the policies too if it is in the fleet.
    pub(super) fn set_settings(&mut self, now: Time, worker: &Worker, settings: WorkerSettings) {
        if self.has(worker) {
            let labels = Arc::new(settings.labels.clone());
            if let Some(shadows) = &self.shadows {
                shadows.inbox.describe(worker.id, Arc::clone(&labels));
            }
            self.chooser.describe(now, worker.id, settings.priority, &labels);
        }
        worker.set_settings(settings);
    }

    fn has(&self, worker: &Worker) -> bool {
        self.workers.iter().any(|other| std::ptr::eq(&raw const **other, worker))
    }

    /// `false` if it had left before.
    pub(super) fn leave(&mut self, now: Time, worker: &Arc<Worker>) -> bool {
        let Some(at) = self.workers.iter().position(|w| Arc::ptr_eq(w, worker)) else {
            return false;
        };
        self.workers.remove(at);
        self.chooser.leave(now, worker.id);
        if let Some(shadows) = &self.shadows {
            shadows.inbox.leave(now, worker.id);
        }
        true
    }

    /// Tells of a request at this worker, or of its load, unless it has left: another one may have its slot.
    pub(super) fn observe(&mut self, now: Time, worker: &Worker, event: &Event) {
        if self.has(worker) {
            self.chooser.observe(now, event);
            if let Some(shadows) = &self.shadows {
                shadows.inbox.observe(now, event);
            }
        }
    }

    /// A policy that is in no list of names.
    pub(super) fn add_policy(
        &mut self,
        now: Time,
        policy: Box<dyn Policy>,
        config: &PolicyConfig,
    ) -> PolicyId {
        self.chooser.add_policy(now, policy, config)
    }

    /// What the workers' answers corrected so far.
    pub(super) fn corrections(&self) -> Corrections {
        self.chooser.beliefs().corrections()
    }

    /// True if some worker, or where the policy obeys a target that one, may get a request.
    pub(super) fn is_anyone_available(&mut self, now_ns: u64, wanted: Wanted) -> bool {
        let obeyed = wanted.target.filter(|_| self.chooser.policy(wanted.policy).needs().target);
        let place = obeyed.map(|target| target.place(self.workers.iter().map(|w| &**w)));
        let mut candidates = self.workers.iter().zip(0..).filter(|(_, at)| place.is_none_or(|p| p == *at));
        candidates.any(|(worker, _)| worker.is_available(now_ns))
    }

    /// Chooses among the healthy workers whose breakers admit a request and that this request has not tried. None if there is
    /// none, or if the policy's answer is not one of them. `asked`: the request as the shadows are asked about it.
    pub(super) fn choose(
        &mut self,
        now: Time,
        wanted: Wanted,
        request: &RequestView<'_>,
        tried: &[WorkerId],
        asked: Option<Box<Asked>>,
    ) -> Option<Chosen> {
        let target = wanted.target.map(|target| target.place(self.workers.iter().map(|w| &**w)));
        let request = &RequestView { target, ..*request };
        self.find_eligible(now, tried);
        let chosen = self.chooser.choose(now, wanted.policy, request, &self.eligible)?;
        let worker = Arc::clone(self.eligible_worker(chosen));
        let policy = self.chooser.policy(wanted.policy);
        let (_, prompt_bytes) = request.text_for(policy.needs());
        let (said, views) = (self.chooser.decision(), self.chooser.views());
        let held_bytes = views[chosen].prefix_match_bytes;
        let held_share = held_bytes.map(|held| held as f64 / prompt_bytes.max(1) as f64);
        let complaint = policy.complaint().map(Box::from);
        let decision = match self.recorded_now() {
            TraceDecisions::Off => None,
            TraceDecisions::Reason => {
                Some(DecisionRecord { reason: said.reason().into(), ..DecisionRecord::default() })
            }
            TraceDecisions::Record | TraceDecisions::Journal => {
                let url = |i| self.eligible_worker(i).url.shared();
                Some(decided::record(said, chosen, views, policy.needs(), url))
            }
        };
        let shadow = match (&self.shadows, asked) {
            (Some(shadows), Some(asked)) => {
                let prompt_tokens = [false, true].map(|engine_text| {
                    self.chooser.shown(request, Needs { engine_text, ..Needs::default() }).prompt_tokens
                });
                let matches = self.chooser.watched_matches();
                let seen = Seen { views, matches, prompt_tokens, target, chosen };
                shadows.inbox.ask(now, asked, &seen)
            }
            _ => Late::default(),
        };
        let (policy, reason, at_ns) = (policy.name(), said.reason(), now.us * 1_000);
        let lease = Lease::take(worker);
        Some(Chosen { lease, decision, shadow, policy, reason, held_share, complaint, at_ns })
    }

    /// What the journal is to say of all that was done since the last time; nothing where there is none.
    pub(super) fn take_notes(&mut self) -> Vec<JournalRecord> {
        self.chooser.take()
    }

    /// While the capture is stopped nobody reads what was seen: spans tell the reason alone, and without them nothing is told.
    fn recorded_now(&self) -> TraceDecisions {
        if self.sink.is_written() {
            self.recorded
        } else if self.sink.is_taking() {
            self.recorded.of_spans()
        } else {
            TraceDecisions::Off
        }
    }

    fn find_eligible(&mut self, now: Time, tried: &[WorkerId]) {
        self.eligible.clear();
        for (position, worker) in self.workers.iter().enumerate() {
            if !worker.is_healthy() || tried.contains(&worker.id) {
                continue;
            }
            let (admitted, half_opened) = worker.breaker().admit(now.us * 1_000);
            if half_opened.is_some() {
                self.half_opened.push(Arc::clone(worker));
            }
            if admitted {
                let in_flight_requests = worker.in_flight();
                self.eligible.push(Eligible { position: position as u32, in_flight_requests });
            }
        }
    }

    fn eligible_worker(&self, index: usize) -> &Arc<Worker> {
        &self.workers[self.eligible[index].position as usize]
    }
}
