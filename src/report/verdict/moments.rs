//! The moments of all requests that rules of load and of trend ask for, a column each.
//!
//! Rule: 33 bytes a request, as these rules have to see the requests beside each other; nothing where no rule asks. Deliberately not
//! here: the rules.

use crate::load::row::Row;
use crate::load::run::RunReport;

/// A moment that never came; no clock tells it.
const NEVER: i64 = i64::MIN;

/// Nanoseconds after the start of the run, an entry a row.
#[derive(Debug)]
pub(super) struct Moments {
    /// The arrivals have a rate; else it is a closed loop.
    open: bool,
    /// Due; in a closed loop free to go.
    begun_ns: Vec<i64>,
    /// The first write had returned; in a closed loop it was begun.
    written_ns: Vec<i64>,
    first_token_ns: Vec<i64>,
    ended_ns: Vec<i64>,
    good: Vec<bool>,
}

/// Which end of a latency.
#[derive(Clone, Copy, Debug)]
pub(super) enum Until {
    FirstToken,
    LastByte,
}

impl Moments {
    /// Of a run; `None` where all is due at once and no rule asks.
    pub fn of(run: &RunReport) -> Option<Self> {
        let open = run.config.arrivals.mean_per_s().is_some();
        let (asked, rows) = (open || run.config.max_concurrency.is_some(), run.rows.len());
        asked.then(|| Self {
            open,
            begun_ns: Vec::with_capacity(rows),
            written_ns: Vec::with_capacity(rows),
            first_token_ns: Vec::with_capacity(rows),
            ended_ns: Vec::with_capacity(rows),
            good: Vec::with_capacity(rows),
        })
    }

    pub fn add(&mut self, row: &Row) {
        let (begun_ns, written_ns) = if self.open {
            (Some(row.scheduled_ns), row.sent_ns)
        } else {
            (row.dispatched_ns, row.write_begun_ns)
        };
        self.begun_ns.push(begun_ns.unwrap_or(NEVER));
        self.written_ns.push(written_ns.unwrap_or(NEVER));
        self.first_token_ns.push(row.client_first_token_ns.unwrap_or(NEVER));
        self.ended_ns.push(row.client_end_ns.unwrap_or(NEVER));
        self.good.push(row.success());
    }

    /// Due and sent, of each request that was sent; nothing in a closed loop.
    pub fn sent(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        both(&self.begun_ns, &self.written_ns).filter(|_| self.open)
    }

    /// Begun and ended, of each request that did both.
    pub fn spans(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        both(&self.begun_ns, &self.ended_ns)
    }

    /// A token came.
    pub fn streamed(&self) -> bool {
        self.first_token_ns.iter().any(|ns| *ns != NEVER)
    }

    /// When each successful request began, and how long it took, ms: from its due time, in a closed loop from the send.
    pub fn latencies(&self, until: Until) -> Vec<(i64, f64)> {
        let ends_ns = match until {
            Until::FirstToken => &self.first_token_ns,
            Until::LastByte => &self.ended_ns,
        };
        let from_ns = if self.open { &self.begun_ns } else { &self.written_ns };
        let all = self.begun_ns.iter().zip(from_ns).zip(ends_ns).zip(&self.good);
        all.filter(|(((begun, from), end), good)| **good && ![**begun, **from, **end].contains(&NEVER))
            .map(|(((begun, from), end), _)| (*begun, (end - from) as f64 / 1e6))
            .collect()
    }
}

/// Pairs of which neither never came.
fn both<'a>(first: &'a [i64], second: &'a [i64]) -> impl Iterator<Item = (i64, i64)> + 'a {
    let pairs = first.iter().copied().zip(second.iter().copied());
    pairs.filter(|(first, second)| *first != NEVER && *second != NEVER)
}
