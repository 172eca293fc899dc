//! The trace file: one thread, one file, append only, mode 0600, locked against a second writer.
//!
//! Rule: a write that fails stops the capture, not the traffic: its records are counted as lost and the next write is tried
//! again. `clock` records are written at start, every ten seconds, and when the wall clock has stepped by over a
//! millisecond. Deliberately not here: rotation, compression.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use rustix::fs::{FlockOperation, flock};

use super::awaited::Awaited;
use super::json::push_json;
use super::record::{LostRecord, Record, RunRecord};
use super::sink::Sink;
use crate::buffer::Buffer;
use crate::clock::{Clock, ClockSnapshot};
use crate::log;

/// Shortest pause between two drains: what was noted lately is still in the caches.
const SHORTEST_PAUSE: Duration = Duration::from_millis(4);
/// Longest pause, and so the time in which what is noted may be lost with the process. To be woken costs as much as some
/// records do, so few records are waited for.
const LONGEST_PAUSE: Duration = Duration::from_millis(32);
/// Records of one drain, below which the next one may wait longer and above twice of which it comes sooner; of a small sink an
/// eighth.
const WORTH_WAKING_RECORDS: usize = 64;
/// Pause between two `clock` records.
const CLOCK_EVERY_NS: u64 = 10_000_000_000;
/// A change of wall minus monotonic time by more than this is a step.
const STEP_NS: u64 = 1_000_000;
/// Bytes serialised before they are written out, so that a large batch does not grow the buffer for ever.
const WRITE_AT_BYTES: usize = 256 * 1024;

/// The thread that writes.
#[derive(Debug)]
pub struct TraceWriter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

/// Why a trace cannot be written.
#[derive(Debug)]
pub enum TraceOpenError {
    /// The file cannot be opened for writing.
    Open(PathBuf, io::Error),
    /// Another router writes it.
    Locked(PathBuf),
}

impl fmt::Display for TraceOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path, error) => {
                write!(f, "--trace-log {}: cannot be written: {error}", path.display())
            }
            Self::Locked(path) => write!(
                f,
                "--trace-log {}: another process is writing it; give each router a file of its own",
                path.display()
            ),
        }
    }
}

impl std::error::Error for TraceOpenError {}

impl TraceWriter {
    /// Opens the file, writes the `run` record and starts the thread.
    pub fn start(path: &Path, run: RunRecord, sink: Arc<Sink>, clock: Clock) -> Result<Self, TraceOpenError> {
        let file = open(path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let last = run.clock;
        let whole_bytes = file.metadata().map_or(0, |m| m.len());
        let path_buf = path.to_owned();
        let mut scribe = Scribe {
            file,
            sink,
            clock,
            last,
            buffer: Buffer::default(),
            failing: false,
            path: path_buf,
            whole_bytes,
            awaited: Awaited::default(),
        };
        scribe.put(&Record::Run(run));
        scribe.write_out(0, 0);
        if scribe.failing {
            return Err(TraceOpenError::Open(path.to_owned(), io::Error::other("the first write failed")));
        }
        let stop_thread = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || scribe.work(&stop_thread))
            .map_err(|error| TraceOpenError::Open(path.to_owned(), error))?;
        Ok(Self { stop, thread: Some(thread), path: path.to_owned() })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TraceWriter {
    /// Writes what is left and closes the file.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                log::warn("the trace writer failed; the end of the trace is missing");
            }
        }
    }
}

fn open(path: &Path) -> Result<File, TraceOpenError> {
    let fail = |error| TraceOpenError::Open(path.to_owned(), error);
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(fail)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(TraceOpenError::Locked(path.to_owned())),
        Err(error) => return Err(fail(error.into())),
    }
    end_torn_line(&mut file).map_err(fail)?;
    Ok(file)
}

/// A line that a crash tore is ended, so that the next record starts on a line of its own; the reader counts it.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if !file.metadata()?.is_file() || file.metadata()?.len() == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

struct Scribe {
    file: File,
    sink: Arc<Sink>,
    clock: Clock,
    last: ClockSnapshot,
    buffer: Buffer,
    failing: bool,
    path: PathBuf,
    whole_bytes: u64,
    awaited: Awaited,
}

impl Scribe {
    fn work(mut self, stop: &AtomicBool) {
        let mut records = Vec::new();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let stopping = stop.load(Ordering::Acquire);
            let drained = self.sink.drain(&mut records);
            self.sink.count_unshadowed(self.awaited.sift(&mut records, !stopping));
            self.write_records(&mut records);
            // On a full disk this line is the one that may fit again and again.
            if !self.failing || stopping {
                self.write_lost();
            }
            self.write_clock(stopping);
            if stopping {
                return;
            }
            pause = next_pause(pause, drained, self.sink.capacity_records());
            std::thread::park_timeout(pause);
        }
    }

    fn write_records(&mut self, records: &mut Vec<Record>) {
        let (mut requests, mut calls) = (0, 0);
        for record in records.drain(..) {
            requests += u64::from(matches!(record, Record::Request(_)));
            calls += u64::from(matches!(record, Record::Journal(_)));
            self.put(&record);
            if self.buffer.len() >= WRITE_AT_BYTES {
                self.write_out(requests, calls);
                (requests, calls) = (0, 0);
            }
        }
        self.write_out(requests, calls);
    }

    fn write_lost(&mut self) {
        let lost = LostRecord { requests: self.sink.take_lost(), journal: self.sink.take_lost_calls() };
        if lost != LostRecord::default() {
            self.put(&Record::Lost(lost));
            self.write_out(0, 0);
            if self.failing {
                self.sink.tell_again(lost.requests);
                self.sink.count_lost_calls(lost.journal);
            }
        }
    }

    fn write_clock(&mut self, force: bool) {
        let now = self.clock.now();
        let stepped = offset(now.unix_ns, now.mono_ns).abs_diff(offset(self.last.unix_ns, self.last.mono_ns));
        let due = now.mono_ns.saturating_sub(self.last.mono_ns) >= CLOCK_EVERY_NS;
        // A preemption between the two reads looks like a step; the bracketed snapshot does not, so look again with it.
        if force || due || stepped > STEP_NS {
            let snapshot = self.clock.snapshot();
            let real = offset(snapshot.unix_ns, snapshot.mono_ns)
                .abs_diff(offset(self.last.unix_ns, self.last.mono_ns));
            if force || due || real > STEP_NS {
                self.last = snapshot;
                self.put(&Record::Clock(snapshot));
                self.write_out(0, 0);
            }
        }
    }

    fn put(&mut self, record: &Record) {
        let start = self.buffer.len();
        match push_json(&mut self.buffer, record) {
            Ok(()) => self.buffer.push(b"\n"),
            // No record of ours can do this; half a line must not stay if one day one does.
            Err(_) => self.buffer.truncate(start),
        }
    }

    /// Writes the buffer; on failure its `requests` and `calls` are lost, and said so once.
    fn write_out(&mut self, requests: u64, calls: u64) {
        if self.buffer.is_empty() {
            return;
        }
        match self.file.write_all(self.buffer.as_bytes()) {
            Ok(()) => {
                self.whole_bytes += self.buffer.len() as u64;
                if std::mem::take(&mut self.failing) {
                    log::warn(&format!("trace {}: writing again", self.path.display()));
                }
            }
            Err(error) => {
                self.sink.count_lost(requests);
                self.sink.count_lost_calls(calls);
                if !std::mem::replace(&mut self.failing, true) {
                    let path = self.path.display();
                    log::warn(&format!(
                        "trace {path}: {error}; records are lost (and counted) until it can be written"
                    ));
                }
                // Half a batch may be in the file: cut it off, or the next record would be glued to a torn line. A pipe or
                // a device cannot be cut; its reader counts the torn line.
                let _ = self.file.set_len(self.whole_bytes);
            }
        }
        self.buffer.clear();
    }
}

/// The pause after a drain of so many records from a sink of that capacity.
fn next_pause(pause: Duration, drained: usize, capacity_records: usize) -> Duration {
    // A small sink is full before there are as many.
    let few = WORTH_WAKING_RECORDS.min(capacity_records / 8);
    if drained == 0 || drained < few {
        (pause * 2).min(LONGEST_PAUSE)
    } else if drained > 2 * few {
        (pause / 2).max(SHORTEST_PAUSE)
    } else {
        pause
    }
}

fn offset(unix_ns: u64, mono_ns: u64) -> u64 {
    unix_ns.wrapping_sub(mono_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::record::RequestRecord;

    fn run_record(clock: &Clock) -> RunRecord {
        RunRecord {
            schema: 1,
            version: "0".to_owned(),
            pid: 1,
            boot_id: None,
            listen: "127.0.0.1:1".to_owned(),
            policy: "round_robin".to_owned(),
            split: None,
            shadow_policies: Vec::new(),
            seed: 1,
            workers: Vec::new(),
            clock: clock.snapshot(),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("milepost-writer-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir.join("trace.jsonl")
    }

    fn kinds(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let kind = |line: &str| match serde_json::from_str::<serde_json::Value>(line) {
            Ok(v) => v["kind"].as_str().unwrap().to_owned(),
            Err(_) => "torn".to_owned(),
        };
        text.lines().map(kind).collect()
    }

    #[test]
    fn every_offered_record_is_in_the_file_after_a_stop_and_lost_ones_are_counted_there() {
        let path = scratch("all");
        let _ = std::fs::remove_file(&path);
        let (clock, sink) = (Clock::system(), Arc::new(Sink::bounded(1000)));
        sink.count_lost(3);
        let writer = TraceWriter::start(&path, run_record(&clock), Arc::clone(&sink), clock).unwrap();
        (0..10).for_each(|_| sink.offer(Record::Request(Box::<RequestRecord>::default())));
        drop(writer);
        let kinds = kinds(&path);
        assert_eq!(kinds.iter().filter(|k| *k == "request").count(), 10);
        assert_eq!(kinds[0], "run");
        assert!(kinds.contains(&"lost".to_owned()) && kinds.contains(&"clock".to_owned()));
    }

    #[test]
    fn a_second_writer_is_refused_and_a_torn_tail_is_ended() {
        let path = scratch("second");
        std::fs::write(&path, "{\"kind\":\"requ").unwrap();
        let (clock, sink) = (Clock::system(), Arc::new(Sink::bounded(10)));
        let first = TraceWriter::start(&path, run_record(&clock), Arc::clone(&sink), clock.clone()).unwrap();
        let second = TraceWriter::start(&path, run_record(&clock), Arc::clone(&sink), clock);
        assert!(second.unwrap_err().to_string().contains("another process is writing it"));
        drop(first);
        assert_eq!(kinds(&path)[..2], ["torn", "run"]);
    }

    #[test]
    fn an_unwritable_path_says_so() {
        let (clock, sink) = (Clock::system(), Arc::new(Sink::bounded(10)));
        let error = TraceWriter::start(Path::new("/nonexistent/t.jsonl"), run_record(&clock), sink, clock)
            .unwrap_err();
        assert!(error.to_string().starts_with("--trace-log /nonexistent/t.jsonl: cannot be written"));
    }

    fn scribe(file: File, sink: &Arc<Sink>, clock: Clock) -> Scribe {
        Scribe {
            file,
            sink: Arc::clone(sink),
            last: clock.snapshot(),
            clock,
            buffer: Buffer::default(),
            failing: false,
            path: PathBuf::from("/dev/full"),
            whole_bytes: 0,
            awaited: Awaited::default(),
        }
    }

    #[test]
    fn a_full_disk_stops_the_capture_and_counts_what_it_cost() {
        let (clock, sink) = (Clock::system(), Arc::new(Sink::bounded(10)));
        // /dev/full answers every write with ENOSPC.
        let Ok(file) = OpenOptions::new().append(true).open("/dev/full") else {
            return;
        };
        let mut scribe = scribe(file, &sink, clock);
        let mut records = vec![Record::Request(Box::<RequestRecord>::default()); 4];
        scribe.write_records(&mut records);
        assert_eq!(sink.take_lost(), 4);
    }

    #[test]
    fn losses_that_cannot_be_told_yet_are_told_later_and_counted_once() {
        let (clock, sink) = (Clock::system(), Arc::new(Sink::bounded(10)));
        let Ok(file) = OpenOptions::new().append(true).open("/dev/full") else {
            return;
        };
        let mut scribe = scribe(file, &sink, clock);
        sink.count_lost(3);
        scribe.write_lost();
        assert_eq!((sink.lost_total(), sink.take_lost()), (3, 3));
    }

    #[test]
    fn a_small_buffer_is_emptied_as_often_as_it_fills() {
        let after = |capacity, drained: [usize; 4]| {
            drained.iter().fold(LONGEST_PAUSE, |pause, &records| next_pause(pause, records, capacity))
        };
        assert_eq!(after(65_536, [200; 4]), SHORTEST_PAUSE);
        assert_eq!(after(65_536, [100; 4]), LONGEST_PAUSE);
        for capacity in [1, 16, 100, 128] {
            assert_eq!(after(capacity, [capacity; 4]), SHORTEST_PAUSE, "{capacity}");
            assert_eq!(next_pause(SHORTEST_PAUSE, 0, capacity), 2 * SHORTEST_PAUSE);
        }
    }
}
