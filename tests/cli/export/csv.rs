//! CSV, read back by RFC 4180's rules written here anew.

use super::{TRACE, export, requests};
use crate::process::{Folder, milepost};

/// The cells of each line.
pub fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut chars, mut quoted) = (text.chars().peekable(), false);
    while let Some(c) = chars.next() {
        match (quoted, c) {
            (true, '"') if chars.peek() == Some(&'"') => cell.extend(chars.next()),
            (true, '"') => quoted = false,
            (false, '"') => quoted = true,
            (false, ',') => line.push(std::mem::take(&mut cell)),
            (false, '\n') => {
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            _ => cell.push(c),
        }
    }
    assert!(line.is_empty() && cell.is_empty(), "the last line has an end");
    lines
}

#[test]
fn every_request_is_a_line_and_its_values_are_those_of_the_record() {
    let folder = Folder::new();
    export(&folder, "csv", "t.csv");
    let lines = cells(&folder.read("t.csv"));
    let (header, rows) = lines.split_first().unwrap();
    assert!(rows.iter().all(|row| row.len() == header.len()));
    let requests = requests();
    assert_eq!(rows.len(), requests.len());
    for (row, record) in rows.iter().zip(&requests) {
        let cell = |name: &str| row[header.iter().position(|h| h == name).expect(name)].as_str();
        for name in ["seq", "arrival_unix_ns", "end_ns", "attempts"] {
            assert_eq!(cell(name), record[name].to_string(), "{name}");
        }
        assert_eq!(cell("request_id"), record["request_id"].as_str().unwrap());
        assert_eq!(cell("phase"), record["phase"].as_str().unwrap_or(""));
        let of_server = record["server"]["request_received_ts"].as_f64();
        assert_eq!(cell("server_request_received_ts").parse().ok(), of_server);
        let candidates: Option<serde_json::Value> = serde_json::from_str(cell("decision_candidates")).ok();
        assert_eq!(candidates.as_ref(), record["decision"].get("candidates"));
        assert_eq!(cell("run"), "1");
    }
    let of_worker = |name: &str| header.iter().position(|h| h == name).unwrap();
    let aligned = rows.iter().filter(|row| !row[of_worker("aligned_queue_end_ns")].is_empty()).count();
    assert!(aligned >= 8, "{aligned} requests have the server's stamps on the router's clock");
}

#[test]
fn two_files_are_two_runs_and_standard_output_will_do() {
    let folder = Folder::new();
    let ended = milepost(&folder, &format!("trace export {TRACE} {TRACE} --to csv --out -"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = cells(&ended.stdout);
    let of_run = |run: &str| lines.iter().filter(|line| line.last().unwrap() == run).count();
    assert_eq!((of_run("1"), of_run("2")), (requests().len(), requests().len()));
}
