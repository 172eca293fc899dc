//! The books of a capture: whether its records, with what they say is missing, are all the requests there were.
//!
//! Rule: counted record by record, so that a trace of any length can be audited; each number is counted in one way and held against
//! another: the lines against the numbers of the requests, those against what the clients sent. Deliberately not here: reading.

use milepost::trace::record::{LostRecord, Record};

/// What the files of a capture hold.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Records of requests.
    pub records: u64,
    /// Of these, requests that were to generate.
    pub generated: u64,
    /// What the trace says is missing in it.
    pub missing: LostRecord,
    /// Requests of files that the limit on all of them has removed.
    pub removed: u64,
    /// Lines that are no record.
    pub torn_lines: u64,
    /// Requests that files between those that are there tell of.
    gaps: u64,
    highest_seq: u64,
    /// A bit for each number that was seen.
    seen: Vec<u64>,
    twice: u64,
    files: u64,
}

impl Books {
    /// Enters the next record.
    pub fn enter(&mut self, record: &Record) {
        match record {
            Record::Run(run) => {
                let before = run.capture.as_ref().map_or(0, |capture| capture.requests_before);
                let unknown = before.saturating_sub(self.accounted());
                // The oldest files go first, so what is not there lies before the first one.
                if self.files == 0 {
                    self.removed = unknown;
                } else {
                    self.gaps += unknown;
                }
                self.files += 1;
            }
            Record::Request(request) => {
                self.records += 1;
                self.generated += u64::from(request.endpoint.generates());
                self.highest_seq = self.highest_seq.max(request.seq);
                self.mark(request.seq);
            }
            Record::Lost(lost) => self.missing.add(lost),
            Record::Clock(_)
            | Record::Connection(_)
            | Record::Worker(_)
            | Record::Journal(_)
            | Record::Mark(_) => {}
        }
    }

    fn mark(&mut self, seq: u64) {
        let (word, bit) = ((seq / 64) as usize, 1 << (seq % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        self.twice += u64::from(self.seen[word] & bit != 0);
        self.seen[word] |= bit;
    }

    /// Requests of the run, by their numbers.
    pub fn requests(&self) -> u64 {
        self.highest_seq
    }

    /// Requests that the files account for: by a record, as missing, or as removed with their file.
    pub fn accounted(&self) -> u64 {
        self.records + self.missing.all_requests() + self.removed
    }

    /// What is wrong; `sent` is what the clients count, where they can.
    pub fn offences(&self, sent: Option<u64>) -> Vec<String> {
        let (requests, accounted) = (self.requests(), self.accounted());
        let sent = sent.unwrap_or(0);
        // Which of the removed ones were to generate, nobody knows.
        let differs = sent > 0 && !(self.generated..=self.generated + self.removed).contains(&sent);
        let found = [
            (self.missing.requests > 0, format!("{} records are lost", self.missing.requests)),
            (self.torn_lines > 0, format!("{} lines are no record", self.torn_lines)),
            (self.twice > 0, format!("{} requests have two records", self.twice)),
            (self.gaps > 0, format!("{} requests are in files that are not there", self.gaps)),
            (accounted != requests, format!("{requests} requests, and {accounted} accounted for")),
            (differs, format!("{sent} requests sent, and records of {}", self.generated)),
        ];
        found.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
    }
}
