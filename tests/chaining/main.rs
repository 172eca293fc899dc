//! milepost before, behind, and before and behind a real sglang-router 0.3.2.
//!
//! Rule: where sglang-router is not installed the tests say so and pass. Deliberately not here: sglang-router alone
//! (`tests/conformance`), how the numbers of `docs/chaining.md` were taken.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

#[path = "../conformance/client.rs"]
#[expect(dead_code, reason = "shared with the conformance suite, which uses all of it")]
mod client;
#[path = "../conformance/process.rs"]
#[expect(dead_code, reason = "shared with the conformance suite, which uses all of it")]
mod process;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use client::{Exchange, get_with, post};
use process::{Port, Process, Subject, milepost, peer, until};
use rustix::process::Signal;

const REQUESTS: usize = 12;

/// True where sglang-router can be run; else the test says that it was skipped.
fn there() -> bool {
    peer().inspect_err(|why| println!("skipped: {why}")).is_ok()
}

/// Where a test's traces and tables go; away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("milepost-chaining-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// The records of one kind in a trace.
    fn records(&self, name: &str, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file(name)).unwrap();
        let records = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        records.filter(|r| r["kind"] == kind).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn url(process: &Process) -> String {
    format!("http://{}", process.port.address())
}

fn get(process: &Process, path: &str) -> client::Answer {
    Exchange::begin(process.port.address(), get_with(path, "")).finish()
}

/// A simulated worker, faster than a real one.
fn worker() -> Process {
    let port = Port::free();
    let mut command = milepost("worker");
    command.args(["--port", &port.number.to_string(), "--speedup", "10"]);
    let worker = Process::spawn(command, port, Port::free());
    until("the worker serves", || std::net::TcpStream::connect(worker.port.address()).ok());
    worker
}

/// A router before one worker or router, ready.
fn router(subject: Subject, behind: &Process, trace: Option<String>) -> Process {
    let mut flags = vec!["--policy".to_owned(), "round_robin".to_owned()];
    flags.extend(["--worker-urls".to_owned(), url(behind)]);
    flags.extend(trace.into_iter().flat_map(|file| ["--trace-log".to_owned(), file]));
    let router = Process::start(subject, &flags);
    until("the router is ready", || {
        assert!(router.ended().is_none(), "{}", router.said());
        std::net::TcpStream::connect(router.port.address()).ok()?;
        (get(&router, "/readiness").status == 200).then_some(())
    });
    router
}

/// `milepost bench` against a router; its table's rows by column name.
fn bench(folder: &Folder, router: &Process, trace: &str) -> Vec<BTreeMap<String, String>> {
    let mut command = milepost("bench");
    let (prompts, out) = (REQUESTS.to_string(), folder.file("run"));
    command.args(["--base-url", &url(router), "--dataset-name", "random", "--num-prompts", &prompts]);
    command.args([
        "--random-input-len",
        "16",
        "--random-range-ratio",
        "1",
        "--random-output-len",
        "8",
        "--request-rate",
        "50",
        "--disable-tqdm",
    ]);
    command.args(["--router-trace", trace, "--output-dir", &out]);
    let ran = command.output().unwrap();
    // A busy machine may make the load SUSPECT; the rows are the same.
    assert!(matches!(ran.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&ran.stderr));
    let table = std::fs::read_to_string(folder.file("run/latest/requests.csv")).unwrap();
    let mut lines = table.lines().map(|l| l.split(',').map(str::to_owned).collect::<Vec<_>>());
    let names = lines.next().unwrap();
    lines.map(|cells| names.iter().cloned().zip(cells).collect()).collect()
}

/// Ends a milepost so that its trace is whole.
fn end(router: &Process) {
    router.signal(Signal::TERM);
    router.end();
}

#[test]
fn before_sglang_router_everything_works_and_host_is_empty() {
    if !there() {
        return;
    }
    let (folder, worker) = (Folder::new("before"), worker());
    let peer = router(Subject::SglangRouter, &worker, None);
    let front = router(Subject::Milepost, &peer, Some(folder.file("trace.jsonl")));
    // Its own answer about itself, passed on: it knows nothing of the engine.
    assert_eq!(get(&front, "/get_server_info").json()["router_manager"], true);
    assert_eq!(get(&front, "/get_model_info").json()["model_path"], "simulated-8b");
    // It has no /get_load: outside, an unknown load is -1.
    let loads = get(&front, "/get_loads").json();
    assert_eq!(loads["workers"][0]["load"], -1, "{loads}");

    let rows = bench(&folder, &front, &folder.file("trace.jsonl"));
    assert_eq!(rows.len(), REQUESTS);
    for row in &rows {
        assert_eq!(row["success"], "True", "{row:?}");
        assert_eq!(row["host"], "", "sglang-router's address is no worker's: {row:?}");
        assert!(!row["total_latency"].is_empty() && row["actual_output_tokens"] == "8", "{row:?}");
    }
}

/// No sglang-router in between: the first milepost knows the second for a router, and its word on the engine passes.
#[test]
fn before_another_milepost_the_host_is_the_engine() {
    let (folder, worker) = (Folder::new("two"), worker());
    let back = router(Subject::Milepost, &worker, None);
    let front = router(Subject::Milepost, &back, Some(folder.file("trace.jsonl")));
    until("the first knows the second for a router", || {
        let shown = get(&front, "/workers").json();
        (shown["workers"][0]["milepost"]["router"] == true).then_some(())
    });
    let rows = bench(&folder, &front, &folder.file("trace.jsonl"));
    let engine = worker.port.address().to_string();
    assert!(rows.iter().all(|row| row["success"] == "True" && row["host"] == engine), "{rows:?}");
}

#[test]
fn behind_sglang_router_everything_works_and_its_id_is_kept() {
    if !there() {
        return;
    }
    let (folder, worker) = (Folder::new("behind"), worker());
    let back = router(Subject::Milepost, &worker, Some(folder.file("trace.jsonl")));
    let peer = router(Subject::SglangRouter, &back, None);
    let models = get(&peer, "/v1/models").json();
    assert_eq!(
        models["data"][0]["id"], "simulated-8b",
        "it describes milepost as it would the engine: {models}"
    );
    let loads = get(&peer, "/get_loads").json();
    assert_eq!(loads["workers"][0]["worker"], url(&back).as_str(), "{loads}");
    let body = r#"{"text":"one two three","sampling_params":{"max_new_tokens":4}}"#;
    let request =
        post("/generate", body).replacen("\r\n", "\r\nx-request-id: from-client\r\nx-custom: 1\r\n", 1);
    let answer = Exchange::begin(peer.port.address(), request).finish();
    assert_eq!((answer.status, answer.header("x-worker-url")), (200, Some(url(&worker))), "{}", answer.head);
    end(&back);
    let requests = folder.records("trace.jsonl", "request");
    let record = requests.iter().find(|r| r["request_id"] == "from-client").expect("the client's id is kept");
    assert_eq!((&record["worker"], &record["outcome"]), (&url(&worker).into(), &"done".into()));
}

#[test]
fn before_and_behind_the_two_traces_tell_its_own_time() {
    if !there() {
        return;
    }
    let (folder, worker) = (Folder::new("both"), worker());
    let back = router(Subject::Milepost, &worker, Some(folder.file("behind.jsonl")));
    let peer = router(Subject::SglangRouter, &back, None);
    let front = router(Subject::Milepost, &peer, Some(folder.file("before.jsonl")));
    let rows = bench(&folder, &front, &folder.file("before.jsonl"));
    assert!(rows.iter().all(|row| row["success"] == "True"), "{rows:?}");
    end(&front);
    end(&back);
    let behind = folder.records("behind.jsonl", "request");
    for row in &rows {
        let joined = behind.iter().filter(|r| r["request_id"] == row["req_id"].as_str()).count();
        assert_eq!(joined, 1, "{row:?}");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaining/own_time.py");
    let ran = std::process::Command::new("python3")
        .args([script, &folder.file("before.jsonl"), &folder.file("behind.jsonl")])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{text}");
    let told = text.lines().next().unwrap_or_default();
    let joined: usize = told.split(' ').next().unwrap().parse().unwrap();
    assert!(joined >= REQUESTS, "{text}");
}
