//! What a world is made of, drawn whole before it begins: settings, workers, what happens to them, clients.
//!
//! Deliberately not here: what a worker answers (`fault`, drawn when it is asked), the run (`world`).

use std::time::Duration;

use milepost::config::{RouteConfig, worker_urls};
use milepost::net::PipeNet;

use crate::asking::{Visit, visit};
use crate::draw::{Draw, Of};

/// Port of the router.
pub const ROUTER: u16 = 30_000;
/// Port of its metrics.
pub const METRICS: u16 = 30_001;
/// The first worker's port.
pub const WORKERS: u16 = 9_000;

/// One world.
#[derive(Debug)]
pub struct Plan {
    pub seed: u64,
    /// What a pipe holds in each direction.
    pub room_bytes: usize,
    /// Workers at the start, on ports from [`WORKERS`] on.
    pub workers: u16,
    /// When a worker closes an idle connection.
    pub worker_idle: Duration,
    /// Share of answers with a fault, in percent.
    pub faults: u32,
    /// Of so many requests one makes the policy panic; 0: none.
    pub panic_every: u64,
    pub config: RouteConfig,
    pub steps: Vec<(Duration, Step)>,
    pub visits: Vec<Visit>,
    /// When the router is told to stop; otherwise after the last client.
    pub stop_at: Option<Duration>,
    /// The second signal, so long after the first: everything is dropped where it stands.
    pub kill_after: Option<Duration>,
}

/// Something that happens to the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The process dies, its connections with it.
    Die(u16),
    /// It listens no more, but ends what it has.
    Leave(u16),
    /// It is there (again), as a new process.
    Start(u16),
    /// It takes connections and says nothing.
    Hang(u16),
    /// It answers 503, health checks too.
    Sicken(u16),
    /// It is well again.
    Recover(u16),
    /// The router is told of it.
    Add(u16),
    /// The router is told to forget it.
    Remove(u16),
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let draw = &mut Draw::new(seed, Of::World);
        let workers = draw.number(1..7) as u16;
        let room_bytes = draw.weighted(&[(5, 64 * 1024), (2, 2_000), (1, 100)]);
        let calm = draw.chance(8);
        let config = config(draw, seed, workers, calm);
        let idle_ms = if draw.chance(30) { 20..800 } else { 5_000..5_001 };
        let stop_at = draw.chance(25).then(|| draw.millis(5..3_000));
        Self {
            room_bytes,
            workers,
            worker_idle: draw.millis(idle_ms),
            faults: if calm { 0 } else { draw.pick(&[10, 40, 80]) },
            panic_every: if !calm && draw.chance(6) { draw.number(2..20) } else { 0 },
            steps: if !calm && draw.chance(50) { steps(seed, workers) } else { Vec::new() },
            visits: visits(draw, seed, room_bytes, calm),
            kill_after: stop_at.filter(|_| !calm && draw.chance(20)).map(|_| draw.millis(0..2_000)),
            stop_at: stop_at.filter(|_| !calm),
            config,
            seed,
        }
    }

    /// Nothing goes wrong: everything must go well.
    pub fn is_calm(&self) -> bool {
        self.faults == 0
    }

    /// The set of workers stays as it is, and each of them may be chosen at any time.
    pub fn is_steady(&self) -> bool {
        self.steps.is_empty() && !self.config.health.enabled && !self.config.breaker.enabled
    }

    pub fn net(&self) -> PipeNet {
        PipeNet::with_room(self.room_bytes)
    }
}

pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn config(draw: &mut Draw, seed: u64, workers: u16, calm: bool) -> RouteConfig {
    let urls: Vec<String> = (0..workers).map(|n| url(WORKERS + n)).collect();
    let policies: Vec<&'static str> = milepost_policies::POLICIES.iter().map(|spec| spec.name).collect();
    let mut config = RouteConfig {
        workers: worker_urls(&urls, "127.0.0.1", ROUTER).unwrap(),
        policy: draw.pick(&policies).to_owned(),
        drain_delay: draw.weighted(&[(2, Duration::ZERO), (1, Duration::from_millis(700))]),
        shutdown_grace: draw.weighted(&[(1, Duration::from_secs(180)), (1, Duration::from_millis(400))]),
        ..RouteConfig::default()
    };
    config.policy_config.seed = seed;
    config.health.enabled = !calm && draw.chance(40);
    config.health.interval = draw.millis(300..3_000);
    config.health.timeout = draw.millis(50..600);
    config.breaker.enabled = draw.chance(50);
    config.breaker.failure_threshold = draw.number(1..5) as u32;
    config.breaker.success_threshold = draw.number(1..3) as u32;
    config.breaker.open_for = draw.millis(50..3_000);
    config.retry.max_attempts = draw.pick(&[1, 2, 3, 5, 8]);
    if calm {
        return config;
    }
    config.request_timeout = if draw.chance(50) { draw.millis(300..8_000) } else { Duration::from_secs(60) };
    if draw.chance(30) {
        config.limits.max_concurrent = draw.chance(70).then(|| draw.number(1..6) as u32);
        config.limits.rate_per_second = draw.chance(40).then(|| draw.number(1..60) as u32);
        config.limits.queue_size = draw.pick(&[0, 1, 3, 100]);
        config.limits.queue_timeout = draw.millis(50..4_000);
    }
    if draw.chance(15) {
        config.max_payload_bytes = draw.number(100..3_000);
    }
    if draw.chance(15) {
        config.max_buffered_request_bytes = draw.number(500..6_000);
    }
    if draw.chance(10) {
        config.max_connections = draw.size(1..6);
    }
    config
}

fn visits(draw: &mut Draw, seed: u64, room_bytes: usize, calm: bool) -> Vec<Visit> {
    let wanted = draw.size(20..100);
    let (mut visits, mut asked) = (Vec::new(), 0);
    while asked < wanted {
        let one = visit(&mut Draw::new(seed, Of::Visit(visits.len())), asked, room_bytes, calm);
        asked += one.requests.len();
        visits.push(one);
    }
    visits
}

fn steps(seed: u64, workers: u16) -> Vec<(Duration, Step)> {
    let draw = &mut Draw::new(seed, Of::Steps);
    let mut steps = Vec::new();
    for _ in 0..draw.size(1..6) {
        let at = draw.millis(0..3_000);
        let port = WORKERS + draw.number(0..u64::from(workers)) as u16;
        let later = at + draw.millis(0..2_000);
        let fresh = WORKERS + workers + steps.len() as u16;
        let pair = match draw.size(0..7) {
            0 => vec![(at, Step::Die(port)), (later, Step::Start(port))],
            1 => vec![(at, Step::Leave(port)), (later, Step::Start(port))],
            2 => vec![(at, Step::Hang(port)), (later, Step::Recover(port))],
            3 => vec![(at, Step::Sicken(port)), (later, Step::Recover(port))],
            4 => vec![(at, Step::Start(fresh)), (at, Step::Add(fresh)), (later, Step::Remove(fresh))],
            5 => vec![(at, Step::Remove(port)), (later, Step::Add(port))],
            // Replaced: another process at the same place.
            _ => vec![
                (at, Step::Remove(port)),
                (at, Step::Die(port)),
                (later, Step::Start(port)),
                (later, Step::Add(port)),
            ],
        };
        steps.extend(pair);
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}
