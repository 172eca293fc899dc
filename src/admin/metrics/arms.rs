//! What is counted of each arm of `--split`.
//!
//! Rule: as many series as there are arms, all made at the start; without an experiment a request pays one look at an absent
//! value. Deliberately not here: names and text (`catalogue`, `page`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::add;
use crate::fleet::meters::Histogram;
use crate::trace::record::{Outcome, RequestRecord};

/// All arms.
#[derive(Debug, Default)]
pub(super) struct Arms(Box<[ArmSeries]>);

/// One arm.
#[derive(Debug)]
pub(super) struct ArmSeries {
    pub(super) name: Arc<str>,
    /// Each outcome at its own number.
    pub(super) ended: [AtomicU64; Outcome::ALL.len()],
    /// Arrival to first token.
    pub(super) ttft: Histogram,
    /// Arrival to end of a good answer.
    pub(super) e2e: Histogram,
}

impl Arms {
    /// Arms with these names.
    pub(super) fn new<'a>(names: impl Iterator<Item = &'a Arc<str>>, bounds_ns: &[u64]) -> Self {
        let arm = |name: &Arc<str>| ArmSeries {
            name: Arc::clone(name),
            ended: Default::default(),
            ttft: Histogram::new(bounds_ns),
            e2e: Histogram::new(bounds_ns),
        };
        Self(names.map(arm).collect())
    }

    /// The arms, in the order in which they were given.
    pub(super) fn all(&self) -> impl Iterator<Item = &ArmSeries> {
        self.0.iter()
    }

    /// A request has ended that is in some arm, or in none.
    pub(super) fn ended(&self, record: &RequestRecord) {
        let Some(name) = &record.split_arm else { return };
        let Some(arm) = self.0.iter().find(|arm| arm.name == *name) else { return };
        add(&arm.ended[record.outcome as usize], 1);
        if let Some(ns) = record.first_token_ns {
            arm.ttft.observe_ns(ns);
        }
        // A list of models is answered in a millisecond and says nothing of a policy.
        if record.outcome == Outcome::Done && record.endpoint.has_prompt() {
            arm.e2e.observe_ns(record.end_ns);
        }
    }
}
