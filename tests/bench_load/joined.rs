//! Rows joined with a router's trace, and rows of a server that is asked directly: every stamp on one axis.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use milepost::clock::{Clock, ClockSnapshot, Stamp};
use milepost::load::failure::Class;
use milepost::load::row::Row;
use milepost::load::target::Target;
use milepost::load::{LoadConfig, LoadError, RunReport, TraceSource, run};
use milepost::report::split::one_sided;
use milepost::report::{Metrics, Survey};
use milepost::trace::record::{DecisionRecord, Outcome, Record, RequestRecord, RunRecord, WorkerRecord};
use milepost::trace::schema::SCHEMA;
use milepost::wire::Endpoint;
use milepost::wire::answer::Tokens;
use milepost::wire::meta_info::ServerStamps;

use crate::server::{Got, Server, Step, about, chunk, end, head, json};
use crate::{config, context, measured};

const WORKER: &str = "http://127.0.0.1:31999";

/// A file that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("milepost-{}-{name}.jsonl", std::process::id()));
        std::fs::write(&path, "").unwrap();
        Self(path)
    }

    fn add(&self, record: &Record) {
        let line = serde_json::to_string(record).unwrap();
        writeln!(std::fs::OpenOptions::new().append(true).open(&self.0).unwrap(), "{line}").unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

pub fn run_record(clock: ClockSnapshot, boot_id: &str) -> Record {
    Record::Run(RunRecord {
        schema: SCHEMA,
        version: "0".to_owned(),
        pid: 1,
        boot_id: Some(boot_id.to_owned()),
        listen: "127.0.0.1:1".to_owned(),
        policy: "round_robin".to_owned(),
        split: None,
        shadow_policies: Vec::new(),
        seed: 1,
        workers: vec![WORKER.to_owned()],
        capture: None,
        clock,
    })
}

/// A patched worker's stamps: created 0.2 ms, queue 0.3 to 0.4 ms, first token 0.5 ms after a moment of this host.
fn stamps(at: Stamp) -> ServerStamps {
    let unix = |after_us: u64| (at.unix_ns + after_us * 1000) as f64 / 1e9;
    let mono = |after_us: u64| (at.mono_ns + after_us * 1000) as f64 / 1e9;
    ServerStamps {
        server_created_time: Some(unix(200)),
        queue_time_start: Some(mono(300)),
        queue_time_end: Some(mono(400)),
        server_first_token_time: Some(unix(500)),
        ..ServerStamps::default()
    }
}

/// What a router would have written: sent 0.1 ms, last byte 0.9 ms after arrival. `ahead_ns`: its clock against ours.
pub fn record(got: &Got, clock: &Clock, ahead_ns: u64) -> RequestRecord {
    let now = clock.now();
    let arrival = Stamp { mono_ns: got.at_ns, unix_ns: now.unix_ns - (now.mono_ns - got.at_ns) };
    RequestRecord {
        request_id: got.header("x-request-id").unwrap().to_owned(),
        endpoint: Endpoint::Generate,
        stream: true,
        worker: Some(WORKER.into()),
        same_host: Some(true),
        policy: Some("round_robin".into()),
        attempts: 2,
        arrival_mono_ns: arrival.mono_ns + ahead_ns,
        arrival_unix_ns: arrival.unix_ns,
        router_send_ns: Some(100_000),
        first_event_ns: Some(600_000),
        first_token_ns: Some(600_000),
        last_byte_ns: Some(900_000),
        outcome: Outcome::Done,
        sse_events: 2,
        tokens: Tokens { prompt_tokens: Some(6), completion_tokens: Some(8), cached_tokens: Some(0) },
        server: stamps(Stamp { mono_ns: arrival.mono_ns + ahead_ns, unix_ns: arrival.unix_ns }),
        ..RequestRecord::default()
    }
}

/// An answer of 8 tokens in two events, with a router's header.
pub fn answer(server: &ServerStamps) -> Vec<Step> {
    let event = |tokens: u64, finish: &str| {
        let mut meta = serde_json::to_value(server).unwrap();
        meta["prompt_tokens"] = 6.into();
        meta["completion_tokens"] = tokens.into();
        meta["finish_reason"] = serde_json::from_str(finish).unwrap();
        format!("data: {}\n\n", serde_json::json!({"text": "ab", "meta_info": meta}))
    };
    let done = event(8, r#"{"type":"length","length":8}"#);
    let head = head("200 OK", "text/event-stream", "");
    vec![
        head,
        chunk(&event(1, "null")),
        Step::Sleep(Duration::from_millis(2)),
        chunk(&done),
        chunk("data: [DONE]\n\n"),
        end(),
    ]
}

fn near(got: Option<i64>, expected_ns: i64, within_ns: i64) {
    let got = got.unwrap();
    assert!((got - expected_ns).abs() <= within_ns, "{got} is not {expected_ns} within {within_ns}");
}

fn assert_stages(row: &Row, within_ns: i64) {
    let arrival_ns = row.arrival_ns.unwrap();
    near(row.created_ns.map(|ns| ns - arrival_ns), 200_000, within_ns);
    near(row.queue_start_ns.map(|ns| ns - arrival_ns), 300_000, 2_000);
    near(row.queue_end_ns.map(|ns| ns - arrival_ns), 400_000, 2_000);
    near(row.ttft_ns, 500_000, within_ns);
    near(row.pure_queue_ns, 100_000, 1_000);
    near(row.queue_time_in_server_ns(), 300_000, 1_000);
    assert_eq!(row.ttft_source, "server_patch");
    assert!(!row.order_broken, "{row:?}");
}

/// What the verdict has against a run.
pub fn told(report: &RunReport) -> Vec<String> {
    let Survey { verdict, .. } = Survey::of(report, &[]);
    verdict.reasons().iter().map(|check| check.text().to_owned()).collect()
}

async fn traced(
    scratch: &Scratch,
    ahead_ns: u64,
    boot_id: &str,
    change: impl Fn(&Got, &mut RequestRecord) -> bool + Send + Sync + 'static,
) -> RunReport {
    traced_through(scratch, ahead_ns, boot_id, None, change).await
}

/// `router`: the worker of the trace is one itself.
async fn traced_through(
    scratch: &Scratch,
    ahead_ns: u64,
    boot_id: &str,
    router: Option<bool>,
    change: impl Fn(&Got, &mut RequestRecord) -> bool + Send + Sync + 'static,
) -> RunReport {
    let clock = Clock::system();
    let mut snapshot = clock.snapshot();
    snapshot.mono_ns += ahead_ns;
    scratch.add(&run_record(snapshot, boot_id));
    scratch.add(&Record::Worker(WorkerRecord {
        router,
        mono_ns: 1,
        worker: WORKER.into(),
        event: "described".to_owned(),
        detail: None,
        model: Some("tiny".to_owned()),
        version: Some("0.4.9".to_owned()),
        max_running_requests: Some(7),
        simulated: Some(true),
    }));
    let file = Mutex::new(Scratch(scratch.0.clone()));
    let server = Server::new(&clock.clone(), move |got| {
        about(got).unwrap_or_else(|| {
            let mut record = record(got, &clock, ahead_ns);
            let steps = answer(&record.server);
            if change(got, &mut record) {
                file.lock().unwrap().add(&Record::Request(Box::new(record)));
            }
            steps
        })
    });
    let router_trace = Some(TraceSource::File(scratch.0.clone()));
    let trace_wait = Duration::from_millis(300);
    measured(LoadConfig { router_trace, trace_wait, ..config(&server.listen().await, 3) }).await
}

/// Its address is no engine's, and the clock of the engine is not known.
#[tokio::test]
async fn through_another_router_the_host_is_empty_and_nothing_is_placed() {
    let scratch = Scratch::new("through");
    let report = traced_through(&scratch, 0, &boot_id(), Some(true), |_, _| true).await;
    for row in report.rows.held() {
        assert!(row.success() && row.in_trace, "{:?}", row.failure);
        assert_eq!((row.host.as_deref(), row.created_ns), (None, None));
        assert!(row.missing.contains(&("server_created_time", "worker_unknown")), "{:?}", row.missing);
        near(row.total_latency_ns(), 900_000, 0);
        near(row.queue_time_in_server_ns(), 300_000, 1_000);
    }
}

#[tokio::test]
async fn router_and_server_stamps_come_from_the_trace() {
    let scratch = Scratch::new("joined");
    let report = traced(&scratch, 0, &boot_id(), |_, _| true).await;
    for row in report.rows.held() {
        assert!(row.success() && row.in_trace, "{:?}", row.failure);
        assert_eq!(
            (row.host.as_deref(), row.attempts, row.simulated),
            (Some("127.0.0.1:31999"), Some(2), Some(true))
        );
        assert_eq!((row.trace_completion_tokens, row.completion_tokens), (Some(8), Some(8)));
        near(row.queue_time_in_router_ns(), 100_000, 0);
        near(row.total_latency_ns(), 900_000, 0);
        near(row.server_latency_ns(), 800_000, 0);
        near(row.ttft_router_ns, 600_000, 0);
        assert_stages(row, 200_000);
        assert!(row.connected_ns < row.arrival_ns && row.arrival_ns < row.client_first_token_ns);
    }
    assert_eq!(report.servers[0].max_running_requests, Some(7));
    let metrics = Metrics::of(&report.rows);
    assert_eq!(metrics.workers["127.0.0.1:31999"].requests, 3);
    assert!(Survey::of(&report, &[]).warnings.iter().any(|w| w.starts_with("SIMULATED")));
}

/// On another host the monotonic clock has another zero: times move by the request pairs, durations do not.
#[tokio::test]
async fn a_router_on_another_host_is_placed_by_request_pairs() {
    let scratch = Scratch::new("other-host");
    let report = traced(&scratch, 86_400_000_000_000, "another", |_, _| true).await;
    for row in report.rows.held() {
        assert_stages(row, 200_000);
        near(row.total_latency_ns(), 900_000, 0);
        near(row.arrival_ns.map(|ns| ns - row.sent_ns.unwrap()), 0, 50_000_000);
    }
    assert!(Survey::of(&report, &[]).warnings.iter().any(|w| w.contains("different clocks")));
}

#[tokio::test]
async fn a_cut_seen_by_the_router_alone_is_a_failure_and_a_missing_record_is_said() {
    let scratch = Scratch::new("cut");
    let report = traced(&scratch, 0, &boot_id(), |got, record| {
        let id = got.header("x-request-id").unwrap();
        if id.ends_with('2') {
            record.outcome = Outcome::WorkerReset;
        }
        !id.ends_with('3')
    })
    .await;
    assert!(report.rows.held()[0].success());
    assert_eq!(report.rows.held()[1].failure.as_ref().map(|f| f.class), Some(Class::Router));
    let unseen = &report.rows.held()[2];
    assert!(unseen.success() && !unseen.in_trace);
    assert_eq!((unseen.arrival_ns, unseen.ttft_ns, unseen.finish_ns), (None, None, None));
    assert!(
        told(&report).iter().any(|w| w.starts_with("1 of 3 requests sent are not in the router's trace"))
    );
}

/// Ids may have been used before: what was in the file when the run began is of another run.
#[tokio::test]
async fn older_records_with_the_same_id_do_not_count() {
    let scratch = Scratch::new("older");
    let clock = Clock::system();
    scratch.add(&run_record(clock.snapshot(), &boot_id()));
    scratch.add(&Record::Request(Box::new(RequestRecord {
        request_id: "q-1".to_owned(),
        ..RequestRecord::default()
    })));
    let server = Server::new(&clock.clone(), move |got| {
        about(got)
            .unwrap_or_else(|| answer(&stamps(Stamp { mono_ns: got.at_ns, unix_ns: clock.now().unix_ns })))
    });
    let path = PathBuf::from(format!("{}/tests/data/load/custom.jsonl", env!("CARGO_MANIFEST_DIR")));
    let options = milepost::load::dataset::FileOptions { path: Some(path), ..Default::default() };
    let report = measured(LoadConfig {
        dataset: milepost::load::dataset::Dataset::Custom(options),
        router_trace: Some(TraceSource::File(scratch.0.clone())),
        trace_wait: Duration::ZERO,
        ..config(&server.listen().await, 2)
    })
    .await;
    assert_eq!(report.rows.held().iter().map(|r| r.req_id.as_str()).collect::<Vec<_>>(), ["q-1", "q-2"]);
    assert!(report.rows.held().iter().all(|r| !r.in_trace));
}

#[tokio::test]
async fn a_trace_can_be_had_from_an_address() {
    let clock = Clock::system();
    let lines = Mutex::new(serde_json::to_string(&run_record(clock.snapshot(), &boot_id())).unwrap() + "\n");
    let server = Server::new(&clock.clone(), move |got| {
        if got.path.starts_with("/trace") {
            return json("200 OK", &lines.lock().unwrap());
        }
        about(got).unwrap_or_else(|| {
            let record = record(got, &clock, 0);
            let steps = answer(&record.server);
            let line = serde_json::to_string(&Record::Request(Box::new(record))).unwrap();
            *lines.lock().unwrap() += &(line + "\n");
            steps
        })
    });
    let url = server.listen().await;
    let router_trace = Some(TraceSource::Url(Target::parse(&format!("{url}/trace")).unwrap()));
    let report = measured(LoadConfig { router_trace, ..config(&url, 2) }).await;
    report.rows.held().iter().for_each(|row| assert_stages(row, 200_000));
}

/// Without a router the client's stamps stand in: arrival and send are one moment, and the server's stamps align with them.
#[tokio::test]
async fn a_server_asked_directly_is_aligned_too() {
    let clock = Clock::system();
    let server = Server::new(&clock.clone(), move |got| {
        about(got).unwrap_or_else(|| {
            let now = clock.now();
            answer(&stamps(Stamp { mono_ns: got.at_ns, unix_ns: now.unix_ns - (now.mono_ns - got.at_ns) }))
        })
    });
    let report = measured(config(&server.listen().await, 3)).await;
    for row in report.rows.held() {
        assert!(row.success(), "{:?}", row.failure);
        assert_eq!((row.arrival_ns, row.ttft_source), (row.router_send_ns, "server_patch"));
        let stages =
            [row.arrival_ns, row.created_ns, row.queue_start_ns, row.queue_end_ns, row.server_first_token_ns];
        assert!(stages.iter().all(Option::is_some) && stages.is_sorted(), "{stages:?}");
        near(row.queue_end_ns.zip(row.queue_start_ns).map(|(e, s)| e - s), 100_000, 2_000);
        assert!(row.clock_bound_ns.is_some());
    }
}

#[tokio::test]
async fn a_trace_that_is_none_is_refused() {
    let missing = LoadConfig {
        router_trace: Some(TraceSource::File("/nonexistent/trace".into())),
        ..config("http://127.0.0.1:1", 1)
    };
    assert!(
        matches!(run(missing, context()).await, Err(LoadError::Trace(e)) if e.to_string().contains("/nonexistent/trace"))
    );
    let server = Server::new(&Clock::system(), |_| json("404 Not Found", "{}"));
    let url = server.listen().await;
    let router_trace = Some(TraceSource::Url(Target::parse(&format!("{url}/trace")).unwrap()));
    let unserved = run(LoadConfig { router_trace, ..config(&url, 1) }, context()).await;
    assert!(matches!(unserved, Err(LoadError::Trace(e)) if e.to_string().contains("/trace: status 404")));
    assert!(server.load().is_empty());
    let scratch = Scratch::new("none");
    std::fs::write(&scratch.0, "hello\nworld\n").unwrap();
    let router_trace = Some(TraceSource::File(scratch.0.clone()));
    let config = LoadConfig { router_trace, ..config("http://127.0.0.1:1", 1) };
    assert!(
        matches!(run(config, context()).await, Err(LoadError::Trace(e)) if e.to_string().contains("not a milepost trace"))
    );
}

/// A trace that goes away during a run costs its columns, not the run.
#[tokio::test]
async fn a_trace_that_goes_away_costs_its_columns() {
    let clock = Clock::system();
    let there = Mutex::new(true);
    let server = Server::new(&clock.clone(), move |got| match got.path.as_str() {
        "/trace?from=newest" => json("200 OK", ""),
        "/trace" if std::mem::take(&mut *there.lock().unwrap()) => json("200 OK", ""),
        "/trace" => json("404 Not Found", "{}"),
        _ => about(got).unwrap_or_else(|| answer(&stamps(clock.now()))),
    });
    let url = server.listen().await;
    let router_trace = Some(TraceSource::Url(Target::parse(&format!("{url}/trace")).unwrap()));
    let report = measured(LoadConfig { router_trace, ..config(&url, 2) }).await;
    assert!(
        report.rows.held().iter().all(|r| r.success() && r.arrival_ns.is_none() && r.client_end_ns.is_some())
    );
    assert!(Survey::of(&report, &[]).warnings.iter().any(|w| w.contains("status 404")));
}

/// A request sent again has two records, and the one given up may be written last.
#[tokio::test]
async fn of_two_records_with_one_id_the_later_arrival_counts() {
    let scratch = Scratch::new("twice");
    let path = scratch.0.clone();
    let report = traced(&scratch, 0, &boot_id(), move |_, record| {
        let early = RequestRecord {
            arrival_mono_ns: record.arrival_mono_ns - 1_000_000,
            outcome: Outcome::ClientGone,
            attempts: 1,
            ..record.clone()
        };
        let file = std::mem::ManuallyDrop::new(Scratch(path.clone()));
        file.add(&Record::Request(Box::new(record.clone())));
        file.add(&Record::Request(Box::new(early)));
        false
    })
    .await;
    for row in report.rows.held() {
        assert!(row.success() && row.attempts == Some(2), "{:?}", row.failure);
        assert_stages(row, 200_000);
    }
    assert!(
        Survey::of(&report, &[])
            .warnings
            .iter()
            .any(|w| w.starts_with("3 records of the router's trace have an id"))
    );
}

/// As for a file: what an address gave before the run is of another run, even under the same id.
#[tokio::test]
async fn older_records_from_an_address_do_not_count() {
    let clock = Clock::system();
    let old = RequestRecord { request_id: "q-1".to_owned(), ..RequestRecord::default() };
    let lines = [run_record(clock.snapshot(), &boot_id()), Record::Request(Box::new(old))];
    let lines: String = lines.iter().map(|l| serde_json::to_string(l).unwrap() + "\n").collect();
    let server = Server::new(&clock.clone(), move |got| match got.path.as_str() {
        path if path.starts_with("/trace") => json("200 OK", &lines),
        _ => about(got).unwrap_or_else(|| answer(&stamps(clock.now()))),
    });
    let url = server.listen().await;
    let path = PathBuf::from(format!("{}/tests/data/load/custom.jsonl", env!("CARGO_MANIFEST_DIR")));
    let options = milepost::load::dataset::FileOptions { path: Some(path), ..Default::default() };
    let report = measured(LoadConfig {
        dataset: milepost::load::dataset::Dataset::Custom(options),
        router_trace: Some(TraceSource::Url(Target::parse(&format!("{url}/trace")).unwrap())),
        trace_wait: Duration::ZERO,
        ..config(&url, 2)
    })
    .await;
    assert!(report.rows.held().iter().all(|r| r.success() && !r.in_trace));
}

/// The trace may be of more than this run: how much more is said. Decision and waits become parts of the request's way.
#[tokio::test]
async fn records_of_others_are_counted_and_the_parts_add_up() {
    let scratch = Scratch::new("others");
    let file = Mutex::new(Scratch(scratch.0.clone()));
    let report = traced(&scratch, 0, &boot_id(), move |got, record| {
        record.decided_ns = Some(80_000);
        record.decision = Some(DecisionRecord { took_ns: 10_000, ..DecisionRecord::default() });
        record.limit_wait_ns = Some(30_000);
        if got.header("x-request-id").unwrap().ends_with('2') {
            for phase in [None, Some("warmup".to_owned())] {
                let other = RequestRecord { request_id: "someone".to_owned(), phase, ..record.clone() };
                file.lock().unwrap().add(&Record::Request(Box::new(other)));
            }
        }
        true
    })
    .await;
    let survey = Survey::of(&report, &[]);
    assert_eq!(one_sided(&report, &survey.gathered), (Some(0), Some(1)));
    for row in report.rows.held() {
        assert!(row.success(), "{:?}", row.failure);
        let parts = (row.router_in_ns(), row.decision_ns, row.router_out_ns(), row.router_overhead_ns());
        assert_eq!(parts, (Some(70_000), Some(10_000), Some(20_000), Some(70_000)));
    }
    let split = survey.gathered.metrics.split.unwrap();
    assert!(split.parts.iter().all(|p| p.share.is_some()) && split.unknown_share.abs() < 0.01, "{split:?}");
}
