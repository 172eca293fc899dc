//! `milepost bench`: the flags of SGLang's `bench_serving` (0.4.9 and 0.5.23), and where they lead.
//!
//! Rule: a flag of `bench_serving` that has no meaning here is taken with a note, one that would change what is measured is
//! refused, an unknown one is refused by clap. The environment is read here and nowhere else. Deliberately not here: the run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Failure;
use crate::clock::Clock;
use crate::load::body::{Backend, RequestOptions};
use crate::load::config::request_headers;
use crate::load::dataset::{Dataset, FileOptions, Popularity, RandomOptions, SharedPrefixOptions};
use crate::load::progress::{Progress, Stop};
use crate::load::schedule::Rate;
use crate::load::target::Target;
use crate::load::{LoadConfig, LoadError, RunContext, RunReport, TraceSource, run as run_load};
use crate::report::Metrics;
use crate::report::console::Console;
use crate::report::files::{Destination, write_run};
use crate::report::summary::summary;

/// `--backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BackendName {
    /// POST /generate
    Sglang,
    /// POST /generate
    SglangNative,
    /// POST /v1/completions
    SglangOai,
    /// POST /v1/chat/completions
    SglangOaiChat,
}

/// `--dataset-name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DatasetName {
    /// First two turns of shared conversations (--dataset-path)
    Sharegpt,
    /// Random tokens, no file needed
    Random,
    /// The same as random
    RandomIds,
    /// Your own prompts: a prompt, an output length and an id a line (--dataset-path)
    Custom,
    /// Groups of prompts with a common beginning
    #[value(alias = "shared-prefix")]
    GeneratedSharedPrefix,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Distribution {
    Uniform,
    Zipf,
}

/// Arguments of `milepost bench`.
// As argparse does: an unambiguous beginning will do, and of a flag given twice the last one counts.
#[derive(Debug, Args)]
#[command(infer_long_args = true, args_override_self = true)]
pub struct BenchArgs {
    #[command(flatten)]
    flags: Box<Flags>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of bench_serving")]
struct Flags {
    /// Which endpoint, in which shape
    #[arg(long, value_enum, default_value = "sglang")]
    backend: BackendName,
    /// Router or server, http://host:port
    #[arg(long)]
    base_url: Option<String>,
    /// Host, if there is no --base-url
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port, if there is no --base-url
    #[arg(long, default_value_t = 30000)]
    port: u16,
    /// What to send
    #[arg(long, value_enum, default_value = "sharegpt")]
    dataset_name: DatasetName,
    /// File of the data set
    #[arg(long)]
    dataset_path: Option<PathBuf>,
    /// Model name for the OpenAI endpoints (else asked from the server)
    #[arg(long)]
    model: Option<String>,
    /// Requests to send (generated-shared-prefix: groups times prompts instead)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    num_prompts: u32,
    /// Poisson arrivals with this mean number a second; inf: all at once
    #[arg(long, default_value = "inf", value_parser = Rate::parse, allow_negative_numbers = true)]
    request_rate: Rate,
    /// Most requests in flight; waiting for a place counts in the latencies from schedule
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_concurrency: Option<u32>,
    /// Seed of prompts and arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ask for whole answers instead of streams
    #[arg(long)]
    disable_stream: bool,
    /// Let answers end where the model ends them
    #[arg(long)]
    disable_ignore_eos: bool,
    /// Sampling temperature
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Nucleus sampling, sent only if given
    #[arg(long)]
    top_p: Option<f64>,
    /// JSON object laid over every request body
    #[arg(long, value_name = "JSON")]
    extra_request_body: Option<String>,
    /// Header of every request, K=V; may be given several times
    #[arg(long, value_name = "K=V", num_args = 1..)]
    header: Vec<String>,
    /// Longest time from connecting to the last byte
    #[arg(long, default_value_t = 1800, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    request_timeout_secs: u64,
    /// Requests before the run, in no figure
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    warmup_requests: u32,
    /// Empty the prefix caches before the run
    #[arg(long)]
    flush_cache: bool,

    /// Trace of the router: the file it writes, or an http:// address that gives it
    #[arg(long, value_name = "FILE|URL")]
    router_trace: Option<String>,
    /// Folder for requests.csv and run.json; a folder inside it if a run is there already
    #[arg(long, default_value = "milepost-bench")]
    output_dir: PathBuf,
    /// Append the run as one line of JSON
    #[arg(long)]
    output_file: Option<PathBuf>,
    /// Put every request into the line of --output-file too
    #[arg(long)]
    output_details: bool,
    /// No progress
    #[arg(long)]
    disable_tqdm: bool,

    /// sharegpt, custom: ask for this many output tokens
    #[arg(long)]
    sharegpt_output_len: Option<u64>,
    /// sharegpt, custom: leave out what is longer than this, prompt and output together
    #[arg(long)]
    sharegpt_context_len: Option<u64>,
    /// random: most prompt tokens
    #[arg(long, default_value_t = 1024)]
    random_input_len: u64,
    /// random: most output tokens
    #[arg(long, default_value_t = 1024)]
    random_output_len: u64,
    /// random: smallest length as a share of the largest
    #[arg(long, default_value_t = 0.0)]
    random_range_ratio: f64,
    #[command(flatten)]
    gsp: SharedPrefixArgs,
    #[command(flatten)]
    unneeded: UnneededArgs,
}

/// `--gsp-*`.
#[derive(Debug, Args)]
struct SharedPrefixArgs {
    /// Shared prefixes
    #[arg(long = "gsp-num-groups", default_value_t = 64)]
    num_groups: u32,
    /// Prompts for each
    #[arg(long = "gsp-prompts-per-group", default_value_t = 16)]
    prompts_per_group: u32,
    /// Words of a prefix
    #[arg(long = "gsp-system-prompt-len", default_value_t = 2048)]
    system_prompt_len: u64,
    /// Words of a question
    #[arg(long = "gsp-question-len", default_value_t = 128)]
    question_len: u64,
    /// Output tokens
    #[arg(long = "gsp-output-len", default_value_t = 256)]
    output_len: u64,
    /// Smallest length as a share of the largest
    #[arg(long = "gsp-range-ratio", default_value_t = 1.0)]
    range_ratio: f64,
    /// Do not shuffle
    #[arg(long = "gsp-ordered")]
    ordered: bool,
    /// How often each group is asked
    #[arg(long = "gsp-group-distribution", value_enum, default_value = "uniform")]
    group_distribution: Distribution,
    /// Exponent of zipf
    #[arg(long = "gsp-zipf-alpha")]
    zipf_alpha: Option<f64>,
}

/// Flags of `bench_serving` that have nothing to do here. Taken, so that a script goes on working.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of bench_serving")]
struct UnneededArgs {
    #[arg(long, hide = true)]
    tokenizer: Option<String>,
    #[arg(long, hide = true)]
    served_model_name: Option<String>,
    #[arg(long, hide = true)]
    ready_check_timeout_sec: Option<u64>,
    #[arg(long, hide = true)]
    flush_cache_timeout: Option<f64>,
    #[arg(long, hide = true)]
    tag: Option<String>,
    #[arg(long, hide = true)]
    cache_report: bool,
    #[arg(long, hide = true)]
    print_requests: bool,
    #[arg(long, hide = true)]
    plot_throughput: bool,
    #[arg(long, hide = true)]
    pd_separated: bool,
    #[arg(long, hide = true)]
    tokenize_prompt: bool,
    #[arg(long, hide = true)]
    gsp_fast_prepare: bool,
    #[arg(long, hide = true)]
    rust_client: bool,
    #[arg(long, hide = true)]
    rust_worker_threads: Option<u32>,
}

impl UnneededArgs {
    fn notes(&self) -> Vec<String> {
        let given = [
            (self.tokenizer.is_some(), "--tokenizer", "token counts are the servers'"),
            (self.served_model_name.is_some(), "--served-model-name", "give --model"),
            (
                self.ready_check_timeout_sec.is_some(),
                "--ready-check-timeout-sec",
                "the warm-up request is the check",
            ),
            (self.flush_cache_timeout.is_some(), "--flush-cache-timeout", "it is 30 s"),
            (self.tag.is_some(), "--tag", "use --output-dir"),
            (
                self.cache_report,
                "--cache-report",
                "cached tokens are always reported where the server tells them",
            ),
            (self.print_requests, "--print-requests", "requests.csv has them"),
            (self.plot_throughput, "--plot-throughput", "run.json has the curve"),
            (self.pd_separated, "--pd-separated", "the trace names the workers"),
            (self.tokenize_prompt, "--tokenize-prompt", "random is sent as token ids to /generate anyway"),
            (self.gsp_fast_prepare, "--gsp-fast-prepare", "prompts are made fast"),
            (self.rust_client, "--rust-client", "this is one"),
            (
                self.rust_worker_threads.is_some(),
                "--rust-worker-threads",
                "the runtime has one for each core",
            ),
        ];
        given
            .iter()
            .filter(|g| g.0)
            .map(|(_, flag, why)| format!("{flag} is not needed here and was passed over: {why}"))
            .collect()
    }
}

/// Runs `milepost bench`.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    let args = args.flags;
    args.unneeded.notes().iter().for_each(|note| eprintln!("note: {note}"));
    let config = config(&args, std::env::var("OPENAI_API_KEY").ok().as_deref()).map_err(Failure::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Run(format!("cannot start the runtime: {e}")))?;
    let console: Arc<dyn Progress> = Arc::new(Console::new(args.disable_tqdm));
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
    finish(&args, &report)
}

fn finish(args: &Flags, report: &RunReport) -> Result<(), Failure> {
    let metrics = Metrics::of(&report.rows);
    let to = Destination {
        folder: args.output_dir.clone(),
        collection: args.output_file.clone(),
        details: args.output_details,
    };
    let files = write_run(report, &metrics, &to)
        .map_err(|e| Failure::Run(format!("cannot write the results: {e}")))?;
    print!("{}", summary(report, &metrics, &files));
    if report.partial {
        return Err(Failure::Interrupted("interrupted: the results are partial".to_owned()));
    }
    if metrics.completed == 0 {
        return Err(Failure::Run("no request succeeded; the summary counts the errors by class".to_owned()));
    }
    Ok(())
}

fn config(args: &Flags, api_key: Option<&str>) -> Result<LoadConfig, String> {
    let url = args.base_url.clone().unwrap_or_else(|| base_url(&args.host, args.port));
    let target = Target::parse(&url).map_err(|e| format!("--base-url: {e}"))?;
    let router_trace = args
        .router_trace
        .as_deref()
        .map(TraceSource::parse)
        .transpose()
        .map_err(|e| format!("--router-trace: {e}"))?;
    Ok(LoadConfig {
        backend: match args.backend {
            BackendName::Sglang | BackendName::SglangNative => Backend::Native,
            BackendName::SglangOai => Backend::Completions,
            BackendName::SglangOaiChat => Backend::Chat,
        },
        num_prompts: args.num_prompts as usize,
        rate: args.request_rate,
        max_concurrency: args.max_concurrency.map(|n| n as usize),
        seed: args.seed,
        model: args.model.clone(),
        request: request_options(args)?,
        headers: request_headers(&args.header, api_key)?,
        request_timeout: Duration::from_secs(args.request_timeout_secs),
        warmup_requests: args.warmup_requests as usize,
        flush_cache: args.flush_cache,
        router_trace,
        ..LoadConfig::new(target, dataset(args)?)
    })
}

/// `bench_serving`'s default host 0.0.0.0 is no address to connect to; it means this host.
fn base_url(host: &str, port: u16) -> String {
    match host {
        "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        host if host.contains(':') && !host.starts_with('[') => format!("http://[{host}]:{port}"),
        host => format!("http://{host}:{port}"),
    }
}

fn request_options(args: &Flags) -> Result<RequestOptions, String> {
    let extra = match &args.extra_request_body {
        None => serde_json::Map::new(),
        Some(text) => match serde_json::from_str(text) {
            Ok(serde_json::Value::Object(object)) => object,
            Ok(_) => {
                return Err(format!("--extra-request-body: expected a JSON object, got {text}"));
            }
            Err(e) => return Err(format!("--extra-request-body: {e} in {text}")),
        },
    };
    if !args.temperature.is_finite() || args.temperature < 0.0 {
        return Err(format!("--temperature: expected a number of at least 0, got {}", args.temperature));
    }
    Ok(RequestOptions {
        stream: !args.disable_stream,
        ignore_eos: !args.disable_ignore_eos,
        temperature: args.temperature,
        top_p: args.top_p,
        extra,
    })
}

fn dataset(args: &Flags) -> Result<Dataset, String> {
    let file = || FileOptions {
        path: args.dataset_path.clone(),
        output_tokens: args.sharegpt_output_len,
        context_tokens: args.sharegpt_context_len,
    };
    Ok(match args.dataset_name {
        DatasetName::Sharegpt => Dataset::ShareGpt(file()),
        DatasetName::Custom => Dataset::Custom(file()),
        DatasetName::Random | DatasetName::RandomIds => Dataset::Random(RandomOptions {
            input_tokens: args.random_input_len,
            output_tokens: args.random_output_len,
            range_ratio: args.random_range_ratio,
        }),
        DatasetName::GeneratedSharedPrefix => Dataset::SharedPrefix(shared_prefix(&args.gsp)?),
    })
}

fn shared_prefix(gsp: &SharedPrefixArgs) -> Result<SharedPrefixOptions, String> {
    let popularity = match (gsp.group_distribution, gsp.zipf_alpha) {
        (Distribution::Uniform, None) => Popularity::Uniform,
        (Distribution::Zipf, Some(alpha)) => Popularity::Zipf(alpha),
        (Distribution::Zipf, None) => {
            return Err("--gsp-group-distribution zipf: --gsp-zipf-alpha is missing".to_owned());
        }
        (Distribution::Uniform, Some(_)) => {
            return Err("--gsp-zipf-alpha: only with --gsp-group-distribution zipf".to_owned());
        }
    };
    Ok(SharedPrefixOptions {
        groups: gsp.num_groups,
        prompts_per_group: gsp.prompts_per_group,
        system_tokens: gsp.system_prompt_len,
        question_tokens: gsp.question_len,
        output_tokens: gsp.output_len,
        range_ratio: gsp.range_ratio,
        ordered: gsp.ordered,
        popularity,
    })
}
