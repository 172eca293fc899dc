//! Do the counts of client, trace, router and workers agree?
//!
//! Rule: each sum is taken on two sides that do not know of each other; a difference is a fault of ours, is said in words, and
//! makes the demo fail. Deliberately not here: figures, and what a busy machine does to them.

use serde::Serialize;

use super::stage::Performance;
use crate::load::row::Row;
use crate::load::run::RunReport;
use crate::trace::reader::TraceFile;

/// Counts of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Requests planned: rows of the CSV.
    pub rows: u64,
    /// Of these, sent.
    pub sent: u64,
    /// Of these, found in the trace.
    pub in_trace: u64,
    /// Requests the router took, its own endpoints' included.
    pub router_requests: u64,
    /// Records of requests in the trace.
    pub records: u64,
    /// Of these, at the endpoint under load.
    pub loaded: u64,
    /// Records that the router counted as lost.
    pub lost: u64,
    /// Lines of the trace that are no record.
    pub torn_lines: u64,
    /// Rows whose stamps are not in order by more than the clock bound.
    pub order_broken: u64,
    /// Cached prompt tokens by the answers, and by the engines.
    pub cached_tokens: (u64, u64),
    /// Generated tokens by the answers, and by the engines, whose health checks count as well.
    pub generated_tokens: (u64, u64),
    /// What does not agree, in words; empty is good.
    pub faults: Vec<String>,
}

impl Books {
    /// Counts both sides.
    pub fn of(run: &RunReport, trace: &TraceFile, router_requests: u64, workers: &[Performance]) -> Self {
        let rows = &run.rows;
        let count = |keep: fn(&Row) -> bool| rows.iter().filter(|row| keep(row)).count() as u64;
        let requests = || trace.runs.iter().flat_map(|r| &r.requests);
        let path = run.config.target.path(run.config.backend.path(true));
        let mut books = Self {
            rows: rows.len() as u64,
            sent: count(|r| r.sent_ns.is_some()),
            in_trace: count(|r| r.in_trace),
            router_requests,
            records: requests().count() as u64,
            loaded: requests().filter(|r| r.path == path).count() as u64,
            lost: trace.runs.iter().map(|r| r.missing.requests).sum(),
            torn_lines: trace.torn_lines,
            order_broken: count(|r| r.order_broken),
            cached_tokens: (
                rows.iter().filter_map(|r| r.cached_tokens).sum(),
                workers.iter().map(|w| w.cached_tokens).sum(),
            ),
            generated_tokens: (
                rows.iter().filter_map(|r| r.completion_tokens).sum(),
                workers.iter().map(|w| w.generated_tokens).sum(),
            ),
            faults: Vec::new(),
        };
        let all_good = rows.iter().all(|row| row.success());
        books.faults = books.audit(all_good);
        books
    }

    /// Requests that failed leave tokens at the workers that no answer tells, so tokens are compared only if none did.
    fn audit(&self, all_good: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |fine: bool, what: String| {
            if !fine {
                faults.push(what);
            }
        };
        expect(
            self.records + self.lost == self.router_requests,
            format!(
                "the trace has {} records and {} lost, the router took {} requests",
                self.records, self.lost, self.router_requests
            ),
        );
        expect(self.torn_lines == 0, format!("{} lines of the trace are no record", self.torn_lines));
        if all_good {
            expect(
                self.sent == self.rows && self.in_trace + self.lost >= self.sent,
                format!(
                    "of {} rows {} were sent and {} are in the trace",
                    self.rows, self.sent, self.in_trace
                ),
            );
            expect(
                self.loaded + self.lost >= self.rows && self.loaded <= self.rows,
                format!("the trace has {} records of the load, the client sent {}", self.loaded, self.rows),
            );
            let (told, made) = self.cached_tokens;
            expect(told == made, format!("answers tell {told} cached tokens, the workers found {made}"));
            let (told, made) = self.generated_tokens;
            expect(told <= made, format!("answers tell {told} generated tokens, the workers made {made}"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Books {
        Books {
            rows: 3,
            sent: 3,
            in_trace: 3,
            router_requests: 4,
            records: 4,
            loaded: 3,
            cached_tokens: (50, 50),
            generated_tokens: (30, 34),
            ..Books::default()
        }
    }

    #[test]
    fn books_that_balance_have_no_fault() {
        assert!(good().audit(true).is_empty());
        let lost = Books { records: 3, lost: 1, loaded: 2, in_trace: 2, ..good() };
        assert!(lost.audit(true).is_empty(), "what is lost is counted");
    }

    #[test]
    fn each_difference_is_a_fault() {
        for (bad, word) in [
            (Books { records: 3, ..good() }, "router took 4"),
            (Books { torn_lines: 1, ..good() }, "no record"),
            (Books { in_trace: 2, ..good() }, "2 are in the trace"),
            (Books { loaded: 4, ..good() }, "4 records"),
            (Books { cached_tokens: (50, 51), ..good() }, "cached"),
            (Books { generated_tokens: (40, 34), ..good() }, "generated"),
        ] {
            let faults = bad.audit(true);
            assert!(faults.len() == 1 && faults[0].contains(word), "{word}: {faults:?}");
        }
    }

    #[test]
    fn failed_requests_leave_only_the_trace_to_be_compared() {
        let partial = Books { sent: 2, in_trace: 2, cached_tokens: (1, 9), ..good() };
        assert!(partial.audit(false).is_empty());
    }
}
