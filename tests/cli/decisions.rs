//! `trace show`, `--shadow-policy` and `--split` from the command line: what a person reads of decisions.

use crate::http::{exchange, get, post};
use crate::process::{Folder, Router, milepost, worker};

/// A trace of three requests in two arms, with two shadows.
fn traced(folder: &Folder) {
    let (_sim, url) = worker(folder, "--speedup 1000");
    let flags =
        "--split shortest_queue=1,round_robin=1 --shadow-policy cache_aware,random --trace-log t.jsonl";
    let mut router = Router::start(folder, &format!("--worker-urls {url} {flags}"));
    router.process.line("described");
    for n in 1..=3 {
        let header = format!("x-request-id: call-{n}\r\nx-smg-routing-key: k\r\n");
        assert_eq!(
            exchange(&router.address, post("/generate", &header, r#"{"text":"a b"}"#).as_bytes()).0,
            200
        );
    }
    // As whoever probes it, or has the live page open.
    assert_eq!(get(&router.address, "/health").0, 200);
    let ended = router.process.stop();
    assert_eq!(ended.code, Some(0));
    let policies = "split shortest_queue=1,round_robin=1 (shadows: cache_aware, random), 1 worker";
    assert!(ended.stderr.contains(policies), "{}", ended.stderr);
}

#[test]
fn decisions_can_be_read() {
    let folder = Folder::new();
    traced(&folder);
    let all = milepost(&folder, "trace show t.jsonl");
    assert_eq!(
        (all.code, all.stdout.matches("/generate: done after").count()),
        (Some(0), 3),
        "{}",
        all.stderr
    );
    let one = milepost(&folder, "trace show t.jsonl call-2").stdout;
    for part in [
        "request 2 (call-2)",
        " by routing_key, in ",
        "worker",
        "in_flight",
        "shadow cache_aware: the same (prefix_hit",
    ] {
        assert!(one.contains(part), "{part} in {one}");
    }
    assert_eq!(milepost(&folder, "trace show t.jsonl 2").stdout, one, "by its number");
    let last = milepost(&folder, "trace show t.jsonl --last 1").stdout;
    assert!(last.matches("request ").count() == 1 && last.contains("/generate: done"), "{last}");
    assert!(
        milepost(&folder, "trace show t.jsonl 4").stdout.contains("/health: done"),
        "who names it sees it"
    );
    let check = milepost(&folder, "trace check t.jsonl").stdout;
    assert!(
        check.contains("100.0 % would have gone to the same worker") && check.contains("  arm "),
        "{check}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let folder = Folder::new();
    traced(&folder);
    for (args, said) in [
        ("trace show t.jsonl 9 call-1", "t.jsonl: no request 9"),
        ("trace show t.jsonl --differing", "t.jsonl: no such request"),
        ("trace show none.jsonl", "none.jsonl"),
        ("trace show t.jsonl --last 0", "--last"),
        ("route --split cache_aware=1,random=x", "--split: random=x: expected a whole number of 1 or more"),
        (
            "route --policy random --split cache_aware=1,random=1",
            "--split and --policy: the arms name the policies",
        ),
        (
            "route --shadow-policy randm",
            "--shadow-policy: randm: unknown policy \"randm\"; did you mean random?",
        ),
    ] {
        let ended = milepost(&folder, args);
        assert_eq!(ended.code, Some(2), "{args}");
        assert!(ended.stderr.contains(said), "{said} in {}", ended.stderr);
    }
}
