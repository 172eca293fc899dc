//! A trace as rows: where its zero is, what a sample is, and which lines are of one run.

use std::path::PathBuf;

use super::*;
use crate::clock::ClockSnapshot;
use crate::report::gather::{Gathered, Gathering};
use crate::trace::example::{run_record, simulated_worker};
use crate::trace::header::CaptureRecord;
use crate::trace::record::Outcome;

const UNIX_NS: u64 = 1_790_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn run(part: u64, instance: &str) -> Record {
    let capture = CaptureRecord {
        instance: instance.to_owned(),
        part,
        requests_before: 0,
        sample_share: None,
        slowest_per_minute: None,
        prompt: None,
        prompt_block_bytes: None,
        prompt_key_id: None,
    };
    let clock = ClockSnapshot { mono_ns: 0, unix_ns: UNIX_NS, bracket_ns: 1 };
    Record::Run(RunRecord { capture: Some(capture), ..run_record(clock) })
}

fn request(arrival_s: u64, took_s: u64) -> RequestRecord {
    RequestRecord {
        request_id: format!("r{arrival_s}"),
        outcome: Outcome::Done,
        endpoint: crate::wire::Endpoint::Generate,
        worker: Some("http://w:1".into()),
        arrival_mono_ns: arrival_s * SECOND,
        arrival_unix_ns: UNIX_NS + arrival_s * SECOND,
        last_byte_ns: Some(took_s * SECOND),
        end_ns: took_s * SECOND,
        ..RequestRecord::default()
    }
}

fn of(request: RequestRecord) -> Record {
    Record::Request(Box::new(request))
}

fn read(name: &str, records: &[Record]) -> (Vec<Row>, Facts, Gathered) {
    let path: PathBuf = std::env::temp_dir().join(format!("milepost-rows-{}-{name}", std::process::id()));
    let lines: Vec<String> = records.iter().map(|r| serde_json::to_string(r).unwrap() + "\n").collect();
    std::fs::write(&path, lines.concat()).unwrap();
    let (mut all, mut gathering) = (Vec::new(), Gathering::exact(Side::Router));
    let facts = rows(&path, &mut |_, row| {
        gathering.add(row);
        all.push(row.clone());
    });
    std::fs::remove_file(&path).unwrap();
    (all, facts.unwrap(), gathering.gathered())
}

#[test]
fn a_trace_begins_with_its_first_arrival_and_not_with_its_first_line() {
    let warm_up = RequestRecord { phase: Some("warmup".into()), ..request(5, 1) };
    // The longest is written last, and came first.
    let records = [run(1, "a"), of(warm_up), of(request(103, 1)), of(request(106, 2)), of(request(100, 5))];
    let (rows, facts, gathered) = read("zero", &records);
    let arrivals: Vec<_> = rows.iter().map(|row| row.arrival_ns.unwrap() / 1_000_000_000).collect();
    assert_eq!(arrivals, [3, 6, 0]);
    assert!((gathered.metrics.duration_s - 8.0).abs() < 1e-9, "{}", gathered.metrics.duration_s);
    assert!(facts.notes.iter().any(|n| n.contains("warm-up, left out: 1")), "{:?}", facts.notes);
}

#[test]
fn what_was_kept_for_what_it_is_is_no_part_of_the_sample() {
    let failed =
        RequestRecord { outcome: Outcome::Unreachable, kept_for: Some("error".into()), ..request(2, 1) };
    let missing = LostRecord { sampled: 97, stopped: 4, requests: 2, ..LostRecord::default() };
    let records = [run(1, "a"), of(request(1, 1)), of(failed), Record::Lost(missing)];
    let (rows, facts, gathered) = read("sample", &records);
    assert_eq!((rows.len(), gathered.metrics.completed), (1, 1));
    let told = facts.notes.join("\n");
    assert!(told.contains("97 requests have no record; 1 have one for having failed"), "{told}");
    assert!(told.contains("capture was stopped: 4") && told.contains("their records: 2"), "{told}");
}

#[test]
fn a_capture_that_was_stopped_and_started_is_still_one_run() {
    let worker = Record::Worker(simulated_worker("http://w:1"));
    let records = [run(1, "a"), worker, of(request(1, 1)), run(2, "a"), of(request(3, 1)), run(1, "b")];
    let (rows, ..) = read("stopped", &[&records[..], &[of(request(7, 1))]].concat());
    let simulated: Vec<_> = rows.iter().map(|row| row.simulated).collect();
    assert_eq!(simulated, [Some(true), Some(true), None]);
}
