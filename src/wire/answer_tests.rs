//! Tests of the answer reader on made-up answers; `tests/captures.rs` has the real ones.

use proptest::prelude::*;

use super::*;

fn read(endpoint: Endpoint, status: u16, stream: bool, multiple: bool, body: &[u8]) -> Answer {
    let mut reader = AnswerReader::new(endpoint, status, stream, multiple).with_token_times();
    for (i, chunk) in body.split_inclusive(|&b| b == b'\n').enumerate() {
        reader.push(chunk, i as u64);
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

/// Each event a read: of members that interleave the one whose first token comes last says when all have begun.
#[test]
fn the_first_token_of_several_members_is_that_of_the_last_to_begin() {
    let meta = |index: u8, tokens: u8| {
        format!(r#"{{"text":"a","index":{index},"meta_info":{{"completion_tokens":{tokens}}}}}"#)
    };
    let choice = |index: u8| format!(r#"{{"choices":[{{"index":{index},"text":"a"}}]}}"#);
    for (endpoint, events) in [
        (Endpoint::Generate, [meta(0, 1), meta(0, 2), meta(1, 0), meta(1, 1), meta(0, 3)]),
        (Endpoint::Completions, [choice(0), choice(0), choice(0), choice(1), choice(0)]),
    ] {
        let body: String = events.iter().flat_map(|e| ["data: ", e, "\n\n"]).collect();
        // The clock counts lines, two an event.
        let first = |multiple| read(endpoint, 200, true, multiple, body.as_bytes()).first_token_ns;
        assert_eq!((first(true), first(false)), (Some(7), Some(1)), "{endpoint:?}");
        let mut router = AnswerReader::new(endpoint, 200, true, true);
        router.push(body.as_bytes(), 5);
        assert_eq!(router.finish(true).first_token_ns, Some(5));
    }
}

/// Several events come in one read; the sum at the end is no token of one.
#[test]
fn token_times_of_several_members_say_whose_they_are() {
    let told = |endpoint, reads: &[&[&str]]| {
        let mut reader = AnswerReader::new(endpoint, 200, true, true).with_token_times();
        for (read, at_ns) in reads.iter().zip(1..) {
            let body: String = read.iter().flat_map(|e| ["data: ", e, "\n\n"]).collect();
            reader.push(body.as_bytes(), at_ns);
        }
        let times = reader.finish(true).token_times;
        times.iter().map(|t| (t.at_ns, t.tokens, t.member)).collect::<Vec<_>>()
    };
    let meta = |index: u8, tokens: u8| {
        format!(r#"{{"text":"a","index":{index},"meta_info":{{"completion_tokens":{tokens}}}}}"#)
    };
    let generate =
        told(Endpoint::Generate, &[&[&meta(7, 1), &meta(2, 0), &meta(2, 2)], &[&meta(7, 3), &meta(2, 3)]]);
    assert_eq!(generate, [(1, 1, 0), (1, 3, 1), (2, 5, 0), (2, 6, 1)]);
    let choice = |index: u8, text: &str| format!(r#"{{"choices":[{{"index":{index},"text":"{text}"}}]}}"#);
    let usage = r#"{"choices":[],"usage":{"completion_tokens":9}}"#;
    let running = r#"{"choices":[{"index":0,"text":"a"}],"usage":{"completion_tokens":2}}"#;
    let completions = told(
        Endpoint::Completions,
        &[&[&choice(0, ""), &choice(1, "a"), &choice(0, "a")], &[&choice(1, "a"), running], &[usage]],
    );
    assert_eq!(completions, [(1, 1, 0), (1, 2, 1), (2, 3, 0), (2, 4, 1)]);
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
    cut.push(b"{\"text\":", 1);
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
        (Some(6), Some(5), Some("abort"))
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
fn responses_streams_end_with_an_event_of_their_own() {
    let stream = |events: &[&str]| {
        let body: String = events.iter().flat_map(|e| ["event: x\ndata: ", e, "\n\n"]).collect();
        read(Endpoint::Responses, 200, true, false, body.as_bytes())
    };
    let created =
        r#"{"response":{"status":"in_progress","output":[],"usage":null},"type":"response.created"}"#;
    let delta = r#"{"delta":"a","item_id":"m","type":"response.output_text.delta"}"#;
    let completed = r#"{"response":{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"ab"}]}],"usage":{"input_tokens":7,"output_tokens":2,"input_tokens_details":{"cached_tokens":4}}},"type":"response.completed"}"#;
    let a =
        stream(&[created, delta, delta, delta, delta, r#"{"type":"response.output_text.done"}"#, completed]);
    assert_eq!((a.events, a.first_event_ns, a.first_token_ns, a.done), (7, Some(2), Some(5), Some(true)));
    assert_eq!(
        a.tokens,
        Tokens { prompt_tokens: Some(7), completion_tokens: Some(2), cached_tokens: Some(4) }
    );
    assert_eq!((a.finish_reason.as_deref(), a.has_text, a.error), (Some("completed"), Some(true), None));
    let cut = stream(&[created, delta, delta]);
    assert_eq!((error(&cut).as_deref(), cut.done, cut.finish_reason), (Some("truncated"), Some(false), None));
    let failed = r#"{"response":{"status":"failed","error":{"code":"server_error","message":"m"}},"type":"response.failed"}"#;
    let a = stream(&[created, failed]);
    assert_eq!(
        (error(&a).as_deref(), a.done, a.finish_reason.as_deref()),
        (Some("error_event"), Some(true), Some("failed"))
    );
    let a = stream(&[created, delta, r#"{"code":"x","message":"broken","type":"error"}"#]);
    assert_eq!(a.error.unwrap().message, "broken");
}

#[test]
fn responses_in_one_piece() {
    let plain = |body: &str| read(Endpoint::Responses, 200, false, false, body.as_bytes());
    let a = plain(
        r#"{"object":"response","status":"incomplete","error":null,"output":[{"type":"reasoning","summary":[]},{"type":"message","content":[{"text":"a"}]}],"usage":{"prompt_tokens":3,"completion_tokens":5}}"#,
    );
    assert_eq!((a.tokens.prompt_tokens, a.tokens.completion_tokens), (Some(3), Some(5)));
    assert_eq!((a.finish_reason.as_deref(), a.has_text, a.error), (Some("incomplete"), Some(true), None));
    assert_eq!(plain(r#"{"status":"queued","output":[],"usage":null}"#).error, None);
    assert_eq!(error(&plain(r#"{"status":"completed","output":[]}"#)).as_deref(), Some("no_tokens"));
    assert_eq!(
        error(&plain(r#"{"object":"error","message":"m","code":404}"#)).as_deref(),
        Some("error_body 404")
    );
}

#[test]
fn an_answer_without_generated_tokens_is_good_and_its_usage_is_read() {
    let plain = |endpoint, body: &str| read(endpoint, 200, false, false, body.as_bytes());
    let openai =
        r#"{"data":[{"embedding":[0.1,-2e-3],"index":0}],"usage":{"prompt_tokens":6,"total_tokens":6}}"#;
    for endpoint in [Endpoint::Embeddings, Endpoint::Classify] {
        let a = plain(endpoint, openai);
        assert_eq!((a.looked, a.tokens.prompt_tokens, a.has_text, a.error), (true, Some(6), None, None));
    }
    let native = r#"[{"embedding":[1],"meta_info":{"id":"x","prompt_tokens":2}},{"embedding":[1],"meta_info":{"prompt_tokens":3}}]"#;
    assert_eq!(plain(Endpoint::Embeddings, native).tokens.prompt_tokens, Some(5));
    let ranked = r#"[{"score":0.9,"document":"d","index":1,"meta_info":null},{"score":0.1,"index":0}]"#;
    let a = plain(Endpoint::Rerank, ranked);
    assert_eq!((a.tokens.is_empty(), a.error), (true, None));
    let refused = plain(Endpoint::Rerank, r#"{"object":"error","message":"m","code":400}"#);
    assert_eq!(error(&refused).as_deref(), Some("error_body 400"));
}

#[test]
fn of_a_long_vector_only_the_end_is_read_whatever_the_chunks() {
    let vector = "0.123456,".repeat(20_000);
    let body = format!(
        r#"{{"data":[{{"embedding":[{vector}0]}}],"model":"m","usage":{{"prompt_tokens":9,"total_tokens":9}}}}"#
    );
    for size in [1, 7, 500, 511, 512, 8_192, body.len()] {
        let mut reader = AnswerReader::new(Endpoint::Embeddings, 200, false, false);
        for chunk in body.as_bytes().chunks(size) {
            reader.push(chunk, 1);
        }
        if let Source::End { held, .. } = &reader.source {
            assert!(
                held.len() <= READ_WHOLE_BYTES.max(2 * END_BYTES),
                "{} held of chunks of {size}",
                held.len()
            );
        }
        let a = reader.finish(true);
        assert_eq!((a.looked, a.tokens.prompt_tokens, a.error), (true, Some(9), None), "{size}");
    }
}

#[test]
fn other_endpoints_are_counted_and_not_read() {
    let a = read(Endpoint::Other, 200, true, false, b"event: x\ndata: {\"a\":1}\n\ndata: {}\n\n");
    assert_eq!((a.looked, a.events, a.done, a.error, a.has_text), (false, 2, None, None, None));
    let blind = AnswerReader::blind(Endpoint::Generate, 502).finish(true);
    assert_eq!((blind.looked, error(&blind).as_deref()), (false, Some("http_status 502")));
}

#[test]
fn an_overlong_body_is_not_read() {
    let mut reader = AnswerReader::new(Endpoint::Generate, 200, false, false);
    let chunk = vec![b'['; ANSWER_CAP_BYTES / 2 + 1];
    reader.push(&chunk, 1);
    reader.push(&chunk, 2);
    let a = reader.finish(true);
    assert_eq!((a.looked, a.error), (false, None));
}

#[test]
fn a_count_lost_with_an_overlong_event_is_not_replaced_by_a_stale_one() {
    let mut gather = Gather::new(Endpoint::Generate, false);
    let event = |data: &'static [u8], overlong| crate::wire::sse::Event { data, overlong };
    gather.event(event(br#"{"text":"a","meta_info":{"completion_tokens":1}}"#, false), 1);
    gather.event(event(b"", true), 2);
    gather.event(event(br#"{"error":"broken"}"#, false), 3);
    gather.settle();
    assert_eq!(gather.total().0, Tokens::default());
}

proptest! {
    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), status in prop::sample::select(vec![200u16, 400]), stream: bool, multiple: bool) {
        for endpoint in [Endpoint::Generate, Endpoint::Chat, Endpoint::Responses, Endpoint::Embeddings, Endpoint::Other] {
            read(endpoint, status, stream, multiple, &bytes);
        }
    }

    #[test]
    fn never_panics_on_broken_events(bytes in "(data: )?[{}\\[\\]\":,a-e0-9\n]{0,80}") {
        read(Endpoint::Generate, 200, true, true, bytes.as_bytes());
        read(Endpoint::Chat, 200, true, false, bytes.as_bytes());
        read(Endpoint::Responses, 200, true, false, bytes.as_bytes());
    }
}

#[test]
fn an_answer_that_is_given_up_says_so_and_is_no_error() {
    let mut reader = AnswerReader::new(Endpoint::Generate, 200, false, false);
    reader.push(&[b'a'; 1000], 1);
    assert!(reader.held_bytes() >= 1000);
    reader.give_up();
    reader.push(&[b'a'; 1000], 2);
    assert_eq!(reader.held_bytes(), 0);
    let answer = reader.finish(true);
    assert_eq!((answer.looked, answer.unread, answer.error), (false, Some("no_memory"), None));
    let mut long = AnswerReader::new(Endpoint::Generate, 200, false, false);
    long.push(&vec![b'a'; ANSWER_CAP_BYTES], 1);
    long.push(b"a", 1);
    assert_eq!(long.finish(true).unread, Some("too_long"));
    assert_eq!(AnswerReader::blind(Endpoint::Generate, 200).finish(true).unread, Some("content_encoding"));
}

#[test]
fn a_coded_answer_that_nobody_reads_anyway_is_not_called_unread() {
    let unread =
        |endpoint| AnswerReader::by_head(endpoint, 200, Some(b"gzip"), None, false).finish(true).unread;
    assert_eq!((unread(Endpoint::Generate), unread(Endpoint::Other)), (Some("content_encoding"), None));
}
