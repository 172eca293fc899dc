//! The improved mode: of the workers that have room, the one that was sent most of this prompt before.
//!
//! One rule in place of sglang-router's two states. A worker has **room** if with this request it would have no more than the
//! larger of `balance_rel_threshold` times its share of all requests in flight and its share plus a few (`balance_abs_threshold`,
//! but no more than [`FEW_REQUESTS`]), and no more than the largest batch that its server says it runs. Then:
//!
//! 1. `prefix_hit`: of those with room, the deepest match, if it is strictly more than `cache_threshold` of the prompt.
//! 2. `prefix_spill`: the same, where somebody without room holds more; or, if nobody with room holds enough, the least loaded
//!    of them, who holds it from now on.
//! 3. `prefix_miss` (or `no_text`): the least loaded with room.
//!
//! Ties go to the lower load, then to the least recently chosen. What each part mends (`tests/mended.rs` shows both modes):
//!
//! - *Thresholds that never act.* A gap of 64 requests is rarely seen at 2 to 8 workers. What is too much follows from the
//!   fleet's own mean; the flag's default of 64 counts as [`FEW_REQUESTS`], less than that as given.
//! - *The cold herd.* Prompts that begin alike and come at once all went where the first one went, up to that gap.
//! - *The hot prefix at one holder.* The worker to which it spills holds it from then on, and both take its requests by load.
//! - *Locality dropped when imbalanced.* One busy worker no longer makes the prompts of all the others miss: only the workers
//!   without room are left out, and another holder comes before the least loaded.
//! - *Affinity lost after an ejection.* Nothing is forgotten of a worker that is not shown, and one that comes back idle gets its
//!   own prompts and its share of new ones, not everything until the gap has closed.
//!
//! Deliberately not here: the work in a request, and times. That is a policy of its own.

use super::matched_bytes;
use crate::decision::Decision;
use crate::load_bound;
use crate::policy::{Needs, Policy};
use crate::registry::PolicyConfig;
use crate::view::{RequestView, Time, WorkerId, WorkerView, Workers};

/// Requests that a worker may have above its share in any case. So few are in one batch and hardly wait for each other, where a
/// prompt that is computed again costs as much as several of them. Of 2, 4, 8 and 16, on simulated engines in virtual time, 8
/// had the balance of the smaller ones and the hits of the larger.
pub const FEW_REQUESTS: u64 = 8;

/// See the module.
#[derive(Debug)]
pub struct Improved {
    /// The one it was asked for by.
    name: &'static str,
    /// `cache_threshold`.
    hit_rate: f64,
    /// Above its share.
    few: f64,
    /// Of its share.
    ratio: f64,
    // Reused: a view is several cache lines, and the rule goes over the fleet five times.
    seen: Vec<Seen>,
}

/// What the rule is about in a worker.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Requests in flight, the choice that last took it, and its id: the least is next.
    turn: (u32, u64, WorkerId),
    matched_bytes: u64,
    has_room: bool,
}

impl Improved {
    /// The policy under one of its two names, with the thresholds of `config`.
    pub fn new(name: &'static str, config: &PolicyConfig) -> Self {
        Self {
            name,
            hit_rate: config.cache_threshold,
            few: config.balance_abs_threshold.min(FEW_REQUESTS) as f64,
            // Below 1 there may be nobody who has room.
            ratio: config.balance_rel_threshold.max(1.0),
            seen: Vec::new(),
        }
    }

    /// Notes what the rule is about, who has room among it. If nobody has, all have: then all wait.
    fn look(&mut self, workers: &Workers<'_>) {
        let share = load_bound::share(workers);
        let bound = load_bound::of(share, self.ratio).max(share + self.few);
        let seen = |worker: &WorkerView| Seen {
            turn: (worker.in_flight_requests, worker.last_chosen_seq, worker.id),
            matched_bytes: matched_bytes(worker),
            has_room: load_bound::admits(bound, worker.in_flight_requests) && !is_full(worker),
        };
        self.seen.clear();
        self.seen.extend(workers.iter().map(seen));
        if !self.seen.iter().any(|worker| worker.has_room) {
            self.seen.iter_mut().for_each(|worker| worker.has_room = true);
        }
    }
}

impl Policy for Improved {
    fn name(&self) -> &'static str {
        self.name
    }

    fn needs(&self) -> Needs {
        Needs { prefix_match: true, engine_text: true, server_loads: true, ..Needs::default() }
    }

    /// Scores those with room: by the part of the prompt that matches where a match decides, else by the load, negated. The
    /// others have a reason in place of a score.
    fn choose(&mut self, _now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        self.look(workers);
        let prompt_bytes = request.prompt_bytes as f64;
        let is_hit = |matched: u64| matched as f64 / prompt_bytes > self.hit_rate;
        let deepest = self.seen.iter().map(|worker| worker.matched_bytes).max().unwrap_or(0);
        let with_room = self.seen.iter().enumerate().filter(|(_, worker)| worker.has_room);
        let reachable = with_room.clone().map(|(_, worker)| worker.matched_bytes).max().unwrap_or(0);
        let reason = match (request.prompt_bytes, is_hit(deepest), reachable == deepest) {
            (0, _, _) => "no_text",
            (_, false, _) => "prefix_miss",
            (_, true, true) => "prefix_hit",
            (_, true, false) => "prefix_spill",
        };
        let by_match = request.prompt_bytes > 0 && is_hit(reachable);
        for (index, worker) in self.seen.iter().enumerate() {
            let matched = worker.matched_bytes as f64 / prompt_bytes;
            match (worker.has_room, by_match) {
                (false, _) => out.mark(index, "no_room"),
                (true, true) => out.score(index, matched),
                (true, false) => out.score(index, -f64::from(worker.turn.0)),
            }
        }
        let holders = with_room.filter(|(_, worker)| !by_match || worker.matched_bytes == reachable);
        if let Some((index, _)) = holders.min_by_key(|(_, worker)| worker.turn) {
            out.choose(index, reason);
        }
    }
}

/// The server's batch has no place for one more.
fn is_full(worker: &WorkerView) -> bool {
    worker.max_running_requests.is_some_and(|most| worker.in_flight_requests >= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask_for};

    fn ask(config: &PolicyConfig, prompt_bytes: u64, fleet: &Fleet) -> (usize, &'static str) {
        let request = RequestView { seq: 100, prompt_bytes, ..RequestView::default() };
        let decision = ask_for(&mut Improved::new("improved", config), &request, &fleet.workers);
        (decision.chosen().expect("chose"), decision.reason())
    }

    fn ask_default(prompt_bytes: u64, fleet: &Fleet) -> (usize, &'static str) {
        ask(&PolicyConfig::default(), prompt_bytes, fleet)
    }

    #[test]
    fn the_deepest_match_has_the_prompt_while_it_has_room() {
        let mut fleet = Fleet::of(3);
        fleet.prefix_matches([0, 800, 640]);
        // Its share is 4, and 8 more are allowed.
        fleet.in_flight([0, 11, 0]);
        assert_eq!(ask_default(1000, &fleet), (1, "prefix_hit"));
        fleet.in_flight([0, 12, 0]);
        assert_eq!(ask_default(1000, &fleet), (2, "prefix_spill"));
        // The share is 21 and half as much again 32.
        fleet.in_flight([16, 31, 15]);
        assert_eq!(ask_default(1000, &fleet), (1, "prefix_hit"));
        fleet.in_flight([15, 32, 15]);
        assert_eq!(ask_default(1000, &fleet), (2, "prefix_spill"));
    }

    #[test]
    fn a_spill_without_another_holder_goes_to_the_least_loaded() {
        let mut fleet = Fleet::of(3);
        fleet.prefix_matches([100, 800, 200]);
        fleet.in_flight([2, 30, 3]);
        assert_eq!(ask_default(1000, &fleet), (0, "prefix_spill"));
    }

    #[test]
    fn a_match_that_is_not_enough_is_a_miss_and_no_text_is_no_match() {
        let mut fleet = Fleet::of(2);
        fleet.in_flight([1, 0]);
        fleet.prefix_matches([300, 0]);
        assert_eq!(ask_default(1000, &fleet), (1, "prefix_miss"));
        fleet.prefix_matches([301, 0]);
        assert_eq!(ask_default(1000, &fleet), (0, "prefix_hit"));
        assert_eq!(ask_default(0, &fleet), (1, "no_text"));
    }

    #[test]
    fn several_holders_share_by_load_then_by_turn() {
        let mut fleet = Fleet::of(4);
        fleet.prefix_matches([0, 900, 900, 900]);
        fleet.in_flight([0, 2, 1, 1]);
        fleet.last_chosen([1, 2, 8, 7]);
        assert_eq!(ask_default(1000, &fleet), (3, "prefix_hit"));
    }

    #[test]
    fn a_lower_threshold_than_a_few_counts_as_given() {
        let mut fleet = Fleet::of(2);
        fleet.prefix_matches([1000, 0]);
        fleet.in_flight([2, 0]);
        let strict =
            PolicyConfig { balance_abs_threshold: 0, balance_rel_threshold: 1.0, ..PolicyConfig::default() };
        assert_eq!(ask(&strict, 1000, &fleet), (1, "prefix_spill"));
        assert_eq!(ask_default(1000, &fleet), (0, "prefix_hit"));
    }

    #[test]
    fn a_server_whose_batch_is_full_has_no_room_while_another_has() {
        let mut fleet = Fleet::of(2);
        fleet.prefix_matches([1000, 0]);
        fleet.in_flight([2, 3]);
        fleet.workers[0].max_running_requests = Some(2);
        assert_eq!(ask_default(1000, &fleet), (1, "prefix_spill"));
        fleet.workers[1].max_running_requests = Some(3);
        assert_eq!(ask_default(1000, &fleet), (0, "prefix_hit"));
    }

    #[test]
    fn whoever_has_no_room_has_a_reason_in_place_of_a_score() {
        let mut fleet = Fleet::of(3);
        fleet.prefix_matches([500, 800, 640]);
        fleet.in_flight([0, 30, 0]);
        let request = RequestView { seq: 1, prompt_bytes: 1000, ..RequestView::default() };
        let decision =
            ask_for(&mut Improved::new("improved", &PolicyConfig::default()), &request, &fleet.workers);
        assert_eq!((decision.chosen(), decision.scores()), (Some(2), &[Some(0.5), None, Some(0.64)][..]));
        assert_eq!([0, 1, 2].map(|index| decision.score_reason(index)), ["", "no_room", ""]);
    }

    #[test]
    fn asks_for_the_match_and_the_largest_batch() {
        let needs = Improved::new("improved", &PolicyConfig::default()).needs();
        assert_eq!(
            needs,
            Needs { prefix_match: true, engine_text: true, server_loads: true, ..Needs::default() }
        );
    }
}
