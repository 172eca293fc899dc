//! A capture whose process is killed, or whose disk is full: what is left, and who pays for it.
//!
//! Rule: the disk is a small tmpfs in a namespace of the test's own; where the kernel allows none, the test says so and ends.

use std::process::Command;

use rustix::process::Signal;

use crate::http::{get, post};
use crate::process::{Folder, Process, Router, milepost};

fn status(router: &Router) -> serde_json::Value {
    let (code, text) = get(&router.address, "/milepost/trace/status");
    assert_eq!(code, 200, "{text}");
    serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[test]
fn a_router_that_is_killed_leaves_every_record_that_it_had_written_and_its_packed_files_whole() {
    let folder = Folder::new();
    let router = Router::start(&folder, "--trace-log t.jsonl");
    for round in 1..=20 {
        assert_eq!(get(&router.address, "/health").0, 200);
        if round == 10 {
            let rotate = post("/milepost/trace/rotate", "", "");
            assert_eq!(crate::http::exchange(&router.address, rotate.as_bytes()).0, 200);
        }
    }
    // A status has had everything written that ended before it was asked.
    while status(&router)["requests"].as_u64() < Some(21) {}
    router.process.signal(Signal::KILL);
    assert_eq!(router.process.finish().code, None);
    let checked = milepost(&folder, "trace check .");
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("run 1: ") && !checked.stdout.contains("run 2: "), "{checked:?}");

    // The kill came within a write: the next router ends the line, and the check names it.
    let torn = folder.read("t.jsonl") + "{\"kind\":\"request\",\"seq\":";
    folder.write("t.jsonl", torn);
    let next = Router::start(&folder, "--trace-log t.jsonl");
    assert_eq!(next.process.stop().code, Some(0));
    let checked = milepost(&folder, "trace check .");
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(checked.stdout.contains("torn lines                            1"), "{checked:?}");
    assert!(checked.stdout.contains("t.jsonl: line "), "{checked:?}");
}

/// Runs the router on a disk of 64 KiB that is nearly full until a file `free` appears.
const SMALL_DISK: &str = r#"mkdir small && exec unshare --user --map-root-user --mount sh -c '
mount -t tmpfs -o size=64k none small && head -c 50000 /dev/zero > small/filler || exit 9
(i=0; while [ ! -e free ] && [ $i -lt 600 ]; do sleep 0.05; i=$((i+1)); done; rm small/filler) >/dev/null 2>&1 &
exec "$0" "$@"' "$0" "$@""#;

#[test]
fn a_full_disk_costs_records_and_no_request_and_the_capture_goes_on_when_there_is_room() {
    let allowed = Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).output();
    if !allowed.is_ok_and(|done| done.status.success()) {
        eprintln!(
            "skipped: this machine allows no namespace of one's own, so there is no small disk to fill"
        );
        return;
    }
    let folder = Folder::new();
    let args = Router::args("--trace-log small/t.jsonl");
    let mut router = Router::of(Process::start_within(&folder.0, SMALL_DISK, &args));
    let mut asked = 0;
    let mut until = |router: &Router, state: &str| {
        while status(router)["state"] != state {
            asked += 1;
            assert!(asked < 2_000, "it is never {state}: {}", status(router));
            assert_eq!(get(&router.address, "/health").0, 200, "traffic goes on");
        }
    };
    until(&router, "failing");
    router.process.line("records are lost (and counted) until it can be written");
    folder.write("free", "");
    until(&router, "capturing");
    let told = status(&router);
    assert!(told["lost"]["requests"].as_u64() > Some(0), "{told}");
    let (_, trace) = get(&router.address, "/milepost/trace?from=oldest");
    let records = trace.lines().filter(|line| line.starts_with('{'));
    let records: Vec<serde_json::Value> =
        records.map(|line| serde_json::from_str(line).expect(line)).collect();
    let lost: u64 =
        records.iter().filter(|r| r["kind"] == "lost").map(|r| r["requests"].as_u64().unwrap_or(0)).sum();
    let written = records.iter().filter(|r| r["kind"] == "request").count() as u64;
    let highest = records.iter().filter_map(|r| r["seq"].as_u64()).max().unwrap();
    assert!(written > 0 && lost > 0 && written + lost >= highest, "{written} + {lost}, {highest}");
    assert_eq!(router.process.stop().code, Some(0));
}
