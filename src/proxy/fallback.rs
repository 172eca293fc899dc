//! A policy that could not decide, and was stood in for.
//!
//! Rule: each time is counted, with its cause, and its author is told in the log once in a while. Deliberately not here: the
//! choice itself; the request's record has the reason.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::admin::metrics::Metrics;
use crate::fleet::dispatch::Chosen;
use crate::log::Rarely;

/// Pause between two lines.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub struct Fallbacks(Mutex<Rarely>);

impl Default for Fallbacks {
    fn default() -> Self {
        Self(Mutex::new(Rarely::every(SAID_EVERY)))
    }
}

impl Fallbacks {
    /// Counts and tells it, if this choice is one; most are not.
    pub fn note(&self, chosen: &Chosen, metrics: &Metrics) {
        if let Some(complaint) = &chosen.complaint {
            metrics.policy_fell_back(chosen.policy, chosen.reason);
            let line =
                || format!("policy {} could not decide, the shortest queue did: {complaint}", chosen.policy);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).warn(line);
        }
    }
}
