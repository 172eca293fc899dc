//! The router's records of a run's requests, as their lines.
//!
//! Rule: 24 bytes of memory for each planned request, whatever its record holds. Of several records with one id the one that arrived
//! last is taken. Deliberately not here: reading a trace, and what a record means.

use std::fmt;

use super::{Keeping, Reader, Spool, Spooled};
use crate::trace::record::{Record, RequestRecord};

/// There is none.
const NOTHING: u64 = u64::MAX;

/// Whose records are looked for.
pub(in crate::load) struct Wanted<'a> {
    /// The place in the plan of the request with this id; `None` where it is none of the run's, or was never sent.
    pub index: &'a (dyn Fn(&str) -> Option<usize> + Sync),
    /// How many have a record to come.
    pub count: usize,
    /// All in the plan.
    pub planned: usize,
    /// Where records are kept.
    pub keeping: &'a Keeping,
}

impl fmt::Debug for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A request's record, with the run of the router it is of.
#[derive(Debug)]
pub(in crate::load) struct Found {
    /// The run.
    pub run: usize,
    /// The record.
    pub record: RequestRecord,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    place: u64,
    arrival_mono_ns: u64,
    run: usize,
}

/// Records that come.
#[derive(Debug)]
pub(in crate::load) struct RecordsMaker {
    spool: Spool,
    entries: Vec<Entry>,
    found: usize,
}

/// All that came.
#[derive(Debug, Default)]
pub(in crate::load) struct Records {
    spooled: Spooled,
    entries: Vec<Entry>,
}

impl RecordsMaker {
    /// None yet.
    pub fn new(wanted: &Wanted<'_>) -> Self {
        let nothing = Entry { place: NOTHING, arrival_mono_ns: 0, run: 0 };
        Self { spool: Spool::new(wanted.keeping), entries: vec![nothing; wanted.planned], found: 0 }
    }

    /// Requests with a record.
    pub fn found(&self) -> usize {
        self.found
    }

    /// Takes the line of a record. True: the request had one. The order in a trace is not that of arrival: a request that was
    /// given up may be written after the one sent again.
    pub fn keep(&mut self, index: usize, run: usize, arrival_mono_ns: u64, line: &[u8]) -> bool {
        let Some(known) = self.entries.get_mut(index) else { return false };
        let is_known = known.place != NOTHING;
        if is_known && (run, arrival_mono_ns) <= (known.run, known.arrival_mono_ns) {
            return true;
        }
        let place = self.spool.append(&String::from_utf8_lossy(line).into_owned());
        *known = Entry { place, arrival_mono_ns, run };
        self.found += usize::from(!is_known);
        is_known
    }

    /// No more come.
    pub fn finish(self) -> Records {
        Records { spooled: self.spool.finish(), entries: self.entries }
    }
}

impl Records {
    /// The record of each planned request, in the order of the plan; none where none came.
    pub fn in_order(&self) -> impl Iterator<Item = Result<Option<Found>, Unread>> + '_ {
        let mut reader = self.spooled.reader();
        self.entries.iter().map(move |entry| read(&mut reader, entry))
    }

    /// The first record of a run of the router.
    pub fn first_of(&self, run: usize) -> Option<RequestRecord> {
        let entry = self.entries.iter().find(|entry| entry.place != NOTHING && entry.run == run)?;
        read(&mut self.spooled.reader(), entry).ok()?.map(|found| found.record)
    }

    /// What a reader of the figures has to know of how they were kept.
    pub fn trouble(&self) -> Option<String> {
        self.spooled.trouble.clone()
    }
}

/// A record came and cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) struct Unread;

fn read(reader: &mut Reader<'_>, entry: &Entry) -> Result<Option<Found>, Unread> {
    if entry.place == NOTHING {
        return Ok(None);
    }
    let line = reader.value::<String>(entry.place).map_err(|_| Unread)?;
    match serde_json::from_str(&line) {
        Ok(Record::Request(record)) => Ok(Some(Found { run: entry.run, record: *record })),
        _ => Err(Unread),
    }
}
