//! What must hold for every policy in the registry, whatever the fleet looks like.

use milepost_policies::chooser::{Chooser, Eligible, Joining, PolicyId};
use milepost_policies::{
    AssignmentMode, CacheAwareMode, Decision, Event, POLICIES, Policy, PolicyConfig, PrefixIndex,
    PromptHashes, RequestView, Time, Weights, WorkerId, WorkerView, Workers, build, name_hash,
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
            server_load_age_us: prefix_match_bytes,
            max_running_requests: load,
            priority: in_flight_requests,
            prefix_match_tokens: prefix_match_bytes,
            prefill_wait_us: b,
            prefilling_requests: load,
            decoding_requests: load,
            prefill_rate_tokens_per_s: b,
            decode_rate_tokens_per_s: a,
            answered_tokens_per_s: b,
            outstanding_prefill_tokens: prefix_match_bytes,
            outstanding_decode_tokens: prefix_match_bytes,
        },
    )
}

fn fleet() -> impl Strategy<Value = Vec<WorkerView>> {
    (1u32..40).prop_flat_map(|size| (0..size).map(worker).collect::<Vec<_>>())
}

fn config() -> impl Strategy<Value = PolicyConfig> {
    let thresholds = (any::<f64>(), any::<u64>(), any::<f64>());
    let modes = [AssignmentMode::Random, AssignmentMode::MinLoad, AssignmentMode::MinGroup];
    let cache_aware = [CacheAwareMode::Faithful, CacheAwareMode::Improved];
    let keys =
        (prop::sample::select(modes.to_vec()), any::<u64>(), prop::sample::select(cache_aware.to_vec()));
    let lengths = (any::<u32>(), any::<f64>(), prop_oneof![0..3u64, any::<u64>()]);
    (any::<u64>(), thresholds, keys, lengths).prop_map(|(seed, thresholds, keys, lengths)| PolicyConfig {
        seed,
        cache_threshold: thresholds.0,
        balance_abs_threshold: thresholds.1,
        balance_rel_threshold: thresholds.2,
        cache_aware_mode: keys.2,
        assignment_mode: keys.0,
        max_idle_s: keys.1,
        prefix_tokens: lengths.0,
        prefix_load_factor: lengths.1,
        consistent_load_factor: lengths.1,
        bucket_adjust_interval_s: lengths.2,
        weights: Weights::default(),
    })
}

/// What a request may bring beside its number.
#[derive(Clone, Debug)]
struct Asked {
    text: Option<String>,
    prompt_bytes: u64,
    routing_key: Option<String>,
    client_hash: Option<u64>,
    now_us: u64,
}

fn asked() -> impl Strategy<Value = Asked> {
    let text = proptest::option::of("[a-c ]{0,300}");
    let key = proptest::option::of("[a-d]");
    (text, any::<u64>(), key, proptest::option::of(any::<u64>()), any::<u64>()).prop_map(
        |(text, prompt_bytes, routing_key, client_hash, now_us)| Asked {
            prompt_bytes: text.as_ref().map_or(prompt_bytes, |text| text.len() as u64),
            text,
            routing_key,
            client_hash,
            now_us,
        },
    )
}

proptest! {
    #[test]
    fn chooses_a_worker_with_a_reason_and_the_best_score(
        config in config(),
        fleets in prop::collection::vec((fleet(), asked()), 1..6),
    ) {
        for spec in POLICIES {
            let mut policy = (spec.build)(&config);
            let mut decision = Decision::default();
            for (seq, (fleet, asked)) in (1..).zip(&fleets) {
                let workers = Workers::new(fleet).expect("not empty");
                let prompt = asked.text.as_ref().map(|text| PromptHashes::of(text.as_bytes()));
                let request = RequestView {
                    seq,
                    prompt: prompt.as_ref(),
                    prompt_bytes: asked.prompt_bytes,
                    routing_key: asked.routing_key.as_deref(),
                    client_hash: asked.client_hash,
                    ..RequestView::default()
                };
                decision.clear(workers.len());
                policy.choose(Time { us: asked.now_us }, &request, &workers, &mut decision);
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

fn idle(id: u32) -> WorkerView {
    let url_hash = name_hash(format!("http://10.0.0.{id}:8000").as_bytes());
    WorkerView { id: WorkerId(id), position: id, url_hash, ..WorkerView::default() }
}

/// A small router: 5 workers, requests of a few families that end in another order than they came.
fn drive(policy: &mut dyn Policy, requests: u64) -> Vec<Decision> {
    let mut index = PrefixIndex::new(1 << 20);
    let mut fleet: Vec<_> = (0..5).map(idle).collect();
    let mut matched = [0; 5];
    let mut running = Vec::new();
    let mut decision = Decision::default();
    let mut log = Vec::new();
    for seq in 1..=requests {
        let mut text = format!("system prompt {}", seq % 7).repeat(20);
        text.push_str(&"turn ".repeat(seq as usize % 30));
        let prompt = PromptHashes::of(text.as_bytes());
        index.match_into(&prompt, &mut matched);
        for (worker, bytes) in fleet.iter_mut().zip(matched) {
            worker.prefix_match_bytes = Some(bytes);
        }
        let key = format!("conversation {}", seq % 40);
        let request = RequestView {
            seq,
            prompt: Some(&prompt),
            prompt_bytes: prompt.len_bytes(),
            routing_key: Some(&key).filter(|_| seq % 5 > 0).map(String::as_str),
            client_hash: Some(seq % 3),
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

/// The URL hash of each key's worker, asked of `policy` with the key as routing key and as prompt.
fn owners(policy: &mut dyn Policy, workers: &[WorkerView], keys: &[String]) -> Vec<u64> {
    let shown = Workers::new(workers).expect("not empty");
    let mut decision = Decision::default();
    let owner = |key: &String| {
        let prompt = PromptHashes::of(key.as_bytes());
        let request = RequestView {
            prompt: Some(&prompt),
            prompt_bytes: prompt.len_bytes(),
            routing_key: Some(key),
            ..RequestView::default()
        };
        decision.clear(shown.len());
        policy.choose(Time::default(), &request, &shown, &mut decision);
        workers[decision.chosen().expect("chose")].url_hash
    };
    keys.iter().map(owner).collect()
}

proptest! {
    /// Whatever keys and workers: who is away gives up its own keys and nobody else's, and has the same ones when it is back,
    /// with the same policy or a new one, in whatever slots and order.
    #[test]
    fn a_change_of_one_worker_moves_only_its_own_keys(
        url_hashes in prop::collection::btree_set(any::<u64>(), 2..12),
        gone in any::<prop::sample::Index>(),
        keys in prop::collection::vec("[a-z]{1,12}", 1..60),
    ) {
        let mut fleet: Vec<_> = (0..).zip(url_hashes).map(|(id, url_hash)| WorkerView { url_hash, ..idle(id) }).collect();
        let gone = gone.index(fleet.len());
        for name in ["consistent_hashing", "prefix_hash"] {
            let mut policy = milepost_policies::build(name, &PolicyConfig::default()).expect("built in");
            let all = owners(&mut *policy, &fleet, &keys);
            let mut rest = fleet.clone();
            let left = rest.remove(gone);
            let without = owners(&mut *policy, &rest, &keys);
            for (before, after) in all.iter().zip(&without) {
                prop_assert!(before == after || *before == left.url_hash, "{name}");
            }
            policy.observe(Time::default(), &Event::Left { worker: left.id });
            prop_assert_eq!(&owners(&mut *policy, &rest, &keys), &without);
            fleet.reverse();
            let mut restarted = milepost_policies::build(name, &PolicyConfig::default()).expect("built in");
            for (id, worker) in (100..).zip(&mut fleet) {
                worker.id = WorkerId(id);
            }
            prop_assert_eq!(owners(&mut *restarted, &fleet, &keys), all);
        }
    }
}

#[test]
fn keys_and_prefixes_spread_over_the_ring() {
    let fleet: Vec<_> = (0..8).map(idle).collect();
    let keys: Vec<_> = (0..1_000).map(|n| format!("key {n}")).collect();
    for name in ["consistent_hashing", "prefix_hash"] {
        let mut policy = milepost_policies::build(name, &PolicyConfig::default()).expect("built in");
        let owners = owners(&mut *policy, &fleet, &keys);
        for worker in &fleet {
            let share = owners.iter().filter(|&&url_hash| url_hash == worker.url_hash).count();
            assert!((60..=220).contains(&share), "{name}: {share} of 1,000, an even share is 125");
        }
    }
}

/// One policy decides, another one, which matches prefixes and estimates, sees the same workers.
#[test]
fn what_is_cached_is_not_to_be_computed_whoever_chose() {
    let built = |name| build(name, &PolicyConfig::default()).expect("built in");
    let mut chooser = Chooser::new(built("shortest_queue"), PrefixIndex::new(1 << 20));
    chooser.add_policy(Time::default(), built("lowest_ttft"));
    chooser.join(Time::default(), Joining { id: WorkerId(0), url_hash: 0, priority: 50 });
    let prompt = PromptHashes::of(&[b'x'; 4_000]);
    for seq in 1..=3 {
        let request =
            RequestView { seq, prompt: Some(&prompt), prompt_bytes: 4_000, ..RequestView::default() };
        let eligible = [Eligible { position: 0, in_flight_requests: seq as u32 - 1 }];
        chooser.choose(Time { us: seq }, PolicyId::default(), &request, &eligible);
    }
    // All of the first, and the last token of the second.
    assert_eq!(chooser.views()[0].outstanding_prefill_tokens, Some(1_001));
}
