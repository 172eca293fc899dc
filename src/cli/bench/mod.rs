//! `milepost bench`: the flags of SGLang's `bench_serving` (0.4.9 and 0.5.23), and where they lead.
//!
//! Rule: a flag of `bench_serving` that has no meaning here is taken with a note, one that would change what is measured is
//! refused, an unknown one is refused by clap. The environment is read here and nowhere else. Deliberately not here: the run.

mod arrivals;
mod dataset;
mod figures;
mod output;
mod pace;
mod request;
mod target;
mod unneeded;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;

use self::arrivals::ArrivalArgs;
use self::dataset::DatasetArgs;
use self::figures::FigureArgs;
use self::output::OutputArgs;
use self::request::RequestArgs;
use self::target::TargetArgs;
use self::unneeded::UnneededArgs;
use super::Failure;
use crate::clock::Clock;
use crate::load::config::request_headers;
use crate::load::progress::{Progress, Stop};
use crate::load::{LoadConfig, LoadError, RunContext, RunReport, TraceSource, run as run_load};
use crate::report::Metrics;
use crate::report::console::Console;
use crate::report::explain;
use crate::report::files::write_run;
use crate::report::goodput::Slo;
use crate::report::summary::summary;

/// Arguments of `milepost bench`.
// As argparse does: an unambiguous beginning will do, and of a flag given twice the last one counts.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true)]
pub struct BenchArgs {
    #[command(flatten)]
    flags: Box<Flags>,
}

#[derive(Debug, Args)]
struct Flags {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    dataset: DatasetArgs,
    #[command(flatten)]
    arrivals: ArrivalArgs,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    figures: FigureArgs,
    /// Requests before the run, in no figure
    #[arg(long, help_heading = "Run", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    warmup_requests: u32,
    /// Empty the prefix caches before the run
    #[arg(long, help_heading = "Run")]
    flush_cache: bool,
    /// Trace of the router: the file it writes, or an http:// address that gives it
    #[arg(long, help_heading = "Run", value_name = "FILE|URL")]
    router_trace: Option<String>,

    /// Only measure how well this machine keeps such arrivals; nothing is sent to a target
    #[arg(long, help_heading = "Run")]
    pace_check: bool,

    #[command(flatten)]
    unneeded: UnneededArgs,
}

/// Runs `milepost bench`.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let args = args.flags;
    args.unneeded.notes().iter().for_each(|note| eprintln!("note: {note}"));
    if args.figures.explains_all() {
        print!("{}", explain::all());
        return Ok(());
    }
    let slos = args.figures.slos().map_err(Failure::Usage)?;
    if args.pace_check {
        return check_pace(&args);
    }
    let config = config(&args, std::env::var("OPENAI_API_KEY").ok().as_deref()).map_err(Failure::Usage)?;
    let runtime = runtime()?;
    let console: Arc<dyn Progress> = Arc::new(Console::new(args.output.disable_tqdm));
    let (handle, stop) = Stop::pair();
    let context = RunContext { stop, ..RunContext::new(Clock::system(), console) };
    let outcome = runtime.block_on(async move {
        let watcher = tokio::spawn(super::signal::stop_measuring(handle));
        let outcome = run_load(config, context).await;
        watcher.abort();
        outcome
    });
    let report = outcome.map_err(|e| match e {
        LoadError::Dataset(_) | LoadError::Options(_) | LoadError::Trace(_) => Failure::Usage(e.to_string()),
        LoadError::Interrupted => Failure::Interrupted(e.to_string()),
        LoadError::Target(_) | LoadError::System(_) => Failure::Run(e.to_string()),
    })?;
    finish(&args, &report, &slos)
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))
}

fn check_pace(args: &Flags) -> Result<(), Failure> {
    let arrivals = args.arrivals.arrivals().map_err(Failure::Usage)?;
    if arrivals.mean_per_s().is_none() {
        return Err(Failure::Usage(
            "--pace-check needs a --request-rate, such as --request-rate 1000".to_owned(),
        ));
    }
    let text = runtime()?.block_on(pace::pace_check(&arrivals, args.arrivals.seed)).map_err(Failure::Run)?;
    print!("{text}");
    Ok(())
}

fn finish(args: &Flags, report: &RunReport, slos: &[Slo]) -> Result<(), Failure> {
    let metrics = Metrics::of(&report.rows).judged(&report.rows, slos);
    let files = write_run(report, &metrics, &args.output.destination())
        .map_err(|e| Failure::Run(format!("cannot write the results: {e}")))?;
    print!("{}", summary(report, &metrics, &files));
    if args.figures.explains_shown() {
        print!("{}", explain::shown(&metrics));
    }
    if report.partial {
        return Err(Failure::Interrupted("interrupted: the results are partial".to_owned()));
    }
    if metrics.completed == 0 {
        return Err(Failure::Run("no request succeeded; the summary counts the errors by class".to_owned()));
    }
    Ok(())
}

fn config(args: &Flags, api_key: Option<&str>) -> Result<LoadConfig, String> {
    let router_trace = args
        .router_trace
        .as_deref()
        .map(TraceSource::parse)
        .transpose()
        .map_err(|e| format!("--router-trace: {e}"))?;
    let arrivals = args.arrivals.arrivals()?;
    Ok(LoadConfig {
        backend: args.target.backend(),
        num_prompts: args.arrivals.requests(&arrivals, args.dataset.num_prompts),
        arrivals,
        max_concurrency: args.arrivals.max_concurrency.map(|n| n as usize),
        seed: args.arrivals.seed,
        model: args.target.model.clone(),
        request: args.request.options()?,
        headers: request_headers(&args.request.header, api_key)?,
        request_timeout: Duration::from_secs(args.request.request_timeout_secs),
        warmup_requests: args.warmup_requests as usize,
        flush_cache: args.flush_cache,
        router_trace,
        ..LoadConfig::new(args.target.target()?, args.dataset.dataset()?)
    })
}
