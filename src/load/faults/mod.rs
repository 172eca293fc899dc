//! A failure schedule: which worker fails when, how, and for how long, beside a load that does not know of it.
//!
//! Rule: a schedule is read and checked before the run, its times are on the run's own axis, and each action is told with when
//! it was asked for, when it was begun and ended, and whether it worked: a fault that was not made is no result. What a run has
//! switched it switches back, however it ends. Deliberately not here: what became of the requests ([`crate::report::faults`]).

mod conductor;
mod file;
pub mod hands;
mod hook;
mod phases;
mod processes;
mod registration;
mod switch;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub(super) use conductor::Conductor;
pub use phases::{Phase, Phases};

/// What is done to a worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Its process ends: at once, or as it is asked to.
    Stop(StopBy),
    /// It takes so many times as long for everything.
    Slow(f64),
    /// It answers nothing, and what is under way stands still.
    Hang,
    /// It resets every connection.
    Reset,
    /// It answers requests for tokens with 200 and nothing in it.
    Empty,
}

/// How a process is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopBy {
    /// SIGKILL: as a crash.
    Kill,
    /// SIGTERM: as a shutdown.
    Term,
}

/// One thing to do to one worker.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// The fault begins.
    Begin(Kind),
    /// What was stopped is started again.
    Start,
    /// What is slow, hangs, resets or answers nothing is well again.
    Heal,
}

impl Action {
    /// What ends a fault.
    fn end_of(kind: Kind) -> Self {
        if matches!(kind, Kind::Stop(_)) { Self::Start } else { Self::Heal }
    }

    /// Its word in the file, and of a hook's arguments the first.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Begin(Kind::Stop(_)) => "stop",
            Self::Begin(Kind::Slow(_)) => "slow",
            Self::Begin(Kind::Hang) => "hang",
            Self::Begin(Kind::Reset) => "reset",
            Self::Begin(Kind::Empty) => "empty",
            Self::Start => "start",
            Self::Heal => "heal",
        }
    }

    /// What else there is to say about it: `KILL`, `TERM`, or `3` for three times as slow.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Begin(Kind::Stop(StopBy::Kill)) => Some("KILL".to_owned()),
            Self::Begin(Kind::Stop(StopBy::Term)) => Some("TERM".to_owned()),
            Self::Begin(Kind::Slow(factor)) => Some(factor.to_string()),
            _ => None,
        }
    }
}

/// A fault: an action and, later, its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Line of the file, from 1.
    pub line: usize,
    /// What is done.
    pub kind: Kind,
    /// To whom, as the file names it: the number of a process that the run started, from 1, or a URL, or what a hook knows.
    pub worker: String,
    /// When it is to begin, nanoseconds after the start of the run.
    pub at_ns: u64,
    /// When it is to end; `None`: with the run.
    pub end_ns: Option<u64>,
}

impl fmt::Display for Fault {
    /// As it stands in a file, without its times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = Action::Begin(self.kind);
        write!(f, "{} worker {}", action.word(), self.worker)?;
        match (self.kind, action.detail()) {
            (Kind::Slow(_), Some(factor)) => write!(f, " by {factor}x"),
            (_, Some(detail)) => write!(f, " by {detail}"),
            (_, None) => Ok(()),
        }
    }
}

/// All faults of a run, in order of their beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// At least one, where it was read from a file.
    pub faults: Vec<Fault>,
}

/// The future of an action: what there is to tell, or why it did not work.
pub type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// Who carries out a schedule.
pub trait Injector: Send + Sync {
    /// Does it to this worker, within a limit of time of its own.
    fn carry_out<'a>(&'a self, action: &'a Action, worker: &'a str) -> Outcome<'a>;

    /// Why this action can never work here; asked before the run.
    fn refuse(&self, action: &Action, worker: &str) -> Option<String>;

    /// `host:port` by which rows know the worker.
    fn host(&self, worker: &str) -> Option<String>;
}

/// A schedule and who carries it out.
#[derive(Clone)]
pub struct Faults {
    /// The schedule.
    pub plan: Arc<Plan>,
    /// Who carries it out.
    pub injector: Arc<dyn Injector>,
}

impl Faults {
    /// Refuses a schedule that cannot be carried out; the error names the line.
    pub fn new(plan: Plan, injector: Arc<dyn Injector>) -> Result<Self, String> {
        for fault in &plan.faults {
            for action in [Action::Begin(fault.kind), Action::end_of(fault.kind)] {
                if let Some(why) = injector.refuse(&action, &fault.worker) {
                    return Err(format!("line {}: {fault}: {why}", fault.line));
                }
            }
        }
        Ok(Self { plan: Arc::new(plan), injector })
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

/// An action that was carried out, or tried.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Act {
    /// Its fault, an index into [`Plan::faults`].
    pub fault: usize,
    /// It ends the fault.
    pub ends: bool,
    /// The run was over before its time: it only puts things back.
    pub restores: bool,
    /// When it was asked for, nanoseconds after the start of the run; `None` for what only puts things back.
    pub asked_ns: Option<u64>,
    /// When it was begun.
    pub began_ns: i64,
    /// When it was done.
    pub done_ns: i64,
    /// Why it did not work.
    pub failure: Option<String>,
}

/// What was made of a schedule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conducted {
    /// The schedule.
    pub plan: Arc<Plan>,
    /// `host:port` of each fault's worker, where it is known.
    pub hosts: Vec<Option<String>>,
    /// What was done, in order of time.
    pub acts: Vec<Act>,
}

impl Conducted {
    /// The action that began, or ended, a fault.
    pub fn act(&self, fault: usize, ends: bool) -> Option<&Act> {
        self.acts.iter().find(|act| act.fault == fault && act.ends == ends)
    }
}
