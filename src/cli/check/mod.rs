//! `milepost trace check`: what a trace holds, and whether it agrees with itself.
//!
//! Rule: what is missing is counted where the trace says so; what contradicts itself is a fault. The trace is read twice and never
//! held: of a request stays one bit, of the clocks a reading each ten seconds and, of each remote worker, an exchange each two.
//! Deliberately not here: reading and aligning (`trace::reader`, `trace::align`), what is counted ([`tally`]).

mod seqs;
mod tally;

use std::fmt::Write;
use std::io::BufRead;
use std::path::Path;

use tally::Tally;

use crate::export::ExportError;
use crate::trace::borders::Borders;
use crate::trace::reader::{BadLine, ReadError, TraceReader};
use crate::trace::record::Record;
use crate::units::utc;

/// What a check found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) text: String,
    /// Torn lines and contradictions.
    pub(super) faults: u64,
}

/// The runs of a trace.
#[derive(Debug, Default)]
struct Checked {
    runs: Vec<Tally>,
    borders: Borders,
    records: usize,
}

impl Checked {
    fn add(&mut self, record: &Record, torn_lines: u64) {
        if self.borders.is_new_run(record, self.records == 0) {
            self.runs.push(Tally::after(torn_lines));
        }
        self.records += 1;
        if let Some(run) = self.runs.last_mut() {
            run.add(record, torn_lines);
        }
    }

    /// False if they are not the records that were there before.
    fn see_again<R: BufRead>(&mut self, reader: TraceReader<R>) -> Result<bool, ReadError> {
        let (mut borders, mut begun) = (Borders::default(), 0);
        for (place, record) in reader.take(self.records).enumerate() {
            let (_, record) = record?;
            begun += usize::from(borders.is_new_run(&record, place == 0));
            let Some(run) = self.runs.get_mut(begun - 1) else { return Ok(false) };
            run.see_again(&record);
        }
        Ok(self.runs.iter().all(|run| run.seen_again == run.stamped))
    }
}

impl Report {
    /// Checks a file, a folder or a pattern.
    pub(super) fn of(path: &Path) -> Result<Self, ExportError> {
        Self::read(|| TraceReader::open(path))
            .and_then(|read| read.ok_or(ExportError::Changed(path.to_owned())))
    }

    /// `None` if the trace became another one meanwhile.
    fn read<R: BufRead>(
        open: impl Fn() -> Result<TraceReader<R>, ReadError>,
    ) -> Result<Option<Self>, ExportError> {
        let (mut checked, mut reader) = (Checked::default(), open()?);
        while let Some(record) = reader.next() {
            let (_, record) = record?;
            checked.add(&record, reader.torn_lines());
        }
        let is_stamped = checked.runs.iter().any(|run| run.stamped > 0);
        if is_stamped && !checked.see_again(open()?)? {
            return Ok(None);
        }
        Ok(Some(Self::told(&checked.runs, reader.torn_lines(), reader.bad_lines())))
    }

    fn told(runs: &[Tally], torn_lines: u64, bad_lines: &[BadLine]) -> Self {
        let mut report = Self::default();
        for (i, run) in runs.iter().enumerate() {
            report.run(i + 1, run);
        }
        report.line("torn lines", torn_lines, "lines that are no record");
        for bad in bad_lines {
            let _ = writeln!(report.text, "    {bad}");
        }
        report.faults += torn_lines;
        report.text += match report.faults {
            0 => "the trace agrees with itself\n",
            _ => "the trace does NOT agree with itself\n",
        };
        report
    }

    fn run(&mut self, number: usize, run: &Tally) {
        let title = match &run.run {
            Some(r) => format!("milepost {}, {}, listening on {}", r.version, r.policy, r.listen),
            None => "its run record is missing".to_owned(),
        };
        let _ = writeln!(self.text, "run {number}: {title}");
        self.line("requests", run.requests, "");
        for (outcome, count) in &run.outcomes {
            let _ = writeln!(self.text, "    {outcome:<26} {count:>10}");
        }
        for (arm, count) in &run.arms {
            self.line(&format!("arm {arm}"), *count, "requests");
        }
        for (policy, (agreed, asked)) in &run.shadows {
            let share = *agreed as f64 * 100.0 / (*asked).max(1) as f64;
            self.line(
                &format!("shadow {policy}"),
                *asked,
                &format!("asked, {share:.1} % would have gone to the same worker"),
            );
        }
        self.missing(run);
        self.line(
            "requests without a record",
            run.unaccounted(),
            "in flight when the trace was read, or the router was killed",
        );
        if run.journal_calls + run.missing.journal > 0 {
            self.line("calls of the journal", run.journal_calls, "");
            self.line("lost calls", run.missing.journal, "what follows them is replayed approximately");
        }
        self.line("connections", run.connections, "without a readable request");
        self.line("worker changes", run.worker_changes, "");
        self.line("clock records", run.clock_records, "");
        self.marks(run);
        self.faults_of(run);
    }

    fn faults_of(&mut self, run: &Tally) {
        self.fault("duplicate seq", run.seqs.duplicates(), "");
        if run.seqs.uncompared() > 0 {
            self.line("seq not compared", run.seqs.uncompared(), "they lie too far apart to be held");
        }
        self.fault("more records than requests", run.surplus(), "records + lost exceed the highest seq");
        self.fault("ended before a stamp", run.unordered, "the router's own stamps contradict each other");
        self.line("with server stamps", run.stamped, "");
        let share = if run.stamped == 0 { 0.0 } else { run.broken as f64 * 100.0 / run.stamped as f64 };
        self.line(
            "order broken",
            run.broken,
            &format!("{share:.1} % of those with server stamps, beyond the clock bound"),
        );
        self.line(
            "clock contradictions",
            run.offsets.contradictions(),
            "remote stamps that no offset explains",
        );
    }

    /// What the trace itself says is not in it; of what rarely happens nothing where it did not.
    fn missing(&mut self, run: &Tally) {
        self.line("lost requests", run.missing.requests, "the router could not write them");
        let rare = [
            ("not captured", run.missing.stopped, "requests that ended while the capture was stopped"),
            (
                "left out of the sample",
                run.missing.sampled,
                "each record without kept_for stands for 1/share requests",
            ),
            ("in other files", run.elsewhere, "requests that files of this run tell of which were not read"),
            ("in torn lines", run.torn, "requests that were written and cannot be read"),
            ("prompts left out", run.missing.prompts, "for want of memory; their records are here"),
            ("lost other records", run.missing.others, "of connections and workers"),
            (
                "wall clock set",
                run.clocks.steps(),
                "times; stamps on both sides are placed by what it was then",
            ),
        ];
        for (name, count, meaning) in rare.into_iter().filter(|(_, count, _)| *count > 0) {
            self.line(name, count, meaning);
        }
    }

    fn marks(&mut self, run: &Tally) {
        let (count, first) = &run.marks;
        if *count > 0 {
            self.line("marks", *count, "");
        }
        for mark in first {
            let _ = writeln!(self.text, "    {} {}", utc(mark.unix_ns), mark.label);
        }
    }

    fn fault(&mut self, name: &str, count: u64, meaning: &str) {
        self.line(name, count, meaning);
        self.faults += count;
    }

    fn line(&mut self, name: &str, count: u64, meaning: &str) {
        let line = format!("  {name:<28} {count:>10}  {meaning}");
        let _ = writeln!(self.text, "{}", line.trim_end());
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
