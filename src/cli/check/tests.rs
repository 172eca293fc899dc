//! Tests of the check, over traces in memory.

use super::*;
use crate::trace::record::{CaptureRecord, LostRecord, Outcome, RequestRecord, RunRecord};
use crate::trace::schema::filled_records;

fn line(record: &Record) -> String {
    serde_json::to_string(record).unwrap() + "\n"
}

fn check(records: &[Record], tail: &str) -> Report {
    let text: String = records.iter().map(line).collect::<String>() + tail;
    Report::read(|| Ok(TraceReader::new(text.as_bytes()))).unwrap().unwrap()
}

fn request(seq: u64) -> Record {
    let record = RequestRecord {
        seq,
        outcome: Outcome::Done,
        last_byte_ns: Some(5),
        end_ns: 6,
        ..RequestRecord::default()
    };
    Record::Request(Box::new(record))
}

/// A file of the run `i` begins.
fn file(requests_before: u64) -> Record {
    let filled = filled_records().into_iter().find_map(|record| match record {
        Record::Run(run) => Some(run),
        _ => None,
    });
    let capture = CaptureRecord { instance: "i".to_owned(), requests_before, ..CaptureRecord::default() };
    Record::Run(RunRecord { capture: Some(capture), ..filled.expect("a run") })
}

fn count(report: &Report, name: &str) -> u64 {
    let line = report.text.lines().find_map(|l| l.trim_start().strip_prefix(name)).expect(name);
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_good_trace_has_no_fault() {
    let report = check(
        &[request(1), request(4), Record::Lost(LostRecord { requests: 1, ..LostRecord::default() })],
        "",
    );
    assert_eq!(report.faults, 0);
    assert_eq!(
        (count(&report, "requests "), count(&report, "done "), count(&report, "lost requests")),
        (2, 2, 1)
    );
    assert_eq!(count(&report, "requests without a record"), 1);
    assert!(report.text.ends_with("the trace agrees with itself\n"));
}

#[test]
fn faults_are_counted() {
    let mut early = RequestRecord { seq: 3, last_byte_ns: Some(9), end_ns: 8, ..RequestRecord::default() };
    early.server.e2e_latency = Some(1.0);
    let report = check(&[request(1), request(1), Record::Request(Box::new(early))], "{\"kind\":\"re");
    assert_eq!(
        (
            count(&report, "duplicate seq"),
            count(&report, "ended before a stamp"),
            count(&report, "torn lines")
        ),
        (1, 1, 1)
    );
    assert_eq!((report.faults, count(&report, "with server stamps")), (3, 1));
    assert!(report.text.contains("line 4: "));
}

#[test]
fn what_is_in_files_that_are_not_there_is_told_apart_from_what_is_torn() {
    // The first file of four requests was removed, and the third one of two.
    let report = check(&[file(4), request(5), file(5), request(6), file(8), request(9)], "");
    assert_eq!((report.faults, count(&report, "in other files")), (0, 6));
    assert_eq!((count(&report, "requests without a record"), report.text.contains("in torn")), (0, false));
    // The last of three lines of a file is torn, and the next one begins.
    let text = [
        line(&file(0)),
        line(&request(1)),
        line(&request(2)),
        "{\"kind\":\"requ\n".to_owned(),
        line(&file(3)),
    ];
    let text = format!("{}{}", text.concat(), line(&request(4)));
    let report = Report::read(|| Ok(TraceReader::new(text.as_bytes()))).unwrap().unwrap();
    assert_eq!((report.faults, count(&report, "in torn lines")), (1, 1), "{}", report.text);
    assert_eq!(
        (count(&report, "requests without a record"), report.text.contains("in other files")),
        (0, false)
    );
    // A file that was given twice hides nothing that is missing.
    let report =
        check(&[file(0), request(1), request(2), file(0), request(1), request(2), file(5), request(6)], "");
    assert_eq!(
        (count(&report, "duplicate seq"), count(&report, "in other files")),
        (2, 3),
        "{}",
        report.text
    );
}

#[test]
fn a_trace_that_became_another_one_between_the_passes_is_not_judged() {
    let mut stamped = RequestRecord { seq: 1, end_ns: 6, ..RequestRecord::default() };
    stamped.server.e2e_latency = Some(1.0);
    let before = [line(&file(0)), line(&Record::Request(Box::new(stamped)))].concat();
    let after = [line(&file(1)), line(&request(2))].concat();
    let opened = std::cell::Cell::new(0);
    let report = Report::read(|| {
        opened.set(opened.get() + 1);
        Ok(TraceReader::new(if opened.get() == 1 { before.as_bytes() } else { after.as_bytes() }))
    });
    assert!(report.unwrap().is_none());
}
