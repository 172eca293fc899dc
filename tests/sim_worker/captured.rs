//! The simulated answers against captured ones: status, headers, keys and their order, chunk framing, error texts.

use clap::ValueEnum;
use milepost::sim::Dialect;

use crate::client::{Answer, send};
use crate::shape::Shape;
use crate::worker;

/// What of the body has to be equal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Same {
    /// Every byte.
    Bytes,
    /// Keys in order and kinds of values.
    Shape,
    /// Keys at the top in order; a value may be of another kind.
    Keys,
}

const GENERATE: &str = r#"{"text":"Hello world, this is","sampling_params":{"max_new_tokens":8,"temperature":0,"ignore_eos":true}}"#;
const GENERATE_STREAM: &str = r#"{"text":"Hello world, this is","stream":true,"sampling_params":{"max_new_tokens":8,"temperature":0,"ignore_eos":true}}"#;
const CHAT: &str = r#""model":"tiny","messages":[{"role":"user","content":"Hello world"}],"max_tokens":6,"temperature":0,"ignore_eos":true"#;
const COMPLETE: &str =
    r#""model":"tiny","prompt":"Hello world","max_tokens":6,"temperature":0,"ignore_eos":true"#;
const USAGE: &str = r#""stream":true,"stream_options":{"include_usage":true}"#;

/// Capture, method and path, body, what has to be equal.
type Case = (&'static str, &'static str, Option<String>, Same);

fn answers() -> Vec<Case> {
    let some = |body: &str| Some(body.to_owned());
    let chat = |more: &str| Some(format!("{{{CHAT}{more}}}"));
    let complete = |more: &str| Some(format!("{{{COMPLETE}{more}}}"));
    vec![
        ("generate_nonstream", "POST /generate", some(GENERATE), Same::Shape),
        ("generate_stream_raw", "POST /generate", some(GENERATE_STREAM), Same::Shape),
        ("chat_nonstream", "POST /v1/chat/completions", chat(""), Same::Shape),
        ("chat_stream_raw", "POST /v1/chat/completions", chat(",\"stream\":true"), Same::Shape),
        ("chat_stream_usage", "POST /v1/chat/completions", chat(&format!(",{USAGE}")), Same::Shape),
        (
            "chat_nonstream_return_meta_info",
            "POST /v1/chat/completions",
            chat(",\"return_meta_info\":true"),
            Same::Keys,
        ),
        ("completions_nonstream", "POST /v1/completions", complete(""), Same::Shape),
        ("completions_stream_usage", "POST /v1/completions", complete(&format!(",{USAGE}")), Same::Shape),
        ("GET_v1_models", "GET /v1/models", None, Same::Shape),
        ("GET_v1_loads", "GET /v1/loads", None, Same::Keys),
        ("GET_get_load", "GET /get_load", None, Same::Shape),
        ("GET_get_model_info", "GET /get_model_info", None, Same::Shape),
        ("GET_model_info", "GET /model_info", None, Same::Shape),
        ("GET_ping", "GET /ping", None, Same::Bytes),
        ("flush_cache_get", "GET /flush_cache", None, Same::Bytes),
        ("flush_cache_post", "POST /flush_cache", None, Same::Bytes),
        ("head_health", "HEAD /health", None, Same::Bytes),
        ("health", "GET /health", None, Same::Bytes),
    ]
}

fn native_errors() -> Vec<Case> {
    let ids = format!("[{}1]", "1,".repeat(5_999));
    let case = |name, body: &str, same| (name, "POST /generate", Some(body.to_owned()), same);
    vec![
        case("err_generate_no_input", r#"{"sampling_params":{}}"#, Same::Bytes),
        case("err_generate_no_input_stream", r#"{"stream":true,"sampling_params":{}}"#, Same::Bytes),
        case("err_generate_too_long", &format!(r#"{{"input_ids":{ids}}}"#), Same::Bytes),
        case("err_generate_too_long_stream", &format!(r#"{{"stream":true,"input_ids":{ids}}}"#), Same::Bytes),
        case(
            "err_generate_maxnew_too_large",
            r#"{"input_ids":[1,2],"sampling_params":{"max_new_tokens":100000}}"#,
            Same::Bytes,
        ),
        case(
            "err_generate_bad_sampling",
            r#"{"text":"Hello","sampling_params":{"temperature":-1}}"#,
            Same::Bytes,
        ),
        case(
            "err_generate_bad_sampling_key",
            r#"{"text":"Hello","sampling_params":{"no_such":1}}"#,
            Same::Bytes,
        ),
        case("err_generate_bad_type", r#"{"text":5}"#, Same::Shape),
        case("err_generate_bad_json", r#"{"text": "x"#, Same::Shape),
        case("err_generate_empty_body", "", Same::Shape),
        ("err_generate_no_ctype", "POST /generate text/plain", Some(GENERATE.to_owned()), Same::Shape),
    ]
}

fn chat_errors() -> Vec<Case> {
    let long =
        format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"{}"}}]"#, "word ".repeat(12_000));
    let case = |name, body: &str, same| (name, "POST /v1/chat/completions", Some(body.to_owned()), same);
    let meta_info = format!("{{{CHAT},{USAGE},\"return_meta_info\":true}}");
    vec![
        case("err_chat_too_long", &format!("{long}}}"), Same::Shape),
        case("err_chat_too_long_stream", &format!("{long},\"stream\":true}}"), Same::Shape),
        case("err_chat_bad_json", r#"{"model": "#, Same::Shape),
        case("err_chat_no_messages", r#"{"model":"tiny"}"#, Same::Shape),
        case("err_chat_empty_messages", r#"{"model":"tiny","messages":[]}"#, Same::Bytes),
        case("chat_stream_return_meta_info", &meta_info, Same::Bytes),
        (
            "err_chat_wrong_ctype",
            "POST /v1/chat/completions text/plain",
            Some(format!("{{{CHAT}}}")),
            Same::Shape,
        ),
        ("err_404", "GET /no/such/path", None, Same::Bytes),
        ("err_405", "GET /generate", None, Same::Bytes),
        ("err_405_put_chat", "PUT /v1/chat/completions", Some("{}".to_owned()), Same::Bytes),
        ("err_retrieve_model", "GET /v1/models/nope", None, Same::Bytes),
    ]
}

fn captured(dialect: Dialect, name: &str) -> Option<Answer> {
    let path = format!("{}/tests/data/sim/{}/{name}.txt", env!("CARGO_MANIFEST_DIR"), dialect.name());
    let text = std::fs::read_to_string(path).ok()?;
    let (_, answer) = text.split_once('\n')?;
    // `curl -i` takes the chunk framing off unless told not to; put it back.
    let answer = answer.replace("\r\n", "\n");
    let (head, body) = answer.split_once("\n\n")?;
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let body = match length.filter(|n| *n <= body.len()) {
        Some(length) => body[..length].to_owned(),
        // `curl -i` takes the chunk framing off unless told not to; put it back.
        None if lower.contains("transfer-encoding: chunked") && !name.ends_with("_raw") => {
            let events = body.trim_end().split("\n\n").map(|e| format!("{e}\n\n"));
            events.map(|e| format!("{:x}\n{e}\n", e.len())).chain(["0\n\n".to_owned()]).collect()
        }
        None => body.to_owned(),
    };
    let answer = format!("{head}\n\n{body}");
    Some(Answer::parse(answer.as_bytes(), name.starts_with("head_")))
}

/// Headers without what differs from answer to answer, and without ours. Of an answer without a body they are sorted: hyper
/// writes its `content-length: 0` last.
fn headers(answer: &Answer) -> Vec<(&str, &str)> {
    let changing = |name: &str| ["date", "content-length"].contains(&name);
    let ours = |name: &str| ["x-milepost-simulated", "connection"].contains(&name);
    let kept = answer.headers.iter().filter(|h| !ours(&h.0));
    let mut kept: Vec<_> =
        kept.map(|(n, v)| (n.as_str(), if changing(n) { "" } else { v.as_str() })).collect();
    if answer.body().trim().is_empty() {
        kept.sort_unstable();
    }
    kept
}

fn compare(what: &str, real: &Answer, sim: &Answer, same: Same) {
    assert_eq!(sim.status, real.status, "{what}: {sim:?}");
    assert_eq!(headers(sim), headers(real), "{what}");
    assert_eq!(sim.header("x-milepost-simulated"), Some("1"), "{what}");
    assert!(sim.complete && real.complete, "{what}: {sim:?} {real:?}");
    if real.body().trim().is_empty() {
        assert_eq!(sim.body(), "", "{what}");
        return;
    }
    match same {
        Same::Bytes => assert_eq!(sim.chunks, real.chunks, "{what}"),
        Same::Shape if real.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")) => {
            compare_streams(what, &stream_shape(real), &stream_shape(sim));
        }
        Same::Shape => assert_eq!(Shape::of(&sim.body()), Shape::of(&real.body()), "{what}"),
        Same::Keys => {
            let (sim, real) = (Shape::of(&sim.body()), Shape::of(&real.body()));
            let wanted: Vec<&str> = real.keys().into_iter().filter(|k| *k != "sglext").collect();
            assert_eq!(sim.keys(), wanted, "{what}");
        }
    }
}

/// A stream is the captured one, save that a slow machine merges events: then one before the last may be missing, but never
/// the role event of a chat.
fn compare_streams(what: &str, real: &[Shape], sim: &[Shape]) {
    assert_eq!(sim.last(), real.last(), "{what}");
    let mut expected = real.iter();
    for shape in sim {
        assert!(expected.any(|e| e == shape), "{what}: {shape:?} is not next in {real:?}");
    }
    if what.contains("chat") {
        assert_eq!(sim.first(), real.first(), "{what}");
    }
}

/// The shapes of the events; equal neighbours count once, as servers merge events.
fn stream_shape(answer: &Answer) -> Vec<Shape> {
    let mut events = answer.events();
    assert_eq!(events.pop(), Some("[DONE]"));
    let mut shapes: Vec<Shape> = events.into_iter().map(Shape::of).collect();
    shapes.dedup();
    shapes
}

#[tokio::test]
async fn every_captured_answer_has_its_like() {
    let mut compared = 0;
    for &dialect in Dialect::value_variants() {
        let (address, _stop) = worker(dialect, |config| {
            config.profile.context_tokens = 4_096;
        })
        .await;
        for (name, request, body, same) in answers().into_iter().chain(native_errors()).chain(chat_errors()) {
            let Some(real) = captured(dialect, name) else {
                continue;
            };
            let mut parts = request.split(' ');
            let (method, path) = (parts.next().expect("method"), parts.next().expect("path"));
            let content_type = parts.next().map(|t| format!("content-type: {t}\r\n")).unwrap_or_default();
            let sim = send(address, method, path, &content_type, body.as_deref()).await.expect("answers");
            compare(&format!("{} {name}", dialect.name()), &real, &sim, same);
            compared += 1;
        }
    }
    assert!(compared > 100, "captures are missing: {compared}");
}
