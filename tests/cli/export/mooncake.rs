//! The workload of a trace: what it shares, and that `milepost bench` sends it again.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{TRACE, export, requests};
use crate::process::{Folder, Router, milepost, worker};

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
fn of_a_sampled_trace_those_kept_for_being_slow_are_left_out_and_the_share_is_said() {
    let folder = Folder::new();
    let mut asked = 0;
    let sampled: Vec<String> = std::fs::read_to_string(TRACE)
        .unwrap()
        .lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            if record["kind"] == "run" {
                record["capture"] =
                    serde_json::json!({ "instance": "x", "part": 1, "requests_before": 0, "sample_share": 0.25 });
            } else if record["phase"].is_null() && record["tokens"]["completion_tokens"].is_u64() {
                asked += 1;
                if asked <= 3 {
                    record["kept_for"] = "slow".into();
                }
            }
            record.to_string()
        })
        .collect();
    folder.write("s.jsonl", sampled.join("\n") + "\n");
    let ended = milepost(&folder, "trace export s.jsonl --to mooncake --out w.jsonl");
    let said = ["--trace-sample 0.25", "3 requests that were kept for"];
    assert!(said.iter().all(|words| ended.stderr.contains(words)), "{}", ended.stderr);
    let rows = rows(&folder.read("w.jsonl"));
    assert_eq!((rows.len(), &rows[0]["timestamp"]), (asked - 3, &Value::from(0)));
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

/// What an infinite cache could have given in the last run of `milepost bench`: the share of its prompts' tokens.
fn infinite_cache_share(folder: &Folder, args: &str) -> f64 {
    let ended = milepost(folder, &format!("bench --backend sglang {args}"));
    let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
    let share = run["cache_hits"]["infinite_cache_share"].as_f64();
    share.unwrap_or_else(|| panic!("{run:#}{}{}", ended.stdout, ended.stderr))
}

#[test]
fn a_capture_as_it_is_by_default_is_sent_again_with_the_same_sharing() {
    let folder = Folder::new();
    let (sim, url) = worker(&folder, "--speedup 1000");
    let router =
        Router::start(&folder, &format!("--worker-urls {url} --trace-log t.jsonl --disable-health-check"));
    let shape =
        "--gsp-num-groups 4 --gsp-prompts-per-group 8 --gsp-system-prompt-len 1200 --gsp-question-len 100";
    let asked = format!("--dataset-name generated-shared-prefix {shape} --gsp-output-len 4");
    let captured = infinite_cache_share(&folder, &format!("--base-url http://{} {asked}", router.address));
    assert_eq!(router.process.stop().code, Some(0));
    let ended = milepost(&folder, "trace export t.jsonl --to mooncake --out w.jsonl --block-tokens 64");
    assert_eq!((ended.code, ended.stderr.contains("in blocks of 64 tokens")), (Some(0), true), "{ended:?}");
    let rows = rows(&folder.read("w.jsonl"));
    assert_eq!((rows.len(), &rows[0]["block_tokens"]), (32, &Value::from(64)));
    let again = "--dataset-name mooncake --dataset-path w.jsonl --schedule-speedup 100";
    let replayed = infinite_cache_share(&folder, &format!("--base-url {url} {again}"));
    // A block of ids and one of hashes (256 bytes, some 64 tokens) a prompt.
    let tokens: u64 = rows.iter().filter_map(|row| row["input_length"].as_u64()).sum();
    let bound = 2.0 * 64.0 * rows.len() as f64 / tokens as f64;
    assert!(captured > 0.5 && (captured - replayed).abs() <= bound, "{captured} {replayed} {bound}");
    assert_eq!(sim.stop().code, Some(0));
}

#[test]
fn blocks_have_a_length_in_a_workload_alone() {
    let folder = Folder::new();
    let ended = milepost(&folder, &format!("trace export {TRACE} --to csv --out t.csv --block-tokens 64"));
    assert_eq!((ended.code, ended.stderr.contains("--to mooncake")), (Some(2), true), "{}", ended.stderr);
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
