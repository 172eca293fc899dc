//! What a policy says: which worker, why, and what it thought of each.
//!
//! Rule: an index that names no worker is visible as such ([`Decision::chosen`] is `None`), never clamped to another worker.
//! Reused between calls, and words are static, so that deciding allocates nothing; what a policy does not say costs nothing.
//! Deliberately not here: what the router does about a policy that chose nothing, which candidates are written down.

/// Parts of a score that are kept for each candidate.
pub const MAX_PARTS: usize = 4;

/// The answer of one [`crate::Policy::choose`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    chosen: Option<usize>,
    out_of_range: Option<usize>,
    reason: &'static str,
    fallback: Option<&'static str>,
    scores: Vec<Option<f64>>,
    // Empty until the first is given, then one for each candidate. The same of the parts.
    reasons: Vec<&'static str>,
    part_names: &'static [&'static str],
    parts: Vec<[Option<f64>; MAX_PARTS]>,
}

/// How the candidates' scores lie to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// The candidate with the highest score besides the one chosen; `None` if no other has one.
    pub runner_up: Option<usize>,
    /// Score of the one chosen minus that of the runner-up: 0 at a tie, negative where a policy that draws took a lower one.
    /// `None` if either has none.
    pub margin: Option<f64>,
    /// Candidates that have the highest score; 0 if none has a score.
    pub ties: u32,
}

impl Decision {
    /// Forgets the last decision; there are `candidates` workers now. The router calls this before each choice.
    pub fn clear(&mut self, candidates: usize) {
        self.chosen = None;
        self.out_of_range = None;
        self.reason = "";
        self.fallback = None;
        self.scores.clear();
        self.scores.resize(candidates, None);
        self.reasons.clear();
        self.part_names = &[];
        self.parts.clear();
    }

    /// Chooses the worker at `index` of [`crate::Workers`]. `reason` is a short word for the trace, such as `prefix_hit`.
    /// The last call counts.
    pub fn choose(&mut self, index: usize, reason: &'static str) {
        let in_range = index < self.scores.len();
        self.chosen = in_range.then_some(index);
        self.out_of_range = (!in_range).then_some(index);
        self.reason = reason;
    }

    /// Says that the policy could not decide by its own rule, and that a plainer one stands in for this request. `cause` is a
    /// short word for trace and metrics, such as `score_not_a_number`. Not for a branch of the rule itself, which is a reason.
    pub fn fell_back(&mut self, cause: &'static str) {
        self.fallback = Some(cause);
    }

    /// Scores the worker at `index`, higher is better; what it measures may depend on the reason. Only for the trace: the
    /// choice is what [`Decision::choose`] says. A score that is not finite, or of no worker, is not kept.
    pub fn score(&mut self, index: usize, score: f64) {
        if let Some(slot) = self.scores.get_mut(index) {
            *slot = score.is_finite().then_some(score);
        }
    }

    /// The same, and why: a short word for the trace, such as `batch_full`. Worth its place where candidates differ in it.
    pub fn score_with(&mut self, index: usize, score: f64, reason: &'static str) {
        self.score(index, score);
        self.mark(index, reason);
    }

    /// Says something of the worker at `index` without a score, such as why it was not considered: `no_room`.
    pub fn mark(&mut self, index: usize, reason: &'static str) {
        if self.reasons.is_empty() {
            self.reasons.resize(self.scores.len(), "");
        }
        if let Some(slot) = self.reasons.get_mut(index) {
            *slot = reason;
        }
    }

    /// Names what the scores of this decision are made of, unit last, such as `queue_us`; the first [`MAX_PARTS`] count.
    pub fn name_parts(&mut self, names: &'static [&'static str]) {
        self.part_names = &names[..names.len().min(MAX_PARTS)];
    }

    /// What the score of the worker at `index` is made of, in the order of [`Decision::name_parts`]. A part without a name,
    /// of no worker, or not finite is not kept.
    pub fn parts(&mut self, index: usize, values: &[f64]) {
        if self.parts.is_empty() {
            self.parts.resize(self.scores.len(), [None; MAX_PARTS]);
        }
        if let Some(slots) = self.parts.get_mut(index) {
            for (slot, value) in slots.iter_mut().zip(values).take(self.part_names.len()) {
                *slot = value.is_finite().then_some(*value);
            }
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

    /// Why another rule than the policy's own decided; `None` where its own did.
    pub fn fallback(&self) -> Option<&'static str> {
        self.fallback
    }

    /// One score per candidate, in their order; `None` where the policy gave none.
    pub fn scores(&self) -> &[Option<f64>] {
        &self.scores
    }

    /// Why the candidate at `index` has its score, or none; empty where the policy did not say.
    pub fn score_reason(&self, index: usize) -> &'static str {
        self.reasons.get(index).copied().unwrap_or_default()
    }

    /// What the scores are made of; empty where the policy did not say.
    pub fn part_names(&self) -> &'static [&'static str] {
        self.part_names
    }

    /// Those of the candidate at `index`, as many as there are names; empty where the policy gave none for any candidate.
    pub fn score_parts(&self, index: usize) -> &[Option<f64>] {
        self.parts.get(index).map_or(&[], |parts| &parts[..self.part_names.len()])
    }

    /// How the scores lie to each other; one pass over them.
    pub fn standing(&self) -> Standing {
        let mut ties = 0;
        let mut best = f64::NEG_INFINITY;
        let mut runner_up: Option<(usize, f64)> = None;
        for (index, score) in self.scores.iter().enumerate().filter_map(|(i, s)| Some((i, (*s)?))) {
            // Scores are finite, so one of the three holds.
            if score > best {
                (best, ties) = (score, 1);
            } else if score >= best {
                ties += 1;
            }
            if Some(index) != self.chosen && runner_up.is_none_or(|(_, second)| score > second) {
                runner_up = Some((index, score));
            }
        }
        let own = self.chosen.and_then(|index| self.scores[index]);
        let margin = own.zip(runner_up).map(|(own, (_, second))| own - second);
        Standing { runner_up: runner_up.map(|(index, _)| index), margin, ties }
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
        decision.score_with(2, 1.0, "why");
        decision.name_parts(&["queue_us"]);
        decision.parts(1, &[2.0]);
        decision.choose(2, "x");
        decision.fell_back("cause");
        decision.clear(3);
        let mut fresh = Decision::default();
        fresh.clear(3);
        assert_eq!(decision, fresh);
        // Names of the next decision do not bring back parts of the last.
        decision.name_parts(&["queue_us"]);
        assert!(decision.score_parts(1).is_empty() && decision.score_reason(2).is_empty());
    }

    #[test]
    fn only_finite_scores_of_existing_workers_are_kept() {
        let mut decision = Decision::default();
        decision.clear(2);
        decision.score(0, f64::NAN);
        decision.score_with(1, -3.5, "busy");
        decision.score_with(9, 1.0, "nobody");
        assert_eq!(decision.scores(), [None, Some(-3.5)]);
        assert_eq!([0, 1, 9].map(|index| decision.score_reason(index)), ["", "busy", ""]);
    }

    #[test]
    fn parts_are_kept_by_name_four_at_most() {
        let mut decision = Decision::default();
        decision.clear(2);
        decision.parts(0, &[7.0]);
        assert!(decision.score_parts(0).is_empty(), "what has no name is not kept");
        decision.name_parts(&["a", "b", "c", "d", "e"]);
        decision.parts(1, &[1.0, f64::INFINITY, 3.0]);
        decision.parts(5, &[1.0]);
        assert_eq!(decision.part_names(), ["a", "b", "c", "d"]);
        assert_eq!(decision.score_parts(0), [None; 4]);
        assert_eq!(decision.score_parts(1), [Some(1.0), None, Some(3.0), None]);
        assert!(decision.score_parts(5).is_empty());
    }

    fn standing(scores: &[Option<f64>], chosen: Option<usize>) -> (Option<usize>, Option<f64>, u32) {
        let mut decision = Decision::default();
        decision.clear(scores.len());
        for (index, score) in scores.iter().enumerate() {
            if let Some(score) = score {
                decision.score(index, *score);
            }
        }
        if let Some(chosen) = chosen {
            decision.choose(chosen, "x");
        }
        let Standing { runner_up, margin, ties } = decision.standing();
        (runner_up, margin, ties)
    }

    #[test]
    fn the_margin_is_to_the_best_of_the_others() {
        let scores = [Some(-4.0), Some(-1.0), None, Some(-2.5)];
        assert_eq!(standing(&scores, Some(1)), (Some(3), Some(1.5), 1));
        assert_eq!(standing(&scores, Some(3)), (Some(1), Some(-1.5), 1), "a draw may take a lower one");
        assert_eq!(standing(&scores, Some(2)), (Some(1), None, 1), "no score of its own");
        assert_eq!(standing(&scores, None), (Some(1), None, 1));
        assert_eq!(standing(&[Some(0.0), Some(0.0), Some(-0.0)], Some(2)), (Some(0), Some(0.0), 3));
        assert_eq!(standing(&[Some(2.0)], Some(0)), (None, None, 1), "alone");
        assert_eq!(standing(&[None, None], Some(0)), (None, None, 0));
    }
}
