//! `milepost bench`.

use super::Failure;

/// Arguments of `milepost bench`.
#[derive(Debug, clap::Args)]
pub struct BenchArgs {}

/// Runs `milepost bench`.
pub fn run(_args: BenchArgs) -> Result<(), Failure> {
    Err(Failure::Run("bench: not built yet".to_owned()))
}
