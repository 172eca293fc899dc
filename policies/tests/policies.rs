//! What must hold for every policy in the registry, whatever the fleet looks like.

use milepost_policies::{
    Decision, Event, POLICIES, Policy, PolicyConfig, PrefixIndex, PromptHashes, RequestView, Time, WorkerId,
    WorkerView, Workers,
};
use proptest::prelude::*;

fn worker(id: u32) -> impl Strategy<Value = WorkerView> {
    let counts =
        (any::<u32>(), any::<u64>(), proptest::option::of(any::<u64>()), proptest::option::of(any::<u32>()));
    let rates = (proptest::option::of(any::<f64>()), proptest::option::of(any::<f64>()));
    (counts, rates).prop_map(
        move |((in_flight_requests, last_chosen_seq, prefix_match_bytes, load), (a, b))| WorkerView {
            id: WorkerId(id),
            position: id,
            url_hash: u64::from(id),
            in_flight_requests,
            last_chosen_seq,
            prefix_match_bytes,
            queue_depth: load,
            running: load,
            kv_usage: a,
            throughput_tokens_per_s: b,
            latency_ewma_us: a,
            ttft_ewma_us: b,
            cache_hit_rate: a,
            in_flight_prompt_tokens: prefix_match_bytes,
            in_flight_decode_tokens: prefix_match_bytes,
        },
    )
}

fn fleet() -> impl Strategy<Value = Vec<WorkerView>> {
    (1u32..40).prop_flat_map(|size| (0..size).map(worker).collect::<Vec<_>>())
}

fn config() -> impl Strategy<Value = PolicyConfig> {
    (any::<u64>(), any::<f64>(), any::<u64>(), any::<f64>()).prop_map(
        |(seed, cache_threshold, balance_abs_threshold, balance_rel_threshold)| PolicyConfig {
            seed,
            cache_threshold,
            balance_abs_threshold,
            balance_rel_threshold,
            ..PolicyConfig::default()
        },
    )
}

proptest! {
    #[test]
    fn chooses_a_worker_with_a_reason_and_the_best_score(
        config in config(),
        fleets in prop::collection::vec((fleet(), any::<u64>()), 1..6),
    ) {
        for spec in POLICIES {
            let mut policy = (spec.build)(&config);
            let mut decision = Decision::default();
            for (seq, (fleet, prompt_bytes)) in (1..).zip(&fleets) {
                let workers = Workers::new(fleet).expect("not empty");
                let request = RequestView { seq, prompt_bytes: *prompt_bytes, ..RequestView::default() };
                decision.clear(workers.len());
                policy.choose(Time { us: seq }, &request, &workers, &mut decision);
                let chosen = decision.chosen();
                prop_assert!(chosen.is_some_and(|index| index < fleet.len()), "{}: {decision:?}", spec.name);
                prop_assert!(!decision.reason().is_empty(), "{}", spec.name);
                let best = decision.scores().iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
                let score = chosen.and_then(|index| decision.scores()[index]);
                prop_assert!(score.is_none_or(|score| score >= best), "{}: {decision:?}", spec.name);
            }
        }
    }
}

/// A small router: 5 workers, requests of a few families that end in another order than they came.
fn drive(policy: &mut dyn Policy, requests: u64) -> Vec<Decision> {
    let mut index = PrefixIndex::new(1 << 20);
    let mut fleet: Vec<_> =
        (0..5).map(|id| WorkerView { id: WorkerId(id), ..WorkerView::default() }).collect();
    let mut matched = [0; 5];
    let mut running = Vec::new();
    let mut decision = Decision::default();
    let mut log = Vec::new();
    for seq in 1..=requests {
        let text = format!("system prompt {}", seq % 7).repeat(20) + &"turn ".repeat(seq as usize % 30);
        let prompt = PromptHashes::of(text.as_bytes());
        index.match_into(&prompt, &mut matched);
        for (worker, bytes) in fleet.iter_mut().zip(matched) {
            worker.prefix_match_bytes = Some(bytes);
        }
        let request = RequestView {
            seq,
            prompt: Some(&prompt),
            prompt_bytes: prompt.len_bytes(),
            ..RequestView::default()
        };
        let workers = Workers::new(&fleet).expect("not empty");
        decision.clear(workers.len());
        policy.choose(Time { us: seq * 1000 }, &request, &workers, &mut decision);
        log.push(decision.clone());
        let chosen = decision.chosen().expect("chose");
        let worker = WorkerId(chosen as u32);
        index.insert(&prompt, worker);
        policy.observe(Time { us: seq * 1000 }, &Event::Routed { seq, worker });
        fleet[chosen].in_flight_requests += 1;
        fleet[chosen].last_chosen_seq = seq;
        running.push(worker);
        if seq % 3 == 0 {
            let ended = running.swap_remove(seq as usize % running.len());
            fleet[ended.0 as usize].in_flight_requests -= 1;
        }
    }
    log
}

#[test]
fn the_same_seed_and_calls_give_the_same_decisions() {
    for spec in POLICIES {
        let config = PolicyConfig { seed: 42, ..PolicyConfig::default() };
        assert_eq!(
            drive(&mut *(spec.build)(&config), 500),
            drive(&mut *(spec.build)(&config), 500),
            "{}",
            spec.name
        );
    }
}

#[test]
fn no_policy_leaves_a_worker_idle_or_gives_one_most_of_the_work() {
    for spec in POLICIES {
        let mut counts = [0; 5];
        for decision in drive(&mut *(spec.build)(&PolicyConfig::default()), 500) {
            counts[decision.chosen().expect("chose")] += 1;
        }
        assert!(counts.iter().all(|count| (25..=250).contains(count)), "{}: {counts:?}", spec.name);
    }
}

#[test]
fn cache_aware_takes_every_branch_of_a_real_run() {
    let config = PolicyConfig { balance_abs_threshold: 8, ..PolicyConfig::default() };
    let log = drive(&mut *milepost_policies::build("cache_aware", &config).expect("built in"), 500);
    for reason in ["prefix_miss", "prefix_hit", "imbalanced"] {
        assert!(log.iter().any(|decision| decision.reason() == reason), "{reason}");
    }
}
