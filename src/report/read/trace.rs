//! A router's trace log alone: the requests as the router saw them.
//!
//! Rule: the file is read twice, as the clocks of its end place stamps of its beginning, and never held. Wall time puts several runs
//! of the router on one axis; inside a run it is the monotonic clock. Deliberately not here: a client, which a trace does not know.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Facts, ReadError};
use crate::load::recorded::row_of;
use crate::load::row::Row;
use crate::load::target::host_port_of;
use crate::report::gather::Side;
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::reader::{ReadError as TraceError, TraceReader};
use crate::trace::record::{Record, RequestRecord};

/// One run of the router.
#[derive(Default)]
struct Run {
    clocks: ClockTrack,
    offsets: Offsets,
    /// Workers that say whether they are simulated.
    simulated: BTreeMap<String, bool>,
    /// Added to its monotonic clock: time after the first request of the file. None before its first request.
    shift_ns: Option<i64>,
}

/// Every row in turn.
pub(super) fn rows(path: &Path, take: &mut dyn FnMut(Side, &Row)) -> Result<Facts, ReadError> {
    let mut facts = Facts { side: Side::Router, ..Facts::default() };
    let runs = clocks(path, &mut facts)?;
    let mut warm_up = 0_u64;
    let mut place = Place::default();
    let mut reader = TraceReader::open(path).map_err(|e| error(path, &e))?;
    for record in &mut reader {
        let (_, record) = record.map_err(|e| error(path, &e))?;
        let run = &runs[place.of(&record)];
        if let Record::Request(record) = record
            && record.endpoint.generates()
        {
            if record.phase.as_deref() == Some("warmup") {
                warm_up += 1;
            } else if let Some(shift_ns) = run.shift_ns {
                let mut row = row_of(&record, &run.clocks, &run.offsets, shift_ns);
                row.simulated = row.host.as_ref().and_then(|host| run.simulated.get(host)).copied();
                take(Side::Router, &row);
            }
        }
    }
    let mut note = |count: u64, what: &str| {
        facts.notes.extend((count > 0).then(|| format!("{what}: {count}")));
    };
    note(warm_up, "requests of a warm-up, left out");
    note(reader.torn_lines(), "lines that are no records, passed over");
    facts.notes.push("a trace alone: TTFT and E2E as the router saw them; no client, no ITL".to_owned());
    Ok(facts)
}

/// The run a record is of: the file may begin without its `run` record.
#[derive(Default)]
struct Place {
    begun: bool,
    run: usize,
}

impl Place {
    fn of(&mut self, record: &Record) -> usize {
        if matches!(record, Record::Run(_)) && std::mem::replace(&mut self.begun, true) {
            self.run += 1;
        }
        self.begun = true;
        self.run
    }
}

/// What places stamps, run by run.
fn clocks(path: &Path, facts: &mut Facts) -> Result<Vec<Run>, ReadError> {
    let mut runs = vec![Run::default()];
    let mut place = Place::default();
    let mut first_unix_ns = None;
    let (mut lost, mut policies) = (0, Vec::new());
    for record in TraceReader::open(path).map_err(|e| error(path, &e))? {
        let (_, record) = record.map_err(|e| error(path, &e))?;
        let at = place.of(&record);
        runs.resize_with(at + 1, Run::default);
        let run = &mut runs[at];
        match record {
            Record::Run(record) => {
                run.clocks.add(record.clock);
                policies.push(record.policy);
                if facts.said.is_empty() {
                    facts.said.push(("Started", crate::units::utc(record.clock.unix_ns)));
                }
            }
            Record::Clock(clock) => run.clocks.add(clock),
            Record::Worker(worker) => {
                run.offsets.know(&worker);
                let host = host_port_of(&worker.worker);
                run.simulated.extend(worker.simulated.map(|simulated| (host, simulated)));
            }
            Record::Request(request) => {
                run.offsets.learn(&request);
                run.shift_ns = run.shift_ns.or_else(|| {
                    let first = *first_unix_ns.get_or_insert(request.arrival_unix_ns);
                    shift(&request, first)
                });
            }
            Record::Lost(record) => lost += record.requests,
            Record::Connection(_) | Record::Journal(_) | Record::Mark(_) => {}
        }
    }
    policies.dedup();
    if !policies.is_empty() {
        facts.said.push(("Policy", policies.join(", ")));
    }
    if lost > 0 {
        facts.notes.push(format!("{lost} requests are missing: the router could not write their records"));
    }
    Ok(runs)
}

fn shift(request: &RequestRecord, first_unix_ns: u64) -> Option<i64> {
    let signed = |ns: u64| i64::try_from(ns).ok();
    Some(signed(request.arrival_unix_ns)? - signed(first_unix_ns)? - signed(request.arrival_mono_ns)?)
}

fn error(path: &Path, error: &TraceError) -> ReadError {
    match error {
        TraceError::Open { source, .. } => ReadError::new(path, source),
        other => ReadError::new(path, other),
    }
}
