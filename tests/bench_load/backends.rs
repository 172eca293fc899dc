//! Servers that are no SGLang: what they are asked, what is read of their answers, and what stays empty.

use std::collections::BTreeMap;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::LoadConfig;
use milepost::load::backend::Backend;
use milepost::load::body::RequestOptions;
use milepost::load::failure::Class;
use milepost::load::row::Row;
use serde_json::Value;

use crate::cli::{Folder, SMALL, bench, output, text};
use crate::server::{Got, Server, Step, chunk, end, head, json, stream};
use crate::{config, measured};

/// vLLM: the usage in an event of its own, null before.
const COMPLETIONS: &str = "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"a\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}\n\n\
    data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\" b c\",\"logprobs\":null,\"finish_reason\":\"length\",\"stop_reason\":null}],\"usage\":null}\n\n\
    data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":6,\"total_tokens\":14,\"completion_tokens\":8}}\n\n\
    data: [DONE]\n\n";
const CHAT: &str = "data: {\"id\":\"chat-1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n\
    data: {\"id\":\"chat-1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n\n\
    data: {\"id\":\"chat-1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" b\"},\"finish_reason\":\"length\"}]}\n\n\
    data: {\"id\":\"chat-1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":6,\"total_tokens\":14,\"completion_tokens\":8}}\n\n\
    data: [DONE]\n\n";
/// An older `LMDeploy` in chat: a role in every event, and the counts so far.
const RUNNING: &str = "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":6,\"total_tokens\":9,\"completion_tokens\":3}}\n\n\
    data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\" b\",\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":6,\"total_tokens\":14,\"completion_tokens\":8}}\n\n\
    data: [DONE]\n\n";
/// A server that never heard of `stream_options`: no counts at all.
const UNCOUNTED: &str = "data: {\"id\":\"1\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\n\
    data: {\"id\":\"1\",\"object\":\"text_completion\",\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\" b\",\"finish_reason\":\"length\"}]}\n\n\
    data: [DONE]\n\n";
/// Triton before `TensorRT-LLM`'s ensemble: a piece of text in each event, no counts, no closing event.
const TRITON: &str = "data: {\"context_logits\":0.0,\"cum_log_probs\":0.0,\"model_name\":\"ensemble\",\"model_version\":\"1\",\"sequence_end\":false,\"sequence_id\":0,\"sequence_start\":false,\"text_output\":\"a\"}\n\n\
    data: {\"context_logits\":0.0,\"cum_log_probs\":0.0,\"model_name\":\"ensemble\",\"model_version\":\"1\",\"sequence_end\":false,\"sequence_id\":0,\"sequence_start\":false,\"text_output\":\" b\"}\n\n\
    data: {\"context_logits\":0.0,\"cum_log_probs\":0.0,\"model_name\":\"ensemble\",\"model_version\":\"1\",\"sequence_end\":false,\"sequence_id\":0,\"sequence_start\":false,\"text_output\":\" c\"}\n\n";

fn events(backend: Backend) -> &'static str {
    match backend {
        Backend::Vllm => COMPLETIONS,
        Backend::VllmChat => CHAT,
        Backend::LmdeployChat => RUNNING,
        Backend::Lmdeploy => UNCOUNTED,
        _ => TRITON,
    }
}

/// Not one page of SGLang's; the model list of the `OpenAI` API where there is one.
fn about(got: &Got, backend: Backend) -> Option<Vec<Step>> {
    match got.path.as_str() {
        "/v1/models" if backend != Backend::Triton => {
            Some(json("200 OK", r#"{"object":"list","data":[{"id":"m","object":"model"}]}"#))
        }
        path if path == backend.path(true) || path == backend.path(false) => None,
        _ => Some(json("404 Not Found", r#"{"detail":"Not Found"}"#)),
    }
}

fn serving(backend: Backend) -> Server {
    Server::new(&Clock::system(), move |got| {
        about(got, backend).unwrap_or_else(|| stream(events(backend), Duration::ZERO))
    })
}

const OTHERS: [Backend; 5] =
    [Backend::Vllm, Backend::VllmChat, Backend::Lmdeploy, Backend::LmdeployChat, Backend::Triton];

/// A whole run of the command before each: it succeeds, counts what it can, and leaves empty what nobody tells.
#[tokio::test]
async fn a_run_before_each_server_has_times_and_no_server_columns() {
    for backend in OTHERS {
        let (name, folder) = (backend.name(), Folder::new(backend.name()));
        let server = serving(backend);
        let args =
            format!("--backend {name} --base-url {} {SMALL} --disable-ignore-eos", server.listen().await);
        let out = output(bench(&folder, &args)).await;
        let (told, errors) = (text(&out.stdout), text(&out.stderr));
        assert_eq!(out.status.code(), Some(0), "{name}: {errors}{told}");
        assert!(told.contains(name) && told.contains("the columns for them are empty"), "{name}: {told}");
        assert!(!told.contains("SGLang") && !errors.contains("SGLang"), "{name}: {errors}{told}");
        let csv = folder.read("milepost-bench/latest/requests.csv");
        let names: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
        let rows: Vec<BTreeMap<&str, &str>> =
            csv.lines().skip(1).map(|row| names.iter().copied().zip(row.split(',')).collect()).collect();
        assert_eq!(rows.len(), 3, "{csv}");
        for row in &rows {
            assert_eq!(row["success"], "True", "{name}: {csv}");
            for column in ["host", "queue_time_start", "queue_time_end", "server_created_time"] {
                assert_eq!(row[column], "", "{name} {column}: {csv}");
            }
        }
        let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
        assert_eq!(run["config"]["backend"], name, "{name}");
        assert!(run["metrics"]["mean_ttft_client_ms"].as_f64() > Some(0.0), "{name}: {}", run["metrics"]);
        assert!(server.load().iter().all(|got| got.path == backend.path(true)), "{name}");
    }
}

async fn one(backend: Backend, request: RequestOptions, answer: Vec<Step>) -> Row {
    let server =
        Server::new(&Clock::system(), move |got| about(got, backend).unwrap_or_else(|| answer.clone()));
    let config = LoadConfig { backend, request, ..config(&server.listen().await, 1) };
    measured(config).await.rows.held()[0].clone()
}

#[tokio::test]
async fn tokens_are_the_servers_or_else_the_events_with_text() {
    for (backend, counted, told) in [
        (Backend::Vllm, Some(8), Some((6, 8))),
        (Backend::VllmChat, Some(8), Some((6, 8))),
        (Backend::LmdeployChat, Some(8), Some((6, 8))),
        (Backend::Lmdeploy, Some(2), None),
        (Backend::Triton, Some(3), None),
    ] {
        let row = one(backend, RequestOptions::default(), stream(events(backend), Duration::ZERO)).await;
        assert!(row.success() && row.has_generated_text, "{backend:?}: {:?}", row.failure);
        assert_eq!(row.decode_length(), counted, "{backend:?}");
        assert_eq!(row.prompt_tokens.zip(row.completion_tokens), told, "{backend:?}");
        assert!(row.client_first_token_ns.is_some(), "{backend:?}");
    }
}

#[tokio::test]
async fn whole_answers_are_read_too() {
    let plain = RequestOptions { stream: false, ..RequestOptions::default() };
    for (backend, body) in [
        (
            Backend::Vllm,
            r#"{"id":"1","choices":[{"index":0,"text":"a b","finish_reason":"length"}],"usage":{"prompt_tokens":6,"completion_tokens":8}}"#,
        ),
        (
            Backend::LmdeployChat,
            r#"{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"a b"},"finish_reason":"length"}]}"#,
        ),
        (Backend::Triton, r#"{"model_name":"ensemble","model_version":"1","text_output":"a b"}"#),
    ] {
        let row = one(backend, plain.clone(), json("200 OK", body)).await;
        assert!(row.success() && row.has_generated_text, "{backend:?}: {:?}", row.failure);
    }
}

/// A Triton stream has no closing event: what tells that it was cut is half an event, or the connection.
#[tokio::test]
async fn broken_answers_of_triton_are_failures() {
    let half = &TRITON[..TRITON.len() - 20];
    let sse = || head("200 OK", "text/event-stream", "");
    for (answer, class, word) in [
        (vec![sse(), chunk(half), end()], Class::Truncated, "without an end"),
        (vec![sse(), chunk(TRITON), Step::Close], Class::Truncated, "inside the answer"),
        (
            vec![sse(), chunk("data: {\"error\":\"in ensemble 'ensemble', too long\"}\n\n"), end()],
            Class::ErrorEvent,
            "too long",
        ),
        (vec![sse(), chunk("data: {\"text_output\":\"\"}\n\n"), end()], Class::Empty, "no token"),
        (vec![sse(), end()], Class::Empty, "no token"),
        (
            json("400 Bad Request", r#"{"error":"unexpected inference input"}"#),
            Class::HttpStatus,
            "unexpected",
        ),
        (json("200 OK", r#"{"text_output":""}"#), Class::Empty, "no token"),
    ] {
        let row = one(Backend::Triton, RequestOptions::default(), answer).await;
        let failure = row.failure.expect("a failure");
        assert!(failure.class == class && failure.text.contains(word), "{failure}");
    }
}
