//! Reads a trace back, line by line.
//!
//! Rule: a line that a crash tore is counted and stepped over, never a reason to lose the rest; a schema newer than ours is
//! refused, as its numbers could mean something else; no line is held beyond [`MAX_LINE_BYTES`]. If a run was appended
//! behind a torn line without a line end, its record is found inside that line. Deliberately not here: alignment.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use super::axis::ClockTrack;
use super::borders::Borders;
use super::parts::{PACKED_END, files_of, is_packed, is_same_capture, open_at};
use super::record::{
    ConnectionRecord, LostRecord, MarkRecord, Record, RequestRecord, RunRecord, WorkerRecord,
};
use super::schema::SCHEMA;

/// Longest line that is read; a record is a few kB.
pub const MAX_LINE_BYTES: usize = 1 << 20;
/// Bad lines before the first record after which the file is no trace.
const MAX_STRANGE_LINES: u64 = 1000;
/// Records that are looked at for the first `run` record of a file.
const RECORDS_BEFORE_RUN: usize = 16;
/// Bad lines remembered with their number and reason.
const MAX_NOTED: usize = 20;

/// Why a trace cannot be read.
#[derive(Debug)]
pub enum ReadError {
    /// The file cannot be opened.
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed.
    Read {
        /// The line that was read.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// A newer milepost wrote it.
    NewerSchema {
        /// The line of the `run` record.
        line: u64,
        /// Its schema.
        found: u32,
    },
    /// It holds no record at all.
    NotATrace {
        /// Lines looked at.
        lines: u64,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Read { line, source } => write!(f, "line {line}: {source}"),
            Self::NewerSchema { line, found } => write!(
                f,
                "line {line}: the trace has schema {found}, this milepost reads up to {SCHEMA}; read it with the version that wrote it"
            ),
            Self::NotATrace { lines } => write!(
                f,
                "not a milepost trace: none of its first {lines} lines is a record (one JSON object a line with a \"kind\")"
            ),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { source, .. } | Self::Read { source, .. } => Some(source),
            Self::NewerSchema { .. } | Self::NotATrace { .. } => None,
        }
    }
}

/// A line that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The file that it is in, where there are several.
    pub file: Option<PathBuf>,
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

/// The records of a trace in order: an iterator.
#[derive(Debug)]
pub struct TraceReader<R> {
    input: R,
    /// The file that is read, where it may be one of several.
    file: Option<PathBuf>,
    /// Those that come then.
    more: VecDeque<PathBuf>,
    open: fn(&Path) -> io::Result<R>,
    files: usize,
    line: u64,
    buffer: Vec<u8>,
    records: u64,
    torn_lines: u64,
    bad_lines: Vec<BadLine>,
    failed: bool,
}

impl TraceReader<Box<dyn BufRead + Send>> {
    /// Opens a trace file, or all files of a folder or a pattern, in the order in which they were written; packed ones too.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let fail = |source| ReadError::Open { path: path.to_owned(), source };
        let mut more: VecDeque<PathBuf> = as_begun(files_of(path).map_err(fail)?).into();
        let files = more.len();
        let first = more.pop_front().unwrap_or_else(|| path.to_owned());
        let open = |path: &Path| open_at(path, 0);
        let input = open(&first).map_err(fail)?;
        Ok(Self { file: Some(first), more, files, open, ..Self::new(input) })
    }
}

/// Runs of the router one after the other as they were begun, and the captures of each likewise: their names tell nothing of that.
fn as_begun(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut captures: Vec<_> = files.chunk_by(|a, b| is_same_capture(a, b)).collect();
    if captures.len() < 2 {
        return files;
    }
    let mut begun: Vec<_> = captures.drain(..).map(|files| (first_run(&files[0]), files)).collect();
    let begun_ns = |run: &Option<RunRecord>| run.as_ref().map(|run| run.clock.unix_ns);
    begun.sort_by_key(|(run, _)| begun_ns(run));
    let mut ordered = Vec::new();
    while !begun.is_empty() {
        let (first, files) = begun.remove(0);
        ordered.extend_from_slice(files);
        begun.retain(|(run, files)| {
            let is_same = run.as_ref().zip(first.as_ref()).is_some_and(|(run, first)| run.continues(first));
            if is_same {
                ordered.extend_from_slice(files);
            }
            !is_same
        });
    }
    ordered
}

/// The first `run` record of a file, if it is near its beginning.
pub(super) fn first_run(path: &Path) -> Option<RunRecord> {
    let records = TraceReader::new(open_at(path, 0).ok()?).take(RECORDS_BEFORE_RUN);
    records.flatten().find_map(|(_, record)| if let Record::Run(run) = record { Some(run) } else { None })
}

impl<R: BufRead> TraceReader<R> {
    /// Reads a trace from anywhere.
    pub fn new(input: R) -> Self {
        Self {
            input,
            file: None,
            more: VecDeque::new(),
            open: |_| Err(io::ErrorKind::NotFound.into()),
            files: 1,
            line: 0,
            buffer: Vec::new(),
            records: 0,
            torn_lines: 0,
            bad_lines: Vec::new(),
            failed: false,
        }
    }

    /// Lines so far that were torn, too long, or no record.
    pub fn torn_lines(&self) -> u64 {
        self.torn_lines
    }

    /// The first of them.
    pub fn bad_lines(&self) -> &[BadLine] {
        &self.bad_lines
    }

    fn next_record(&mut self) -> Result<Option<(u64, Record)>, ReadError> {
        loop {
            let whole = match self.next_line() {
                Ok(Some(whole)) => whole,
                Ok(None) if self.next_file()? => continue,
                Ok(None) if self.records == 0 && self.torn_lines > 0 => {
                    return Err(ReadError::NotATrace { lines: self.torn_lines });
                }
                Ok(None) => return Ok(None),
                Err(error) if self.file.as_deref().is_some_and(is_packed) => {
                    // The frame is broken: what was packed behind this place cannot be had.
                    self.torn(
                        self.line + 1,
                        format!("the packed file is torn here, and its rest is missing: {error}"),
                    );
                    if self.next_file()? {
                        continue;
                    }
                    return Ok(None);
                }
                Err(source) => return Err(ReadError::Read { line: self.line + 1, source }),
            };
            let line = self.line;
            if whole && self.buffer.trim_ascii().is_empty() {
                continue;
            }
            if let Some(record) = self.record(whole) {
                self.records += 1;
                if let Record::Run(run) = &record
                    && run.schema > SCHEMA
                {
                    return Err(ReadError::NewerSchema { line, found: run.schema });
                }
                return Ok(Some((line, record)));
            }
            if self.records == 0 && self.torn_lines >= MAX_STRANGE_LINES {
                return Err(ReadError::NotATrace { lines: self.torn_lines });
            }
        }
    }

    /// The record of the line in the buffer, or of its end if the beginning was torn.
    fn record(&mut self, whole: bool) -> Option<Record> {
        let reason = if whole {
            match serde_json::from_slice(&self.buffer) {
                Ok(record) => return Some(record),
                Err(error) => explain(&error),
            }
        } else {
            format!("longer than {MAX_LINE_BYTES} bytes")
        };
        self.torn(self.line, reason);
        let start = self.buffer.windows(9).rposition(|w| w == b"{\"kind\":\"")?;
        if start == 0 || !whole {
            return None;
        }
        serde_json::from_slice(&self.buffer[start..]).ok()
    }

    fn torn(&mut self, line: u64, reason: String) {
        self.torn_lines += 1;
        if self.bad_lines.len() < MAX_NOTED {
            let file = self.file.clone().filter(|_| self.files > 1);
            self.bad_lines.push(BadLine { file, line, reason });
        }
    }

    /// Goes on to the next file, if there is one. One that was packed meanwhile is read as that, one that was removed, as the
    /// oldest are, is passed over.
    fn next_file(&mut self) -> Result<bool, ReadError> {
        while let Some(mut path) = self.more.pop_front() {
            let mut opened = (self.open)(&path);
            if matches!(&opened, Err(error) if error.kind() == io::ErrorKind::NotFound) && !is_packed(&path) {
                path.as_mut_os_string().push(PACKED_END);
                opened = (self.open)(&path);
            }
            match opened {
                Ok(input) => {
                    (self.input, self.line, self.file) = (input, 0, Some(path));
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ReadError::Open { path, source }),
            }
        }
        Ok(false)
    }

    /// Reads a line into the buffer, without its end; `Some(false)` if it was too long and stepped over.
    fn next_line(&mut self) -> io::Result<Option<bool>> {
        self.buffer.clear();
        let mut whole = true;
        let mut begun = false;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                self.line += u64::from(begun);
                return Ok(begun.then_some(whole));
            }
            begun = true;
            let end = chunk.iter().position(|&b| b == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            whole &= self.buffer.len() + part.len() <= MAX_LINE_BYTES;
            if whole {
                self.buffer.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                self.line += 1;
                return Ok(Some(whole));
            }
        }
    }
}

impl<R: BufRead> Iterator for TraceReader<R> {
    type Item = Result<(u64, Record), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_record().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// The error without `serde_json`'s own line number, which is always 1 here.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    format!("column {}: {what}", error.column())
}

/// One run of the router in a trace.
#[derive(Debug, Default)]
pub struct TraceRun {
    /// Its `run` record; absent if the file's beginning is missing.
    pub run: Option<RunRecord>,
    /// Its clocks, those of the `run` record included.
    pub clocks: ClockTrack,
    /// Number of `clock` records.
    pub clock_records: u64,
    /// Its requests, in the order in which they ended.
    pub requests: Vec<RequestRecord>,
    /// Connections without a readable request.
    pub connections: Vec<ConnectionRecord>,
    /// Changes in the fleet.
    pub workers: Vec<WorkerRecord>,
    /// Marks that somebody set.
    pub marks: Vec<MarkRecord>,
    /// Records that are missing, as the trace says.
    pub missing: LostRecord,
    /// Requests that are told of in files of this run that were not read.
    pub elsewhere: u64,
    /// Calls of the journal; they are not kept, as there are three for each request.
    pub journal_calls: u64,
}

impl TraceRun {
    /// Requests that this trace accounts for: by a record, as missing, or as told elsewhere.
    pub fn accounted(&self) -> u64 {
        self.requests.len() as u64 + self.missing.all_requests() + self.elsewhere
    }

    /// One more file of this run begins.
    fn goes_on(&mut self, run: RunRecord) {
        let before = run.capture.as_ref().map_or(0, |capture| capture.requests_before);
        self.elsewhere += before.saturating_sub(self.accounted());
        self.clocks.add(run.clock);
        self.run.get_or_insert(run);
    }
}

/// A whole trace in memory.
#[derive(Debug, Default)]
pub struct TraceFile {
    /// The runs in order; a file that was appended to has several. Their monotonic clocks are not comparable.
    pub runs: Vec<TraceRun>,
    /// Lines that were torn, too long, or no record.
    pub torn_lines: u64,
    /// The first of them.
    pub bad_lines: Vec<BadLine>,
}

impl TraceFile {
    /// Reads a whole file.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        Self::collect(TraceReader::open(path)?)
    }

    /// Reads all that is left in a reader.
    pub fn collect<R: BufRead>(mut reader: TraceReader<R>) -> Result<Self, ReadError> {
        let mut file = Self::default();
        let mut borders = Borders::default();
        for record in &mut reader {
            file.add(record?.1, &mut borders);
        }
        file.torn_lines = reader.torn_lines;
        file.bad_lines = reader.bad_lines;
        Ok(file)
    }

    fn add(&mut self, record: Record, borders: &mut Borders) {
        if borders.is_new_run(&record, self.runs.is_empty()) {
            self.runs.push(TraceRun::default());
        }
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        match record {
            Record::Run(begun) => run.goes_on(begun),
            Record::Clock(clock) => {
                run.clocks.add_record(&clock);
                run.clock_records += 1;
            }
            Record::Request(request) => run.requests.push(*request),
            Record::Connection(connection) => run.connections.push(connection),
            Record::Worker(worker) => run.workers.push(worker),
            Record::Journal(_) => run.journal_calls += 1,
            Record::Mark(mark) => run.marks.push(mark),
            Record::Lost(lost) => run.missing.add(&lost),
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
