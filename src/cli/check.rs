//! `milepost trace check`: what a trace holds, and whether it agrees with itself.
//!
//! Rule: what is missing is counted where the trace says so; what contradicts itself is a fault. Deliberately not here: reading and
//! aligning (`trace::reader`, `trace::align`).

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::trace::align::align;
use crate::trace::axis::Offsets;
use crate::trace::reader::{TraceFile, TraceRun};
use crate::trace::record::RequestRecord;
use crate::units::utc;

/// Marks that are listed.
const MAX_MARKS: usize = 20;

/// What a check found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) text: String,
    /// Torn lines and contradictions.
    pub(super) faults: u64,
}

impl Report {
    pub(super) fn of(trace: &TraceFile) -> Self {
        let mut report = Self::default();
        for (i, run) in trace.runs.iter().enumerate() {
            report.run(i + 1, run);
        }
        report.line("torn lines", trace.torn_lines, "lines that are no record");
        for bad in &trace.bad_lines {
            let _ = writeln!(report.text, "    {bad}");
        }
        report.faults += trace.torn_lines;
        report.text += match report.faults {
            0 => "the trace agrees with itself\n",
            _ => "the trace does NOT agree with itself\n",
        };
        report
    }

    fn run(&mut self, number: usize, run: &TraceRun) {
        let title = match &run.run {
            Some(r) => format!("milepost {}, {}, listening on {}", r.version, r.policy, r.listen),
            None => "its run record is missing".to_owned(),
        };
        let _ = writeln!(self.text, "run {number}: {title}");
        let tally = Tally::of(run);
        self.line("requests", tally.requests, "");
        for (outcome, count) in &tally.outcomes {
            let _ = writeln!(self.text, "    {outcome:<26} {count:>10}");
        }
        for (arm, count) in &tally.arms {
            self.line(&format!("arm {arm}"), *count, "requests");
        }
        for (policy, (agreed, asked)) in &tally.shadows {
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
            tally.unaccounted,
            "in flight when the trace was read, or the router was killed",
        );
        if run.journal_calls + run.missing.journal > 0 {
            self.line("calls of the journal", run.journal_calls, "");
            self.line("lost calls", run.missing.journal, "what follows them is replayed approximately");
        }
        self.line("connections", run.connections.len() as u64, "without a readable request");
        self.line("worker changes", run.workers.len() as u64, "");
        self.line("clock records", run.clock_records, "");
        self.marks(run);
        self.fault("duplicate seq", tally.duplicates, "");
        self.fault("more records than requests", tally.surplus, "records + lost exceed the highest seq");
        self.fault("ended before a stamp", tally.unordered, "the router's own stamps contradict each other");
        self.line("with server stamps", tally.stamped, "");
        let share = if tally.stamped == 0 { 0.0 } else { tally.broken as f64 * 100.0 / tally.stamped as f64 };
        self.line(
            "order broken",
            tally.broken,
            &format!("{share:.1} % of those with server stamps, beyond the clock bound"),
        );
        self.line("clock contradictions", tally.contradictions, "remote stamps that no offset explains");
    }

    /// What the trace itself says is not in it; of what rarely happens nothing where it did not.
    fn missing(&mut self, run: &TraceRun) {
        self.line("lost requests", run.missing.requests, "the router could not write them");
        let rare = [
            ("not captured", run.missing.stopped, "requests that ended while the capture was stopped"),
            (
                "left out of the sample",
                run.missing.sampled,
                "each record without kept_for stands for 1/share requests",
            ),
            ("in other files", run.elsewhere, "requests that files of this run tell of which were not read"),
            ("prompts left out", run.missing.prompts, "for want of memory; their records are here"),
            ("lost other records", run.missing.others, "of connections and workers"),
        ];
        for (name, count, meaning) in rare.into_iter().filter(|(_, count, _)| *count > 0) {
            self.line(name, count, meaning);
        }
    }

    fn marks(&mut self, run: &TraceRun) {
        if run.marks.is_empty() {
            return;
        }
        self.line("marks", run.marks.len() as u64, "");
        for mark in run.marks.iter().take(MAX_MARKS) {
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

/// Counts of one run.
#[derive(Debug, Default)]
struct Tally {
    requests: u64,
    outcomes: BTreeMap<String, u64>,
    arms: BTreeMap<String, u64>,
    /// How often each shadow policy agreed, and how often it was asked.
    shadows: BTreeMap<String, (u64, u64)>,
    duplicates: u64,
    unaccounted: u64,
    surplus: u64,
    unordered: u64,
    stamped: u64,
    broken: u64,
    contradictions: u64,
}

impl Tally {
    fn of(run: &TraceRun) -> Self {
        let mut tally = Self { requests: run.requests.len() as u64, ..Self::default() };
        let mut offsets = Offsets::default();
        let mut seqs: Vec<u64> = run.requests.iter().map(|r| r.seq).collect();
        seqs.sort_unstable();
        tally.duplicates = seqs.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
        let highest = seqs.last().copied().unwrap_or(0);
        let known = run.accounted();
        tally.unaccounted = highest.saturating_sub(known);
        // Lost requests may lie beyond the highest seq that was written, so only the written ones can be too many.
        tally.surplus = (tally.requests - tally.duplicates).saturating_sub(highest);
        run.workers.iter().for_each(|worker| offsets.know(worker));
        for request in &run.requests {
            offsets.learn(request);
            tally.compared(request);
            *tally.outcomes.entry(word(&request.outcome)).or_default() += 1;
            tally.unordered += u64::from(!ends_last(request));
        }
        for request in run.requests.iter().filter(|r| !r.server.is_empty()) {
            tally.stamped += 1;
            tally.broken += u64::from(align(request, &run.clocks, &offsets).order_broken);
        }
        tally.contradictions = offsets.contradictions();
        tally
    }
}

impl Tally {
    /// What the request tells of one policy against others.
    fn compared(&mut self, request: &RequestRecord) {
        if let Some(arm) = &request.split_arm {
            *self.arms.entry(arm.to_string()).or_default() += 1;
        }
        for shadow in request.shadow.get().into_iter().flatten() {
            let (agreed, asked) = self.shadows.entry(shadow.policy.to_string()).or_default();
            *agreed += u64::from(shadow.agrees);
            *asked += 1;
        }
    }
}

/// An outcome as it stands in the trace.
fn word(outcome: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(outcome).unwrap_or_default();
    value.as_str().unwrap_or("unknown").to_owned()
}

/// No stamp of the router lies after the request's end.
fn ends_last(r: &RequestRecord) -> bool {
    let stamps = [
        r.body_read_ns,
        r.decided_ns,
        r.connected_ns,
        r.router_send_ns,
        r.first_byte_ns,
        r.head_ns,
        r.first_event_ns,
        r.first_token_ns,
        r.last_byte_ns,
    ];
    stamps.into_iter().flatten().all(|ns| ns <= r.end_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::reader::TraceReader;
    use crate::trace::record::{LostRecord, Outcome, Record};

    fn check(records: &[Record], tail: &str) -> Report {
        let mut text: String =
            records.iter().flat_map(|r| [serde_json::to_string(r).unwrap(), "\n".into()]).collect();
        text += tail;
        Report::of(&TraceFile::collect(TraceReader::new(text.as_bytes())).unwrap())
    }

    fn request(seq: u64) -> Record {
        let record = RequestRecord {
            seq,
            outcome: Outcome::Done,
            last_byte_ns: Some(5),
            end_ns: 6,
            ..RequestRecord::default()
        };
        Record::Request(Box::new(record))
    }

    fn count(report: &Report, name: &str) -> u64 {
        let line = report.text.lines().find_map(|l| l.trim_start().strip_prefix(name)).expect(name);
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn a_good_trace_has_no_fault() {
        let report = check(
            &[request(1), request(4), Record::Lost(LostRecord { requests: 1, ..LostRecord::default() })],
            "",
        );
        assert_eq!(report.faults, 0);
        assert_eq!(
            (count(&report, "requests "), count(&report, "done "), count(&report, "lost requests")),
            (2, 2, 1)
        );
        assert_eq!(count(&report, "requests without a record"), 1);
        assert!(report.text.ends_with("the trace agrees with itself\n"));
    }

    #[test]
    fn faults_are_counted() {
        let mut early =
            RequestRecord { seq: 3, last_byte_ns: Some(9), end_ns: 8, ..RequestRecord::default() };
        early.server.e2e_latency = Some(1.0);
        let report = check(&[request(1), request(1), Record::Request(Box::new(early))], "{\"kind\":\"re");
        assert_eq!(
            (
                count(&report, "duplicate seq"),
                count(&report, "ended before a stamp"),
                count(&report, "torn lines")
            ),
            (1, 1, 1)
        );
        assert_eq!((report.faults, count(&report, "with server stamps")), (3, 1));
        assert!(report.text.contains("line 4: "));
    }
}
