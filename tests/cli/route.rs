//! `milepost route`: what it refuses, with which words; what it starts with; how it ends.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use rustix::process::Signal;

use crate::http::{connect, exchange, get, post, read_until, reply, scripted};
use crate::process::{Folder, PATIENCE, Process, Router, milepost, worker};

/// A router on free ports that must not start.
fn refused(folder: &Folder, args: &str, words: &[&str]) {
    let ports = "--host 127.0.0.1 --port 0 --prometheus-host 127.0.0.1 --prometheus-port 0";
    refused_as_given(folder, &format!("{ports} {args}"), words);
}

fn refused_as_given(folder: &Folder, args: &str, words: &[&str]) {
    let ended = milepost(folder, &format!("route {args}"));
    assert_eq!(ended.code, Some(2), "{args}: {}", ended.stderr);
    for word in words {
        assert!(ended.stderr.contains(word), "{args}: {word:?} in {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "{args}");
}

#[test]
fn bad_flags_are_refused_with_what_was_expected() {
    let folder = Folder::new();
    for (args, words) in [
        (
            "--policy nope",
            &["--policy", "nope", "cache_aware", "round_robin", "random", "shortest_queue"][..],
        ),
        (
            "--worker-urls gpu3:8000",
            &["--worker-urls: worker 1 of 1: expected http://host:port, got gpu3:8000 (http:// is missing)"],
        ),
        ("--worker-urls http://a:1 http://gpu3:8000/v1", &["worker 2 of 2:", "a path does not belong"]),
        (
            "--worker-urls https://gpu3:8000",
            &["https://gpu3:8000: ", "--ca-cert-paths", "SSL_CERT_FILE is not set"],
        ),
        ("--worker-urls http://a:1 http://A:1/", &["worker 2 of 2:", "is worker 1 already"]),
        ("--worker-urls http://a:0", &["worker 1 of 1:", "bad port"]),
        ("--worker-urls http://a:1?x=1", &["worker 1 of 1:", "expected http://host:port"]),
        ("--cache-threshold 1.5", &["--cache-threshold", "1.5"]),
        ("--balance-rel-threshold NaN", &["--balance-rel-threshold", "NaN"]),
        ("--redis-pool-max many", &["--redis-pool-max: expected a whole number, got many"]),
        ("--tls-cert-path c.pem", &["--tls-cert-path and --tls-key-path", "only --tls-cert-path was given"]),
        (
            "--max-concurrent-requests 0",
            &["--max-concurrent-requests", "-1 (no limit) or at least 1", "got 0"],
        ),
        (
            "--pd-disaggregation --prefill http://a:1 8998 --decode http://b:1",
            &["--pd-disaggregation, --prefill, --decode", "keep sglang-router"],
        ),
        ("--request-timeout-secs 0", &["--request-timeout-secs", "at least 1"]),
        ("--health-check-interval-secs 0", &["--health-check-interval-secs"]),
        ("--health-check-endpoint health", &["--health-check-endpoint", "/health"]),
        ("--forward-headers a:b", &["--forward-headers", "a:b"]),
        (
            "--tls-cert-path /nonexistent/cert.pem --tls-key-path /nonexistent/key.pem",
            &["--tls-cert-path: /nonexistent/cert.pem: No such file"],
        ),
        ("--ca-cert-paths /nonexistent/ca.pem", &["--ca-cert-paths: /nonexistent/ca.pem: No such file"]),
        ("--no-such-flag", &["--no-such-flag"]),
        (
            "--retry-max-retries 70000000000",
            &["--retry-max-retries: expected a whole number of at most 4294967295, got 70000000000"],
        ),
        ("--trace-log /nonexistent/t.jsonl", &["--trace-log /nonexistent/t.jsonl", "No such file"]),
        ("--trace-log .", &["--trace-log .", "directory"]),
        ("--trace-log /dev/full", &["--trace-log /dev/full", "cannot be written"]),
    ] {
        refused(&folder, args, words);
    }
    refused_as_given(&folder, "--port 70000", &["--port", "70000"]);
    refused_as_given(&folder, "--host nowhere --port 0", &["--host/--port", "IP address", "nowhere"]);
}

#[test]
fn a_taken_port_is_named_with_its_flag_and_its_holder() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let holder = if cfg!(target_os = "linux") {
        format!("pid {} (", std::process::id())
    } else {
        "another process".to_owned()
    };
    refused_as_given(
        &folder,
        &format!("--host 127.0.0.1 --port {port} --prometheus-host 127.0.0.1 --prometheus-port 0"),
        &["--host/--port", &port, "is taken by ", &holder, "choose another port"],
    );
    refused_as_given(
        &folder,
        &format!("--host 127.0.0.1 --port 0 --prometheus-host 127.0.0.1 --prometheus-port {port}"),
        &["--prometheus-port", &port, "is taken by ", &holder, "choose another port"],
    );
    // A worker at the router's own address; the port is held, so no router comes up there in any case.
    for worker in ["127.0.0.1", "localhost"] {
        refused_as_given(
            &folder,
            &format!("--host 127.0.0.1 --port {port} --worker-urls http://{worker}:{port}"),
            &["worker 1 of 1:", "router cannot be its own worker"],
        );
    }
}

#[test]
fn a_trailing_slash_is_the_same_worker() {
    let folder = Folder::new();
    let url = scripted(|_, stream| reply(stream, "200 OK", "{}"));
    let mut router = Router::start(&folder, &format!("--worker-urls {url}/"));
    router.process.line("healthy");
    let (status, workers) = get(&router.address, "/workers");
    assert_eq!(status, 200);
    assert!(workers.contains(&format!("\"url\":\"{url}\"")), "{workers}");
    assert_eq!(get(&router.address, "/readiness").0, 200);
    assert_eq!(router.process.stop().code, Some(0));
}

#[test]
fn workers_that_do_not_answer_or_are_none_leave_a_router_that_is_not_ready() {
    let folder = Folder::new();
    let unbound = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for args in [
        "--worker-urls http://no-such-host.invalid:1",
        "--worker-urls",
        &format!("--worker-urls http://{unbound}"),
    ] {
        let router = Router::start(&folder, &format!("{args} --shutdown-grace-period-secs 5"));
        assert_eq!(get(&router.address, "/health").0, 200, "{args}");
        assert_eq!(get(&router.address, "/liveness").0, 200, "{args}");
        let (status, text) = get(&router.address, "/readiness");
        assert_eq!(status, 503, "{args}: {text}");
        assert!(text.contains("insufficient healthy workers"), "{text}");
        let (status, text) = exchange(&router.address, post("/generate", "", r#"{"text":"a"}"#).as_bytes());
        assert_eq!(status, 503, "{args}: {text}");
        assert!(text.contains("\"error\""), "{text}");
        assert_eq!(router.process.stop().code, Some(0), "{args}");
    }
}

#[test]
fn a_trace_has_one_writer_and_a_torn_end_is_recovered() {
    let folder = Folder::new();
    let (sim, url) = worker(&folder, "--speedup 1000");
    let args = format!("--worker-urls {url} --trace-log t.jsonl");
    let mut first = Router::start(&folder, &args);
    refused(&folder, &args, &["--trace-log t.jsonl", "another process is writing it"]);
    first.process.line("healthy");
    let ask = post("/generate", "", r#"{"text":"a b c","sampling_params":{"max_new_tokens":3}}"#);
    assert_eq!(exchange(&first.address, ask.as_bytes()).0, 200);
    assert_eq!(first.process.stop().code, Some(0));
    let whole = milepost(&folder, "trace check t.jsonl");
    assert_eq!(whole.code, Some(0), "{}{}", whole.stdout, whole.stderr);

    // As a crash in the middle of a write leaves it.
    let text = folder.read("t.jsonl");
    let request = text.lines().find(|l| l.contains("\"kind\":\"request\"")).unwrap();
    folder.write("t.jsonl", format!("{text}{}", &request[..request.len() / 2]));
    let mut second = Router::start(&folder, &args);
    second.process.line("healthy");
    assert_eq!(exchange(&second.address, ask.as_bytes()).0, 200);
    assert_eq!(second.process.stop().code, Some(0));
    let check = milepost(&folder, "trace check t.jsonl");
    assert_eq!(check.code, Some(1), "{}", check.stdout);
    let count = |name: &str| {
        let lines = check.stdout.lines().filter_map(|l| l.trim_start().strip_prefix(name));
        lines.map(|l| l.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(count("torn lines "), ["1"], "{}", check.stdout);
    assert_eq!(count("done "), ["1", "1"], "both runs kept their request: {}", check.stdout);
    assert!(check.stderr.contains("1 fault"), "{}", check.stderr);
    assert_eq!(sim.stop().code, Some(0));
}

#[test]
fn sigterm_lets_an_open_stream_end() {
    let folder = Folder::new();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let url = scripted(move |request, stream| {
        if !request.starts_with("POST /generate") {
            return reply(stream, "200 OK", "{}");
        }
        let event = |n: u32, finish: &str| {
            let data = format!(
                "data: {{\"text\":\"w\",\"meta_info\":{{\"finish_reason\":{finish},\"prompt_tokens\":1,\"completion_tokens\":{n}}}}}\n\n"
            );
            format!("{:x}\r\n{data}\r\n", data.len())
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(format!("{head}{}", event(1, "null")).as_bytes()).unwrap();
        wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let last = event(2, r#"{"type":"length","length":2}"#);
        stream.write_all(format!("{last}e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").as_bytes()).unwrap();
    });
    let mut router = Router::start(&folder, &format!("--worker-urls {url} --trace-log t.jsonl"));
    router.process.line("healthy");
    let mut client = connect(&router.address);
    client.write_all(post("/generate", "", r#"{"text":"a","stream":true}"#).as_bytes()).unwrap();
    let mut text = String::new();
    read_until(&mut client, &mut text, "\"completion_tokens\":1");
    router.process.signal(Signal::TERM);
    router.process.line("stopping");
    go.send(()).unwrap();
    read_until(&mut client, &mut text, "data: [DONE]\n\n\r\n0\r\n\r\n");
    let ended = router.process.finish();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let trace = folder.read("t.jsonl");
    let record = trace.lines().find(|l| l.contains("\"kind\":\"request\"")).unwrap();
    assert!(
        record.contains("\"outcome\":\"done\"") && record.contains("\"completion_tokens\":2"),
        "{record}"
    );
}

#[test]
fn a_second_signal_ends_at_once_with_a_record_of_what_it_cut() {
    let folder = Folder::new();
    let (asked, was_asked) = channel::<()>();
    let asked = Mutex::new(asked);
    let url = scripted(move |request, stream| {
        if request.starts_with("POST /generate") {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let event = "data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n";
            if request.contains("\"stream\":true") {
                write!(stream, "{head}{:x}\r\n{event}\r\n", event.len()).unwrap();
            }
            asked.lock().unwrap().send(()).unwrap();
        } else {
            reply(stream, "200 OK", "{}");
        }
    });
    for (drain, wait) in
        [("", "a second signal ends at once"), ("--drain-delay-secs 600", "serving on for 600 s")]
    {
        let args = format!("--worker-urls {url} --trace-log t.jsonl {drain}");
        let mut router = Router::start(&folder, &args);
        router.process.line("healthy");
        let (mut waiting, mut streaming) = (connect(&router.address), connect(&router.address));
        waiting.write_all(post("/generate", "", r#"{"text":"a"}"#).as_bytes()).unwrap();
        was_asked.recv_timeout(PATIENCE).unwrap();
        streaming.write_all(post("/generate", "", r#"{"text":"a","stream":true}"#).as_bytes()).unwrap();
        read_until(&mut streaming, &mut String::new(), "completion_tokens");
        was_asked.recv_timeout(PATIENCE).unwrap();
        router.process.signal(Signal::INT);
        router.process.line(wait);
        router.process.signal(Signal::INT);
        let ended = router.process.finish();
        assert_eq!(ended.code, Some(130), "{}", ended.stderr);
        let trace = folder.read("t.jsonl");
        let records: Vec<&str> = trace.lines().filter(|l| l.contains("\"kind\":\"request\"")).collect();
        assert_eq!(records.len(), 2, "{trace}");
        assert!(records.iter().all(|r| r.contains("\"outcome\":\"stopped\"")), "{records:?}");
        std::fs::remove_file(folder.0.join("t.jsonl")).unwrap();
    }
}

#[test]
fn a_trace_file_that_may_not_grow_is_told_and_no_signal_ends_the_process() {
    let folder = Folder::new();
    let args = Router::args("--worker-urls http://127.0.0.1:9 --trace-log t.jsonl");
    let ended = Process::start_within(&folder.0, "ulimit -f 0", &args).finish();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("t.jsonl") && ended.stderr.contains("cannot be written: File too large"),
        "{}",
        ended.stderr
    );
}
