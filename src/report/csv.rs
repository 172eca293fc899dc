//! One CSV row per request.
//!
//! Rule: the first 26 columns are an inherited surface, in this order and with these names; ours come after them. Times are
//! seconds from the start of the run; an absent value is an empty cell, never 0; quoting is RFC 4180. Deliberately not
//! here: files.

use std::borrow::{Borrow, Cow};
use std::fmt::Write;
use std::io;

use super::cell::Cell;
use super::column::Columns;
use crate::load::row::Row;

/// The header, inherited columns first.
pub const COLUMNS: [&str; 63] = [
    "req_id",
    "success",
    "error",
    "host",
    "has_generated_text",
    "input_length",
    "expected_output_length",
    "actual_prompt_tokens",
    "actual_output_tokens",
    "actual_total_tokens",
    "output_tokens_from_trace",
    "decode_length",
    "arrival_time",
    "router_send_time",
    "server_created_time",
    "queue_time_start",
    "queue_time_end",
    "server_first_token_time",
    "finish_time",
    "server_latency",
    "total_latency",
    "ttft",
    "queue_time_in_router",
    "queue_time_in_server",
    "tokenize_time",
    "pure_queue_time",
    "ttft_source",
    "ttft_client",
    "ttft_router",
    "prefill_time",
    "decode_time",
    "network_time",
    "itl_mean",
    "tpot",
    "cached_tokens",
    "attempts",
    "policy",
    "scheduled_time",
    "sent_time",
    "client_latency",
    "worker_kind",
    "clock_bound",
    "order_broken",
    "missing",
    "status",
    "dispatched_time",
    "connected_time",
    "client_first_token_time",
    "client_end_time",
    "lateness",
    "latency_from_schedule",
    "ttft_from_schedule",
    "client_reconnects",
    "write_begun_time",
    "decided_time",
    "decision_time",
    "router_wait_time",
    "prefix_group",
    "phase",
    "batch_size",
    "planned_prompt_tokens",
    "session",
    "turn",
];

/// Header and rows; lines end with a line feed.
pub fn csv(rows: impl IntoIterator<Item: Borrow<Row>>) -> String {
    let mut out = header();
    for row in rows {
        add_line(&mut out, row.borrow());
    }
    out
}

/// Writes the same row by row, with columns of the user's own at the end.
pub fn write_csv(
    to: &mut impl io::Write,
    rows: impl IntoIterator<Item: Borrow<Row>>,
    mut own: Columns,
) -> io::Result<()> {
    let names: String = own.names().flat_map(|name| [",", name]).collect();
    writeln!(to, "{}{names}", COLUMNS.join(","))?;
    let mut line = String::new();
    for row in rows {
        let row: &Row = row.borrow();
        line.clear();
        add_line(&mut line, row);
        line.pop();
        for value in own.values(row) {
            line.push(',');
            // Writing to a String cannot fail.
            let _ = value.map(|value| write!(line, "{value}"));
        }
        line.push('\n');
        to.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn header() -> String {
    COLUMNS.join(",") + "\n"
}

fn add_line(out: &mut String, row: &Row) {
    for (i, cell) in cells(row).iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        cell.add_csv(out);
    }
    out.push('\n');
}

/// The cells of one row, in the order of [`COLUMNS`].
pub fn cells(row: &Row) -> [Cell<'_>; 63] {
    [
        Cell::text(Some(&row.req_id)),
        Cell::Truth(row.success()),
        row.failure.as_ref().map_or(Cell::Nothing, |failure| Cell::Text(Cow::Owned(failure.to_string()))),
        Cell::text(row.host.as_deref()),
        Cell::Truth(row.has_generated_text),
        Cell::count(row.input_words),
        Cell::count(row.max_new_tokens),
        Cell::count(row.prompt_tokens),
        Cell::count(row.completion_tokens),
        Cell::count(row.total_tokens()),
        Cell::count(row.trace_completion_tokens),
        Cell::count(row.decode_length()),
        Cell::nanos(row.arrival_ns),
        Cell::nanos(row.router_send_ns),
        Cell::nanos(row.created_ns),
        Cell::nanos(row.queue_start_ns),
        Cell::nanos(row.queue_end_ns),
        Cell::nanos(row.server_first_token_ns),
        Cell::nanos(row.finish_ns),
        Cell::nanos(row.server_latency_ns()),
        Cell::nanos(row.total_latency_ns()),
        Cell::nanos(row.ttft_ns),
        Cell::nanos(row.queue_time_in_router_ns()),
        Cell::nanos(row.queue_time_in_server_ns()),
        Cell::nanos(row.tokenize_ns),
        Cell::nanos(row.pure_queue_ns),
        Cell::text(Some(row.ttft_source)),
        Cell::nanos(row.ttft_client_ns()),
        Cell::nanos(row.ttft_router_ns),
        Cell::nanos(row.prefill_ns()),
        Cell::nanos(row.decode_ns()),
        Cell::nanos(row.network_ns()),
        Cell::nanos(row.itl_mean_ns().map(|ns| ns as i64)),
        Cell::nanos(row.tpot_ns().map(|ns| ns as i64)),
        Cell::count(row.cached_tokens),
        Cell::count(row.attempts),
        Cell::text(row.policy.as_deref()),
        Cell::Nanos(row.scheduled_ns),
        Cell::nanos(row.sent_ns),
        Cell::nanos(row.client_latency_ns()),
        Cell::text(Some(worker_kind(row.simulated))),
        Cell::nanos(row.clock_bound_ns.and_then(|ns| i64::try_from(ns).ok())),
        Cell::Truth(row.order_broken),
        missing(row),
        Cell::count(row.status),
        Cell::nanos(row.dispatched_ns),
        Cell::nanos(row.connected_ns),
        Cell::nanos(row.client_first_token_ns),
        Cell::nanos(row.client_end_ns),
        Cell::nanos(row.lateness_ns()),
        Cell::nanos(row.latency_from_schedule_ns()),
        Cell::nanos(row.ttft_from_schedule_ns()),
        Cell::Count(row.reconnects.into()),
        Cell::nanos(row.write_begun_ns),
        Cell::nanos(row.decided_ns),
        Cell::nanos(row.decision_ns),
        Cell::nanos(row.router_wait_ns),
        Cell::count(row.group),
        Cell::text(row.phase.as_deref()),
        Cell::count(row.batch_size),
        Cell::Count(row.planned_tokens),
        Cell::count(row.turn.map(|(session, _)| session)),
        Cell::count(row.turn.map(|(_, turn)| turn)),
    ]
}

/// Columns that stay empty, with the reason.
fn missing(row: &Row) -> Cell<'_> {
    let mut text = String::new();
    for (column, why) in &row.missing {
        text.push_str(if text.is_empty() { "" } else { "; " });
        text.push_str(column);
        text.push('=');
        text.push_str(why);
    }
    Cell::Text(Cow::Owned(text))
}

/// `real`, `simulated`, or empty where the worker was not asked.
pub fn worker_kind(simulated: Option<bool>) -> &'static str {
    match simulated {
        Some(true) => "simulated",
        Some(false) => "real",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::column;
    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::row::example;
    use proptest::prelude::*;

    const INHERITED: &str = "req_id,success,error,host,has_generated_text,input_length,expected_output_length,actual_prompt_tokens,actual_output_tokens,actual_total_tokens,output_tokens_from_trace,decode_length,arrival_time,router_send_time,server_created_time,queue_time_start,queue_time_end,server_first_token_time,finish_time,server_latency,total_latency,ttft,queue_time_in_router,queue_time_in_server,tokenize_time,pure_queue_time";

    #[test]
    fn the_first_26_columns_are_the_inherited_ones() {
        assert_eq!(COLUMNS[..26].join(","), INHERITED);
    }

    #[test]
    fn every_definition_on_one_row() {
        let text = csv(&[example()]);
        let mut written = Vec::new();
        write_csv(&mut written, &[example()], Columns::of(&[])).unwrap();
        assert_eq!(written, text.as_bytes());
        let own = [column::parse("ms=ttft*1000").unwrap(), column::parse("no=ttft/attempts/host").unwrap()];
        let mut with_own = Vec::new();
        write_csv(&mut with_own, &[example()], Columns::of(&own)).unwrap();
        let with_own = String::from_utf8(with_own).unwrap();
        assert_eq!(with_own, text.replacen(",turn\n", ",turn,ms,no\n", 1).trim_end().to_owned() + ",21,\n");
        let line = text.lines().nth(1).unwrap();
        let expected = "a-1,True,,127.0.0.1:31000,True,2,5,3,5,8,5,5,\
            1.000000000,1.001000000,1.002000000,1.003000000,1.013000000,1.021000000,1.061000000,\
            0.060000000,0.061000000,0.021000000,0.001000000,0.019000000,0.001000000,0.010000000,\
            server_patch,0.023100000,0.022000000,0.008000000,0.040000000,0.001000000,0.010000000,0.010000000,1,1,round_robin,\
            0.999000000,0.999500000,0.062600000,real,0.000000500,False,,200,0.999100000,,1.022500000,1.062000000,0.000500000,0.063000000,0.023500000,0,0.999400000,\
            1.000700000,0.000050000,0.000200000,2,,1,2,,";
        assert_eq!(line, expected);
    }

    #[test]
    fn an_absent_value_is_an_empty_cell() {
        let row = Row {
            req_id: "x".to_owned(),
            failure: Some(Failure::new(Class::NotSent, "a, \"b\"")),
            ..Row::default()
        };
        let text = csv(&[row]);
        let line = text.lines().nth(1).unwrap();
        assert!(
            line.starts_with("x,False,\"not_sent: a, \"\"b\"\"\",,False,,,,,,,,,,,,,,,,,,,,,,"),
            "{line}"
        );
    }

    /// A reader that follows RFC 4180, to read back what is written.
    fn read(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, quoted) {
                ('"', true) if chars.peek() == Some(&'"') => cell.extend(chars.next()),
                ('"', _) => quoted = !quoted,
                (',', false) => row.push(std::mem::take(&mut cell)),
                ('\n', false) => {
                    row.push(std::mem::take(&mut cell));
                    rows.push(std::mem::take(&mut row));
                }
                (other, _) => cell.push(other),
            }
        }
        rows
    }

    proptest! {
        #[test]
        fn any_text_comes_back(error in "[ -~\\n\\r,\"é]{0,40}", host in "[a-z:,\"]{0,10}") {
            let row = Row { failure: Some(Failure::new(Class::Reset, error.clone())), host: Some(host.clone()), ..example() };
            let back = read(&csv(&[row]));
            prop_assert_eq!(back.len(), 2);
            prop_assert_eq!(back[1].len(), COLUMNS.len());
            prop_assert_eq!(&back[1][2], &format!("reset: {error}"));
            prop_assert_eq!(&back[1][3], &host);
        }
    }
}
