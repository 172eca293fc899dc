//! `docs/smuggling.md`, made of the tables, and the test that keeps the two equal.
//!
//! Deliberately not here: anything the tables do not say.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::table::{Family, GARDEN, PORTSWIGGER, PROBE, RFC, SMUGGLER};
use crate::{answers, requests};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/smuggling.md");

const HEAD: &str = "\
# Request smuggling

Made from the tables of `tests/smuggling`, where every line of this page is a case that runs: a client's bytes, a second request
behind them on the same connection, and a raw worker behind the router. A second reader of HTTP/1.1, written from RFC 9112
alone, judges both ends: a worker must receive whole requests and nothing else, each with one framing, and a client whole
answers, each to its own request. Every answer has a record in the trace.

    cargo test --test smuggling
    MILEPOST_REWRITE_DOCS=1 cargo test --test smuggling page        # writes this page anew

A worker's head is written anew from an allowlist of the client's fields, its body is one `content-length`, whatever framed it
before, and it is asked by a path. What the router adds to every request (`host`, `x-request-id`, `x-arrival-time`,
`x-router-send-time`, `x-milepost-hop`) is there once, and is left out of this page. \"the next\" is the request behind;
\"closed\" means that the connection has ended before it was read. 408 is what ends a wait for bytes that never come.

What remains of the protocol itself: an answer that a worker sends unasked between the router's look at an idle connection and
the request it writes a moment later is taken for the answer to that request. HTTP/1.1 has no numbers on its answers.

Sources of the cases (the lists, not their words):
";

const SOURCES: [(&str, &str); 5] = [
    (
        PORTSWIGGER,
        "<https://portswigger.net/web-security/request-smuggling>, and the research pages that it names",
    ),
    (SMUGGLER, "<https://github.com/defparam/smuggler>, `configs/`"),
    (GARDEN, "<https://github.com/narfindustries/http-garden>, `TROPHIES.md`"),
    (
        PROBE,
        "<https://github.com/MDA2AV/Http11Probe>, the suites Smuggling, Malformed Input, Normalization and Compliance",
    ),
    (RFC, "<https://www.rfc-editor.org/rfc/rfc9112>, the specification"),
];

fn page() -> String {
    let mut out = HEAD.to_owned();
    for (name, place) in SOURCES {
        let _ = write!(out, "\n- {name}: {place}");
    }
    let classes = requests::classes();
    let families = requests::families();
    let answers = answers::cases();
    let listed: usize = classes.iter().map(|class| class.cases.len()).sum();
    let bytes: usize = families.iter().map(|family| family.cases().len()).sum();
    let _ = writeln!(
        out,
        "\n\n{listed} requests, {bytes} mutations of one line, {} answers.\n\n## Requests",
        answers.len()
    );
    for class in &classes {
        let head = "| case | the client is told | the worker receives | source |\n|---|---|---|---|";
        let _ = writeln!(out, "\n### {}\n\n{head}", class.title);
        for case in &class.cases {
            let worker = if case.worker == "nothing" { "nothing".to_owned() } else { code(&case.worker) };
            let _ = writeln!(out, "| {} | {} | {worker} | {} |", code(&case.name), case.told, case.source);
        }
    }
    out.push_str(
        "\n### A byte in each place about the coding\n\n`<b>` is each of 0x00 to 0x20 and 0x7f to 0xff; behind the line stand a `Host` and \
         `Content-Length: 15`, and a body of 15 bytes that is also one chunk of 5.\n\n| line | bytes: what the client is told; what the worker receives | source |\n|---|---|---|\n",
    );
    for family in &families {
        let _ = writeln!(out, "| {} | {} | {} |", code(family.name), grouped(family), family.source);
    }
    out.push_str(
        "\n## Answers\n\nThe next request is sent when everything has settled, two seconds later.\n",
    );
    out.push_str("\n| the worker sends | the client gets | and then | source |\n|---|---|---|---|\n");
    for case in &answers {
        let told = if case.told == "502" { "502".to_owned() } else { code(&case.told) };
        let _ = writeln!(out, "| {} | {told} | {} | {} |", code(&case.name), case.next, case.source);
    }
    out
}

/// What becomes of which bytes.
fn grouped(family: &Family) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<u8>> = BTreeMap::new();
    for byte in family.bytes.iter().cloned().flatten() {
        groups.entry(family.expected(byte)).or_default().push(byte);
    }
    let all: usize = groups.values().map(Vec::len).sum();
    let group = |((told, worker), bytes): (&(&str, &str), &Vec<u8>)| {
        let which = match bytes.len() {
            n if n == all => "all".to_owned(),
            n if n > all / 2 => "all others".to_owned(),
            _ => ranges(bytes),
        };
        let worker = if *worker == "nothing" {
            "nothing".to_owned()
        } else {
            code(&worker.escape_debug().to_string())
        };
        format!("{which}: {told}; {worker}")
    };
    groups.iter().map(group).collect::<Vec<_>>().join("<br>")
}

fn ranges(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[u8]| match run {
        [only] => format!("{only:02x}"),
        [first, .., last] => format!("{first:02x} to {last:02x}"),
        [] => String::new(),
    };
    runs.map(run).collect::<Vec<_>>().join(", ")
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

#[test]
fn page_is_made_of_the_tables() {
    let page = page();
    if std::env::var_os("MILEPOST_REWRITE_DOCS").is_some() {
        std::fs::write(FILE, &page).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        written == page,
        "docs/smuggling.md is not what the tables say; MILEPOST_REWRITE_DOCS=1 cargo test --test smuggling page writes it"
    );
}

#[test]
fn no_case_is_in_a_table_twice() {
    let classes = requests::classes();
    let mut names: Vec<(&str, &str)> = classes
        .iter()
        .flat_map(|class| class.cases.iter().map(|case| (class.title, &case.name[..])))
        .collect();
    let answers = answers::cases();
    names.extend(answers.iter().map(|case| ("answers", &case.name[..])));
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|w| w[0] == w[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
