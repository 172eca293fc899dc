//! A journal that no router wrote is refused where it is wrong, and never brings the process down.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use milepost_policies::POLICIES;

use super::*;
use crate::trace::journal::{ConfigValues, DescribeCall, EventCall, LeaveCall};

fn start() -> JournalCall {
    let start = StartCall { index_bytes: 1 << 20, ..StartCall::default() };
    JournalCall::Start(Box::new(start))
}

fn policy(number: u32, name: &str, config: ConfigValues) -> JournalCall {
    JournalCall::Policy(Box::new(PolicyCall { policy: number, name: name.to_owned(), config }))
}

fn join(slot: u32) -> JournalCall {
    let worker = format!("http://w{slot}").into();
    JournalCall::Join(Box::new(JoinCall { slot, worker, url_hash: u64::from(slot), priority: 50 }))
}

fn choice(eligible: &[u32]) -> JournalCall {
    JournalCall::Choice(Box::new(ChoiceCall { eligible: eligible.to_vec(), ..ChoiceCall::default() }))
}

fn replayed(calls: Vec<JournalCall>) -> Verdict {
    let mut exact = Exact::default();
    for (n, call) in calls.into_iter().enumerate() {
        exact.push(Box::new(JournalRecord { n: n as u64, now_us: n as u64, call }));
    }
    exact.finish();
    exact.verdict()
}

fn hole(calls: Vec<JournalCall>) -> String {
    replayed(calls).hole.expect("it is refused").1
}

#[test]
fn what_no_router_writes_is_told_with_its_member_and_ends_the_replay() {
    let begun = || vec![start(), policy(0, "round_robin", ConfigValues::default()), join(0)];
    let with = |call| {
        let mut calls = begun();
        calls.extend([call, choice(&[0, 0])]);
        hole(calls)
    };
    assert_eq!(hole(vec![join(0)]), "policy: the call that adds the first one is missing");
    assert_eq!(hole(vec![policy(0, "random", ConfigValues::default())]), "start: the first call is missing");
    assert!(hole(vec![start(), policy(0, "nobody", ConfigValues::default())]).starts_with("unknown policy"));
    assert_eq!(with(join(0)), "slot: 0 is another worker's");
    assert_eq!(with(join(u32::MAX)), format!("slot: {} is above {MAX_WORKERS}", u32::MAX));
    assert_eq!(with(JournalCall::Leave(LeaveCall { slot: 7 })), "slot: no worker has slot 7");
    assert_eq!(with(choice(&[1, 0])), "eligible: no worker has place 1");
    assert_eq!(with(policy(9, "random", ConfigValues::default())), "policy: number 9 is not the next one");
    let mode = ConfigValues { assignment_mode: "worst".into(), ..ConfigValues::default() };
    assert_eq!(with(policy(1, "manual", mode)), "assignment_mode: unknown: \"worst\"");
    let verdict = replayed(begun().into_iter().chain([join(0), choice(&[0, 0]), choice(&[0, 0])]).collect());
    assert_eq!((verdict.decisions, verdict.later, verdict.not_tried), (0, 0, 2), "nothing is made after it");
}

#[test]
fn a_policy_that_is_replaced_begins_anew() {
    let turn = || policy(0, "round_robin", ConfigValues::default());
    let mut calls = vec![start(), turn(), join(0), join(1), choice(&[0, 0, 1, 0]), turn()];
    calls.push(choice(&[0, 0, 1, 0]));
    let verdict = replayed(calls);
    assert_eq!((verdict.decisions, verdict.hole.clone()), (2, None), "{verdict:?}");
}

fn config() -> impl Strategy<Value = ConfigValues> {
    let words = prop_oneof![Just("random"), Just("min_load"), Just("min_group")];
    let modes = prop_oneof![Just("faithful"), Just("improved")];
    (any::<[u64; 4]>(), any::<u32>(), [any::<f64>(), any::<f64>(), any::<f64>(), any::<f64>()], words, modes)
        .prop_map(|(whole, prefix_tokens, parts, assignment_mode, cache_aware_mode)| ConfigValues {
            seed: whole[0],
            cache_threshold: parts[0],
            balance_abs_threshold: whole[1],
            balance_rel_threshold: parts[1],
            cache_aware_mode: cache_aware_mode.into(),
            assignment_mode: assignment_mode.into(),
            max_idle_s: whole[2],
            prefix_tokens,
            prefix_load_factor: parts[2],
            consistent_load_factor: parts[3],
            bucket_adjust_interval_s: whole[3],
        })
}

fn call() -> impl Strategy<Value = JournalCall> {
    let slot = 0..5_u32;
    let event = (
        prop_oneof![
            Just("ended"),
            Just("first_token"),
            Just("loaded"),
            Just("load_unknown"),
            Just("cache_emptied")
        ],
        slot.clone(),
    );
    let numbers = (any::<[u64; 3]>(), option::of(any::<u64>()), option::of(any::<f64>()), any::<u32>());
    let event = (event, numbers).prop_map(|((event, slot), (numbers, some, share, count))| EventCall {
        event: event.into(),
        slot,
        seq: Some(numbers[0] % 8),
        ttft_us: Some(numbers[1]),
        latency_us: Some(numbers[2]),
        ok: Some(numbers[0] % 3 > 0),
        prompt_tokens: some,
        completion_tokens: some,
        cached_tokens: some.map(|n| n / 2),
        queue_depth: Some(count),
        running: Some(count),
        kv_usage: share,
        throughput_tokens_per_s: share,
        max_running_requests: Some(count),
    });
    let asked = (any::<[u64; 3]>(), option::of(any::<u64>()), vec(1..u64::MAX, 0..3), any::<u32>());
    let choice = (asked, vec(any::<u32>(), 1..5)).prop_map(|((numbers, some, hashes, target), in_flight)| {
        ChoiceCall {
            seq: numbers[0] % 8,
            hashed_bytes: Some(hashes.len() as u64 * 64),
            hashes: Some(hashes.as_slice().into()),
            prompt_bytes: numbers[1],
            prompt_tokens: some,
            max_new_tokens: some,
            engine_hashes: some.map(|n| [n.max(1)].as_slice().into()),
            engine_bytes: some.map(|n| n % 64 + 1),
            is_counted: numbers[2] % 2 == 0,
            is_multiple: numbers[2] % 3 == 0,
            routing_key_hash: some,
            client_hash: some,
            target: Some(target % 6).filter(|target| *target < 5),
            eligible: in_flight.iter().zip(0..).flat_map(|(n, at)| [at, *n]).collect(),
            ..ChoiceCall::default()
        }
    });
    prop_oneof![
        2 => slot.clone().prop_map(join),
        1 => slot.clone().prop_map(|slot| JournalCall::Leave(LeaveCall { slot })),
        1 => (slot, any::<u32>()).prop_map(|(slot, priority)| {
            JournalCall::Describe(Box::new(DescribeCall { slot, priority, ..DescribeCall::default() }))
        }),
        4 => event.prop_map(|event| JournalCall::Event(Box::new(event))),
        6 => choice.prop_map(|choice| JournalCall::Choice(Box::new(choice))),
    ]
}

proptest! {
    #[test]
    fn no_journal_brings_the_process_down(
        config in config(), calls in vec((call(), any::<u32>()), 1..40), at in 0..POLICIES.len(),
    ) {
        let mut exact = Exact::default();
        let first = [start(), policy(0, POLICIES[at].name, config), join(0), join(1), join(2), join(3)];
        let first = first.into_iter().map(|call| (call, 0));
        for (n, (call, now_us)) in first.chain(calls).enumerate() {
            // The replay of one call that is refused is over; the next one is a new one for the others.
            exact.stopped = false;
            exact.push(Box::new(JournalRecord { n: n as u64, now_us: now_us.into(), call }));
        }
        exact.finish();
    }
}
