//! `milepost route`.

use super::Failure;

/// Arguments of `milepost route`.
#[derive(Debug, clap::Args)]
pub struct RouteArgs {}

/// Runs `milepost route`.
pub fn run(_args: RouteArgs) -> Result<(), Failure> {
    Err(Failure::Run("route: not built yet".to_owned()))
}
