//! There and back: each call as a line of the trace and as the policies' own values.

use milepost_policies::{
    AssignmentMode, CacheAwareMode, Decision, Eligible, Event, PolicyConfig, PromptHashes, RequestView,
    ServerLoad, WorkerId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::buffer::Buffer;
use crate::trace::json::push_json;
use crate::trace::record::Record;

/// What a reader reads of the line that the writer writes.
fn through_the_file(call: JournalCall) -> JournalCall {
    let record = Record::Journal(Box::new(JournalRecord { n: u64::MAX, now_us: 1, call }));
    let mut line = Buffer::default();
    push_json(&mut line, &record).unwrap();
    assert_eq!(line.as_bytes(), serde_json::to_vec(&record).unwrap());
    let back: Record = serde_json::from_slice(line.as_bytes()).unwrap();
    assert_eq!(back, record);
    match back {
        Record::Journal(record) => record.call,
        other => panic!("{other:?}"),
    }
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("a number", |f| f.is_finite())
}

fn load() -> impl Strategy<Value = ServerLoad> {
    let counts = (option::of(any::<u32>()), option::of(any::<u32>()), option::of(any::<u32>()));
    (counts, option::of(finite()), option::of(finite())).prop_map(|(counts, kv_usage, throughput)| {
        ServerLoad {
            queue_depth: counts.0,
            running: counts.1,
            kv_usage,
            throughput_tokens_per_s: throughput,
            max_running_requests: counts.2,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let worker = any::<u32>().prop_map(WorkerId);
    let tokens = || option::of(any::<u64>());
    prop_oneof![
        (any::<u64>(), any::<u32>().prop_map(WorkerId), any::<u64>())
            .prop_map(|(seq, worker, ttft_us)| Event::FirstToken { seq, worker, ttft_us }),
        (
            any::<u64>(),
            any::<u32>().prop_map(WorkerId),
            any::<u64>(),
            any::<bool>(),
            tokens(),
            tokens(),
            tokens()
        )
            .prop_map(
                |(seq, worker, latency_us, ok, prompt_tokens, completion_tokens, cached_tokens)| {
                    Event::Ended {
                        seq,
                        worker,
                        latency_us,
                        ok,
                        prompt_tokens,
                        completion_tokens,
                        cached_tokens,
                    }
                }
            ),
        (any::<u32>().prop_map(WorkerId), load()).prop_map(|(worker, load)| Event::Loaded { worker, load }),
        worker.clone().prop_map(|worker| Event::LoadUnknown { worker }),
        worker.clone().prop_map(|worker| Event::CacheEmptied { worker }),
        worker.clone().prop_map(|worker| Event::Joined { worker }),
        worker.clone().prop_map(|worker| Event::Left { worker }),
        (any::<u64>(), worker).prop_map(|(seq, worker)| Event::Routed { seq, worker }),
    ]
}

fn config() -> impl Strategy<Value = PolicyConfig> {
    let mode = prop_oneof![
        Just(AssignmentMode::Random),
        Just(AssignmentMode::MinLoad),
        Just(AssignmentMode::MinGroup)
    ];
    let cache_aware = prop_oneof![Just(CacheAwareMode::Faithful), Just(CacheAwareMode::Improved)];
    let parts = [finite(), finite(), finite(), finite()];
    (any::<[u64; 4]>(), any::<u32>(), parts, mode, cache_aware).prop_map(
        |(whole, prefix_tokens, parts, assignment_mode, cache_aware_mode)| PolicyConfig {
            seed: whole[0],
            cache_threshold: parts[0],
            balance_abs_threshold: whole[1],
            balance_rel_threshold: parts[1],
            cache_aware_mode,
            assignment_mode,
            max_idle_s: whole[2],
            prefix_tokens,
            prefix_load_factor: parts[2],
            consistent_load_factor: parts[3],
            bucket_adjust_interval_s: whole[3],
            ..PolicyConfig::default()
        },
    )
}

proptest! {
    #[test]
    fn an_event_is_read_back_as_it_was(event in event()) {
        let JournalCall::Event(call) = through_the_file(JournalCall::Event(Box::new((&event).into()))) else {
            panic!("another call");
        };
        prop_assert_eq!(Event::try_from(&*call), Ok(event));
    }

    #[test]
    fn settings_are_read_back_as_they_were(config in config()) {
        let call = PolicyCall { policy: 1, name: "x".into(), config: (&config).into() };
        let JournalCall::Policy(call) = through_the_file(JournalCall::Policy(Box::new(call))) else {
            panic!("another call");
        };
        prop_assert_eq!(PolicyConfig::try_from(&call.config), Ok(config));
    }

    #[test]
    fn a_choice_is_read_back_as_it_was(
        text in option::of(vec(any::<u8>(), 0..9000)), numbers in any::<[u64; 4]>(),
        some in option::of(any::<[u64; 3]>()), model in option::of(".{0,20}"), key in option::of(".{0,20}"),
        in_flight in vec(any::<u32>(), 1..40), stream in any::<bool>(), scores in vec(option::of(finite()), 40),
    ) {
        let prompt = text.as_deref().map(PromptHashes::of);
        let engine = model.as_ref().map(|text| PromptHashes::of(text.as_bytes()));
        let request = RequestView {
            seq: numbers[0],
            prompt: prompt.as_ref(),
            prompt_bytes: numbers[1],
            engine_prompt: engine.as_ref(),
            is_counted: stream,
            is_multiple: !stream,
            prompt_tokens: some.map(|s| s[0]),
            max_new_tokens: some.map(|s| s[1]),
            stream,
            model: model.as_deref(),
            routing_key: key.as_deref(),
            routing_key_hash: None,
            target: some.map(|s| s[2] as u32),
            client_hash: some.map(|s| s[2]),
            attempts: numbers[2] as u32,
        };
        let eligible: Vec<Eligible> = in_flight.iter().zip(0..)
            .map(|(n, at)| Eligible { position: 3 * at, in_flight_requests: *n }).collect();
        let mut decision = Decision::default();
        decision.clear(eligible.len());
        for (index, score) in scores.iter().enumerate().filter_map(|(i, s)| Some((i, (*s)?))) {
            decision.score(index, score);
        }
        let chosen = (numbers[3] % 3 > 0).then_some(numbers[3] as usize % eligible.len());
        let mut call = ChoiceCall::asked(2, &request, &eligible);
        call.answered(chosen, &decision);
        call.complete(&request);
        let JournalCall::Choice(back) = through_the_file(JournalCall::Choice(Box::new(call.clone()))) else {
            panic!("another call");
        };
        prop_assert_eq!(&*back, &call);
        let prompts = back.prompts().unwrap();
        prop_assert_eq!((&prompts.routing, &prompts.engine), (&prompt, &engine));
        let asked = back.request(&prompts);
        let known = RequestView { routing_key: None, routing_key_hash: request.key_hash(), ..request };
        prop_assert_eq!(format!("{asked:?}"), format!("{known:?}"));
        prop_assert_eq!(back.eligible().unwrap(), eligible);
        prop_assert_eq!(back.answer().chosen, chosen.map(|i| 3 * i as u32));
    }
}

#[test]
fn no_text_and_no_key_is_in_the_line() {
    let text = "a secret prompt that nobody may read".repeat(9);
    let prompt = PromptHashes::of(text.as_bytes());
    let request =
        RequestView { prompt: Some(&prompt), routing_key: Some("user-key-4711"), ..RequestView::default() };
    let mut call = ChoiceCall::asked(0, &request, &[]);
    call.complete(&request);
    let line = serde_json::to_string(&call).unwrap();
    assert!(line.contains("routing_key_hash") && line.contains("hashes"), "{line}");
    assert!(!line.contains("secret") && !line.contains("4711"), "{line}");
}

#[test]
fn one_changed_score_changes_their_hash_and_without_scores_there_is_none() {
    let hash = |scores: &[Option<f64>]| {
        let mut decision = Decision::default();
        decision.clear(3);
        scores.iter().enumerate().for_each(|(i, s)| s.iter().for_each(|s| decision.score(i, *s)));
        let mut call = ChoiceCall::default();
        call.answered(None, &decision);
        call.scores_hash
    };
    assert_eq!(hash(&[]), None);
    let one = hash(&[Some(1.0), None, Some(2.0)]);
    assert!(one.is_some());
    for other in [
        [Some(1.0), Some(2.0), None],
        [Some(2.0), None, Some(1.0)],
        [Some(1.0), None, Some(2.000_000_000_000_000_4)],
        [Some(-0.0), None, Some(2.0)],
    ] {
        assert_ne!(hash(&other), one, "{other:?}");
    }
}

#[test]
fn what_no_router_writes_is_an_error_with_its_member() {
    let strange = |call: EventCall| Event::try_from(&call).unwrap_err().member;
    assert_eq!(strange(EventCall { event: "joinde".into(), ..EventCall::default() }), "event");
    assert_eq!(strange(EventCall { event: "ended".into(), ..EventCall::default() }), "seq");
    let half = ChoiceCall { eligible: vec![1], ..ChoiceCall::default() };
    assert_eq!(half.eligible().unwrap_err().member, "eligible");
    let twice = ChoiceCall { eligible: vec![1, 0, 1, 0], ..ChoiceCall::default() };
    assert_eq!(twice.eligible().unwrap_err().member, "eligible");
    let short =
        ChoiceCall { hashes: Some([1, 2][..].into()), hashed_bytes: Some(64), ..ChoiceCall::default() };
    assert_eq!(short.prompts().unwrap_err().member, "hashes");
    for bad in ["\"123\"", "\"zzzzzzzzzzzzzzzz\"", "5"] {
        assert!(serde_json::from_str::<PackedHashes>(bad).is_err(), "{bad}");
    }
}
