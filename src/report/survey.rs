//! All that is asked of the rows of a run, in one pass over them.
//!
//! Rule: rows of millions of requests are on disk, and each question that read them again would take a second a million; whoever
//! wants something of every row adds it here and is asked once for each. Deliberately not here: what is asked (figures, verdict,
//! warnings), and the files that list each row.

use super::cache_hits::CacheHits;
use super::column::{self, Columns};
use super::faults::{Aftermath, aftermaths};
use super::gather::{Gathered, Gathering, Side};
use super::goodput::Slo;
use super::metrics::Metrics;
use super::verdict::{Judging, Verdict};
use super::warnings::Warned;
use crate::load::row::Row;
use crate::load::run::RunReport;

/// What the rows of a run told.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The figures.
    pub gathered: Gathered,
    /// How far they can be believed.
    pub verdict: Verdict,
    /// What a reader of them has to know.
    pub warnings: Vec<String>,
    /// The user's own columns.
    pub columns: Vec<column::Figures>,
    /// How much of the prompts came from caches.
    pub cache_hits: CacheHits,
    /// What came of each fault that was begun.
    pub aftermaths: Vec<Aftermath>,
    /// One of the workers says that it is simulated.
    pub simulated: bool,
}

impl Survey {
    /// Of a run, judged by limits.
    pub fn of(run: &RunReport, slos: &[Slo]) -> Self {
        let mut surveying = Surveying::begin(run, slos);
        run.rows.iter().for_each(|row| surveying.add(&row));
        surveying.finish()
    }

    /// The figures of the whole run.
    pub fn metrics(&self) -> &Metrics {
        &self.gathered.metrics
    }
}

/// A survey that is being made, for whoever goes through the rows anyway.
#[derive(Debug)]
pub struct Surveying<'a> {
    run: &'a RunReport,
    gathering: Gathering,
    judging: Judging,
    warned: Warned,
    columns: Columns,
}

impl<'a> Surveying<'a> {
    /// Before the first row.
    pub fn begin(run: &'a RunReport, slos: &[Slo]) -> Self {
        Self {
            run,
            gathering: Gathering::bounded(Side::Client).judged(slos),
            judging: Judging::begin(run),
            warned: Warned::default(),
            columns: Columns::of(&run.config.columns),
        }
    }

    /// The next row.
    pub fn add(&mut self, row: &Row) {
        self.gathering.add(row);
        self.judging.add(row);
        self.warned.add(row);
        self.columns.take_good(row);
    }

    /// After the last one.
    pub fn finish(self) -> Survey {
        let run = self.run;
        let gathered = self.gathering.gathered();
        let cache_hits = CacheHits::of(run, &gathered);
        Survey {
            verdict: self.judging.verdict(run, &gathered.metrics),
            simulated: self.warned.simulated,
            warnings: self.warned.warnings(run, cache_hits),
            columns: self.columns.figures(),
            cache_hits,
            aftermaths: run.faults.as_ref().map(|made| aftermaths(made, &run.rows)).unwrap_or_default(),
            gathered,
        }
    }
}
