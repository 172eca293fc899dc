//! `milepost trace align`: where each request's server stamps lie on the router's clock, by which offset, and how sure that is.
//!
//! Rule: it derives a file of its own and never writes to a trace. Deliberately not here: alignment (`trace::align`), lines and table
//! (`export::aligned`, `export::clocks`).

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::ValueEnum;

use super::outfile::{OutFile, failure};
use super::{Failure, print};
use crate::export::aligned::{self, Form};
use crate::export::survey::Survey;
use crate::stdio::tell;

/// Arguments of `milepost trace align`.
#[derive(Debug, clap::Args)]
pub struct AlignArgs {
    /// The traces (`route --trace-log`): files, packed or not, folders or patterns, in order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// File to be written; - is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Format.
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: Format,
    /// Replace the file if it is there.
    #[arg(long)]
    overwrite: bool,
    /// Print the table of clocks alone, to standard output; otherwise it goes to standard error.
    #[arg(long, conflicts_with_all = ["out", "format", "overwrite"])]
    summary: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a request.
    Jsonl,
    /// One line a request, with a header.
    Csv,
}

/// Runs `milepost trace align`.
pub fn run(args: &AlignArgs) -> Result<(), Failure> {
    let out = OutFile { path: &args.out, overwrite: args.overwrite };
    out.check(&args.files)?;
    let survey = Survey::of(&args.files).map_err(|e| failure(&e))?;
    let form = match args.format {
        Format::Jsonl => Form::Jsonl,
        Format::Csv => Form::Csv,
    };
    if args.summary {
        let (_, clocks) = aligned::write(&survey, form, None).map_err(|e| failure(&e))?;
        return print(&format!("{}{}", clocks.table(&survey), rest(&survey)));
    }
    let (_, clocks) = out.write(|out| aligned::write(&survey, form, Some(out)))?;
    tell(&format!("{}{}", clocks.table(&survey), rest(&survey)));
    Ok(())
}

/// What no line can tell of.
fn rest(survey: &Survey) -> String {
    let beside = [
        (survey.lost, "requests that the router has no record of"),
        (survey.torn_lines(), "torn lines stepped over"),
        (survey.contradictions(), "remote stamps that no offset explains"),
    ];
    let mut text = String::new();
    for (count, what) in beside.iter().filter(|(count, _)| *count > 0) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{count} {what}");
    }
    text
}
