//! Lengths of real conversations through bench, router and two simulated workers of two generations, then every cell of
//! the inherited CSV columns against its definition.
//!
//! Rule: the CSV is read back as text and its times as whole nanoseconds, so that a sum is right or wrong, not near; only
//! what lies between two clocks is compared within the row's own `clock_bound`. Deliberately not here: single definitions
//! on made-up rows (`src/report/csv.rs`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

#[expect(dead_code, unused_imports, reason = "shared with tests/it, which uses all of it")]
#[path = "it/harness.rs"]
mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use milepost::clock::Clock;
use milepost::load::dataset::{Dataset, FileOptions};
use milepost::load::progress::Silent;
use milepost::load::schedule::Rate;
use milepost::load::target::Target;
use milepost::load::{LoadConfig, RunContext, RunReport, TraceSource, run};
use milepost::report::files::{Destination, Extras, write_run};
use milepost::report::{Metrics, Survey};
use milepost::sim::{Dialect, SimConfig, serve};
use milepost::trace::record::{RequestKind, RequestRecord};
use tokio::net::TcpListener;

use crate::harness::TestRouter;

const INHERITED: &str = "req_id,success,error,host,has_generated_text,input_length,expected_output_length,actual_prompt_tokens,actual_output_tokens,actual_total_tokens,output_tokens_from_trace,decode_length,arrival_time,router_send_time,server_created_time,queue_time_start,queue_time_end,server_first_token_time,finish_time,server_latency,total_latency,ttft,queue_time_in_router,queue_time_in_server,tokenize_time,pure_queue_time";
const WARMUPS: usize = 2;
/// Conversations that begin alike, so that prefix caches have something to find.
const GROUPS: usize = 8;

/// Prompt and output tokens of each request.
fn lengths() -> Vec<(usize, u64)> {
    let path = format!("{}/tests/data/azure/conv_2023_first_60.csv", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let mut cells = line.split(',').skip(1);
        (cells.next().unwrap().parse().unwrap(), cells.next().unwrap().parse().unwrap())
    };
    text.lines().skip(1).map(row).collect()
}

fn id(index: usize) -> String {
    format!("azure-{index:03}")
}

/// As many words as there were tokens; none is longer than the simulated tokeniser's six bytes, so each is one token.
fn prompt(index: usize, words: usize) -> String {
    let word = |i| match i {
        0 => format!("g{}", index % GROUPS),
        i if i < 64 => format!("w{i}"),
        i => format!("x{:x}", (index * 7919 + i) % 0xf_ffff),
    };
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("milepost-azure-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn dataset(folder: &Folder, lengths: &[(usize, u64)]) -> Dataset {
    let rows = lengths.iter().enumerate().map(|(i, (words, tokens))| {
        serde_json::json!({"id": id(i), "prompt": prompt(i, *words), "output_len": tokens}).to_string() + "\n"
    });
    let path = folder.0.join("azure.jsonl");
    std::fs::write(&path, rows.collect::<String>()).unwrap();
    Dataset::Custom(FileOptions { path: Some(path), ..FileOptions::default() })
}

/// Starts a worker that runs as long as the test; its URL.
async fn worker(dialect: Dialect) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = SimConfig { dialect, speedup: 20.0, ..SimConfig::default() };
    tokio::spawn(serve(listener, config, Clock::system(), std::future::pending()));
    url
}

/// What a run left behind.
struct Run {
    report: RunReport,
    csv: String,
    records: Vec<RequestRecord>,
}

async fn measured(folder: &Folder, lengths: &[(usize, u64)], workers: &[String]) -> Run {
    let mut trace = None;
    let router = TestRouter::with_urls(workers, |config| {
        "cache_aware".clone_into(&mut config.policy);
        trace.clone_from(&config.trace_log);
    })
    .await;
    let config = LoadConfig {
        num_prompts: lengths.len(),
        arrivals: Rate::PerSecond(40.0).into(),
        warmup_requests: WARMUPS,
        router_trace: trace.map(TraceSource::File),
        ..LoadConfig::new(
            Target::parse(&format!("http://{}", router.addr)).unwrap(),
            dataset(folder, lengths),
        )
    };
    let report = run(config, RunContext::new(Clock::system(), Arc::new(Silent))).await.unwrap();
    let to = Destination {
        folder: folder.0.join("out"),
        collection: None,
        details: false,
        extras: Extras::default(),
    };
    write_run(&report, &Survey::of(&report, &[]), &to).unwrap();
    let csv = std::fs::read_to_string(to.folder.join("requests.csv")).unwrap();
    // This checks that requests = records + lost; nothing is lost here, as `records` is compared with all that was sent.
    Run { report, csv, records: router.finish_requests().await }
}

/// One row by column name.
struct Cells(BTreeMap<String, String>);

impl Cells {
    fn text(&self, column: &str) -> &str {
        &self.0[column]
    }

    fn count(&self, column: &str) -> u64 {
        self.text(column).parse().unwrap_or_else(|_| panic!("{}: {column}", self.text("req_id")))
    }

    /// A time in nanoseconds; it must be there, with nine decimals.
    fn ns(&self, column: &str) -> i64 {
        let (whole, decimals) = self.text(column).split_once('.').unwrap_or_else(|| {
            panic!("{}: {column} is {:?}", self.text("req_id"), self.text(column));
        });
        assert_eq!(decimals.len(), 9, "{column}");
        format!("{whole}{decimals}").parse().unwrap()
    }
}

fn rows(csv: &str) -> Vec<Cells> {
    let header: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
    assert_eq!(header[..26].join(","), INHERITED);
    let row = |line: &str| {
        // No cell of a good run needs quotes, so a comma is a column's end.
        assert!(!line.contains('"'), "{line}");
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), header.len(), "{line}");
        Cells(header.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.to_owned())).collect())
    };
    csv.lines().skip(1).map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_of_sixty_conversations() {
    let lengths = lengths();
    assert_eq!(lengths.len(), 60);
    let folder = Folder::new();
    let workers = [worker(Dialect::V0523).await, worker(Dialect::V049Patched).await];
    let run = measured(&folder, &lengths, &workers).await;
    let rows = rows(&run.csv);
    // Rows are the requests of the data set in its order; warm-up requests are none of them.
    let ids: Vec<&str> = rows.iter().map(|r| r.text("req_id")).collect();
    assert_eq!(ids, (0..lengths.len()).map(id).collect::<Vec<_>>());
    for (i, row) in rows.iter().enumerate() {
        counts(row, lengths[i]);
        order(row);
        sums(row);
        source(row, &workers);
    }
    shares(&rows, &run, &workers);
    one_axis(&rows, &run.records);
    assert!(rows.iter().any(|r| r.count("cached_tokens") > 0), "prefixes are found");
    assert!(!run.report.partial);
}

fn counts(row: &Cells, (words, tokens): (usize, u64)) {
    let name = row.text("req_id");
    let said = (row.text("success"), row.text("error"), row.text("has_generated_text"), row.text("status"));
    assert_eq!(said, ("True", "", "True", "200"), "{name}");
    assert_eq!((row.count("input_length"), row.count("actual_prompt_tokens")), (words as u64, words as u64));
    for column in
        ["expected_output_length", "actual_output_tokens", "output_tokens_from_trace", "decode_length"]
    {
        assert_eq!(row.count(column), tokens, "{name}: {column}");
    }
    assert_eq!(row.count("actual_total_tokens"), words as u64 + tokens, "{name}");
    assert!(row.count("cached_tokens") < words as u64, "{name}");
    assert_eq!((row.text("policy"), row.text("attempts")), ("cache_aware", "1"), "{name}");
    assert_eq!((row.text("worker_kind"), row.text("missing")), ("simulated", ""), "{name}");
}

/// Every time is there, and in its order: within one clock exactly, between two within the bound that the row gives.
fn order(row: &Cells) {
    let name = row.text("req_id");
    let bound_ns = row.ns("clock_bound");
    let exact = |a: &str, b: &str| assert!(row.ns(a) <= row.ns(b), "{name}: {a} after {b}");
    let within = |a: &str, b: &str| {
        assert!(row.ns(a) <= row.ns(b) + bound_ns, "{name}: {a} after {b} by over {bound_ns}");
    };
    assert!((0..5_000_000).contains(&bound_ns), "{name}: one host, so {bound_ns} is the clocks' bracket");
    exact("scheduled_time", "arrival_time");
    exact("connected_time", "arrival_time");
    exact("arrival_time", "router_send_time");
    within("router_send_time", "server_created_time");
    within("server_created_time", "queue_time_start");
    within("queue_time_start", "queue_time_end");
    within("queue_time_end", "server_first_token_time");
    within("server_first_token_time", "finish_time");
    exact("finish_time", "client_end_time");
    exact("client_first_token_time", "client_end_time");
    assert_eq!(row.text("order_broken"), "False", "{name}");
}

fn sums(row: &Cells) {
    let name = row.text("req_id");
    let bound_ns = row.ns("clock_bound");
    let of = |from: &str, to: &str| row.ns(to) - row.ns(from);
    let exact = |column: &str, from: &str, to: &str| {
        assert_eq!(row.ns(column), of(from, to), "{name}: {column} = {to} - {from}");
    };
    let within = |column: &str, from: &str, to: &str| {
        let off_ns = (row.ns(column) - of(from, to)).abs();
        assert!(off_ns <= bound_ns, "{name}: {column} = {to} - {from}, off by {off_ns} of {bound_ns}");
        assert!(row.ns(column) >= -bound_ns, "{name}: {column}");
    };
    exact("server_latency", "router_send_time", "finish_time");
    exact("total_latency", "arrival_time", "finish_time");
    exact("ttft", "arrival_time", "server_first_token_time");
    exact("queue_time_in_router", "arrival_time", "router_send_time");
    exact("client_latency", "write_begun_time", "client_end_time");
    exact("latency_from_schedule", "scheduled_time", "client_end_time");
    within("queue_time_in_server", "server_created_time", "server_first_token_time");
    within("tokenize_time", "server_created_time", "queue_time_start");
    within("pure_queue_time", "queue_time_start", "queue_time_end");
    // The router cannot have the first token before the server, nor the client before the router.
    assert!(row.ns("ttft_router") + bound_ns >= row.ns("ttft"), "{name}");
    assert!(row.ns("client_first_token_time") >= row.ns("arrival_time") + row.ns("ttft_router"), "{name}");
}

fn source(row: &Cells, workers: &[String]) {
    let at = workers.iter().position(|w| w["http://".len()..] == *row.text("host"));
    let expected = ["server_first_token_latency", "server_patch"][at.expect("one of the two workers")];
    assert_eq!(row.text("ttft_source"), expected);
}

/// Rows, trace and summary count the same requests at each worker.
fn shares(rows: &[Cells], run: &Run, workers: &[String]) {
    let generated =
        run.records.iter().filter(|r| r.request_kind == RequestKind::Routed && r.path == "/generate");
    let (warm, own): (Vec<_>, Vec<_>) = generated.partition(|r| r.phase.as_deref() == Some("warmup"));
    assert_eq!((warm.len(), own.len()), (WARMUPS, rows.len()));
    let ids: BTreeSet<&str> = rows.iter().map(|r| r.text("req_id")).collect();
    assert!(warm.iter().all(|r| !ids.contains(r.request_id.as_str())));
    assert!(own.iter().all(|r| ids.contains(r.request_id.as_str())));
    let summary = Metrics::of(&run.report.rows);
    let mut sum = 0;
    for worker in workers {
        let host = &worker["http://".len()..];
        let in_csv = rows.iter().filter(|r| r.text("host") == host).count();
        let in_trace = own.iter().filter(|r| r.worker.as_deref() == Some(worker.as_str())).count();
        assert!(in_csv > 0, "{worker} has a share");
        assert_eq!((in_csv, in_csv), (in_trace, summary.workers[host].requests as usize), "{worker}");
        sum += in_csv;
    }
    assert_eq!(sum, rows.len());
}

/// One zero for all rows: a row's times lie where the trace has them, moved by the same amount.
fn one_axis(rows: &[Cells], records: &[RequestRecord]) {
    let by_id: BTreeMap<&str, &RequestRecord> = records.iter().map(|r| (r.request_id.as_str(), r)).collect();
    let zeros: BTreeSet<i64> = rows
        .iter()
        .flat_map(|row| {
            let record = by_id[row.text("req_id")];
            let at =
                |after_ns: Option<u64>| i64::try_from(record.arrival_mono_ns + after_ns.unwrap()).unwrap();
            [
                at(Some(0)) - row.ns("arrival_time"),
                at(record.router_send_ns) - row.ns("router_send_time"),
                at(record.last_byte_ns) - row.ns("finish_time"),
            ]
        })
        .collect();
    assert_eq!(zeros.len(), 1, "{zeros:?}");
}
