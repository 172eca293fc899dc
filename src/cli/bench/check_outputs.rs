//! `--check-outputs`: do all workers say the same?
//!
//! Rule: exit code 0 only if every worker gave the same text to every prompt. Deliberately not here: asking (`load::outputs`),
//! comparing (`report::outputs`).

use std::sync::Arc;

use clap::Args;

use super::Flags;
use super::apart::Apart;
use crate::cli::{Failure, print, signal};
use crate::clock::Clock;
use crate::load::outputs::{Worker, ask, workers_of};
use crate::load::progress::{Silent, Stop};
use crate::load::{LoadConfig, LoadError, RunContext};
use crate::report::outputs::compare;

/// Prompts where none are given: a fact, a list, code, and numbers.
const PROMPTS: [&str; 4] = [
    "The capital of France is",
    "Three colours of the rainbow are",
    "def fibonacci(n):",
    "1, 2, 3, 5, 8, 13,",
];
/// Output tokens where no number is given.
const OUTPUT_TOKENS: u64 = 64;

/// What it takes, and why not the rest.
pub(super) const APART: Apart = Apart {
    flag: "check-outputs",
    takes: &["worker-urls", "prompt", "model", "disable-stream", "disable-ignore-eos"],
    because: &[
        ("Arrivals", "each prompt goes to every worker once, at the same time"),
        ("Data set", "its prompts are those of --prompt"),
        ("Figures", "it measures no time"),
        ("Series of runs", "it measures nothing"),
        ("Results", "what differs is printed"),
        ("temperature", "it is 0, or chance would tell workers apart"),
        ("top-p", "temperature is 0, which leaves nothing to choose from"),
    ],
};

/// The same prompt to every worker.
#[derive(Debug, Args)]
#[command(next_help_heading = "Check of outputs")]
pub(super) struct CheckOutputsArgs {
    /// Instead of a run: the same prompts to every worker at temperature 0; exit code 4 if their texts differ
    #[arg(long, conflicts_with = "pace_check")]
    pub(super) check_outputs: bool,
    /// Who is asked, http://host:port and perhaps @rank; without it all workers of the router at --base-url
    #[arg(long, value_name = "URL", num_args = 1.., requires = "check_outputs")]
    worker_urls: Vec<String>,
    /// What is asked, each by itself [default: four short ones]
    #[arg(long, value_name = "TEXT", num_args = 1.., requires = "check_outputs")]
    prompt: Vec<String>,
}

/// Asks and compares.
pub(super) fn run(args: &Flags, config: &LoadConfig) -> Result<(), Failure> {
    APART.check(&config.arguments).map_err(Failure::Usage)?;
    let own = &args.check_outputs;
    let given: Result<Vec<Worker>, String> = own.worker_urls.iter().map(|url| Worker::parse(url)).collect();
    let given = given.map_err(|e| Failure::Usage(format!("--worker-urls: {e}")))?;
    let output_tokens = match args.static_batch.output_len[..] {
        [] => OUTPUT_TOKENS,
        [tokens] => tokens,
        _ => return Err(Failure::Usage("--output-len: --check-outputs takes one".to_owned())),
    };
    let prompts: Vec<&str> = match &own.prompt[..] {
        [] => PROMPTS.to_vec(),
        given => given.iter().map(String::as_str).collect(),
    };
    super::runtime()?.block_on(async {
        let (handle, stop) = Stop::pair();
        let watching = tokio::spawn(signal::stop_measuring(handle));
        let context = RunContext { stop, ..RunContext::new(Clock::system(), Arc::new(Silent)) };
        let outcome = all(config, &context, given, &prompts, output_tokens).await;
        watching.abort();
        outcome
    })
}

async fn all(
    config: &LoadConfig,
    context: &RunContext,
    given: Vec<Worker>,
    prompts: &[&str],
    output_tokens: u64,
) -> Result<(), Failure> {
    let failed = |e: LoadError| match e {
        LoadError::Interrupted => Failure::Interrupted("interrupted: not every prompt was asked".to_owned()),
        other => Failure::Run(other.to_string()),
    };
    let workers = if given.is_empty() { workers_of(config, context).await.map_err(failed)? } else { given };
    if workers.len() < 2 {
        return Err(Failure::Usage(format!(
            "--check-outputs: two workers or more are compared, got {}",
            workers.len()
        )));
    }
    let (mut differing, mut silent) = (0, 0);
    for prompt in prompts {
        let said = ask(config, context, &workers, prompt, output_tokens).await.map_err(failed)?;
        let compared = compare(prompt, &said);
        print(&compared.text)?;
        differing += compared.differing;
        silent += compared.silent;
    }
    let asked = workers.len() * prompts.len();
    match (differing, silent) {
        (0, 0) => Ok(()),
        (0, n) => Err(Failure::Run(format!("{n} of {asked} answers did not come"))),
        (n, _) => Err(Failure::Invalid(format!("{n} of {asked} answers differ from what most workers say"))),
    }
}
