//! `docs/faults.md`, made of the table, and the test that keeps the two equal.
//!
//! Deliberately not here: anything the table does not say.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::TOPICS;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/faults.md");

const HEAD: &str = "\
# What happens when something goes wrong

Made from the table of `tests/faults`, where every line of this page is a test that runs.

    cargo test --test faults                                 # all rows
    cargo test --test faults resets_before_the_head          # one of them
    MILEPOST_REWRITE_DOCS=1 cargo test --test faults page    # writes this page anew

Each row plays one fault on a router and compares what the client saw, what the trace record says and what became of the
connections to workers. After each row everything is back: leases, requests in flight, places among
`--max-concurrent-requests`, memory of bodies, idle and clients' connections, tasks; and requests = records.

- **client**: status, and the error code (`x-smg-error-code`) where the router answered itself. `whole`: the body ended as
  announced; `cut`: the connection ended before it, so that no part is taken for the whole.
- **record**: outcome and status, attempts (in brackets what failed, and at which worker), reconnects, `error`; how far its
  stamps go, in the order `body_read`, `limit_wait` (with a limit), `decided`, `connected`, `router_send`, `first_byte`,
  `head`, `first_event`, `first_token` (of streams), `last_byte`, all before the one named being there and all after it absent;
  how long the request took, where time was virtual. `connection`: a connection record, as there was no request to record.
  `W0`, `W1` are workers.
- **worker's connection**: `kept` is kept for the next request; `closed after` counts from the last thing that anybody did, and
  more than 10 ms fail the test.
- **how**: `pipes` is in virtual time, where an hour takes none; `sockets` is TCP; `process` is the binary.

";

fn page() -> String {
    let mut out = HEAD.to_owned();
    let _ = writeln!(out, "{} faults.", TOPICS.iter().map(|t| t.rows.len()).sum::<usize>());
    for topic in TOPICS {
        let head =
            "| fault | client | record | worker's connection | how | test |\n|---|---|---|---|---|---|";
        let _ = writeln!(out, "\n## {}\n\n{head}", topic.title);
        for row in topic.rows {
            let (fault, client, record) = (cell(row.fault), cell(row.client), cell(row.record));
            let (upstream, how, test) = (row.upstream, row.run.name(), row.test);
            let _ = writeln!(out, "| {fault} | {client} | {record} | {upstream} | {how} | `{test}` |");
        }
    }
    out
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[test]
fn page_is_made_of_the_table() {
    let page = page();
    if std::env::var_os("MILEPOST_REWRITE_DOCS").is_some() {
        std::fs::write(FILE, &page).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        written == page,
        "docs/faults.md is not what the table says; MILEPOST_REWRITE_DOCS=1 cargo test --test faults page writes it"
    );
}

#[test]
fn the_page_finds_each_test_by_its_name() {
    let mut names = BTreeSet::new();
    for row in TOPICS.iter().flat_map(|t| t.rows) {
        assert!(names.insert(row.test), "{} is there twice", row.test);
    }
}
