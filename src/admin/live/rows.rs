//! Requests as the live page lists them: each with its stages and its whole record, as JSON.
//!
//! Rule: the last [`MAX_RECENT`] requests, and of those before them the last [`MAX_FAILED`] that did not end well, as these are
//! what somebody looks for; a row is made once and told as often as it is asked for. Deliberately not here: reading the trace.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::export::source::Placed;
use crate::export::stages::{Stage, whole};
use crate::trace::record::Outcome;

/// Requests that are held.
pub const MAX_RECENT: usize = 200;
/// Older requests that are held because they failed.
pub const MAX_FAILED: usize = 100;

/// A request as the page gets it.
#[derive(Serialize)]
struct Said<'a> {
    n: u64,
    stages: Vec<Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttft_ns: Option<i64>,
    ttft_source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_bound_ns: Option<u64>,
    order_broken: bool,
    record: &'a RawValue,
}

/// One request.
#[derive(Clone, Debug)]
struct Row {
    n: u64,
    failed: bool,
    json: String,
}

/// The requests that are held.
#[derive(Debug, Default)]
pub struct Rows {
    newest: u64,
    recent: VecDeque<Row>,
    // Each older than all of `recent`.
    failed: VecDeque<Row>,
}

impl Rows {
    /// Adds a request, whose record was read from `line`.
    pub fn add(&mut self, placed: &Placed<'_>, line: &RawValue) {
        let aligned = &placed.aligned;
        let n = self.newest + 1;
        let said = Said {
            n,
            stages: whole(placed),
            ttft_ns: aligned.ttft_ns,
            ttft_source: aligned.ttft_source.as_str(),
            clock_bound_ns: aligned.clock_bound_ns,
            order_broken: aligned.order_broken,
            record: line,
        };
        // Plain values: they can be told.
        let Ok(json) = serde_json::to_string(&said) else { return };
        self.newest = n;
        self.recent.push_back(Row { n, failed: placed.record.outcome != Outcome::Done, json });
        if self.recent.len() > MAX_RECENT {
            self.failed.extend(self.recent.pop_front().filter(|row| row.failed));
        }
        if self.failed.len() > MAX_FAILED {
            self.failed.pop_front();
        }
    }

    /// Forgets all of them; numbers go on.
    pub fn clear(&mut self) {
        self.recent.clear();
        self.failed.clear();
    }

    /// The number of the last one.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// A JSON list of those that came after number `after`, oldest first.
    pub fn after(&self, after: u64) -> String {
        let all = self.failed.iter().chain(&self.recent);
        let new: Vec<&str> = all.filter(|row| row.n > after).map(|row| row.json.as_str()).collect();
        format!("[{}]", new.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::align::Aligned;
    use crate::trace::record::RequestRecord;

    fn add(rows: &mut Rows, outcome: Outcome) {
        let record = RequestRecord { outcome, end_ns: 7, ..RequestRecord::default() };
        let line = RawValue::from_string(r#"{"kept":1.50}"#.to_owned()).unwrap();
        rows.add(&Placed { run: 1, record: &record, aligned: Aligned::default() }, &line);
    }

    fn numbers(rows: &Rows, after: u64) -> Vec<u64> {
        let told: Vec<serde_json::Value> = serde_json::from_str(&rows.after(after)).unwrap();
        told.iter().map(|row| row["n"].as_u64().unwrap()).collect()
    }

    #[test]
    fn the_last_requests_are_held_and_of_older_ones_those_that_failed() {
        let mut rows = Rows::default();
        for n in 1..=1_000_u64 {
            add(&mut rows, if n % 4 == 0 { Outcome::TimedOut } else { Outcome::Done });
        }
        let (held, new) = (numbers(&rows, 0), numbers(&rows, 998));
        assert_eq!((held.len(), rows.newest(), new), (MAX_RECENT + MAX_FAILED, 1_000, vec![999, 1_000]));
        assert!(held.is_sorted() && held[..MAX_FAILED].iter().all(|n| n % 4 == 0));
        assert_eq!(held[MAX_FAILED], 801);
        rows.clear();
        add(&mut rows, Outcome::Done);
        assert_eq!(numbers(&rows, 1_000), [1_001], "who looks on sees no number twice");
    }

    #[test]
    fn a_record_is_told_as_it_was_written() {
        let mut rows = Rows::default();
        add(&mut rows, Outcome::Done);
        assert!(rows.after(0).contains(r#""record":{"kept":1.50}"#), "{}", rows.after(0));
        assert!(rows.after(0).contains(r#""stages":[{"name":"finish","start_ns":0,"end_ns":7}]"#));
    }
}
