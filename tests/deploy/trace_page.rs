//! `docs/trace.md`: the example and the schema on it are what the code says of a real request.
//!
//! Rule: no number on the page is written by hand but in the sentences that explain it. Deliberately not here: reading and
//! alignment themselves, which have tests of their own.

use std::fmt::Write;

use milepost::trace::align::{Aligned, align};
use milepost::trace::axis::Offsets;
use milepost::trace::reader::TraceFile;
use milepost::trace::record::RequestRecord;
use milepost::trace::schema;

use crate::{path, read};

const PAGE: &str = "docs/trace.md";
const REWRITER: &str = "--test deploy trace_page";

/// The page with `text` between the marks of `name`.
fn with_part(page: &str, name: &str, text: &str) -> String {
    let (before, rest) = page.split_once(&format!("<!-- {name}:")).expect("the opening mark");
    let (mark, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once(&format!("<!-- /{name} -->")).expect("the closing mark");
    format!("{before}<!-- {name}:{mark}-->\n{text}<!-- /{name} -->{after}")
}

fn ms(ns: i64) -> String {
    format!("{:.3}", ns as f64 / 1e6)
}

/// The one request of the example, and where its stages lie.
fn request() -> (RequestRecord, Aligned) {
    let trace = TraceFile::read(&path("tests/data/trace_example/one_request.jsonl")).unwrap();
    assert_eq!((trace.torn_lines, trace.runs.len(), trace.runs[0].requests.len()), (0, 1, 1));
    let run = &trace.runs[0];
    let aligned = align(&run.requests[0], &run.clocks, &Offsets::default());
    (run.requests[0].clone(), aligned)
}

fn record_text() -> String {
    let text = read("tests/data/trace_example/one_request.jsonl");
    let line = text.lines().find(|line| line.contains("\"kind\":\"request\"")).unwrap();
    // As it was written: in the order of the fields, which a map of another kind would sort.
    let mut out = String::new();
    let (mut depth, mut in_text) = (0_usize, false);
    for c in line.chars() {
        in_text ^= c == '"';
        match c {
            '{' | '[' if !in_text => depth += 1,
            '}' | ']' if !in_text => depth -= 1,
            _ => (),
        }
        out.push(c);
        if c == ',' && !in_text && (depth == 1 || out.len() - out.rfind('\n').unwrap_or(0) > 100) {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        }
    }
    out
}

fn moments(record: &RequestRecord, aligned: &Aligned) -> String {
    let router = |ns: Option<u64>| i64::try_from(ns.unwrap()).unwrap();
    let rows = [
        ("arrival", "`arrival_unix_ns`", "router", 0),
        ("worker chosen", "`decided_ns`", "router", router(record.decided_ns)),
        ("first byte written to it", "`router_send_ns`", "router", router(record.router_send_ns)),
        ("head of the answer read", "`head_ns`", "router", router(record.head_ns)),
        ("HTTP process took it", "`server_created_time`", "server, Unix", aligned.created_ns.unwrap()),
        (
            "joined the waiting queue",
            "`queue_time_start`",
            "server, monotonic",
            aligned.queue_start_ns.unwrap(),
        ),
        ("left it", "`queue_time_end`", "server, monotonic", aligned.queue_end_ns.unwrap()),
        ("first token", "`server_first_token_time`", "server, Unix", aligned.first_token_ns.unwrap()),
        ("first event with tokens read", "`first_token_ns`", "router", router(record.first_token_ns)),
        ("last byte passed on", "`last_byte_ns`", "router", router(record.last_byte_ns)),
    ];
    let mut out = "| moment | field | clock | ms after arrival |\n|---|---|---|--:|\n".to_owned();
    for (moment, field, clock, ns) in rows {
        let _ = writeln!(out, "| {moment} | {field} | {clock} | {} |", ms(ns));
    }
    out
}

fn spans(record: &RequestRecord, aligned: &Aligned) -> String {
    let (created, end) = (aligned.created_ns.unwrap(), aligned.queue_end_ns.unwrap());
    let (token, finish) = (aligned.first_token_ns.unwrap(), aligned.finish_ns.unwrap());
    let send = i64::try_from(record.router_send_ns.unwrap()).unwrap();
    let rows = [
        ("queue_time_in_router", "arrival to first byte written", send),
        ("network_time", "to the server's HTTP process", created - send),
        ("tokenize_time", "to the waiting queue", aligned.tokenize_ns.unwrap()),
        ("pure_queue_time", "in the waiting queue", aligned.pure_queue_ns.unwrap()),
        ("prefill_time", "to the first token", token - end),
        ("decode_time", "to the last byte", finish - token),
    ];
    let mut out = "| column of the CSV | from the one before | ms |\n|---|---|--:|\n".to_owned();
    for (column, what, ns) in rows {
        let _ = writeln!(out, "| `{column}` | {what} | {} |", ms(ns));
    }
    let sum: i64 = rows.iter().map(|row| row.2).sum();
    assert!((sum - finish).abs() < 1_000, "the parts are the whole: {sum} and {finish}");
    let _ = writeln!(out, "| `total_latency` | all of it | {} |", ms(finish));
    let _ = writeln!(out, "| `ttft` | arrival to the first token | {} |", ms(aligned.ttft_ns.unwrap()));
    let _ = writeln!(out, "| `clock_bound` | how wrong a placed moment can be | {:.6} |", {
        aligned.clock_bound_ns.unwrap() as f64 / 1e6
    });
    out
}

#[test]
fn the_trace_page_is_what_the_code_says() {
    let (record, aligned) = request();
    assert!(!aligned.order_broken && aligned.missing.is_empty(), "{aligned:?}");
    let example = format!(
        "\n```json\n{}\n```\n\n{}\n{}\n",
        record_text(),
        moments(&record, &aligned),
        spans(&record, &aligned)
    );
    let page = with_part(&read(PAGE), "example", &example);
    let page = with_part(&page, "schema", &format!("\n```text\n{}```\n\n", schema::text()));
    crate::kept_page::hold("trace.md", &page, REWRITER);
}

#[test]
fn every_kind_of_line_is_in_the_table_at_the_top() {
    let page = read(PAGE);
    let schema = schema::text();
    let kinds = schema.lines().filter_map(|line| line.strip_prefix("kind \"")?.split_once('"'));
    let kinds: Vec<&str> = kinds.map(|(kind, _)| kind).collect();
    assert!(kinds.len() >= 7, "{kinds:?}");
    for kind in kinds {
        assert!(page.contains(&format!("\n| `{kind}` | ")), "{PAGE} does not say what a line `{kind}` is");
    }
}
