//! The workload of a trace: what it shares, and that `milepost bench` sends it again.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{TRACE, export, requests};
use crate::process::{Folder, milepost, worker};

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn lengths_are_those_of_the_trace_and_prompts_share_what_they_shared() {
    let folder = Folder::new();
    export(&folder, "mooncake", "w.jsonl");
    let rows = rows(&folder.read("w.jsonl"));
    let records = requests();
    let mut asked: Vec<&Value> = records
        .iter()
        .filter(|r| r["phase"].is_null() && r["tokens"]["completion_tokens"].is_u64())
        .collect();
    asked.sort_by_key(|record| record["arrival_unix_ns"].as_u64());
    assert_eq!(rows.len(), asked.len());
    let first_ns = asked[0]["arrival_unix_ns"].as_u64().unwrap();
    for (row, record) in rows.iter().zip(&asked) {
        assert_eq!(row["input_length"], record["tokens"]["prompt_tokens"]);
        assert_eq!(row["output_length"], record["tokens"]["completion_tokens"]);
        let since_ns = record["arrival_unix_ns"].as_u64().unwrap() - first_ns;
        assert_eq!(row["timestamp"], since_ns / 1_000_000);
        let blocks = row["input_length"].as_u64().unwrap().div_ceil(512);
        assert_eq!(row["hash_ids"].as_array().unwrap().len() as u64, blocks);
    }
    // Two groups of four prompts with 1,100 words in common; what follows is each prompt's own.
    let long = rows.iter().filter(|row| row["hash_ids"].as_array().unwrap().len() > 1);
    let mut groups: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
    for ids in long.map(|row| {
        row["hash_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect::<Vec<_>>()
    }) {
        groups.entry((ids[0], ids[1])).or_default().push(ids[2]);
    }
    assert_eq!(groups.values().map(Vec::len).collect::<Vec<_>>(), [4, 4], "{groups:?}");
    for own in groups.values_mut() {
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), 4, "the rest of a prompt is its own");
    }
}

#[test]
fn a_clock_that_was_set_back_is_said_and_makes_no_time_of_centuries() {
    let folder = Folder::new();
    let early = std::fs::read_to_string(TRACE).unwrap();
    // The same trace an hour later, given first: its second run arrives before it.
    let later: Vec<String> = early
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            if let Some(ns) = record["arrival_unix_ns"].as_u64() {
                record["arrival_unix_ns"] = (ns + 3_600_000_000_000).into();
            }
            record.to_string()
        })
        .collect();
    folder.write("a.jsonl", later.join("\n") + "\n");
    folder.write("b.jsonl", &early);
    let ended = milepost(&folder, "trace export a.jsonl b.jsonl --to mooncake --out w.jsonl");
    assert_eq!(
        (ended.code, ended.stderr.contains("clock was set back")),
        (Some(0), true),
        "{}",
        ended.stderr
    );
    let rows = rows(&folder.read("w.jsonl"));
    let times: Vec<u64> = rows.iter().map(|row| row["timestamp"].as_u64().unwrap()).collect();
    assert!(times.contains(&0) && times[0] >= 3_600_000, "{times:?}");
    assert!(times.iter().all(|ms| *ms < 7_200_000), "{times:?}");
}

#[test]
fn bench_sends_the_workload_again() {
    let folder = Folder::new();
    export(&folder, "mooncake", "w.jsonl");
    let (sim, url) = worker(&folder, "--speedup 100");
    let args = "--backend sglang --dataset-name mooncake --dataset-path w.jsonl --schedule-speedup 100";
    let ended = milepost(&folder, &format!("bench --base-url {url} {args}"));
    let requests = rows(&folder.read("w.jsonl")).len();
    let csv = folder.read("milepost-bench/latest/requests.csv");
    let sent = csv.lines().skip(1).filter(|line| line.contains(",True,")).count();
    assert_eq!(sent, requests, "{}{}", ended.stdout, ended.stderr);
    assert!(!ended.stderr.contains("more or fewer block ids"), "{}", ended.stderr);
    assert_eq!(sim.stop().code, Some(0));
}

#[test]
fn a_trace_without_hashes_is_refused() {
    let folder = Folder::new();
    let trace = std::fs::read_to_string(TRACE).unwrap();
    let bare: Vec<&str> = trace.lines().filter(|line| !line.starts_with("{\"kind\":\"journal\"")).collect();
    folder.write("bare.jsonl", bare.join("\n") + "\n");
    let ended = milepost(&folder, "trace export bare.jsonl --to mooncake --out w.jsonl");
    assert_eq!(
        (ended.code, ended.stderr.contains("--trace-decisions journal")),
        (Some(2), true),
        "{}",
        ended.stderr
    );
    assert!(!folder.0.join("w.jsonl").exists());
}
