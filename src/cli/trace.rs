//! `milepost trace`: what a trace can hold, whether this one can be believed, why requests went where they went, and the capture of
//! a router that runs.
//!
//! Deliberately not here: what is checked (`check`), the text of a decision (`show`), the stages of each
//! request (`align`), files for other tools (`export`), what is asked
//! of a router (`capture`).

use std::path::PathBuf;

use clap::Subcommand;

use super::check::Report;
use super::outfile::failure;
use super::{Failure, align, capture, export, print, show};
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
        /// The trace (`route --trace-log`): a file, packed too, the folder of a capture, or a pattern.
        file: PathBuf,
    },
    /// Print decisions: what the policy saw of each candidate, its scores, and what the shadow policies would have chosen.
    Show(show::ShowArgs),
    /// Write where each request's server stamps lie on the router's clock, and by which offset; the trace stays as it is.
    Align(align::AlignArgs),
    /// Write the requests of a trace as a file that other tools read.
    Export(export::ExportArgs),
    #[command(flatten)]
    Capture(capture::CaptureCommand),
}

/// Runs `milepost trace`.
pub fn run(args: TraceArgs) -> Result<(), Failure> {
    match args.command {
        TraceCommand::Schema => print(&schema::text()),
        TraceCommand::Show(args) => print(&show::show(&args)?),
        TraceCommand::Align(args) => align::run(&args),
        TraceCommand::Export(args) => export::run(&args),
        TraceCommand::Capture(command) => capture::run(command),
        TraceCommand::Check { file } => {
            let report = Report::of(&file).map_err(|e| failure(&e))?;
            print(&report.text)?;
            match report.faults {
                0 => Ok(()),
                1 => Err(Failure::Run(format!("{}: 1 fault", file.display()))),
                faults => Err(Failure::Run(format!("{}: {faults} faults", file.display()))),
            }
        }
    }
}
