//! Tests of the look at a request body.

use proptest::prelude::*;

use super::*;

const ALL: [Endpoint; 7] = [
    Endpoint::Generate,
    Endpoint::Chat,
    Endpoint::Completions,
    Endpoint::Responses,
    Endpoint::Embeddings,
    Endpoint::Rerank,
    Endpoint::Classify,
];

fn text(endpoint: Endpoint, body: &str) -> Option<String> {
    let look = look(endpoint, body.as_bytes());
    assert_eq!(look.parsed, Parsed::Json, "{body}");
    look.text.map(|t| String::from_utf8(t.into_owned()).unwrap())
}

#[test]
fn generate_text_wins_over_ids_and_lists_are_joined() {
    let generate = |body| text(Endpoint::Generate, body);
    assert_eq!(generate(r#"{"text":"Hello","input_ids":[1]}"#).as_deref(), Some("Hello"));
    assert_eq!(generate(r#"{"input_ids":[1,2,3]}"#).as_deref(), Some("1 2 3"));
    assert_eq!(generate(r#"{"text":null,"input_ids":[[1,2],[3]]}"#).as_deref(), Some("1 2 3"));
    assert_eq!(generate(r#"{"input_ids":[[1,2],[3,-4.5],["x"]]}"#).as_deref(), Some("1 2 3 -4.5"));
    assert_eq!(generate(r#"{"text":["a","b"]}"#).as_deref(), Some("a b"));
    assert_eq!(generate(r#"{"text":5}"#), None);
    assert_eq!(generate("{}"), None);
    assert_eq!(generate("[1]"), None);
}

#[test]
fn chat_takes_contents_text_parts_and_an_assistants_reasoning() {
    let body = r#"{"messages":[
        {"role":"system","content":"S"},
        {"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"text","text":"U"},{"type":"text","text":"V"}]},
        {"content":"A","reasoning_content":"R","role":"assistant","tool_calls":[{"x":[1,{}]}]},
        {"role":"assistant","content":null},
        {"role":"user","content":"W","reasoning_content":"not taken"},
        {"role":"tool","tool_call_id":"t","content":"T"}],"tools":[{"text":"no"}]}"#;
    assert_eq!(text(Endpoint::Chat, body).as_deref(), Some("S U V A R W T"));
    assert_eq!(look(Endpoint::Chat, body.as_bytes()).prompts, 1);
}

#[test]
fn completions_take_strings_lists_and_token_ids() {
    let looked = |body: &'static str| look(Endpoint::Completions, body.as_bytes());
    assert_eq!(looked(r#"{"prompt":"a"}"#).prompts, 1);
    assert_eq!(looked(r#"{"prompt":["a","b"]}"#).text.as_deref(), Some(&b"a b"[..]));
    let ids = looked(r#"{"prompt":[[1,2],[3]],"n":2}"#);
    assert_eq!((ids.text.as_deref(), ids.prompts, ids.multiple()), (Some(&b"1 2 3"[..]), 2, true));
    assert_eq!(looked(r#"{"prompt":[7,8]}"#).prompts, 1);
}

#[test]
fn embeddings_and_classify_take_both_formats() {
    for endpoint in [Endpoint::Embeddings, Endpoint::Classify] {
        let looked = |body: &'static str| look(endpoint, body.as_bytes());
        assert_eq!(looked(r#"{"input":"a","model":"m"}"#).text.as_deref(), Some(&b"a"[..]));
        let batch = looked(r#"{"input":["a","b"],"text":null}"#);
        assert_eq!((batch.text.as_deref(), batch.prompts), (Some(&b"a b"[..]), 2));
        let images = looked(r#"{"input":[{"text":"a","image":"data:xx"},{"text":"b"}]}"#);
        assert_eq!((images.text.as_deref(), images.prompts), (Some(&b"a b"[..]), 2));
        assert_eq!(looked(r#"{"text":["a","b"],"rid":["r","s"]}"#).rid.as_deref(), Some("r"));
        let ids = looked(r#"{"text":null,"input_ids":[1,2]}"#);
        assert_eq!((ids.text.as_deref(), ids.prompts), (Some(&b"1 2"[..]), 1));
    }
}

#[test]
fn rerank_takes_the_query_first_wherever_it_stands() {
    let l = look(Endpoint::Rerank, br#"{"documents":["d1",{"text":"d2"}],"query":"q","top_n":1}"#);
    assert_eq!((l.text.as_deref(), l.prompts), (Some(&b"q d1 d2"[..]), 2));
    let l = look(Endpoint::Rerank, br#"{"query":"q"}"#);
    assert_eq!((l.text.as_deref(), l.prompts), (Some(&b"q"[..]), 1));
    assert_eq!(text(Endpoint::Rerank, r#"{"text":"no","input":"no"}"#), None);
}

#[test]
fn responses_take_the_instructions_then_the_texts_of_the_items() {
    let body = r#"{"model":"m","max_output_tokens":9,"stream":true,"input":[
        {"role":"user","content":"U"},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"V"},{"type":"input_image","image_url":"data:x"}]},
        {"type":"function_call","name":"f","arguments":"{}"},
        {"type":"function_call_output","call_id":"c","output":"T"}],"instructions":"S"}"#;
    assert_eq!(text(Endpoint::Responses, body).as_deref(), Some("S U V T"));
    let l = look(Endpoint::Responses, body.as_bytes());
    assert_eq!((l.prompts, l.max_new_tokens, l.stream), (1, Some(9), true));
    assert_eq!(text(Endpoint::Responses, r#"{"input":"a"}"#).as_deref(), Some("a"));
    assert_eq!(text(Endpoint::Responses, r#"{"input":"a","instructions":null}"#).as_deref(), Some("a"));
    assert!(matches!(look(Endpoint::Responses, br#"{"input":"plain"}"#).text, Some(Cow::Borrowed(b"plain"))));
}

#[test]
fn fields_of_each_endpoint() {
    let body = br#"{"model":"m\u00e9","rid":["r1","r2"],"stream":true,"text":["a","b"],"sampling_params":{"max_new_tokens":8,"n":3}}"#;
    let l = look(Endpoint::Generate, body);
    assert_eq!((l.model.as_deref(), l.rid.as_deref(), l.stream), (Some("mé"), Some("r1"), true));
    assert_eq!((l.max_new_tokens, l.prompts, l.samples_per_prompt), (Some(8), 2, 3));
    let l = look(
        Endpoint::Generate,
        br#"{"text":"a","sampling_params":[{"max_new_tokens":4},{"max_new_tokens":9}]}"#,
    );
    assert_eq!((l.max_new_tokens, l.samples_per_prompt, l.multiple()), (Some(4), 1, false));
    let l = look(Endpoint::Chat, br#"{"max_tokens":0,"max_completion_tokens":6,"n":2}"#);
    assert_eq!((l.max_new_tokens, l.samples_per_prompt), (Some(6), 2));
    assert_eq!(look(Endpoint::Other, b"{").parsed, Parsed::NotLooked);
    assert_eq!(look(Endpoint::Chat, b" \n").parsed, Parsed::Empty);
}

#[test]
fn a_wrong_type_costs_one_field() {
    let l = look(
        Endpoint::Generate,
        br#"{"model":5,"stream":"yes","rid":{},"sampling_params":"x","text":"kept","input_ids":{"a":[null]}}"#,
    );
    assert_eq!((l.model, l.stream, l.rid, l.max_new_tokens), (None, false, None, None));
    assert_eq!(l.text.as_deref(), Some(&b"kept"[..]));
    assert_eq!(text(Endpoint::Chat, r#"{"messages":"hi"}"#), None);
    assert_eq!(
        text(Endpoint::Chat, r#"{"messages":[3,{"content":7},{"role":"user","content":"x"}]}"#).as_deref(),
        Some("x")
    );
}

#[test]
fn the_last_of_duplicate_keys_counts() {
    let l = look(Endpoint::Generate, br#"{"text":"a","stream":true,"text":"b","stream":false}"#);
    assert_eq!((l.text.as_deref(), l.stream), (Some(&b"b"[..]), false));
}

#[test]
fn what_is_not_one_json_value_is_malformed() {
    for body in [r#"{"text":"a""#, r#"{"text":"a"} x"#, r#"{"text":"a\q"}"#, "{\"text\":\"\n\"}", "nonsense"]
    {
        let l = look(Endpoint::Generate, body.as_bytes());
        assert_eq!((l.parsed, l.text), (Parsed::Malformed, None), "{body}");
    }
    let deep = format!("{{\"x\":{}}}", "[".repeat(100_000));
    assert_eq!(look(Endpoint::Generate, deep.as_bytes()).parsed, Parsed::Malformed);
}

#[test]
fn escapes_cost_a_copy_and_never_the_prompt() {
    let plain = look(Endpoint::Generate, br#"{"text":"plain"}"#);
    assert!(matches!(plain.text, Some(Cow::Borrowed(b"plain"))));
    assert_eq!(
        text(Endpoint::Generate, r#"{"te\u0078t":"a\nb \"c\" \u00e9 \ud83d\ude00 \ud800 end"}"#).as_deref(),
        Some("a\nb \"c\" é 😀 \u{fffd} end")
    );
}

fn engine(endpoint: Endpoint, body: &str) -> Option<String> {
    let look = look_for(endpoint, body.as_bytes(), true);
    assert_eq!(look.parsed, Parsed::Json, "{body}");
    let plain = super::look(endpoint, body.as_bytes());
    assert_eq!((&plain.text, plain.prompts, plain.engine_text), (&look.text, look.prompts, None));
    look.engine_text.map(|text| {
        let text = text.iter().map(|&byte| match byte {
            0x1e => b'<',
            0x1f => b'>',
            other => other,
        });
        String::from_utf8(text.collect()).expect("as it came")
    })
}

#[test]
fn an_engine_sees_the_tools_then_each_message_with_its_role_and_parts() {
    let body = r#"{"messages":[
        {"role":"system","content":"S"},
        {"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x"}},{"type":"text","text":"a\nb"}]},
        {"role":"assistant","content":"A","reasoning_content":"not there","tool_calls":[{"id":"t"}]},
        {"role":"tool","tool_call_id":"t","content":"T"}],"tools":[{"name":"f"}],"model":"m"}"#;
    let image = r#"{"type":"image_url","image_url":{"url":"data:x"}}"#;
    let seen = format!(
        "[{{\"name\":\"f\"}}]><system>S><user>{image}>a\nb><assistant>A>[{{\"id\":\"t\"}}]><tool>\"t\">T>"
    );
    assert_eq!(engine(Endpoint::Chat, body), Some(seen));
    assert_eq!(text(Endpoint::Chat, body).as_deref(), Some("S a\nb A not there T"));
}

/// What the next turn adds stands behind all that was there.
#[test]
fn a_conversation_that_goes_on_begins_as_it_did_and_who_says_what_counts() {
    let turn = |messages: &str| engine(Endpoint::Chat, &format!(r#"{{"messages":[{messages}]}}"#)).unwrap();
    let first = r#"{"role":"user","content":"hello"}"#;
    let more = r#",{"role":"assistant","content":"hi"},{"role":"user","content":"again"}"#;
    assert!(turn(&format!("{first}{more}")).starts_with(&turn(first)));
    assert_ne!(turn(r#"{"role":"system","content":"x"}"#), turn(r#"{"role":"user","content":"x"}"#));
    // Where one ends and the next begins.
    let (one, two) = (
        r#"{"role":"user","content":"a b"}"#,
        r#"{"role":"user","content":"a"},{"role":"user","content":"b"}"#,
    );
    assert_ne!(turn(one), turn(two));
}

#[test]
fn a_plain_prompt_is_what_the_engine_sees_and_hashed_once() {
    assert_eq!(engine(Endpoint::Generate, r#"{"text":"a"}"#), None);
    assert_eq!(engine(Endpoint::Completions, r#"{"prompt":"a"}"#), None);
    assert_eq!(engine(Endpoint::Responses, r#"{"input":"a","instructions":"i"}"#), None);
    // A batch is no one prompt.
    assert_eq!(engine(Endpoint::Generate, r#"{"text":["a","b"],"lora_path":["x","y"]}"#), None);
    assert_eq!(engine(Endpoint::Generate, r#"{"input_ids":[[1],[2]]}"#), None);
    assert_eq!(engine(Endpoint::Generate, r#"{"lora_path":"x"}"#), None);
}

#[test]
fn what_has_a_cache_of_its_own_has_an_engine_text_of_its_own() {
    let generate = |more: &str| engine(Endpoint::Generate, &format!(r#"{{"text":"a"{more}}}"#));
    assert_eq!(generate(r#","lora_path":"x""#).as_deref(), Some("lora_path>\"x\">a"));
    assert_eq!(generate(r#","lora_path":null"#), None);
    let image = |byte: char| generate(&format!(r#","image_data":"{}{byte}""#, "i".repeat(2_000)));
    assert_ne!(image('x'), image('y'));
    assert!(image('x').unwrap().len() < 450, "a sample");
    let chat = r#"{"messages":[{"role":"user","content":"a"}],"cache_salt":"s"}"#;
    assert_eq!(engine(Endpoint::Chat, chat).as_deref(), Some("cache_salt>\"s\"><user>a>"));
}

#[test]
fn token_ids_are_four_bytes_each_and_counted() {
    for (endpoint, body) in [
        (Endpoint::Generate, r#"{"input_ids":[1,258, 3]}"#),
        (Endpoint::Generate, r#"{"input_ids":[[1,258,3]]}"#),
        (Endpoint::Completions, r#"{"prompt":[1,258,3]}"#),
    ] {
        let look = look_for(endpoint, body.as_bytes(), true);
        assert_eq!(look.engine_text.as_deref(), Some(&[1, 0, 0, 0, 2, 1, 0, 0, 3, 0, 0, 0][..]), "{body}");
        assert_eq!((look.prompt_ids, look.is_counted()), (Some(3), true));
        assert_eq!(look.text.as_deref(), Some(&b"1 258 3"[..]));
    }
    let salted = look_for(Endpoint::Generate, br#"{"input_ids":[1],"extra_key":"k"}"#, true);
    assert_eq!((salted.prompt_ids, salted.is_counted()), (Some(1), false));
    for uncounted in [r#"{"text":"1 2"}"#, r#"{"input_ids":[[1],[2]]}"#, r#"{"input_ids":[1,-2]}"#] {
        assert_eq!(look(Endpoint::Generate, uncounted.as_bytes()).prompt_ids, None, "{uncounted}");
    }
    // No model has such ids; they are told apart all the same.
    let huge = |id: &str| {
        look_for(Endpoint::Generate, format!(r#"{{"input_ids":[{id}]}}"#).as_bytes(), true).engine_text
    };
    assert_ne!(huge("99999999999999999999"), huge("99999999999999999998"));
}

#[test]
fn the_items_of_responses_are_seen_with_their_roles() {
    let body = r#"{"instructions":"I","input":[{"role":"user","content":"U"},
        {"type":"function_call","name":"f","arguments":"{}"},{"type":"function_call_output","output":"O"}],"tools":[1]}"#;
    assert_eq!(engine(Endpoint::Responses, body).as_deref(), Some("[1]>I><\"user\">U><\"f\">\"{}\"><O>"));
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for endpoint in ALL {
            look_for(endpoint, &bytes, true);
        }
    }

    #[test]
    fn finds_any_prompt(prompt in ".{0,60}", noise in ".{0,20}") {
        let body = serde_json::json!({"a": [noise, {"b": null}], "text": prompt, "z": 1}).to_string();
        prop_assert_eq!(text(Endpoint::Generate, &body), Some(prompt.clone()));
        let body = serde_json::json!({"messages": [{"role": "user", "content": prompt}, {"role": "tool", "content": "x"}]}).to_string();
        prop_assert_eq!(text(Endpoint::Chat, &body), Some(format!("{prompt} x")));
    }
}
