//! `--help` of every command, the version, and `trace schema` against the sources and a real trace.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::http::{exchange, get, post};
use crate::process::{Folder, Router, milepost, worker};

#[test]
fn every_command_has_a_help_that_names_its_flags() {
    let folder = Folder::new();
    let all = milepost(&folder, "--help");
    assert_eq!(all.code, Some(0));
    for (command, words) in [
        ("route", &["--worker-urls", "--policy", "--trace-log", "--prometheus-port"][..]),
        ("worker", &["--dialect", "--speedup", "SIMULATED"]),
        ("bench", &["--dataset-name", "--request-rate", "--router-trace"]),
        ("report", &["requests.csv", "--out", "--svg", "milepost report trace.jsonl"]),
        #[cfg(feature = "png")]
        ("report", &["--png", "twice the pixels"]),
        ("trace", &["schema", "check", "show"]),
        ("trace schema", &["Print every field"]),
        ("trace check", &["FILE"]),
        ("replay", &["--policy", "--seed", "--json", "SIMULATED", "milepost replay t.jsonl"]),
        ("trace show", &["FILE", "--last", "--differing"]),
        ("demo", &["SIMULATED"]),
        ("doctor", &["--worker-urls", "--router", "--api-key", "--json", "Exit codes"]),
    ] {
        let help = milepost(&folder, &format!("{command} --help"));
        assert_eq!(help.code, Some(0), "{command}: {}", help.stderr);
        for word in words {
            assert!(help.stdout.contains(word), "{command}: {word} in {}", help.stdout);
        }
        assert_eq!(help.stderr, "", "{command}");
        assert!(all.stdout.contains(command.split(' ').next().unwrap()), "{command}");
    }
    let version = milepost(&folder, "--version");
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (Some(0), concat!("milepost ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let none = milepost(&folder, "no-such-command");
    assert_eq!(none.code, Some(2), "{}", none.stderr);
}

/// Names of the fields of a struct, read from its source.
fn fields(file: &str, of: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{}/src/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (_, body) = text.split_once(&format!("pub struct {of} {{")).expect(of);
    let body = body.split("\n}").next().unwrap();
    let names =
        body.lines().filter_map(|l| Some(l.trim().strip_prefix("pub ")?.split_once(':')?.0.to_owned()));
    names.collect()
}

#[test]
fn trace_schema_has_every_field_and_no_word_of_rust() {
    let folder = Folder::new();
    let schema = milepost(&folder, "trace schema");
    assert_eq!(schema.code, Some(0));
    let told: BTreeSet<&str> = schema
        .stdout
        .lines()
        .filter_map(|l| l.strip_prefix("  ").filter(|l| !l.starts_with(' '))?.split_whitespace().next())
        .collect();
    let (record, decision) = ("trace/record.rs", "trace/decision.rs");
    for (file, of) in [
        (record, "RunRecord"),
        (record, "RequestRecord"),
        (decision, "DecisionRecord"),
        (decision, "CandidateRecord"),
        (decision, "EstimatesRecord"),
        (decision, "ServerLoadRecord"),
        (decision, "ShadowRecord"),
        (record, "AttemptRecord"),
        (record, "ConnectionRecord"),
        (record, "WorkerRecord"),
        ("trace/header.rs", "LostRecord"),
        ("trace/header.rs", "ClockRecord"),
        ("trace/header.rs", "MarkRecord"),
        ("trace/header.rs", "CaptureRecord"),
        ("trace/journal/mod.rs", "JournalRecord"),
        ("trace/journal/mod.rs", "ChoiceCall"),
        ("trace/journal/mod.rs", "EventCall"),
        ("trace/journal/mod.rs", "ConfigValues"),
        ("clock.rs", "ClockSnapshot"),
        ("wire/answer.rs", "Tokens"),
        ("wire/meta_info.rs", "ServerStamps"),
    ] {
        let names = fields(file, of);
        assert!(!names.is_empty(), "{of}");
        // Flattened: its own fields stand in its place.
        for name in names
            .iter()
            .filter(|n| ![("RequestRecord", "tokens"), ("JournalRecord", "call")].contains(&(of, n)))
        {
            assert!(told.contains(name.as_str()), "{of}.{name} in {}", schema.stdout);
        }
    }
    for rust in ["Cow<", "Arc<", "Option<", "Vec<", "Box<", "'static"] {
        assert!(!schema.stdout.contains(rust), "{rust} in {}", schema.stdout);
    }
    in_a_real_trace(&folder, &told);
}

/// Every key that a router writes is in the schema.
fn in_a_real_trace(folder: &Folder, told: &BTreeSet<&str>) {
    let (_sim, url) = worker(folder, "--speedup 1000");
    let mut router = Router::start(
        folder,
        &format!("--worker-urls {url} --trace-log t.jsonl --trace-decisions journal --policy peak_ewma"),
    );
    router.process.line("described");
    for body in [r#"{"text":"a b","stream":true}"#, r#"{"text":"a b","rid":"r"}"#, "{"] {
        exchange(&router.address, post("/generate", "x-milepost-phase: p\r\n", body).as_bytes());
    }
    assert_eq!(exchange(&router.address, b"no request\r\n\r\n").0, 400);
    get(&router.address, "/health");
    assert_eq!(router.process.stop().code, Some(0));
    let (mut keys, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    for line in folder.read("t.jsonl").lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        kinds.insert(record["kind"].as_str().unwrap().to_owned());
        collect(&record, &mut keys);
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["clock", "connection", "journal", "request", "run", "worker"]
    );
    keys.remove("kind");
    let missing: Vec<&String> = keys.iter().filter(|k| !told.contains(k.as_str())).collect();
    assert!(keys.len() > 60 && missing.is_empty(), "{} keys, missing {missing:?}", keys.len());
}

fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                keys.insert(key.clone());
                collect(value, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|v| collect(v, keys)),
        _ => {}
    }
}
