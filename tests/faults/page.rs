//! `docs/faults.md`, made of the table, and the test that keeps the two equal.
//!
//! Deliberately not here: anything the table does not say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use milepost::trace::record::Outcome;

use crate::TOPICS;
use crate::table::Row;

const HEAD: &str = "\
# What happens when something goes wrong

Made from the table of `tests/faults`, where every line of this page is a test that runs.

    cargo test --test faults                                 # all rows
    cargo test --test faults resets_before_the_head          # one of them
    MILEPOST_REWRITE_DOCS=1 cargo test --test faults page    # writes this page anew

Each row plays one fault on a router and compares what the client saw, what the trace record says and what became of the
connections to workers. After each row everything is back: leases, requests in flight, places among
`--max-concurrent-requests`, memory of bodies, idle and clients' connections, tasks; and requests = records.

**To find a row** by what you have before you, a status, an error code or a record's `outcome`, take its name from
[By what was seen](#by-what-was-seen) and search this page for it.

How to read one (in every column `+` or `, ` stands between requests of one row, `×3` for three that are alike):

- **client**: status, and the error code (`x-smg-error-code`) where the router answered itself. `whole`: the body ended as
  announced. `cut`: the connection ended before that, so that no part is taken for the whole. `closed, no answer`: it ended
  before a head. A status without a code is the worker's own, or that of bytes that are no request. `left`: it was the client
  that went. `kept`: its connection can be used for another request.
- **record**: first the outcome and the status, attempts (in brackets what failed, and at which worker), reconnects. Then
  `error`. Then how far its stamps go, in the order `body_read`, `limit_wait` (with a limit), `decided`, `connected`,
  `router_send`, `first_byte`, `head`, `first_event`, `first_token` (of streams), `last_byte`: the one named and those before it
  are there, those after it are absent. Last how long the request took, where time was virtual. `connection` is a connection
  record, as there was no request to record; `lost 5` says that five records could not be written. `milepost trace schema`
  explains every word.
- **worker's connection**: `kept` for the next request; `closed` by the router, so long after the last thing that anybody did
  (more than 10 ms fail the test; over sockets it is not timed); `ended by the worker`; `none` was used.
- **how**: `pipes` is in virtual time, where an hour takes none; `sockets` is TCP; `process` is the binary.
- `W0` and `W1` are workers, in the order in which the router was told of them.

";

fn page() -> String {
    let mut out = HEAD.to_owned();
    let _ = writeln!(
        out,
        "{} faults.\n\n## By what was seen\n",
        TOPICS.iter().map(|t| t.rows.len()).sum::<usize>()
    );
    index(&mut out, "the client has", |row| row.client, by_client);
    out.push('\n');
    index(&mut out, "the record says", |row| row.record, by_record);
    for topic in TOPICS {
        let head =
            "| fault | client | record | worker's connection | how | test |\n|---|---|---|---|---|---|";
        let _ = writeln!(out, "\n## {}\n\n{head}", topic.title);
        for row in topic.rows {
            let (fault, client, record) = (cell(row.fault), cell(row.client), lines(row.record));
            let (upstream, how, test) = (row.upstream, row.run.name(), row.test);
            let _ = writeln!(out, "| {fault} | {client} | {record} | {upstream} | {how} | `{test}` |");
        }
    }
    out
}

/// Which rows have a sign in one of their columns, as a table.
fn index(out: &mut String, column: &str, of: fn(&Row) -> &'static str, signs: fn(&str) -> BTreeSet<String>) {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in TOPICS.iter().flat_map(|t| t.rows) {
        for sign in signs(of(row)) {
            found.entry(sign).or_default().push(format!("`{}`", row.test));
        }
    }
    let _ = writeln!(out, "| {column} | rows |\n|---|---|");
    for (sign, rows) in found {
        let _ = writeln!(out, "| {sign} | {} |", rows.join(", "));
    }
}

/// Statuses that are no success, each with its code; answers that were cut, or never came.
fn by_client(client: &str) -> BTreeSet<String> {
    let words: Vec<&str> = client.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
    let mut signs = BTreeSet::new();
    for pair in words.windows(2) {
        let Ok(status @ 200..=599) = pair[0].parse::<u16>() else { continue };
        match pair[1] {
            "cut" => signs.insert(format!("{status}, cut")),
            "whole" if status >= 400 => signs.insert(format!("{status} without a code")),
            code if code.contains('_') => signs.insert(format!("{status} `{code}`")),
            _ => false,
        };
    }
    if client.contains("no answer") {
        signs.insert("no answer".to_owned());
    }
    signs
}

/// Outcomes other than `done`, and records that are of no request.
fn by_record(record: &str) -> BTreeSet<String> {
    let records = record.split(" + ").map(|one| one.split_once(" in all: ").map_or(one, |(_, first)| first));
    let kinds = records.filter_map(|one| one.split([' ', ',', ':']).next());
    let is_told = |kind: &&str| {
        let outcomes = Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::Done);
        outcomes.map(|outcome| outcome.name()).chain(["connection", "lost"]).any(|name| name == *kind)
    };
    kinds.filter(is_told).map(|kind| format!("`{kind}`")).collect()
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// A record in lines: a cell as wide as an error's text is one that nobody can read beside another.
fn lines(record: &str) -> String {
    cell(record)
        .replace(", error \"", "<br>error \"")
        .replace("; stamps to ", "<br>stamps to ")
        .replace("; no stamps", "<br>no stamps")
        .replace(" + ", "<br>+ ")
}

#[test]
fn page_is_made_of_the_table() {
    crate::kept_page::hold("faults.md", &page(), "--test faults page");
}

#[test]
fn the_page_finds_each_test_by_its_name() {
    let mut names = BTreeSet::new();
    for row in TOPICS.iter().flat_map(|t| t.rows) {
        assert!(names.insert(row.test), "{} is there twice", row.test);
    }
}
