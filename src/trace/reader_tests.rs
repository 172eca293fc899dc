//! Tests of the trace reader.

use std::io::BufReader;

use proptest::prelude::*;

use super::*;
use crate::clock::ClockSnapshot;
use crate::trace::example::{run_record, simulated_worker};
use crate::trace::record::{CaptureRecord, LostRecord};

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap() + "\n"
}

fn run(schema: u32) -> String {
    let clock = ClockSnapshot { mono_ns: 5, unix_ns: 50, bracket_ns: 1 };
    line(&Record::Run(RunRecord { schema, ..run_record(clock) }))
}

fn request(seq: u64) -> String {
    line(&Record::Request(Box::new(RequestRecord { seq, ..RequestRecord::default() })))
}

fn read(text: impl AsRef<[u8]>) -> Result<TraceFile, ReadError> {
    // A small buffer, so that lines span several reads.
    TraceFile::collect(TraceReader::new(BufReader::with_capacity(7, text.as_ref())))
}

fn seqs(file: &TraceFile) -> Vec<Vec<u64>> {
    file.runs.iter().map(|r| r.requests.iter().map(|q| q.seq).collect()).collect()
}

#[test]
fn every_kind_comes_back_in_its_run() {
    let clock = Record::Clock(ClockSnapshot { mono_ns: 9, unix_ns: 90, bracket_ns: 1 }.into());
    let lost = Record::Lost(LostRecord { requests: 3, ..LostRecord::default() });
    let connection = Record::Connection(ConnectionRecord {
        end_mono_ns: 1,
        client: None,
        requests: 0,
        error: "slow".into(),
    });
    let worker = Record::Worker(simulated_worker("http://w"));
    let text = [
        run(SCHEMA),
        request(1),
        line(&clock),
        line(&lost),
        line(&lost),
        line(&connection),
        line(&worker),
        run(SCHEMA),
        request(1),
    ]
    .concat();
    let file = read(text).unwrap();
    assert_eq!(seqs(&file), [[1], [1]]);
    let first = &file.runs[0];
    assert_eq!(
        (first.clock_records, first.missing.requests, first.connections.len(), first.workers.len()),
        (1, 6, 1, 1)
    );
    assert_eq!((file.torn_lines, file.runs[1].run.as_ref().unwrap().pid), (0, 7));
    assert_eq!(first.clocks.place_unix(90, 9).unwrap().mono_ns, 9);
}

#[test]
fn torn_lines_are_counted_and_the_rest_is_kept() {
    let whole = [run(SCHEMA), request(1), request(2)].concat();
    let file = read(&whole[..whole.len() - 10]).unwrap();
    assert_eq!((seqs(&file), file.torn_lines), (vec![vec![1]], 1));
    assert_eq!(file.bad_lines[0].line, 3);
    let appended = [&whole[..whole.len() - 10], &run(SCHEMA), &request(9)].concat();
    let file = read(appended).unwrap();
    assert_eq!((seqs(&file), file.torn_lines), (vec![vec![1], vec![9]], 1));
    let middle = [run(SCHEMA), "{\"kind\":\"requ\n".into(), "\n".into(), request(4)].concat();
    assert_eq!((read(&middle).unwrap().torn_lines, seqs(&read(&middle).unwrap())), (1, vec![vec![4]]));
    assert_eq!(read(request(2)).unwrap().runs[0].run, None);
    assert!(read("").unwrap().runs.is_empty());
    assert_eq!(seqs(&read(request(3).trim_end()).unwrap()), [[3]]);
}

#[test]
fn a_line_over_the_limit_is_stepped_over() {
    let text = [run(SCHEMA), "x".repeat(MAX_LINE_BYTES + 1), "\n".into(), request(1)].concat();
    let file = TraceFile::collect(TraceReader::new(text.as_bytes())).unwrap();
    assert_eq!((seqs(&file), file.torn_lines), (vec![vec![1]], 1));
}

#[test]
fn a_newer_schema_and_a_strange_file_are_refused() {
    let newer = read([run(SCHEMA), request(1), run(SCHEMA + 1)].concat()).unwrap_err();
    assert!(matches!(newer, ReadError::NewerSchema { line: 3, found } if found == SCHEMA + 1));
    assert!(newer.to_string().contains("line 3"));
    assert!(matches!(read("a,b\n1,2\n"), Err(ReadError::NotATrace { lines: 2 })));
    assert!(matches!(read("x\n".repeat(5000)), Err(ReadError::NotATrace { lines: 1000 })));
    let missing = TraceFile::read(Path::new("no/such/trace.ndjson")).unwrap_err();
    assert!(missing.to_string().starts_with("no/such/trace.ndjson: "));
}

proptest! {
    #[test]
    fn never_panics_and_never_loses_what_stands_on_its_own_line(junk in prop::collection::vec(any::<u8>(), 0..200)) {
        let junk: Vec<u8> = junk.into_iter().filter(|&b| b != b'\n').collect();
        let text = [run(SCHEMA).as_bytes(), &junk, b"\n", request(5).as_bytes()].concat();
        prop_assert_eq!(seqs(&read(text).unwrap()), vec![vec![5]]);
    }
}

#[test]
fn a_packed_file_that_is_torn_is_read_as_far_as_it_goes_and_the_next_file_after_it() {
    let folder = std::env::temp_dir().join(format!("milepost-reader-{}-torn", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let lines: String = std::iter::once(run(SCHEMA)).chain((1..=5_000).map(request)).collect();
    let packed = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    std::fs::write(folder.join("t.000001.jsonl.zst"), &packed[..packed.len() / 2]).unwrap();
    std::fs::write(folder.join("t.jsonl"), request(5_001)).unwrap();
    let file = TraceFile::read(&folder).unwrap();
    let seqs: Vec<u64> = file.runs[0].requests.iter().map(|r| r.seq).collect();
    assert!(seqs.len() > 100 && seqs.last() == Some(&5_001), "{}", seqs.len());
    // The line that was cut, if it was cut in one, and the end that is missing.
    assert!((1..=2).contains(&file.torn_lines), "{:?}", file.bad_lines);
    let told = file.bad_lines.last().unwrap().to_string();
    assert!(told.contains("t.000001.jsonl.zst: line ") && told.contains("packed file is torn"), "{told}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn captures_of_a_folder_are_read_as_they_were_begun_and_those_of_one_run_together() {
    let folder = std::env::temp_dir().join(format!("milepost-reader-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let capture = |name: &str, instance: &str, unix_ns: u64, requests_before: u64, seq: u64| {
        let Record::Run(mut run) = serde_json::from_str(&run(SCHEMA)).unwrap() else { unreachable!() };
        let instance = instance.to_owned();
        run.capture = Some(CaptureRecord { instance, part: 1, requests_before, ..CaptureRecord::default() });
        run.clock.unix_ns = unix_ns;
        std::fs::write(folder.join(name), [line(&Record::Run(run)), request(seq)].concat()).unwrap();
    };
    capture("afternoon.jsonl", "a", 30, 1, 2);
    capture("morning.jsonl", "a", 10, 0, 1);
    capture("noon.jsonl", "b", 20, 0, 7);
    let file = TraceFile::read(&folder).unwrap();
    assert_eq!(seqs(&file), [vec![1, 2], vec![7]]);
    assert_eq!(file.runs.iter().map(|run| run.elsewhere).collect::<Vec<_>>(), [0, 0]);
    std::fs::remove_dir_all(&folder).unwrap();
}
