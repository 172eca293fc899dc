//! Where rows are kept changes no figure: in memory, or in a scratch file as those of a run of millions are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::faults::{Action, Faults, Injector, Outcome, Plan};
use milepost::load::schedule::Rate;
use milepost::load::{Keeping, LoadConfig, RunContext, RunReport, run};
use milepost::report::goodput::Slo;
use milepost::report::{Survey, column, csv, json, summary, tokens};

use crate::server::{Server, about, json as plain, stream};
use crate::{config, data};

/// All that is told of a run.
fn told(report: &RunReport) -> [String; 4] {
    let slos = [Slo::parse("ttft:200").unwrap()];
    let survey = Survey::of(report, &slos);
    let object = json::run_json(report, &survey, &Vec::new());
    let (mut whole, mut times) = (Vec::new(), Vec::new());
    json::write_full(&mut whole, &object, &report.rows, &|_| ()).unwrap();
    tokens::write(&mut times, &report.rows).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    [summary::summary(report, &survey, &[]), text(whole), text(times), csv::csv(&report.rows)]
}

/// Does nothing: what is told of a fault is of the requests around it.
struct Harmless;

impl Injector for Harmless {
    fn carry_out<'a>(&'a self, _: &'a Action, _: &'a str) -> Outcome<'a> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn refuse(&self, _: &Action, _: &str) -> Option<String> {
        None
    }

    fn host(&self, _: &str) -> Option<String> {
        None
    }
}

/// One scripted run in virtual time: every fifth request fails, so that all kinds of figures are told.
async fn scripted(keeping: Keeping) -> RunReport {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let events = data("sglang-0.5.23_generate_stream.sse");
    let nth = AtomicU64::new(0);
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| match nth.fetch_add(1, Ordering::Relaxed) % 5 {
            0 => plain("500 Internal Server Error", r#"{"error":{"message":"full"}}"#),
            _ => stream(&events, Duration::from_millis(3)),
        })
    });
    let plan = Plan::parse("at = 200ms, for = 100ms, hang worker 1").unwrap();
    let config = LoadConfig {
        arrivals: Rate::PerSecond(400.0).into(),
        columns: vec![column::parse("ms = ttft * 1000").unwrap()],
        faults: Some(Faults::new(plan, Arc::new(Harmless)).unwrap()),
        ..config("http://pipe:1", 200)
    };
    run(config, RunContext { keeping, ..server.context() }).await.unwrap()
}

/// The same run twice, once without a row of it in memory and once without a scratch file.
#[tokio::test(start_paused = true)]
async fn a_run_is_told_alike_wherever_its_rows_are() {
    let folder = std::env::temp_dir().join(format!("milepost-{}-kept", std::process::id()));
    let on_disk = scripted(Keeping { folder: folder.clone(), memory_bytes: 0 }).await;
    assert_eq!((on_disk.rows.held().len(), on_disk.rows.len()), (0, 200), "none is in memory");
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(left.is_empty(), "the scratch file has no name: {left:?}");

    let in_memory = scripted(Keeping { folder: folder.clone(), memory_bytes: usize::MAX }).await;
    assert_eq!((in_memory.rows.held().len(), folder.exists()), (200, false), "all are in memory");
    let succeeded = in_memory.rows.iter().filter(|row| row.success()).count();
    assert_eq!(succeeded, 160);
    let [summary, ..] = told(&in_memory);
    assert!(summary.contains("recovered after") && summary.contains("Columns of your own"), "{summary}");
    assert_eq!(told(&on_disk), told(&in_memory));
}
