//! Tests of the answer reader on made-up answers; `tests/captures.rs` has the real ones.

use proptest::prelude::*;

use super::*;

fn read(endpoint: Endpoint, status: u16, stream: bool, multiple: bool, body: &[u8]) -> Answer {
    let mut reader = AnswerReader::new(endpoint, status, stream, multiple).with_token_times();
    for (i, chunk) in body.split_inclusive(|&b| b == b'\n').enumerate() {
        reader.push(&Bytes::copy_from_slice(chunk), i as u64);
    }
    reader.finish(true)
}

fn generate(events: &[&str]) -> Answer {
    let body: String = events.iter().flat_map(|e| ["data: ", e, "\n\n"]).collect();
    read(Endpoint::Generate, 200, true, false, body.as_bytes())
}

fn chat(events: &[&str]) -> Answer {
    let body: String = events.iter().flat_map(|e| ["data: ", e, "\n\n"]).collect();
    read(Endpoint::Chat, 200, true, false, body.as_bytes())
}

fn error(answer: &Answer) -> Option<String> {
    answer.error.as_ref().map(AnswerError::public)
}

#[test]
fn only_an_event_with_tokens_is_the_first_token() {
    let a = generate(&[
        r#"{"text":"","meta_info":{"completion_tokens":0,"finish_reason":null,"response_sent_to_client_ts":7.5}}"#,
        r#"{"text":"a","meta_info":{"completion_tokens":2,"finish_reason":null}}"#,
        r#"{"text":"ab","meta_info":{"completion_tokens":3,"finish_reason":null}}"#,
        r#"{"text":"abc","meta_info":{"prompt_tokens":9,"completion_tokens":5,"finish_reason":{"type":"stop","matched":1},"e2e_latency":1.5}}"#,
        "[DONE]",
    ]);
    assert_eq!((a.events, a.first_event_ns, a.first_token_ns, a.done), (4, Some(1), Some(3), Some(true)));
    assert_eq!(a.tokens, Tokens { prompt_tokens: Some(9), completion_tokens: Some(5), cached_tokens: None });
    assert_eq!((a.stamps.e2e_latency, a.stamps.response_sent_to_client_ts), (Some(1.5), Some(7.5)));
    assert_eq!((a.finish_reason.as_deref(), a.has_text, a.error), (Some("stop"), Some(true), None));
    let times: Vec<_> = a.token_times.iter().map(|t| (t.at_ns, t.tokens)).collect();
    assert_eq!(times, [(3, 2), (5, 3), (7, 5)]);
}

#[test]
fn text_deltas_are_text_wherever_they_stand() {
    let a = generate(&[
        r#"{"text":"","meta_info":{"completion_tokens":1}}"#,
        r#"{"text":"x","meta_info":{"completion_tokens":2}}"#,
        r#"{"text":"","meta_info":{"completion_tokens":3,"finish_reason":{"type":"length"}}}"#,
        "[DONE]",
    ]);
    assert_eq!((a.has_text, a.tokens.completion_tokens), (Some(true), Some(3)));
    let silent = generate(&[r#"{"text":"","meta_info":{"completion_tokens":3}}"#, "[DONE]"]);
    assert_eq!((silent.has_text, silent.error), (Some(false), None));
}

#[test]
fn errors_inside_a_200() {
    assert_eq!(
        error(&generate(&[r#"{"error":{"message":"m","code":400}}"#, "[DONE]"])).as_deref(),
        Some("error_event 400")
    );
    let late =
        generate(&[r#"{"text":"a","meta_info":{"completion_tokens":1}}"#, r#"{"error":"broken"}"#, "[DONE]"]);
    assert_eq!((error(&late).as_deref(), late.tokens.completion_tokens), (Some("error_event"), Some(1)));
    let full = generate(&[
        r#"{"text":"","meta_info":{"id":"x","finish_reason":{"type":"abort","status_code":503,"message":"The request queue is full."}}}"#,
        "[DONE]",
    ]);
    assert_eq!((error(&full).as_deref(), full.finish_reason.as_deref()), (Some("abort 503"), Some("abort")));
    assert_eq!(full.error.unwrap().message, "The request queue is full.");
    assert_eq!(error(&generate(&[])).as_deref(), Some("truncated"));
    assert_eq!(error(&generate(&["[DONE]"])).as_deref(), Some("no_tokens"));
    assert_eq!(
        error(&generate(&[r#"{"text":"a","meta_info":{"completion_tokens":1}}"#])).as_deref(),
        Some("truncated")
    );
    assert_eq!(error(&generate(&["{nonsense", "[DONE]"])).as_deref(), Some("no_tokens"));
}

#[test]
fn plain_answers_and_their_errors() {
    let plain = |status, body: &str| read(Endpoint::Generate, status, false, false, body.as_bytes());
    let ok = plain(
        200,
        r#"{"text":"a","meta_info":{"completion_tokens":8,"finish_reason":{"type":"length","length":8}}}"#,
    );
    assert_eq!(
        (ok.first_token_ns, ok.done, ok.tokens.completion_tokens, ok.error),
        (None, None, Some(8), None)
    );
    assert_eq!(error(&plain(200, r#"{"error":{"message":"m"}}"#)).as_deref(), Some("error_body"));
    assert_eq!(error(&plain(200, "oops")).as_deref(), Some("unreadable"));
    assert_eq!(
        error(&plain(200, r#"{"text":"","meta_info":{"completion_tokens":0}}"#)).as_deref(),
        Some("no_tokens")
    );
    let aborted = plain(
        200,
        r#"{"text":"a","meta_info":{"completion_tokens":3,"finish_reason":{"type":"abort","message":"Aborted","status_code":null}}}"#,
    );
    assert_eq!(error(&aborted).as_deref(), Some("abort"));
    for (body, message) in [
        (r#"{"detail":"Not Found"}"#, "Not Found"),
        (r#"{"error":"Unauthorized"}"#, "Unauthorized"),
        ("", ""),
    ] {
        let e = plain(404, body).error.unwrap();
        assert_eq!((e.class, e.code, e.message.as_str()), ("http_status", Some(404), message));
    }
    let mut cut = AnswerReader::new(Endpoint::Generate, 200, false, false);
    cut.push(&Bytes::from_static(b"{\"text\":"), 1);
    assert_eq!(error(&cut.finish(false)).as_deref(), Some("truncated"));
}

#[test]
fn an_error_body_under_a_forced_stream_type_is_read_as_a_body() {
    let a = read(Endpoint::Chat, 400, true, false, br#"{"object":"error","message":"too long","code":400}"#);
    assert_eq!(a.error.unwrap().message, "too long");
    assert_eq!((a.events, a.has_text), (0, None));
}

#[test]
fn members_of_a_batch_are_told_apart_and_summed() {
    let body = br#"[{"text":"a","meta_info":{"id":"x","prompt_tokens":1,"completion_tokens":2}},{"text":"","meta_info":{"prompt_tokens":3,"completion_tokens":4}}]"#;
    let a = read(Endpoint::Generate, 200, false, true, body);
    assert_eq!((a.tokens.prompt_tokens, a.tokens.completion_tokens, a.error), (Some(4), Some(6), None));
    let stream = "data: {\"text\":\"\",\"meta_info\":{\"completion_tokens\":0},\"index\":1}\n\n\
        data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":2},\"index\":0}\n\n\
        data: {\"text\":\"b\",\"meta_info\":{\"completion_tokens\":1},\"index\":1}\n\n\
        data: {\"text\":\"ab\",\"meta_info\":{\"completion_tokens\":5,\"finish_reason\":{\"type\":\"stop\"}},\"index\":0}\n\n\
        data: {\"text\":\"b\",\"meta_info\":{\"completion_tokens\":1,\"finish_reason\":{\"type\":\"abort\"}},\"index\":1}\n\ndata: [DONE]\n\n";
    let a = read(Endpoint::Generate, 200, true, true, stream.as_bytes());
    assert_eq!(
        (a.tokens.completion_tokens, a.first_token_ns, error(&a).as_deref()),
        (Some(6), Some(3), Some("abort"))
    );
    assert_eq!(a.token_times.iter().map(|t| t.tokens).collect::<Vec<_>>(), [2, 3, 6]);
}

#[test]
fn chat_streams_find_finish_usage_and_text() {
    let a = chat(&[
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":null,"reasoning_content":"hm"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":2}}}"#,
        r#"{"choices":[],"sglext":{}}"#,
        "[DONE]",
    ]);
    assert_eq!(
        a.tokens,
        Tokens { prompt_tokens: Some(3), completion_tokens: Some(4), cached_tokens: Some(2) }
    );
    assert_eq!(
        (a.finish_reason.as_deref(), a.has_text, a.first_token_ns, a.error),
        (Some("stop"), Some(true), Some(1), None)
    );
    assert_eq!(a.token_times.iter().map(|t| t.tokens).collect::<Vec<_>>(), [1, 2, 4]);
}

#[test]
fn other_endpoints_are_counted_and_not_read() {
    let a = read(Endpoint::Other, 200, true, false, b"event: x\ndata: {\"a\":1}\n\ndata: {}\n\n");
    assert_eq!((a.looked, a.events, a.done, a.error, a.has_text), (false, 2, None, None, None));
    let blind = AnswerReader::blind(502).finish(true);
    assert_eq!((blind.looked, error(&blind).as_deref()), (false, Some("http_status 502")));
}

#[test]
fn an_overlong_body_is_not_read() {
    let mut reader = AnswerReader::new(Endpoint::Generate, 200, false, false);
    let chunk = Bytes::from(vec![b'['; ANSWER_CAP_BYTES / 2 + 1]);
    reader.push(&chunk, 1);
    reader.push(&chunk, 2);
    let a = reader.finish(true);
    assert_eq!((a.looked, a.error), (false, None));
}

#[test]
fn a_count_lost_with_an_overlong_event_is_not_replaced_by_a_stale_one() {
    let mut gather = Gather::new(Endpoint::Generate, false);
    let event =
        |data: &'static [u8], overlong| crate::wire::sse::Event { data: Bytes::from_static(data), overlong };
    gather.event(event(br#"{"text":"a","meta_info":{"completion_tokens":1}}"#, false), 1);
    gather.event(event(b"", true), 2);
    gather.event(event(br#"{"error":"broken"}"#, false), 3);
    gather.settle();
    assert_eq!(gather.total().0, Tokens::default());
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), status in prop::sample::select(vec![200u16, 400]), stream: bool, multiple: bool) {
        for endpoint in [Endpoint::Generate, Endpoint::Chat, Endpoint::Completions, Endpoint::Other] {
            read(endpoint, status, stream, multiple, &bytes);
        }
    }

    #[test]
    fn never_panics_on_broken_events(bytes in "(data: )?[{}\\[\\]\":,a-e0-9\n]{0,80}") {
        read(Endpoint::Generate, 200, true, true, bytes.as_bytes());
        read(Endpoint::Chat, 200, true, false, bytes.as_bytes());
    }
}
