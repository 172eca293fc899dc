//! What policies say of the candidates beside their choice: reasons and parts for whoever reads the trace.

use milepost_policies::{
    CacheAwareMode, Decision, PolicyConfig, PromptHashes, RequestView, Time, WorkerId, WorkerView, Workers,
    build,
};

/// Asks the policy once, with these requests in flight and these matches.
fn ask(policy: &str, config: &PolicyConfig, workers: &[(u32, u64)]) -> Decision {
    let view = |(id, &(in_flight_requests, matched)): (usize, &(u32, u64))| WorkerView {
        id: WorkerId(id as u32),
        position: id as u32,
        url_hash: id as u64 + 1,
        in_flight_requests,
        prefix_match_bytes: Some(matched),
        ..WorkerView::default()
    };
    let views: Vec<WorkerView> = workers.iter().enumerate().map(view).collect();
    let prompt = PromptHashes::of(&[b'x'; 1000]);
    let request = RequestView {
        seq: 1,
        prompt: Some(&prompt),
        prompt_bytes: 1000,
        routing_key: Some("k"),
        ..RequestView::default()
    };
    let mut decision = Decision::default();
    decision.clear(views.len());
    let workers = Workers::new(&views).expect("somebody");
    build(policy, config).expect("listed").choose(Time { us: 1 }, &request, &workers, &mut decision);
    decision
}

#[test]
fn whoever_is_passed_over_for_its_load_is_marked() {
    let bounded = PolicyConfig { consistent_load_factor: 1.25, ..PolicyConfig::default() };
    for (policy, config) in [("prefix_hash", &PolicyConfig::default()), ("consistent_hashing", &bounded)] {
        let owner = ask(policy, config, &[(0, 0); 3]).chosen().expect("chose");
        let mut loads = [(0, 0); 3];
        loads[owner].0 = 9;
        let decision = ask(policy, config, &loads);
        assert_eq!(decision.reason(), "next_on_ring", "{policy}");
        let marked = [0, 1, 2].map(|index| decision.score_reason(index));
        assert!(
            (0..3).all(|i| marked[i] == if i == owner { "over_limit" } else { "" }),
            "{policy}: {marked:?}"
        );
    }
}

#[test]
fn a_holder_without_room_is_marked_and_not_scored() {
    let config = PolicyConfig { cache_aware_mode: CacheAwareMode::Improved, ..PolicyConfig::default() };
    let decision = ask("cache_aware", &config, &[(90, 900), (0, 0), (1, 0)]);
    assert_eq!(
        (decision.reason(), decision.score_reason(0), decision.scores()[0]),
        ("prefix_spill", "no_room", None)
    );
    assert_eq!(decision.score_reason(1), "");
}

#[test]
fn a_latency_that_is_not_known_is_no_part_of_a_cost() {
    let decision = ask("peak_ewma", &PolicyConfig::default(), &[(1, 0), (0, 0)]);
    assert_eq!(decision.part_names(), ["expected_us"]);
    assert_eq!([0, 1].map(|index| decision.score_parts(index)[0]), [None, None]);
    assert!(decision.scores().iter().all(Option::is_some), "it is stood in for");
}
