//! Style that fails a test: file headers, file length, leftovers, and the commands that README and CI share.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the repository fails here, with the place")]

use std::path::{Path, PathBuf};

/// Longest source file.
const MAX_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "policies", "tests", "benches"].iter().map(|d| root().join(d)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 20, "the walk finds the sources");
    found.sort();
    found
}

fn complaints(check: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let complain = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        check(&text).map(|why| format!("{}: {why}", path.strip_prefix(root()).unwrap().display()))
    };
    rust_files().into_iter().filter_map(complain).collect()
}

#[test]
fn every_file_says_what_it_is() {
    let bad = complaints(|text| (!text.starts_with("//! ")).then(|| "has no `//!` header".to_owned()));
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let bad = complaints(|text| {
        let lines = text.lines().count();
        (lines > MAX_LINES).then(|| format!("{lines} lines"))
    });
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ig", "nore"), concat!("XX", "X")];
    let bad = complaints(|text| words.iter().find(|w| text.contains(**w)).map(|w| format!("contains {w}")));
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn the_readme_and_ci_run_the_same_tests() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    for command in ["cargo run --release -- demo", "cargo test --release --workspace"] {
        assert!(readme.contains(command), "README names `{command}`");
    }
    assert!(ci.lines().any(|line| line == "cargo test --release --workspace"));
}
