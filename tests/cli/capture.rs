//! `milepost trace` against a router that runs: what it prints, and what it says when it cannot.

use crate::process::{Folder, Router, milepost};

#[test]
fn a_capture_is_steered_and_read_from_the_command_line() {
    let folder = Folder::new();
    let router = Router::start(&folder, "--trace-log t.jsonl");
    let at = format!("--router http://{}", router.address);
    let run = |command: &str| milepost(&folder, &format!("trace {command} {at}"));
    let status = run("status");
    assert!(status.stdout.contains("\"state\": \"capturing\""), "{status:?}");
    assert_eq!(run("mark here").code, Some(0));
    let rotated = run("rotate");
    assert!(rotated.stdout.contains("\"part\": 2"), "{rotated:?}");
    let stopped = run("stop");
    assert!(stopped.stdout.contains("\"state\": \"stopped\""), "{stopped:?}");
    let refused = run("mark there");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("409: the capture is stopped; start it first"), "{refused:?}");
    assert_eq!(run("start").code, Some(0));
    let tail = run("tail");
    let count = |kind: &str| tail.stdout.matches(&format!("{{\"kind\":\"{kind}\"")).count();
    assert_eq!((tail.code, count("mark"), count("run")), (Some(0), 1, 3), "{}", tail.stdout);
    assert_eq!(router.process.stop().code, Some(0));
    let checked = milepost(&folder, "trace check t.000001.*");
    assert!(checked.stdout.contains("marks") && checked.stdout.contains(" here\n"), "{checked:?}");
    let gone = run("status");
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(1), ""));
}

#[test]
fn the_key_of_a_router_comes_from_the_environment_and_its_absence_is_named() {
    let folder = Folder::new();
    let router = Router::start(&folder, "--trace-log t.jsonl --api-key secret");
    let refused = milepost(&folder, &format!("trace status --router http://{}", router.address));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("401") && refused.stderr.contains("MILEPOST_API_KEY"), "{refused:?}");
    let usage = milepost(&folder, "trace status --router gpu0");
    assert_eq!(usage.code, Some(2));
    assert!(usage.stderr.contains("--router: expected http://host:port, got gpu0"), "{usage:?}");
    router.process.stop();
}
