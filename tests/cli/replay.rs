//! `milepost replay` on traces of a real router: what it says first, and how it ends where something is wrong.

use serde_json::Value;

use crate::http::{exchange, post};
use crate::process::{Folder, Router, milepost, worker};

const REQUESTS: usize = 30;

/// The trace of some requests before two simulated workers, in `t.jsonl`.
fn trace(folder: &Folder, args: &str) {
    let (_first, one) = worker(folder, "--speedup 1000");
    let (_second, two) = worker(folder, "--speedup 1000");
    let args = format!("--worker-urls {one} {two} --trace-log t.jsonl --disable-health-check {args}");
    let router = Router::start(folder, &args);
    for n in 0..REQUESTS {
        let text = format!("{} {n}", "the same beginning ".repeat(20 + n % 3));
        let body =
            format!("{{\"text\":\"{text}\",\"stream\":true,\"sampling_params\":{{\"max_new_tokens\":9}}}}");
        assert_eq!(exchange(&router.address, post("/generate", "", &body).as_bytes()).0, 200);
    }
    assert_eq!(router.process.stop().code, Some(0));
}

#[test]
fn a_journal_is_replayed_exactly_and_other_policies_are_tried_beside_it() {
    let folder = Folder::new();
    trace(&folder, "--policy random --seed 3 --trace-decisions journal");
    let exact = milepost(&folder, "replay t.jsonl");
    assert_eq!((exact.code, exact.stderr.as_str()), (Some(0), ""));
    assert_eq!(exact.stdout, format!("exact: {REQUESTS} of {REQUESTS} decisions reproduced\n"));
    let tried = milepost(&folder, "replay t.jsonl --policy cache_aware,round_robin --json out.json");
    assert_eq!((tried.code, tried.stderr.as_str()), (Some(0), ""));
    assert!(tried.stdout.starts_with(&exact.stdout), "{}", tried.stdout);
    for name in ["random (recorded)", "cache_aware", "round_robin", "calibration: "] {
        assert!(tried.stdout.contains(name), "{name} in {}", tried.stdout);
    }
    let page: Value = serde_json::from_str(&folder.read("out.json")).unwrap();
    let policies = page["what_if"]["policies"].as_array().unwrap();
    let names: Vec<&str> = policies.iter().map(|arm| arm["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["random", "cache_aware", "round_robin"]);
    assert_eq!(page["replayed"], REQUESTS);
    assert!(
        page["what_if"]["simulated_workers"]["workers"][0]["profile"]["prefill_token_us"].as_f64()
            > Some(0.0)
    );
}

#[test]
fn a_decision_that_does_not_come_out_again_is_named_and_is_exit_code_1() {
    let folder = Folder::new();
    trace(&folder, "--policy round_robin --trace-decisions journal");
    let text = folder.read("t.jsonl");
    // As if another seed, another version or another hand had written it.
    let line = text.lines().find(|line| line.contains("\"choice\"") && line.contains("\"seq\":7,")).unwrap();
    let other = if line.contains("\"chosen\":1") {
        line.replace("\"chosen\":1", "\"chosen\":0")
    } else {
        line.replace("\"chosen\":0", "\"chosen\":1")
    };
    folder.write("other.jsonl", text.replace(line, &other));
    let ended = milepost(&folder, "replay other.jsonl");
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(
        ended.stdout.starts_with(&format!("exact: {} of {REQUESTS} decisions", REQUESTS - 1)),
        "{}",
        ended.stdout
    );
    let words = "milepost: a recorded decision does not come out again: call ";
    assert!(ended.stderr.starts_with(words), "{}", ended.stderr);
    for part in ["request 7: recorded http://", "(turn), replayed http://"] {
        assert!(ended.stderr.contains(part), "{part} in {}", ended.stderr);
    }
    // A line that is gone is a hole and no failure, and said first.
    folder.write("holed.jsonl", text.replace(&format!("{line}\n"), ""));
    let ended = milepost(&folder, "replay holed.jsonl");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("approximate: the journal has a hole at call "), "{}", ended.stdout);
    assert!(ended.stdout.contains(" decisions agree"), "{}", ended.stdout);
}

#[test]
fn what_cannot_be_replayed_says_why_and_what_to_do() {
    let folder = Folder::new();
    trace(&folder, "--policy round_robin");
    folder.write("empty.jsonl", "");
    folder.write("strange.jsonl", "a line\nof something else\n");
    let text = folder.read("t.jsonl");
    folder.write("start.jsonl", text.lines().next().unwrap());
    for (args, words) in [
        ("none.jsonl", &["none.jsonl: No such file"][..]),
        ("empty.jsonl --policy random", &["empty.jsonl: the trace holds no request"]),
        ("start.jsonl --policy random", &["start.jsonl: the trace holds no request"]),
        ("strange.jsonl", &["strange.jsonl: not a milepost trace"]),
        ("t.jsonl", &["there is no journal in it", "--trace-decisions journal", "--policy A,B"]),
        ("t.jsonl --policy randm", &["--policy: unknown policy", "did you mean random?"]),
        ("t.jsonl --policy random --run 2", &["--run 2: the trace holds 1"]),
        ("t.jsonl --policy random --json no/such/folder.json", &["--json no/such/folder.json: "]),
    ] {
        let ended = milepost(&folder, &format!("replay {args}"));
        assert!(ended.code > Some(0), "{args}: {}", ended.stdout);
        for word in words {
            assert!(ended.stderr.contains(word), "{args}: {word:?} in {}", ended.stderr);
        }
    }
    // A crash may tear the last line.
    folder.write("torn.jsonl", &text[..text.len() - 20]);
    let ended = milepost(&folder, "replay torn.jsonl --policy random");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("approximate: the trace has no journal"), "{}", ended.stdout);
    assert!(ended.stdout.contains("1 lines are torn, the first is line"), "{}", ended.stdout);
    let few = milepost(&folder, "replay t.jsonl --policy random --max-requests 10");
    assert!(few.stdout.contains("simulated: 10 requests of 30"), "{}", few.stdout);
}
