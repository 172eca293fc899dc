//! `milepost trace export`: each format read back by a reader that is not ours, and what a user is told.
//!
//! The trace is `tests/data/traces/two_workers.jsonl`. Deliberately not here: single cells and phases, see the unit tests.

mod aligned;
mod csv;
mod mooncake;
mod others;
mod otlp;
#[cfg(feature = "parquet")]
mod parquet;
mod perfetto;

use std::os::unix::fs::PermissionsExt;

use crate::process::{Ended, Folder, milepost};

/// The trace that all of them export.
pub const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/traces/two_workers.jsonl");

/// Exports [`TRACE`] to `out` and expects that to succeed.
pub fn export(folder: &Folder, format: &str, out: &str) -> Ended {
    let ended = milepost(folder, &format!("trace export {TRACE} --to {format} --out {out}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended
}

/// The requests of [`TRACE`], as JSON.
pub fn requests() -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(TRACE).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    records.filter(|record| record["kind"] == "request").collect()
}

#[test]
fn what_is_there_is_not_written_over_unless_asked_for() {
    let folder = Folder::new();
    folder.write("t.csv", "mine");
    let ended = milepost(&folder, &format!("trace export {TRACE} --to csv --out t.csv"));
    assert_eq!((ended.code, ended.stderr.contains("--overwrite")), (Some(2), true), "{}", ended.stderr);
    assert_eq!(folder.read("t.csv"), "mine");
    let ended = milepost(&folder, &format!("trace export {TRACE} --to csv --out t.csv --overwrite"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(folder.read("t.csv").starts_with("seq,request_id,"));
}

#[test]
fn a_trace_that_is_read_is_never_written_over() {
    let folder = Folder::new();
    let trace = std::fs::read_to_string(TRACE).unwrap();
    folder.write("t.jsonl", &trace);
    let ended = milepost(&folder, "trace export t.jsonl --to csv --out ./t.jsonl --overwrite");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(folder.read("t.jsonl"), trace);
}

#[test]
fn a_file_of_a_folder_that_is_read_is_never_written_over() {
    let folder = Folder::new();
    let trace = std::fs::read_to_string(TRACE).unwrap();
    std::fs::create_dir(folder.0.join("d")).unwrap();
    folder.write("d/t.jsonl", &trace);
    for given in ["d", "d/*.jsonl"] {
        let ended = milepost(&folder, &format!("trace export {given} --to csv --out d/t.jsonl --overwrite"));
        assert_eq!(ended.code, Some(2), "{given}: {}", ended.stderr);
    }
    assert_eq!(folder.read("d/t.jsonl"), trace);
}

#[test]
fn a_result_is_its_owners_alone_and_a_file_of_another_export_is_left() {
    let folder = Folder::new();
    export(&folder, "csv", "t.csv");
    let mode = std::fs::metadata(folder.0.join("t.csv")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    folder.write("u.csv.part", "theirs");
    let ended = milepost(&folder, &format!("trace export {TRACE} --to csv --out u.csv"));
    assert_eq!((ended.code, ended.stderr.contains("u.csv.part")), (Some(1), true), "{}", ended.stderr);
    assert_eq!(folder.read("u.csv.part"), "theirs");
}

#[test]
fn a_failed_export_leaves_no_file() {
    let folder = Folder::new();
    folder.write("none.jsonl", "this is no trace\n");
    let ended = milepost(&folder, "trace export none.jsonl --to csv --out t.csv");
    assert_eq!(
        (ended.code, ended.stderr.contains("not a milepost trace")),
        (Some(2), true),
        "{}",
        ended.stderr
    );
    let ended = milepost(&folder, &format!("trace export {TRACE} --to csv --out no/such/folder.csv"));
    assert_eq!(
        (ended.code, ended.stderr.contains("no/such/folder.csv")),
        (Some(1), true),
        "{}",
        ended.stderr
    );
    let left: Vec<_> =
        std::fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["none.jsonl"]);
}

#[test]
fn what_was_not_exported_is_said() {
    let folder = Folder::new();
    let trace = std::fs::read_to_string(TRACE).unwrap();
    folder.write("torn.jsonl", format!("{trace}{{\"kind\":\"lost\",\"requests\":7}}\n{{\"kind\":\"req"));
    let ended = milepost(&folder, "trace export torn.jsonl --to csv --out t.csv");
    let count = requests().len();
    assert!(ended.stderr.contains(&format!("t.csv: {count} of {count} requests")), "{}", ended.stderr);
    for words in ["7 requests that the router has no record of", "1 torn lines"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}
