//! Traces: their times, lengths and sharing arrive at the server as they were.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::body::Backend;
use milepost::load::dataset::{Content, Dataset, TraceFormat, TraceOptions, reuse};
use milepost::load::schedule::{Arrivals, Pace, Rate, Schedule, TracePace};
use milepost::load::{LoadConfig, RunReport, run};
use serde_json::Value;

use crate::server::{Server, about, stream};
use crate::{config, data};

fn options(format: TraceFormat, name: &str) -> TraceOptions {
    let path = PathBuf::from(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR")));
    TraceOptions {
        format,
        path: Some(path),
        output_tokens: None,
        context_tokens: None,
        until: None,
        vocabulary: 100_000,
    }
}

fn mooncake() -> TraceOptions {
    options(TraceFormat::Mooncake, "traces/mooncake_conversation_first_60.jsonl")
}

fn told() -> Vec<Value> {
    let text = std::fs::read_to_string(mooncake().path.unwrap()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn as_it_was(speedup: f64) -> Arrivals {
    let pace = TracePace { speedup, keep_ticks: false };
    let pace = Pace::Trace { pace, schedule: Arc::new(Schedule::default()) };
    Arrivals { pace, ..Rate::AllAtOnce.into() }
}

async fn replay(config: LoadConfig) -> (RunReport, Vec<Value>) {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let events = data("sglang-0.4.9.post6-patched_generate_stream.sse");
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| stream(&events, Duration::from_millis(1)))
    });
    let report = run(config, server.context()).await.unwrap();
    let got = server.load();
    let bodies = got.iter().map(|g| g.body.clone()).collect();
    (report, bodies)
}

/// 60 rows that came at ticks of 3 s: every prompt has its exact length, shares exactly its common blocks, and comes within
/// its tick.
#[tokio::test(start_paused = true)]
async fn a_mooncake_trace_is_replayed_token_for_token() {
    let config = LoadConfig {
        dataset: Dataset::Trace(mooncake()),
        arrivals: as_it_was(10.0),
        ..config("http://pipe:1", 100)
    };
    let (report, bodies) = replay(config).await;
    let told = told();
    assert_eq!(report.rows.len(), 60);
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    let mut ids: Vec<(usize, Vec<u64>)> = Vec::new();
    for body in &bodies {
        let sent: Vec<u64> = serde_json::from_value(body["input_ids"].clone()).unwrap();
        let row = told.iter().position(|row| number(row, "input_length") == sent.len() as u64).unwrap();
        assert_eq!(body["sampling_params"]["max_new_tokens"], told[row]["output_length"]);
        ids.push((row, sent));
    }
    for (a, a_ids) in &ids {
        for (b, b_ids) in ids.iter().filter(|(b, _)| b != a) {
            let hashes = |row: &usize| told[*row]["hash_ids"].as_array().unwrap().clone();
            let common = hashes(a).iter().zip(&hashes(b)).take_while(|(a, b)| a == b).count();
            let tokens = a_ids.iter().zip(b_ids).take_while(|(a, b)| a == b).count();
            assert_eq!(tokens, (common * 512).min(a_ids.len()).min(b_ids.len()), "rows {a} and {b}");
        }
    }
    for (due_ns, row) in report.schedule.at_ns.iter().zip(&told) {
        let tick_ns = number(row, "timestamp") * 100_000;
        assert!((tick_ns..tick_ns + 300_000_000).contains(due_ns), "{due_ns} {tick_ns}");
    }
    assert!(report.notes.iter().any(|note| note.contains("ticks of 3 s")), "{:?}", report.notes);
    // Counted by hand from the file: 59 rows find 512 tokens each, some more.
    let reuse = report.reuse.unwrap();
    assert_eq!((reuse.cached_tokens, reuse.prompt_tokens), (30_208, 743_189));
}

/// The OpenAI endpoints take no token ids: as many words, shared block by block.
#[tokio::test(start_paused = true)]
async fn words_stand_for_tokens_where_ids_cannot_go() {
    let config = LoadConfig {
        dataset: Dataset::Trace(mooncake()),
        arrivals: Rate::PerSecond(50.0).into(),
        backend: Backend::Completions,
        model: Some("m".to_owned()),
        ..config("http://pipe:1", 2)
    };
    let (report, bodies) = replay(config).await;
    let words =
        |body: &Value| body["prompt"].as_str().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (words(&bodies[0]), words(&bodies[1]));
    assert_eq!((a.len(), b.len()), (6758, 7322));
    assert_eq!(a.iter().zip(&b).take_while(|(a, b)| a == b).count(), 512);
    assert_eq!(report.rows.held()[0].input_words, Some(6758));
}

#[test]
fn lengths_and_times_of_azure() {
    let o = options(TraceFormat::Azure, "azure/conv_2023_first_60.csv");
    let loaded = Dataset::Trace(o.clone()).load(1000, 1, true).unwrap();
    assert_eq!(loaded.prompts.len(), 60);
    assert_eq!((loaded.prompts[0].planned_tokens, loaded.prompts[0].output_tokens), (374, 44));
    assert_eq!(loaded.at_ns.as_ref().unwrap()[..2], [0, 4_314_579_000]);
    assert_eq!(reuse::of(&loaded.prompts.clone().into(), 0).unwrap().cached_tokens, 0);
    assert!(loaded.notes.iter().any(|n| n.contains("tells nothing of sharing")), "{:?}", loaded.notes);
    let until = Some(Duration::from_secs(5));
    let fitting = TraceOptions { until, context_tokens: Some(505), ..o };
    let short = Dataset::Trace(fitting).load(1000, 1, true).unwrap();
    assert_eq!(short.prompts.len(), 3);
    assert!(short.notes.iter().any(|n| n.contains("1 rows are longer")), "{:?}", short.notes);
}

#[test]
fn a_row_that_is_none_is_named_by_its_line() {
    let o = options(TraceFormat::Mooncake, "azure/conv_2023_first_60.csv");
    let e = Dataset::Trace(o).load(1, 1, true).unwrap_err().to_string();
    assert!(e.contains("conv_2023_first_60.csv line 1"), "{e}");
}

#[test]
fn the_same_seed_gives_the_same_prompts() {
    let o = options(TraceFormat::Azure, "azure/conv_2023_first_60.csv");
    let ids = |seed| {
        let loaded = Dataset::Trace(o.clone()).load(2, seed, true).unwrap();
        let ids = loaded.prompts.iter().map(|p| match &p.content {
            Content::Blocks(blocks) => blocks.token_ids(),
            _ => Vec::new(),
        });
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(1), ids(1));
    assert_ne!(ids(1), ids(2));
}
