//! `milepost bench`: the flags of SGLang's `bench_serving` (0.4.9 and 0.5.23), and where they lead.
//!
//! Rule: a flag of `bench_serving` that has no meaning here is taken with a note, one that would change what is measured is
//! refused, an unknown one is refused by clap. The environment is read here and nowhere else. Deliberately not here: the run.

mod apart;
mod arguments;
mod arrivals;
mod check_outputs;
mod closing;
mod config_file;
mod dataset;
mod faults;
mod figures;
mod output;
mod pace;
mod request;
mod series;
mod session;
mod static_batch;
mod target;
mod unneeded;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;

use self::arrivals::{ArrivalArgs, requests};
use self::check_outputs::CheckOutputsArgs;
use self::dataset::DatasetArgs;
use self::faults::FaultArgs;
use self::figures::FigureArgs;
use self::output::OutputArgs;
use self::request::RequestArgs;
use self::series::{Asked, SeriesArgs};
use self::session::{Kept, Session};
use self::static_batch::StaticBatchArgs;
use self::target::TargetArgs;
use self::unneeded::UnneededArgs;
use super::{Failure, print};
use crate::load::config::request_headers;
use crate::load::{LoadConfig, RunReport, TraceSource};
use crate::report::explain;
use crate::report::{Rating, Verdict};
use crate::stdio::tell_line;

/// Arguments of `milepost bench`.
// As argparse does: an unambiguous beginning will do, and of a flag given twice the last one counts.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true)]
#[command(
    after_help = "Exit codes: 0 the verdict is VALID, 3 SUSPECT, 4 INVALID (results are written all the same), \
    1 the run failed, 2 usage, 130 interrupted."
)]
pub struct BenchArgs {
    #[command(flatten)]
    flags: Box<Flags>,
    /// As they were given.
    #[arg(skip)]
    typed: Vec<String>,
}

impl BenchArgs {
    /// The arguments with those of `--config` in its place, and lines for the user.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn expand(typed: &[String]) -> Result<(Vec<String>, Vec<String>), String> {
        config_file::expand(typed)
    }

    /// Notes how the run was asked for.
    pub fn remember(&mut self, arguments: &[String]) {
        self.typed = arguments.to_vec();
    }
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
    #[command(flatten)]
    faults: FaultArgs,
    #[command(flatten)]
    series: SeriesArgs,
    /// Requests before the run, in no figure
    #[arg(long, help_heading = "Run", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    warmup_requests: u32,
    /// Empty the prefix caches before the run
    #[arg(long, help_heading = "Run")]
    flush_cache: bool,
    /// Trace of the router: the file it writes, or an http:// or https:// address that gives it (ROUTER/milepost/trace); both are
    /// followed over rotations, at any length. --header is sent there if it is the target's
    #[arg(long, help_heading = "Run", value_name = "FILE|URL")]
    router_trace: Option<String>,

    /// Flags from a file: TOML with their names, or the run.json or manifest.json of an earlier run; what is typed wins
    #[arg(long = "config", help_heading = "Run", value_name = "FILE")]
    _config: Option<std::path::PathBuf>,

    /// Only measure how well this machine keeps such arrivals; nothing is sent to a target
    #[arg(long, help_heading = "Run",
        conflicts_with_all = ["faults", "start_workers", "sweep", "repeats", "find_rate", "goodput", "column"])]
    pace_check: bool,

    #[command(flatten)]
    static_batch: StaticBatchArgs,
    #[command(flatten)]
    check_outputs: CheckOutputsArgs,
    #[command(flatten)]
    unneeded: UnneededArgs,
}

/// Runs `milepost bench`.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let BenchArgs { flags: args, typed } = args;
    args.unneeded.notes().iter().for_each(|note| tell_line(&format!("note: {note}")));
    args.dataset.note().iter().for_each(|note| tell_line(&format!("note: {note}")));
    if args.figures.explains_all() {
        return print(&explain::all());
    }
    if args.pace_check {
        return check_pace(&args);
    }
    let mut config = config(&args, &typed).map_err(Failure::Usage)?;
    if args.static_batch.static_batch {
        return static_batch::run(&args, config);
    }
    if args.check_outputs.check_outputs {
        return check_outputs::run(&args, &config);
    }
    if !args.static_batch.output_len.is_empty() {
        return Err(Failure::Usage(
            "--output-len: only with --static-batch or --check-outputs; a data set has flags of its own"
                .to_owned(),
        ));
    }
    let runtime = runtime()?;
    let mut session = Session::begin(&args)?;
    // Before a router is told of workers: it is to forget them again, whenever Ctrl-C comes.
    let watching = runtime.block_on(async { session.watch() });
    let hands = runtime.block_on(args.faults.begin(&mut config, session.stop()))?;
    let outcome = measure(&args, &typed, config, session, &runtime);
    drop(watching);
    if let Some(hands) = hands
        && let Err(why) = runtime.block_on(hands.end())
    {
        tell_line(&format!("note: {why}"));
    }
    outcome
}

/// One run, or a series of them.
fn measure(
    args: &Flags,
    typed: &[String],
    config: LoadConfig,
    session: Session,
    runtime: &Runtime,
) -> Result<(), Failure> {
    if args.series.wanted() {
        return series::run(args, Asked { typed, base: &config }, session);
    }
    let report = runtime.block_on(session.measure(config))?;
    finish(&report, session.keep(&report)?)
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))
}

fn check_pace(args: &Flags) -> Result<(), Failure> {
    let arrivals = args.arrivals.arrivals(false).map_err(Failure::Usage)?;
    if arrivals.mean_per_s().is_none() {
        return Err(Failure::Usage(
            "--pace-check needs a --request-rate, such as --request-rate 1000".to_owned(),
        ));
    }
    let text = runtime()?.block_on(pace::pace_check(&arrivals, args.arrivals.seed)).map_err(Failure::Run)?;
    print(&text)
}

fn finish(report: &RunReport, kept: Kept) -> Result<(), Failure> {
    kept.printed?;
    if report.partial {
        return Err(Failure::Interrupted("interrupted: the results are partial".to_owned()));
    }
    if kept.survey.metrics().completed == 0 {
        return Err(Failure::Run("no request succeeded; the summary counts the errors by class".to_owned()));
    }
    judge(&kept.survey.verdict)
}

/// The exit code says what the summary's verdict says.
fn judge(verdict: &Verdict) -> Result<(), Failure> {
    let reason = verdict.reasons().first().map(|c| format!("{}: {}", c.rule, c.text())).unwrap_or_default();
    match verdict.rating() {
        Rating::Valid => Ok(()),
        Rating::Suspect => Err(Failure::Suspect(format!("the verdict is SUSPECT: {reason}"))),
        Rating::Invalid => Err(Failure::Invalid(format!("the verdict is INVALID: {reason}"))),
    }
}

fn config(args: &Flags, typed: &[String]) -> Result<LoadConfig, String> {
    let api_key = std::env::var("OPENAI_API_KEY").ok();
    let router_trace = args
        .router_trace
        .as_deref()
        .map(TraceSource::parse)
        .transpose()
        .map_err(|e| format!("--router-trace: {e}"))?;
    let target = args.target.target()?;
    let traced_by_tls = matches!(&router_trace, Some(TraceSource::Url(url)) if url.https);
    let ssl_cert_file = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let tls = args.target.tls(ssl_cert_file, target.https || traced_by_tls)?;
    let arrivals = args.arrivals.arrivals(args.dataset.is_trace())?;
    let dataset = args.dataset.dataset(&arrivals)?;
    Ok(LoadConfig {
        backend: args.target.backend(),
        num_prompts: requests(&arrivals, args.dataset.requests(), args.arrivals.seed),
        arrivals,
        max_concurrency: args.arrivals.max_concurrency.map(|n| n as usize),
        seed: args.arrivals.seed,
        model: args.target.model.clone(),
        request: args.request.options()?,
        headers: request_headers(&args.request.header, api_key.as_deref())?,
        request_timeout: Duration::from_secs(args.request.request_timeout_secs),
        idle_timeout: Duration::from_secs(args.request.idle_timeout_secs),
        warmup_requests: args.warmup_requests as usize,
        flush_cache: args.flush_cache,
        router_trace,
        columns: args.figures.columns()?,
        besides: args.faults.asked().chain(args.figures.asked()).collect(),
        arguments: arguments::masked(typed.iter().cloned()),
        tls,
        ..LoadConfig::new(target, dataset)
    })
}
