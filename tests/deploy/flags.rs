//! Every flag that `deploy/` gives to the router, to the load generator and to SGLang.
//!
//! Rule: what is written there starts: each flag exists, works, and takes its value. Deliberately not here: whether a value
//! is a good one; each file says why it has it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use milepost::config::flags::{self, Flag, Given, Settings, Standing};

use crate::{path, read};

/// The files that set `MILEPOST_FLAGS`.
fn environments() -> Vec<PathBuf> {
    let folders = ["deploy/examples", "deploy/presets"];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(path(folder)).unwrap());
    let mut found: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    found.retain(|file| file.extension().is_some_and(|e| e == "env"));
    found.sort();
    assert!(found.len() >= 5, "{found:?}");
    found
}

/// What `name="..."` is in a file that shells and systemd read.
pub fn value(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("\n{name}=\""))?;
    Some(rest.split_once('"').expect("a closing quote").0.to_owned())
}

/// A flag of the table by the word that was typed, `--name` or `--name=value`.
fn flag(word: &str) -> &'static Flag {
    let name = word.trim_start_matches("--").split('=').next().unwrap();
    let known = |flag: &&Flag| flag.name == name || flag.aliases.contains(&name);
    flags::all().find(known).unwrap_or_else(|| panic!("{word}: milepost has no such flag"))
}

/// What the router would be started with; panics with the router's own words if it would not start, or would warn.
pub fn settings(words: &[String]) -> Settings {
    let mut given = Given::default();
    let mut rest = words.iter().peekable();
    while let Some(word) = rest.next() {
        assert!(word.starts_with("--"), "{word}: expected a flag");
        let flag = flag(word);
        assert!(matches!(flag.standing, Standing::Works), "--{} does nothing here", flag.name);
        let mut values: Vec<OsString> = word.split_once('=').map(|(_, v)| v.into()).into_iter().collect();
        while let Some(value) = rest.next_if(|next| !next.starts_with("--")) {
            values.push(value.into());
        }
        given.set(flag, values);
    }
    Settings::read(&given).unwrap_or_else(|e| panic!("{words:?}: {e}"))
}

pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_example_and_preset_starts_a_router_without_a_warning() {
    for file in environments() {
        let text = std::fs::read_to_string(&file).unwrap();
        let flags = value(&text, "MILEPOST_FLAGS").unwrap_or_else(|| panic!("{}", file.display()));
        let settings = settings(&words(&flags));
        assert!(settings.listen.port > 0, "{}", file.display());
    }
}

#[test]
fn what_is_left_on_in_staging_cannot_fill_the_disk() {
    let text = read("deploy/examples/staging-capture.env");
    let given = settings(&words(&value(&text, "MILEPOST_FLAGS").unwrap()));
    let capture = given.config.capture;
    assert!(capture.max_bytes.is_some() && capture.rotate_bytes.is_some() && capture.packs, "{capture:?}");
    assert!(capture.folder.is_some(), "the limit is that of the folder");
}

#[test]
fn each_flag_of_an_example_or_preset_has_its_reason_above_it() {
    for file in environments() {
        let text = std::fs::read_to_string(&file).unwrap();
        let comments: String = text.lines().filter(|line| line.starts_with('#')).collect();
        for name in ["MILEPOST_FLAGS", "SGLANG_FLAGS"] {
            for flag in words(&value(&text, name).unwrap_or_default()).iter().filter(|w| w.starts_with("--"))
            {
                assert!(comments.contains(flag.as_str()), "{}: {flag} without a reason", file.display());
            }
        }
    }
}

#[test]
fn flags_for_sglang_are_in_the_oldest_and_the_newest_release_that_are_supported() {
    let known = read("tests/data/sglang_server_flags.txt");
    let known: Vec<&str> = known.lines().collect();
    let mut seen = 0;
    let scripts = ["deploy/two-servers/start.sh", "deploy/two-servers/common.sh"].map(path);
    for file in environments().into_iter().chain(scripts) {
        let text = std::fs::read_to_string(&file).unwrap();
        let launch = text.split("sglang.launch_server").skip(1).filter_map(|rest| rest.split_once(";;"));
        let own = value(&text, "SGLANG_FLAGS").into_iter().chain(launch.map(|(line, _)| line.to_owned()));
        let default = text.lines().filter_map(|line| line.split_once("${SGLANG_FLAGS:-"));
        let all = own.chain(default.map(|(_, flags)| flags.trim_end_matches('}').to_owned()));
        for flag in all.flat_map(|text| words(&text)).filter(|w| w.starts_with("--")) {
            assert!(known.contains(&flag.as_str()), "{}: SGLang has no {flag}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 15, "the presets and scripts start servers");
}

/// What `milepost COMMAND --help` names.
fn help(command: &[&str]) -> String {
    let mut milepost = Command::new(env!("CARGO_BIN_EXE_milepost"));
    let ended = milepost.args(command).arg("--help").output().unwrap();
    String::from_utf8(ended.stdout).unwrap()
}

/// Every `--flag` in a text.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit() && c != '-';
    let found = text.match_indices("--").filter(|(at, _)| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|c| {
            c.is_whitespace() || matches!(c, '`' | '(' | '\'' | '"' | '/' | '；' | '、' | '：' | '，')
        })
    });
    let words = found.map(move |(at, _)| {
        let rest = &text[at..];
        &rest[..rest.find(ends).unwrap_or(rest.len())]
    });
    words.filter(|word| word.len() > 2 && !word.ends_with('-'))
}

#[test]
fn every_flag_that_a_page_or_file_names_is_somebodys() {
    // Of curl, cargo, pip, patch, docker and `sglang-router`'s way to be run.
    const FOREIGN: &[&str] = &[
        "--silent",
        "--fail",
        "--max-time",
        "--output",
        "--release",
        "--locked",
        "--bin",
        "--workspace",
        "--test",
        "--force-reinstall",
        "--no-deps",
        "--dry-run",
        "--rm",
        "--network",
        "--ulimit",
        "--from",
        "--chown",
        "--time",
        "--now",
    ];
    let sglang = read("tests/data/sglang_server_flags.txt");
    let own = ["bench", "worker", "demo", "replay"].map(|command| help(&[command])).concat();
    let trace =
        ["status", "tail", "align", "export", "show"].map(|command| help(&["trace", command])).concat();
    let known: Vec<&str> = named(&own).chain(named(&trace)).chain(sglang.lines()).collect();
    let route = |name: &str| flags::all().any(|flag| flag.name == name || flag.aliases.contains(&name));
    let files = [
        "docs/troubleshooting.md",
        "docs/trace.md",
        "README.zh-CN.md",
        "deploy/README.md",
        "deploy/two-servers/common.sh",
        "deploy/two-servers/start.sh",
        "deploy/two-servers/send.sh",
        "deploy/two-servers/stop.sh",
        "deploy/systemd/milepost.service",
        "deploy/container/Dockerfile",
        "deploy/kubernetes/milepost.yaml",
        "deploy/prometheus/alerts.yaml",
        "deploy/grafana/milepost.json",
        "deploy/sglang-patch/README.md",
        "deploy/examples/ab-bench.toml",
    ];
    let (mut seen, mut unknown) = (0, Vec::new());
    for file in
        files.map(str::to_owned).into_iter().chain(environments().iter().map(|f| f.display().to_string()))
    {
        let text = std::fs::read_to_string(path(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        for flag in named(&text) {
            if !(route(&flag[2..]) || known.contains(&flag) || FOREIGN.contains(&flag)) {
                unknown.push(format!("{file}: {flag}"));
            }
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
    assert!(unknown.is_empty(), "flags that nobody has: {unknown:#?}");
}

#[test]
fn the_files_of_flags_for_bench_are_taken_by_it() {
    for file in ["deploy/examples/ab-bench.toml", "deploy/two-servers/bench.toml"] {
        // `--pace-check` reads every flag and sends nothing.
        let mut bench = Command::new(env!("CARGO_BIN_EXE_milepost"));
        bench.arg("bench").arg("--config").arg(path(file));
        let ended = bench.args(["--pace-check", "--num-prompts", "1"]).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(!matches!(ended.status.code(), Some(2) | None), "{file}: {said}");
        assert!(!said.contains("error"), "{file}: {said}");
    }
}

#[test]
fn what_a_preset_quotes_from_the_page_of_policies_stands_on_it() {
    let page = read("docs/policies.md");
    for (preset, numbers) in [
        (
            "deploy/presets/high-throughput.env",
            [
                ("`cache_aware_improved`", "59.1"),
                ("`sglang_router_032 cache_aware`", "53.2"),
                ("`round_robin`", "28.3"),
            ]
            .as_slice(),
        ),
        (
            "deploy/presets/low-latency.env",
            &[
                ("`lowest_ttft`", "132"),
                ("`cache_aware`", "185"),
                ("`lowest_ttft`", "320"),
                ("`cache_aware`", "463"),
            ],
        ),
    ] {
        let text = read(preset);
        for (arm, number) in numbers {
            assert!(text.contains(number), "{preset} quotes {number} no more: mend this test");
            let mut rows = page.lines().filter(|line| line.starts_with(&format!("| {arm} |")));
            let there = rows.any(|row| row.split(" | ").any(|cell| cell.split(' ').next() == Some(number)));
            assert!(there, "{preset} quotes {number} of {arm}, which docs/policies.md has not");
        }
    }
}

#[test]
#[should_panic(expected = "milepost has no such flag")]
fn a_flag_that_is_not_there_is_seen() {
    settings(&words("--polcy cache_aware"));
}

#[test]
#[should_panic(expected = "does nothing here")]
fn a_flag_without_effect_is_seen() {
    settings(&words("--service-discovery"));
}
