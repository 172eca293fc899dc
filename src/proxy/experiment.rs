//! Which arm of `--split` a request is in.
//!
//! Rule: a session stays in its arm, as its arm is drawn by its name: the routing key header, else the conversation that the
//! body names, else the request's id, with which each request is a session of its own. Who names a policy is in no arm.
//! Deliberately not here: the drawing (`config::split`); workers and prefix index, which all arms share.

use std::sync::Arc;

use milepost_policies::{PolicyConfig, PolicyId, UnknownPolicy};

use crate::config::split::Split;
use crate::fleet::Fleet;

/// The arms, with their policies at work.
#[derive(Debug)]
pub struct Experiment {
    split: Split,
    /// In the order of the split's.
    arms: Vec<Arm>,
}

#[derive(Debug)]
struct Arm {
    policy: PolicyId,
    name: Arc<str>,
}

/// Where a request belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Who chooses.
    pub policy: PolicyId,
    /// Name of the arm.
    pub arm: Arc<str>,
    /// What it was drawn by, in the words of the record's `split_by`.
    pub by: &'static str,
}

impl Experiment {
    /// Builds the policies that the fleet does not have yet.
    pub fn start(split: &Split, fleet: &Fleet, config: &PolicyConfig) -> Result<Self, UnknownPolicy> {
        let arms = split.arms().iter().map(|arm| {
            let policy = fleet.policy_named(&arm.policy, config)?;
            Ok(Arm { policy, name: arm.policy.as_str().into() })
        });
        Ok(Self { arms: arms.collect::<Result<_, _>>()?, split: split.clone() })
    }

    /// Names of the arms.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.arms.iter().map(|arm| &arm.name)
    }

    /// The arm of a request with these names.
    pub fn assign(
        &self,
        routing_key: Option<&str>,
        conversation: Option<&str>,
        request_id: &str,
    ) -> Assigned {
        let (name, by) = match (routing_key, conversation) {
            (Some(key), _) => (key, "routing_key"),
            (None, Some(name)) => (name, "conversation"),
            (None, None) => (request_id, "request_id"),
        };
        let arm = &self.arms[self.split.arm_of(name.as_bytes())];
        Assigned { policy: arm.policy, arm: Arc::clone(&arm.name), by }
    }
}
