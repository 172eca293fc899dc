//! `milepost bench --faults` with processes of its own and with a hook: nothing is left behind, however it ends.
//!
//! Deliberately not here: what came of the requests, see `tests/bench_load/faults.rs`.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::http::get;
use crate::process::{Ended, Folder, Process, Router, end_of, milepost, worker};

const LOAD: &str =
    "--dataset-name random --random-input-len 6 --random-output-len 60 --arrivals constant --disable-tqdm";

/// Where the workers listen that a bench says it has started.
fn addresses(bench: &mut Process, count: usize) -> Vec<String> {
    let address = |number| {
        let line = bench.line(&format!("worker {number}: SIMULATED on http://"));
        line.rsplit("http://").next().unwrap().to_owned()
    };
    (1..=count).map(address).collect()
}

/// The workers that a bench runs: so many.
fn running(bench: &Process, count: usize) -> Vec<OwnedFd> {
    let workers = bench.children();
    assert_eq!(workers.len(), count);
    workers
}

/// A router without workers, and a bench that brings two with the load of so many seconds.
fn started(folder: &Folder, faults: &str, seconds: u32) -> (Router, Process) {
    folder.write("faults.txt", faults);
    let router = Router::start(folder, "--policy round_robin --trace-log trace.jsonl");
    let bench = format!(
        "bench --base-url http://{} --start-workers 2 --worker-flags=--speedup=20 --faults faults.txt \
         --router-trace trace.jsonl --request-rate 40 --duration {seconds}s {LOAD}",
        router.address
    );
    (router, Process::start(&folder.0, &bench))
}

#[test]
fn a_worker_is_killed_and_started_again_where_it_was() {
    let folder = Folder::new();
    let (router, mut bench) = started(&folder, "at = 600ms, stop worker 2\nat = 1s, start worker 2\n", 2);
    let addresses = addresses(&mut bench, 2);
    bench.line(" s  start worker 2");
    // Where this is slower than the run none is left to wait for.
    let workers = bench.children();
    let ended = bench.finish();
    // What a busy machine does to the pacer is SUSPECT; the errors of the fault are not held against the run.
    assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
    for word in ["Faults, phase by phase", "Fault 1: stop worker 2 by KILL", "detected after", "failed later"]
    {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    assert!(ended.stdout.contains(&addresses[1]), "{}", ended.stdout);
    let run: serde_json::Value =
        serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
    let acts = run["faults"]["actions"].as_array().unwrap();
    assert!(acts.len() == 2 && acts.iter().all(|act| act["failure"].is_null()), "{acts:?}");
    assert!(run["metrics"]["by_phase"]["parts"]["after"]["succeeded"].as_u64() > Some(0));
    workers.iter().for_each(end_of);
    let (_, listed) = get(&router.address, "/workers");
    assert!(listed.contains("\"total\":0"), "the router has been told: {listed}");
    router.process.stop();
}

#[test]
fn ctrl_c_within_a_fault_leaves_no_process_behind() {
    let folder = Folder::new();
    let (router, mut bench) = started(&folder, "at = 300ms, hang worker 1\n", 60);
    bench.line(" s  hang worker 1");
    let workers = running(&bench, 2);
    bench.signal(Signal::INT);
    let ended = bench.finish();
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("heal worker 1") && !ended.stderr.contains("FAILED"), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("PARTIAL") && ended.stdout.contains("Fault 1: hang worker 1"),
        "{}",
        ended.stdout
    );
    workers.iter().for_each(end_of);
    router.process.stop();
}

#[test]
fn workers_end_with_a_bench_that_is_killed() {
    let folder = Folder::new();
    let (router, mut bench) = started(&folder, "at = 300ms, stop worker 1\n", 60);
    bench.line(" s  stop worker 1");
    let workers = running(&bench, 1);
    bench.signal(Signal::KILL);
    assert_eq!(bench.finish().code, None);
    workers.iter().for_each(end_of);
    router.process.stop();
}

/// A bench with a hook that runs this script, against a worker that knows nothing of it.
fn hooked(script: &str) -> (Folder, Ended) {
    let folder = Folder::new();
    folder.write("hook.sh", format!("#!/bin/sh\n{script}\n"));
    let path = folder.0.join("hook.sh");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder.write("faults.txt", "at = 200ms, for = 300ms, slow worker gpu3 by 2x\n");
    let (sim, url) = worker(&folder, "--speedup 100");
    let ended = milepost(
        &folder,
        &format!(
            "bench --base-url {url} --faults faults.txt --fault-hook ./hook.sh --request-rate 40 --duration 1s {LOAD}"
        ),
    );
    sim.stop();
    (folder, ended)
}

#[test]
fn a_hook_gets_the_action_the_worker_and_the_detail() {
    let (folder, ended) = hooked("echo \"$@\" >> calls");
    assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
    assert_eq!(folder.read("calls"), "slow gpu3 2\nheal gpu3\n");
}

#[test]
fn a_hook_that_fails_makes_the_run_invalid_and_is_heard() {
    let (_, ended) = hooked("echo no such node; exit 7");
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let said = "line 1 (slow worker gpu3 by 2x) could not be made: --fault-hook ./hook.sh: exit status: 7: no such node";
    assert!(ended.stdout.contains(said), "{}", ended.stdout);
}

#[test]
fn what_cannot_be_carried_out_is_usage_before_anything_is_sent() {
    let folder = Folder::new();
    folder.write("stop.txt", "at = 1s, stop worker 2\n");
    folder.write("bad.txt", "at = 1s, hang worker http://127.0.0.1:9\nat = 2s, explode worker 1\n");
    for (args, words) in [
        ("--faults none.txt", &["--faults none.txt", "No such file"][..]),
        ("--faults bad.txt", &["--faults bad.txt line 2", "explode"]),
        ("--faults stop.txt", &["--faults stop.txt line 1", "--start-workers", "--fault-hook"]),
        ("--fault-hook x", &["--faults"]),
    ] {
        let ended = milepost(
            &folder,
            &format!("bench --base-url http://127.0.0.1:9 --request-rate 40 {LOAD} {args}"),
        );
        assert_eq!(ended.code, Some(2), "{args}: {}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{args}: {word:?} in {}", ended.stderr);
        }
    }
}

#[test]
fn a_target_that_takes_no_workers_is_named_and_none_is_left_running() {
    let folder = Folder::new();
    let (sim, url) = worker(&folder, "--speedup 100");
    let ended = milepost(
        &folder,
        &format!("bench --base-url {url} --start-workers 1 --request-rate 40 {LOAD} --num-prompts 3"),
    );
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains("POST /workers") && ended.stderr.contains("milepost route"),
        "{}",
        ended.stderr
    );
    sim.stop();
}
