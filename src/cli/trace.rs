//! `milepost trace`.

use super::Failure;

/// Arguments of `milepost trace`.
#[derive(Debug, clap::Args)]
pub struct TraceArgs {}

/// Runs `milepost trace`.
pub fn run(_args: TraceArgs) -> Result<(), Failure> {
    Err(Failure::Run("trace: not built yet".to_owned()))
}
