//! Drives an engine in time: steps end at absolute deadlines, each a step after the one before, so that nothing drifts.
//!
//! Rules: stamps are on the engine's timeline, so a run is exact even where the machine is late; how late it was is measured
//! and published. An idle worker costs nothing. On the host's clock a worker has one thread of its own (tokio's timer has a
//! 1 ms grid); on a virtual clock it is a task, as that clock moves only while the runtime is idle. A virtual clock is told by
//! its disagreeing with the host's by more than a second. Deliberately not here: scheduling (`engine`), HTTP.

mod paced;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::{Notify, watch};

use super::engine::{Engine, Event, Job, JobId, Load, Progress, Step};
use crate::clock::Clock;

/// A step counts as late when its end is published later than this share of its length after its deadline.
const LATE_SHARE: f64 = 0.02;

/// The way to a running engine. Cheap to clone; the engine stops when [`Runner::stop`] is called.
#[derive(Clone, Debug)]
pub struct Runner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    inbox: Mutex<Inbox>,
    wake_thread: Condvar,
    wake_task: Notify,
    status: Mutex<Status>,
}

/// The states of a call's jobs.
type Sender = Arc<watch::Sender<Vec<Progress>>>;

/// Commands wait here until the current step ends. Bounded by the connections and the items of their calls.
#[derive(Debug, Default)]
struct Inbox {
    commands: Vec<Command>,
    /// The thread waits for commands and must be woken.
    parked: bool,
    stop: bool,
}

#[derive(Debug)]
enum Command {
    Submit(Job, Sender, usize),
    Abort(JobId),
    Flush(tokio::sync::oneshot::Sender<bool>),
    SlowDown(f64),
}

#[derive(Clone, Copy, Debug, Default)]
struct Status {
    load: Load,
    pace: Pace,
}

/// How well the steps kept their deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pace {
    /// Steps that ended.
    pub steps: u64,
    /// Steps whose end was published later than 2 % of their length after their deadline.
    pub late_steps: u64,
    /// Share of late steps.
    pub late_share: f64,
    /// Mean lateness in microseconds.
    pub late_mean_us: f64,
    /// Greatest lateness in microseconds.
    pub late_max_us: f64,
}

impl Pace {
    fn note(&mut self, late_ns: u64, step_ns: u64) {
        let lateness_us = late_ns as f64 / 1e3;
        self.late_mean_us += (lateness_us - self.late_mean_us) / (self.steps + 1) as f64;
        self.steps += 1;
        self.late_steps += u64::from(late_ns as f64 > step_ns as f64 * LATE_SHARE);
        self.late_share = self.late_steps as f64 / self.steps as f64;
        self.late_max_us = self.late_max_us.max(lateness_us);
    }
}

/// The jobs of one request and their progress, in order. Dropping it aborts what has not ended.
#[derive(Debug)]
pub struct Call {
    ids: Vec<JobId>,
    progress: watch::Receiver<Vec<Progress>>,
    runner: Runner,
}

impl Call {
    /// Ids of the jobs.
    pub fn ids(&self) -> &[JobId] {
        &self.ids
    }

    /// Waits until any job has moved since the last call; gives the state of all. What a slow reader missed is merged.
    pub async fn changed(&mut self) -> Vec<Progress> {
        // An error means that the worker stopped: the last state stands.
        let _ = self.progress.changed().await;
        self.progress.borrow_and_update().clone()
    }

    /// Waits until every job has ended.
    pub async fn ended(&mut self) -> Vec<Progress> {
        let all_ended = self.progress.wait_for(|jobs| jobs.iter().all(|p| p.end.is_some())).await;
        all_ended.map(|jobs| jobs.clone()).unwrap_or_default()
    }

    /// Whether the worker has stopped before the jobs ended.
    pub fn is_orphaned(&self) -> bool {
        self.progress.has_changed().is_err() && self.progress.borrow().iter().any(|p| p.end.is_none())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.progress.borrow().iter().any(|p| p.end.is_none()) {
            self.runner.abort(&self.ids);
        }
    }
}

impl Runner {
    /// Starts driving `engine` by `clock`.
    pub fn start(engine: Engine, clock: Clock) -> io::Result<Self> {
        let virtual_time = clock.is_virtual();
        let status = Mutex::new(Status { load: engine.load(), pace: Pace::default() });
        let (inbox, wake_thread, wake_task) = (Mutex::default(), Condvar::new(), Notify::new());
        let shared = Arc::new(Shared { clock, inbox, wake_thread, wake_task, status });
        let driver =
            Driver { engine, shared: shared.clone(), readers: BTreeMap::new(), cursor_ns: 0, step: None };
        if virtual_time {
            tokio::spawn(paced::in_virtual_time(driver));
        } else {
            std::thread::Builder::new()
                .name("sim-engine".to_owned())
                .spawn(move || paced::on_a_thread(driver))?;
        }
        Ok(Self { shared })
    }

    /// Hands jobs to the engine.
    pub fn submit(&self, jobs: Vec<Job>) -> Call {
        let (sender, progress) = watch::channel(vec![Progress::default(); jobs.len()]);
        let sender = Arc::new(sender);
        let ids = jobs.iter().map(|j| j.id).collect();
        let commands = jobs.into_iter().enumerate().map(|(i, job)| Command::Submit(job, sender.clone(), i));
        self.send(commands);
        Call { ids, progress, runner: self.clone() }
    }

    /// Aborts jobs at the end of the current step; ended ones are left alone.
    pub fn abort(&self, ids: &[JobId]) {
        self.send(ids.iter().copied().map(Command::Abort));
    }

    /// Empties the prefix cache if nothing runs; says whether it did.
    pub async fn flush(&self) -> bool {
        let (answer, flushed) = tokio::sync::oneshot::channel();
        self.send(std::iter::once(Command::Flush(answer)));
        flushed.await.unwrap_or(false)
    }

    /// Makes all times `factor` times as long as they would be, from the next step on.
    pub fn slow_down(&self, factor: f64) {
        self.send(std::iter::once(Command::SlowDown(factor)));
    }

    /// Gauges and counters as of the last step's end.
    pub fn load(&self) -> Load {
        locked(&self.shared.status).load
    }

    /// How well the steps kept their deadlines.
    pub fn pace(&self) -> Pace {
        locked(&self.shared.status).pace
    }

    /// Stops the engine at the end of the current step; calls still open never end.
    pub fn stop(&self) {
        locked(&self.shared.inbox).stop = true;
        self.shared.wake();
    }

    fn send(&self, commands: impl Iterator<Item = Command>) {
        let parked = {
            let mut inbox = locked(&self.shared.inbox);
            if inbox.stop {
                return;
            }
            inbox.commands.extend(commands);
            inbox.parked
        };
        if parked {
            self.shared.wake();
        }
    }
}

impl Shared {
    fn wake(&self) {
        self.wake_thread.notify_one();
        self.wake_task.notify_one();
    }
}

/// What to wait for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Commands.
    Commands,
    /// Commands, or this moment.
    CommandsUntil(u64),
    /// The end of the current step.
    StepEnd(u64),
    Stop,
}

struct Driver {
    engine: Engine,
    shared: Arc<Shared>,
    readers: BTreeMap<JobId, (Sender, usize)>,
    /// End of the last step on the engine's timeline.
    cursor_ns: u64,
    step: Option<Step>,
}

impl Driver {
    /// Does what is due and says what to wait for.
    fn advance(&mut self) -> Next {
        if let Some(step) = self.step.take() {
            self.publish(&step.events);
            let late_ns = self.shared.clock.mono_ns().saturating_sub(self.cursor_ns);
            locked(&self.shared.status).pace.note(late_ns, step.duration_ns);
        }
        loop {
            if self.take_commands() {
                return Next::Stop;
            }
            let now_ns = self.shared.clock.mono_ns();
            let start_ns = match self.engine.next_ns() {
                None => return Next::Commands,
                Some(at_ns) if at_ns > now_ns => return Next::CommandsUntil(at_ns),
                Some(at_ns) => at_ns.max(self.cursor_ns),
            };
            let refused = self.engine.receive(start_ns);
            self.publish(&refused);
            let step = self.engine.step(start_ns);
            locked(&self.shared.status).load = self.engine.load();
            if let Some(step) = step {
                self.cursor_ns = start_ns + step.duration_ns;
                self.step = Some(step);
                return Next::StepEnd(self.cursor_ns);
            }
        }
    }

    /// Applies what has come in; true: stop.
    fn take_commands(&mut self) -> bool {
        let (commands, stop) = {
            let mut inbox = locked(&self.shared.inbox);
            (std::mem::take(&mut inbox.commands), inbox.stop)
        };
        let changed = !commands.is_empty();
        for command in commands {
            match command {
                Command::Submit(job, sender, index) => {
                    self.readers.insert(job.id, (sender, index));
                    self.engine.submit(job);
                }
                Command::Abort(id) => {
                    let now_ns = self.shared.clock.mono_ns().max(self.cursor_ns);
                    let event = self.engine.abort(id, now_ns);
                    self.publish(event.as_slice());
                }
                Command::Flush(answer) => {
                    let flushed = self.engine.flush();
                    // Whoever asked may have gone.
                    let _ = answer.send(flushed);
                }
                Command::SlowDown(factor) => self.engine.slow_down(factor),
            }
        }
        if changed {
            locked(&self.shared.status).load = self.engine.load();
        }
        stop
    }

    fn publish(&mut self, events: &[Event]) {
        for event in events {
            if let Some((sender, index)) = self.readers.get(&event.id) {
                sender.send_modify(|jobs| jobs[*index] = event.progress);
            }
            if event.progress.end.is_some() {
                self.readers.remove(&event.id);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
