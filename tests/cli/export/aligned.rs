//! `milepost trace align`: held to what `export --to csv` derives of the same trace, and to the trace itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::csv::cells;
use super::{TRACE, requests};
use crate::process::{Folder, milepost};

/// The lines of a CSV file by their columns.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let lines = cells(text);
    let (header, rows) = lines.split_first().unwrap();
    rows.iter().map(|row| header.iter().cloned().zip(row.iter().cloned()).collect()).collect()
}

#[test]
fn each_stage_is_where_the_export_puts_it_and_the_trace_stays_as_it_was() {
    let folder = Folder::new();
    let before = std::fs::read_to_string(TRACE).unwrap();
    folder.write("t.jsonl", &before);
    let run = |arguments: &str| {
        let ended = milepost(&folder, arguments);
        assert_eq!(ended.code, Some(0), "{arguments}: {}", ended.stderr);
        ended
    };
    run("trace export t.jsonl --to csv --out all.csv");
    let told = run("trace align t.jsonl -o aligned.csv --format csv").stderr;
    let lines = run("trace align t.jsonl").stdout;
    assert_eq!(folder.read("t.jsonl"), before);
    let (all, aligned) = (table(&folder.read("all.csv")), table(&folder.read("aligned.csv")));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((all.len(), aligned.len(), lines.len()), (requests().len(), all.len(), all.len()));
    for ((exported, row), line) in all.iter().zip(&aligned).zip(&lines) {
        for (name, cell) in row {
            assert_eq!(exported.get(name), Some(cell), "{name}");
            let shown = match &line[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                // Of what is missing each reason has a name of its own.
                Value::Object(reasons) => {
                    assert_eq!(cell.split("; ").count(), reasons.len(), "{cell}");
                    continue;
                }
                other => other.to_string(),
            };
            assert_eq!(&shown, cell, "{name}");
        }
    }
    let offsets = lines.iter().filter(|line| line["clock_offset_ns"].is_i64()).count();
    assert!(offsets >= 8, "{offsets} requests tell by what they were placed");
    for worker in ["http://127.0.0.1:45939", "http://127.0.0.1:38565"] {
        let row = told.lines().find(|line| line.contains(worker)).expect(worker);
        assert!(row.contains("same host") && row.contains(" us "), "{told}");
    }
}

#[test]
fn of_remote_workers_the_table_tells_offset_bound_and_reasons_and_parts_are_read_in_order() {
    let folder = Folder::new();
    // The same requests from another host, whose wall clock is the same: what is found must be near zero.
    let remote = std::fs::read_to_string(TRACE).unwrap().replace("\"same_host\":true,", "");
    let half = remote.match_indices('\n').nth(remote.lines().count() / 2).unwrap().0 + 1;
    std::fs::create_dir(folder.0.join("d")).unwrap();
    folder.write("d/t.jsonl", &remote[half..]);
    let packed = zstd::encode_all(&remote.as_bytes()[..half], 1).unwrap();
    std::fs::write(folder.0.join("d/t.000001.jsonl.zst"), packed).unwrap();
    let ended = milepost(&folder, "trace align d --summary");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().filter(|line| line.starts_with("run ")).count(), 1, "{}", ended.stdout);
    let of = |worker: &str| {
        let line = ended.stdout.lines().find(|line| line.contains(worker)).expect(worker);
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for worker in ["http://127.0.0.1:45939", "http://127.0.0.1:38565"] {
        let row = of(worker);
        let (offset, bound): (f64, f64) = (row[2].parse().unwrap(), row[4].parse().unwrap());
        assert_eq!((row[1].as_str(), row[3].as_str(), row[5].as_str()), ("remote", "us", "us"), "{row:?}");
        assert!(offset.abs() <= bound, "the clocks are one: {row:?}");
        let numbers: Vec<u64> = row[6..].iter().filter_map(|cell| cell.parse().ok()).collect();
        assert!(numbers[0] == 0 && numbers[1] >= numbers[2] && numbers[2] > 3, "{row:?}");
    }
}

#[test]
fn a_trace_is_never_written_over() {
    let folder = Folder::new();
    let trace = std::fs::read_to_string(TRACE).unwrap();
    folder.write("t.jsonl", &trace);
    let ended = milepost(&folder, "trace align t.jsonl -o ./t.jsonl --overwrite");
    assert_eq!((ended.code, folder.read("t.jsonl") == trace), (Some(2), true), "{}", ended.stderr);
}
