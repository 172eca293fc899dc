//! What the writer's thread does: takes records from the sink, writes them, does what it is asked.
//!
//! Rule: a write that fails stops the capture, not the traffic: its records are counted as lost and the next write is tried
//! again. `clock` records are written at start, every ten seconds, and when the wall clock has stepped by over a
//! millisecond. Deliberately not here: files ([`super::live`]), who asks ([`super::capture`]).

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::awaited::Awaited;
use super::capture::{CaptureError, Command, Desk, Order, Place, Status, file_name, label};
use super::json::push_json;
use super::live::LiveFile;
use super::outlet::{Follower, MAX_BATCH_RECORDS, Outlet};
use super::record::{CaptureRecord, LostRecord, MarkRecord, Record, RunRecord};
use super::sink::Sink;
use super::writer::{CaptureConfig, TraceOpenError, is_stdout};
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

/// See the module.
pub(super) struct Scribe {
    config: CaptureConfig,
    run: RunRecord,
    sink: Arc<Sink>,
    clock: Clock,
    desk: Desk,
    pub(super) followers: Vec<Box<dyn Follower>>,
    outlet: Option<Outlet>,
    /// The file that a start without a name goes on in.
    path: Option<PathBuf>,
    last: ClockSnapshot,
    buffer: Buffer,
    /// What is in the buffer.
    buffered: LostRecord,
    awaited: Awaited,
    since_unix_ns: u64,
    /// The file has its first lines.
    is_headed: bool,
    error: Option<String>,
    requests: u64,
    bytes: u64,
    lost: LostRecord,
}

impl Scribe {
    pub(super) fn new(
        path: Option<&Path>,
        config: CaptureConfig,
        run: RunRecord,
        sink: Arc<Sink>,
        clock: Clock,
        desk: Desk,
    ) -> Self {
        Self {
            path: path.map(Path::to_owned),
            last: run.clock,
            config,
            run,
            sink,
            clock,
            desk,
            followers: Vec::new(),
            outlet: None,
            buffer: Buffer::default(),
            buffered: LostRecord::default(),
            awaited: Awaited::default(),
            since_unix_ns: 0,
            is_headed: false,
            error: None,
            requests: 0,
            bytes: 0,
            lost: LostRecord::default(),
        }
    }

    /// Opens what is written from the start, if anything is.
    pub(super) fn begin(&mut self) -> Result<(), TraceOpenError> {
        let Some(path) = self.path.clone() else {
            self.sink.set_taking(false);
            return Ok(());
        };
        let outlet = if is_stdout(&path) { Outlet::Stdout } else { Outlet::File(LiveFile::open(&path)?) };
        self.enter(outlet);
        match self.error.take() {
            Some(error) => Err(TraceOpenError::Open(path, io::Error::other(error))),
            None => Ok(()),
        }
    }

    /// Goes round until `stop`.
    pub(super) fn work(mut self, stop: &AtomicBool) {
        let mut records = Vec::new();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let stopping = stop.load(Ordering::Acquire);
            while let Ok(order) = self.desk.orders.try_recv() {
                self.obey(order, &mut records);
            }
            let drained = self.round(&mut records, stopping);
            if stopping {
                return;
            }
            pause = next_pause(pause, drained, self.sink.capacity_records());
            std::thread::park_timeout(pause);
        }
    }

    /// Writes what there is; to the last if it is the last time.
    fn round(&mut self, records: &mut Vec<Record>, is_last: bool) -> usize {
        let drained = self.sink.drain(records);
        self.sink.count_unshadowed(self.awaited.sift(records, !is_last));
        if self.outlet.is_none() {
            // What came while it was being stopped.
            records.clear();
            return drained;
        }
        if !self.is_headed {
            self.begin_file();
        }
        self.write_records(records);
        // On a full disk this line is the one that may fit again and again.
        if self.error.is_none() || is_last {
            self.write_lost();
        }
        self.write_clock(is_last);
        drained
    }

    fn obey(&mut self, order: Order, records: &mut Vec<Record>) {
        let done = match order.command {
            Command::Start(name) => self.start(name),
            Command::Stop => {
                self.stop(records);
                Ok(())
            }
            Command::Rotate => self.rotate(records),
            Command::Mark(text) => self.mark(&text, records),
            Command::Status => Ok(()),
        };
        // Whoever asked may have gone.
        let _ = order.answer.try_send(done.map(|()| self.status()));
    }

    fn start(&mut self, name: Option<String>) -> Result<(), CaptureError> {
        if self.outlet.is_some() {
            return Err(CaptureError::Running(self.shown_path().unwrap_or_default()));
        }
        let failed = |error: TraceOpenError| CaptureError::Failed(error.to_string());
        let outlet = match name {
            Some(name) => {
                let folder = self.config.folder.as_ref().ok_or(CaptureError::NoFolder)?;
                let path = folder.join(file_name(&name)?);
                let live = LiveFile::create(&path).map_err(|error| match error {
                    TraceOpenError::Open(path, error) if error.kind() == ErrorKind::AlreadyExists => {
                        CaptureError::Exists(path.display().to_string())
                    }
                    other => failed(other),
                })?;
                self.path = Some(path);
                Outlet::File(live)
            }
            None => match self.path.as_ref().ok_or(CaptureError::NoName)? {
                path if is_stdout(path) => Outlet::Stdout,
                path => Outlet::File(LiveFile::open(path).map_err(failed)?),
            },
        };
        self.enter(outlet);
        log::info(&format!("trace: capturing to {}", self.shown_path().unwrap_or_default()));
        Ok(())
    }

    /// Begins to write there.
    fn enter(&mut self, outlet: Outlet) {
        self.outlet = Some(outlet);
        self.since_unix_ns = self.clock.now().unix_ns;
        self.begin_file();
        self.sink.set_taking(true);
        self.write_lost();
    }

    fn stop(&mut self, records: &mut Vec<Record>) {
        if self.outlet.is_none() {
            return;
        }
        self.sink.set_taking(false);
        self.round(records, true);
        if let Some(path) = self.shown_path() {
            log::info(&format!("trace: stopped capturing to {path}"));
        }
        // The lock goes with it.
        self.outlet = None;
        self.error = None;
    }

    fn rotate(&mut self, records: &mut Vec<Record>) -> Result<(), CaptureError> {
        match &self.outlet {
            None => return Err(CaptureError::Stopped),
            Some(Outlet::Stdout) => return Err(CaptureError::NoFile),
            Some(Outlet::File(_)) => {}
        }
        self.round(records, false);
        self.turn_over().map_err(|error| CaptureError::Failed(error.to_string()))
    }

    /// Ends this file and begins the next.
    fn turn_over(&mut self) -> io::Result<()> {
        let Some(Outlet::File(live)) = &mut self.outlet else { return Ok(()) };
        live.rotate()?;
        self.begin_file();
        Ok(())
    }

    fn mark(&mut self, text: &str, records: &mut Vec<Record>) -> Result<(), CaptureError> {
        let label = label(text)?;
        if self.outlet.is_none() {
            return Err(CaptureError::Stopped);
        }
        // What ended before it comes before it.
        self.round(records, false);
        let now = self.clock.now();
        self.put(&Record::Mark(MarkRecord { mono_ns: now.mono_ns, unix_ns: now.unix_ns, label }));
        self.write_out();
        match &self.error {
            Some(error) => Err(CaptureError::Failed(error.clone())),
            None => Ok(()),
        }
    }

    fn status(&self) -> Status {
        let file = self.outlet.as_ref().and_then(Outlet::file);
        let mut lost = self.lost;
        lost.add(&self.sink.lost());
        Status {
            state: match (&self.outlet, &self.error) {
                (None, _) => "stopped",
                (Some(_), Some(_)) => "failing",
                (Some(_), None) => "capturing",
            },
            sink: self.outlet.as_ref().map(Outlet::name),
            file: self.shown_path(),
            part: file.map(LiveFile::number),
            part_bytes: file.map(LiveFile::bytes),
            since_unix_ns: self.outlet.is_some().then_some(self.since_unix_ns),
            requests: self.requests,
            bytes: self.bytes,
            lost,
            error: self.error.clone(),
        }
    }

    fn shown_path(&self) -> Option<String> {
        self.path.as_ref().filter(|path| !is_stdout(path)).map(|path| path.display().to_string())
    }

    /// The first lines of every file.
    fn begin_file(&mut self) {
        let file = self.outlet.as_ref().and_then(Outlet::file);
        let place = file.map(|live| Place { path: live.path().to_owned(), part: live.number() });
        let part = place.as_ref().map_or(1, |place| place.part);
        *self.desk.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        let instance = self.run.capture.as_ref().map(|capture| capture.instance.clone()).unwrap_or_default();
        let requests_before = self.requests + self.lost.all_requests();
        self.run.capture = Some(CaptureRecord { instance, part, requests_before });
        self.run.clock = self.clock.snapshot();
        self.last = self.run.clock;
        self.put(&Record::Run(self.run.clone()));
        self.write_out();
        self.is_headed = self.error.is_none();
    }

    fn write_records(&mut self, records: &mut Vec<Record>) {
        if !self.followers.is_empty() {
            for batch in records.chunks(MAX_BATCH_RECORDS) {
                self.followers.iter_mut().for_each(|follower| follower.offer(batch));
            }
        }
        for record in records.drain(..) {
            self.put(&record);
            if self.buffer.len() >= WRITE_AT_BYTES {
                self.write_out();
            }
        }
        self.write_out();
    }

    fn write_lost(&mut self) {
        let lost = self.sink.take_lost();
        if lost != LostRecord::default() {
            self.put(&Record::Lost(lost));
            self.write_out();
            if self.error.is_some() {
                self.sink.tell_again(&lost);
            } else {
                self.lost.add(&lost);
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
                self.write_out();
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
        match record {
            Record::Request(_) => self.buffered.requests += 1,
            Record::Journal(_) => self.buffered.journal += 1,
            Record::Connection(_) | Record::Worker(_) => self.buffered.others += 1,
            // The writer's own: told again, or nothing that was offered.
            Record::Run(_) | Record::Clock(_) | Record::Mark(_) | Record::Lost(_) => {}
        }
    }

    /// Writes the buffer; on failure what is in it is lost, and said so once.
    fn write_out(&mut self) {
        let Some(outlet) = self.outlet.as_mut().filter(|_| !self.buffer.is_empty()) else {
            return;
        };
        let buffered = std::mem::take(&mut self.buffered);
        match outlet.write(self.buffer.as_bytes()) {
            Ok(()) => {
                self.requests += buffered.requests;
                self.bytes += self.buffer.len() as u64;
                if self.error.take().is_some() {
                    log::warn(&format!("trace {}: writing again", self.shown_path().unwrap_or_default()));
                }
            }
            Err(error) => {
                self.sink.count_lost(&buffered);
                // Who begins a file is told by its answer.
                if self.error.is_none() && self.is_headed {
                    log::warn(&format!(
                        "trace {}: {error}; records are lost (and counted) until it can be written",
                        self.shown_path().unwrap_or_default()
                    ));
                }
                self.error = Some(error.to_string());
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
#[path = "scribe_tests.rs"]
mod tests;
