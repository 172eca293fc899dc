//! Where results go.
//!
//! Rule: nothing is overwritten. Deliberately not here: writing (`report::files`).

use std::path::PathBuf;

use clap::Args;

use crate::report::files::{Destination, Extras};

/// Where results go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag")]
pub(super) struct OutputArgs {
    /// Where each run gets a dated folder of its own; `latest` leads to the last one
    #[arg(long, default_value = "milepost-bench")]
    pub(super) output_dir: PathBuf,
    /// Append the run as one line of JSON
    #[arg(long)]
    pub(super) output_file: Option<PathBuf>,
    /// Put every request into the line of --output-file too
    #[arg(long)]
    pub(super) output_details: bool,
    /// Keep when each token came: tokens.jsonl in the run's folder, a line for each request
    #[arg(long)]
    token_times: bool,
    /// Draw the run: report.html in its folder, one page with everything in it
    #[arg(long)]
    report: bool,
    /// Keep latencies as HDR histograms, an interval each second: latency.hdr in the run's folder, which `milepost report` merges with
    /// those of other clients
    #[arg(long)]
    hdr: bool,
    /// No progress
    #[arg(long)]
    pub(super) disable_tqdm: bool,
}

impl OutputArgs {
    /// As the writer of files takes it.
    pub(super) fn destination(&self) -> Destination {
        Destination {
            folder: self.output_dir.clone(),
            collection: self.output_file.clone(),
            details: self.output_details,
            extras: Extras { token_times: self.token_times, report: self.report, hdr: self.hdr },
        }
    }
}
