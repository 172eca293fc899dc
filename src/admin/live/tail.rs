//! `GET /milepost/requests`: the last requests of the trace, with their stages.
//!
//! `?after=N` is those after number N, which the answer's `next` was. What is told is what the trace file holds, so nothing is shown
//! that is not kept, and a request costs nothing more for it. Rule: one look at a time, off the threads that serve requests, at
//! most `READ_BYTES` of a file, of a packed one after at most `MOST_UNPACKED_BYTES` that are unpacked to get there; whoever comes meanwhile is told what is there, and all who ask for the same between two looks get
//! the same bytes. What grew by more since the last look is passed over and counted (`skipped_bytes`; `skipped_files` where nobody knows how much of them). Requests that the router
//! answered itself and well (probes, this page) are left out.
//! Deliberately not here: the whole trace (`trace_tail`).

use std::collections::VecDeque;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Response;
use serde::Serialize;
use serde_json::value::RawValue;

use super::rows::Rows;
use super::{EVERY_NS, momentary};
use crate::admin::errand::Errand;
use crate::clock::ClockSnapshot;
use crate::export::source::Placed;
use crate::proxy::Shared;
use crate::proxy::body::AnswerBody;
use crate::proxy::journey::Refusal;
use crate::trace::align::align;
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::capture::{Capture, Command, Place, Status};
use crate::trace::parts::{Part, is_packed, open_at, parts_of, whole_lines};
use crate::trace::record::{CaptureRecord, Record, RequestRecord};
use crate::wire::problem::Problem;

/// Bytes of a file read in one look: some 500 requests.
const READ_BYTES: u64 = 1 << 20;
/// Bytes unpacked in one look; of a packed file that is longer nothing is read.
const MOST_UNPACKED_BYTES: u64 = 256 * READ_BYTES;
/// Answers that are kept until the next look: whoever looks on asks after one of the last few numbers.
const MAX_TOLD: usize = 8;
/// Longest line that becomes a row.
const MAX_LINE_BYTES: usize = 64 << 10;
/// Readings of the clocks that are held; the trace has one every ten seconds.
const MAX_CLOCKS: usize = 64;
/// How long what was learned of other hosts' clocks is held.
const OFFSETS_HELD_NS: u64 = 300_000_000_000;
/// How a line begins that says nothing of a request; these may be most of a trace.
const JOURNAL: &[u8] = br#"{"kind":"journal""#;

/// The end of the trace as it was seen last.
#[derive(Debug, Default)]
pub struct Tail {
    // Held while a file is read.
    reader: Mutex<Reader>,
    // Never held for long.
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    rows: Rows,
    skipped: Skipped,
    status: Option<Status>,
    error: Option<String>,
    // By the number they are after, since the last look.
    told: VecDeque<(u64, Bytes)>,
}

#[derive(Debug, Default)]
struct Reader {
    looked_ns: Option<u64>,
    at: Option<At>,
    clocks: VecDeque<ClockSnapshot>,
    offsets: Offsets,
}

/// A place in the trace.
#[derive(Clone, Debug)]
struct At {
    place: Place,
    bytes: u64,
}

/// What was passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Skipped {
    bytes: u64,
    /// Files that were rotated away and not read, or not to their end.
    files: u64,
}

impl Skipped {
    fn add(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.files += more.files;
    }
}

/// What a file has from some byte on.
struct End {
    lines: Vec<u8>,
    next_bytes: u64,
    skipped_bytes: u64,
}

#[derive(Serialize)]
struct Answer<'a> {
    instance: &'a str,
    next: u64,
    skipped_bytes: u64,
    skipped_files: u64,
    /// How the capture stands; absent where there is and can be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    requests: Box<RawValue>,
}

/// Answers `/milepost/requests`.
pub async fn requests(errand: &Errand<'_>) -> Result<Response<AnswerBody>, Refusal> {
    let after = errand.query.split('&').find_map(|pair| pair.strip_prefix("after=")).unwrap_or("0");
    let Ok(after) = after.parse() else {
        return Err(Problem::new(400, "bad_request", "after: expected the number that next was").into());
    };
    let shared = Arc::clone(errand.shared);
    let telling = tokio::task::spawn_blocking(move || {
        if let Some(capture) = shared.capture.as_ref().filter(|_| shared.config.may_write_trace()) {
            look(&shared, capture);
        }
        shared.live.tail.seen().told(&shared.instance, after)
    });
    let told = telling.await.map_err(|error| Problem::new(500, "trace_unreadable", error.to_string()))?;
    Ok(momentary(told))
}

/// Reads what is new, unless somebody else does or has just done so.
fn look(shared: &Shared, capture: &Capture) {
    let now = shared.clock.snapshot();
    let tail = &shared.live.tail;
    let Ok(mut reader) = tail.reader.try_lock() else { return };
    if reader.looked_ns.is_some_and(|at_ns| now.mono_ns.saturating_sub(at_ns) < EVERY_NS) {
        return;
    }
    reader.looked_ns = Some(now.mono_ns);
    let status = capture.ask(Command::Status);
    let read = capture.place().map_or(Ok(Default::default()), |place| reader.read(&place));
    let mut seen = tail.seen();
    seen.told.clear();
    seen.error = status.as_ref().err().map(ToString::to_string);
    seen.status = status.ok();
    match read {
        Ok((lines, skipped)) => {
            seen.skipped.add(skipped);
            reader.take(&lines, &shared.instance, now, &mut seen.rows);
        }
        Err(error) => seen.error = Some(format!("the trace cannot be read: {error}")),
    }
}

impl Tail {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// The answer to who asks for what came after this number.
    fn told(&mut self, instance: &str, after: u64) -> Bytes {
        // What another process of this router told may be a higher one.
        let after = after.min(self.rows.newest());
        if let Some((_, json)) = self.told.iter().find(|(number, _)| *number == after) {
            return json.clone();
        }
        let answer = Answer {
            instance,
            next: self.rows.newest(),
            skipped_bytes: self.skipped.bytes,
            skipped_files: self.skipped.files,
            trace: self.status.as_ref(),
            error: self.error.as_deref(),
            // Rows are JSON.
            requests: RawValue::from_string(self.rows.after(after)).unwrap_or_default(),
        };
        let json = Bytes::from(serde_json::to_string(&answer).unwrap_or_default());
        if self.told.len() == MAX_TOLD {
            self.told.pop_front();
        }
        self.told.push_back((after, json.clone()));
        json
    }
}

impl Reader {
    /// The lines that are new at this place, and what before them was passed over.
    fn read(&mut self, place: &Place) -> io::Result<(Vec<u8>, Skipped)> {
        let (mut lines, mut skipped) = (Vec::new(), Skipped::default());
        let is_before = |at: &At| at.place.path == place.path && at.place.part < place.part;
        let is_first = self.at.is_none();
        if let Some(at) = self.at.take_if(|at| is_before(at)) {
            let rotated = place.part - at.place.part;
            match rest_of(&at).filter(|_| rotated == 1) {
                Some(end) => (lines, skipped.bytes) = (end.lines, end.skipped_bytes),
                None => skipped.files = rotated,
            }
        }
        let from_bytes = self.at.as_ref().filter(|at| at.place == *place).map_or(0, |at| at.bytes);
        self.at = Some(At { place: place.clone(), bytes: from_bytes });
        let end = end_of(&place.path, from_bytes)?;
        if part(&place.path, place.part).is_some() {
            // Rotated in between, and this was read of the next file: the next look goes on.
            return Ok((lines, skipped));
        }
        self.at = Some(At { place: place.clone(), bytes: end.next_bytes });
        lines.extend_from_slice(&end.lines);
        // Whoever begins to look has missed nothing.
        if is_first {
            return Ok((lines, Skipped::default()));
        }
        skipped.bytes += end.skipped_bytes;
        Ok((lines, skipped))
    }

    /// Makes rows of the requests among these lines.
    fn take(&mut self, lines: &[u8], instance: &str, now: ClockSnapshot, rows: &mut Rows) {
        let mut new: Vec<(Box<RequestRecord>, &RawValue)> = Vec::new();
        for line in lines.split(|&byte| byte == b'\n') {
            if line.is_empty() || line.len() > MAX_LINE_BYTES || line.starts_with(JOURNAL) {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(Record::Run(run)) => {
                    let goes_on = |of: &CaptureRecord| of.instance == instance && of.requests_before > 0;
                    if !run.capture.as_ref().is_some_and(goes_on) {
                        // What stands before it in the file is another router's.
                        new.clear();
                        rows.clear();
                        (self.clocks, self.offsets) = (VecDeque::new(), Offsets::default());
                    }
                    self.clocks.push_back(run.clock);
                }
                Ok(Record::Clock(read)) => self.clocks.push_back(read.snapshot()),
                Ok(Record::Worker(worker)) => self.offsets.know(&worker),
                Ok(Record::Request(request)) if !request.is_about_the_router() => {
                    self.offsets.learn(&request);
                    new.extend(serde_json::from_slice(line).ok().map(|line| (request, line)));
                }
                _ => {}
            }
        }
        let clocks = self.clocks(now);
        for (record, line) in &new {
            let aligned = align(record, &clocks, &self.offsets);
            rows.add(&Placed { run: 1, record, aligned }, line);
        }
    }

    /// The router's clocks as they are known now; what is too old is forgotten.
    fn clocks(&mut self, now: ClockSnapshot) -> ClockTrack {
        let too_many = self.clocks.len().saturating_sub(MAX_CLOCKS);
        self.clocks.drain(..too_many);
        self.offsets.forget_before(now.mono_ns.saturating_sub(OFFSETS_HELD_NS));
        let mut track = ClockTrack::default();
        for read in self.clocks.iter().chain([&now]) {
            track.add(*read);
        }
        track
    }
}

/// The file of this number, if it was rotated away and is still there.
fn part(live: &Path, number: u64) -> Option<Part> {
    parts_of(live).ok()?.into_iter().find(|part| part.number == number)
}

/// What was not yet read of a file when it was rotated away; `None` if it was deleted since, or is packed and too long.
fn rest_of(at: &At) -> Option<End> {
    let rest = || {
        let path = part(&at.place.path, at.place.part)?.path;
        if is_packed(&path) {
            return end_of_packed(&path, at.bytes, MOST_UNPACKED_BYTES).ok();
        }
        end_of(&path, at.bytes).ok().map(Some)
    };
    // It may have been packed after its name was looked up.
    rest().or_else(rest).flatten()
}

/// Whole lines from a byte on, the last ones where there are too many.
fn end_of(path: &Path, from_bytes: u64) -> io::Result<End> {
    let len = path.metadata()?.len();
    // A file that is shorter than it was is another one.
    let from_bytes = if from_bytes > len { 0 } else { from_bytes };
    let start_bytes = from_bytes.max(len.saturating_sub(READ_BYTES));
    let mut lines = whole_lines(path, start_bytes, READ_BYTES)?;
    let next_bytes = start_bytes + lines.len() as u64;
    if start_bytes > from_bytes {
        let torn = lines.iter().position(|&byte| byte == b'\n').map_or(lines.len(), |at| at + 1);
        lines.drain(..torn);
    }
    Ok(End { lines, next_bytes, skipped_bytes: start_bytes - from_bytes })
}

/// The same of a packed file, of which nobody knows how long it is before its end was read; `None` if it is longer than that.
fn end_of_packed(path: &Path, from_bytes: u64, most_bytes: u64) -> io::Result<Option<End>> {
    if from_bytes > most_bytes {
        return Ok(None);
    }
    let mut from = open_at(path, from_bytes)?;
    let (mut lines, mut skipped_bytes) = (Vec::new(), 0);
    loop {
        let read = (&mut from).take(READ_BYTES).read_to_end(&mut lines);
        let too_many = lines.len().saturating_sub(READ_BYTES as usize);
        lines.drain(..too_many);
        skipped_bytes += too_many as u64;
        if from_bytes + skipped_bytes + lines.len() as u64 > most_bytes {
            return Ok(None);
        }
        // Of one that is torn there is what comes before.
        if !matches!(read, Ok(1..)) {
            break;
        }
    }
    let ends = |at: usize| at + 1;
    lines.truncate(lines.iter().rposition(|&byte| byte == b'\n').map_or(0, ends));
    if skipped_bytes > 0 {
        let torn = lines.iter().position(|&byte| byte == b'\n').map_or(0, ends);
        lines.drain(..torn);
    }
    Ok(Some(End { next_bytes: from_bytes + skipped_bytes + lines.len() as u64, lines, skipped_bytes }))
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
