//! The first pass over a trace: what has to be known of the whole before its first request can be placed.
//!
//! Rule: it keeps clock records and one pair of stamps a worker and ten seconds, nothing for each request. Deliberately not
//! here: alignment itself (`trace::align`).

use std::path::{Path, PathBuf};

use super::ExportError;
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::borders::Borders;
use crate::trace::reader::TraceReader;
use crate::trace::record::{Record, RequestRecord};

/// The clocks of one run of the router.
#[derive(Debug, Default)]
pub struct RunClocks {
    /// The host's wall clock against its monotonic clock.
    pub clocks: ClockTrack,
    /// The workers' wall clocks against it.
    pub offsets: Offsets,
}

/// One file of a trace as it was when it was surveyed.
#[derive(Debug)]
pub struct SurveyedFile {
    /// Its path.
    pub path: PathBuf,
    /// Records in it; what a router that still runs has added since is left for another time.
    pub records: u64,
    /// Lines that are no record.
    pub torn_lines: u64,
    /// Its first record and its last, by which it is known again.
    pub(super) ends: Option<(Record, Record)>,
}

impl SurveyedFile {
    /// False where the survey saw another record at this place, the first or the last.
    pub(super) fn holds(&self, place: u64, record: &Record) -> bool {
        let Some((first, last)) = &self.ends else { return false };
        (place > 0 || record == first) && (place + 1 < self.records || record == last)
    }
}

/// What a trace holds.
#[derive(Debug, Default)]
pub struct Survey {
    /// Its files, in the order given.
    pub files: Vec<SurveyedFile>,
    /// The clocks of its runs, in order.
    pub runs: Vec<RunClocks>,
    /// Requests.
    pub requests: u64,
    /// Records that are no requests: changes of workers, connections, the journal, clocks.
    pub other_records: u64,
    /// Requests without a record: the router could not write it, or the capture was stopped.
    pub lost: u64,
    /// The first moment told, a run's beginning or an arrival, Unix nanoseconds.
    pub first_unix_ns: Option<u64>,
    /// The first arrival of a request that is to generate, is no warm-up and is not beyond the sample, Unix nanoseconds.
    pub first_generation_unix_ns: Option<u64>,
    /// The longest that a request took, nanoseconds.
    pub longest_ns: u64,
    /// Bytes of the prompts whose tokens the server counted.
    pub prompt_bytes: u64,
    /// Tokens of these.
    pub prompt_tokens: u64,
    borders: Borders,
}

impl Survey {
    /// Reads the files once.
    pub fn of(paths: &[PathBuf]) -> Result<Self, ExportError> {
        let mut survey = Self::default();
        for path in paths {
            survey.file(path)?;
        }
        Ok(survey)
    }

    /// Lines of all files that are no record.
    pub fn torn_lines(&self) -> u64 {
        self.files.iter().map(|file| file.torn_lines).sum()
    }

    /// Requests of remote workers whose stamps contradict themselves.
    pub fn contradictions(&self) -> u64 {
        self.runs.iter().map(|run| run.offsets.contradictions()).sum()
    }

    fn file(&mut self, path: &Path) -> Result<(), ExportError> {
        let mut reader = TraceReader::open(path)?;
        let (mut records, mut first, mut last) = (0, None, None);
        for record in &mut reader {
            let (_, record) = record?;
            if self.borders.is_new_run(&record, records == 0) {
                self.runs.push(RunClocks::default());
            }
            records += 1;
            self.record(&record);
            if first.is_none() {
                first = Some(record.clone());
            }
            last = Some(record);
        }
        let torn_lines = reader.torn_lines();
        self.files.push(SurveyedFile { path: path.to_owned(), records, torn_lines, ends: first.zip(last) });
        Ok(())
    }

    fn record(&mut self, record: &Record) {
        let Some(run) = self.runs.last_mut() else { return };
        self.other_records += 1;
        match record {
            Record::Run(record) => {
                run.clocks.add(record.clock);
                self.begins(record.clock.unix_ns);
            }
            Record::Clock(clock) => run.clocks.add_record(clock),
            Record::Worker(worker) => run.offsets.know(worker),
            Record::Lost(lost) => self.lost += lost.all_requests(),
            Record::Request(request) => {
                run.offsets.learn(request);
                self.other_records -= 1;
                self.requests += 1;
                self.begins(request.arrival_unix_ns);
                if is_generation(request) && request.kept_for.is_none() {
                    earliest(&mut self.first_generation_unix_ns, request.arrival_unix_ns);
                }
                self.longest_ns = self.longest_ns.max(request.end_ns);
                if let (Some(bytes), Some(tokens)) = (request.prompt_bytes, request.tokens.prompt_tokens) {
                    self.prompt_bytes = self.prompt_bytes.saturating_add(bytes);
                    self.prompt_tokens = self.prompt_tokens.saturating_add(tokens);
                }
            }
            Record::Connection(_) | Record::Journal(_) | Record::Mark(_) => {}
        }
    }

    fn begins(&mut self, unix_ns: u64) {
        earliest(&mut self.first_unix_ns, unix_ns);
    }
}

/// It is to make tokens, and is no warm-up.
pub(super) fn is_generation(request: &RequestRecord) -> bool {
    request.endpoint.generates() && request.phase.is_none()
}

fn earliest(first: &mut Option<u64>, unix_ns: u64) {
    *first = Some(first.map_or(unix_ns, |first| first.min(unix_ns)));
}
