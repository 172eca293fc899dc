//! What a worker gets of a client's body.

use serde_json::Value;

use crate::stage::Stage;
use crate::table::{Group, Topic, differs, same};

const PASSED: &str = "a router passes bodies as they came; the engine says what it takes";

/// The cases.
pub static TOPIC: Topic = Topic {
    title: "Bodies",
    groups: &[Group {
        flags: "--policy round_robin --disable-retries --disable-circuit-breaker",
        workers: 1,
        cases: &[
            differs(
                "/generate arrives byte for byte",
                |s| exact(s, "/generate", crate::stage::PROMPT),
                "re-written, with background, log_metrics, model, no_logs, return_bytes, return_entropy, return_hidden_states, return_text_in_logprobs, stream added",
                "byte for byte",
                PASSED,
            ),
            differs(
                "/v1/chat/completions arrives byte for byte",
                |s| exact(s, CHAT, HELLO),
                "re-written, with continue_final_message, ignore_eos, logprobs, no_stop_trim, return_hidden_states, separate_reasoning, skip_special_tokens, stream, stream_reasoning added",
                "byte for byte",
                PASSED,
            ),
            differs(
                "/generate: unknown field",
                |s| {
                    kept(
                        s,
                        "/generate",
                        r#"{"text":"a","return_routed_experts":true}"#,
                        "/return_routed_experts",
                    )
                },
                "200, dropped",
                "200, kept",
                PASSED,
            ),
            differs(
                "/generate: unknown field in sampling_params",
                |s| {
                    kept(
                        s,
                        "/generate",
                        r#"{"text":"a","sampling_params":{"custom_params":{"a":1}}}"#,
                        "/sampling_params/custom_params",
                    )
                },
                "200, dropped",
                "200, kept",
                PASSED,
            ),
            differs(
                "/v1/chat/completions: unknown field",
                |s| {
                    kept(
                        s,
                        CHAT,
                        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"mine":1}"#,
                        "/mine",
                    )
                },
                "200, dropped",
                "200, kept",
                PASSED,
            ),
            differs(
                "/v1/chat/completions: unknown field in a message",
                |s| {
                    kept(
                        s,
                        CHAT,
                        r#"{"model":"m","messages":[{"role":"user","content":"a","mine":1}]}"#,
                        "/messages/0/mine",
                    )
                },
                "200, dropped",
                "200, kept",
                PASSED,
            ),
            same(
                "/v1/completions: unknown field",
                |s| kept(s, "/v1/completions", r#"{"model":"m","prompt":"a","mine":1}"#, "/mine"),
                "200, kept",
            ),
            differs(
                "/v1/chat/completions: max_tokens",
                |s| {
                    kept(
                        s,
                        CHAT,
                        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":5}"#,
                        "/max_tokens",
                    )
                },
                "200, dropped",
                "200, kept",
                PASSED,
            ),
            differs(
                "/generate: batch of texts",
                |s| status(s, "/generate", r#"{"text":["a","b"]}"#),
                "422, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/generate: list of rids",
                |s| status(s, "/generate", r#"{"text":"a","rid":["r1","r2"]}"#),
                "422, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/generate: list of sampling_params",
                |s| status(s, "/generate", r#"{"text":"a","sampling_params":[{},{}]}"#),
                "422, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/generate: list of lora_path",
                |s| status(s, "/generate", r#"{"text":"a","lora_path":["l1","l2"]}"#),
                "422, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/generate: batch of input_ids",
                |s| status(s, "/generate", r#"{"input_ids":[[1,2],[3]]}"#),
                "200, sent",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/generate: top_k as a float",
                |s| status(s, "/generate", r#"{"text":"a","sampling_params":{"top_k":1.0}}"#),
                "422, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/v1/completions: prompt of token ids",
                |s| status(s, "/v1/completions", r#"{"model":"m","prompt":[1,2,3]}"#),
                "422, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/v1/completions without model",
                |s| status(s, "/v1/completions", r#"{"prompt":"a"}"#),
                "422, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/v1/chat/completions without model",
                |s| status(s, CHAT, r#"{"messages":[{"role":"user","content":"a"}]}"#),
                "200, sent",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/v1/chat/completions with n 11",
                |s| status(s, CHAT, r#"{"model":"m","messages":[{"role":"user","content":"a"}],"n":11}"#),
                "400, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/v1/chat/completions with temperature 3",
                |s| {
                    status(
                        s,
                        CHAT,
                        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":3}"#,
                    )
                },
                "400, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/v1/chat/completions with empty content",
                |s| status(s, CHAT, r#"{"model":"m","messages":[{"role":"user","content":""}]}"#),
                "400, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/v1/chat/completions with stream_options and no stream",
                |s| {
                    status(
                        s,
                        CHAT,
                        r#"{"model":"m","messages":[{"role":"user","content":"a"}],"stream_options":{"include_usage":true}}"#,
                    )
                },
                "400, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/generate, not JSON",
                |s| status(s, "/generate", "{"),
                "400, not sent to a worker",
                "200, sent byte for byte",
                PASSED,
            ),
            differs(
                "/generate without content-type",
                untyped,
                "415, workers got 0",
                "200, workers got 1",
                "engines take it",
            ),
        ],
    }],
};

const CHAT: &str = "/v1/chat/completions";
const HELLO: &str = r#"{"model":"m", "messages":[{"role":"user","content":"h\u00e9"}]}"#;

fn exact(s: &Stage, path: &str, body: &str) -> String {
    s.post(path, body);
    let got = s.only().body;
    if got == body {
        return "byte for byte".to_owned();
    }
    let sent: Value = serde_json::from_str(body).unwrap();
    let got: Value = serde_json::from_str(&got).unwrap();
    let added = got.as_object().unwrap().keys().filter(|k| sent.get(k.as_str()).is_none());
    format!("re-written, with {} added", added.cloned().collect::<Vec<_>>().join(", "))
}

fn kept(s: &Stage, path: &str, body: &str, pointer: &str) -> String {
    let status = s.post(path, body).status;
    let kept = s.workers[0].got().first().is_some_and(|g| g.json().pointer(pointer).is_some());
    format!("{status}, {}", if kept { "kept" } else { "dropped" })
}

fn status(s: &Stage, path: &str, body: &str) -> String {
    let answer = s.post(path, body);
    let untouched = s.workers[0].got().first().is_some_and(|g| g.body == body);
    let what = match (s.workers[0].got().len(), untouched) {
        (0, _) => "not sent to a worker",
        (_, true) => "sent byte for byte",
        _ => "sent",
    };
    format!("{}, {what}", answer.status)
}

fn untyped(s: &Stage) -> String {
    let body = crate::stage::PROMPT;
    let head = format!(
        "POST /generate HTTP/1.1\r\nhost: r\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    format!("{}, workers got {}", s.send(head + body).status, s.counts())
}
