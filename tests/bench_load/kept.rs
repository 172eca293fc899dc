//! Where rows are kept changes no figure: in memory, or in a scratch file as those of a run of millions are.

use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::row::Row;
use milepost::load::schedule::Rate;
use milepost::load::{Keeping, LoadConfig, Rows, RunContext, RunReport, run};
use milepost::report::goodput::Slo;
use milepost::report::{Metrics, Verdict, csv, json, summary, tokens};

use crate::server::{Server, about, json as plain, stream};
use crate::{config, context, data};

/// All that is told of a run.
fn told(report: &RunReport) -> [String; 4] {
    let slos = [Slo::parse("ttft:200").unwrap()];
    let metrics = Metrics::of(&report.rows).judged(&report.rows, &slos);
    let verdict = Verdict::of(report, &metrics);
    let object = json::run_json(report, &metrics, &verdict, &Vec::new());
    let (mut whole, mut times) = (Vec::new(), Vec::new());
    json::write_full(&mut whole, &object, &report.rows).unwrap();
    tokens::write(&mut times, &report.rows).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    [summary::summary(report, &metrics, &verdict, &[]), text(whole), text(times), csv::csv(&report.rows)]
}

/// Every fifth request fails, so that all kinds of figures are told.
#[tokio::test]
async fn a_run_is_told_alike_wherever_its_rows_are() {
    let events = data("sglang-0.5.23_generate_stream.sse");
    let server = Server::new(&Clock::system(), move |got| {
        about(got).unwrap_or_else(|| match got.at_ns % 5 {
            0 => plain("500 Internal Server Error", r#"{"error":{"message":"full"}}"#),
            _ => stream(&events, Duration::ZERO),
        })
    });
    let folder = std::env::temp_dir().join(format!("milepost-{}-kept", std::process::id()));
    let keeping = Keeping { folder: folder.clone(), memory_bytes: 0 };
    let config =
        LoadConfig { arrivals: Rate::PerSecond(400.0).into(), ..config(&server.listen().await, 200) };
    let report = run(config, RunContext { keeping, ..context() }).await.unwrap();
    assert_eq!((report.rows.held().len(), report.rows.len()), (0, 200), "none is in memory");
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(left.is_empty(), "the scratch file has no name: {left:?}");

    let rows: Vec<Row> = report.rows.iter().map(std::borrow::Cow::into_owned).collect();
    assert!(rows.iter().any(Row::success) && rows.iter().any(|row| !row.success()));
    let in_memory = RunReport { rows: Rows::from(rows), ..report.clone() };
    assert_eq!(told(&report), told(&in_memory));
}
