//! Tests of the writer as a whole: what is in the file after a stop, after a rotation, after a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::trace::capture::{CaptureError, Command, Status};
use crate::trace::example;
use crate::trace::parts::{part_path, parts_of};
use crate::trace::reader::TraceFile;
use crate::trace::record::{CaptureRecord, LostRecord, Outcome, Record, RequestRecord};

pub fn run_record(clock: &Clock) -> RunRecord {
    let capture = CaptureRecord { instance: "i".to_owned(), ..CaptureRecord::default() };
    RunRecord { capture: Some(capture), ..example::run_record(clock.snapshot()) }
}

pub fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("milepost-writer-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join("trace.jsonl")
}

struct Stage {
    sink: Arc<Sink>,
    writer: Option<TraceWriter>,
    seq: u64,
}

impl Stage {
    fn start(log: Option<&Path>, config: CaptureConfig) -> Self {
        let sink = Arc::new(Sink::bounded(1000));
        let writer = start(log, config, &sink).unwrap();
        Self { sink, writer: Some(writer), seq: 0 }
    }

    fn requests(&mut self, count: u64) {
        for _ in 0..count {
            self.seq += 1;
            let record = RequestRecord { seq: self.seq, ..RequestRecord::default() };
            self.sink.offer(Record::Request(Box::new(record)));
        }
    }

    fn ask(&self, command: Command) -> Result<Status, CaptureError> {
        self.writer.as_ref().unwrap().capture().ask(command)
    }

    fn end(&mut self) {
        self.writer = None;
    }
}

fn start(log: Option<&Path>, config: CaptureConfig, sink: &Arc<Sink>) -> Result<TraceWriter, TraceOpenError> {
    let clock = Clock::system();
    TraceWriter::start(log, config, run_record(&clock), Arc::clone(sink), clock, Vec::new())
}

fn within(folder: &Path) -> CaptureConfig {
    CaptureConfig { folder: Some(folder.to_owned()), ..CaptureConfig::default() }
}

/// Rotated files stay as they are.
fn plain() -> CaptureConfig {
    CaptureConfig { packs: false, ..CaptureConfig::default() }
}

fn kinds(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let kind = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
        Ok(v) => v["kind"].as_str().unwrap().to_owned(),
        Err(_) => "torn".to_owned(),
    };
    text.lines().map(kind).collect()
}

fn seqs(path: &Path) -> Vec<u64> {
    let file = TraceFile::read(path).unwrap();
    file.runs.iter().flat_map(|run| run.requests.iter().map(|r| r.seq)).collect()
}

#[test]
fn every_offered_record_is_in_the_file_after_a_stop_and_lost_ones_are_counted_there() {
    let path = scratch("all");
    let mut stage = Stage::start(Some(&path), CaptureConfig::default());
    stage.sink.count_lost(&LostRecord { requests: 3, ..LostRecord::default() });
    stage.requests(10);
    stage.end();
    let kinds = kinds(&path);
    assert_eq!(kinds.iter().filter(|k| *k == "request").count(), 10);
    assert_eq!(kinds[0], "run");
    assert!(kinds.contains(&"lost".to_owned()) && kinds.contains(&"clock".to_owned()));
}

#[test]
fn a_second_writer_is_refused_and_a_torn_tail_is_ended() {
    let path = scratch("second");
    std::fs::write(&path, "{\"kind\":\"requ").unwrap();
    let mut first = Stage::start(Some(&path), CaptureConfig::default());
    let second = start(Some(&path), CaptureConfig::default(), &Arc::new(Sink::bounded(1)));
    assert!(second.unwrap_err().to_string().contains("another process is writing it"));
    first.end();
    assert_eq!(kinds(&path)[..2], ["torn", "run"]);
}

#[test]
fn an_unwritable_path_says_so() {
    let refused = |log, config| start(log, config, &Arc::new(Sink::bounded(1))).unwrap_err().to_string();
    let error = refused(Some(Path::new("/nonexistent/t.jsonl")), CaptureConfig::default());
    assert!(error.starts_with("/nonexistent/t.jsonl: cannot be written"), "{error}");
    assert!(error.ends_with("make it first: mkdir -p /nonexistent"), "{error}");
    let error = refused(None, within(Path::new("/nonexistent")));
    assert_eq!(error, "/nonexistent: there is no such folder; make it first: mkdir -p /nonexistent");
    assert_eq!(refused(None, within(Path::new("/dev/null"))), "/dev/null: is no folder");
    // Nobody can make these, so nobody is told to.
    let error = refused(None, within(Path::new("/dev/null/x")));
    assert!(error.starts_with("/dev/null/x: cannot be looked at: "), "{error}");
    let error = refused(Some(Path::new("/dev/null/x/t.jsonl")), CaptureConfig::default());
    assert!(
        error.starts_with("/dev/null/x/t.jsonl: cannot be written") && !error.contains("mkdir"),
        "{error}"
    );
}

#[test]
fn rotation_leaves_numbered_files_that_are_one_run_when_read_in_order() {
    let path = scratch("rotate");
    let mut stage = Stage::start(Some(&path), plain());
    for expected in 2..=3 {
        stage.requests(2);
        let status = stage.ask(Command::Rotate).unwrap();
        assert_eq!((status.part, status.requests), (Some(expected), 2 * (expected - 1)));
    }
    stage.requests(1);
    stage.end();
    assert_eq!(
        (seqs(&part_path(&path, 1)), seqs(&part_path(&path, 2)), seqs(&path)),
        (vec![1, 2], vec![3, 4], vec![5])
    );
    let whole: String = [part_path(&path, 1), part_path(&path, 2), path.clone()]
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let read = TraceFile::collect(crate::trace::reader::TraceReader::new(whole.as_bytes())).unwrap();
    assert_eq!((read.runs.len(), read.runs[0].requests.len(), read.runs[0].elsewhere), (1, 5, 0));
    // The last file alone knows how many came before it; the next router goes on with the number.
    assert_eq!(TraceFile::read(&path).unwrap().runs[0].elsewhere, 4);
    let next = Stage::start(Some(&path), plain());
    assert_eq!(next.ask(Command::Status).unwrap().part, Some(3));
}

#[test]
fn a_file_that_is_in_the_way_of_a_rotation_is_left_alone() {
    let path = scratch("way");
    let mut stage = Stage::start(Some(&path), plain());
    stage.requests(1);
    std::fs::write(part_path(&path, 1), "mine").unwrap();
    let refused = stage.ask(Command::Rotate).unwrap_err();
    assert!(matches!(refused, CaptureError::Failed(_)), "{refused}");
    stage.requests(1);
    stage.end();
    assert_eq!(
        (std::fs::read_to_string(part_path(&path, 1)).unwrap(), seqs(&path)),
        ("mine".into(), vec![1, 2])
    );
}

#[test]
fn a_capture_that_is_stopped_and_started_counts_what_came_meanwhile() {
    let path = scratch("stop");
    let mut stage = Stage::start(Some(&path), CaptureConfig::default());
    stage.requests(2);
    assert_eq!(
        stage.ask(Command::Start(None)).unwrap_err(),
        CaptureError::Running(path.display().to_string())
    );
    let stopped = stage.ask(Command::Stop).unwrap();
    assert_eq!((stopped.state, stopped.requests, stopped.since_unix_ns), ("stopped", 2, None));
    assert_eq!(stage.ask(Command::Stop).unwrap().state, "stopped");
    assert_eq!(stage.ask(Command::Rotate), Err(CaptureError::Stopped));
    assert_eq!(stage.ask(Command::Mark("x".into())), Err(CaptureError::Stopped));
    stage.requests(3);
    assert_eq!(stage.ask(Command::Start(None)).unwrap().lost.stopped, 3);
    stage.requests(1);
    stage.ask(Command::Mark(" here ".into())).unwrap();
    stage.end();
    let file = TraceFile::read(&path).unwrap();
    let [run] = &file.runs[..] else { panic!("one run, {}", file.runs.len()) };
    let seqs: Vec<u64> = run.requests.iter().map(|r| r.seq).collect();
    assert_eq!((seqs, run.missing.stopped, run.elsewhere, run.marks.len()), (vec![1, 2, 6], 3, 0, 1));
    assert_eq!(run.marks[0].label, "here");
}

#[test]
fn a_capture_is_started_by_name_in_its_folder_and_in_no_file_that_is_there() {
    let path = scratch("named");
    let folder = path.parent().unwrap().to_owned();
    let mut stage = Stage::start(None, within(&folder));
    stage.requests(1);
    assert_eq!(stage.ask(Command::Start(None)), Err(CaptureError::NoName));
    assert_eq!(stage.ask(Command::Start(Some("../x".into()))), Err(CaptureError::Name));
    std::os::unix::fs::symlink("/dev/null", folder.join("link.jsonl")).unwrap();
    let linked = stage.ask(Command::Start(Some("link".into())));
    assert!(matches!(linked, Err(CaptureError::Exists(_))), "{linked:?}");
    let begun = stage.ask(Command::Start(Some("friday".into()))).unwrap();
    assert_eq!(begun.file, Some(folder.join("friday.jsonl").display().to_string()));
    stage.requests(2);
    stage.ask(Command::Stop).unwrap();
    let again = stage.ask(Command::Start(Some("friday".into())));
    assert!(matches!(again, Err(CaptureError::Exists(_))), "{again:?}");
    stage.ask(Command::Start(None)).unwrap();
    stage.end();
    assert_eq!(seqs(&folder.join("friday.jsonl")), [2, 3]);
    let without = Stage::start(Some(&path), CaptureConfig::default());
    without.ask(Command::Stop).unwrap();
    assert_eq!(without.ask(Command::Start(Some("x".into()))), Err(CaptureError::NoFolder));
}

#[derive(Debug)]
struct Counting(Arc<std::sync::Mutex<Vec<usize>>>);

impl Follower for Counting {
    fn offer(&mut self, batch: &[Record]) {
        self.0.lock().unwrap().push(batch.len());
    }
}

#[test]
fn a_follower_sees_what_is_written_in_bounded_batches() {
    let path = scratch("follower");
    let (clock, sink) = (Clock::system(), Arc::new(Sink::bounded(10_000)));
    (0..1_000).for_each(|_| sink.offer(Record::Request(Box::default())));
    let seen = Arc::default();
    let follower: Box<dyn Follower> = Box::new(Counting(Arc::clone(&seen)));
    let run = run_record(&clock);
    drop(
        TraceWriter::start(Some(&path), CaptureConfig::default(), run, sink, clock, vec![follower]).unwrap(),
    );
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().sum::<usize>(), 1_000);
    assert!(seen.iter().all(|batch| *batch <= crate::trace::outlet::MAX_BATCH_RECORDS), "{seen:?}");
}

#[test]
fn files_are_rotated_by_their_size_packed_and_limited_and_the_folder_is_read_as_one() {
    let path = scratch("size");
    let config = CaptureConfig {
        rotate_bytes: Some(20_000),
        max_bytes: Some(100_000_000),
        ..CaptureConfig::default()
    };
    let mut stage = Stage::start(Some(&path), config);
    while stage.ask(Command::Status).unwrap().part < Some(4) {
        stage.requests(50);
    }
    stage.end();
    let seqs = seqs(path.parent().unwrap());
    assert_eq!(seqs, (1..=stage.seq).collect::<Vec<_>>());
    let file = TraceFile::read(path.parent().unwrap()).unwrap();
    assert_eq!((file.runs.len(), file.runs[0].elsewhere, file.torn_lines), (1, 0, 0));
    // Whatever was not packed yet is by the next router, which begins with a look.
    let next = Stage::start(Some(&path), CaptureConfig::default());
    while parts_of(&path).unwrap().iter().any(|part| !part.is_packed) {
        std::thread::yield_now();
    }
    drop(next);
    assert!(parts_of(&path).unwrap().len() >= 3);
    // A limit that is smaller than what is there takes the oldest.
    let small = CaptureConfig { max_bytes: Some(1), ..CaptureConfig::default() };
    let last = Stage::start(Some(&path), small);
    while !parts_of(&path).unwrap().is_empty() {
        std::thread::yield_now();
    }
    drop(last);
    assert!(path.exists());
}

#[test]
fn an_old_file_is_rotated_whatever_its_size() {
    let path = scratch("age");
    let config =
        CaptureConfig { rotate_after: Some(Duration::ZERO), packs: false, ..CaptureConfig::default() };
    let stage = Stage::start(Some(&path), config);
    while stage.ask(Command::Status).unwrap().part < Some(3) {}
    assert!(part_path(&path, 1).exists());
}

#[test]
fn of_a_sample_the_rest_is_counted_and_those_that_failed_are_there() {
    let path = scratch("sample");
    let sampling = Sampling { share: 0.25, slowest_per_minute: 1 };
    let mut stage = Stage::start(Some(&path), CaptureConfig { sampling, ..CaptureConfig::default() });
    for seq in 1..=1_000_u64 {
        let outcome = if seq % 100 == 0 { Outcome::WorkerReset } else { Outcome::Done };
        let request_id = format!("id-{seq}");
        let record = RequestRecord { seq, request_id, outcome, ..RequestRecord::default() };
        stage.sink.offer(Record::Request(Box::new(record)));
    }
    stage.end();
    let file = TraceFile::read(&path).unwrap();
    let run = &file.runs[0];
    let in_share = run.requests.iter().filter(|r| r.kept_for.is_none()).count();
    let failed = run.requests.iter().filter(|r| r.outcome == Outcome::WorkerReset).count();
    assert_eq!((failed, run.accounted()), (10, 1_000));
    assert!((200..300).contains(&in_share) && run.missing.sampled > 650, "{in_share} {:?}", run.missing);
    let header = run.run.as_ref().unwrap().capture.as_ref().unwrap();
    assert_eq!((header.sample_share, header.slowest_per_minute), (Some(0.25), Some(1)));
}

#[test]
fn a_pipe_that_nobody_reads_does_not_hold_up_the_end() {
    let path = scratch("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    if !made.is_ok_and(|made| made.success()) {
        return;
    }
    let mut stage = Stage::start(Some(&path), CaptureConfig::default());
    // More than a pipe holds.
    stage.requests(1000);
    stage.end();
    assert!(has_reader(&path) && !has_reader(&path.with_file_name("plain")));
}
