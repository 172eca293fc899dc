//! Clients as people use them, against `milepost route` in front of `milepost worker`: `openai`, `bench_serving` and curl.
//!
//! Rule: nothing is installed; a client that is not there is said to be skipped. `MILEPOST_CLIENT_PYTHON` names the Python
//! to look in, `python3` without it. Deliberately not here: what a router answers byte by byte (`tests/conformance`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

#[path = "../conformance/client.rs"]
#[expect(dead_code, reason = "shared with the conformance suite, which uses all of it")]
mod client;
#[path = "../conformance/process.rs"]
#[expect(dead_code, reason = "shared with the conformance suite, which uses all of it")]
mod process;
#[path = "../conformance/worker.rs"]
#[expect(dead_code, reason = "shared with the conformance suite, which uses all of it")]
mod worker;

use std::process::{Command, Output, Stdio};

use process::{Port, Process, Subject, milepost, until};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

fn python() -> Command {
    let name = std::env::var("MILEPOST_CLIENT_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    Command::new(name)
}

fn run(command: &mut Command) -> Option<Output> {
    command.stdin(Stdio::null()).output().ok()
}

/// True where this Python can do that; else the test says that it was skipped.
fn has(module: &str) -> bool {
    let found = run(python().args(["-c", &format!("import {module}")])).is_some_and(|o| o.status.success());
    if !found {
        println!("skipped: no Python with {module}");
    }
    found
}

/// Simulated workers, faster than real ones, and a router in front.
struct Fleet {
    _workers: Vec<Process>,
    router: Process,
}

impl Fleet {
    fn simulated() -> Self {
        let workers: Vec<Process> = (0..2)
            .map(|_| {
                let port = Port::free();
                let mut command = milepost("worker");
                command.args(["--port", &port.number.to_string(), "--speedup", "10"]);
                Process::spawn(command, port, Port::free())
            })
            .collect();
        let urls = workers.iter().map(|w| format!("http://{}", w.port.address()));
        let router = router_of(urls.collect());
        Self { _workers: workers, router }
    }

    fn url(&self) -> String {
        format!("http://{}", self.router.port.address())
    }
}

/// A router that has all its workers.
fn router_of(urls: Vec<String>) -> Process {
    let count = urls.len();
    let flags =
        [vec!["--policy".to_owned(), "round_robin".to_owned(), "--worker-urls".to_owned()], urls].concat();
    let router = Process::start(Subject::Milepost, &flags);
    let address = router.port.address();
    until("the router is ready", || {
        assert!(router.ended().is_none(), "{}", router.said());
        std::net::TcpStream::connect(address).ok()?;
        let ready = client::Exchange::begin(address, client::get_with("/readiness", "")).finish().json();
        (ready["healthy_workers"] == count).then_some(())
    });
    router
}

/// Its output, which must hold each of these.
fn check(output: Option<Output>, told: &[&str]) {
    let output = output.expect("the client starts");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for told in told {
        assert!(text.contains(told), "no {told:?} in {text}");
    }
}

#[test]
fn openai_client_chats_streams_and_completes() {
    if !has("openai") {
        return;
    }
    let fleet = Fleet::simulated();
    let script = format!("{FOLDER}/openai_client.py");
    let names = ["chat", "stream", "completions", "models", "errors"];
    let output = run(python().args([&script, &fleet.url()]).args(names));
    check(
        output,
        &[
            "chat: 8 tokens",
            "stream: ",
            "completions: 5 tokens",
            "models: simulated-8b",
            "errors: status 400, x-request-id there",
        ],
    );
}

/// The simulated worker has no embeddings; the scripted one has.
#[test]
fn openai_client_gets_embeddings() {
    if !has("openai") {
        return;
    }
    let worker = worker::Worker::start();
    let router = router_of(vec![worker.url.clone()]);
    let script = format!("{FOLDER}/openai_client.py");
    let url = format!("http://{}", router.port.address());
    check(run(python().args([&script, &url, "embeddings"])), &["embeddings: 1 numbers"]);
    assert!(worker.got().iter().any(|g| g.line == "POST /v1/embeddings"), "{:?}", worker.got());
}

#[test]
fn bench_serving_measures_through_the_router() {
    let script = format!("{FOLDER}/bench_serving.py");
    let there = run(python().args([&script, "--where"])).filter(|o| o.status.success());
    let there = there.is_some_and(|o| !String::from_utf8_lossy(&o.stdout).contains("not there"));
    if !there {
        println!("skipped: no Python with an sglang whose bench_serving.py stands alone");
        return;
    }
    if !has("aiohttp, numpy, requests, tqdm, transformers") {
        return;
    }
    let fleet = Fleet::simulated();
    let port = fleet.router.port.number.to_string();
    for backend in ["sglang", "sglang-oai-chat"] {
        let output = run(python().args([&script, "127.0.0.1", &port, backend]));
        check(output, &["bench_serving: 12 requests, 72 tokens", "Serving Benchmark Result"]);
    }
}

#[test]
fn curl_gets_answers_streams_and_its_connection_kept() {
    if run(Command::new("curl").arg("--version")).is_none() {
        println!("skipped: no curl");
        return;
    }
    let fleet = Fleet::simulated();
    let output = run(Command::new("sh").arg(format!("{FOLDER}/curl.sh")).arg(fleet.url()));
    check(
        output,
        &[
            "generate: ok",
            "stream: ok",
            "request id: ok",
            "chat: ok",
            "large body: ok",
            "connection kept: ok",
        ],
    );
}
