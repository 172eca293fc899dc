//! The rules by which the bench of the trace (`benches/trace_cost`) counts: what its books let pass, what its records are made of.
//!
//! Books that cannot disagree say nothing, so each rule is shown something that breaks it. Deliberately not here: the bench.

#[path = "../benches/trace_cost/books.rs"]
mod books;
#[path = "../benches/trace_cost/material.rs"]
mod material;
#[path = "../benches/trace_cost/options.rs"]
mod options;
#[path = "../benches/soak/ticks.rs"]
mod ticks;

use books::Books;
use material::nth;
use milepost::clock::ClockSnapshot;
use milepost::trace::prompt::PromptBlocks;
use milepost::trace::record::{CaptureRecord, LostRecord, Record, RequestRecord, RunRecord};
use milepost::wire::Endpoint;
use milepost::wire::meta_info::ServerStamps;
use options::{MAKE, Options};

const FROM: ClockSnapshot = ClockSnapshot { mono_ns: 5_000_000_000, unix_ns: 90_000_000_000, bracket_ns: 0 };

fn request(seq: u64) -> Record {
    let endpoint = Endpoint::Generate;
    Record::Request(Box::new(RequestRecord { seq, endpoint, ..RequestRecord::default() }))
}

fn file(requests_before: u64) -> Record {
    let capture = Some(CaptureRecord { requests_before, ..CaptureRecord::default() });
    Record::Run(RunRecord {
        schema: 1,
        version: String::new(),
        pid: 1,
        boot_id: None,
        listen: String::new(),
        policy: String::new(),
        split: None,
        shadow_policies: Vec::new(),
        seed: 0,
        workers: Vec::new(),
        capture,
        clock: FROM,
    })
}

fn books(records: impl IntoIterator<Item = Record>) -> Books {
    let mut books = Books::default();
    records.into_iter().for_each(|record| books.enter(&record));
    books
}

#[test]
fn books_close_over_files_with_what_was_not_captured() {
    let stopped = Record::Lost(LostRecord { stopped: 2, ..LostRecord::default() });
    let held = books([file(0), request(2), request(1), stopped, file(4), request(5)]);
    assert_eq!((held.requests(), held.accounted(), held.records), (5, 5, 3));
    assert!(held.offences(Some(3)).is_empty(), "{:?}", held.offences(Some(3)));
    assert!(held.offences(None).is_empty());
    assert_eq!(held.offences(Some(4)).len(), 1, "a client knows of one more");
}

#[test]
fn files_that_the_limit_removed_are_known_by_the_first_that_is_left() {
    let held = books([file(100), request(101), request(102)]);
    assert_eq!((held.removed, held.requests(), held.accounted()), (100, 102, 102));
    assert!(held.offences(Some(101)).is_empty(), "one of the removed may have been no generation");
    assert_eq!(held.offences(Some(103)).len(), 1);
}

#[test]
fn what_is_lost_missing_double_or_torn_is_an_offence() {
    let lost = Record::Lost(LostRecord { requests: 1, ..LostRecord::default() });
    assert_eq!(books([file(0), request(1), lost, request(3)]).offences(None).len(), 1, "lost");
    assert_eq!(books([file(0), request(1), request(3)]).offences(None).len(), 1, "not accounted for");
    assert_eq!(books([file(0), request(1), request(1), request(3)]).offences(None).len(), 1, "twice");
    assert!(!books([file(0), request(1), file(7), request(8)]).offences(None).is_empty(), "a file between");
    let mut torn = books([file(0), request(1)]);
    torn.torn_lines = 1;
    assert_eq!(torn.offences(None).len(), 1);
}

#[test]
fn records_are_made_with_times_numbers_and_prompts_of_their_own() {
    let model = RequestRecord {
        arrival_mono_ns: 1_000_000_000,
        arrival_unix_ns: 50_000_000_000,
        end_ns: 7,
        prompt_hashes: Some(PromptBlocks::Keyed([1, 2, 3, 4].as_slice().into())),
        server: ServerStamps {
            request_received_ts: Some(50.25),
            queue_time_start: Some(1.5),
            queue_time: Some(0.125),
            ..ServerStamps::default()
        },
        ..RequestRecord::default()
    };
    let models = [model.clone(), RequestRecord::default()];
    let made: Vec<RequestRecord> = (0..5).map(|n| nth(&models, n, 500_000_000, FROM)).collect();
    assert_eq!(made.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let third = &made[2];
    assert_eq!((third.arrival_mono_ns, third.arrival_unix_ns), (6_000_000_000, 91_000_000_000));
    let ServerStamps { request_received_ts, queue_time_start, queue_time, .. } = third.server;
    assert_eq!((request_received_ts, queue_time_start, queue_time), (Some(91.25), Some(6.5), Some(0.125)));
    let blocks = |record: &RequestRecord| record.prompt_hashes.as_ref().unwrap().keyed().to_vec();
    assert_eq!((blocks(&made[0]), &blocks(third)[..2]), (vec![1, 2, 3, 4], &[1, 2][..]));
    assert!(blocks(third)[2..].iter().all(|hash| ![3, 4].contains(hash)));
    let ids: std::collections::HashSet<&str> = made.iter().map(|record| record.request_id.as_str()).collect();
    assert_eq!((ids.len(), made[4].end_ns), (5, 7));
}

#[test]
fn the_command_line_is_read_and_what_is_wrong_is_said() {
    let parse = |line: &str| Options::parse(line.split_whitespace().map(str::to_owned));
    let all = parse("--bench").unwrap();
    assert_eq!((all.rounds, all.requests, all.records, all.has("sinks")), (5, 20_000, 1_000_000, true));
    let quick = parse("--quick --records 3000 --cases records").unwrap();
    assert_eq!((quick.rounds, quick.requests, quick.records), (1, 2_000, 3_000));
    assert!(quick.has("records") && !quick.has("sinks"));
    let hold = parse("--hold 60 --rate 500 --write page.md").unwrap();
    assert_eq!((hold.hold, hold.rate, hold.has("sinks")), (Some(60.0), 500.0, false));
    assert_eq!((hold.write.unwrap().to_str(), hold.quick), (Some("page.md"), false));
    for wrong in ["--hold", "--hold 0", "--records 5", "--rounds x", "--cases sinks,tea", "--fast", MAKE] {
        let (said, code) = parse(wrong).unwrap_err();
        assert!(code == 2 && said.contains("--hold MINUTES"), "{wrong}: {said}");
    }
    assert_eq!(parse("--help").unwrap_err().1, 0);
}

#[test]
fn cpu_is_user_and_system_time_whatever_the_program_is_called() {
    let stat = "7 (a b) c) Z 1 7 7 0 -1 4 10 0 0 0 250 50 9 9 20 0 3 0 99";
    assert!((ticks::cpu_s(stat) - 3.0).abs() < 1e-9);
    assert!(ticks::cpu_s("").abs() < 1e-9);
}
