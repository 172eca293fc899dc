//! The faithful mode: the worker that was sent most of this prompt before, unless the fleet is imbalanced.
//!
//! A baseline for comparisons: for the same inputs it takes the branch sglang-router 0.3.2 takes, and makes its choice
//! but for ties. In order:
//!
//! 1. `imbalanced`: `max - min > balance_abs_threshold` and `max > min * balance_rel_threshold` over the requests in flight,
//!    both strict: the least loaded worker, prefix ignored.
//! 2. `prefix_hit`: the deepest match is strictly more than `cache_threshold` of the prompt: a worker that holds it.
//! 3. `prefix_miss` (or `no_text`): the least loaded worker.
//!
//! Where it differs, on purpose: a tie goes to the lower load, then to the least recently chosen, then to the lowest id.
//! sglang-router takes the first in the list, so that a cold fleet's sequential requests all go to one worker, and of several
//! holders the one that created the node. It also measures in characters (here bytes, in whole blocks), and when the holder it
//! finds is not eligible it forgets that worker and takes the first in the list; here only eligible workers are seen, so the
//! request goes to the deepest match among them, or is a miss.
//! `tests/faithful.rs` holds it to a port of sglang-router's in 10,000 random cases. Deliberately not here: any improvement; that
//! is the other mode.

use super::{SPEC, matched_bytes};
use crate::decision::Decision;
use crate::policy::{Needs, Policy};
use crate::registry::PolicyConfig;
use crate::shortest_queue::choose_least_loaded;
use crate::view::{RequestView, Time, Workers};

/// See the module.
#[derive(Debug)]
pub struct Faithful {
    /// `cache_threshold`.
    hit_rate: f64,
    /// `balance_abs_threshold`.
    gap: u64,
    /// `balance_rel_threshold`.
    ratio: f64,
}

impl Faithful {
    /// The policy with the thresholds of `config`.
    pub fn new(config: &PolicyConfig) -> Self {
        Self {
            hit_rate: config.cache_threshold,
            gap: config.balance_abs_threshold,
            ratio: config.balance_rel_threshold,
        }
    }

    fn imbalanced(&self, workers: &Workers<'_>) -> bool {
        let most = workers.iter().map(|w| w.in_flight_requests).max().unwrap_or(0);
        let fewest = workers.iter().map(|w| w.in_flight_requests).min().unwrap_or(0);
        u64::from(most - fewest) > self.gap && f64::from(most) > f64::from(fewest) * self.ratio
    }
}

impl Policy for Faithful {
    fn name(&self) -> &'static str {
        SPEC.name
    }

    fn needs(&self) -> Needs {
        Needs { prefix_match: true, ..Needs::default() }
    }

    /// Scores are the part of the prompt that matches in a `prefix_hit`, and the load, negated, in every other branch.
    fn choose(&mut self, _now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        if self.imbalanced(workers) {
            return choose_least_loaded(workers, out, "imbalanced");
        }
        if request.prompt_bytes == 0 {
            return choose_least_loaded(workers, out, "no_text");
        }
        let prompt_bytes = request.prompt_bytes as f64;
        let deepest = workers.iter().map(matched_bytes).max().unwrap_or(0);
        if deepest as f64 / prompt_bytes > self.hit_rate
            && let Some(index) = workers.least_loaded(|worker| matched_bytes(worker) == deepest)
        {
            for (index, worker) in workers.iter().enumerate() {
                if let Some(matched) = worker.prefix_match_bytes {
                    out.score(index, matched as f64 / prompt_bytes);
                }
            }
            return out.choose(index, "prefix_hit");
        }
        choose_least_loaded(workers, out, "prefix_miss");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask_for};

    fn policy(cache_threshold: f64, balance_abs_threshold: u64, balance_rel_threshold: f64) -> Faithful {
        let config = PolicyConfig {
            cache_threshold,
            balance_abs_threshold,
            balance_rel_threshold,
            ..PolicyConfig::default()
        };
        Faithful::new(&config)
    }

    fn ask(
        policy: &mut Faithful,
        prompt_bytes: u64,
        fleet: &Fleet,
    ) -> (usize, &'static str, Vec<Option<f64>>) {
        let request = RequestView { seq: 100, prompt_bytes, ..RequestView::default() };
        let decision: Decision = ask_for(policy, &request, &fleet.workers);
        (decision.chosen().expect("chose"), decision.reason(), decision.scores().to_vec())
    }

    #[test]
    fn a_hit_goes_to_the_deepest_match_even_if_it_is_busier() {
        let mut fleet = Fleet::of(3);
        fleet.in_flight([0, 9, 1]);
        fleet.prefix_matches([0, 800, 640]);
        let (chosen, reason, scores) = ask(&mut policy(0.3, 64, 1.5), 1000, &fleet);
        assert_eq!((chosen, reason), (1, "prefix_hit"));
        assert_eq!(scores, [Some(0.0), Some(0.8), Some(0.64)]);
    }

    #[test]
    fn the_match_rate_must_be_strictly_more_than_the_threshold() {
        let mut fleet = Fleet::of(2);
        fleet.in_flight([0, 1]);
        fleet.prefix_matches([0, 300]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 1000, &fleet).1, "prefix_miss");
        fleet.prefix_matches([0, 301]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 1000, &fleet).1, "prefix_hit");
        fleet.prefix_matches([0, 1000]);
        assert_eq!(ask(&mut policy(1.0, 64, 1.5), 1000, &fleet).1, "prefix_miss");
        fleet.prefix_matches([0, 0]);
        assert_eq!(ask(&mut policy(0.0, 64, 1.5), 1000, &fleet).1, "prefix_miss");
        fleet.prefix_matches([0, 1]);
        assert_eq!(ask(&mut policy(0.0, 64, 1.5), 1000, &fleet).1, "prefix_hit");
    }

    #[test]
    fn a_miss_goes_to_the_least_loaded() {
        let mut fleet = Fleet::of(3);
        fleet.in_flight([2, 1, 3]);
        fleet.prefix_matches([100, 0, 0]);
        let (chosen, reason, scores) = ask(&mut policy(0.3, 64, 1.5), 1000, &fleet);
        assert_eq!((chosen, reason), (1, "prefix_miss"));
        assert_eq!(scores, [Some(-2.0), Some(-1.0), Some(-3.0)]);
    }

    #[test]
    fn the_absolute_gap_must_be_strictly_more_than_its_threshold() {
        let mut fleet = Fleet::of(2);
        fleet.prefix_matches([1000, 0]);
        fleet.in_flight([64, 0]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 1000, &fleet).1, "prefix_hit");
        fleet.in_flight([65, 0]);
        let (chosen, reason, scores) = ask(&mut policy(0.3, 64, 1.5), 1000, &fleet);
        assert_eq!((chosen, reason), (1, "imbalanced"));
        assert_eq!(scores, [Some(-65.0), Some(0.0)]);
    }

    #[test]
    fn the_relative_gap_must_be_strictly_more_as_well() {
        let mut fleet = Fleet::of(2);
        fleet.prefix_matches([1000, 0]);
        fleet.in_flight([300, 200]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 1000, &fleet).1, "prefix_hit");
        fleet.in_flight([301, 200]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 1000, &fleet).1, "imbalanced");
        // Far apart in ratio, not in number.
        fleet.in_flight([10, 1]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 1000, &fleet).1, "prefix_hit");
    }

    #[test]
    fn imbalance_comes_before_everything_also_without_text() {
        let mut fleet = Fleet::of(2);
        fleet.in_flight([65, 0]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 0, &fleet).1, "imbalanced");
        fleet.in_flight([5, 0]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 0, &fleet).0, 1);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 0, &fleet).1, "no_text");
    }

    #[test]
    fn several_holders_share_by_load_then_by_turn() {
        let mut fleet = Fleet::of(4);
        fleet.prefix_matches([0, 900, 900, 900]);
        fleet.in_flight([0, 2, 1, 1]);
        fleet.last_chosen([1, 2, 8, 7]);
        assert_eq!(ask(&mut policy(0.3, 64, 1.5), 1000, &fleet).0, 3);
    }

    #[test]
    fn text_without_any_known_match_is_a_miss() {
        let (_, reason, scores) = ask(&mut policy(0.3, 64, 1.5), 10, &Fleet::of(2));
        assert_eq!((reason, scores), ("prefix_miss", vec![Some(0.0), Some(0.0)]));
    }

    /// sglang-router sends 12 of 12 sequential, distinct prompts to one worker of two.
    #[test]
    fn a_cold_herd_of_sequential_prompts_takes_turns() {
        let mut fleet = Fleet::of(2);
        fleet.prefix_matches([0, 0]);
        let mut cache_aware = policy(0.3, 64, 1.5);
        let mut counts = [0; 2];
        for _ in 0..12 {
            let index = fleet.route_text(&mut cache_aware, 500);
            counts[index] += 1;
            fleet.workers[index].in_flight_requests -= 1;
        }
        assert_eq!(counts, [6, 6]);
    }

    #[test]
    fn a_hot_prefix_stays_until_the_fleet_is_imbalanced() {
        let mut fleet = Fleet::of(2);
        fleet.prefix_matches([1000, 0]);
        let mut cache_aware = policy(0.3, 64, 1.5);
        for _ in 0..65 {
            assert_eq!(fleet.route_text(&mut cache_aware, 1000), 0);
        }
        assert_eq!(fleet.route_text(&mut cache_aware, 1000), 1);
    }

    #[test]
    fn asks_for_the_match_and_nothing_else() {
        let needs = policy(0.3, 64, 1.5).needs();
        assert_eq!(needs, Needs { prefix_match: true, ..Needs::default() });
    }
}
