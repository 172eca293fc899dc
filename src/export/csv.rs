//! A trace as CSV: a header, then one line a request.
//!
//! Rule: quoting is RFC 4180, lines end in a line feed; an absent value is an empty cell, text that is there and empty is
//! `""`. Numbers have the digits that read back to the same number. Deliberately not here: which columns there are (`columns`).

use std::io::Write;

use super::ExportError;
use super::columns::{Cell, Columns};
use super::source::{Item, each};
use super::survey::Survey;
use crate::buffer::Buffer;

/// Writes the requests of a trace; returns how many.
pub fn write(survey: &Survey, out: &mut (dyn Write + Send)) -> Result<u64, ExportError> {
    let columns = Columns::of_requests();
    let names: Vec<&str> = columns.all().iter().map(|column| column.name.as_str()).collect();
    writeln!(out, "{}", names.join(","))?;
    let (mut rows, mut text) = (0, Buffer::default());
    each(survey, |item| {
        let Item::Request(placed) = item else { return Ok(()) };
        for (i, cell) in columns.row(&placed, &mut text)?.iter().enumerate() {
            if i > 0 {
                out.write_all(b",")?;
            }
            write_cell(out, cell)?;
        }
        out.write_all(b"\n")?;
        rows += 1;
        Ok(())
    })?;
    Ok(rows)
}

pub(super) fn write_cell(out: &mut (impl Write + ?Sized), cell: &Cell<'_>) -> std::io::Result<()> {
    match cell {
        Cell::Absent => Ok(()),
        Cell::Integer(n) => write!(out, "{n}"),
        Cell::Number(n) => write!(out, "{n}"),
        Cell::Truth(truth) => write!(out, "{truth}"),
        Cell::Text(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
            write!(out, "\"{}\"", text.replace('"', "\"\""))
        }
        Cell::Text(text) => out.write_all(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        let written = |cell: Cell<'_>| {
            let mut out = Vec::new();
            write_cell(&mut out, &cell).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(Cell::Absent), "");
        assert_eq!(written(Cell::Text("".into())), "\"\"");
        assert_eq!(written(Cell::Text("[{\"a\":1}]".into())), "\"[{\"\"a\"\":1}]\"");
        assert_eq!(written(Cell::Text("two\nlines".into())), "\"two\nlines\"");
        assert_eq!(written(Cell::Number(1_795_302_685.059_300_2)), "1795302685.0593002");
        assert_eq!((written(Cell::Integer(-3)), written(Cell::Truth(true))), ("-3".into(), "true".into()));
    }
}
