//! What one run of the router amounts to, record by record.
//!
//! Rule: nothing is kept for a request but the bit of its number, so that a trace of any length can be checked; what is placed on
//! the router's clock is looked at in a second pass, as the clocks of a trace's end place stamps of its beginning. Deliberately not
//! here: what is said of it.

use std::collections::BTreeMap;

use super::seqs::Seqs;
use crate::trace::align::align;
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::record::{LostRecord, MarkRecord, Record, RequestRecord, RunRecord};

/// Marks that are listed.
const MAX_MARKS: usize = 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) run: Option<RunRecord>,
    pub(super) clocks: ClockTrack,
    pub(super) offsets: Offsets,
    pub(super) requests: u64,
    pub(super) seqs: Seqs,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) arms: BTreeMap<String, u64>,
    /// How often each shadow policy agreed, and how often it was asked.
    pub(super) shadows: BTreeMap<String, (u64, u64)>,
    pub(super) missing: LostRecord,
    /// Requests that files of this run tell of which were not read.
    pub(super) elsewhere: u64,
    /// Requests that were written and whose lines cannot be read.
    pub(super) torn: u64,
    /// Lines that were torn before the file that is read.
    torn_before: u64,
    pub(super) unordered: u64,
    pub(super) stamped: u64,
    pub(super) broken: u64,
    /// Requests with stamps that the second pass has seen.
    pub(super) seen_again: u64,
    pub(super) connections: u64,
    pub(super) worker_changes: u64,
    pub(super) clock_records: u64,
    pub(super) journal_calls: u64,
    /// How many there are, and the first of them.
    pub(super) marks: (u64, Vec<MarkRecord>),
}

impl Tally {
    /// One that begins after so many torn lines.
    pub(super) fn after(torn_lines: u64) -> Self {
        Self { torn_before: torn_lines, ..Self::default() }
    }

    /// The next record, and how many lines were torn so far.
    pub(super) fn add(&mut self, record: &Record, torn_lines: u64) {
        match record {
            Record::Run(run) => self.file_begins(run, torn_lines),
            Record::Clock(clock) => {
                self.clocks.add_record(clock);
                self.clock_records += 1;
            }
            Record::Request(request) => self.request(request),
            Record::Connection(_) => self.connections += 1,
            Record::Worker(worker) => {
                self.offsets.know(worker);
                self.worker_changes += 1;
            }
            Record::Journal(_) => self.journal_calls += 1,
            Record::Mark(mark) => {
                self.marks.0 += 1;
                if self.marks.1.len() < MAX_MARKS {
                    self.marks.1.push(mark.clone());
                }
            }
            Record::Lost(lost) => self.missing.add(lost),
        }
    }

    /// Where a file says that more came before it than was read, that is in files that are not there, or was torn.
    fn file_begins(&mut self, run: &RunRecord, torn_lines: u64) {
        let before = run.capture.as_ref().map_or(0, |capture| capture.requests_before);
        let unread = before.saturating_sub(self.accounted());
        let is_torn = torn_lines > self.torn_before;
        *(if is_torn { &mut self.torn } else { &mut self.elsewhere }) += unread;
        self.torn_before = torn_lines;
        self.clocks.add(run.clock);
        self.run.get_or_insert_with(|| run.clone());
    }

    fn request(&mut self, request: &RequestRecord) {
        self.requests += 1;
        self.seqs.add(request.seq);
        self.offsets.learn(request);
        *self.outcomes.entry(request.outcome.name()).or_default() += 1;
        self.unordered += u64::from(!ends_last(request));
        self.stamped += u64::from(!request.server.is_empty());
        if let Some(arm) = &request.split_arm {
            count(&mut self.arms, arm, |count| *count += 1);
        }
        for shadow in request.shadow.get().into_iter().flatten() {
            count(&mut self.shadows, &shadow.policy, |(agreed, asked)| {
                *agreed += u64::from(shadow.agrees);
                *asked += 1;
            });
        }
    }

    /// The second pass: the same record again, now that all clocks are known.
    pub(super) fn see_again(&mut self, record: &Record) {
        if let Record::Request(request) = record
            && !request.server.is_empty()
        {
            self.seen_again += 1;
            self.broken += u64::from(align(request, &self.clocks, &self.offsets).order_broken);
        }
    }

    fn distinct(&self) -> u64 {
        self.requests - self.seqs.duplicates()
    }

    /// Requests that the trace accounts for: by a record, as missing, as told elsewhere, or as torn.
    fn accounted(&self) -> u64 {
        self.distinct() + self.missing.all_requests() + self.elsewhere + self.torn
    }

    /// Requests that began and of which nothing is told.
    pub(super) fn unaccounted(&self) -> u64 {
        self.seqs.highest().saturating_sub(self.accounted())
    }

    /// Records beyond the requests that there can have been. Lost requests may lie beyond the highest number that was written, so
    /// only the written ones can be too many.
    pub(super) fn surplus(&self) -> u64 {
        self.distinct().saturating_sub(self.seqs.highest())
    }
}

/// Changes the count of a name, which is copied only where it is new.
fn count<T: Default>(counts: &mut BTreeMap<String, T>, name: &str, change: impl FnOnce(&mut T)) {
    match counts.get_mut(name) {
        Some(count) => change(count),
        None => change(counts.entry(name.to_owned()).or_default()),
    }
}

/// No stamp of the router lies after the request's end.
fn ends_last(r: &RequestRecord) -> bool {
    let stamps = [
        r.body_read_ns,
        r.decided_ns,
        r.connected_ns,
        r.router_send_ns,
        r.first_byte_ns,
        r.head_ns,
        r.first_event_ns,
        r.first_token_ns,
        r.last_byte_ns,
    ];
    stamps.into_iter().flatten().all(|ns| ns <= r.end_ns)
}
