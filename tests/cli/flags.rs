//! The flags of sglang-router at `milepost route`: the table against the argparse object it was made from, the page made from
//! the table, and a launch script's way through all of them.
//!
//! Deliberately not here: ranges and meanings of single values, see `src/config/flags/settings_tests.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use milepost::config::flags::{self, Flag, Origin, Standing, Takes, Value};

use crate::process::{Folder, Router, milepost};

fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_page_of_flags_is_what_the_table_says() {
    crate::kept_page::hold("flags.md", &flags::page(), "--test cli the_page_of_flags");
}

#[test]
fn the_table_is_that_of_sglang_router() {
    let text = std::fs::read_to_string(in_repository("tests/data/sglang_router_0.3.2_flags.tsv")).unwrap();
    let mut ours: BTreeMap<&str, &Flag> =
        flags::all().filter(|f| f.origin == Origin::SglangRouter).map(|f| (f.name, f)).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[name, values, kind, default] = fields.as_slice() else { panic!("{line}") };
        let flag = ours.remove(name).unwrap_or_else(|| panic!("--{name} is missing"));
        let takes = match values {
            "switch" => Takes::Switch,
            "one" => Takes::One,
            "*" => Takes::ZeroOrMore,
            "+" => Takes::OneOrMore,
            _ => Takes::Repeated,
        };
        assert_eq!(flag.takes, takes, "{name}");
        assert_eq!(flag.default.unwrap_or("-"), default, "{name}");
        assert_eq!(matches!(flag.value, Value::Integer(..)), kind == "int", "{name}");
        assert_eq!(matches!(flag.value, Value::Number(..)), kind == "float", "{name}");
    }
    assert!(ours.is_empty(), "not sglang-router's: {:?}", ours.keys());
}

#[test]
fn every_default_of_sglang_router_spelt_out_starts_a_router_without_a_warning() {
    let folder = Folder::new();
    let script: String = flags::all()
        .filter(|flag| flag.origin == Origin::SglangRouter)
        // The harness chooses free ports before, and of a flag given twice the last one counts.
        .filter(|flag| !matches!(flag.name, "host" | "port" | "prometheus-host" | "prometheus-port"))
        .filter_map(|flag| Some(format!(" --{} {}", flag.name, flag.default?)))
        .collect();
    assert!(script.matches(" --").count() > 40, "{script}");
    let ended = Router::start(&folder, &script).process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
}

#[test]
fn every_flag_without_effect_is_in_one_warning_and_routing_goes_on() {
    let folder = Folder::new();
    let without_effect = || flags::all().filter(|f| matches!(f.standing, Standing::Ignored(_)));
    let script: String = without_effect()
        .map(|flag| match (flag.takes, flag.value) {
            (Takes::Switch, _) => format!(" --{}", flag.name),
            (_, Value::Integer(..)) => format!(" --{} 3", flag.name),
            (_, Value::Word(words)) => format!(" --{} {}", flag.name, words.last().unwrap()),
            _ => format!(" --{} canary=5e7a", flag.name),
        })
        .collect();
    let ended = Router::start(&folder, &script).process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let warnings: Vec<&str> = ended.stderr.lines().filter(|line| line.contains("warning")).collect();
    let [warning] = warnings.as_slice() else { panic!("{warnings:#?}") };
    for flag in without_effect() {
        let name = format!("--{}", flag.name);
        let named = warning.split([' ', ',']).filter(|word| *word == name).count();
        assert_eq!(named, 1, "{name} in {warning}");
    }
    assert!(warning.contains("NO worker will be found by it"), "{warning}");
    assert!(!ended.stderr.contains("5e7a"), "a value is not printed: it may be a password: {}", ended.stderr);
}

#[test]
fn no_key_is_printed_by_start_or_refusal() {
    let folder = Folder::new();
    let keys = "--api-key k-5e7a --control-plane-api-keys ops:Ops:admin:c-5e7a";
    let mut router = Router::start(&folder, keys);
    let line = router.process.line("requests by --api-key, control endpoints by keys of their own");
    assert!(line.contains(&format!("version {}, pid ", env!("CARGO_PKG_VERSION"))), "{line}");
    let ended = router.process.stop();
    assert!(!ended.stderr.contains("5e7a") && !ended.stdout.contains("5e7a"), "{}", ended.stderr);
    for bad in [
        "--control-plane-api-keys c-5e7a",
        "--control-plane-api-keys a:b:c-5e7a:admin",
        "--api-key 5e7a\u{e9}",
    ] {
        let ended = milepost(&folder, &format!("route --host 127.0.0.1 --port 0 {bad}"));
        assert_eq!(ended.code, Some(2), "{bad}: {}", ended.stderr);
        assert!(ended.stderr.contains(bad.split(' ').next().unwrap()), "{}", ended.stderr);
        assert!(!ended.stderr.contains("5e7a"), "{}", ended.stderr);
    }
}

#[test]
fn the_second_line_says_what_surprises_at_night() {
    let folder = Folder::new();
    let flags = "--max-concurrent-requests 8 --queue-size 3 --disable-retries --disable-circuit-breaker --disable-health-check";
    let mut router = Router::start(&folder, flags);
    let line = router.process.line("version ");
    for words in [
        "open to everybody (no --api-key)",
        "at most 8 requests at once, 3 wait up to 60 s",
        "1 attempt in 1800 s",
        "no breaker",
        "no health checks",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    router.process.line("no workers yet (POST /workers adds one)");
    assert_eq!(router.process.stop().code, Some(0));
}
