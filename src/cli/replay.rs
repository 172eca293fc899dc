//! `milepost replay`: its flags, its progress line, its exit code.
//!
//! Rule: what was found goes to standard output, how far it is to standard error and only on a terminal, after two seconds. A
//! decision that did not come out again is a failure, whatever else was printed. Deliberately not here: the replay
//! (`crate::replay`).

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Failure, print};
use crate::clock::Clock;
use crate::replay::arm::Progress;
use crate::replay::reading::{Limits, Reading};
use crate::replay::{self, Replay, ReplayConfig, ReplayError, json, table};
use crate::stdio::tell;
use crate::trace::reader::TraceReader;

/// Time after which a progress line is worth its place, and between two of them.
const QUIET_NS: u64 = 2_000_000_000;
const BETWEEN_NS: u64 = 200_000_000;

const EXAMPLES: &str = "Try:
  milepost route --worker-urls http://gpu0:8000 http://gpu1:8000 --trace-log t.jsonl --trace-decisions journal
  milepost replay t.jsonl                                     was every decision made as recorded?
  milepost replay t.jsonl --policy round_robin,shortest_queue   what would others have given?
  milepost replay t.jsonl --policy cache_aware --seed 7 --json what_if.json

With a journal the recorded decisions are made again by the same code; one that comes out otherwise is exit code 1.
Policies are tried on SIMULATED workers, fitted to the answers in the trace: the line `calibration` says how far those are
from what was recorded.";

/// Arguments of `milepost replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// The trace (route --trace-log)
    trace: PathBuf,
    /// Policies to try beside the recorded one; without any, the recorded decisions are only made again
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    policy: Vec<String>,
    /// Seed of the tried policies' random choices [default: the recorded one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Write everything that was found to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The run to replay, where several were appended to one file, from 1 [default: the last]
    #[arg(long, value_name = "N")]
    run: Option<usize>,
    /// Requests to try policies on, the first ones; all decisions are made again whatever this says
    #[arg(long, default_value_t = Limits::default().requests, value_name = "N")]
    max_requests: usize,
}

/// Runs `milepost replay`.
#[expect(clippy::needless_pass_by_value, reason = "every command takes its arguments whole")]
pub fn run(args: ReplayArgs) -> Result<(), Failure> {
    replay::check_policies(&args.policy).map_err(|e| failure(&e))?;
    let console = Console::new();
    let limits = Limits { run: args.run, requests: args.max_requests, ..Limits::default() };
    let config = ReplayConfig { policies: args.policy.clone(), seed: args.seed, limits };
    let named = |e: ReplayError| match failure(&e) {
        // The reader names the file where it cannot be opened.
        Failure::Usage(why) if !why.contains(&*args.trace.to_string_lossy()) => {
            Failure::Usage(format!("{}: {why}", args.trace.display()))
        }
        other => other,
    };
    let reader = TraceReader::open(&args.trace).map_err(|e| named(e.into()))?;
    console.begins("reading", 0);
    let reading = Reading::of(reader, limits, &mut |lines| console.lines(lines)).map_err(named)?;
    if reading.requests == 0 && reading.exact.is_none() {
        return Err(named(ReplayError::Nothing { requests: 0 }));
    }
    if args.policy.is_empty() && reading.exact.is_none() {
        return Err(Failure::Usage(format!(
            "{}: there is no journal in it (route --trace-decisions journal), so there is nothing to replay exactly; name policies to try with --policy A,B",
            args.trace.display()
        )));
    }
    let replayed = replay::replay(reading, &config, &console).map_err(named)?;
    console.clear();
    if let Some(path) = &args.json {
        write_json(path, &replayed)?;
    }
    print(&table::text(&replayed))?;
    verdict(&replayed)
}

fn verdict(replay: &Replay) -> Result<(), Failure> {
    match replay.reading.exact.as_ref().and_then(|verdict| verdict.mismatch.as_ref()) {
        Some(mismatch) => {
            Err(Failure::Run(format!("a recorded decision does not come out again: {mismatch}")))
        }
        None => Ok(()),
    }
}

fn failure(error: &ReplayError) -> Failure {
    Failure::Usage(error.to_string())
}

fn write_json(path: &Path, replay: &Replay) -> Result<(), Failure> {
    let fail = |why: String| Failure::Run(format!("--json {}: {why}", path.display()));
    let text = json::page(replay).map_err(|e| fail(e.to_string()))?;
    std::fs::write(path, text).map_err(|e| fail(e.to_string()))
}

/// The progress line.
struct Console {
    terminal: bool,
    clock: Clock,
    began_ns: u64,
    told_ns: AtomicU64,
    done: AtomicU64,
    /// What is done, and its steps.
    what: Mutex<(String, u64)>,
}

impl Console {
    fn new() -> Self {
        let clock = Clock::system();
        Self {
            terminal: std::io::stderr().is_terminal(),
            began_ns: clock.mono_ns(),
            clock,
            told_ns: AtomicU64::new(0),
            done: AtomicU64::new(0),
            what: Mutex::default(),
        }
    }

    fn lines(&self, lines: u64) {
        self.tell(|| format!("reading: line {lines}"));
    }

    fn tell(&self, text: impl FnOnce() -> String) {
        if !self.terminal {
            return;
        }
        let now_ns = self.clock.mono_ns();
        let told_ns = self.told_ns.load(Ordering::Relaxed);
        let is_due = now_ns - self.began_ns > QUIET_NS && now_ns.saturating_sub(told_ns) > BETWEEN_NS;
        // Of several threads one tells.
        let claim = || self.told_ns.compare_exchange(told_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && claim().is_ok() {
            tell(&format!("\r{}\x1b[K", text()));
        }
    }

    fn clear(&self) {
        if self.terminal && self.told_ns.load(Ordering::Relaxed) > 0 {
            tell("\r\x1b[K");
        }
    }
}

impl Progress for Console {
    fn begins(&self, what: &str, steps: u64) {
        self.done.store(0, Ordering::Relaxed);
        *self.what.lock().unwrap_or_else(PoisonError::into_inner) = (what.to_owned(), steps);
        self.tell(|| what.to_owned());
    }

    fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed);
        // The clock costs more than a step of a small trace.
        if done.is_multiple_of(256) {
            self.tell(|| {
                let what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
                format!("{}: {:.0} %", what.0, done as f64 * 100.0 / what.1.max(1) as f64)
            });
        }
    }
}
