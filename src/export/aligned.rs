//! What alignment makes of a trace, and nothing else of it: one line a request, to be joined with the trace by run and `seq`.
//!
//! Rule: the trace is only read, and a column has the name and the value that it has in CSV. Absent values are left out of JSON
//! and empty in CSV. Deliberately not here: alignment itself (`trace::align`), what it tells of clocks ([`super::clocks`]).

use std::io::{self, Write};

use super::ExportError;
use super::clocks::Clocks;
use super::columns::{Cell, derived, derived_columns, whole};
use super::csv::write_cell;
use super::source::{Item, Placed, each};
use super::survey::Survey;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line.
    Jsonl,
    /// A header, then cells with commas between them.
    Csv,
}

/// What a line has of the record, so that it can be found there and read alone.
const RECORDED: [&str; 9] = [
    "seq",
    "request_id",
    "worker",
    "same_host",
    "arrival_mono_ns",
    "arrival_unix_ns",
    "router_send_ns",
    "first_token_ns",
    "end_ns",
];

/// The cells of [`RECORDED`].
fn recorded<'a>(placed: &'a Placed<'_>) -> [Cell<'a>; RECORDED.len()] {
    let record = placed.record;
    let integer = |ns: Option<u64>| ns.map_or(Cell::Absent, |ns| Cell::Integer(whole(ns)));
    [
        integer(Some(record.seq)),
        Cell::Text(record.request_id.as_str().into()),
        record.worker.as_deref().map_or(Cell::Absent, |worker| Cell::Text(worker.into())),
        record.same_host.map_or(Cell::Absent, Cell::Truth),
        integer(Some(record.arrival_mono_ns)),
        integer(Some(record.arrival_unix_ns)),
        integer(record.router_send_ns),
        integer(record.first_token_ns),
        integer(Some(record.end_ns)),
    ]
}

/// The names of the columns, in order.
pub fn columns() -> Vec<String> {
    let recorded = RECORDED.iter().map(|name| (*name).to_owned());
    recorded.chain(derived_columns().map(|column| column.name)).collect()
}

/// Writes a line for each request, unless nobody wants them; returns how many requests there are and what is known of the clocks.
pub fn write(
    survey: &Survey,
    form: Form,
    mut out: Option<&mut (dyn Write + Send)>,
) -> Result<(u64, Clocks), ExportError> {
    let names = columns();
    if let (Some(out), Form::Csv) = (&mut out, form) {
        writeln!(out, "{}", names.join(","))?;
    }
    let (mut rows, mut clocks) = (0, Clocks::default());
    each(survey, |item| {
        let Item::Request(placed) = item else { return Ok(()) };
        clocks.add(&placed);
        rows += 1;
        let Some(out) = &mut out else { return Ok(()) };
        let cells = recorded(&placed).into_iter().chain(derived(&placed));
        match form {
            Form::Csv => write_line(*out, cells)?,
            Form::Jsonl => write_object(*out, names.iter().zip(cells), &placed)?,
        }
        Ok(())
    })?;
    Ok((rows, clocks))
}

fn write_line<'a>(out: &mut dyn Write, cells: impl Iterator<Item = Cell<'a>>) -> io::Result<()> {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        write_cell(out, &cell)?;
    }
    out.write_all(b"\n")
}

fn write_object<'a>(
    out: &mut dyn Write,
    members: impl Iterator<Item = (&'a String, Cell<'a>)>,
    placed: &Placed<'_>,
) -> io::Result<()> {
    let mut next = "{";
    for (name, cell) in members.filter(|(_, cell)| *cell != Cell::Absent) {
        write!(out, "{next}\"{name}\":")?;
        next = ",";
        match cell {
            Cell::Text(_) if name == "missing" => {
                write_object_of_reasons(out, &placed.aligned.missing)?;
            }
            Cell::Text(text) => serde_json::to_writer(&mut *out, &text)?,
            other => write_cell(out, &other)?,
        }
    }
    out.write_all(b"}\n")
}

/// Names and reasons are words of ours: nothing in them is to be escaped.
fn write_object_of_reasons(out: &mut dyn Write, missing: &[(&str, &str)]) -> io::Result<()> {
    let members: Vec<String> = missing.iter().map(|(what, why)| format!("\"{what}\":\"{why}\"")).collect();
    write!(out, "{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::align::{Aligned, NO_OFFSET, NOT_SENT};
    use crate::trace::record::RequestRecord;

    #[test]
    fn a_line_of_json_leaves_out_what_is_absent_and_escapes_what_must_be() {
        let record =
            RequestRecord { seq: 7, request_id: "a\"b".into(), end_ns: 9, ..RequestRecord::default() };
        let missing = vec![("server_created_time", NO_OFFSET), ("pure_queue_time", NOT_SENT)];
        let aligned = Aligned { clock_offset_ns: Some(-5), missing, ..Aligned::default() };
        let placed = Placed { run: 1, record: &record, aligned };
        let names = columns();
        let cells = recorded(&placed).into_iter().chain(derived(&placed));
        let mut out = Vec::new();
        write_object(&mut out, names.iter().zip(cells), &placed).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&line["seq"], &line["request_id"]), (&7.into(), &"a\"b".into()));
        assert_eq!((&line["clock_offset_ns"], line.get("worker")), (&(-5).into(), None));
        assert_eq!(line["missing"]["server_created_time"], NO_OFFSET);
    }
}
