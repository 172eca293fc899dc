//! What the runs of one call share: the clock, the console, the stop; and what becomes of each run.
//!
//! Rule: one Ctrl-C stops the run, so that what there is gets written, and all that would follow; a second ends the process.
//! Deliberately not here: which runs are made.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::Flags;
use super::closing::Telling;
use crate::cli::{Failure, print, signal};
use crate::clock::Clock;
use crate::load::progress::{Closing, Progress, Stop, StopHandle};
use crate::load::{Keeping, LoadConfig, LoadError, RunContext, RunReport, run as run_load};
use crate::report::console::Console;
use crate::report::explain;
use crate::report::files::{Destination, begin_dated, finish_dated};
use crate::report::goodput::Slo;
use crate::report::json::ExportedFiles;
use crate::report::summary::summary;
use crate::report::survey::{Survey, Surveying};

/// So many requests take seconds to be written and figured out, which is then told.
const MANY_REQUESTS: usize = 100_000;

/// All that runs of one call share.
pub(super) struct Session {
    context: RunContext,
    telling: Arc<Telling>,
    handle: Option<StopHandle>,
    destination: Destination,
    slos: Vec<Slo>,
    explains: bool,
}

/// A run that was written.
pub(super) struct Kept {
    /// What its rows told.
    pub survey: Survey,
    /// What was written.
    pub files: ExportedFiles,
    /// Whether its summary could be printed; what is made of the run is made all the same.
    pub printed: Result<(), Failure>,
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
        let telling = Arc::new(Telling::to(Arc::new(Console::new(args.output.disable_tqdm))));
        let progress = Arc::clone(&telling) as Arc<dyn Progress>;
        let (handle, stop) = Stop::pair();
        // Beside the results, as folders for temporary files may be in memory.
        let keeping = Keeping { folder: args.output.output_dir.clone(), ..Keeping::default() };
        let context = RunContext { stop, alone: true, keeping, ..RunContext::new(Clock::system(), progress) };
        // The lines of a series are the series' own.
        let collection = args.output.output_file.clone().filter(|_| !args.series.wanted());
        let destination = Destination { collection, ..args.output.destination() };
        let slos = args.figures.slos().map_err(Failure::Usage)?;
        let explains = args.figures.explains_shown();
        Ok(Self { context, telling, handle: Some(handle), destination, slos, explains })
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
        Some(Watching(tokio::spawn(Arc::clone(&self.telling).watch(handle)).abort_handle()))
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
        let all = report.rows.len();
        if all >= MANY_REQUESTS {
            self.note(&format!("the load is over: writing {all} requests, and making their figures"));
        }
        let told = &*self.telling;
        let mut surveying = Surveying::begin(report, &self.slos);
        // The figures are made of the rows on their way into the file.
        let begun = begin_dated(report, &self.destination, told, &mut |row| surveying.add(row));
        told.closing(Closing { what: "the figures", done: 0, all });
        let survey = match &begun {
            Ok(_) => surveying.finish(),
            Err(_) => Survey::of(report, &self.slos),
        };
        told.figures(summary(report, &survey, &[]));
        let written = begun.and_then(|begun| finish_dated(begun, report, &survey, told));
        let mine = told.take_figures();
        told.closed();
        let mut text = String::new();
        if mine {
            // What was measured is told though it cannot be kept.
            text.push_str(&summary(report, &survey, written.as_deref().unwrap_or_default()));
        }
        if self.explains && written.is_ok() {
            text.push_str(&explain::shown(survey.metrics()));
            if report.faults.is_some() {
                text.push_str(&explain::of_faults());
            }
        }
        let printed = print(&text);
        let files = written.map_err(|e| {
            Failure::Run(format!(
                "cannot write the results: {e}; what was written before it is kept, and the summary is on standard output"
            ))
        })?;
        Ok(Kept { survey, files, printed })
    }
}
