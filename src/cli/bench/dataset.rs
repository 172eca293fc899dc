//! What is sent: `--dataset-name` and the flags of each data set.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them. Deliberately not here: reading or making prompts
//! (`load::dataset`).

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::load::dataset::{Dataset, FileOptions, Popularity, RandomOptions, SharedPrefixOptions};

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
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(super) num_prompts: Option<u32>,
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
    pub(super) fn dataset(&self) -> Result<Dataset, String> {
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
            DatasetName::GeneratedSharedPrefix => Dataset::SharedPrefix(shared_prefix(&self.gsp)?),
        })
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
