//! The switch of a simulated worker: `POST /milepost/sim/fault?set=VALUE`.
//!
//! Rule: a worker that does not take it is told with what would help. Deliberately not here: what the values do
//! (`sim::http::switch`).

use std::time::Duration;

use http::Method;

use super::registration::client_of;
use super::{Action, Kind};
use crate::clock::Clock;
use crate::load::target::Target;
use crate::net::Connector;

/// Longest wait for its answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Sets it at the worker of this URL.
pub(super) async fn set(
    url: &str,
    action: &Action,
    connector: &Connector,
    clock: &Clock,
) -> Result<(), String> {
    let target = Target::parse(url)?;
    let client = client_of(&target, connector.clone(), clock, &http::HeaderMap::new(), LIMIT).await?;
    let value = match action {
        Action::Begin(Kind::Slow(factor)) => format!("slow:{factor}"),
        Action::Begin(Kind::Hang) => "stall".to_owned(),
        Action::Begin(Kind::Reset) => "reset_before_head".to_owned(),
        Action::Begin(Kind::Empty) => "empty_200".to_owned(),
        Action::Heal => "none".to_owned(),
        Action::Begin(Kind::Stop(_)) | Action::Start => {
            return Err("a switch starts and stops nothing".to_owned());
        }
    };
    let path = target.path(&format!("/milepost/sim/fault?set={value}"));
    let answer = client.simple(Method::POST, &path, LIMIT).await.map_err(|e| format!("{target}{e}"))?;
    match answer.status {
        200 => Ok(()),
        403 => Err(format!("{target} was started without --allow-faults")),
        status => Err(format!(
            "{target} answered {status}: only `milepost worker --allow-faults` has this switch; others take a --fault-hook"
        )),
    }
}
