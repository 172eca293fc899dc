//! A schedule of failures beside a load: phases, who noticed, what was lost, and what the router's trace says of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::{RouteConfig, worker_urls};
use milepost::load::dataset::{Dataset, RandomOptions};
use milepost::load::faults::hands::Hands;
use milepost::load::faults::{Action, Faults, Injector, Outcome, Plan};
use milepost::load::progress::Stop;
use milepost::load::schedule::{Arrivals, Pace, Rate, Shape};
use milepost::load::{LoadConfig, RunContext, RunReport, TraceSource, run};
use milepost::net::{Connector, Listener};
use milepost::proxy::serve::Router;
use milepost::report::csv::csv;
use milepost::report::faults::{Recovery, aftermaths, to_json};
use milepost::report::{Rating, Survey};
use milepost::sim::{SimConfig, serve};
use milepost::trace::record::{Outcome as End, Record};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::server::{Server, about, json, stream};
use crate::{config, context, data};

fn constant(per_s: f64) -> Arrivals {
    Arrivals { pace: Pace::Rate(Rate::PerSecond(per_s)), shape: Shape::Constant, duration: None }
}

fn faults(text: &str, injector: Arc<dyn Injector>) -> Faults {
    Faults::new(Plan::parse(text).unwrap(), injector).unwrap()
}

fn rating(report: &RunReport, rule: &str) -> (Option<Rating>, String) {
    let Survey { verdict, .. } = Survey::of(report, &[]);
    let check = verdict.checks.iter().find(|check| check.rule == rule).unwrap();
    (check.rating(), check.text().to_owned())
}

fn phases(report: &RunReport) -> Vec<&str> {
    let mut phases: Vec<&str> = report.rows.held().iter().map(|row| row.phase.as_deref().unwrap()).collect();
    phases.dedup();
    phases
}

/// Turns a fault on and off; refuses to where it is told to.
#[derive(Default)]
struct Lever {
    on: AtomicBool,
    refuses: bool,
    panics: bool,
    done: Mutex<Vec<String>>,
}

impl Injector for Lever {
    fn carry_out<'a>(&'a self, action: &'a Action, worker: &'a str) -> Outcome<'a> {
        assert!(!self.panics, "a fault of the injector's own");
        self.done.lock().unwrap().push(format!("{} {worker}", action.word()));
        self.on.store(matches!(action, Action::Begin(_)), Ordering::Relaxed);
        let outcome = if self.refuses { Err("no such node".to_owned()) } else { Ok(()) };
        Box::pin(std::future::ready(outcome))
    }

    fn refuse(&self, _: &Action, worker: &str) -> Option<String> {
        (worker == "9").then(|| "there is no such worker".to_owned())
    }

    fn host(&self, _: &str) -> Option<String> {
        None
    }
}

/// While the lever is on, two of three requests fail in the first two seconds of it.
async fn virtual_run(text: &str, lever: Arc<Lever>, stop: Stop) -> RunReport {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let events = data("sglang-0.4.9.post6-patched_generate_stream.sse");
    let (pulled, begun, count) =
        (Arc::clone(&lever), Mutex::new(None), std::sync::atomic::AtomicUsize::new(0));
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| {
            let mut begun = begun.lock().unwrap();
            let on = pulled.on.load(Ordering::Relaxed);
            *begun = if on { begun.or(Some(got.at_ns)) } else { None };
            let fails = begun.is_some_and(|at_ns| got.at_ns - at_ns < 2_000_000_000);
            if fails && count.fetch_add(1, Ordering::Relaxed) % 3 > 0 {
                return json("500 Internal Server Error", "{}");
            }
            stream(&events, Duration::from_millis(1))
        })
    });
    let config = LoadConfig {
        arrivals: constant(20.0),
        faults: Some(faults(text, lever)),
        ..config("http://pipe:1", 600)
    };
    let context = RunContext { stop, ..server.context() };
    run(config, context).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn phases_detection_and_recovery_follow_what_was_done_when() {
    let lever = Arc::new(Lever::default());
    let report = virtual_run("at = 10s, for = 8s, hang worker 1", Arc::clone(&lever), Stop::never()).await;
    assert_eq!(*lever.done.lock().unwrap(), ["hang 1", "heal 1"]);
    assert_eq!(phases(&report), ["before", "during", "after"]);
    let conducted = report.faults.as_ref().unwrap();
    for (act, at_ms) in conducted.acts.iter().zip([10_000, 18_000]) {
        assert!((0..5).contains(&(act.began_ns / 1_000_000 - at_ms)), "{act:?}");
    }
    let told = &aftermaths(conducted, &report.rows)[0];
    let detected_ms = told.detection.first_ns().unwrap() / 1_000_000;
    assert!((0..200).contains(&detected_ms), "{detected_ms}");
    let Recovery::After(ns) = told.recovery else { panic!("{:?}", told.recovery) };
    assert!((1_800..2_100).contains(&(ns / 1_000_000)), "{ns}");
    assert!(told.failed_later > 20);

    let (errors, text) = rating(&report, "errors_asked_for");
    assert_eq!(errors, Some(Rating::Valid));
    assert!(text.contains("of 160 requests failed while faults were made"), "{text}");
    assert_eq!(rating(&report, "errors").0, Some(Rating::Valid));
    assert_eq!(rating(&report, "faults").0, Some(Rating::Valid));
    let json = to_json(&report, &Survey::of(&report, &[]).aftermaths);
    assert_eq!(json["phases"][1]["name"], "during");
    assert_eq!(json["faults"][0]["what"], "hang worker 1");
    assert!((1.8..2.1).contains(&json["faults"][0]["recover_s"].as_f64().unwrap()), "{json}");
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_was_not_made_makes_the_run_invalid() {
    let refuses = Arc::new(Lever { refuses: true, ..Lever::default() });
    let report = virtual_run("at = 10s, hang worker 1", refuses, Stop::never()).await;
    let (faults, text) = rating(&report, "faults");
    assert_eq!(faults, Some(Rating::Invalid));
    assert!(text.contains("line 1 (hang worker 1) could not be made: no such node"), "{text}");

    let panics = Arc::new(Lever { panics: true, ..Lever::default() });
    let report = virtual_run("at = 10s, hang worker 1", panics, Stop::never()).await;
    let (faults, text) = rating(&report, "faults");
    assert_eq!(faults, Some(Rating::Invalid));
    assert!(text.contains("could not be made: the client itself failed"), "{text}");
    assert_eq!(phases(&report), ["before", "during"]);

    let report = virtual_run("at = 10m, hang worker 1", Arc::default(), Stop::never()).await;
    let (faults, text) = rating(&report, "faults");
    assert_eq!(faults, Some(Rating::Invalid));
    assert!(text.contains("never made"), "{text}");
    assert_eq!(phases(&report), ["before"]);
}

/// Ctrl-C within a fault: what was switched is switched back before the results are written.
#[tokio::test(start_paused = true)]
async fn what_a_run_switched_it_switches_back_when_it_is_stopped() {
    let (handle, stop) = Stop::pair();
    let lever = Arc::new(Lever::default());
    let stopping = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(12)).await;
        handle.stop();
    });
    let report = virtual_run("at = 10s, for = 8s, hang worker 1", Arc::clone(&lever), stop).await;
    stopping.await.unwrap();
    assert!(report.partial);
    assert_eq!(*lever.done.lock().unwrap(), ["hang 1", "heal 1"]);
    let ends = &report.faults.as_ref().unwrap().acts[1];
    assert!(ends.restores && ends.asked_ns.is_none() && ends.failure.is_none(), "{ends:?}");
}

#[test]
fn a_schedule_that_cannot_be_carried_out_is_refused_with_its_line() {
    let plan = Plan::parse("\nat = 1s, hang worker 9").unwrap();
    let told = Faults::new(plan, Arc::new(Lever::default())).unwrap_err();
    assert_eq!(told, "line 2: hang worker 9: there is no such worker");
}

/// Ends when the first is dropped.
type Serving = (oneshot::Sender<()>, JoinHandle<std::io::Result<()>>);

/// A simulated worker in this process that can be stopped and started at its port.
struct Worker {
    address: SocketAddr,
    serving: Mutex<Option<Serving>>,
}

impl Worker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = Self { address: listener.local_addr().unwrap(), serving: Mutex::default() };
        worker.serve(listener);
        worker
    }

    fn serve(&self, listener: TcpListener) {
        let config = SimConfig { speedup: 4.0, allow_faults: true, ..SimConfig::default() };
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, config, Clock::system(), async {
            let _ = stopped.await;
        }));
        *self.serving.lock().unwrap() = Some((stop, serving));
    }

    async fn turn(&self, on: bool) -> Result<(), String> {
        if on {
            self.serve(TcpListener::bind(self.address).await.map_err(|e| e.to_string())?);
            return Ok(());
        }
        let (stop, serving) = self.serving.lock().unwrap().take().ok_or("it does not run")?;
        drop(stop);
        serving.await.unwrap().map_err(|e| e.to_string())
    }
}

struct Crew(Vec<Worker>);

impl Crew {
    fn worker(&self, number: &str) -> &Worker {
        &self.0[number.parse::<usize>().unwrap() - 1]
    }
}

impl Injector for Crew {
    fn carry_out<'a>(&'a self, action: &'a Action, worker: &'a str) -> Outcome<'a> {
        Box::pin(self.worker(worker).turn(*action == Action::Start))
    }

    fn refuse(&self, _: &Action, _: &str) -> Option<String> {
        None
    }

    fn host(&self, worker: &str) -> Option<String> {
        Some(self.worker(worker).address.to_string())
    }
}

/// A router in front of these workers, in this process, with its trace.
struct Front {
    address: SocketAddr,
    trace: PathBuf,
    stop: watch::Sender<bool>,
    routing: JoinHandle<()>,
}

impl Front {
    async fn start(workers: &[String], name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let trace = std::env::temp_dir().join(format!("milepost-faults-{}-{name}.jsonl", std::process::id()));
        let mut config = RouteConfig {
            workers: worker_urls(workers, "127.0.0.1", 0).unwrap(),
            policy: "round_robin".to_owned(),
            trace_log: Some(trace.clone()),
            ..RouteConfig::default()
        };
        config.health.enabled = false;
        let connector = Connector::Tcp { timeout: Duration::from_secs(5) };
        let router = Router::start(config, &address.to_string(), Clock::system(), connector).unwrap();
        let (stop, stopped) = watch::channel(false);
        let routing = tokio::spawn(router.serve(Listener::Tcp(listener), None, stopped));
        Self { address, trace, stop, routing }
    }

    /// `count` requests at 60 a second, each of half a second and more.
    fn load(&self, count: usize, faults: Faults) -> LoadConfig {
        let tokens = RandomOptions { input_tokens: 6, output_tokens: 150, range_ratio: 1.0 };
        LoadConfig {
            dataset: Dataset::Random(tokens),
            arrivals: constant(60.0),
            router_trace: Some(TraceSource::File(self.trace.clone())),
            faults: Some(faults),
            ..config(&format!("http://{}", self.address), count)
        }
    }

    /// Stops it; its records.
    async fn finish(self) -> Vec<Record> {
        self.stop.send_replace(true);
        self.routing.await.unwrap();
        let text = std::fs::read_to_string(&self.trace).unwrap();
        std::fs::remove_file(&self.trace).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Three workers behind a router; the second one is away from 1.5 s to 2 s.
#[tokio::test]
async fn a_worker_that_is_stopped_loses_what_it_held_and_the_router_goes_on_with_the_others() {
    let crew = Arc::new(Crew(vec![Worker::start().await, Worker::start().await, Worker::start().await]));
    let urls: Vec<String> = crew.0.iter().map(|worker| format!("http://{}", worker.address)).collect();
    let front = Front::start(&urls, "stopped").await;
    let text = "at = 1.5s, stop worker 2\nat = 2s, start worker 2";
    let report = run(front.load(180, faults(text, Arc::clone(&crew) as _)), context()).await.unwrap();
    let stopped = crew.worker("2").address.to_string();

    let all: BTreeSet<&str> = report.rows.held().iter().map(|row| row.phase.as_deref().unwrap()).collect();
    assert_eq!(all, BTreeSet::from(["before", "during", "after"]));
    let conducted = report.faults.as_ref().unwrap();
    assert!(conducted.acts.iter().all(|act| act.failure.is_none() && !act.restores), "{conducted:?}");
    let told = &aftermaths(conducted, &report.rows)[0];
    assert_eq!(told.host.as_deref(), Some(stopped.as_str()));
    // Each stream lasts for thirty arrivals: some are at the worker whenever it stops.
    assert!(told.in_flight.lost() > 0 && told.in_flight.requests >= told.in_flight.lost(), "{told:?}");
    assert!(told.detection.first_error_ns.is_some(), "{told:?}");
    assert_eq!(rating(&report, "faults").0, Some(Rating::Valid));
    assert!(rating(&report, "errors_asked_for").1.contains("asked for"));
    assert!(
        csv(&report.rows)
            .lines()
            .skip(1)
            .all(|line| line.contains(",before,") || line.contains(",during,") || line.contains(",after,"))
    );

    let records = front.finish().await;
    let broken = records.iter().filter(|record| {
        matches!(record, Record::Request(r) if r.outcome == End::WorkerReset && r.worker.as_deref() == Some(urls[1].as_str()))
    });
    let (broken, lost) = (broken.count() as u64, told.in_flight.lost());
    assert!(
        (lost..=lost + told.failed_later).contains(&broken),
        "the trace has those that were lost: {broken}, {told:?}"
    );
    let rerouted = records.iter().any(|record| {
        matches!(record, Record::Request(r) if r.failed_attempts.iter().any(|attempt| *attempt.worker == *urls[1]))
    });
    assert_eq!(told.detection.first_rerouted_ns.is_some(), rerouted);
    for worker in &crew.0 {
        worker.turn(false).await.unwrap();
    }
}

/// The switch of a simulated worker, over HTTP: nothing is lost by a hang that ends, and what it held took longer.
#[tokio::test]
async fn a_worker_that_hangs_holds_what_it_has_until_it_is_well() {
    let worker = Worker::start().await;
    let url = format!("http://{}", worker.address);
    let front = Front::start(std::slice::from_ref(&url), "hangs").await;
    let hands = Arc::new(Hands::begin(None, None, Clock::system()).await.unwrap());
    let text = format!("at = 1s, for = 700ms, hang worker {url}");
    let report = run(front.load(90, faults(&text, hands)), context()).await.unwrap();
    let told = &aftermaths(report.faults.as_ref().unwrap(), &report.rows)[0];
    assert!(report.rows.held().iter().all(milepost::load::row::Row::success), "{told:?}");
    assert!(told.in_flight.requests > 0);
    assert_eq!((told.in_flight.answered, told.in_flight.lost()), (told.in_flight.requests, 0));
    // Whoever was in flight has a gap as long as the fault, but for what was on its way.
    let [began, ended] = report.faults.as_ref().unwrap().acts.as_slice() else { panic!("two actions") };
    let longest = report.rows.held().iter().flat_map(|row| &row.gaps).map(|gap| gap.ns).max().unwrap();
    assert!(longest + 200_000_000 >= (ended.began_ns - began.done_ns).unsigned_abs(), "{longest}");
    front.finish().await;
    worker.turn(false).await.unwrap();
}

#[tokio::test]
async fn a_server_without_the_switch_is_told_to_be_none() {
    let server = Server::new(&Clock::system(), |_| json("404 Not Found", "{}"));
    let url = server.listen().await;
    let hands = Hands::begin(None, None, Clock::system()).await.unwrap();
    let told = hands.carry_out(&Action::Heal, &url).await.unwrap_err();
    assert!(told.contains("answered 404") && told.contains("--fault-hook"), "{told}");
    for (text, words) in
        [("hang worker 3", "--start-workers"), ("stop worker http://127.0.0.1:1", "--fault-hook")]
    {
        let plan = Plan::parse(&format!("at = 1s, {text}")).unwrap();
        let refused = Faults::new(plan, Arc::new(Hands::begin(None, None, Clock::system()).await.unwrap()))
            .unwrap_err();
        assert!(refused.starts_with("line 1: ") && refused.contains(words), "{refused}");
    }
}
