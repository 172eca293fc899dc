//! The workers: the only shared mutable state of the router.
//!
//! `worker` (one worker and its connections), `server` (the process it is at), `ranks` (`--dp-aware`), `lease` (a claim on
//! it), `breaker` (when it is left alone), `dispatch` (the critical section of a decision), `decided` (its record), `journal`
//! (every call into it), `policies` (what is asked of it), `shadow` (what other policies would have chosen), `reload` (a
//! policy's file), `health` (probes), `loads` (what servers say of theirs), `meters` (what is counted at a worker), `rids`
//! (which request is where). Rule: a policy sees a snapshot taken under one lock; no lock is held across an await.

pub mod ask;
pub mod breaker;
mod config;
pub mod decided;
pub mod dispatch;
pub mod health;
mod journal;
pub mod lease;
pub mod loads;
pub mod meters;
pub mod policies;
mod ranks;
pub mod reload;
pub mod rids;
pub mod server;
pub mod shadow;
pub mod spec;
pub mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use milepost_policies::{
    Corrections, Event, Needs, Policy, PolicyConfig, PolicyId, RequestView, Time, UnknownPolicy, WorkerId,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::breaker::{Transition, Verdict};
pub use self::config::FleetConfig;
use self::dispatch::{Chosen, Dispatch};
use self::health::{Checks, HealthConfig};
use self::lease::Lease;
use self::policies::{SharedNeeds, Wanted};
use self::rids::InFlightRids;
use self::shadow::{Asked, Shadows};
use self::spec::{WorkerSettings, WorkerSpec};
use self::worker::Worker;
use crate::clock::Clock;
use crate::config::worker_url::WorkerUrl;
use crate::log;
use crate::net::dialer::Dialer;
use crate::net::tls::TlsError;
use crate::trace::record::{Record, WorkerRecord};
use crate::trace::sink::Sink;

/// Pause between two sweeps for connections idle too long.
const REAP_EVERY: Duration = Duration::from_millis(500);

/// The workers and the policy that chooses among them.
pub struct Fleet {
    clock: Clock,
    dialer: Dialer,
    checks: Checks,
    config: FleetConfig,
    sink: Arc<Sink>,
    needs: SharedNeeds,
    loads_wanted: watch::Sender<bool>,
    policy: &'static str,
    dispatch: Mutex<Dispatch>,
    watchers: Mutex<BTreeMap<u32, JoinHandle<()>>>,
    rids: InFlightRids,
    shadows: OnceLock<Arc<Shadows>>,
}

/// Why a worker was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// A worker with this URL is in the fleet.
    AlreadyThere,
    /// There are as many workers as there may be.
    Full,
}

impl Fleet {
    /// An empty fleet.
    pub fn new(
        clock: Clock,
        dialer: impl Into<Dialer>,
        config: impl Into<FleetConfig>,
        policy: Box<dyn Policy>,
        sink: Arc<Sink>,
    ) -> Arc<Self> {
        let name = policy.name();
        let config = config.into();
        let chooser = config.recorder(Time { us: clock.mono_ns() / 1_000 }, policy);
        let needs = config.asked_for(chooser.needs());
        let dispatch = Mutex::new(Dispatch::new(chooser, config.decisions, Arc::clone(&sink)));
        let loads_wanted = watch::Sender::new(config.loads.always || needs.server_loads);
        Arc::new(Self {
            clock,
            dialer: dialer.into(),
            checks: Checks::default(),
            config,
            sink,
            needs: SharedNeeds::new(needs),
            loads_wanted,
            policy: name,
            dispatch,
            watchers: Mutex::default(),
            rids: InFlightRids::default(),
            shadows: OnceLock::new(),
        })
    }

    /// Name of the configured policy.
    pub fn policy(&self) -> &'static str {
        self.policy
    }

    /// What the policies want to know.
    pub fn needs(&self) -> Needs {
        self.needs.get()
    }

    /// The policy called `name`; built with `config` if no request has named it before.
    pub fn policy_named(&self, name: &str, config: &PolicyConfig) -> Result<PolicyId, UnknownPolicy> {
        let now = self.now();
        let mut dispatch = self.lock();
        let id = dispatch.policy_named(name, config, now)?;
        self.need(dispatch.needs());
        Ok(id)
    }

    /// From now on these are asked after each decision. Only the first call counts.
    pub fn set_shadows(&self, shadows: Arc<Shadows>) {
        if self.shadows.set(Arc::clone(&shadows)).is_ok() {
            let mut dispatch = self.lock();
            dispatch.set_shadows(self.now(), shadows);
            self.need(dispatch.needs());
        }
    }

    /// Who is asked after each decision.
    pub fn shadows(&self) -> Option<&Shadows> {
        self.shadows.get().map(|shadows| &**shadows)
    }

    /// Finds out so much from now on. Called under the lock.
    fn need(&self, needs: Needs) {
        self.needs.set(self.config.asked_for(needs));
        self.loads_wanted.send_if_modified(|wanted| needs.server_loads && !std::mem::replace(wanted, true));
    }

    /// Puts `policy` in the place of another one, from the next request on.
    pub fn replace_policy(&self, id: PolicyId, policy: Box<dyn Policy>) {
        let now = self.now();
        let mut dispatch = self.lock();
        let replaced = dispatch.replace_policy(now, id, policy);
        self.need(dispatch.needs());
        drop(dispatch);
        drop(replaced);
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How health is checked.
    pub fn health_config(&self) -> &HealthConfig {
        &self.config.health
    }

    /// Health checks so far.
    pub fn health_checks(&self) -> &Checks {
        &self.checks
    }

    /// Requests in flight by their `rid`.
    pub fn rids(&self) -> &InFlightRids {
        &self.rids
    }

    /// Whether a worker at this URL could be reached at all: an https one needs `--ca-cert-paths`.
    pub fn check(&self, url: &WorkerUrl) -> Result<(), TlsError> {
        if url.is_https() { self.dialer.tls().map(drop).map_err(Clone::clone) } else { Ok(()) }
    }

    /// Adds a worker and starts to watch it. It gets requests once it has answered a health check.
    pub fn add(self: &Arc<Self>, spec: impl Into<WorkerSpec>) -> Result<Arc<Worker>, NotAdded> {
        self.add_up_to(usize::MAX, spec.into())
    }

    /// As [`Self::add`], unless there are `max_workers` already.
    pub fn add_up_to(
        self: &Arc<Self>,
        max_workers: usize,
        spec: WorkerSpec,
    ) -> Result<Arc<Worker>, NotAdded> {
        // Held over both changes: a slot that is free has no watcher, and a watcher is that of the slot's worker.
        let mut watchers = self.watchers();
        let worker = {
            let mut dispatch = self.lock();
            // Also one that has become its ranks.
            if dispatch.workers.iter().any(|w| w.url == spec.url || w.added_as == spec.url) {
                return Err(NotAdded::AlreadyThere);
            }
            if dispatch.workers.len() >= max_workers {
                return Err(NotAdded::Full);
            }
            let healthy = !self.config.health.for_worker(&spec.settings.health).enabled;
            let slot = dispatch.free_slot();
            let neighbour = dispatch.workers.iter().find(|w| w.url.is_same_server(&spec.url));
            let worker = Arc::new(match neighbour {
                Some(neighbour) => neighbour.neighbour(slot, spec, healthy),
                None => Worker::new(slot, spec, self.dialer.clone(), self.config.breaker, healthy),
            });
            dispatch.join(self.now(), Arc::clone(&worker));
            worker
        };
        self.announce(&worker, "added", None);
        watchers.insert(worker.id.0, self.watch(&worker));
        Ok(worker)
    }

    /// The task of a worker in the fleet. It ends by itself where the worker has become its ranks.
    fn watch(self: &Arc<Self>, worker: &Arc<Worker>) -> JoinHandle<()> {
        let health = health::watch(Arc::clone(self), Arc::clone(worker));
        let loads = loads::watch(Arc::clone(self), Arc::clone(worker));
        tokio::spawn(async {
            tokio::select! {
                // In a fixed order, or a seeded world would not repeat itself.
                biased;
                () = health => {}
                () = loads => {}
            }
        })
    }

    /// Changes what an operator says of a worker.
    pub fn set_settings(&self, worker: &Worker, settings: WorkerSettings) {
        let now = self.now();
        self.lock().set_settings(now, worker, settings);
    }

    /// Takes a worker out; requests in flight there go on, idle connections are closed. `false` if it was out already, whoever
    /// has its slot now.
    pub fn remove(&self, worker: &Arc<Worker>) -> bool {
        let mut watchers = self.watchers();
        let shares_pool = {
            let mut dispatch = self.lock();
            if !dispatch.leave(self.now(), worker) {
                return false;
            }
            dispatch.workers.iter().any(|other| Arc::ptr_eq(&other.pool, &worker.pool))
        };
        if !shares_pool {
            worker.pool.close();
        }
        if let Some(watcher) = watchers.remove(&worker.id.0) {
            watcher.abort();
        }
        self.announce(worker, "removed", None);
        true
    }

    /// All workers, in the order they joined.
    pub fn workers(&self) -> Vec<Arc<Worker>> {
        self.lock().workers.clone()
    }

    /// Chooses a worker and takes a lease on it, or says that none is left.
    pub fn choose(&self, wanted: Wanted, request: &RequestView<'_>, tried: &[WorkerId]) -> Option<Chosen> {
        let asked = self.shadows.get().map(|_| Asked::of(request));
        let start_ns = self.clock.mono_ns();
        let mut dispatch = self.lock();
        let chosen = dispatch.choose(Time { us: start_ns / 1_000 }, wanted, request, tried, asked);
        let half_opened = std::mem::take(&mut dispatch.half_opened);
        let notes = dispatch.take_notes();
        drop(dispatch);
        self.write_down(notes, Some(request));
        for worker in half_opened {
            self.announce_breaker(&worker, Transition::HalfOpened);
        }
        let mut chosen = chosen?;
        chosen.at_ns = self.clock.mono_ns();
        if let Some(decision) = &mut chosen.decision {
            decision.took_ns = chosen.at_ns.saturating_sub(start_ns);
        }
        Some(chosen)
    }

    /// True if some worker may get such a request now: of all, or the one that it names.
    pub fn is_anyone_available(&self, wanted: Wanted) -> bool {
        let now_ns = self.clock.mono_ns();
        self.lock().is_anyone_available(now_ns, wanted)
    }

    /// Tells the breaker of the lease's worker how the request ended, or as good as ended, there; only the first word on a
    /// lease counts.
    pub fn settle(&self, lease: &mut Lease, verdict: Verdict) {
        if let Some(transition) = lease.settle(verdict, &self.clock) {
            self.announce_breaker(lease.worker(), transition);
        }
    }

    /// The first bytes of an answer's body have come. Of a probe that is its end: it may be a stream of an hour, and the next
    /// one must not wait for that.
    pub fn settle_probe(&self, lease: &mut Lease, verdict: Verdict) {
        if lease.is_probe() {
            self.settle(lease, verdict);
        }
    }

    /// Tells the policies what became of a request at this worker, if any of them wants to know and it has not left: another one
    /// may have its slot.
    pub fn observe(&self, worker: &Worker, event: &Event) {
        if self.needs().hears_of_requests() {
            let now = self.now();
            self.tell(now, worker, event);
        }
    }

    /// A worker's cache is empty, and those of its ranks: what they were believed to hold is forgotten.
    pub fn cache_emptied(&self, worker: &Arc<Worker>) {
        let ranks = self.ranks_beside(worker);
        let now = self.now();
        let mut dispatch = self.lock();
        for rank in ranks {
            dispatch.observe(now, &rank, &Event::CacheEmptied { worker: rank.id });
        }
    }

    /// What the workers' answers corrected so far of what they were believed to hold.
    pub fn corrections(&self) -> Corrections {
        self.lock().corrections()
    }

    /// Adds a policy that is in no list of names, under its own; requests may ask for it by that.
    pub fn add_policy(&self, policy: Box<dyn Policy>) -> PolicyId {
        let now = self.now();
        let mut dispatch = self.lock();
        let id = dispatch.add_policy(now, policy, &self.config.policy_config);
        self.need(dispatch.needs());
        id
    }

    fn now(&self) -> Time {
        Time { us: self.clock.mono_ns() / 1_000 }
    }

    /// Closes connections that have been idle too long, for ever; run it as a task.
    pub async fn reap_idle(self: Arc<Self>) {
        loop {
            tokio::time::sleep(REAP_EVERY).await;
            let now_ns = self.clock.mono_ns();
            for worker in self.workers() {
                worker.pool.reap(now_ns);
            }
        }
    }

    /// Closes every idle connection: their descriptors are wanted.
    pub fn close_idle(&self) {
        for worker in self.workers() {
            worker.pool.clear();
        }
    }

    /// Stops all health checks.
    pub fn stop_watching(&self) {
        for (_, watcher) in std::mem::take(&mut *self.watchers()) {
            watcher.abort();
        }
    }

    /// The same, and returns when none of their tasks is left.
    pub async fn end_watching(&self) {
        let watchers = std::mem::take(&mut *self.watchers());
        watchers.values().for_each(JoinHandle::abort);
        for watcher in watchers.into_values() {
            // It was aborted, or it had ended; a panic was told by the panic hook.
            let _ = watcher.await;
        }
    }

    fn announce_breaker(&self, worker: &Worker, transition: Transition) {
        let config = worker.breaker().config();
        let (event, why) = match transition {
            Transition::Opened => {
                ("breaker_open", format!("failures in a row: {}", config.failure_threshold))
            }
            Transition::Reopened => ("breaker_open", "the probe failed".to_owned()),
            Transition::HalfOpened => ("breaker_half_open", format!("open for {:?}", config.open_for)),
            Transition::Closed => {
                ("breaker_closed", format!("successes in a row: {}", config.success_threshold))
            }
        };
        self.announce(worker, event, Some(why));
    }

    /// Writes a change of a worker to the trace and the log.
    pub(crate) fn announce(&self, worker: &Worker, event: &str, detail: Option<String>) {
        let described = worker.described();
        let said = if event == "described" { Some(described.to_string()) } else { detail.clone() };
        let why = said.map(|why| format!(" ({why})")).unwrap_or_default();
        let level =
            if matches!(event, "unhealthy" | "breaker_open") { log::Level::Warn } else { log::Level::Info };
        log::say(level, &format!("worker {} {event}{why}", worker.url));
        self.sink.offer(Record::Worker(WorkerRecord {
            mono_ns: self.clock.mono_ns(),
            worker: worker.url.shared(),
            event: event.to_owned(),
            detail,
            model: described.model,
            version: described.version,
            max_running_requests: described.max_running_requests,
            simulated: described.simulated,
            router: described.router,
        }));
    }

    fn watchers(&self) -> MutexGuard<'_, BTreeMap<u32, JoinHandle<()>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Dispatch> {
        // A policy that panicked under the lock poisons it; the state behind it is still whole, and others must be served.
        self.dispatch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use milepost_policies::PolicyConfig;

    use super::*;
    use crate::config::resilience::BreakerConfig;
    use crate::net::{Connector, PipeNet};

    #[tokio::test]
    async fn of_all_who_come_at_the_same_time_one_is_sent_to_a_half_open_worker() {
        let policy = milepost_policies::build("random", &PolicyConfig::default()).unwrap();
        let health = HealthConfig { enabled: false, ..HealthConfig::default() };
        let breaker =
            BreakerConfig { failure_threshold: 1, open_for: Duration::ZERO, ..BreakerConfig::default() };
        let pipes = Connector::Pipes(PipeNet::default());
        let config = FleetConfig { breaker, ..FleetConfig::from(health) };
        let fleet = Fleet::new(Clock::system(), pipes, config, policy, Arc::new(Sink::off()));
        let worker = fleet.add(WorkerUrl::parse("http://127.0.0.1:1").unwrap()).unwrap();
        let choose = || fleet.choose(Wanted::default(), &RequestView::default(), &[]);
        for _ in 0..20 {
            fleet.settle(&mut choose().expect("closed, or half-open again").lease, Verdict::Failure);
            let chosen = Mutex::new(Vec::new());
            std::thread::scope(|threads| {
                for _ in 0..8 {
                    threads.spawn(|| {
                        let one = choose();
                        chosen.lock().unwrap().extend(one);
                    });
                }
            });
            assert_eq!((chosen.lock().unwrap().len(), worker.in_flight()), (1, 1));
            assert!(
                !worker.is_available(fleet.clock().mono_ns())
                    && !fleet.is_anyone_available(Wanted::default())
            );
        }
    }

    #[tokio::test]
    async fn a_worker_is_removed_once_whoever_has_its_slot_then() {
        let policy = milepost_policies::build("round_robin", &PolicyConfig::default()).unwrap();
        let health = HealthConfig { enabled: false, ..HealthConfig::default() };
        let pipes = Connector::Pipes(PipeNet::default());
        let fleet = Fleet::new(Clock::system(), pipes, health, policy, Arc::new(Sink::off()));
        let url = |port: u16| WorkerUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let first = fleet.add(url(1)).unwrap();
        assert!(fleet.remove(&first));
        let second = fleet.add(url(2)).unwrap();
        assert_eq!(second.id, first.id);
        assert!(!fleet.remove(&first));
        assert_eq!((fleet.workers().len(), fleet.watchers().len()), (1, 1));
    }
}
