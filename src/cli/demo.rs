//! `milepost demo`: the flags, the terminal and the signals of the demonstration.
//!
//! Rule: what was found goes to standard output, how far it is to standard error; colour and the moving bar only on a terminal.
//! Deliberately not here: the demonstration (`crate::demo`).

#![expect(clippy::doc_markdown, reason = "doc comments here are the text of --help")]

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::Failure;
use crate::clock::Clock;
use crate::demo::arm::Arm;
use crate::demo::workload::Workload;
use crate::demo::{self, Audience, DemoConfig, DemoContext, DemoError, DemoReport, table};
use crate::load::progress::{Standing, Stop};
use crate::load::schedule::Rate;
use crate::log;
use crate::sim::Dialect;
use crate::stdio::{self, tell, tell_line};

/// Cells of the progress bar.
const BAR: usize = 30;

/// Arguments of `milepost demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Workers are SIMULATED and each policy is run once: a demonstration, not a verdict.")]
pub struct DemoArgs {
    /// Folder for the files; what an earlier demo left there is replaced
    #[arg(long, default_value = "./milepost-demo", value_name = "DIR")]
    output_dir: PathBuf,
    /// Policies to compare, in this order
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "cache_aware,round_robin,random,shortest_queue",
        value_name = "A,B"
    )]
    policies: Vec<String>,
    /// Simulated workers
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// Requests of each policy's run [default: 8 seconds' worth]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    num_prompts: Option<u32>,
    /// Poisson arrivals with this mean number a second [default: 40, with --dataset-path 8]
    #[arg(long, value_parser = Rate::parse, allow_negative_numbers = true)]
    request_rate: Option<Rate>,
    /// Seed of prompts, arrivals and random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The SGLang server that the workers speak like
    #[arg(long, value_enum, default_value_t)]
    dialect: Dialect,
    /// Prompts of your own instead of the built-in ones: ShareGPT's JSON, or a prompt and an output_len a line
    #[arg(long, value_name = "FILE")]
    dataset_path: Option<PathBuf>,
}

impl DemoArgs {
    fn config(&self) -> Result<DemoConfig, Failure> {
        let prompts = self.num_prompts.map(|n| n as usize);
        let rate = match self.request_rate {
            None => None,
            Some(Rate::PerSecond(rate)) => Some(rate),
            Some(Rate::AllAtOnce) => {
                return Err(Failure::Usage(
                    "--request-rate: the demo paces its requests; expected a number, got inf".to_owned(),
                ));
            }
        };
        let workload = match &self.dataset_path {
            None => Workload::built_in(prompts, rate),
            Some(path) => Workload::file(path.clone(), prompts, rate).map_err(failure)?,
        };
        Ok(DemoConfig {
            output_dir: self.output_dir.clone(),
            policies: self.policies.clone(),
            workers: self.workers,
            dialect: self.dialect,
            seed: self.seed,
            ..DemoConfig::new(workload)
        })
    }
}

/// Runs `milepost demo`.
#[expect(clippy::needless_pass_by_value, reason = "every command takes its arguments whole")]
pub fn run(args: DemoArgs) -> Result<(), Failure> {
    let config = args.config()?;
    log::set_level(log::Level::Warn);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))?;
    let (handle, stop) = Stop::pair();
    let console = Arc::new(Console::new());
    let audience: Arc<dyn Audience> = Arc::clone(&console) as _;
    let context = DemoContext { clock: Clock::system(), audience, stop };
    let outcome = runtime.block_on(async move {
        let watcher = tokio::spawn(super::signal::stop_measuring(handle));
        let outcome = demo::run(config, context).await;
        watcher.abort();
        outcome
    });
    finish(&outcome.map_err(failure)?, &console)
}

fn finish(report: &DemoReport, console: &Console) -> Result<(), Failure> {
    console.say(&format!("\n{}{}", table::body(report), table::next(report, &program())));
    if report.partial {
        return Err(Failure::Interrupted("interrupted: the results are partial".to_owned()));
    }
    match report.arms.iter().find(|arm| !arm.books.faults.is_empty() || arm.metrics.completed == 0) {
        None => Ok(()),
        Some(arm) if arm.metrics.completed == 0 => {
            Err(Failure::Run(format!("{}: no request succeeded; the warnings say why", arm.policy)))
        }
        Some(arm) => Err(Failure::Run(format!(
            "{}: counts that must be equal are not; do not use these numbers (the warnings say which)",
            arm.policy
        ))),
    }
}

fn failure(e: DemoError) -> Failure {
    match e {
        DemoError::Usage(what) => Failure::Usage(what),
        DemoError::Run(what) => Failure::Run(what),
        DemoError::Interrupted => Failure::Interrupted(e.to_string()),
    }
}

/// As it was called, so that the next commands can be copied.
fn program() -> String {
    std::env::args().next().filter(|name| !name.is_empty()).unwrap_or_else(|| "milepost".to_owned())
}

/// Standard output and error.
struct Console {
    colour: bool,
    terminal: bool,
    /// The policy whose turn it is.
    turn: Mutex<String>,
}

impl Console {
    fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self {
            colour: wanted && std::io::stdout().is_terminal(),
            terminal: std::io::stderr().is_terminal(),
            turn: Mutex::default(),
        }
    }

    /// What cannot be printed is no failure: the files have it all.
    fn say(&self, text: &str) {
        let _ = stdio::print(table::paint(text, self.colour).as_bytes());
    }
}

impl Audience for Console {
    fn opens(&self, head: &str) {
        self.say(&format!("{head}\n"));
    }

    fn begins(&self, policy: &str, number: usize, of: usize) {
        let turn = format!("{number}/{of} {policy:<15}");
        if self.terminal {
            tell(&format!("\r{turn} starting\x1b[K"));
        }
        *self.turn.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }

    fn standing(&self, s: Standing) {
        if !self.terminal {
            return;
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        tell(&format!(
            "\r{turn} {}{:>3.0} s  {}/{} ended, {} in flight\x1b[K",
            bar(s.ended, s.planned),
            s.elapsed_s,
            s.ended,
            s.planned,
            s.due.saturating_sub(s.ended)
        ));
    }

    fn ends(&self, arm: &Arm) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let m = &arm.metrics;
        let line = format!("{turn} {}/{} ok in {:.1} s", m.completed, m.requests, m.duration_s);
        if self.terminal {
            tell_line(&format!("\r{line}\x1b[K"));
        } else {
            tell_line(&line);
        }
    }
}

fn bar(done: usize, all: usize) -> String {
    let full = done * BAR / all.max(1);
    format!("[{}{}]", "=".repeat(full), " ".repeat(BAR - full))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: DemoArgs,
    }

    fn config(flags: &[&str]) -> Result<DemoConfig, Failure> {
        Command::try_parse_from(std::iter::once(&"demo").chain(flags)).expect("parses").args.config()
    }

    #[test]
    fn without_flags_it_is_four_workers_and_four_policies() {
        let config = config(&[]).unwrap();
        assert_eq!((config.workers, config.policies), (4, demo::POLICIES.map(str::to_owned).to_vec()));
    }

    #[test]
    fn flags_are_taken() {
        let config =
            config(&["--policies", "random,cache_aware", "--num-prompts", "12", "--workers", "2"]).unwrap();
        assert_eq!(config.policies, ["random", "cache_aware"]);
        assert_eq!((config.workload.prompts, config.workers), (12, 2));
    }

    #[test]
    fn a_file_that_is_not_there_is_a_usage_error() {
        let failure = config(&["--dataset-path", "no-such-file.json"]).unwrap_err();
        assert!(matches!(&failure, Failure::Usage(m) if m.contains("no-such-file.json")), "{failure}");
        assert!(matches!(config(&["--request-rate", "inf"]), Err(Failure::Usage(_))));
    }

    #[test]
    fn the_bar_fills() {
        assert_eq!(bar(0, 10), format!("[{}]", " ".repeat(BAR)));
        assert_eq!(bar(10, 10), format!("[{}]", "=".repeat(BAR)));
        assert_eq!(bar(0, 0).len(), BAR + 2);
    }
}
