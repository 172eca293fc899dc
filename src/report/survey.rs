//! All that is asked of the rows of a run, in one pass over them.
//!
//! Rule: rows of millions of requests are on disk, and each question that read them again would take a second a million; whoever
//! wants something of every row adds it here and is asked once for each. What came of faults needs a second pass, as it is told by
//! what was before the first of them. Deliberately not here: what is asked (figures, verdict,
//! warnings), and the files that list each row.

use super::cache_hits::CacheHits;
use super::faults::{Aftermath, Before};
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
    before: Option<Before<'a>>,
}

impl<'a> Surveying<'a> {
    /// Before the first row.
    pub fn begin(run: &'a RunReport, slos: &[Slo]) -> Self {
        Self {
            run,
            gathering: Gathering::bounded(Side::Client).judged(slos).with(&run.config.columns),
            judging: Judging::begin(run),
            warned: Warned::default(),
            before: run.faults.as_ref().map(Before::of),
        }
    }

    /// The next row.
    pub fn add(&mut self, row: &Row) {
        self.gathering.add(row);
        self.judging.add(row);
        self.warned.add(row);
        if let Some(before) = &mut self.before {
            before.add(row);
        }
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
            cache_hits,
            aftermaths: self.before.map(|before| before.aftermaths(&run.rows)).unwrap_or_default(),
            gathered,
        }
    }
}
