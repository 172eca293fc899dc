//! Secrets of a client, in every place where it may put them, and none in anything that the router says or writes.
//!
//! Rule: the canaries must have reached the worker, or their absence elsewhere would prove nothing. Deliberately not here:
//! what the trace keeps by design (path, model, ids).

use std::sync::{Arc, Mutex};

use crate::http::{exchange, get, post, reply, scripted};
use crate::process::{Folder, Router};

/// One for each place; none holds another.
const CANARIES: [&str; 12] = [
    "canaryPROMPT",
    "canaryAUTH",
    "canaryCOOKIE",
    "canaryFIELD",
    "canaryQUERY",
    "canaryBROKEN",
    "canaryHEADER",
    "canaryANSWER",
    "canaryMESSAGE",
    "canaryPASSWORD",
    "canaryHEAD",
    "canaryPROXY",
];

const HEADERS: &str = "authorization: Bearer canaryAUTH\r\ncookie: sid=canaryCOOKIE\r\nproxy-authorization: Basic canaryPROXY\r\nx-api-key: canaryHEADER\r\n";

/// A worker whose good answers, errors and streams all quote the client and bring a text of their own.
fn worker(seen: Arc<Mutex<String>>) -> String {
    scripted(move |request, stream| {
        seen.lock().unwrap().push_str(request);
        let quoted = serde_json::Value::from(request).to_string();
        let meta = r#""meta_info":{"finish_reason":{"type":"length","length":1},"prompt_tokens":3,"completion_tokens":1}"#;
        match request {
            r if r.contains("canaryBROKEN") || r.contains("fail") => {
                reply(stream, "400 Bad Request", &format!("{{\"error\":{{\"message\":{quoted}}}}}"));
            }
            r if r.contains("abort") => {
                let meta =
                    meta.replace("\"type\":\"length\"", &format!("\"type\":\"abort\",\"message\":{quoted}"));
                reply(stream, "200 OK", &format!("{{\"text\":\"canaryANSWER\",{meta}}}"));
            }
            r if r.starts_with("POST ") => {
                reply(stream, "200 OK", &format!("{{\"text\":\"canaryANSWER\",\"echo\":{quoted},{meta}}}"));
            }
            _ => reply(stream, "200 OK", "{}"),
        }
    })
}

fn requests() -> Vec<Vec<u8>> {
    let body = |extra: &str| {
        format!(
            "{{\"text\":\"canaryPROMPT one two\",\"user\":\"canaryFIELD\",\"sampling_params\":{{\"max_new_tokens\":1}}{extra}}}"
        )
    };
    let chat = r#"{"model":"m","messages":[{"role":"system","content":"canaryPROMPT"},{"role":"user","content":[{"type":"text","text":"canaryMESSAGE"}]}],"user":"canaryFIELD"}"#;
    vec![
        post("/generate?key=canaryQUERY", HEADERS, &body("")).into_bytes(),
        post("/generate?key=canaryQUERY", HEADERS, &body(",\"fail\":1")).into_bytes(),
        post("/generate", HEADERS, &body(",\"abort\":1")).into_bytes(),
        post("/generate", HEADERS, "{\"text\": \"canaryBROKEN").into_bytes(),
        post("/v1/chat/completions", HEADERS, chat).into_bytes(),
        post("/v1/completions", HEADERS, r#"{"model":"m","prompt":["canaryPROMPT","canaryMESSAGE"]}"#)
            .into_bytes(),
        post("/other?token=canaryQUERY", HEADERS, "canaryPROMPT").into_bytes(),
        post("/workers", HEADERS, r#"{"url":"http://u:canaryPASSWORD@h:1","api_key":"canaryFIELD"}"#)
            .into_bytes(),
        post("/workers", HEADERS, r#"{"url":"canaryPROMPT"}"#).into_bytes(),
        post("/milepost/nothing?x=canaryQUERY", HEADERS, "canaryPROMPT").into_bytes(),
        // No head that can be read, one that is too large, and a URL that is none.
        b"canaryHEAD\r\n\r\n".to_vec(),
        b"GET /canary HTTP/1.1\r\nhost: r\r\nx: canaryHEAD\x01\r\n\r\n".to_vec(),
        b"GET http://u:canaryPASSWORD@[/ HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n".to_vec(),
        b"CONNECT u:canaryPASSWORD@h:1 HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n".to_vec(),
    ]
}

#[test]
fn nothing_of_a_client_is_said_or_written() {
    let folder = Folder::new();
    let seen = Arc::new(Mutex::new(String::new()));
    let url = worker(Arc::clone(&seen));
    let args = format!(
        "--worker-urls {url} --trace-log t.jsonl --trace-decisions journal --log-level debug --policy cache_aware"
    );
    let mut router = Router::start(&folder, &args);
    router.process.line("healthy");
    let requests = requests();
    let mut answers = String::new();
    for request in &requests {
        answers += &exchange(&router.address, request).1;
    }
    let asked = [
        get(&router.metrics, "/metrics"),
        get(&router.address, "/workers"),
        get(&router.address, "/readiness"),
        get(&router.address, "/milepost/trace"),
    ];
    for (status, _) in &asked {
        assert_eq!(*status, 200);
    }
    let ended = router.process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    // What was sent arrived, so there was something to keep quiet about; cookies and keys stop at the router.
    let seen = seen.lock().unwrap();
    let passed =
        ["canaryPROMPT", "canaryAUTH", "canaryFIELD", "canaryQUERY", "canaryBROKEN", "canaryMESSAGE"];
    for canary in passed {
        assert!(seen.contains(canary), "{canary} reaches the worker");
    }
    for stopped in ["canaryCOOKIE", "canaryHEADER", "canaryPROXY", "canaryPASSWORD", "canaryHEAD"] {
        assert!(!seen.contains(stopped), "{stopped} stops at the router");
    }
    assert!(answers.contains("canaryANSWER"));

    let trace = folder.read("t.jsonl");
    let of = |kind: &str| trace.lines().filter(|l| l.contains(&format!("\"kind\":\"{kind}\""))).count();
    assert_eq!(of("request") + of("connection"), requests.len() + 3, "each left a record: {trace}");
    let written = [("stderr", &ended.stderr), ("stdout", &ended.stdout), ("trace", &trace)];
    let told =
        ["/metrics", "/workers", "/readiness", "/milepost/trace"].into_iter().zip(asked.iter().map(|a| &a.1));
    for (place, text) in written.into_iter().chain(told) {
        for canary in CANARIES {
            assert!(!text.contains(canary), "{canary} in {place}: {text}");
        }
    }
}
