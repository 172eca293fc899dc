//! `milepost trace`: what a trace can hold, whether this one can be believed, and why requests went where they went.
//!
//! Deliberately not here: reading and aligning, see `trace::reader` and `trace::align`; the text of a decision (`show`); files for
//! other tools (`export`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::{Failure, export, show};
use crate::trace::align::align;
use crate::trace::axis::Offsets;
use crate::trace::reader::{TraceFile, TraceRun};
use crate::trace::record::RequestRecord;
use crate::trace::schema;

/// Arguments of `milepost trace`.
#[derive(Debug, clap::Args)]
pub struct TraceArgs {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Debug, Subcommand)]
enum TraceCommand {
    /// Print every field of a trace with its meaning and unit.
    Schema,
    /// Count what a trace holds and check that it agrees with itself; exit code 1 if it does not.
    Check {
        /// The trace (`route --trace-log`).
        file: PathBuf,
    },
    /// Print decisions: what the policy saw of each candidate, its scores, and what the shadow policies would have chosen.
    Show(show::ShowArgs),
    /// Write the requests of a trace as a file that other tools read.
    Export(export::ExportArgs),
}

/// Runs `milepost trace`.
pub fn run(args: TraceArgs) -> Result<(), Failure> {
    match args.command {
        TraceCommand::Schema => print(&schema::text()),
        TraceCommand::Show(args) => print(&show::show(&args)?),
        TraceCommand::Export(args) => export::run(&args),
        TraceCommand::Check { file } => {
            let trace = TraceFile::read(&file).map_err(|e| Failure::Usage(e.to_string()))?;
            let report = Report::of(&trace);
            print(&report.text)?;
            match report.faults {
                0 => Ok(()),
                1 => Err(Failure::Run(format!("{}: 1 fault", file.display()))),
                faults => Err(Failure::Run(format!("{}: {faults} faults", file.display()))),
            }
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Run(format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// What a check found.
#[derive(Debug, Default)]
struct Report {
    text: String,
    /// Torn lines and contradictions.
    faults: u64,
}

impl Report {
    fn of(trace: &TraceFile) -> Self {
        let mut report = Self::default();
        for (i, run) in trace.runs.iter().enumerate() {
            report.run(i + 1, run);
        }
        report.line("torn lines", trace.torn_lines, "lines that are no record");
        for bad in &trace.bad_lines {
            let _ = writeln!(report.text, "    line {}: {}", bad.line, bad.reason);
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
        self.line("lost requests", run.lost, "the router could not write them");
        self.line(
            "requests without a record",
            tally.unaccounted,
            "in flight when the trace was read, or the router was killed",
        );
        if run.journal_calls + run.lost_journal_calls > 0 {
            self.line("calls of the journal", run.journal_calls, "");
            self.line("lost calls", run.lost_journal_calls, "what follows them is replayed approximately");
        }
        self.line("connections", run.connections.len() as u64, "without a readable request");
        self.line("worker changes", run.workers.len() as u64, "");
        self.line("clock records", run.clock_records, "");
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
        let known = tally.requests + run.lost;
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
