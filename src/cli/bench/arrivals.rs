//! When requests arrive: the rate, its shape, and the seed of both arrivals and prompts.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them. Deliberately not here: making and keeping the schedule
//! (`load::schedule`, `load::pacer`).

use clap::Args;

use crate::load::schedule::Rate;

/// When requests arrive.
#[derive(Debug, Args)]
#[command(next_help_heading = "Arrivals")]
pub(super) struct ArrivalArgs {
    /// Poisson arrivals with this mean number a second; inf: all at once
    #[arg(long, default_value = "inf", value_parser = Rate::parse, allow_negative_numbers = true)]
    pub(super) request_rate: Rate,
    /// Most requests in flight; waiting for a place counts in the latencies from schedule
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) max_concurrency: Option<u32>,
    /// Seed of prompts and arrivals
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}
