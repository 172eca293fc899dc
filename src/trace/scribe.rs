//! What the writer's thread does: takes records from the sink, writes them, does what it is asked.
//!
//! Rule: a write that fails stops the capture, not the traffic: its records are counted as lost and the next write is tried
//! again. Deliberately not here: files ([`super::live`]), who asks ([`super::capture`]), when clocks are told ([`super::watch`]).

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use super::archive::{Archive, Keeping};
use super::awaited::Awaited;
use super::capture::{CaptureError, Command, Desk, Order, Place, Status, file_name, label};
use super::json::push_json;
use super::known::{Known, is_repeat};
use super::live::LiveFile;
use super::outlet::{Follower, Outlet};
use super::pause;
use super::prompt::{BLOCK_BYTES, PromptKey, PromptTrace};
use super::record::{CaptureRecord, LostRecord, MarkRecord, Record, RunRecord};
use super::sample::Sampling;
use super::sieve::Sieve;
use super::sink::Sink;
use super::watch::ClockWatch;
use super::writer::{CaptureConfig, TraceOpenError, is_stdout};
use crate::buffer::Buffer;
use crate::clock::Clock;
use crate::log;

/// Pause after a rotation that failed.
const ROTATE_AGAIN_NS: u64 = 60_000_000_000;
/// Bytes serialised before they are written out, so that a large batch does not grow the buffer for ever.
const WRITE_AT_BYTES: usize = 256 * 1024;

/// See the module.
pub(super) struct Scribe {
    config: CaptureConfig,
    run: RunRecord,
    sieve: Sieve,
    archive: Option<Archive>,
    sink: Arc<Sink>,
    clock: Clock,
    desk: Desk,
    outlet: Option<Outlet>,
    /// The file that a start without a name goes on in.
    path: Option<PathBuf>,
    watch: ClockWatch,
    buffer: Buffer,
    /// What is in the buffer.
    buffered: LostRecord,
    awaited: Awaited,
    known: Known,
    since_unix_ns: u64,
    /// The file has its first lines.
    is_headed: bool,
    /// When the file was begun, or its rotation failed, `CLOCK_MONOTONIC` nanoseconds.
    begun_mono_ns: u64,
    may_rotate_mono_ns: u64,
    error: Option<String>,
    requests: u64,
    bytes: u64,
    lost: LostRecord,
}

impl Scribe {
    pub(super) fn new(
        path: Option<&Path>,
        config: CaptureConfig,
        (run, key): (RunRecord, PromptKey),
        sink: Arc<Sink>,
        clock: Clock,
        desk: Desk,
    ) -> Self {
        Self {
            path: path.map(Path::to_owned),
            sieve: Sieve::new(config.sampling, key),
            archive: None,
            watch: ClockWatch::new(clock.clone(), Arc::clone(&sink), run.clock),
            config,
            run,
            sink,
            clock,
            desk,
            outlet: None,
            buffer: Buffer::default(),
            buffered: LostRecord::default(),
            awaited: Awaited::default(),
            known: Known::default(),
            since_unix_ns: 0,
            is_headed: false,
            begun_mono_ns: 0,
            may_rotate_mono_ns: 0,
            error: None,
            requests: 0,
            bytes: 0,
            lost: LostRecord::default(),
        }
    }

    /// Opens what is written from the start, if anything is; the followers get the rest of it in any case.
    pub(super) fn begin(&mut self, followers: Vec<Box<dyn Follower>>) -> Result<(), TraceOpenError> {
        self.sieve.follow(followers);
        let Some(path) = self.path.clone() else {
            self.leave_off();
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
        let mut pause = pause::SHORTEST;
        loop {
            let stopping = stop.load(Ordering::Acquire);
            // One a round: whoever asks again and again must not keep records waiting.
            if let Some(order) = self.desk.orders.try_recv().ok().filter(Order::take) {
                self.obey(order, &mut records);
            }
            let drained = self.round(&mut records, stopping);
            if stopping {
                return;
            }
            pause = pause::next(pause, drained, self.sink.capacity_records());
            std::thread::park_timeout(pause);
        }
    }

    /// Writes what there is; to the last if it is the last time.
    fn round(&mut self, records: &mut Vec<Record>, is_last: bool) -> usize {
        let drained = self.sink.drain(records);
        self.sink.count_unshadowed(self.awaited.sift(records, !is_last));
        self.known.learn(records);
        if self.outlet.is_none() {
            if self.sieve.is_followed() {
                // No file has them: of those who were left out of the sample none would have been in one.
                let before = self.sieve.left_out;
                self.sieve.sift(records);
                let stopped = std::mem::replace(&mut self.sieve.left_out, before) - before;
                self.sink.count_lost(&LostRecord { stopped, ..LostRecord::default() });
            }
            // Who looks at the metrics is told of a step all the same.
            self.watch.look(false);
            self.sink.count_stopped(records);
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
        if !is_last {
            self.rotate_if_due();
        }
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
            Command::Status => {
                self.round(records, false);
                Ok(())
            }
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
        self.keep_archive(&outlet);
        self.outlet = Some(outlet);
        self.since_unix_ns = self.clock.now().unix_ns;
        self.begin_file();
        self.sink.set_written(true);
        self.sink.set_taking(true);
        self.write_lost();
    }

    /// Nothing is written from now on; followers want their part all the same.
    fn leave_off(&self) {
        self.sink.set_written(false);
        self.sink.set_taking(self.sieve.is_followed());
    }

    fn stop(&mut self, records: &mut Vec<Record>) {
        if self.outlet.is_none() {
            return;
        }
        self.leave_off();
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
        // In the file of the requests that it is about.
        self.write_left_out();
        let Some(Outlet::File(live)) = &mut self.outlet else { return Ok(()) };
        live.rotate()?;
        let path = live.path().to_owned();
        self.begin_file();
        if let Some(archive) = &self.archive {
            archive.look(&path);
        }
        Ok(())
    }

    /// Of a plain file, whatever it leaves behind is kept as asked, from former runs too.
    fn keep_archive(&mut self, outlet: &Outlet) {
        let Some(live) = outlet.file() else { return };
        if self.archive.is_none() {
            // What the live file may grow to is not the others'.
            let live_bytes = self.config.rotate_bytes.unwrap_or(0);
            let max_bytes = self.config.max_bytes.map(|bytes| bytes.saturating_sub(live_bytes));
            let folder = self.config.folder.clone();
            self.archive = Archive::start(Keeping { packs: self.config.packs, max_bytes, folder });
        }
        if let Some(archive) = &self.archive {
            archive.look(live.path());
        }
    }

    fn rotate_if_due(&mut self) {
        let Some(live) = self.outlet.as_ref().and_then(Outlet::file) else { return };
        let is_long = self.config.rotate_bytes.is_some_and(|bytes| live.bytes() >= bytes);
        let now_ns = self.clock.mono_ns();
        let age_ns = u128::from(now_ns.saturating_sub(self.begun_mono_ns));
        let is_old = self.config.rotate_after.is_some_and(|after| age_ns >= after.as_nanos());
        if !(is_long || is_old) || now_ns < self.may_rotate_mono_ns || self.error.is_some() {
            return;
        }
        if let Err(error) = self.turn_over() {
            self.may_rotate_mono_ns = now_ns + ROTATE_AGAIN_NS;
            log::warn(&format!(
                "trace {}: cannot be rotated: {error}; it goes on as it is and is tried again",
                self.shown_path().unwrap_or_default()
            ));
        }
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
        lost.sampled += self.sieve.left_out;
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
        // A pipe has a reader, and whoever else read it would take lines from that one.
        let file = self.outlet.as_ref().and_then(Outlet::file).filter(|live| live.is_regular());
        let place = file.map(|live| Place { path: live.path().to_owned(), part: live.number() });
        let part = place.as_ref().map_or(1, |place| place.part);
        *self.desk.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        let instance = self.run.capture.as_ref().map(|capture| capture.instance.clone()).unwrap_or_default();
        let requests_before = self.requests + self.lost.all_requests();
        let Sampling { share, slowest_per_minute } = self.config.sampling;
        let is_sampled = self.sieve.is_sampling();
        let hashes = self.config.prompt == PromptTrace::Hash;
        self.run.capture = Some(CaptureRecord {
            instance,
            part,
            requests_before,
            sample_share: is_sampled.then_some(share),
            slowest_per_minute: is_sampled.then_some(slowest_per_minute as u64),
            prompt: Some(self.config.prompt.to_string()),
            prompt_block_bytes: hashes.then_some(BLOCK_BYTES),
            prompt_key_id: hashes.then(|| self.sieve.key_id()),
        });
        self.run.clock = self.watch.begin();
        self.begun_mono_ns = self.run.clock.mono_ns;
        self.put(&Record::Run(self.run.clone()));
        self.known.tell(self.begun_mono_ns).iter().for_each(|worker| self.put(worker));
        self.write_out();
        self.is_headed = self.error.is_none();
        // What did not fit is told again.
        if self.is_headed {
            self.known.forget_removed();
        }
    }

    fn write_records(&mut self, records: &mut Vec<Record>) {
        self.sieve.sift(records);
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

    /// Says how many were left out of the sample, once in a while: a line for each would be as many as those.
    fn write_left_out(&mut self) {
        let lost = LostRecord { sampled: self.sieve.left_out, ..LostRecord::default() };
        if self.sieve.left_out > 0 {
            self.put(&Record::Lost(lost));
            self.write_out();
            if self.error.is_none() {
                self.sieve.left_out = 0;
                self.lost.add(&lost);
            }
        }
    }

    fn write_clock(&mut self, force: bool) {
        if let Some(clock) = self.watch.look(force) {
            self.write_left_out();
            self.put(&Record::Clock(clock));
            self.write_out();
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
            // The writer's own: told again, or nothing that was offered.
            Record::Worker(worker) if is_repeat(worker) => {}
            Record::Connection(_) | Record::Worker(_) => self.buffered.others += 1,
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

#[cfg(test)]
#[path = "scribe_tests.rs"]
mod tests;
