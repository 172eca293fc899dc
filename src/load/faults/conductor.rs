//! Carries out a schedule beside the load: one task a worker, so that an action that takes long delays no other worker's.
//!
//! Rule: tokio's timer is good enough, as each action is told with the moment at which it was begun; no thread of the pacer is
//! used. What is still wrong with a worker when the load is over is put right. A worker's task that ends before its time is told as
//! a failure of all that it was to begin by then. Deliberately not here: how an action is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};

use super::{Act, Action, Conducted, Faults};
use crate::clock::Clock;
use crate::load::progress::Progress;

/// Longest sleep at once: tokio's timer ends before the moment that the clock has, never after a long one.
const NAP: Duration = Duration::from_secs(3600);

/// A schedule that is being carried out.
pub struct Conductor {
    faults: Faults,
    over: watch::Sender<bool>,
    workers: JoinSet<Vec<Act>>,
    /// The faults of each task.
    owners: BTreeMap<Id, Vec<usize>>,
    start_mono_ns: u64,
    clock: Clock,
}

/// What is to be done to one worker, and all it takes.
struct OneWorker {
    faults: Faults,
    /// Indices into the plan, in order.
    own: Vec<usize>,
    start_mono_ns: u64,
    clock: Clock,
    progress: Arc<dyn Progress>,
    over: watch::Receiver<bool>,
}

impl Conductor {
    /// Begins; the schedule's zero is `start_mono_ns`.
    pub fn start(faults: &Faults, start_mono_ns: u64, clock: &Clock, progress: &Arc<dyn Progress>) -> Self {
        let mut by_worker: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, fault) in faults.plan.faults.iter().enumerate() {
            by_worker.entry(&fault.worker).or_default().push(index);
        }
        let (over, _) = watch::channel(false);
        let (mut workers, mut owners) = (JoinSet::new(), BTreeMap::new());
        for own in by_worker.into_values() {
            let one = OneWorker {
                faults: faults.clone(),
                own: own.clone(),
                start_mono_ns,
                clock: clock.clone(),
                progress: Arc::clone(progress),
                over: over.subscribe(),
            };
            owners.insert(workers.spawn(one.go()).id(), own);
        }
        Self { faults: faults.clone(), over, workers, owners, start_mono_ns, clock: clock.clone() }
    }

    /// The load is over: nothing more is begun, and what is wrong with a worker ends now.
    pub async fn finish(mut self) -> Conducted {
        self.over.send_replace(true);
        let mut acts = Vec::new();
        while let Some(of_worker) = self.workers.join_next().await {
            acts.extend(of_worker.unwrap_or_else(|error| self.unknown(&error)));
        }
        acts.sort_by_key(|act| act.began_ns);
        let Faults { plan, injector } = self.faults;
        let hosts = plan.faults.iter().map(|fault| injector.host(&fault.worker)).collect();
        Conducted { plan, hosts, acts }
    }

    /// What a task that panicked was to have begun: what it did is lost with it.
    fn unknown(&self, error: &JoinError) -> Vec<Act> {
        let now_ns = self.clock.mono_ns().saturating_sub(self.start_mono_ns);
        let plan = &self.faults.plan;
        let own = self.owners.get(&error.id()).into_iter().flatten();
        let begun = own.filter(|fault| plan.faults[**fault].at_ns <= now_ns);
        begun
            .map(|fault| {
                let at_ns = plan.faults[*fault].at_ns;
                Act {
                    fault: *fault,
                    asked_ns: Some(at_ns),
                    began_ns: at_ns.cast_signed(),
                    done_ns: now_ns.cast_signed(),
                    failure: Some(format!("the client itself failed, and what it did is not known: {error}")),
                    ..Act::default()
                }
            })
            .collect()
    }
}

impl OneWorker {
    async fn go(mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        for index in std::mem::take(&mut self.own) {
            let fault = self.faults.plan.faults[index].clone();
            if !self.wait_until(fault.at_ns).await {
                break;
            }
            let asked_ns = Some(fault.at_ns);
            let begins = Act { fault: index, ends: false, restores: false, asked_ns, ..Act::default() };
            let began = self.carry_out(begins, &Action::Begin(fault.kind)).await;
            acts.push(began);
            let in_time = match fault.end_ns {
                Some(end_ns) => self.wait_until(end_ns).await,
                None => {
                    self.wait_until(u64::MAX).await;
                    false
                }
            };
            // After a failed beginning too: nobody knows how much of it was done.
            let asked_ns = fault.end_ns.filter(|_| in_time);
            let ends = Act { fault: index, ends: true, restores: !in_time, asked_ns, ..Act::default() };
            let ended = self.carry_out(ends, &Action::end_of(fault.kind)).await;
            acts.push(ended);
        }
        acts
    }

    /// False if the load was over before.
    async fn wait_until(&mut self, at_ns: u64) -> bool {
        let due_ns = self.start_mono_ns.saturating_add(at_ns);
        loop {
            let left_ns = due_ns.saturating_sub(self.clock.mono_ns());
            if left_ns == 0 {
                return true;
            }
            tokio::select! {
                biased;
                // An error means that nobody waits for the end of this any more.
                _ = self.over.wait_for(|over| *over) => return false,
                () = tokio::time::sleep(Duration::from_nanos(left_ns).min(NAP)) => {}
            }
        }
    }

    async fn carry_out(&self, act: Act, action: &Action) -> Act {
        let fault = &self.faults.plan.faults[act.fault];
        let began_ns = self.now_ns();
        let outcome = self.faults.injector.carry_out(action, &fault.worker).await;
        let what = match action {
            Action::Begin(_) => fault.to_string(),
            _ => format!("{} worker {}", action.word(), fault.worker),
        };
        let how = outcome.as_ref().err().map_or_else(String::new, |why| format!(": FAILED: {why}"));
        self.progress.note(&format!("{:>8.1} s  {what}{how}", began_ns as f64 / 1e9));
        Act { began_ns, done_ns: self.now_ns(), failure: outcome.err(), ..act }
    }

    /// After the start of the run.
    fn now_ns(&self) -> i64 {
        self.clock.mono_ns().cast_signed() - self.start_mono_ns.cast_signed()
    }
}
