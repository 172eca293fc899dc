//! What a request's headers say about where it wants to go.
//!
//! Rule: only what a policy in use reads is read, and nothing is looked up by name: [`ClientHeaders::scan`] has found it. A
//! policy named by a client counts only with `--allow-policy-header`; one that does not exist is refused, not replaced.
//! Deliberately not here: what the body says (`intake`), the choice.

use milepost_policies::name_hash;

use super::Shared;
use super::headers::ClientHeaders;
use crate::fleet::policies::{Target, Wanted};
use crate::wire::problem::Problem;

/// What the headers of one request say.
#[derive(Debug, Default)]
pub struct Routing {
    /// `X-SMG-Routing-Key`.
    pub key: Option<String>,
    /// Hash of who asks.
    pub client_hash: Option<u64>,
    /// The policy and the worker asked for.
    pub wanted: Wanted,
    /// The client named the policy.
    pub names_policy: bool,
}

impl Routing {
    /// Reads it.
    pub fn read(shared: &Shared, known: &ClientHeaders<'_>) -> Result<Self, Problem> {
        let mut routing = Self { key: known.routing_key.and_then(text), ..Self::default() };
        if shared.config.allow_policy_header
            && let Some(name) = known.policy.and_then(text)
        {
            routing.names_policy = true;
            let policy = shared.fleet.policy_named(&name, &shared.config.policy_config);
            routing.wanted.policy = policy.map_err(|error| {
                Problem::new(400, "unknown_policy", format!("x-milepost-policy: {error}"))
            })?;
        }
        let needs = shared.fleet.needs();
        if needs.target {
            routing.wanted.target = known.target_worker.and_then(text).map(|target| Target::parse(&target));
        }
        if needs.client_hash {
            let client = known.client.iter().flatten().find(|value| !value.is_empty());
            routing.client_hash = client.map(|value| name_hash(value));
        }
        Ok(routing)
    }
}

/// A header's text, if there is any; how long it is, the limit on heads bounds.
fn text(value: &[u8]) -> Option<String> {
    (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned())
}
