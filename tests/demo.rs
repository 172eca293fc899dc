//! `milepost demo` as a library: the files it writes, the table, the books, and that nothing of it is left.
//!
//! Rule: real sockets on free ports, times divided so that a run is short; no figure is compared with a fixed one. Alone in
//! its process, because it counts threads.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test with its place")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::demo::arm::Arm;
use milepost::demo::workload::Workload;
use milepost::demo::{self, Audience, DemoConfig, DemoContext, DemoError, DemoReport, table};
use milepost::load::progress::{Standing, Stop, StopHandle};
use milepost::sim::Dialect;

/// Longest wait for anything; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One at a time: threads of the whole process are counted.
static ALONE: Mutex<()> = Mutex::new(());

#[derive(Default)]
struct Listens {
    heard: Mutex<Vec<String>>,
    /// Ends the demo when this policy has ended.
    stop_after: Mutex<Option<(&'static str, StopHandle)>>,
}

impl Audience for Listens {
    fn opens(&self, head: &str) {
        self.heard.lock().unwrap().push(table::paint(head, false));
    }

    fn begins(&self, policy: &str, number: usize, of: usize) {
        self.heard.lock().unwrap().push(format!("{number}/{of} {policy}"));
    }

    fn standing(&self, s: Standing) {
        assert!(s.ended <= s.due && s.due <= s.planned);
    }

    fn ends(&self, arm: &Arm) {
        if let Some((policy, handle)) = &*self.stop_after.lock().unwrap()
            && *policy == arm.policy
        {
            handle.stop();
        }
    }
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("milepost-demo-test-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

fn config(name: &str) -> DemoConfig {
    DemoConfig {
        output_dir: scratch(name),
        policies: vec!["cache_aware".to_owned(), "round_robin".to_owned()],
        workers: 2,
        speedup: 10.0,
        ..DemoConfig::new(Workload::built_in(Some(48), Some(100.0)))
    }
}

fn play(config: DemoConfig, stop: Stop, listens: &Arc<Listens>) -> Result<DemoReport, DemoError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let audience: Arc<dyn Audience> = Arc::clone(listens) as _;
    let context = DemoContext { clock: Clock::system(), audience, stop };
    let report = runtime.block_on(async {
        let report = tokio::time::timeout(PATIENCE, demo::run(config, context)).await.unwrap();
        // One that was told to end may be on its last lines on the other thread.
        let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let none_left = async {
            while alive() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, none_left)
            .await
            .unwrap_or_else(|_| panic!("{} tasks are left", alive()));
        report
    });
    drop(runtime);
    report
}

/// Threads of this process that a demo starts.
fn own_threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("comm")).ok());
    names
        .map(|n| n.trim().to_owned())
        .filter(|n| ["sim-engine", "pacer", "trace"].contains(&n.as_str()))
        .collect()
}

/// An engine's thread ends after its current step, a moment after its worker.
fn no_thread_is_left() {
    let begun_ns = Clock::system().mono_ns();
    while !own_threads().is_empty() {
        let waited_ns = Clock::system().mono_ns() - begun_ns;
        assert!(waited_ns < PATIENCE.as_nanos() as u64, "still there: {:?}", own_threads());
        std::thread::yield_now();
    }
}

fn cells(csv: &str, column: &str) -> Vec<String> {
    let mut lines = csv.lines();
    let place = lines.next().unwrap().split(',').position(|c| c == column).unwrap();
    lines.map(|line| line.split(',').nth(place).unwrap().to_owned()).collect()
}

#[test]
fn two_policies_side_by_side_and_nothing_left() {
    let _alone = ALONE.lock();
    let config = config("whole");
    let folder = config.output_dir.clone();
    let listens = Arc::new(Listens::default());
    let report = play(config, Stop::never(), &listens).unwrap();
    no_thread_is_left();
    assert!(!report.partial);
    assert_eq!(report.arms.len(), 2);
    for arm in &report.arms {
        assert_eq!(arm.books.faults, Vec::<String>::new());
        assert_eq!((arm.metrics.completed, arm.metrics.requests), (48, 48));
        assert_eq!((arm.books.records, arm.books.lost), (arm.books.router_requests, 0));
        assert_eq!(arm.requests_by_worker().iter().sum::<u64>(), 48);
        assert!(arm.run.rows.held().iter().all(|r| r.simulated == Some(true) && !r.order_broken));
        assert!(arm.cached_share().is_some_and(|share| share > 0.0 && share < 1.0));
        let csv = std::fs::read_to_string(arm.folder.join("requests.csv")).unwrap();
        assert!(cells(&csv, "success").iter().all(|cell| cell == "True"));
        assert!(cells(&csv, "policy").iter().all(|cell| *cell == arm.policy));
        let trace = std::fs::read_to_string(arm.folder.join("trace.jsonl")).unwrap();
        assert_eq!(trace.lines().filter(|l| l.contains("\"path\":\"/generate\"")).count(), 48);
        assert!(arm.folder.join("run.json").exists());
        let worker: std::net::SocketAddr = arm.workers[0].host.parse().unwrap();
        assert!(std::net::TcpStream::connect(worker).is_err(), "the worker's port is closed");
        assert!(
            std::net::TcpStream::connect((arm.run.config.target.host.as_str(), arm.run.config.target.port))
                .is_err(),
            "the router's port is closed"
        );
    }
    same_load(&report);
    told(&report, &folder, &listens);
    std::fs::remove_dir_all(folder).unwrap();
}

/// Both arms got the same prompts at the same times.
fn same_load(report: &DemoReport) {
    let load = |arm: &Arm| -> Vec<_> {
        let row =
            |r: &milepost::load::row::Row| (r.scheduled_ns, r.input_words, r.prompt_tokens, r.max_new_tokens);
        arm.run.rows.held().iter().map(row).collect()
    };
    assert_eq!(load(&report.arms[0]), load(&report.arms[1]));
}

fn told(report: &DemoReport, folder: &std::path::Path, listens: &Listens) {
    let heard = listens.heard.lock().unwrap();
    assert!(heard[0].contains("2 SIMULATED workers") && heard[0].contains("48 requests"), "{}", heard[0]);
    assert_eq!(heard[1..], ["1/2 cache_aware", "2/2 round_robin"]);
    let text = std::fs::read_to_string(folder.join("summary.txt")).unwrap();
    assert_eq!(text, table::text(report));
    let header = text.lines().find(|l| l.split_whitespace().eq(["cache_aware", "round_robin"]));
    assert!(header.is_some(), "{text}");
    assert!(text.contains("SIMULATED workers, one run each, not a verdict"), "{text}");
    assert_eq!(text.matches("48/48").count(), 2, "{text}");
    assert!(!text.contains('\u{1b}') && !text.chars().any(|c| c < ' ' && c != '\n'), "no colour in a file");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap();
    assert_eq!(json["simulated"], true);
    assert_eq!(json["arms"][1]["policy"], "round_robin");
    assert_eq!(json["arms"][1]["metrics"]["completed"], 48);
}

#[test]
fn an_interrupted_demo_keeps_what_it_has() {
    let _alone = ALONE.lock();
    let config = config("cut");
    let folder = config.output_dir.clone();
    let (handle, stop) = Stop::pair();
    let listens = Arc::new(Listens::default());
    *listens.stop_after.lock().unwrap() = Some(("cache_aware", handle));
    let report = play(config, stop, &listens).unwrap();
    no_thread_is_left();
    assert!(report.partial);
    assert_eq!(report.arms.len(), 1);
    assert!(std::fs::read_to_string(folder.join("summary.txt")).unwrap().contains("PARTIAL"));
    assert!(folder.join("cache_aware/requests.csv").exists() && !folder.join("round_robin").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn every_dialect_has_books_that_balance() {
    let _alone = ALONE.lock();
    for dialect in [Dialect::V049, Dialect::V049Patched, Dialect::V0523Rust] {
        let config = DemoConfig {
            dialect,
            policies: vec!["shortest_queue".to_owned()],
            workload: Workload::built_in(Some(12), Some(100.0)),
            ..config(dialect.name())
        };
        let folder = config.output_dir.clone();
        let report = play(config, Stop::never(), &Arc::new(Listens::default())).unwrap();
        assert_eq!(report.arms[0].books.faults, Vec::<String>::new(), "{dialect:?}");
        assert_eq!(report.arms[0].metrics.completed, 12, "{dialect:?}");
        std::fs::remove_dir_all(folder).unwrap();
    }
    no_thread_is_left();
}

#[test]
fn what_cannot_be_shown_is_refused_before_anything_starts() {
    let refused = |change: fn(&mut DemoConfig)| {
        let mut config = config("refused");
        change(&mut config);
        let folder = config.output_dir.clone();
        let error = play(config, Stop::never(), &Arc::new(Listens::default())).unwrap_err();
        assert!(matches!(error, DemoError::Usage(_)), "{error:?}");
        assert!(!folder.exists());
        error.to_string()
    };
    assert!(refused(|c| c.policies = vec!["fastest".to_owned()]).contains("--policies"));
    assert!(refused(|c| c.policies = vec!["random".to_owned(); 2]).contains("twice"));
    assert!(refused(|c| c.workers = 0).contains("--workers"));
}
