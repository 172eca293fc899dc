//! Endpoints beside generate, chat and completions: looked at for routing and the trace, never changed.

use milepost::trace::record::{Outcome, RequestRecord};
use milepost::wire::Endpoint;

use crate::harness::{Got, Step, TestRouter, Worker, ask, chunk, end, json, post, stream_head};

/// Sends one request and gives back what the worker got and the record.
async fn pass(path: &str, body: &str, answer: Vec<Step>) -> (Got, RequestRecord, Vec<u8>) {
    let worker = Worker::start(move |_| answer.clone()).await;
    let router = TestRouter::with(&[&worker], |c| "cache_aware".clone_into(&mut c.policy)).await;
    let response = ask(router.addr, post(path, body)).await;
    assert_eq!(response.status, 200);
    let got = worker.requests().remove(0);
    assert_eq!(got.body, body.as_bytes(), "the worker gets the body as it was sent");
    (got, router.finish_requests().await.remove(0), response.body)
}

#[tokio::test]
async fn embeddings_rerank_and_classify_are_routed_by_their_text_and_generate_nothing() {
    let usage = r#"{"object":"list","data":[{"embedding":[0.25,-1e-3],"index":0}],"usage":{"prompt_tokens":6,"total_tokens":6}}"#;
    let native = r#"{"embedding":[0.5],"meta_info":{"id":"x","prompt_tokens":6}}"#;
    let ranked = r#"[{"score":0.9,"document":"d1","index":0,"meta_info":{"prompt_tokens":6}}]"#;
    for (path, endpoint, body, answer, prompt_bytes) in [
        ("/v1/embeddings", Endpoint::Embeddings, r#"{"model":"m","input":["ab","cd"]}"#, usage, 5),
        ("/encode", Endpoint::Embeddings, r#"{"model":"m","text":"abcde"}"#, native, 5),
        ("/v1/rerank", Endpoint::Rerank, r#"{"model":"m","documents":["d1","d2"],"query":"q"}"#, ranked, 7),
        ("/rerank", Endpoint::Rerank, r#"{"model":"m","query":"q","documents":["d1"]}"#, ranked, 4),
        ("/v1/classify", Endpoint::Classify, r#"{"model":"m","input":"abc"}"#, usage, 3),
        ("/classify", Endpoint::Classify, r#"{"model":"m","text":["a","b"]}"#, native, 3),
    ] {
        let (_, r, passed) = pass(path, body, json(answer)).await;
        assert_eq!(passed, answer.as_bytes(), "{path}");
        assert_eq!((r.endpoint, &*r.body_look, r.model.as_deref()), (endpoint, "json", Some("m")), "{path}");
        assert_eq!((r.outcome, r.error), (Outcome::Done, None), "{path}: no token is no error here");
        assert_eq!((r.prompt_bytes, r.tokens.prompt_tokens), (Some(prompt_bytes), Some(6)), "{path}");
        assert_eq!((r.has_text, r.first_token_ns), (None, None), "{path}");
        assert_eq!(r.decision.unwrap().reason, "prefix_miss", "{path} is routed by its text");
    }
}

#[tokio::test]
async fn a_long_embedding_is_passed_whole_and_its_usage_still_told() {
    let vector = "0.0123456789,".repeat(4_096);
    let answer =
        format!(r#"{{"data":[{{"embedding":[{vector}1],"index":0}}],"usage":{{"prompt_tokens":3}}}}"#);
    let (_, r, passed) = pass("/v1/embeddings", r#"{"input":"a"}"#, json(&answer)).await;
    assert_eq!(passed, answer.as_bytes());
    assert_eq!((r.outcome, r.tokens.prompt_tokens), (Outcome::Done, Some(3)));
    assert_eq!(r.response_body_bytes, answer.len() as u64);
}

#[tokio::test]
async fn responses_are_followed_to_their_own_end() {
    let body = r#"{"model":"m","instructions":"S","input":[{"role":"user","content":"U"}],"max_output_tokens":2,"stream":true}"#;
    let created = "event: response.created\ndata: {\"response\":{\"status\":\"in_progress\"},\"type\":\"response.created\"}\n\n";
    let delta = "event: response.output_text.delta\ndata: {\"delta\":\"w \",\"type\":\"response.output_text.delta\"}\n\n";
    let completed = "event: response.completed\ndata: {\"response\":{\"status\":\"completed\",\"output\":[{\"content\":[{\"text\":\"w w \"}]}],\"usage\":{\"input_tokens\":4,\"output_tokens\":2}},\"type\":\"response.completed\"}\n\n";
    let whole = vec![stream_head(), chunk(created), chunk(delta), chunk(delta), chunk(completed), end()];
    let (_, r, passed) = pass("/v1/responses", body, whole).await;
    assert_eq!(passed, [created, delta, delta, completed].concat().as_bytes());
    assert_eq!((r.endpoint, r.outcome, r.prompt_bytes), (Endpoint::Responses, Outcome::Done, Some(3)));
    assert_eq!((r.sse_events, r.sse_done, r.max_new_tokens), (4, Some(true), Some(2)));
    assert_eq!((r.tokens.prompt_tokens, r.tokens.completion_tokens), (Some(4), Some(2)));
    assert_eq!((r.finish_reason.as_deref(), r.has_text), (Some("completed"), Some(true)));
    assert!(r.first_token_ns >= r.first_event_ns && r.first_token_ns.is_some());

    let without_end = vec![stream_head(), chunk(created), chunk(delta), end()];
    let (_, r, _) = pass("/v1/responses", body, without_end).await;
    assert_eq!((r.outcome, r.error.as_deref()), (Outcome::WorkerError, Some("truncated")));
}

/// sglang-router answers each of these lists with 422.
#[tokio::test]
async fn a_batch_reaches_the_worker_byte_for_byte() {
    let body = "{ \"text\" : [\"a \\u00e9\", \"b\"],\n\t\"rid\":[\"r1\",\"r2\"], \"sampling_params\":[ {\"max_new_tokens\": 4, \"top_k\":1.0},{\"max_new_tokens\":8} ],\
        \"lora_path\":[\"l1\",null], \"return_routed_experts\":true, \"unknown\" : {\"x\":[1e2, -0.0]},\"text\":[\"c\",\"d\"] }";
    let answer = r#"[{"text":"x","meta_info":{"id":"r1","prompt_tokens":2,"completion_tokens":4}},{"text":"y","meta_info":{"id":"r2","prompt_tokens":1,"completion_tokens":8}}]"#;
    let (got, r, passed) = pass("/generate", body, json(answer)).await;
    assert_eq!(got.header("content-length"), Some(body.len().to_string().as_str()));
    assert_eq!(passed, answer.as_bytes());
    assert_eq!((r.outcome, r.prompts, r.rid.as_deref()), (Outcome::Done, Some(2), Some("r1")));
    assert_eq!((r.samples, r.members()), (None, 2));
    assert_eq!(
        (r.max_new_tokens, r.tokens.prompt_tokens, r.tokens.completion_tokens),
        (Some(4), Some(3), Some(12))
    );
}
