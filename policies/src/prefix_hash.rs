//! `prefix_hash`: prompts that begin alike go to one worker, by a hash ring, unless that worker is loaded above average.
//!
//! The hash of the prompt's first `prefix_tokens` (four bytes of text each, as there are no tokens here) is a key on the ring;
//! a worker with more than `prefix_load_factor` times the average requests in flight is passed over, clockwise. Without text:
//! the least loaded worker. sglang-router 0.3.2 has this policy for token ids alone, which its HTTP side never has, so that it
//! answers every request with 503; its successor hashes characters, as here bytes.
//! Where it differs, on purpose: the length is rounded down to whole blocks of [`PromptHashes`], one at least, so that the
//! prompt is hashed once for this and for the prefix index. A shorter prompt is its own prefix.
//! Deliberately not here: what was sent where. It costs no memory, and two prompts that differ early never share.

use crate::decision::Decision;
use crate::policy::{Event, Needs, Policy};
use crate::prefix::PromptHashes;
use crate::registry::{PolicyConfig, PolicySpec};
use crate::ring::Ring;
use crate::shortest_queue::choose_least_loaded;
use crate::view::{RequestView, Time, Workers};

/// Text that counts as one token.
const BYTES_PER_TOKEN: u64 = 4;

/// See the module.
#[derive(Debug)]
pub struct PrefixHash {
    ring: Ring,
    prefix_bytes: u64,
    load_factor: f64,
}

impl PrefixHash {
    /// How the registry knows it.
    pub const SPEC: PolicySpec = PolicySpec {
        name: "prefix_hash",
        about: "prompts that begin alike to one worker, by a hash ring, unless it is loaded above average",
        build: |config| Box::new(Self::new(config)),
    };

    /// The policy with the length and load factor of `config`.
    pub fn new(config: &PolicyConfig) -> Self {
        Self {
            ring: Ring::default(),
            prefix_bytes: PromptHashes::whole_blocks_bytes(u64::from(config.prefix_tokens) * BYTES_PER_TOKEN),
            load_factor: config.prefix_load_factor,
        }
    }
}

impl Policy for PrefixHash {
    fn name(&self) -> &'static str {
        Self::SPEC.name
    }

    fn needs(&self) -> Needs {
        Needs { prompt_hash_bytes: self.prefix_bytes, ..Needs::default() }
    }

    /// Scores by load, negated, where the load decides: without text, and if every worker is above the factor.
    fn choose(&mut self, _now: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        let Some(hash) = request.prompt.and_then(|prompt| prompt.prefix_hash(self.prefix_bytes)) else {
            return choose_least_loaded(workers, out, "no_text");
        };
        self.ring.show(workers);
        let in_flight: u64 = workers.iter().map(|worker| u64::from(worker.in_flight_requests)).sum();
        let most = in_flight as f64 / workers.len() as f64 * self.load_factor;
        let takes = |index| {
            let takes = workers.get(index).is_some_and(|w| f64::from(w.in_flight_requests) <= most);
            if !takes {
                out.mark(index, "over_limit");
            }
            takes
        };
        match self.ring.find(hash, takes) {
            Some((index, false)) => out.choose(index, "prefix"),
            Some((index, true)) => out.choose(index, "next_on_ring"),
            // A factor below 1 may leave nobody.
            None => choose_least_loaded(workers, out, "all_loaded"),
        }
    }

    fn observe(&mut self, _now: Time, event: &Event) {
        if let Event::Left { worker } = event {
            self.ring.remove(*worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fleet, ask_for};

    fn policy(prefix_tokens: u32, prefix_load_factor: f64) -> PrefixHash {
        PrefixHash::new(&PolicyConfig { prefix_tokens, prefix_load_factor, ..PolicyConfig::default() })
    }

    fn ask(policy: &mut PrefixHash, text: &str, fleet: &Fleet) -> (usize, &'static str) {
        let prompt = PromptHashes::of(text.as_bytes());
        let request = RequestView { seq: 1, prompt: Some(&prompt), ..RequestView::default() };
        let decision = ask_for(policy, &request, &fleet.workers);
        (decision.chosen().expect("chose"), decision.reason())
    }

    #[test]
    fn prompts_that_share_the_beginning_share_a_worker_and_others_spread() {
        let fleet = Fleet::of(4);
        let mut policy = policy(256, 1.25);
        let mut counts = [0; 4];
        for family in 0..200 {
            let start = format!("family {family} ").repeat(120);
            let (owner, reason) = ask(&mut policy, &format!("{start} and one end"), &fleet);
            assert_eq!(reason, "prefix");
            assert_eq!(ask(&mut policy, &format!("{start} and quite another end"), &fleet).0, owner);
            counts[owner] += 1;
        }
        assert!(counts.iter().all(|count| (20..=90).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_the_beginning_counts_and_a_prompt_hashed_no_further_decides_the_same() {
        let fleet = Fleet::of(16);
        let mut policy = policy(256, 1.25);
        let text = "x".repeat(1024) + "tail";
        let hashed = policy.needs().prompt_hash_bytes as usize;
        assert_eq!(hashed, 1024);
        assert_eq!(ask(&mut policy, &text[..hashed], &fleet), ask(&mut policy, &text, &fleet));
    }

    #[test]
    fn a_worker_above_the_factor_is_passed_over() {
        let mut fleet = Fleet::of(3);
        let mut policy = policy(256, 1.25);
        let (owner, _) = ask(&mut policy, "hello", &fleet);
        fleet.workers.iter_mut().for_each(|w| w.in_flight_requests = 4);
        assert_eq!(ask(&mut policy, "hello", &fleet), (owner, "prefix"));
        // 6 of 14 is 1.29 times the average.
        fleet.workers[owner].in_flight_requests = 6;
        let (next, reason) = ask(&mut policy, "hello", &fleet);
        assert_ne!(next, owner);
        assert_eq!(reason, "next_on_ring");
        // 5 of 13 is 1.15 times the average.
        fleet.workers[owner].in_flight_requests = 5;
        assert_eq!(ask(&mut policy, "hello", &fleet), (owner, "prefix"));
    }

    #[test]
    fn a_factor_that_nobody_meets_gives_the_least_loaded() {
        let mut fleet = Fleet::of(2);
        fleet.in_flight([3, 2]);
        assert_eq!(ask(&mut policy(256, 0.5), "hello", &fleet), (1, "all_loaded"));
    }

    #[test]
    fn no_text_gives_the_least_loaded() {
        let mut fleet = Fleet::of(3);
        fleet.in_flight([2, 1, 2]);
        let decision = ask_for(&mut policy(256, 1.25), &RequestView::default(), &fleet.workers);
        assert_eq!((decision.chosen(), decision.reason()), (Some(1), "no_text"));
        assert_eq!(ask(&mut policy(256, 1.25), "", &fleet), (1, "no_text"));
    }
}
