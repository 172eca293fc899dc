//! A router's trace log alone: the requests as the router saw them.
//!
//! Rule: the file is read twice, as the clocks of its end place stamps of its beginning, and never held; the second time as far as
//! the first. Zero is the first arrival of the rows. Wall time puts several runs of the router on one axis; inside a run it is the
//! monotonic clock. Of a sample only what stands for the others is a row. Deliberately not here: a client, which a trace does not
//! know.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Facts, ReadError};
use crate::load::recorded::row_of;
use crate::load::row::Row;
use crate::load::target::host_port_of;
use crate::report::gather::Side;
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::borders::Borders;
use crate::trace::reader::{ReadError as TraceError, TraceReader};
use crate::trace::record::{LostRecord, Record, RequestRecord, RunRecord};

/// One run of the router.
#[derive(Default)]
struct Run {
    clocks: ClockTrack,
    offsets: Offsets,
    /// Workers that say whether they are simulated.
    simulated: BTreeMap<String, bool>,
    /// Added to its monotonic clock: Unix time, as its first row has it. None before that.
    to_unix_ns: Option<i64>,
    /// The first arrival of its rows, on its monotonic clock.
    first_ns: Option<i64>,
}

/// What the first pass found.
#[derive(Default)]
struct Found {
    runs: Vec<Run>,
    records: usize,
    started_unix_ns: Option<u64>,
    policies: Vec<String>,
    /// Shares of samples, as text.
    shares: Vec<String>,
    missing: LostRecord,
    warm_up: u64,
    beyond_sample: u64,
}

/// Every row in turn.
pub(super) fn rows(path: &Path, take: &mut dyn FnMut(Side, &Row)) -> Result<Facts, ReadError> {
    let found = Found::in_trace(path)?;
    let zero_ns = found.zero_unix_ns();
    let (mut borders, mut at) = (Borders::default(), 0);
    let mut reader = TraceReader::open(path).map_err(|e| error(path, &e))?;
    for (place, record) in reader.by_ref().take(found.records).enumerate() {
        let (_, record) = record.map_err(|e| error(path, &e))?;
        at += usize::from(borders.is_new_run(&record, place == 0));
        let Some(run) = found.runs.get(at - 1) else { break };
        if let (Record::Request(record), Some(to_unix_ns)) = (record, run.to_unix_ns)
            && part(&record) == Part::Row
        {
            let mut row = row_of(&record, &run.clocks, &run.offsets, to_unix_ns - zero_ns);
            row.simulated = row.host.as_ref().and_then(|host| run.simulated.get(host)).copied();
            take(Side::Router, &row);
        }
    }
    Ok(found.facts(reader.torn_lines()))
}

/// What a record of a request is for the figures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Row,
    WarmUp,
    /// Kept for having failed or been slow: it stands for itself alone.
    BeyondSample,
    /// Nothing was to be generated.
    Other,
}

fn part(request: &RequestRecord) -> Part {
    if !request.endpoint.generates() {
        Part::Other
    } else if request.phase.as_deref() == Some("warmup") {
        Part::WarmUp
    } else if request.kept_for.is_some() {
        Part::BeyondSample
    } else {
        Part::Row
    }
}

impl Found {
    fn in_trace(path: &Path) -> Result<Self, ReadError> {
        let (mut found, mut borders) = (Self::default(), Borders::default());
        for record in TraceReader::open(path).map_err(|e| error(path, &e))? {
            let (_, record) = record.map_err(|e| error(path, &e))?;
            if borders.is_new_run(&record, found.records == 0) {
                found.runs.push(Run::default());
            }
            found.records += 1;
            found.add(record);
        }
        found.policies.dedup();
        found.shares.dedup();
        Ok(found)
    }

    fn add(&mut self, record: Record) {
        let Some(run) = self.runs.last_mut() else { return };
        match record {
            Record::Run(record) => {
                run.clocks.add(record.clock);
                self.begins(record);
            }
            Record::Clock(clock) => run.clocks.add_record(&clock),
            Record::Worker(worker) => {
                run.offsets.know(&worker);
                let host = host_port_of(&worker.worker);
                run.simulated.extend(worker.simulated.map(|simulated| (host, simulated)));
            }
            Record::Request(request) => {
                run.offsets.learn(&request);
                match part(&request) {
                    Part::Row => run.begins(&request),
                    Part::WarmUp => self.warm_up += 1,
                    Part::BeyondSample => self.beyond_sample += 1,
                    Part::Other => {}
                }
            }
            Record::Lost(record) => self.missing.add(&record),
            Record::Connection(_) | Record::Journal(_) | Record::Mark(_) => {}
        }
    }

    fn begins(&mut self, run: RunRecord) {
        self.started_unix_ns.get_or_insert(run.clock.unix_ns);
        self.policies.push(run.policy);
        self.shares.extend(run.capture.and_then(|c| c.sample_share).map(|share| share.to_string()));
    }

    /// The first arrival of all rows.
    fn zero_unix_ns(&self) -> i64 {
        let firsts = self.runs.iter().filter_map(|run| Some(run.first_ns?.saturating_add(run.to_unix_ns?)));
        firsts.min().unwrap_or(0)
    }

    fn facts(self, torn_lines: u64) -> Facts {
        let mut facts = Facts { side: Side::Router, ..Facts::default() };
        facts.said.extend(self.started_unix_ns.map(|ns| ("Started", crate::units::utc(ns))));
        if !self.policies.is_empty() {
            facts.said.push(("Policy", self.policies.join(", ")));
        }
        let LostRecord { requests: lost, stopped, sampled, .. } = self.missing;
        if !self.shares.is_empty() || sampled + self.beyond_sample > 0 {
            facts.notes.push(format!(
                "a sample (--trace-sample {}): {sampled} requests have no record; {} have one for having failed or been slow \
                 and are left out, as they stand for themselves alone; counts and rates are those of the sample",
                self.shares.join(", "),
                self.beyond_sample
            ));
        }
        let mut note = |count: u64, what: &str| {
            facts.notes.extend((count > 0).then(|| format!("{what}: {count}")));
        };
        note(lost, "requests that are missing, as the router could not write their records");
        note(stopped, "requests that are missing, as the capture was stopped");
        note(self.warm_up, "requests of a warm-up, left out");
        note(torn_lines, "lines that are no records, passed over");
        facts.notes.push("a trace alone: TTFT and E2E as the router saw them; no client, no ITL".to_owned());
        facts
    }
}

impl Run {
    /// A row more. They are written as they end, so that an earlier arrival may come later.
    fn begins(&mut self, request: &RequestRecord) {
        let signed = |ns: u64| i64::try_from(ns).ok();
        let (Some(mono_ns), Some(unix_ns)) =
            (signed(request.arrival_mono_ns), signed(request.arrival_unix_ns))
        else {
            return;
        };
        self.to_unix_ns.get_or_insert(unix_ns - mono_ns);
        self.first_ns = Some(self.first_ns.map_or(mono_ns, |first| first.min(mono_ns)));
    }
}

fn error(path: &Path, error: &TraceError) -> ReadError {
    match error {
        TraceError::Open { source, .. } => ReadError::new(path, source),
        other => ReadError::new(path, other),
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
