//! The figures of each part of the requests by one key.
//!
//! Rule: a row that does not know its part is in none; all parts are told apart until samples are
//! let go; beyond a number of parts that nobody reads, the others and their requests are then only counted.
//! Deliberately not here: which keys there are (`breakdown`).

use std::collections::{BTreeMap, HashSet};

use milepost_policies::name_hash;

use super::{Distribution, Line};
use crate::load::row::Row;
use crate::report::breakdown::{Key, Part, ordered};
use crate::report::quantity::{Quantity, named};

/// Parts that a chart tells apart.
const MOST_LINES: usize = 8;
/// Room that a part takes beside its samples, in samples.
const SAMPLES_OF_A_PART: usize = 32;
/// Names of parts that are counted after they were let go.
const MOST_LET_GO: usize = 1 << 20;
/// What is measured of each part.
const MEASURED: [&str; 3] = ["ttft", "tpot", "total_latency"];

/// The parts by one key.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    key: Key,
    /// [`MEASURED`], looked up once.
    measured: Vec<&'static Quantity>,
    /// Parts that are told apart at most: all, until samples are let go.
    names: usize,
    by_name: BTreeMap<String, PartTally>,
    /// Rows of parts that are not told apart.
    pub unnamed: u64,
    /// Hashes of the names of these parts, as long as there is room.
    let_go: HashSet<u64>,
}

#[derive(Clone, Debug, Default)]
struct PartTally {
    requests: u64,
    succeeded: u64,
    output_tokens: u64,
    cached_tokens: u64,
    prompt_tokens: u64,
    simulated: bool,
    /// `None` before the first row.
    first_ns: Option<i64>,
    measured: [Distribution; 3],
}

impl Parts {
    pub(super) fn of(key: Key) -> Self {
        Self {
            key,
            measured: MEASURED.into_iter().filter_map(named).collect(),
            names: usize::MAX,
            by_name: BTreeMap::new(),
            unnamed: 0,
            let_go: HashSet::new(),
        }
    }

    pub(super) fn add(&mut self, row: &Row) {
        let Some(name) = (self.key.of)(row) else { return };
        if let Some(part) = self.by_name.get_mut(&name) {
            part.add(row, &self.measured);
        } else if self.by_name.len() < self.names {
            self.by_name.entry(name).or_default().add(row, &self.measured);
        } else {
            self.unnamed += 1;
            self.let_go(&name);
        }
    }

    fn let_go(&mut self, name: &str) {
        if self.let_go.len() < MOST_LET_GO {
            self.let_go.insert(name_hash(name.as_bytes()));
        }
    }

    /// Parts that are not told apart; of more than a million that many.
    pub(super) fn left_out(&self) -> u64 {
        self.let_go.len() as u64
    }

    pub(super) fn kept(&self) -> usize {
        let samples: usize = self.by_name.values().flat_map(|p| &p.measured).map(Distribution::kept).sum();
        samples + self.by_name.len() * SAMPLES_OF_A_PART
    }

    /// Keeps no more than `names` parts, those with the most requests, and `most` samples of each.
    pub(super) fn shrink(&mut self, most: usize, names: usize) {
        self.names = names;
        if self.by_name.len() > names {
            let mut all: Vec<(String, PartTally)> = std::mem::take(&mut self.by_name).into_iter().collect();
            all.sort_by_key(|(_, part)| std::cmp::Reverse(part.requests));
            self.unnamed += all[names..].iter().map(|(_, part)| part.requests).sum::<u64>();
            all[names..].iter().for_each(|(name, _)| self.let_go(name));
            all.truncate(names);
            self.by_name = all.into_iter().collect();
        }
        self.by_name.values_mut().flat_map(|p| &mut p.measured).for_each(|d| d.shrink(most));
    }

    /// The distribution of the first thing measured of each part, those with the most requests first.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut largest: Vec<(&String, &PartTally)> = self.by_name.iter().collect();
        largest.sort_by_key(|(_, part)| std::cmp::Reverse(part.requests));
        largest.truncate(MOST_LINES);
        // In the order of their names, so that a worker has the same colour in every arm.
        largest.sort_by_key(|(name, _)| *name);
        largest.into_iter().map(|(name, part)| Line::of(name, &part.measured[0])).collect()
    }

    /// In the order in which they are told.
    pub(super) fn closed(self) -> Vec<Part> {
        ordered(&self.key, self.by_name.into_iter().map(|(name, tally)| tally.closed(name)).collect())
    }
}

impl PartTally {
    fn add(&mut self, row: &Row, measured: &[&Quantity]) {
        self.requests += 1;
        self.succeeded += u64::from(row.success());
        self.output_tokens += row.decode_length().filter(|_| row.success()).unwrap_or(0);
        self.simulated |= row.simulated == Some(true);
        self.first_ns =
            Some(self.first_ns.map_or(row.scheduled_ns, |first_ns| first_ns.min(row.scheduled_ns)));
        if let (Some(cached), Some(prompt)) = (row.cached_tokens, row.prompt_tokens) {
            self.cached_tokens += cached;
            self.prompt_tokens += prompt;
        }
        for (quantity, samples) in measured.iter().zip(&mut self.measured) {
            quantity.each(row, &mut |value, times| samples.add(value, times));
        }
    }

    fn closed(self, name: String) -> Part {
        let [ttft, tpot, e2e] = self.measured.map(Distribution::summary);
        Part {
            name,
            requests: self.requests,
            succeeded: self.succeeded,
            output_tokens: self.output_tokens,
            cache_hit_rate: (self.prompt_tokens > 0)
                .then(|| self.cached_tokens as f64 / self.prompt_tokens as f64),
            ttft,
            tpot,
            e2e,
            simulated: self.simulated,
            first_ns: self.first_ns.unwrap_or(0),
        }
    }
}
