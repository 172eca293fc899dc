//! What a policy says: which worker, why, and what it thought of each.
//!
//! Rule: an index that names no worker is visible as such ([`Decision::chosen`] is `None`), never clamped to another worker.
//! Reused between calls, so that deciding allocates nothing. Deliberately not here: what the router does about a policy that
//! chose nothing.

/// The answer of one [`crate::Policy::choose`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    chosen: Option<usize>,
    out_of_range: Option<usize>,
    reason: &'static str,
    scores: Vec<Option<f64>>,
}

impl Decision {
    /// Forgets the last decision; there are `candidates` workers now. The router calls this before each choice.
    pub fn clear(&mut self, candidates: usize) {
        self.chosen = None;
        self.out_of_range = None;
        self.reason = "";
        self.scores.clear();
        self.scores.resize(candidates, None);
    }

    /// Chooses the worker at `index` of [`crate::Workers`]. `reason` is a short word for the trace, such as `prefix_hit`.
    /// The last call counts.
    pub fn choose(&mut self, index: usize, reason: &'static str) {
        let in_range = index < self.scores.len();
        self.chosen = in_range.then_some(index);
        self.out_of_range = (!in_range).then_some(index);
        self.reason = reason;
    }

    /// Scores the worker at `index`, higher is better; what it measures may depend on the reason. Only for the trace: the
    /// choice is what [`Decision::choose`] says. A score that is not finite, or of no worker, is not kept.
    pub fn score(&mut self, index: usize, score: f64) {
        if let Some(slot) = self.scores.get_mut(index) {
            *slot = score.is_finite().then_some(score);
        }
    }

    /// Index of the worker chosen; `None` if none was, or one that does not exist.
    pub fn chosen(&self) -> Option<usize> {
        self.chosen
    }

    /// The index chosen when it names no worker: a defect of the policy.
    pub fn out_of_range(&self) -> Option<usize> {
        self.out_of_range
    }

    /// Why; empty if nothing was chosen.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// One score per candidate, in their order; `None` where the policy gave none.
    pub fn scores(&self) -> &[Option<f64>] {
        &self.scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_out_of_range_is_no_choice_and_shows() {
        let mut decision = Decision::default();
        decision.clear(2);
        decision.choose(2, "off_by_one");
        assert_eq!((decision.chosen(), decision.out_of_range()), (None, Some(2)));
        decision.choose(1, "right");
        assert_eq!((decision.chosen(), decision.out_of_range(), decision.reason()), (Some(1), None, "right"));
    }

    #[test]
    fn clearing_leaves_nothing_of_the_last_decision() {
        let mut decision = Decision::default();
        decision.clear(3);
        decision.score(2, 1.0);
        decision.choose(2, "x");
        decision.clear(3);
        let mut fresh = Decision::default();
        fresh.clear(3);
        assert_eq!(decision, fresh);
    }

    #[test]
    fn only_finite_scores_of_existing_workers_are_kept() {
        let mut decision = Decision::default();
        decision.clear(2);
        decision.score(0, f64::NAN);
        decision.score(1, -3.5);
        decision.score(9, 1.0);
        assert_eq!(decision.scores(), [None, Some(-3.5)]);
    }
}
