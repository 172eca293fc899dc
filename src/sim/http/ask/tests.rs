//! Tests of what is read from a request.

use serde_json::json;

use super::*;

fn limits(profile: &Profile) -> Limits<'_> {
    Limits { dialect: Dialect::V0523, profile, seed: 1 }
}

#[test]
fn a_batch_with_samples_is_prompt_major_and_named() {
    let profile = Profile::default();
    let body = json!({"text": ["a b", "c"], "rid": "r", "sampling_params": {"n": 2, "max_new_tokens": 3, "ignore_eos": true}});
    let ask = generate(&body, limits(&profile)).expect("fits");
    assert!(ask.list);
    assert_eq!(ask.items.iter().map(|i| i.prompt.len()).collect::<Vec<_>>(), [2, 2, 1, 1]);
    assert_eq!(
        ask.items.iter().filter_map(|i| i.rid.as_deref()).collect::<Vec<_>>(),
        ["r_0", "r_1", "r_2", "r_3"]
    );
    assert_ne!(ask.items[0].answer, ask.items[1].answer);
}

#[test]
fn an_answer_ends_by_itself_unless_told_to_go_on() {
    let profile = Profile::default();
    let ask = |ignore_eos| {
        generate(&json!({"input_ids": [1, 2], "sampling_params": {"max_new_tokens": 5000, "ignore_eos": ignore_eos}}), limits(&profile)).expect("fits")
    };
    assert!(ask(false).items[0].stops && ask(false).items[0].output_tokens < 448);
    assert!(!ask(true).items[0].stops && ask(true).items[0].output_tokens == 5_000);
}

#[test]
fn the_default_length_never_exceeds_what_the_kv_cache_holds() {
    let profile = Profile { kv_tokens: 50, ..Profile::default() };
    let ask =
        generate(&json!({"input_ids": [1, 2, 3], "sampling_params": {"ignore_eos": true}}), limits(&profile))
            .expect("fits");
    assert_eq!(ask.items[0].output_tokens, 46);
    let chat = chat(
        &json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "ignore_eos": true}),
        limits(&profile),
    );
    let item = &chat.expect("fits").items[0];
    assert_eq!(item.prompt.len() as u32 + item.output_tokens, 49);
}

#[test]
fn bodies_that_are_refused() {
    let profile = Profile { context_tokens: 20, ..Profile::default() };
    let refused = |body: Value| generate(&body, limits(&profile)).expect_err("refused");
    assert!(matches!(refused(json!({})), Refusal::Value(_)));
    assert!(matches!(refused(json!({"text": 5})), Refusal::WrongType("text", _)));
    assert!(matches!(
        refused(json!({"text": "x", "sampling_params": {"no_such": 1}})),
        Refusal::UnknownSampling(_)
    ));
    let long = refused(json!({"input_ids": vec![1; 30]}));
    assert_eq!(
        long,
        Refusal::Value(
            "The input (30 tokens) is longer than the model's context length (20 tokens).".to_owned()
        )
    );
    assert!(matches!(
        refused(json!({"input_ids": [1], "sampling_params": {"n": 1_000_000_000_000_u64}})),
        Refusal::Value(_)
    ));
}
