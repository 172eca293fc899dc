//! OTLP: what a collector gets, by its rules: ids in hexadecimal, times as strings, parents that are there.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{TRACE, export, requests};
use crate::http::{reply, scripted};
use crate::process::{Folder, milepost};

fn spans(body: &Value) -> Vec<Value> {
    let resource = &body["resourceSpans"][0];
    let service = &resource["resource"]["attributes"][0];
    assert_eq!(
        (&service["key"], &service["value"]["stringValue"]),
        (&"service.name".into(), &"milepost".into())
    );
    resource["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn unix_ns(span: &Value, end: &str) -> u64 {
    span[end].as_str().expect("a 64-bit number is a string").parse().unwrap()
}

fn of<'a>(span: &'a Value, attribute: &str) -> Option<&'a Value> {
    span["attributes"].as_array().unwrap().iter().find(|a| a["key"] == attribute).map(|a| &a["value"])
}

#[test]
fn spans_are_trees_of_the_requests_with_their_exact_times() {
    let folder = Folder::new();
    export(&folder, "otlp", "t.json");
    let spans: Vec<Value> =
        folder.read("t.json").lines().flat_map(|line| spans(&serde_json::from_str(line).unwrap())).collect();
    let hex = |id: &Value, digits: usize| {
        let id = id.as_str().unwrap();
        assert!(id.len() == digits && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert!(id.bytes().any(|b| b != b'0'), "an id of zeros is none");
        id.to_owned()
    };
    let by_id: BTreeMap<String, &Value> = spans.iter().map(|span| (hex(&span["spanId"], 16), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "no two spans have one id");
    for span in &spans {
        hex(&span["traceId"], 32);
        assert!(unix_ns(span, "startTimeUnixNano") <= unix_ns(span, "endTimeUnixNano"));
        if let Some(parent) = span.get("parentSpanId") {
            let parent = by_id[parent.as_str().unwrap()];
            assert_eq!(parent["traceId"], span["traceId"]);
            assert!(unix_ns(parent, "startTimeUnixNano") <= unix_ns(span, "startTimeUnixNano"));
            assert!(unix_ns(span, "endTimeUnixNano") <= unix_ns(parent, "endTimeUnixNano"));
        }
    }
    for record in &requests() {
        let seq = record["seq"].to_string();
        let is_it = |span: &&Value| of(span, "milepost.seq").is_some_and(|v| v["intValue"] == seq);
        let root = spans.iter().find(is_it).unwrap();
        assert_eq!((root["kind"].as_u64(), root.get("parentSpanId")), (Some(2), None));
        assert_eq!(unix_ns(root, "startTimeUnixNano"), record["arrival_unix_ns"].as_u64().unwrap());
        let took_ns = unix_ns(root, "endTimeUnixNano") - unix_ns(root, "startTimeUnixNano");
        assert_eq!(took_ns, record["end_ns"].as_u64().unwrap());
        assert_eq!(root.get("status").is_some(), record["outcome"] != "done");
        let failed = record["failed_attempts"].as_array().map_or(0, Vec::len);
        let to_workers = spans.iter().filter(|span| span["traceId"] == root["traceId"] && span["kind"] == 3);
        assert_eq!(to_workers.filter(|span| span.get("status").is_some()).count(), failed);
    }
    let names: Vec<&str> = spans.iter().filter_map(|span| span["name"].as_str()).collect();
    for name in ["decision", "router queue", "server queue", "prefill", "decode"] {
        assert!(names.contains(&name), "{name}");
    }
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_gets_every_span_once() {
    let folder = Folder::new();
    let (taken, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (kept, count) = (Arc::clone(&taken), Arc::clone(&asked));
    let url = scripted(move |request, stream| {
        assert!(request.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{request:.200}");
        assert!(request.contains("content-type: application/json\r\n"));
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            return reply(stream, "503 Service Unavailable", "{}");
        }
        kept.lock().unwrap().push(request.split_once("\r\n\r\n").unwrap().1.to_owned());
        reply(stream, "200 OK", "{\"partialSuccess\":{}}");
    });
    let ended = milepost(&folder, &format!("trace export {TRACE} --to otlp --out {url}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    export(&folder, "otlp", "t.json");
    let sent = taken.lock().unwrap().join("\n") + "\n";
    assert_eq!(sent, folder.read("t.json"), "what is sent is what is written");
    assert_eq!(asked.load(Ordering::Relaxed), sent.lines().count() + 1);
}

#[test]
fn spans_that_are_not_taken_fail_the_command() {
    let folder = Folder::new();
    let refusing = scripted(|_, stream| reply(stream, "400 Bad Request", "{\"message\":\"not here\"}"));
    let partial =
        scripted(|_, stream| reply(stream, "200 OK", "{\"partialSuccess\":{\"rejectedSpans\":\"7\"}}"));
    for (out, code, words) in [
        (refusing.as_str(), 1, "status 400: {\"message\":\"not here\"}"),
        (&partial, 1, "refused 7 spans"),
        ("https://collector:4318", 2, "without TLS"),
    ] {
        let ended = milepost(&folder, &format!("trace export {TRACE} --to otlp --out {out}"));
        assert_eq!((ended.code, ended.stderr.contains(words)), (Some(code), true), "{}", ended.stderr);
    }
}
