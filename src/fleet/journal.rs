//! The chooser, and where there is a journal a note of every call into it.
//!
//! Rule: a call has its number before it is made and is noted with what came of it, so that one that panics is a number that is
//! missing, and no call is noted that was not made. Under the lock only what is small is copied; [`Recorder::take`] hands the
//! notes to whoever has given the lock back. Without a journal each call costs one branch. Deliberately not here: what a note
//! looks like (`trace::journal`), who makes the calls again (`replay`).

use std::ops::Deref;
use std::sync::Arc;

use milepost_policies::{
    Chooser, Eligible, Event, Joining, Labels, Needs, Policy, PolicyConfig, PolicyId, RequestView, Time,
    WorkerId,
};

use super::worker::Worker;
use super::{Fleet, FleetConfig};
use crate::config::TraceDecisions;
use crate::trace::journal::{
    ChoiceCall, DescribeCall, JoinCall, JournalCall, JournalRecord, LeaveCall, PolicyCall, StartCall,
};
use crate::trace::record::Record;

/// Notes that wait for the next choice; those of more calls are lost, and their numbers are missing.
const MAX_NOTES: usize = 65_536;

/// See the module. What does not change a chooser is read as of the chooser.
pub(super) struct Recorder {
    chooser: Chooser,
    journal: Option<Journal>,
}

impl Deref for Recorder {
    type Target = Chooser;

    fn deref(&self) -> &Chooser {
        &self.chooser
    }
}

/// Calls that were made.
#[derive(Debug, Default)]
struct Journal {
    next: u64,
    policies: u32,
    notes: Vec<JournalRecord>,
}

impl Journal {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn note(&mut self, n: u64, now: Time, call: JournalCall) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(JournalRecord { n, now_us: now.us, call });
        }
    }

    fn policy(&mut self, n: u64, now: Time, name: &str, config: &PolicyConfig) {
        let call = PolicyCall { policy: self.policies, name: name.to_owned(), config: config.into() };
        self.policies += 1;
        self.note(n, now, JournalCall::Policy(Box::new(call)));
    }
}

impl Recorder {
    /// Without a journal.
    pub(super) fn new(chooser: Chooser) -> Self {
        Self { chooser, journal: None }
    }

    /// With one, which begins with what the chooser and its one policy are made of.
    pub(super) fn with_journal(now: Time, chooser: Chooser, start: StartCall, config: &PolicyConfig) -> Self {
        let mut journal = Journal::default();
        let n = journal.number();
        journal.note(n, now, JournalCall::Start(Box::new(start)));
        let n = journal.number();
        journal.policy(n, now, chooser.policy(PolicyId::default()).name(), config);
        Self { chooser, journal: Some(journal) }
    }

    /// [`Chooser::add_policy`] with one that was built with `config`.
    pub(super) fn add_policy(
        &mut self,
        now: Time,
        policy: Box<dyn Policy>,
        config: &PolicyConfig,
    ) -> PolicyId {
        let (n, name) = (self.number(), policy.name());
        let id = self.chooser.add_policy(now, policy);
        if let (Some(n), Some(journal)) = (n, &mut self.journal) {
            journal.policy(n, now, name, config);
        }
        id
    }

    /// [`Chooser::replace_policy`]. What a file says now is in no journal, so the number of this call stays without a note:
    /// a replay goes no further than here.
    pub(super) fn replace_policy(
        &mut self,
        now: Time,
        id: PolicyId,
        policy: Box<dyn Policy>,
    ) -> Box<dyn Policy> {
        self.number();
        self.chooser.replace_policy(now, id, policy)
    }

    /// [`Chooser::show_also`]. Where it makes the workers' caches be remembered otherwise than the journal's policies ask for, the
    /// number of this call stays without a note: a replay goes no further than here.
    pub(super) fn show_also(&mut self, needs: Needs) {
        let before = self.chooser.needs();
        self.chooser.show_also(needs);
        if self.chooser.needs() != before {
            self.number();
        }
    }

    /// [`Chooser::join`]; `url` is for whoever reads the journal.
    pub(super) fn join(&mut self, now: Time, worker: Joining, url: impl FnOnce() -> Arc<str>) {
        let n = self.number();
        self.chooser.join(now, worker);
        self.note(n, now, || {
            let Joining { id: WorkerId(slot), url_hash, priority } = worker;
            JournalCall::Join(Box::new(JoinCall { slot, worker: url(), url_hash, priority }))
        });
    }

    /// [`Chooser::describe`].
    pub(super) fn describe(&mut self, now: Time, worker: WorkerId, priority: u32, labels: &Arc<Labels>) {
        let n = self.number();
        self.chooser.describe(worker, priority, Arc::clone(labels));
        self.note(n, now, || {
            let labels = Labels::clone(labels);
            JournalCall::Describe(Box::new(DescribeCall { slot: worker.0, priority, labels }))
        });
    }

    /// [`Chooser::leave`].
    pub(super) fn leave(&mut self, now: Time, worker: WorkerId) {
        let n = self.number();
        self.chooser.leave(now, worker);
        self.note(n, now, || JournalCall::Leave(LeaveCall { slot: worker.0 }));
    }

    /// [`Chooser::observe`].
    pub(super) fn observe(&mut self, now: Time, event: &Event) {
        let n = self.number();
        self.chooser.observe(now, event);
        self.note(n, now, || JournalCall::Event(Box::new(event.into())));
    }

    /// [`Chooser::choose`]. The note lacks what [`ChoiceCall::complete`] adds.
    pub(super) fn choose(
        &mut self,
        now: Time,
        policy: PolicyId,
        request: &RequestView<'_>,
        eligible: &[Eligible],
    ) -> Option<usize> {
        let n = self.number();
        let chosen = self.chooser.choose(now, policy, request, eligible);
        if let (Some(n), Some(journal)) = (n, &mut self.journal) {
            let mut call = ChoiceCall::asked(policy.number(), request, eligible);
            // Where nobody is eligible no policy was asked: the last decision is another request's.
            if !eligible.is_empty() {
                call.answered(chosen, self.chooser.decision());
            }
            journal.note(n, now, JournalCall::Choice(Box::new(call)));
        }
        chosen
    }

    /// The notes of all calls since the last time.
    pub(super) fn take(&mut self) -> Vec<JournalRecord> {
        self.journal.as_mut().map(|journal| std::mem::take(&mut journal.notes)).unwrap_or_default()
    }

    fn number(&mut self) -> Option<u64> {
        self.journal.as_mut().map(Journal::number)
    }

    fn note(&mut self, n: Option<u64>, now: Time, call: impl FnOnce() -> JournalCall) {
        if let (Some(n), Some(journal)) = (n, &mut self.journal) {
            journal.note(n, now, call());
        }
    }
}

impl FleetConfig {
    /// Who decides, before any worker.
    pub(super) fn recorder(&self, now: Time, policy: Box<dyn Policy>) -> Recorder {
        let index = self.prefix_index();
        let start = StartCall {
            index_bytes: index.max_bytes() as u64,
            worker_prefix_bytes: self.worker_prefix_bytes,
            load_lasts_us: self.loads.lasts().as_micros() as u64,
        };
        let mut chooser = Chooser::new(policy, index);
        chooser.set_load_lasts(start.load_lasts_us);
        match self.decisions {
            TraceDecisions::Journal => Recorder::with_journal(now, chooser, start, &self.policy_config),
            _ => Recorder::new(chooser),
        }
    }

    /// What is found out of a request: what the policies need, and for a journal the hashes of the whole prompt, both as it is
    /// routed by and as the engine sees it, which another policy may need when it is replayed.
    pub(super) fn asked_for(&self, needs: Needs) -> Needs {
        let whole =
            Needs { prompt_hash_bytes: u64::MAX, routing_text: true, engine_text: true, ..Needs::default() };
        if self.decisions == TraceDecisions::Journal { needs.union(whole) } else { needs }
    }
}

impl Fleet {
    /// Tells the policies of a worker, unless it has left.
    pub(super) fn tell(&self, now: Time, worker: &Worker, event: &Event) {
        let mut dispatch = self.lock();
        dispatch.observe(now, worker, event);
        let notes = dispatch.take_notes();
        drop(dispatch);
        self.write_down(notes, None);
    }

    /// Puts what the journal is to say into the trace; if its last call was the choice for `request`, with what that has beside.
    /// While no file is written nobody would read it.
    pub(super) fn write_down(&self, mut notes: Vec<JournalRecord>, request: Option<&RequestView<'_>>) {
        if notes.is_empty() || !self.sink.is_written() {
            return;
        }
        if let (Some(JournalRecord { call: JournalCall::Choice(choice), .. }), Some(request)) =
            (notes.last_mut(), request)
        {
            choice.complete(request);
        }
        for note in notes {
            self.sink.offer(Record::Journal(Box::new(note)));
        }
    }
}
