//! `milepost trace export`: a trace as a file that other tools read.
//!
//! Rule: what is there is not written over unless that is asked for, and never a trace that is being read; a file has its name
//! when it is whole, so one that is there can be used. It may be read by whom the trace may be: its owner. Deliberately not here: the formats (`export`).

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::Failure;
use crate::clock::Clock;
use crate::export::otlp::send::{Collector, NotTaken, Sender};
use crate::export::survey::Survey;
use crate::export::{ExportError, csv, mooncake, otlp, perfetto};
use crate::trace::parts::files_of;

/// Bytes gathered before they are written.
const GATHERED_BYTES: usize = 1 << 18;
/// Ends the name of a file that is not whole yet.
const PARTIAL: &str = ".part";

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
        args.check()?;
    }
    let survey = Survey::of(&args.files).map_err(|e| failure(&e))?;
    let rows = match collector {
        Some(collector) => send(&survey, collector)?,
        None => args.write(&survey)?,
    };
    let blocks = (args.to == Format::Mooncake).then(|| args.block_tokens());
    eprint!("{}", report(&survey, rows, blocks, &args.out));
    Ok(())
}

fn failure(error: &ExportError) -> Failure {
    match error {
        ExportError::Write(_) | ExportError::Changed(_) => Failure::Run(error.to_string()),
        ExportError::Read(_) | ExportError::Unfit(_) => Failure::Usage(error.to_string()),
    }
}

impl ExportArgs {
    fn block_tokens(&self) -> u64 {
        self.block_tokens.unwrap_or(mooncake::USUAL_BLOCK_TOKENS)
    }

    fn is_to_stdout(&self) -> bool {
        self.out.as_os_str() == "-"
    }

    /// The collector that spans are sent to, if `--out` names one.
    fn collector(&self) -> Result<Option<Collector>, Failure> {
        let named = self.out.to_str().filter(|out| out.contains("://"));
        let Some(url) = named.filter(|_| self.to == Format::Otlp) else { return Ok(None) };
        Collector::parse(url).map(Some).map_err(|why| Failure::Usage(format!("--out {why}")))
    }

    fn check(&self) -> Result<(), Failure> {
        if self.is_to_stdout() {
            return Ok(());
        }
        let out = self.out.display();
        // What cannot be listed is said when it is to be read.
        let read = |given: &PathBuf| files_of(given).unwrap_or_else(|_| vec![given.clone()]);
        let same =
            |given: &PathBuf| read(given).iter().any(|file| file == &self.out || is_same(file, &self.out));
        if self.files.iter().any(same) {
            return Err(Failure::Usage(format!("--out {out}: it is a trace that is to be read")));
        }
        if self.out.exists() && !self.overwrite {
            return Err(Failure::Usage(format!("--out {out} is there already; --overwrite replaces it")));
        }
        Ok(())
    }

    fn write(&self, survey: &Survey) -> Result<u64, Failure> {
        if self.is_to_stdout() {
            let mut out = BufWriter::with_capacity(GATHERED_BYTES, io::stdout());
            return match self.format(survey, &mut out).and_then(|rows| Ok(out.flush().map(|()| rows)?)) {
                // A reader that went away (`| head`) is no failure.
                Err(ExportError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(0),
                done => done.map_err(|e| failure(&e)),
            };
        }
        let mut partial = self.out.clone().into_os_string();
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        let file =
            create(&partial).map_err(|why| Failure::Run(format!("--out {}: {why}", self.out.display())))?;
        let written = self.write_file(survey, file).and_then(|rows| {
            std::fs::rename(&partial, &self.out)?;
            Ok(rows)
        });
        written.map_err(|error| {
            // What is not whole is of no use; that it cannot be removed would hide what went wrong.
            let _ = std::fs::remove_file(&partial);
            match failure(&error) {
                Failure::Run(why) => Failure::Run(format!("--out {}: {why}", self.out.display())),
                other => other,
            }
        })
    }

    fn write_file(&self, survey: &Survey, file: File) -> Result<u64, ExportError> {
        let mut out = BufWriter::with_capacity(GATHERED_BYTES, file);
        let rows = self.format(survey, &mut out)?;
        out.flush()?;
        Ok(rows)
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

/// Creates the file that is not whole yet; one that is there is another export's, or a stranger's.
fn create(partial: &Path) -> Result<File, String> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
    created.map_err(|error| {
        let what = if error.kind() == io::ErrorKind::AlreadyExists {
            "is there already, of an export that runs or was killed; remove it if none runs"
        } else {
            "cannot be written"
        };
        format!("{} {what}: {error}", partial.display())
    })
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
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
