//! What the runs of one call share: the clock, the console, the stop; and what becomes of each run.
//!
//! Rule: one Ctrl-C stops the run, so that what there is gets written, and all that would follow; a second ends the process.
//! Deliberately not here: which runs are made.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::Flags;
use crate::cli::{Failure, signal};
use crate::clock::Clock;
use crate::load::progress::{Progress, Stop, StopHandle};
use crate::load::{Keeping, LoadConfig, LoadError, RunContext, RunReport, run as run_load};
use crate::report::console::Console;
use crate::report::explain;
use crate::report::files::{Destination, begin_dated, finish_dated};
use crate::report::goodput::Slo;
use crate::report::json::ExportedFiles;
use crate::report::summary::summary;
use crate::report::{Metrics, Verdict};

/// So many requests take seconds to be written and figured out, which is then told.
const MANY_REQUESTS: usize = 100_000;

/// All that runs of one call share.
pub(super) struct Session {
    context: RunContext,
    handle: Option<StopHandle>,
    destination: Destination,
    slos: Vec<Slo>,
    explains: bool,
}

/// A run that was written.
pub(super) struct Kept {
    /// Its figures.
    pub metrics: Metrics,
    /// What they are worth.
    pub verdict: Verdict,
    /// What was written.
    pub files: ExportedFiles,
}

/// Listens for Ctrl-C as long as it lives.
pub(super) struct Watching(AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// In real time, over TCP.
    pub(super) fn begin(args: &Flags) -> Result<Self, Failure> {
        let console: Arc<dyn Progress> = Arc::new(Console::new(args.output.disable_tqdm));
        let (handle, stop) = Stop::pair();
        // Beside the results, as folders for temporary files may be in memory.
        let keeping = Keeping { folder: args.output.output_dir.clone(), ..Keeping::default() };
        let context = RunContext { stop, alone: true, keeping, ..RunContext::new(Clock::system(), console) };
        // The lines of a series are the series' own.
        let collection = args.output.output_file.clone().filter(|_| !args.series.wanted());
        let destination = Destination { collection, ..args.output.destination() };
        let slos = args.figures.slos().map_err(Failure::Usage)?;
        let explains = args.figures.explains_shown();
        Ok(Self { context, handle: Some(handle), destination, slos, explains })
    }

    /// The clock of the runs.
    pub(super) fn clock(&self) -> Clock {
        self.context.clock.clone()
    }

    /// Whether all is to end.
    pub(super) fn stop(&self) -> &Stop {
        &self.context.stop
    }

    /// One line for the user.
    pub(super) fn note(&self, text: &str) {
        self.context.progress.note(text);
    }

    /// Begins to listen; once, inside a runtime.
    pub(super) fn watch(&mut self) -> Option<Watching> {
        // A disk that is full is told, not died of. Without a handler it is as it was.
        let _ = signal::outlive_file_limits();
        let handle = self.handle.take()?;
        Some(Watching(tokio::spawn(signal::stop_measuring(handle)).abort_handle()))
    }

    /// Makes a run.
    pub(super) async fn measure(&self, config: LoadConfig) -> Result<RunReport, Failure> {
        if self.context.stop.is_set() {
            return Err(Failure::Interrupted(LoadError::Interrupted.to_string()));
        }
        // On a thread of the runtime: one that only blocks would have to be woken for each arrival, and then wake another.
        let run = tokio::spawn(run_load(config, self.context.clone())).await;
        run.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())).map_err(|e| match e {
            LoadError::Dataset(_) | LoadError::Options(_) | LoadError::Trace(_) => {
                Failure::Usage(e.to_string())
            }
            LoadError::Interrupted => Failure::Interrupted(e.to_string()),
            LoadError::Target(_) | LoadError::System(_) => Failure::Run(e.to_string()),
        })
    }

    /// Writes its files and prints its summary.
    pub(super) fn keep(&self, report: &RunReport) -> Result<Kept, Failure> {
        let count = report.rows.len();
        let many = count >= MANY_REQUESTS;
        if many {
            self.note(&format!("the load is over: writing {count} requests"));
        }
        let begun = begin_dated(report, &self.destination);
        if many && begun.is_ok() {
            self.note(&format!("requests.csv is written: making the figures of {count} requests"));
        }
        let metrics = Metrics::of(&report.rows).judged(&report.rows, &self.slos);
        let verdict = Verdict::of(report, &metrics);
        let written = begun.and_then(|begun| finish_dated(begun, report, &metrics, &verdict));
        // What was measured is told though it cannot be kept.
        print!("{}", summary(report, &metrics, &verdict, written.as_deref().unwrap_or_default()));
        let files = written.map_err(|e| {
            Failure::Run(format!(
                "cannot write the results: {e}; what was written before it is kept, and the summary is on standard output"
            ))
        })?;
        if self.explains {
            print!("{}", explain::shown(&metrics));
            if report.faults.is_some() {
                print!("{}", explain::of_faults());
            }
        }
        Ok(Kept { metrics, verdict, files })
    }
}
