//! All figures of a run, gathered one row at a time.
//!
//! Rule: a figure of a run and the same figure of its files are made here, once. [`Gathering::bounded`] keeps samples as long as
//! they are few and then counts them by size, so that any number of rows fits: counts, sums, means, deviations and largest values
//! stay exact, percentiles are within 0.1 %, and the figures say so. Deliberately not here: where rows come from, and how figures
//! are printed or drawn.

mod distribution;
mod drawing;
mod intervals;
mod parts;
mod sketch;

use std::collections::BTreeMap;

pub(super) use self::distribution::Distribution;
use self::drawing::Drawing;
pub use self::drawing::{Drawn, Line, Over};
use self::intervals::Intervals;
use self::parts::Parts;
use super::breakdown::KEYS;
use super::column::{self, Columns};
use super::goodput::{Goodput, Slo};
use super::metrics::{Metrics, WorkerShare};
use super::quantity;
use super::split::Tally;
use crate::load::config::OwnColumn;
use crate::load::row::Row;

/// Samples that are kept while rows are bounded: 128 MB, of some 350,000 requests.
const KEPT: usize = 1 << 24;
/// Samples that one distribution keeps after that.
const KEPT_OF_ONE: usize = 1 << 14;
/// Parts of one key that are then told apart.
const PARTS: usize = 2_000;
/// Rows between two looks at how many there are.
const LOOK: u64 = 1 << 12;

/// No run lasts that long: times above are counted from 1970, and these are after 2001.
const CALENDAR_NS: i64 = 1_000_000_000_000_000_000;

/// Whose stamps tell how long a run lasted and what was in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// A client's: sent, last byte.
    #[default]
    Client,
    /// A router's, where no client is known: arrival, finish.
    Router,
}

impl Side {
    /// From the first byte of a request to the last of its answer.
    pub fn in_flight(self, row: &Row) -> Option<(i64, i64)> {
        match self {
            Self::Client => Some((row.sent_ns?, row.client_end_ns?)),
            Self::Router => Some((row.arrival_ns?, row.finish_ns?)),
        }
    }

    /// This part of a request's way can be told.
    pub fn knows(self, part: &str) -> bool {
        const CLIENTS: [&str; 4] = ["client_queue", "client_connect", "to_router", "network_back"];
        self == Self::Client || !CLIENTS.contains(&part)
    }

    /// When a request was over.
    pub fn end_ns(self, row: &Row) -> Option<i64> {
        match self {
            Self::Client => row.client_end_ns,
            Self::Router => row.finish_ns,
        }
    }

    /// When a request began, where a run begins with its first: a client's run begins at zero, if its times are not those of
    /// a calendar.
    fn begin_ns(self, row: &Row) -> Option<i64> {
        match self {
            Self::Client => Some(row.scheduled_ns).filter(|ns| *ns >= CALENDAR_NS),
            Self::Router => row.arrival_ns,
        }
    }

    /// How long it took in all: for a client from the due time.
    pub fn whole_ns(self, row: &Row) -> Option<i64> {
        match self {
            Self::Client => row.latency_from_schedule_ns(),
            Self::Router => row.total_latency_ns(),
        }
    }
}

/// What is gathered.
#[derive(Debug)]
pub struct Gathering {
    side: Side,
    /// Samples that may be kept in all.
    most: usize,
    rounded: bool,
    requests: u64,
    completed: u64,
    /// The first request, where zero may be any moment: the times are a router's, or a calendar's.
    begin_ns: Option<i64>,
    end_ns: i64,
    input_tokens: Option<u64>,
    input_known: u64,
    planned_input_tokens: u64,
    output_tokens: Option<u64>,
    output_known: u64,
    quantities: Vec<Distribution>,
    errors: BTreeMap<&'static str, u64>,
    examples: BTreeMap<&'static str, String>,
    workers: BTreeMap<String, WorkerShare>,
    parts: Vec<Parts>,
    goodput: Option<Goodput>,
    slos: Vec<Slo>,
    in_flight: Intervals,
    running: Intervals,
    running_known: u64,
    scheduled: Events,
    sent: Events,
    split: Tally,
    /// Prompt tokens found in caches, and prompt tokens, of the requests that tell both.
    cached: (u64, u64),
    reconnects: u64,
    rows_in_trace: u64,
    sent_without_record: u64,
    drawing: Option<Box<Drawing>>,
    columns: Columns,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The figures.
    pub metrics: Metrics,
    /// The text of the first failure of each class.
    pub examples: BTreeMap<&'static str, String>,
    /// Rows of parts beyond the first so many of their key, in no breakdown.
    pub unnamed: u64,
    /// Share of prompt tokens that came from caches, of the requests that tell it.
    pub cache_hit_share: Option<f64>,
    /// Dead idle connections that the client replaced.
    pub reconnects: u64,
    /// Rows that a router's trace knows.
    pub rows_in_trace: u64,
    /// Sent, and in no trace.
    pub sent_without_record: u64,
    /// What charts are made of, where it was asked for.
    pub drawn: Option<Drawn>,
    /// The user's own columns.
    pub columns: Vec<column::Figures>,
}

impl Gathering {
    /// Keeps every sample: what the other is held to.
    #[cfg(test)]
    pub(super) fn exact(side: Side) -> Self {
        Self::new(side, usize::MAX)
    }

    /// Takes any number of rows.
    pub fn bounded(side: Side) -> Self {
        Self::new(side, KEPT)
    }

    fn new(side: Side, most: usize) -> Self {
        Self {
            side,
            most,
            rounded: false,
            requests: 0,
            completed: 0,
            begin_ns: None,
            end_ns: 0,
            input_tokens: None,
            input_known: 0,
            planned_input_tokens: 0,
            output_tokens: None,
            output_known: 0,
            quantities: quantity::all().map(|_| Distribution::default()).collect(),
            errors: BTreeMap::new(),
            examples: BTreeMap::new(),
            workers: BTreeMap::new(),
            parts: KEYS.iter().map(|key| Parts::of(*key)).collect(),
            goodput: None,
            slos: Vec::new(),
            in_flight: Intervals::default(),
            running: Intervals::default(),
            running_known: 0,
            scheduled: Events::default(),
            sent: Events::default(),
            split: Tally::of(side),
            cached: (0, 0),
            reconnects: 0,
            rows_in_trace: 0,
            sent_without_record: 0,
            drawing: None,
            columns: Columns::default(),
        }
    }

    /// With what charts are made of.
    #[must_use]
    pub fn drawn(self) -> Self {
        Self { drawing: Some(Box::default()), ..self }
    }

    /// With the user's own columns.
    #[must_use]
    pub fn with(self, own: &[OwnColumn]) -> Self {
        Self { columns: Columns::of(own), ..self }
    }

    /// Judged by limits too.
    #[must_use]
    pub fn judged(self, slos: &[Slo]) -> Self {
        Self { goodput: Goodput::begun(slos), slos: slos.to_vec(), ..self }
    }

    /// One row more.
    pub fn add(&mut self, row: &Row) {
        self.requests += 1;
        self.end_ns = self.end_ns.max(self.side.end_ns(row).unwrap_or(0));
        if let Some(begin_ns) = self.side.begin_ns(row) {
            self.begin_ns = Some(self.begin_ns.map_or(begin_ns, |first| first.min(begin_ns)));
        }
        match &row.failure {
            None => {
                self.completed += 1;
                if let Some(tokens) = row.prompt_tokens {
                    self.input_tokens = Some(self.input_tokens.unwrap_or(0) + tokens);
                    self.input_known += 1;
                }
                self.planned_input_tokens += row.planned_tokens;
                if let Some(tokens) = row.decode_length() {
                    self.output_tokens = Some(self.output_tokens.unwrap_or(0) + tokens);
                    self.output_known += 1;
                }
            }
            Some(failure) => {
                *self.errors.entry(failure.class.name()).or_insert(0) += 1;
                self.examples.entry(failure.class.name()).or_insert_with(|| failure.text.clone());
            }
        }
        for (quantity, samples) in quantity::all().zip(&mut self.quantities) {
            quantity.each(row, &mut |value, times| samples.add(value, times));
        }
        if let Some(host) = &row.host {
            // Looked up first: a name is copied once and not for every row.
            match self.workers.get_mut(host) {
                Some(share) => share.add(row),
                None => self.workers.entry(host.clone()).or_default().add(row),
            }
        }
        self.parts.iter_mut().for_each(|parts| parts.add(row));
        if let Some(goodput) = &mut self.goodput {
            goodput.add(row, &self.slos);
        }
        if let Some((begin, end)) = self.side.in_flight(row) {
            self.in_flight.add(begin, end);
        }
        if let (Some(begin), Some(end)) = (row.queue_end_ns, row.finish_ns) {
            self.running.add(begin, end);
            self.running_known += u64::from(row.success());
        }
        self.scheduled.add(Some(row.scheduled_ns));
        self.sent.add(row.sent_ns);
        self.split.add(row);
        if let (Some(cached), Some(prompt)) = (row.cached_tokens, row.prompt_tokens) {
            self.cached = (self.cached.0 + cached, self.cached.1 + prompt);
        }
        self.reconnects += u64::from(row.reconnects);
        self.rows_in_trace += u64::from(row.in_trace);
        self.sent_without_record += u64::from(row.sent_ns.is_some() && !row.in_trace);
        if let Some(drawing) = &mut self.drawing {
            drawing.add(row, self.side);
        }
        self.columns.add(row);
        if self.requests.is_multiple_of(LOOK) && self.kept() > self.most {
            self.shrink();
        }
    }

    /// Samples and intervals that are kept one by one.
    fn kept(&self) -> usize {
        let distributions = self.quantities.iter().map(Distribution::kept).sum::<usize>();
        let parts = self.parts.iter().map(Parts::kept).sum::<usize>();
        // An interval is as large as two samples.
        let drawing = self.drawing.as_ref().map_or(0, |d| d.kept());
        distributions
            + parts
            + drawing
            + self.split.kept()
            + self.columns.kept()
            + 2 * (self.in_flight.kept() + self.running.kept())
    }

    fn shrink(&mut self) {
        self.quantities.iter_mut().for_each(|d| d.shrink(KEPT_OF_ONE));
        self.parts.iter_mut().for_each(|p| p.shrink(KEPT_OF_ONE, PARTS));
        self.split.shrink(KEPT_OF_ONE);
        self.columns.shrink(KEPT_OF_ONE);
        if let Some(drawing) = &mut self.drawing {
            drawing.shrink(KEPT_OF_ONE);
        }
        self.in_flight.shrink(KEPT_OF_ONE);
        self.running.shrink(KEPT_OF_ONE);
        self.rounded = true;
    }

    /// The figures.
    pub fn gathered(self) -> Gathered {
        let begin_ns = self.begin_ns.unwrap_or(0);
        let duration_s = (self.end_ns - begin_ns).max(0) as f64 / 1e9;
        let unnamed = self.parts.iter().map(|p| p.unnamed).sum();
        let left_out = self.parts.iter().map(Parts::left_out).collect();
        let names = quantity::all().map(|q| q.name);
        let line = |name: &str| {
            let found = quantity::all().zip(&self.quantities).find(|(q, _)| q.name == name);
            found.map(|(_, samples)| samples.line()).unwrap_or_default()
        };
        let drawn = self.drawing.map(|drawing| drawing.drawn(begin_ns, line, self.parts[0].lines()));
        let metrics = Metrics {
            requests: self.requests,
            completed: self.completed,
            duration_s,
            // Of no request it is known: none.
            input_tokens: self.input_tokens.or((self.completed == 0).then_some(0)),
            input_known: self.input_known,
            planned_input_tokens: self.planned_input_tokens,
            output_tokens: self.output_tokens.or((self.completed == 0).then_some(0)),
            output_known: self.output_known,
            quantities: names.zip(self.quantities.into_iter().map(Distribution::summary)).collect(),
            errors: self.errors,
            workers: self.workers,
            breakdown: self.parts.into_iter().map(Parts::closed).collect(),
            left_out,
            goodput: self.goodput.map(|goodput| goodput.over(duration_s)),
            in_flight: self.in_flight.curve().since(begin_ns),
            running: self.running.curve().since(begin_ns),
            running_known: self.running_known,
            offered_rate: self.scheduled.rate(),
            sent_rate: self.sent.rate(),
            split: self.split.split(),
            rounded: self.rounded,
        };
        let (cached, prompt) = self.cached;
        Gathered {
            metrics,
            examples: self.examples,
            unnamed,
            cache_hit_share: (prompt > 0).then(|| cached as f64 / prompt as f64),
            reconnects: self.reconnects,
            rows_in_trace: self.rows_in_trace,
            sent_without_record: self.sent_without_record,
            drawn,
            columns: self.columns.figures(),
        }
    }
}

/// Moments, of which the first, the last and the number are kept.
#[derive(Clone, Copy, Debug, Default)]
struct Events {
    count: u64,
    first_ns: i64,
    last_ns: i64,
}

impl Events {
    fn add(&mut self, ns: Option<i64>) {
        let Some(ns) = ns else { return };
        (self.first_ns, self.last_ns) =
            if self.count == 0 { (ns, ns) } else { (self.first_ns.min(ns), self.last_ns.max(ns)) };
        self.count += 1;
    }

    /// Events a second between the first and the last; `None` for fewer than two or all at one moment.
    fn rate(&self) -> Option<f64> {
        let span_ns = self.last_ns - self.first_ns;
        (span_ns > 0).then(|| (self.count - 1) as f64 / (span_ns as f64 / 1e9))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::row::example;

    /// Rows of which no two are alike, one in ten failed.
    fn rows(count: i64) -> impl Iterator<Item = Row> {
        (0..count).map(|n| {
            let later = n * 3_000_000;
            let slower = (n * 7_919) % 50_021 * 1_000;
            let after = |ns: Option<i64>| ns.map(|ns| ns + later);
            Row {
                scheduled_ns: 999_000_000 + later,
                arrival_ns: after(example().arrival_ns),
                queue_end_ns: after(example().queue_end_ns),
                finish_ns: after(example().finish_ns).map(|ns| ns + slower),
                sent_ns: after(example().sent_ns),
                write_begun_ns: after(example().write_begun_ns),
                client_end_ns: after(example().client_end_ns).map(|ns| ns + slower),
                host: Some(format!("w{}", n % 3)),
                failure: (n % 10 == 9).then(|| Failure::new(Class::Reset, format!("row {n}"))),
                ..example()
            }
        })
    }

    #[test]
    fn letting_samples_go_rounds_percentiles_and_nothing_else() {
        // Smaller than any latency is.
        let own = [column::parse("tiny = total_latency / 1e20").unwrap()];
        let mut exact = Gathering::exact(Side::Client).with(&own);
        let mut bounded = Gathering { most: 100_000, ..Gathering::bounded(Side::Client) }.with(&own);
        for row in rows(40_000) {
            exact.add(&row);
            bounded.add(&row);
        }
        assert!(bounded.kept() < 48 * KEPT_OF_ONE + 100_000, "{}", bounded.kept());
        let (exact, bounded) = (exact.gathered(), bounded.gathered());
        let (a, b) = (&exact.metrics, &bounded.metrics);
        assert_eq!((a.rounded, b.rounded), (false, true));
        assert_eq!((a.requests, a.completed, a.output_tokens), (b.requests, b.completed, b.output_tokens));
        assert_eq!((&a.errors, &a.workers, a.offered_rate), (&b.errors, &b.workers, b.offered_rate));
        assert!((a.in_flight.mean / b.in_flight.mean - 1.0).abs() < 1e-9);
        let (a, b) = (a.summary("client_latency").unwrap(), b.summary("client_latency").unwrap());
        assert_eq!((a.count, a.mean, a.std, a.max), (b.count, b.mean, b.std, b.max));
        assert!((a.p99 / b.p99 - 1.0).abs() < 0.0011, "{} {}", a.p99, b.p99);
        let (own, own_near) = (exact.columns[0].summary.unwrap(), bounded.columns[0].summary.unwrap());
        assert_eq!((own.count, own.mean, own.max), (own_near.count, own_near.mean, own_near.max));
        assert!((own.p99 / own_near.p99 - 1.0).abs() < 0.0011, "{} {}", own.p99, own_near.p99);
        assert_eq!(exact.examples["reset"], "row 9");
        assert_eq!(exact.metrics.split.unwrap().requests, 36_000);
    }

    #[test]
    fn what_a_router_saw_is_measured_by_its_own_stamps() {
        let row = Row { sent_ns: None, client_end_ns: None, ..example() };
        let mut gathering = Gathering::exact(Side::Router);
        gathering.add(&row);
        let gathered = gathering.gathered();
        assert!(gathered.metrics.in_flight.points[0].at_s.abs() < 1e-9);
        assert_eq!((gathered.metrics.in_flight.peak, gathered.metrics.duration_s), (1, 0.061));
        assert!((gathered.metrics.split.unwrap().whole_ms - 61.0).abs() < 1e-9);
    }

    #[test]
    fn parts_that_were_let_go_are_counted() {
        let mut gathering = Gathering { most: 1_000, ..Gathering::bounded(Side::Client) };
        for n in 0..3 * LOOK {
            gathering.add(&Row { group: Some(n as u32), ..example() });
        }
        gathering.add(&Row { group: Some(3 * LOOK as u32 - 1), ..example() });
        let gathered = gathering.gathered();
        let groups = &gathered.metrics.breakdown[1];
        assert_eq!((groups.len(), gathered.metrics.left_out[1]), (PARTS, 3 * LOOK - PARTS as u64));
        let json = gathered.metrics.to_json();
        assert_eq!(json["by_prefix_group"]["left_out"], 3 * LOOK - 1_000);
        assert_eq!(
            (&json["by_worker"]["left_out"], gathered.unnamed),
            (&0.into(), 3 * LOOK + 1 - PARTS as u64)
        );
    }
}
