//! What is measured: one table of quantities, each with its name, its unit, its definition in words and in code.
//!
//! Rule: a quantity is one entry of the table, and everything that prints, writes or judges takes it from here: the summary,
//! `run.json`, `--explain`, `--goodput` and `docs/metrics.md`. A metric of one's own is one file beside this one with a
//! `QUANTITIES` of its own, and its line in [`TOPICS`]. A row that does not know it gives no sample, never 0. Deliberately
//! not here: statistics over the samples ([`super::stats`]), and the arithmetic of stamps (methods of [`Row`]).

mod answer;
mod client;
mod parts;
mod server;

use super::stats::{Samples, Summary};
use crate::load::row::Row;

/// All quantities by topic, in the order in which they are printed.
pub const TOPICS: [&[Quantity]; 4] =
    [answer::QUANTITIES, server::QUANTITIES, client::QUANTITIES, parts::QUANTITIES];

/// One quantity.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// In files and flags; where the definition is `bench_serving`'s, so is the name.
    pub name: &'static str,
    /// In the summary, up to 36 characters.
    pub title: &'static str,
    /// What its numbers are counted in.
    pub unit: Unit,
    /// How it is made, in words.
    pub definition: &'static str,
    /// Which rows are asked.
    pub of: Of,
    /// Where the summary has it.
    pub place: Place,
    /// How it is made of a row.
    pub value: Value,
}

/// What numbers are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Nothing: a number, a share, a ratio.
    Plain,
}

/// Which rows are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Successful requests.
    Successful,
    /// All that were sent.
    Sent,
}

/// Where the summary has a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the table of latencies.
    Latency,
    /// Under "where the time went"; the parts of one request, in this order, add up to its latency from schedule.
    Part,
    /// In both.
    LatencyAndPart,
}

/// How samples are made of a row.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// One a request; `None` where the row does not know it.
    One(fn(&Row) -> Option<f64>),
    /// Several a request: each sample, and how often it counts.
    Many(fn(&Row, &mut dyn FnMut(f64, u64))),
}

/// Every quantity.
pub fn all() -> impl Iterator<Item = &'static Quantity> {
    TOPICS.into_iter().flatten()
}

/// One by its name.
pub fn named(name: &str) -> Option<&'static Quantity> {
    all().find(|q| q.name == name)
}

impl Quantity {
    /// Its distribution over the rows it is about; `None` where no row knows it.
    pub fn summary<'a>(&self, rows: impl IntoIterator<Item = &'a Row>) -> Option<Summary> {
        let mut samples = Samples::default();
        for row in rows {
            self.each(row, &mut |value, times| samples.push_times(value, times));
        }
        samples.summary()
    }

    /// Each of its samples in a row, and how often it counts.
    pub fn each(&self, row: &Row, add: &mut dyn FnMut(f64, u64)) {
        if self.asks(row) {
            match self.value {
                Value::One(value) => value(row).into_iter().for_each(|v| add(v, 1)),
                Value::Many(all) => all(row, add),
            }
        }
    }

    /// Its value in one row; `None` too where a request has several.
    pub fn value(&self, row: &Row) -> Option<f64> {
        match self.value {
            Value::One(value) if self.asks(row) => value(row),
            _ => None,
        }
    }

    /// The summary's table of latencies has it.
    pub fn is_latency(&self) -> bool {
        matches!(self.place, Place::Latency | Place::LatencyAndPart)
    }

    /// It is one of the parts that add up to the latency.
    pub fn is_part(&self) -> bool {
        matches!(self.place, Place::Part | Place::LatencyAndPart)
    }

    fn asks(&self, row: &Row) -> bool {
        match self.of {
            Of::Successful => row.success(),
            Of::Sent => row.sent_ns.is_some(),
        }
    }
}

impl Unit {
    /// The end of a key in `run.json`.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Milliseconds => "_ms",
            Self::Plain => "",
        }
    }

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Milliseconds => "ms",
            Self::Plain => "",
        }
    }
}

/// A time of one successful request, in milliseconds: what most entries are. An entry that differs says so after it
/// (`Quantity { of: Of::Sent, ..time(..) }`).
const fn time(
    name: &'static str,
    title: &'static str,
    definition: &'static str,
    value: fn(&Row) -> Option<f64>,
) -> Quantity {
    Quantity {
        name,
        title,
        unit: Unit::Milliseconds,
        definition,
        of: Of::Successful,
        place: Place::Latency,
        value: Value::One(value),
    }
}

/// Nanoseconds as milliseconds.
fn ms(ns: Option<i64>) -> Option<f64> {
    ns.map(|ns| ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::load::row::example;

    /// Each definition in words against the row whose stamps are known, in the unit that it says.
    #[test]
    fn every_quantity_of_one_row_by_hand() {
        let expected = [
            ("server_latency", 60.0),
            ("total_latency", 61.0),
            ("ttft", 21.0),
            // Gaps of 10 ms with one token and 30 ms with three: four times 10 ms a token, two chunks of 20 ms.
            ("itl", 10.0),
            ("icl", 20.0),
            ("tpot", 10.0),
            ("queue_time_in_router", 1.0),
            ("router_overhead", 0.8),
            ("queue_time_in_server", 19.0),
            ("pure_queue_time", 10.0),
            ("prefill_time", 8.0),
            ("decode_time", 40.0),
            ("client_latency", 62.6),
            ("latency_from_schedule", 63.0),
            ("ttft_client", 23.1),
            ("ttft_from_schedule", 23.5),
            ("tpot_client", 39.5 / 4.0),
            ("lateness", 0.5),
            ("client_queue", 0.1),
            ("client_connect", 0.3),
            ("to_router", 0.6),
            ("router_in", 0.65),
            ("decision", 0.05),
            ("router_out", 0.3),
            ("network_time", 1.0),
            ("tokenize_time", 1.0),
            ("network_back", 1.0),
        ];
        for (name, mean) in expected {
            let got = named(name).unwrap_or_else(|| panic!("{name}")).summary([&example()]).unwrap().mean;
            assert!((got - mean).abs() < 1e-9, "{name}: {got}, not {mean}");
        }
        assert_eq!(all().count(), expected.len(), "a quantity without its row here");
    }

    #[test]
    fn names_are_unique_and_titles_fit() {
        let names: BTreeSet<&str> = all().map(|q| q.name).collect();
        assert_eq!(names.len(), all().count());
        for q in all() {
            assert!(q.title.chars().count() <= 36 && !q.definition.is_empty(), "{}", q.name);
        }
    }

    #[test]
    fn what_a_row_does_not_know_is_no_sample() {
        let row = Row::default();
        assert_eq!(all().filter_map(|q| q.summary([&row])).count(), 0);
    }
}
