//! The trace against the books.
//!
//! Rule: each record belongs to one request that was sent, each request that the router must have taken up has one record, and
//! the two agree; requests = records + lost, and none is lost. Deliberately not here: when two views of one request agree
//! (`agree`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use milepost::trace::reader::TraceReader;
use milepost::trace::record::{Outcome, Record, RequestRecord};

use crate::agree;
use crate::ledger::{self, Ledger};
use crate::page::Page;
use crate::seen::Seen;

/// What was found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Requests that were sent.
    pub sent: usize,
    stopped_from: usize,
    /// Request records.
    pub records: u64,
    /// Records that the trace says are missing.
    pub lost: u64,
    /// Connection records.
    pub connections: u64,
    /// Times that a breaker opened; on `/metrics` they go with their worker.
    pub breakers_opened: u64,
    /// Records by outcome, those of the requests that the stop met left out: the last page was before.
    counted: BTreeMap<&'static str, u64>,
    /// Records by outcome.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Requests by kind of client.
    pub visits: BTreeMap<&'static str, u64>,
    /// What is wrong, in words.
    pub offences: Vec<String>,
}

/// Reads the trace and compares; `page` is the last one before the stop, of the requests below the number `stopped_from`.
pub fn audit(trace: &Path, ledger: &Ledger, page: &Page, stopped_from: usize) -> Audit {
    let (requests, complaints) = ledger.close();
    let mut audit = Audit { sent: requests.len(), stopped_from, offences: complaints, ..Audit::default() };
    let mut found = vec![0_u32; requests.len()];
    if let Err(why) = audit.read(trace, &requests, &mut found) {
        audit.offences.push(why);
    }
    for (number, (seen, found)) in requests.iter().zip(found).enumerate() {
        *audit.visits.entry(seen.visit).or_default() += 1;
        let (least, most) = agree::records_due(seen);
        if !(least..=most).contains(&found) {
            let id = ledger::id_of(number);
            audit
                .offences
                .push(format!("{id} ({}): {found} records, {least} to {most} are due; {seen:?}", seen.visit));
        }
    }
    audit.books(page);
    let sure = ledger.unreadable.load(Ordering::Relaxed);
    let most = sure + ledger.perhaps_unreadable.load(Ordering::Relaxed);
    if !(sure..=most).contains(&audit.connections) {
        audit.offences.push(format!("{} connection records, {sure} to {most} are due", audit.connections));
    }
    audit
}

impl Audit {
    fn read(&mut self, trace: &Path, requests: &[Seen], found: &mut [u32]) -> Result<(), String> {
        let mut reader = TraceReader::open(trace).map_err(|error| error.to_string())?;
        for next in &mut reader {
            let (line, record) = next.map_err(|error| error.to_string())?;
            match record {
                Record::Request(record) => {
                    self.records += 1;
                    *self.outcomes.entry(record.outcome.name()).or_default() += 1;
                    self.compare(line, &record, requests, found);
                }
                Record::Connection(_) => self.connections += 1,
                Record::Lost(lost) => self.lost += lost.requests,
                Record::Worker(worker) => self.breakers_opened += u64::from(worker.event == "breaker_open"),
                Record::Run(_) | Record::Clock(_) | Record::Journal(_) | Record::Mark(_) => {}
            }
        }
        match reader.torn_lines() {
            0 => Ok(()),
            torn => Err(format!("{torn} torn lines in the trace, first {:?}", reader.bad_lines().first())),
        }
    }

    fn compare(&mut self, line: u64, record: &RequestRecord, requests: &[Seen], found: &mut [u32]) {
        let number = ledger::number_of(&record.request_id).filter(|number| *number < requests.len());
        let Some(number) = number else {
            let id = &record.request_id;
            self.offences.push(format!("line {line}: {id} was sent by nobody; {}", brief(record)));
            return;
        };
        found[number] += 1;
        if number < self.stopped_from {
            *self.counted.entry(record.outcome.name()).or_default() += 1;
        }
        if let Some(what) = agree::contradiction(&requests[number], record) {
            let visit = requests[number].visit;
            self.offences.push(format!(
                "line {line}: {} ({visit}): {what}; {}",
                record.request_id,
                brief(record)
            ));
        }
    }

    /// The router's counts against the trace.
    fn books(&mut self, page: &Page) {
        let (records, lost) = (self.counted.values().sum::<u64>(), self.lost);
        let mut equal = |what: &str, counted: i64, due: u64| {
            if u64::try_from(counted) != Ok(due) {
                self.offences.push(format!("{what}: {counted}, by the trace {due}"));
            }
        };
        equal(
            "smg_http_requests_total, to be records + lost",
            page.sum("smg_http_requests_total", ""),
            records + lost,
        );
        let offered = page.sum("milepost_trace_requests_offered_total", "");
        equal("milepost_trace_requests_offered_total", offered, records + lost);
        equal("milepost_trace_requests_lost_total", page.sum("milepost_trace_requests_lost_total", ""), lost);
        for outcome in Outcome::ALL.map(Outcome::name) {
            let label = format!("outcome=\"{outcome}\"");
            let due = self.counted.get(outcome).copied().unwrap_or(0);
            equal(&label, page.sum("milepost_requests_ended_total", &label), due);
        }
        if lost > 0 {
            self.offences.push(format!("{lost} records are lost"));
        }
    }
}

/// What of a record helps to understand an offence.
fn brief(record: &RequestRecord) -> String {
    let RequestRecord {
        outcome, status, error, attempts, reconnects, response_body_bytes, sse_events, ..
    } = record;
    format!(
        "record: {} {} {outcome:?}, status {status:?}, error {error:?}, {attempts} attempts, {reconnects} reconnects, \
         {response_body_bytes} bytes, {sse_events} events, done {:?}, worker {:?}, failed {:?}",
        record.method, record.path, record.sse_done, record.worker, record.failed_attempts
    )
}
