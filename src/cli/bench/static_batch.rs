//! `--static-batch`: SGLang's `bench_one_batch_server`, with prefill and decode apart as `bench_one_batch` has them.
//!
//! Rule: flags and keys are theirs; a batch that failed is told and its line is not written, the others go on. Deliberately not
//! here: measuring (`load::static_batch`), figures (`report::static_batch`).

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::Flags;
use super::apart::{Apart, is_given};
use crate::cli::{Failure, print, signal};
use crate::clock::Clock;
use crate::load::failure::{Class, Failure as Failed};
use crate::load::progress::{Silent, Stop};
use crate::load::static_batch::{Case, MOST_TOKENS, Measured, StaticBatch};
use crate::load::{LoadConfig, LoadError, RunContext};
use crate::report::files::append_line;
use crate::report::static_batch::{INSIDE, line, table_head, table_line, warnings};

/// Combinations at most.
const MOST_CASES: usize = 10_000;

/// What it takes, and why not the rest.
pub(super) const APART: Apart = Apart {
    flag: "static-batch",
    takes: &[
        "batch-size",
        "input-len",
        "result-filename",
        "run-name",
        "seed",
        "temperature",
        "top-p",
        "warmup-requests",
        "flush-cache",
    ],
    because: &[
        ("Arrivals", "nothing arrives at a rate: a batch is one request, sent when the one before has ended"),
        ("Data set", "its prompts are random token ids of --input-len, as many as --batch-size"),
        ("Figures", "its figures are prefill, decode and total"),
        (
            "Series of runs",
            "its combinations are a series; --batch-size, --input-len and --output-len take several",
        ),
        ("Results", "its results are the lines of --result-filename"),
        ("model", "/generate names no model"),
        ("disable-stream", "the stream tells prefill from decode"),
        ("disable-ignore-eos", "a member that ends early leaves the batch smaller than it is called"),
        ("router-trace", "a batch is one request; ask the server without a router"),
    ],
};

/// One batch after the other.
#[derive(Debug, Args)]
#[command(next_help_heading = "Static batch")]
pub(super) struct StaticBatchArgs {
    /// Instead of a run: one batched request for each combination of the three, prefill and decode apart; without --seed its prompts
    /// are new ones
    #[arg(long, conflicts_with_all = ["check_outputs", "pace_check"])]
    pub(super) static_batch: bool,
    /// Prompts in the request; several values are several batches
    #[arg(long, visible_alias = "batch", value_name = "N", num_args = 1.., default_values_t = [1], requires = "static_batch",
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_size: Vec<u32>,
    /// Tokens of each prompt
    #[arg(long, value_name = "TOKENS", num_args = 1.., default_values_t = [1024], requires = "static_batch",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    input_len: Vec<u64>,
    /// Tokens of each answer [default: 16; --check-outputs 64]
    #[arg(id = "output-len", long = "output-len", value_name = "TOKENS", num_args = 1.., value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) output_len: Vec<u64>,
    /// Where each batch appends one line of JSON
    #[arg(long, value_name = "FILE", default_value = "result.jsonl", requires = "static_batch")]
    result_filename: PathBuf,
    /// A word for these lines
    #[arg(long, value_name = "NAME", default_value = "default", requires = "static_batch")]
    run_name: String,
}

impl StaticBatchArgs {
    /// Every combination, in the order of `bench_one_batch_server`.
    fn cases(&self) -> Result<Vec<Case>, String> {
        let output_len: &[u64] = if self.output_len.is_empty() { &[16] } else { &self.output_len };
        let mut cases = Vec::new();
        for &batch_size in &self.batch_size {
            for &input_tokens in &self.input_len {
                let tokens = u64::from(batch_size) * input_tokens;
                if tokens > MOST_TOKENS {
                    return Err(format!(
                        "--batch-size {batch_size} with --input-len {input_tokens}: {tokens} prompt tokens in one request, at most \
                         {MOST_TOKENS} are sent"
                    ));
                }
                cases.extend(output_len.iter().map(|&output_tokens| Case {
                    batch_size,
                    input_tokens,
                    output_tokens,
                }));
            }
        }
        if cases.len() > MOST_CASES {
            return Err(format!(
                "{} combinations of --batch-size, --input-len and --output-len: at most {MOST_CASES}",
                cases.len()
            ));
        }
        Ok(cases)
    }
}

/// Measures every combination.
pub(super) fn run(args: &Flags, mut config: LoadConfig) -> Result<(), Failure> {
    APART.check(&config.arguments).map_err(Failure::Usage)?;
    if !is_given(&config.arguments, "seed") {
        // A second call must not find the prompts of the first in the caches.
        config.seed = Clock::system().now().unix_ns;
    }
    let own = &args.static_batch;
    let cases = own.cases().map_err(Failure::Usage)?;
    if !config.backend.takes_tokens() {
        return Err(Failure::Usage(format!(
            "--static-batch: --backend {} takes no batch of token ids; expected sglang",
            config.backend.name()
        )));
    }
    writable(&own.result_filename).map_err(Failure::Usage)?;
    super::runtime()?.block_on(async {
        let (handle, stop) = Stop::pair();
        let watching = tokio::spawn(signal::stop_measuring(handle));
        let context = RunContext { stop, ..RunContext::new(Clock::system(), Arc::new(Silent)) };
        let outcome = all(own, &cases, config, context).await;
        watching.abort();
        outcome
    })
}

/// Before anything is measured, as a measurement that cannot be kept is lost.
fn writable(path: &Path) -> Result<(), String> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map(drop).map_err(|e| format!("--result-filename {}: {e}", path.display()))
}

async fn all(
    own: &StaticBatchArgs,
    cases: &[Case],
    config: LoadConfig,
    context: RunContext,
) -> Result<(), Failure> {
    let (target, seed) = (config.target.to_string(), config.seed);
    let mut batches = StaticBatch::begin(config, context).await.map_err(|e| match e {
        LoadError::Options(text) => Failure::Usage(text),
        other => Failure::Run(other.to_string()),
    })?;
    if let Some(&first) = cases.first() {
        batches.warm_up(first).await.map_err(|failed| match failed.class {
            Class::Interrupted => Failure::Interrupted(LoadError::Interrupted.to_string()),
            _ => Failure::Run(format!(
                "{target}: the warm-up batch failed ({failed}); is a server ready there? (--warmup-requests 0 goes without)"
            )),
        })?;
    }
    let server = &batches.server;
    print(&format!(
        "static batches at {server}\ninside every figure: {INSIDE}\nprompts of --seed {seed}\n{}\n",
        table_head()
    ))?;
    let mut failed = 0;
    for (&case, number) in cases.iter().zip(0..) {
        match batches.measure(case, number).await {
            Ok(measured) => keep(own, &measured, &batches)?,
            Err(why) => {
                tell_failed(case, &why)?;
                failed += 1;
                ends(&why)?;
            }
        }
    }
    print(&format!("lines: {}\n", own.result_filename.display()))?;
    match failed {
        0 => Ok(()),
        n => Err(Failure::Run(format!("{n} of {} batches failed", cases.len()))),
    }
}

fn keep(own: &StaticBatchArgs, measured: &Measured, batches: &StaticBatch) -> Result<(), Failure> {
    let line = line(measured, &own.run_name, &batches.server).to_string();
    let written = append_line(&own.result_filename, &line)
        .map_err(|e| Failure::Run(format!("cannot write the result: {e}; the lines before it are kept")));
    // What was measured is told though it cannot be kept.
    let warnings = warnings(measured, &batches.server).into_iter().map(|w| format!("warning: {w}\n"));
    let printed = print(&format!("{}\n{}", table_line(measured), warnings.collect::<String>()));
    written.and(printed)
}

fn tell_failed(case: Case, why: &Failed) -> Result<(), Failure> {
    let Case { batch_size, input_tokens, output_tokens } = case;
    print(&format!("{batch_size:>6}{input_tokens:>8}{output_tokens:>8}  failed: {why}\n"))
}

/// Whether what failed one batch would fail all that follow.
fn ends(why: &Failed) -> Result<(), Failure> {
    match why.class {
        Class::Interrupted => {
            Err(Failure::Interrupted("interrupted: the lines written so far are whole".to_owned()))
        }
        Class::Connect | Class::Timeout => Err(Failure::Run(format!("no further batch is tried: {why}"))),
        _ => Ok(()),
    }
}
