//! Runs one world: the router, its workers and its clients in one thread and in virtual time.
//!
//! Rule: nothing waits for the operating system but the trace's writer, whose thread touches nothing that the story tells.
//! Deliberately not here: what the world is (`plan`), whether it went well (`invariants`).

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::TraceDecisions;
use milepost::fleet::worker::Worker;
use milepost::log;
use milepost::net::{Connector, PipeNet};
use milepost::proxy::Shared;
use milepost::proxy::serve::Router;
use milepost::replay::reading::{Limits, Reading};
use milepost::trace::prompt::PromptTrace;
use milepost::trace::reader::TraceReader;
use milepost::trace::record::{ConnectionRecord, Record, RequestRecord};
use milepost_policies::{Decision, Event, Needs, Policy, RequestView, Time, Workers as Views};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

use crate::client;
use crate::plan::{METRICS, Plan, ROUTER, Step, url};
use crate::story::Story;
use crate::worker::Workers;

/// Monotonic time at which each world begins.
pub const BOOT_NS: u64 = 1_000_000_000;
/// The longest that a world may take, of its own time.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// What a policy says that is to panic.
const PLANNED: &str = "a planned panic";

thread_local!(static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) });

/// What a world left behind.
pub struct Ended {
    pub plan: Plan,
    pub story: Story,
    pub requests: Vec<RequestRecord>,
    pub connections: Vec<ConnectionRecord>,
    /// Requests by the router's own count, and those that the trace says are missing.
    pub counted: u64,
    pub lost: u64,
    /// What the world itself found wrong.
    pub complaints: Vec<String>,
}

/// Runs the world of a seed.
pub fn run(plan: Plan) -> Ended {
    catch_panics();
    PANICS.with_borrow_mut(Vec::clear);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut ended = runtime.block_on(live(plan));
    ended.complaints.extend(PANICS.with_borrow_mut(std::mem::take));
    ended.complaints.append(&mut ended.story.told().complaints);
    ended
}

/// Planned panics are not shown, and others are kept to be told with the seed.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_level(log::Level::Error);
        let shown = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let said = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("?");
            if said != PLANNED {
                PANICS.with_borrow_mut(|all| all.push(format!("a panic: {said} at {:?}", panic.location())));
                shown(panic);
            }
        }));
    });
}

/// A policy that panics now and then.
struct Panicky {
    inner: Box<dyn Policy>,
    every: u64,
}

impl Policy for Panicky {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn needs(&self) -> Needs {
        self.inner.needs()
    }

    fn choose(&mut self, now: Time, request: &RequestView<'_>, workers: &Views<'_>, out: &mut Decision) {
        self.inner.choose(now, request, workers, out);
        assert!(self.every == 0 || !request.seq.is_multiple_of(self.every), "{PLANNED}");
    }

    fn observe(&mut self, now: Time, event: &Event) {
        self.inner.observe(now, event);
    }
}

struct World {
    net: PipeNet,
    story: Story,
    workers: Arc<Workers>,
    shared: Arc<Shared>,
    /// Every worker that was ever in the fleet.
    known: Vec<Weak<Worker>>,
    complaints: Vec<String>,
}

async fn live(plan: Plan) -> Ended {
    let story = Story::begin();
    let net = plan.net();
    let workers = Workers::new(&plan, &net, &story);
    (0..plan.workers).for_each(|n| workers.start(crate::plan::WORKERS + n));
    let trace = trace_path();
    let mut config = plan.config.clone();
    config.trace_log = Some(trace.clone());
    config.trace_decisions = TraceDecisions::Journal;
    // Their key is drawn from the system, so that no two runs have the same hashes.
    config.capture.prompt = PromptTrace::None;
    let inner = milepost_policies::build(&config.policy, &config.policy_config).unwrap();
    let policy = Box::new(Panicky { inner, every: plan.panic_every });
    let clock = Clock::virtual_time(BOOT_NS, 1_700_000_000_000_000_000);
    let listen = format!("127.0.0.1:{ROUTER}");
    let router = Router::start_with(policy, config, &listen, clock, Connector::Pipes(net.clone())).unwrap();
    let shared = Arc::clone(router.shared());
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(router.serve(net.listen(ROUTER), Some(net.listen(METRICS)), stopped));
    let mut world = World { net, story, workers, shared, known: Vec::new(), complaints: Vec::new() };
    let plan = Arc::new(plan);
    world.play(&plan, &stop).await;
    if plan.stop_at.is_none() {
        world.check_rest().await;
    }
    if !stop.send_replace(true) {
        world.story.tell("router", "is told to stop");
    }
    if plan.kill_after.is_some() {
        world.story.tell("router", "is killed");
        serving.abort();
    }
    let grace = plan.config.drain_delay + plan.config.shutdown_grace + Duration::from_secs(3);
    match timeout(grace, serving).await {
        Err(_) => world.complaints.push(format!("the router did not stop in {grace:?}")),
        Ok(Err(error)) if error.is_panic() => world.complaints.push("the router panicked".to_owned()),
        Ok(_) => world.story.tell("router", "is gone"),
    }
    let counted = world.shared.requests.load(Ordering::Relaxed);
    let (story, complaints) = world.end().await;
    let plan = Arc::try_unwrap(plan).unwrap_or_else(|_| panic!("a client is left"));
    let mut ended =
        Ended { plan, story, requests: Vec::new(), connections: Vec::new(), counted, lost: 0, complaints };
    ended.read(&trace);
    ended
}

fn trace_path() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("milepost-world-{}-{number}.jsonl", std::process::id()));
    // None is there, unless an earlier process of this number was killed.
    let _ = std::fs::remove_file(&path);
    path
}

impl World {
    /// Clients come and go, workers change, the router may be told to stop.
    async fn play(&mut self, plan: &Arc<Plan>, stop: &watch::Sender<bool>) {
        let mut clients = JoinSet::new();
        for number in 0..plan.visits.len() {
            let (plan, net, story) = (Arc::clone(plan), self.net.clone(), self.story.clone());
            clients.spawn(async move { client::play(&plan.visits[number], number, &net, &story).await });
        }
        let began = tokio::time::Instant::now();
        self.learn();
        let mut steps = plan.steps.iter().peekable();
        loop {
            let next_step = steps.peek().map(|(at, _)| began + *at);
            let stop_at = plan.stop_at.map(|at| began + at).filter(|_| !*stop.borrow());
            let killed_at = plan.stop_at.zip(plan.kill_after).map(|(stop, after)| began + stop + after);
            tokio::select! {
                biased;
                () = sleep_until(next_step.unwrap_or(began)), if next_step.is_some() => {
                    self.step(steps.next().unwrap().1).await;
                }
                () = sleep_until(stop_at.unwrap_or(began)), if stop_at.is_some() => {
                    self.story.tell("router", "is told to stop");
                    stop.send_replace(true);
                }
                () = sleep_until(killed_at.unwrap_or(began)), if killed_at.is_some() => {
                    // The clients end with the router, after it.
                    return clients.detach_all();
                }
                one = clients.join_next() => match one {
                    None => return,
                    Some(played) => played.unwrap(),
                },
                () = sleep_until(began + LONGEST) => {
                    self.complaints.push(format!("{} clients wait for ever", clients.len()));
                    return;
                }
            }
        }
    }

    async fn step(&mut self, step: Step) {
        self.workers.change(step);
        let request = match step {
            Step::Add(port) => {
                let body = format!("{{\"url\":\"{}\"}}", url(port));
                format!(
                    "POST /workers HTTP/1.1\r\nhost: r\r\nconnection: close\r\nx-request-id: op\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            Step::Remove(port) => {
                let url = url(port);
                format!(
                    "GET /remove_worker?url={url} HTTP/1.1\r\nhost: r\r\nconnection: close\r\nx-request-id: op\r\n\r\n"
                )
            }
            _ => return,
        };
        self.learn();
        let said = self.ask(ROUTER, &request).await;
        let status = said.get(9..12).unwrap_or("no answer");
        self.story.tell("operator", format_args!("{step:?}: {status}"));
        self.learn();
    }

    /// One request on a connection of its own; what came, maybe nothing.
    async fn ask(&self, port: u16, request: &str) -> String {
        let Ok(mut io) = self.net.connect(port).await else { return String::new() };
        // A router that is stopping may close first.
        let _ = io.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(100), io.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn learn(&mut self) {
        for worker in self.shared.fleet.workers() {
            let new = Arc::downgrade(&worker);
            if !self.known.iter().any(|known| known.ptr_eq(&new)) {
                self.known.push(new);
            }
        }
    }

    /// All clients have gone and the router is as it was: nothing is held for anybody.
    async fn check_rest(&mut self) {
        // A farewell may take two seconds.
        sleep(Duration::from_millis(2_100)).await;
        self.check_leases();
        let page = self.ask(METRICS, "GET /metrics HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n").await;
        for gauge in [
            "milepost_requests_in_flight",
            "smg_http_connections_active",
            "smg_worker_requests_active",
            "milepost_worker_in_flight",
        ] {
            let mut values =
                page.lines().filter(|l| l.strip_prefix(gauge).is_some_and(|r| r.starts_with(['{', ' '])));
            let wrong = values.find(|line| !line.ends_with(" 0"));
            self.complaints.extend(wrong.map(|line| format!("at rest: {line}")));
            if !page.contains(gauge) {
                self.complaints.push(format!("the metrics have no {gauge}"));
            }
        }
    }

    fn check_leases(&mut self) {
        self.learn();
        for worker in self.known.iter().filter_map(Weak::upgrade) {
            let held = worker.in_flight();
            if held != 0 {
                self.complaints.push(format!("{held} leases are held at {}", worker.url));
            }
        }
        let used_bytes = self.shared.budget.used_bytes();
        if used_bytes != 0 {
            self.complaints.push(format!("{used_bytes} B of request bodies are held"));
        }
        let counts =
            self.shared.limit.as_ref().map(milepost::proxy::limit::Limit::counts).unwrap_or_default();
        if (counts.queued, counts.running) != (0, 0) {
            self.complaints.push(format!("places are held: {counts:?}"));
        }
    }

    /// The router has gone: nothing of it may be left.
    async fn end(mut self) -> (Story, Vec<String>) {
        self.check_leases();
        let Self { story, workers, shared, mut complaints, .. } = self;
        let rest = Arc::downgrade(&shared);
        drop(shared);
        sleep(Duration::from_millis(10)).await;
        if rest.upgrade().is_some() {
            complaints.push("something of the router is still held".to_owned());
        }
        let open = story.told().open_at_workers;
        if open > 0 {
            complaints.push(format!("{open} connections to workers are still open"));
        }
        workers.end();
        // A slow client needs its time to find out.
        sleep(Duration::from_secs(3_600)).await;
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if tasks > 0 {
            complaints.push(format!("{tasks} tasks are still there"));
        }
        (story, complaints)
    }
}

impl Ended {
    fn read(&mut self, trace: &std::path::Path) {
        let text = std::fs::read_to_string(trace).unwrap();
        std::fs::remove_file(trace).unwrap();
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(Record::Request(request)) => self.requests.push(*request),
                Ok(Record::Connection(connection)) => self.connections.push(connection),
                Ok(Record::Lost(lost)) => self.lost += lost.requests,
                Ok(_) => {}
                Err(error) => self.complaints.push(format!("a record that cannot be read: {error}: {line}")),
            }
        }
        self.decide_again(&text);
    }

    /// What was decided is decided again as it was; a policy that panicked leaves a hole where it did.
    fn decide_again(&mut self, text: &str) {
        match Reading::of(TraceReader::new(text.as_bytes()), Limits::default(), &mut |_| {}) {
            Err(error) => self.complaints.push(format!("the trace cannot be replayed: {error}")),
            Ok(reading) => {
                let verdict = reading.exact.unwrap_or_default();
                let may_have_a_hole = self.plan.panic_every > 0;
                if verdict.mismatch.is_some() || (verdict.hole.is_some() && !may_have_a_hole) {
                    self.complaints.push(format!("a replay decides otherwise: {verdict:?}"));
                }
            }
        }
    }
}
