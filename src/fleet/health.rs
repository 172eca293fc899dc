//! Is a worker up, and what is it.
//!
//! Rule: one task a worker, so that a dead one never holds up another; every probe has a time-out. State machine and
//! defaults are sglang-router 0.3.2's (3 failures → unhealthy, 2 successes → healthy, every 60 s, 5 s each), except that a
//! worker which has never answered is asked again after 50 ms, doubling to the check interval. What `POST` or `PUT /workers`
//! said about one worker comes before the flags, from its next check on. An unhealthy worker that has just done what an
//! operator told it is checked then ([`check_soon`]). Deliberately not here: the circuit breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::Fleet;
use super::ask::{NoAnswer, Question, ask, ask_whole};
use super::spec::HealthOverrides;
use super::worker::{Described, INFO_PATHS, Worker};
use crate::log;

/// First pause between two tries to reach a worker that has never answered.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest such pause, unless `--worker-startup-check-interval` is shorter: a person waits for the first "ready".
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A worker that has not answered in this time is told of, and again each time that twice as long has passed: a wrong port
/// shows in the log at once, a model that loads for minutes costs a few lines.
const FIRST_NOTICE: Duration = Duration::from_secs(5);

/// How health is checked.
#[derive(Clone, Debug)]
pub struct HealthConfig {
    /// Off: every worker is healthy at once (`--disable-health-check`).
    pub enabled: bool,
    /// Path asked for (`--health-check-endpoint`).
    pub endpoint: String,
    /// Pause between checks (`--health-check-interval-secs`).
    pub interval: Duration,
    /// Longest wait for one answer (`--health-check-timeout-secs`).
    pub timeout: Duration,
    /// Failures in a row that make a worker unhealthy (`--health-failure-threshold`).
    pub failure_threshold: u32,
    /// Successes in a row that make it healthy again (`--health-success-threshold`).
    pub success_threshold: u32,
    /// After this long without a first answer it is called dead, loudly, and still asked (`--worker-startup-timeout-secs`).
    pub startup_timeout: Duration,
    /// Longest pause between two first tries (`--worker-startup-check-interval`).
    pub startup_interval: Duration,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            endpoint: "/health".to_owned(),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            failure_threshold: 3,
            success_threshold: 2,
            startup_timeout: Duration::from_secs(1800),
            startup_interval: Duration::from_secs(30),
        }
    }
}

impl HealthConfig {
    /// How one worker is checked: what was said about it comes before the flags.
    #[must_use]
    pub fn for_worker(&self, overrides: &HealthOverrides) -> Self {
        Self {
            enabled: overrides.disabled.map_or(self.enabled, |disabled| !disabled),
            interval: overrides.interval.unwrap_or(self.interval),
            timeout: overrides.timeout.unwrap_or(self.timeout),
            failure_threshold: overrides.failure_threshold.unwrap_or(self.failure_threshold),
            success_threshold: overrides.success_threshold.unwrap_or(self.success_threshold),
            ..self.clone()
        }
    }
}

/// Health checks by result.
#[derive(Debug, Default)]
pub struct Checks {
    /// The worker answered with a status of 200 to 299.
    pub passed: AtomicU64,
    /// It did not.
    pub failed: AtomicU64,
}

/// Watches one worker until the task is aborted.
pub async fn watch(fleet: Arc<Fleet>, worker: Arc<Worker>) {
    // A rank that was found by asking its server is described already.
    if worker.described() == Described::default() && !begin(&fleet, &worker).await {
        return;
    }
    let mut config = config_of(&fleet, &worker);
    let (mut good, mut bad) = (0, 0);
    let mut checked = Instant::now();
    let mut hurried = false;
    loop {
        // Due after the last check and not after the last change, or changes in quick succession would put it off for ever.
        let pause = if hurried { FIRST_PAUSE.min(config.interval) } else { config.interval };
        let due = pause.saturating_sub(checked.elapsed());
        tokio::select! {
            biased;
            () = worker.settings_changed() => {
                config = config_of(&fleet, &worker);
                if !config.enabled {
                    trust(&fleet, &worker);
                }
                continue;
            }
            () = worker.check_wanted(), if config.enabled => hurried = true,
            () = tokio::time::sleep(due), if config.enabled => {}
        }
        if !fleet.speaks_for_server(&worker) {
            (checked, hurried) = (Instant::now(), false);
            continue;
        }
        let found = probe(&fleet, &worker, &config).await;
        checked = Instant::now();
        match found {
            Ok(()) => {
                let was_away = bad > 0;
                // A time-out may be load, and what it holds is worth keeping; where nobody listened a process had ended.
                if worker.take_was_gone() {
                    fleet.cache_emptied(&worker);
                }
                (good, bad) = (good + 1, 0);
                if good >= config.success_threshold {
                    hurried = false;
                    set_healthy(&fleet, &worker, true, None);
                }
                // A server that was away may have come back with other ranks, or without a key.
                let is_known = worker.described().version.is_some() && !worker.wants_key();
                if (!is_known || (was_away && fleet.is_dp_aware()))
                    && !describe(&fleet, &worker, config.timeout, worker.is_healthy()).await
                {
                    return;
                }
            }
            Err(NoAnswer::NotAsked(_)) => hurried = false,
            Err(NoAnswer::FromWorker(why)) => {
                (good, bad, hurried) = (0, bad + 1, false);
                if bad >= config.failure_threshold {
                    set_healthy(&fleet, &worker, false, Some(&why));
                }
            }
        }
    }
}

/// Has an unhealthy worker checked now, and again until as many checks as ever have passed or one fails. A paused engine
/// fails its checks (0.5.23 generates a token for `/health`), and when it is told to go on, requests must not wait for two
/// intervals, which are two minutes.
pub fn check_soon(fleet: &Fleet, worker: &Arc<Worker>) {
    if !worker.is_healthy() {
        for rank in fleet.ranks_beside(worker) {
            rank.want_check();
        }
    }
}

/// From its start to its first answer and what it says about itself. False if its ranks are workers now and it is none.
async fn begin(fleet: &Arc<Fleet>, worker: &Arc<Worker>) -> bool {
    let answered = first_answer(fleet, worker).await;
    let config = config_of(fleet, worker);
    if !fleet.is_dp_aware() {
        if answered {
            set_healthy(fleet, worker, true, None);
        }
        return describe(fleet, worker, config.timeout, true).await;
    }
    let mut pause = FIRST_PAUSE;
    loop {
        // Before the first request, or some would go to no rank in particular.
        if !describe(fleet, worker, config.timeout, true).await {
            // For whoever waits for the worker that was added: it is up, as its ranks.
            worker.set_healthy(true);
            return false;
        }
        if answered {
            set_healthy(fleet, worker, true, None);
            return true;
        }
        // It is not checked, so nothing else would find out when it is up.
        if worker.described() != Described::default() {
            return true;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Sets the health of a worker and of the ranks beside it that are checked, and tells what that changed.
fn set_healthy(fleet: &Fleet, worker: &Arc<Worker>, healthy: bool, why: Option<&str>) {
    for rank in fleet.ranks_beside(worker) {
        if config_of(fleet, &rank).enabled && rank.set_healthy(healthy) {
            let event = if healthy { "healthy" } else { "unhealthy" };
            fleet.announce(&rank, event, why.map(str::to_owned));
        }
    }
}

/// The settings of a worker may change at any time, so nobody keeps this for long.
pub(super) fn config_of(fleet: &Fleet, worker: &Worker) -> HealthConfig {
    fleet.health_config().for_worker(&worker.settings().health)
}

/// Without checks a worker is healthy.
fn trust(fleet: &Fleet, worker: &Worker) {
    if worker.set_healthy(true) {
        fleet.announce(worker, "healthy", Some("it is not checked".to_owned()));
    }
}

/// True once it has answered a check, false if it is not checked.
async fn first_answer(fleet: &Fleet, worker: &Worker) -> bool {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut complained = false;
    let mut notice_due = FIRST_NOTICE;
    loop {
        let config = config_of(fleet, worker);
        if !config.enabled {
            trust(fleet, worker);
            return false;
        }
        match probe(fleet, worker, &config).await {
            Ok(()) => return true,
            Err(why) if !complained && started.elapsed() >= config.startup_timeout => {
                complained = true;
                fleet.announce(worker, "unhealthy", Some(format!("no answer since start: {why}")));
            }
            Err(why) if !complained && started.elapsed() >= notice_due => {
                let waited_s = started.elapsed().as_secs();
                notice_due *= 2;
                let told = format!("{why}; {waited_s} s so far, still trying");
                fleet.announce(worker, "no_answer_yet", Some(told));
            }
            Err(_) => {}
        }
        pause = pause.min(config.startup_interval);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// One check. What the router itself lacks is no word on the worker, and counts neither way.
async fn probe(fleet: &Fleet, worker: &Worker, config: &HealthConfig) -> Result<(), NoAnswer> {
    let answer = ask(worker, fleet.clock(), &Question::get(&config.endpoint, config.timeout)).await;
    if matches!(answer, Ok((StatusCode::UNAUTHORIZED, _))) {
        tell_of_key(worker, &config.endpoint);
    }
    let result = match answer {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, _)) => Err(NoAnswer::FromWorker(format!("{}: status {status}", config.endpoint))),
        Err(why) => Err(why),
    };
    worker.checked(result.as_ref().err().map(NoAnswer::to_string));
    let checks = fleet.health_checks();
    match &result {
        Ok(()) => _ = checks.passed.fetch_add(1, Ordering::Relaxed),
        Err(NoAnswer::FromWorker(_)) => _ = checks.failed.fetch_add(1, Ordering::Relaxed),
        Err(NoAnswer::NotAsked(_)) => {}
    }
    result
}

/// Says once that a worker's server refuses the router's own questions for want of a key, and what to do.
fn tell_of_key(worker: &Worker, path: &str) {
    if !worker.set_wants_key(true) {
        return;
    }
    let sent =
        if worker.api_key.is_some() { "not the one that the router sends" } else { "the router has none" };
    let what =
        "start the router with --api-key, or add the worker by POST /workers with an api_key of its own";
    log::warn(&format!("worker {} wants a key for {path} (status 401), and {sent}: {what}", worker.added_as));
}

/// Asks a worker what it is. False if its ranks are workers
/// now and it is none of them; `healthy` is what new ones are.
async fn describe(fleet: &Arc<Fleet>, worker: &Arc<Worker>, timeout: Duration, healthy: bool) -> bool {
    let was_ranks = worker.described().dp_size;
    let mut described = Described::default();
    let (mut refused, mut answered) = (None, false);
    for path in INFO_PATHS {
        let Ok(answer) = ask_whole(worker, fleet.clock(), &Question::get(path, timeout)).await else {
            continue;
        };
        if answer.status == StatusCode::UNAUTHORIZED {
            refused.get_or_insert(path);
        }
        if !answer.status.is_success() {
            continue;
        }
        answered = true;
        let Ok(info) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
            continue;
        };
        described = described.with(&info, answer.routed);
        if described.version.is_some() {
            break;
        }
    }
    match refused {
        _ if answered => _ = worker.set_wants_key(false),
        Some(path) => tell_of_key(worker, path),
        None => {}
    }
    if described != Described::default() {
        for rank in fleet.ranks_beside(worker) {
            if described != rank.described() {
                rank.describe(described.clone());
                fleet.announce(&rank, "described", None);
            }
        }
    }
    // Only then, or a rank that somebody has removed would come back.
    was_ranks == worker.described().dp_size || fleet.fit_ranks(worker, healthy)
}
