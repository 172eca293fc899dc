//! The calls of a journal made again, on the code that the router decides by.
//!
//! Rule: up to the first call that was lost every decision must come out as it was recorded, reason and scores included; after
//! it they are compared too, and counted apart. Whatever a file says, nothing is indexed by it before it was checked.
//! Deliberately not here: reading (`reading`), the order of calls (`trace::journal::order`).

use std::fmt;
use std::sync::Arc;

use milepost_policies::prefix::MAX_WORKERS;
use milepost_policies::{
    Chooser, Event, Joining, PolicyConfig, PolicyId, PrefixIndex, Time, UnknownPolicy, WorkerId,
};

use crate::trace::journal::order::{Next, Order};
use crate::trace::journal::{
    Answer, ChoiceCall, JoinCall, JournalCall, JournalRecord, PolicyCall, StartCall, Unreadable,
};

/// Why a call cannot be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The policy is not one of this milepost's.
    Policy(UnknownPolicy),
    /// No router writes that.
    Unreadable(Unreadable),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(error) => error.fmt(f),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl From<Unreadable> for Refused {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

fn strange(member: &'static str, why: impl Into<String>) -> Refused {
    Refused::Unreadable(Unreadable { member, why: why.into() })
}

/// A decision that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Number of the call.
    pub n: u64,
    /// The request's `seq`.
    pub seq: u64,
    /// As recorded.
    pub recorded: Said,
    /// As it came out now.
    pub replayed: Said,
}

/// A decision in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// URL of the worker chosen; `None`: nobody.
    pub worker: Option<Arc<str>>,
    /// The policy's reason.
    pub reason: String,
    /// Hash of all scores.
    pub scores_hash: Option<u64>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.worker.as_deref().unwrap_or("nobody"), self.reason)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n, seq, recorded, replayed } = self;
        write!(f, "call {n}, request {seq}: recorded {recorded}, replayed {replayed}")?;
        let same_words = (&recorded.worker, &recorded.reason) == (&replayed.worker, &replayed.reason);
        if same_words { f.write_str(", with other scores") } else { Ok(()) }
    }
}

/// What a replay of the calls found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Decisions before the first call that was lost.
    pub decisions: u64,
    /// Of these, those that came out as they were recorded.
    pub reproduced: u64,
    /// The first that did not.
    pub mismatch: Option<Mismatch>,
    /// Number of the first call that was lost, or that this milepost cannot make, and what is the matter with it.
    pub hole: Option<(u64, String)>,
    /// Decisions after it.
    pub later: u64,
    /// Of these, those that came out as they were recorded.
    pub later_agreeing: u64,
    /// Decisions after a call that this milepost cannot make.
    pub not_tried: u64,
}

impl Verdict {
    /// Nothing was lost, and every decision came out as it was recorded.
    pub fn is_exact(&self) -> bool {
        self.hole.is_none() && self.mismatch.is_none()
    }
}

/// Makes the calls again.
#[derive(Debug, Default)]
pub struct Exact {
    order: Order,
    start: Option<StartCall>,
    chooser: Option<Chooser>,
    policies: Vec<PolicyId>,
    /// In the order in which they joined: slot and URL.
    fleet: Vec<(u32, Arc<str>)>,
    verdict: Verdict,
    /// A call could not be made: from then on nothing is.
    stopped: bool,
}

impl Exact {
    /// Takes the next line of the journal.
    pub fn push(&mut self, record: Box<JournalRecord>) {
        self.order.push(record);
        while let Some(next) = self.order.pop() {
            self.take(&next);
        }
    }

    /// No more lines come.
    pub fn finish(&mut self) {
        while let Some(next) = self.order.pop_last() {
            self.take(&next);
        }
    }

    /// What was found so far.
    pub fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }

    fn take(&mut self, next: &Next) {
        match next {
            Next::Lost { first, calls } => {
                let what = if *calls == 1 {
                    "1 call was lost".to_owned()
                } else {
                    format!("{calls} calls were lost")
                };
                self.hole(*first, what);
            }
            Next::Call(record) if !self.stopped => {
                if let Err(refused) = self.make(record) {
                    self.hole(record.n, refused.to_string());
                    self.stopped = true;
                }
            }
            Next::Call(record) => {
                self.verdict.not_tried += u64::from(matches!(record.call, JournalCall::Choice(_)));
            }
        }
    }

    fn hole(&mut self, n: u64, what: String) {
        self.verdict.hole.get_or_insert((n, what));
    }

    fn make(&mut self, record: &JournalRecord) -> Result<(), Refused> {
        let now = Time { us: record.now_us };
        match &record.call {
            JournalCall::Start(start) => self.start = Some((**start).clone()),
            JournalCall::Policy(call) => self.policy(now, call)?,
            JournalCall::Join(call) => self.join(now, call)?,
            JournalCall::Describe(call) => {
                self.place_of(call.slot)?;
                let labels = Arc::new(call.labels.clone());
                self.chooser()?.describe(WorkerId(call.slot), call.priority, labels);
            }
            JournalCall::Leave(call) => {
                let at = self.place_of(call.slot)?;
                self.fleet.remove(at);
                self.chooser()?.leave(now, WorkerId(call.slot));
            }
            JournalCall::Event(call) => {
                let event = Event::try_from(&**call)?;
                self.place_of(call.slot)?;
                self.chooser()?.observe(now, &event);
            }
            JournalCall::Choice(call) => self.choose(record.n, now, call)?,
        }
        Ok(())
    }

    fn chooser(&mut self) -> Result<&mut Chooser, Refused> {
        self.chooser.as_mut().ok_or_else(|| strange("policy", "the call that adds the first one is missing"))
    }

    fn place_of(&self, slot: u32) -> Result<usize, Refused> {
        let at = self.fleet.iter().position(|(taken, _)| *taken == slot);
        at.ok_or_else(|| strange("slot", format!("no worker has slot {slot}")))
    }

    fn policy(&mut self, now: Time, call: &PolicyCall) -> Result<(), Refused> {
        let config = PolicyConfig::try_from(&call.config)?;
        let policy = milepost_policies::build(&call.name, &config).map_err(Refused::Policy)?;
        let number = call.policy as usize;
        match &mut self.chooser {
            None => {
                let start =
                    self.start.as_ref().ok_or_else(|| strange("start", "the first call is missing"))?;
                let mut chooser = Chooser::new(policy, index(start));
                chooser.set_load_lasts(start.load_lasts_us);
                self.chooser = Some(chooser);
                self.policies = vec![PolicyId::default()];
            }
            Some(chooser) => match self.policies.get(number) {
                Some(id) => drop(chooser.replace_policy(now, *id, policy)),
                None if number == self.policies.len() => {
                    self.policies.push(chooser.add_policy(now, policy));
                }
                None => return Err(strange("policy", format!("number {number} is not the next one"))),
            },
        }
        Ok(())
    }

    fn join(&mut self, now: Time, call: &JoinCall) -> Result<(), Refused> {
        if call.slot as usize >= MAX_WORKERS {
            return Err(strange("slot", format!("{} is above {MAX_WORKERS}", call.slot)));
        }
        if self.place_of(call.slot).is_ok() {
            return Err(strange("slot", format!("{} is another worker's", call.slot)));
        }
        self.chooser()?.join(now, Joining::from(call));
        self.fleet.push((call.slot, Arc::clone(&call.worker)));
        Ok(())
    }

    fn choose(&mut self, n: u64, now: Time, call: &ChoiceCall) -> Result<(), Refused> {
        let (prompts, eligible) = (call.prompts()?, call.eligible()?);
        let policy = self.policies.get(call.policy as usize).copied();
        let policy =
            policy.ok_or_else(|| strange("policy", format!("there is none with number {}", call.policy)))?;
        if let Some(beyond) = eligible.iter().find(|e| e.position as usize >= self.fleet.len()) {
            return Err(strange("eligible", format!("no worker has place {}", beyond.position)));
        }
        let chooser = self.chooser()?;
        let chosen = chooser.choose(now, policy, &call.request(&prompts), &eligible);
        let mut now_said = ChoiceCall { eligible: call.eligible.clone(), ..ChoiceCall::default() };
        if !eligible.is_empty() {
            now_said.answered(chosen, chooser.decision());
        }
        let agrees = now_said.answer() == call.answer();
        let verdict = &mut self.verdict;
        if verdict.hole.is_some() {
            verdict.later += 1;
            verdict.later_agreeing += u64::from(agrees);
            return Ok(());
        }
        verdict.decisions += 1;
        verdict.reproduced += u64::from(agrees);
        if !agrees && verdict.mismatch.is_none() {
            let (recorded, replayed) = (self.said(call.answer()), self.said(now_said.answer()));
            self.verdict.mismatch = Some(Mismatch { n, seq: call.seq, recorded, replayed });
        }
        Ok(())
    }

    fn said(&self, answer: Answer) -> Said {
        let worker = answer.chosen.and_then(|place| self.fleet.get(place as usize));
        Said {
            worker: worker.map(|(_, url)| Arc::clone(url)),
            reason: answer.reason.into_owned(),
            scores_hash: answer.scores_hash,
        }
    }
}

fn index(start: &StartCall) -> PrefixIndex {
    let max_bytes = usize::try_from(start.index_bytes).unwrap_or(usize::MAX);
    match start.worker_prefix_bytes {
        Some(worker_bytes) => PrefixIndex::with_worker_capacity(max_bytes, worker_bytes),
        None => PrefixIndex::new(max_bytes),
    }
}

#[cfg(test)]
#[path = "exact_tests.rs"]
mod tests;
