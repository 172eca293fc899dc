//! Style that fails a test: file headers, file length, leftovers, links of pages, and the commands that README and CI share.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the repository fails here, with the place")]

use std::path::{Path, PathBuf};

/// Longest source file.
const MAX_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files() -> Vec<PathBuf> {
    let found = files(&["src", "policies", "tests", "benches", "fuzz"], "rs");
    assert!(found.len() > 20, "the walk finds the sources");
    found
}

fn files(folders: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|d| root().join(d)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
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

/// Where a page's links lead, those to other sites apart.
fn links(page: &str) -> impl Iterator<Item = &str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains(':') && !target.contains(char::is_whitespace))
}

#[test]
fn what_a_page_links_to_is_there() {
    let mut pages = files(&["docs", "policies", "fuzz", "deploy"], "md");
    let own = ["README.md", "README.zh-CN.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    pages.extend(own.iter().map(|page| root().join(page)));
    let (mut followed, mut bad) = (0, Vec::new());
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            followed += 1;
            let there = std::fs::read_to_string(&target);
            if !there.is_ok_and(|there| heading.is_empty() || there.lines().any(|line| slug(line) == heading))
            {
                bad.push(format!("{}: {link}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(followed > 20, "the pages link to each other");
    assert!(bad.is_empty(), "links that lead nowhere: {bad:#?}");
}

/// The name by which a link finds a heading; of other lines nothing that a link could name.
fn slug(line: &str) -> String {
    let Some(title) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()) else {
        return String::new();
    };
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn the_readme_and_ci_run_the_same_tests() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let ci = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    for command in ["cargo run --release -- demo", "cargo test --workspace"] {
        assert!(readme.contains(command), "README names `{command}`");
    }
    assert!(ci.lines().any(|line| line == "cargo test --workspace"));
}
