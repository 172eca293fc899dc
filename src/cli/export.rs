//! `milepost trace export`: a trace as a file that other tools read.
//!
//! Rule: whatever of the trace has no place in the format is counted and said. Deliberately not here: the formats (`export`), the
//! file that is written ([`super::outfile`]).

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Failure;
use super::outfile::{OutFile, failure};
use crate::clock::Clock;
use crate::export::otlp::send::{Collector, NotTaken, Sender};
use crate::export::survey::Survey;
use crate::export::{ExportError, csv, mooncake, otlp, perfetto};
use crate::stdio::tell;

/// Arguments of `milepost trace export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The traces (`route --trace-log`), in order.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Format.
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// File to be written; - is standard output. For otlp also a collector's URL.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    overwrite: bool,
    /// Tokens of a block of a workload, all that prompts share being cut to whole ones. Readers of such files take it to be
    /// 512; milepost bench takes what the file says [default: 512]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(16..=65_536))]
    block_tokens: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line a request, a column for each field of its record and for what alignment adds; lists are JSON.
    Csv,
    /// The columns of csv, typed and compressed (zstd).
    #[cfg(feature = "parquet")]
    Parquet,
    /// Chrome trace events (JSON) for ui.perfetto.dev: router and workers with the stages of each request.
    Perfetto,
    /// OpenTelemetry spans in OTLP's JSON encoding, one request a line; with `--out http://HOST:4318` sent to a
    /// collector.
    Otlp,
    /// A workload as Mooncake's traces are: times, lengths, ids of blocks of the prompts; needs a trace with hashes of
    /// prompts, which is the default.
    Mooncake,
}

/// Runs `milepost trace export`.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    if args.block_tokens.is_some() && args.to != Format::Mooncake {
        return Err(Failure::Usage("--block-tokens: only with --to mooncake".to_owned()));
    }
    let collector = args.collector()?;
    if collector.is_none() {
        args.out_file().check(&args.files)?;
    }
    let survey = Survey::of(&args.files).map_err(|e| failure(&e))?;
    let rows = match collector {
        Some(collector) => send(&survey, collector)?,
        None => args.out_file().write(|out| args.format(&survey, out))?,
    };
    let blocks = (args.to == Format::Mooncake).then(|| args.block_tokens());
    tell(&report(&survey, rows, blocks, &args.out));
    Ok(())
}

impl ExportArgs {
    fn block_tokens(&self) -> u64 {
        self.block_tokens.unwrap_or(mooncake::USUAL_BLOCK_TOKENS)
    }

    fn out_file(&self) -> OutFile<'_> {
        OutFile { path: &self.out, overwrite: self.overwrite }
    }

    /// The collector that spans are sent to, if `--out` names one.
    fn collector(&self) -> Result<Option<Collector>, Failure> {
        let named = self.out.to_str().filter(|out| out.contains("://"));
        let Some(url) = named.filter(|_| self.to == Format::Otlp) else { return Ok(None) };
        Collector::parse(url).map(Some).map_err(|why| Failure::Usage(format!("--out {why}")))
    }

    fn format(&self, survey: &Survey, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
        match self.to {
            Format::Csv => csv::write(survey, out),
            #[cfg(feature = "parquet")]
            Format::Parquet => crate::export::parquet::write(survey, out),
            Format::Perfetto => perfetto::write(survey, out),
            Format::Otlp => otlp::write(survey, out),
            Format::Mooncake => mooncake::write(survey, self.block_tokens(), out),
        }
    }
}

/// Sends a trace to a collector, one request after the other.
fn send(survey: &Survey, collector: Collector) -> Result<u64, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Run(format!("no runtime: {e}")))?;
    let (mut sender, mut rejected) = (Sender::to(collector, Clock::system()), 0);
    let sent = otlp::batches(survey, |body| {
        let taken = runtime.block_on(sender.send(&body));
        rejected += taken.map_err(|why: NotTaken| ExportError::Write(io::Error::other(why)))?;
        Ok(())
    });
    let requests = sent.map_err(|e| failure(&e))?;
    match rejected {
        0 => Ok(requests),
        _ => Err(Failure::Run(format!("the collector refused {rejected} spans of {requests} requests"))),
    }
}

/// What was exported, and what was not.
fn report(survey: &Survey, rows: u64, block_tokens: Option<u64>, out: &Path) -> String {
    let beside = [
        (survey.other_records, "records of other kinds read"),
        (survey.lost, "requests that the router has no record of"),
        (survey.torn_lines(), "torn lines stepped over"),
    ];
    let mut text = format!("{}: {rows} of {} requests", out.display(), survey.requests);
    if let Some(tokens) = block_tokens {
        let _ = write!(text, ", what their prompts share in blocks of {tokens} tokens");
    }
    for (count, what) in beside.iter().filter(|(count, _)| *count > 0) {
        // Writing into a string cannot fail.
        let _ = write!(text, ", {count} {what}");
    }
    text + "\n"
}
