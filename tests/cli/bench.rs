//! `milepost bench` before a simulated worker: data sets it cannot read, flags it does not know, Ctrl-C.
//!
//! Deliberately not here: its flags one by one and its files, see `tests/bench_load/cli.rs`.

use std::io::Write;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use rustix::process::Signal;

use crate::http::{reply, scripted};
use crate::process::{Folder, PATIENCE, Process, milepost, worker};

fn data(name: &str) -> String {
    format!("{}/tests/data/load/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn data_sets_that_cannot_be_read_say_where_and_why() {
    let folder = Folder::new();
    folder.write("empty.jsonl", "");
    folder.write("no_prompt.jsonl", "{\"prompt\":\"a b\",\"output_len\":2}\n\n{\"output_len\":2}\n");
    folder.write("cut.json", "[{\"conversations\":[{\"value\":\"a\"},\n{\"value\":\"b\"}");
    let (malformed, latin1) = (data("custom_malformed.jsonl"), data("custom_latin1.jsonl"));
    for (args, words) in [
        ("sharegpt", &["--dataset-path is missing", "huggingface.co", "--dataset-name random"][..]),
        ("custom", &["--dataset-path is missing", "\"prompt\""]),
        ("custom --dataset-path none.jsonl", &["--dataset-path none.jsonl", "No such file"]),
        ("custom --dataset-path .", &["--dataset-path .", "directory"]),
        ("custom --dataset-path empty.jsonl", &["no prompt is left"]),
        ("custom --dataset-path no_prompt.jsonl", &["no_prompt.jsonl line 3", "prompt"]),
        ("sharegpt --dataset-path cut.json", &["cut.json line 2", "expected a JSON array"]),
        (&format!("custom --dataset-path {malformed}"), &["custom_malformed.jsonl line 2"]),
        (&format!("custom --dataset-path {latin1}"), &["line 2: not UTF-8"]),
        ("random --no-such-flag", &["--no-such-flag"]),
    ] {
        // Port 9 of this host is never asked: a data set is read before anything is sent.
        let ended = milepost(&folder, &format!("bench --base-url http://127.0.0.1:9 --dataset-name {args}"));
        assert_eq!(ended.code, Some(2), "{args}: {}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{args}: {word:?} in {}", ended.stderr);
        }
        assert!(!folder.0.join("milepost-bench").exists(), "{args}: no result of a run that was none");
    }
}

#[test]
fn a_byte_order_mark_is_read_over_and_unneeded_flags_are_noted() {
    let folder = Folder::new();
    let (sim, url) = worker(&folder, "--speedup 1000");
    folder.write("bom.jsonl", "\u{feff}{\"id\":\"b-1\",\"prompt\":\"a b\",\"output_len\":2}\n");
    let args =
        "--dataset-name custom --dataset-path bom.jsonl --tokenizer x --plot-throughput --disable-tqdm";
    let ended = milepost(&folder, &format!("bench --base-url {url} {args}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for flag in ["--tokenizer", "--plot-throughput"] {
        let note = format!("note: {flag} is not needed here");
        assert!(ended.stderr.contains(&note), "{}", ended.stderr);
    }
    assert!(ended.stdout.contains("SIMULATED"), "{}", ended.stdout);
    let csv = folder.read("milepost-bench/latest/requests.csv");
    assert!(csv.lines().nth(1).unwrap().starts_with("b-1,True,,"), "{csv}");
    assert_eq!(sim.stop().code, Some(0));
}

#[test]
fn a_target_that_is_not_there_is_1_and_named() {
    let folder = Folder::new();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = milepost(&folder, &format!("bench --base-url http://{gone} --dataset-name random"));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("warm-up"), "{}", ended.stderr);
}

/// Some answers are there, some are under way, some are not sent: all three are told apart.
#[test]
fn ctrl_c_keeps_what_was_measured_and_marks_it() {
    let folder = Folder::new();
    let events = std::fs::read_to_string(data("sglang-0.5.23_generate_stream.sse")).unwrap();
    let (under_way, is_under_way) = channel();
    let under_way = Mutex::new(under_way);
    let url = scripted(move |request, stream| {
        if !request.starts_with("POST /generate") {
            return reply(stream, "404 Not Found", "{}");
        }
        let whole = request.contains("x-request-id: c-1\r\n");
        let sent = if whole { &events } else { &events[..events.find("\n\n").unwrap() + 2] };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let end = if whole { "0\r\n\r\n" } else { "" };
        stream.write_all(format!("{head}{:x}\r\n{sent}\r\n{end}", sent.len()).as_bytes()).unwrap();
        if !whole {
            under_way.lock().unwrap().send(()).unwrap();
        }
    });
    let row = |i: u32| format!("{{\"id\":\"c-{i}\",\"prompt\":\"a b c\",\"output_len\":8}}\n");
    folder.write("p.jsonl", [1, 2, 3].map(row).concat());
    let args =
        "--dataset-name custom --dataset-path p.jsonl --max-concurrency 1 --warmup-requests 0 --disable-tqdm";
    let bench = Process::start(&folder.0, &format!("bench --base-url {url} {args}"));
    is_under_way.recv_timeout(PATIENCE).unwrap();
    bench.signal(Signal::INT);
    let ended = bench.finish();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stdout.contains("PARTIAL"), "{}", ended.stdout);
    let csv = folder.read("milepost-bench/latest/requests.csv");
    let rows: Vec<&str> = csv.lines().skip(1).collect();
    assert!(rows[0].starts_with("c-1,True,,"), "{csv}");
    assert!(rows[1].starts_with("c-2,False,") && rows[1].contains("interrupted:"), "{csv}");
    assert!(rows[2].starts_with("c-3,False,") && rows[2].contains("not_sent:"), "{csv}");
    let run: serde_json::Value =
        serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
    assert_eq!(run["partial"], serde_json::Value::Bool(true));
}

/// What prefix caches see depends on the order, so a seed has to give it.
#[test]
fn with_one_place_requests_go_in_their_order() {
    let folder = Folder::new();
    let answer = std::fs::read_to_string(data("sglang-0.4.9.post6-patched_generate_nonstream.json")).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let url = scripted(move |request, stream| {
        let id = request.lines().find_map(|l| l.strip_prefix("x-request-id: "));
        log.lock().unwrap().extend(id.map(str::to_owned));
        reply(stream, "200 OK", &answer);
    });
    let ids: Vec<String> = (0..300).map(|i| format!("o-{i}")).collect();
    let row = |id: &String| format!("{{\"id\":\"{id}\",\"prompt\":\"a b c\",\"output_len\":8}}\n");
    folder.write("p.jsonl", ids.iter().map(row).collect::<String>());
    let args = "--dataset-name custom --dataset-path p.jsonl --max-concurrency 1 --warmup-requests 0 --disable-stream --disable-tqdm";
    let ended = milepost(&folder, &format!("bench --base-url {url} {args}"));
    // Places that a busy machine leaves empty are SUSPECT.
    assert!(matches!(ended.code, Some(0 | 3)), "{}", ended.stderr);
    assert_eq!(*asked.lock().unwrap(), ids);
}
