//! `docs/smuggling.md`, made of the tables, and the test that keeps the two equal.
//!
//! Deliberately not here: anything the tables do not say.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::table::{Family, GARDEN, PORTSWIGGER, PROBE, RFC, SMUGGLER};
use crate::{answers, requests};

const HEAD: &str = "\
# Request smuggling

Made from the tables of `tests/smuggling`, where every line of this page is a case that runs: a client's bytes, a second request
behind them on the same connection, and a raw worker behind the router. A second reader of HTTP/1.1, written from RFC 9112
alone, judges both ends: a worker must receive whole requests and nothing else, each with one framing, and a client whole
answers, each to its own request. Every answer has a record in the trace.

    cargo test --test smuggling
    MILEPOST_REWRITE_DOCS=1 cargo test --test smuggling page        # writes this page anew

How to read a row:

- **the client is told**: the statuses, in order. `then the next`: the request behind was answered too, as a request of its own.
  `closed`: the connection ended before it was read. 408 ends a wait for bytes that never come.
- **the worker receives**: each request whole, `+` between two. Its head is written anew from an allowlist of the client's fields,
  its body is one `content-length`, whatever framed it before, and it is asked by a path. What the router adds to every request
  (`host`, `x-request-id`, `x-arrival-time`, `x-router-send-time`, `x-milepost-hop`) is there once and left out here.
- **the client gets** (of answers): what the router adds to every answer is left out; the 502 is the router's own.
  `cut:` is what came before the client's connection ended too.
- `\\xa0` is a byte, `\\u{a0}` a character in UTF-8; a name that is a value or a line is that value or line in a request that is
  sound otherwise.

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
    let told =
        |is: fn(&str) -> bool| classes.iter().flat_map(|c| &c.cases).filter(|case| is(&case.told)).count();
    let refused = told(|told| told.starts_with(['4', '5']));
    let next = told(|told| !told.starts_with(['4', '5']) && told.contains("then the next"));
    let _ = writeln!(
        out,
        "\n\n{listed} requests: {refused} are refused, {next} are passed on and the one behind them too, {} are passed on and the last on \
         their connection. {bytes} mutations of one line. {} answers.\n\n## Requests",
        listed - refused - next,
        answers.len()
    );
    for class in &classes {
        let head = "| case | the client is told | the worker receives | source |\n|---|---|---|---|";
        let _ = writeln!(out, "\n### {}\n\n{head}", class.title);
        for case in &class.cases {
            let worker = if case.worker == "nothing" { "nothing".to_owned() } else { code(&case.worker) };
            let _ = writeln!(out, "| {} | {} | {worker} | {} |", name(&case.name), case.told, case.source);
        }
    }
    out.push_str(
        "\n### A byte in each place about the coding\n\n`<b>` is each of 0x00 to 0x20 and 0x7f to 0xff; behind the line stand a `Host` and \
         `Content-Length: 15`, and a body of 15 bytes that is also one chunk of 5.\n\n| line | bytes: what the client is told; what the worker receives | source |\n|---|---|---|\n",
    );
    for family in &families {
        let _ = writeln!(out, "| {} | {} | {} |", name(family.name), grouped(family), family.source);
    }
    out.push_str(
        "\n## Answers\n\nThe next request is sent when everything has settled, two seconds later.\n",
    );
    out.push_str("\n| the worker sends | the client gets | and then | source |\n|---|---|---|---|\n");
    for case in &answers {
        let told = if case.told == "502" { "502".to_owned() } else { code(&case.told) };
        let _ = writeln!(out, "| {} | {told} | {} | {} |", name(&case.name), case.next, case.source);
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

/// A case's name, in which quotes need no escape; blanks at its ends, which a page would swallow, are told.
fn name(text: &str) -> String {
    let inner = text.trim_matches(' ');
    let (before, after) = text.split_at(text.len() - text.trim_start_matches(' ').len());
    let behind = after.len() - inner.len();
    let text = [&"\\x20".repeat(before.len()), inner, &"\\x20".repeat(behind)].concat();
    if text.is_empty() { "nothing".to_owned() } else { code(&text.replace("\\\"", "\"").replace("\\'", "'")) }
}

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

#[test]
fn page_is_made_of_the_tables() {
    crate::kept_page::hold("smuggling.md", &page(), "--test smuggling page");
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
