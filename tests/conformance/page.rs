//! `docs/conformance.md`, made of the table, and the test that keeps the two equal.
//!
//! Deliberately not here: anything the table does not say.

use std::fmt::Write;

use crate::TOPICS;
use crate::table::{Case, Expect, Topic};

const HEAD: &str = "\
# milepost beside sglang-router 0.3.2

Made from the table of `tests/conformance`, where every line of this page is a case that runs. The same cases run against
sglang-router 0.3.2 itself where it is installed, so the page describes it as it is, not as it is documented.

    cargo test --test conformance                                   # both routers; sglang-router only where python3 has it
    MILEPOST_PEER_PYTHON=/opt/peer/bin/python cargo test --test conformance
    MILEPOST_REWRITE_DOCS=1 cargo test --test conformance page      # writes this page anew

`W0`, `W1` are scripted workers; `1+0` is how many requests each of them got.

";

fn cases(topic: &Topic) -> impl Iterator<Item = &Case> {
    topic.groups.iter().flat_map(|g| g.cases)
}

fn page() -> String {
    let all = || TOPICS.iter().flat_map(|t| cases(t));
    let different = all().filter(|c| !matches!(c.expect, Expect::Both(_))).count();
    let mut out = HEAD.to_owned();
    let _ = writeln!(
        out,
        "{} behaviours, {different} of them different on purpose.\n\n## Differences, all intended\n",
        all().count()
    );
    for topic in TOPICS {
        let mut rows = String::new();
        for case in cases(topic) {
            let (peer, milepost, why) = match case.expect {
                Expect::Both(_) => continue,
                Expect::Differ { peer, milepost, why } => (cell(peer), milepost, why),
                Expect::Ours { peer, milepost, why } => {
                    (format!("not always the same: {peer}"), milepost, why)
                }
            };
            let _ = writeln!(rows, "| {} | {peer} | {} | {why} |", case.name, cell(milepost));
        }
        if !rows.is_empty() {
            let head = "| | sglang-router 0.3.2 | milepost | why |\n|---|---|---|---|";
            let _ = writeln!(out, "### {}\n\n{head}\n{rows}", topic.title);
        }
    }
    out.push_str("## The same in both\n\n");
    for topic in TOPICS {
        let _ = writeln!(out, "### {}\n\n| | |\n|---|---|", topic.title);
        for case in cases(topic) {
            if let Expect::Both(seen) = case.expect {
                let _ = writeln!(out, "| {} | {} |", case.name, cell(seen));
            }
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn cell(seen: &str) -> String {
    format!("`{}`", seen.replace('|', "\\|"))
}

#[test]
fn page_is_made_of_the_table() {
    crate::kept_page::hold("conformance.md", &page(), "--test conformance page");
}

#[test]
fn no_case_is_in_the_table_twice() {
    let mut names: Vec<(&str, &str)> =
        TOPICS.iter().flat_map(|t| cases(t).map(|c| (t.title, c.name))).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|w| w[0] == w[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
