//! `milepost worker`.

use super::Failure;

/// Arguments of `milepost worker`.
#[derive(Debug, clap::Args)]
pub struct WorkerArgs {}

/// Runs `milepost worker`.
pub fn run(_args: WorkerArgs) -> Result<(), Failure> {
    Err(Failure::Run("worker: not built yet".to_owned()))
}
