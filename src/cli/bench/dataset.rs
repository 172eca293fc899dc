//! What is sent: `--dataset-name` and the flags of each data set.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them. Deliberately not here: reading or making prompts
//! (`load::dataset`).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::load::dataset::{
    Blocks, Dataset, FileOptions, MultiTurnOptions, Popularity, RandomOptions, SharedPrefixOptions,
    TraceFormat, TraceOptions, WekaOptions,
};
use crate::load::schedule::{Arrivals, Pace, parse_seconds};

/// Requests of a run at most.
const MOST_REQUESTS: u32 = crate::load::config::MOST_REQUESTS as u32;

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
    /// Users in conversation: each turn on top of the answers that came
    MultiTurn,
    /// Mooncake trace: times, lengths, hashes of 512-token blocks (--dataset-path)
    Mooncake,
    /// Azure LLM inference trace, 2023 or 2024: times and lengths (--dataset-path)
    #[value(alias = "azure2023")]
    Azure,
    /// `BurstGPT` trace: times and lengths (--dataset-path)
    Burstgpt,
    /// Qwen-Bailian trace: times, lengths, chats, hashes of 16-token blocks (--dataset-path)
    #[value(alias = "bailian")]
    QwenBailian,
    /// Weka's kv-cache-tester: sessions with think times, lengths, hashes of 64-token blocks (--dataset-path, a file or a folder)
    #[value(alias = "weka-trace")]
    Weka,
    /// milepost's own trace log: times, lengths, as much sharing as it tells (--dataset-path)
    MilepostTrace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Distribution {
    Uniform,
    Zipf,
}

/// What is sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Data set")]
pub(super) struct DatasetArgs {
    /// What to send
    #[arg(long, value_enum, default_value = "sharegpt")]
    dataset_name: DatasetName,
    /// File of the data set
    #[arg(long)]
    dataset_path: Option<PathBuf>,
    /// Requests to send; 1000 where no time says how many (generated-shared-prefix: groups times prompts instead)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_REQUESTS)))]
    num_prompts: Option<u32>,
    /// Files and traces: ask for this many output tokens
    #[arg(long)]
    sharegpt_output_len: Option<u64>,
    /// Files and traces: leave out what is longer than this, prompt and output together
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
    /// Traces: one above the largest token id sent; with more than the trace has blocks no two differ in a later token than
    /// their first
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(i64::from(Blocks::LEAST_VOCABULARY)..))]
    trace_vocabulary: u32,
    #[command(flatten)]
    gsp: SharedPrefixArgs,
    #[command(flatten)]
    mt: MultiTurnArgs,
    /// weka: sessions at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    weka_sessions: Option<u32>,
    /// weka: longer think times are cut to this
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_seconds)]
    weka_max_think: f64,
}

/// `--mt-*`.
#[derive(Debug, Args)]
struct MultiTurnArgs {
    /// Users, each with one conversation; they begin as the arrivals say
    #[arg(id = "mt-users", long = "mt-users", default_value_t = 16)]
    users: u32,
    /// Turns of each
    #[arg(id = "mt-turns", long = "mt-turns", default_value_t = 4)]
    turns: u32,
    /// System texts that users share
    #[arg(id = "mt-groups", long = "mt-groups", default_value_t = 4)]
    groups: u32,
    /// Words of a system text
    #[arg(id = "mt-system-prompt-len", long = "mt-system-prompt-len", default_value_t = 512)]
    system_prompt_len: u64,
    /// Words of a question
    #[arg(id = "mt-question-len", long = "mt-question-len", default_value_t = 64)]
    question_len: u64,
    /// Output tokens
    #[arg(id = "mt-output-len", long = "mt-output-len", default_value_t = 128)]
    output_len: u64,
    /// Smallest length as a share of the largest
    #[arg(id = "mt-range-ratio", long = "mt-range-ratio", default_value_t = 1.0)]
    range_ratio: f64,
    /// Mean seconds from an answer to the user's next question
    #[arg(
        id = "mt-think-time",
        long = "mt-think-time",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    think_time: f64,
    /// Think times are all the same instead of exponential
    #[arg(id = "mt-constant-think", long = "mt-constant-think")]
    constant_think: bool,
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

impl DatasetArgs {
    /// The data set that is meant.
    pub(super) fn dataset(&self, arrivals: &Arrivals) -> Result<Dataset, String> {
        if let Some(format) = self.trace_format() {
            let speedup = match &arrivals.pace {
                Pace::Trace { pace, .. } => Some(pace.speedup),
                _ => None,
            };
            return Ok(Dataset::Trace(TraceOptions {
                format,
                path: self.dataset_path.clone(),
                output_tokens: self.sharegpt_output_len,
                context_tokens: self.sharegpt_context_len,
                until: arrivals.duration.zip(speedup).map(|(most, speedup)| {
                    Duration::try_from_secs_f64(most.as_secs_f64() * speedup).unwrap_or(Duration::MAX)
                }),
                vocabulary: self.trace_vocabulary,
            }));
        }
        let file = || FileOptions {
            path: self.dataset_path.clone(),
            output_tokens: self.sharegpt_output_len,
            context_tokens: self.sharegpt_context_len,
        };
        Ok(match self.dataset_name {
            DatasetName::Sharegpt => Dataset::ShareGpt(file()),
            DatasetName::Custom => Dataset::Custom(file()),
            DatasetName::Random | DatasetName::RandomIds => Dataset::Random(RandomOptions {
                input_tokens: self.random_input_len,
                output_tokens: self.random_output_len,
                range_ratio: self.random_range_ratio,
            }),
            DatasetName::MultiTurn => Dataset::MultiTurn(MultiTurnOptions {
                users: self.mt.users,
                turns: self.mt.turns,
                groups: self.mt.groups,
                system_tokens: self.mt.system_prompt_len,
                question_tokens: self.mt.question_len,
                output_tokens: self.mt.output_len,
                range_ratio: self.mt.range_ratio,
                think_s: self.mt.think_time,
                constant_think: self.mt.constant_think,
            }),
            _ => Dataset::SharedPrefix(shared_prefix(&self.gsp)?),
        })
    }

    /// Requests asked for. Of sessions the arrivals tell only how many begin, not of how many requests they are: all are read.
    pub(super) fn requests(&self) -> Option<u32> {
        let sessions = matches!(self.dataset_name, DatasetName::QwenBailian | DatasetName::Weka);
        self.num_prompts.or(sessions.then_some(MOST_REQUESTS))
    }

    /// What a rate of arrivals counts, as it is told behind a number.
    pub(super) fn unit(&self) -> &'static str {
        match self.dataset_name {
            DatasetName::QwenBailian | DatasetName::Weka | DatasetName::MultiTurn => " sessions/s",
            _ => "/s",
        }
    }

    /// What was asked for and is not made, as `bench_serving` does not make it either.
    pub(super) fn note(&self) -> Option<&'static str> {
        let is_given = self.num_prompts.is_some() && self.dataset_name == DatasetName::GeneratedSharedPrefix;
        is_given.then_some(
            "--num-prompts says nothing to generated-shared-prefix: --gsp-num-groups times --gsp-prompts-per-group are sent",
        )
    }

    /// Its requests have times of their own.
    pub(super) fn is_trace(&self) -> bool {
        self.trace_format().is_some()
    }

    fn trace_format(&self) -> Option<TraceFormat> {
        match self.dataset_name {
            DatasetName::Mooncake => Some(TraceFormat::Mooncake),
            DatasetName::Azure => Some(TraceFormat::Azure),
            DatasetName::Burstgpt => Some(TraceFormat::BurstGpt),
            DatasetName::QwenBailian => Some(TraceFormat::Bailian),
            DatasetName::Weka => Some(TraceFormat::Weka(WekaOptions {
                sessions: self.weka_sessions,
                most_think: Duration::try_from_secs_f64(self.weka_max_think).unwrap_or(Duration::MAX),
            })),
            DatasetName::MilepostTrace => Some(TraceFormat::Milepost),
            _ => None,
        }
    }
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
