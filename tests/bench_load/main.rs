//! `load::run` against a scripted server: rows, figures, failures, files.
#![expect(clippy::unwrap_used, reason = "a test fails where an unwrap does")]

mod backends;
mod bad_input;
#[path = "../it/certificates.rs"]
#[expect(dead_code, reason = "the tests of the router use more of it")]
mod certificates;
mod cli;
mod datasets;
mod failures;
mod faults;
mod joined;
mod kept;
#[path = "../kept_page/mod.rs"]
mod kept_page;
mod outputs;
mod paged;
mod peers;
mod rows;
mod series;
mod server;
mod sessions;
mod static_batch;
mod tls;
mod traces;
mod virtual_time;

use std::sync::Arc;

use milepost::clock::Clock;
use milepost::load::dataset::{Dataset, RandomOptions};
use milepost::load::progress::Silent;
use milepost::load::target::Target;
use milepost::load::{LoadConfig, RunContext, RunReport, run};

/// `count` prompts of 6 tokens asking for 8, all at once, without a warm-up.
pub fn config(url: &str, count: usize) -> LoadConfig {
    let dataset = Dataset::Random(RandomOptions { input_tokens: 6, output_tokens: 8, range_ratio: 1.0 });
    LoadConfig {
        num_prompts: count,
        warmup_requests: 0,
        ..LoadConfig::new(Target::parse(url).unwrap(), dataset)
    }
}

/// Real time, real sockets, nobody told.
pub fn context() -> RunContext {
    RunContext::new(Clock::system(), Arc::new(Silent))
}

/// A run that takes place.
pub async fn measured(config: LoadConfig) -> RunReport {
    run(config, context()).await.unwrap()
}

/// A file beside the tests.
pub fn data(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/data/load/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}
