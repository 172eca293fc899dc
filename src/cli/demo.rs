//! `milepost demo`.

use super::Failure;

/// Arguments of `milepost demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {}

/// Runs `milepost demo`.
pub fn run(_args: DemoArgs) -> Result<(), Failure> {
    Err(Failure::Run("demo: not built yet".to_owned()))
}
