//! `round_robin`: the next worker in turn, whatever its load.
//!
//! As in sglang-router: one counter, taken modulo the *eligible* list, so the turn shifts when a worker drops out, and a retry
//! moves on. Other than there, the list has a stable order. Deliberately not here: weights.

use crate::decision::Decision;
use crate::policy::Policy;
use crate::registry::PolicySpec;
use crate::view::{RequestView, Time, Workers};

/// See the module.
#[derive(Debug, Default)]
pub struct RoundRobin {
    chosen: usize,
}

impl RoundRobin {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "round_robin",
        about: "the next worker in turn, whatever its load",
        build: |_| Box::new(Self::default()),
    };
}

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    fn choose(&mut self, _now: Time, _request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        out.choose(self.chosen % workers.len(), "turn");
        self.chosen = self.chosen.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask};

    #[test]
    fn takes_turns_in_the_order_of_the_list() {
        let mut policy = RoundRobin::default();
        let fleet = Fleet::of(3);
        let chosen: Vec<_> = (1..=7).map(|seq| ask(&mut policy, seq, &fleet.workers).chosen()).collect();
        assert_eq!(chosen, [0, 1, 2, 0, 1, 2, 0].map(Some));
    }

    #[test]
    fn the_turn_is_an_index_into_those_eligible() {
        let mut policy = RoundRobin::default();
        let fleet = Fleet::of(3);
        assert_eq!(ask(&mut policy, 1, &fleet.workers).chosen(), Some(0));
        assert_eq!(ask(&mut policy, 2, &fleet.workers[1..]).chosen(), Some(1));
        assert_eq!(ask(&mut policy, 3, &fleet.workers).chosen(), Some(2));
    }

    #[test]
    fn does_not_score() {
        let decision = ask(&mut RoundRobin::default(), 1, &Fleet::of(2).workers);
        assert_eq!((decision.reason(), decision.scores()), ("turn", &[None, None][..]));
    }
}
