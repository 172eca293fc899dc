//! `requests.csv`, line by line.
//!
//! Rule: columns are found by their names, in any order, and a strange one is passed over and said; quoting is RFC 4180. A last line that a
//! crash tore is left out and said. Deliberately not here: what a cell means (`cells`).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::cells::{Set, setter};
use super::tokens::Tokens;
use super::{Facts, MAX_LINE_BYTES, ReadError};
use crate::load::row::Row;
use crate::report::csv::COLUMNS;
use crate::report::gather::Side;

/// Without one of these there is nothing to measure.
const TIMES: [&str; 4] = ["finish_time", "client_end_time", "total_latency", "ttft"];
/// What a client tells of its requests.
const CLIENTS: [&str; 3] = ["scheduled_time", "sent_time", "client_end_time"];

/// It begins as a table of requests does.
pub(super) fn is_header(line: &[u8]) -> bool {
    let names: Vec<&[u8]> = line.split(|b| *b == b',').map(<[u8]>::trim_ascii).collect();
    let has = |name: &&str| names.contains(&name.as_bytes());
    names.iter().filter(|name| COLUMNS.iter().any(|c| c.as_bytes() == **name)).count() >= 2
        && TIMES.iter().any(has)
}

/// Every row in turn.
pub(super) fn rows(
    path: &Path,
    tokens: Option<&Path>,
    take: &mut dyn FnMut(Side, &Row),
) -> Result<Facts, ReadError> {
    let file = File::open(path).map_err(|e| ReadError::new(path, e))?;
    let mut lines = Lines::new(BufReader::with_capacity(1 << 18, file));
    let mut cells = Vec::new();
    let fail = |lines: &Lines<_>, what: String| ReadError::at(path, lines.line, what);
    lines.next(&mut cells).map_err(|e| fail(&lines, e.to_string()))?;
    let names: Vec<String> = cells.iter().map(|name| name.trim().to_owned()).collect();
    let setters: Vec<Option<Set>> = names.iter().map(|name| setter(name)).collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    let side = if CLIENTS.into_iter().all(has) { Side::Client } else { Side::Router };
    let scheduled = has("scheduled_time");
    let mut tokens = tokens.map(Tokens::open).transpose()?;
    let mut facts = Facts { side, ..Facts::default() };
    // Milepost ends every line: one without its end is torn, however many cells are left of it.
    let ends_all =
        names.len() >= COLUMNS.len() && COLUMNS.iter().zip(&names).all(|(ours, name)| ours == name);
    let strange: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| setter(name).is_none() && !COLUMNS.contains(name))
        .collect();
    if !strange.is_empty() {
        facts.notes.push(format!("columns passed over: {}", strange.join(", ")));
    }
    loop {
        let whole = match lines.next(&mut cells).map_err(|e| fail(&lines, e.to_string()))? {
            Read::End => break,
            Read::Blank => continue,
            Read::Line { whole } => whole,
        };
        if !whole && (ends_all || cells.len() != names.len()) {
            facts.notes.push(format!("line {} is torn and left out", lines.line));
            break;
        }
        if cells.len() != names.len() {
            let what = format!("{} cells under {} names of columns", cells.len(), names.len());
            return Err(fail(&lines, what));
        }
        let mut row = Row::default();
        for ((set, cell), name) in setters.iter().zip(&cells).zip(&names) {
            if let Some(set) = set
                && !cell.is_empty()
            {
                set(&mut row, cell).map_err(|expected| {
                    fail(&lines, format!("column {name}: expected {expected}, got {cell:?}"))
                })?;
            }
        }
        if !scheduled {
            row.scheduled_ns = row.arrival_ns.unwrap_or(0);
        }
        if let Some(tokens) = &mut tokens {
            tokens.join(&mut row)?;
        }
        take(side, &row);
    }
    if let Some(tokens) = tokens {
        facts.notes.extend(tokens.left_over());
    } else {
        facts.notes.push(
            "no ITL and ICL: the times of the tokens are not in these files (bench --token-times keeps them)"
                .to_owned(),
        );
    }
    Ok(facts)
}

/// What came of looking for the next line.
enum Read {
    End,
    Blank,
    /// `whole`: it ended as a line does.
    Line {
        whole: bool,
    },
}

/// Lines of cells.
struct Lines<R> {
    input: R,
    /// The line that was read last, from 1; a quoted line feed counts.
    line: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R) -> Self {
        Self { input, line: 0, buffer: Vec::new() }
    }

    /// Reads up to a line feed outside of quotes.
    fn next(&mut self, cells: &mut Vec<String>) -> io::Result<Read> {
        self.buffer.clear();
        let mut inside = false;
        loop {
            let before = self.buffer.len();
            let read = io::Read::take(&mut self.input, (MAX_LINE_BYTES - before) as u64)
                .read_until(b'\n', &mut self.buffer)?;
            self.line += u64::from(read > 0);
            let ended = self.buffer.last() == Some(&b'\n');
            if !ended && self.buffer.len() >= MAX_LINE_BYTES {
                return Err(io::Error::other(format!("longer than {MAX_LINE_BYTES} bytes")));
            }
            inside ^= self.buffer[before..].split(|b| *b == b'"').count().is_multiple_of(2);
            if read > 0 && ended && inside {
                continue;
            }
            if self.buffer.is_empty() {
                return Ok(Read::End);
            }
            let text = std::str::from_utf8(&self.buffer).map_err(|_| io::Error::other("not UTF-8"))?;
            let text = text.strip_suffix('\n').unwrap_or(text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            let text = if self.line == 1 { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text };
            if text.is_empty() {
                return Ok(Read::Blank);
            }
            split(text, cells);
            return Ok(Read::Line { whole: ended && !inside });
        }
    }
}

/// The cells of a line into strings that are there from the line before.
fn split(text: &str, cells: &mut Vec<String>) {
    let mut count = 0;
    let mut cell = |text: &str, quoted: bool| {
        if cells.len() == count {
            cells.push(String::new());
        }
        cells[count].clear();
        if quoted {
            cells[count].push_str(&text.replace("\"\"", "\""));
        } else {
            cells[count].push_str(text);
        }
        count += 1;
    };
    let mut rest = Some(text);
    while let Some(text) = rest {
        if let Some(inner) = text.strip_prefix('"') {
            let end = closing(inner);
            cell(&inner[..end], true);
            rest = inner.get(end + 1..).and_then(|after| after.split_once(',')).map(|(_, after)| after);
        } else {
            let (one, after) = text.split_once(',').map_or((text, None), |(one, after)| (one, Some(after)));
            cell(one, false);
            rest = after;
        }
    }
    cells.truncate(count);
}

/// Where the quote ends that `text` is in: a doubled one does not end it.
fn closing(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'"', Some(b'"')) => at += 2,
            (b'"', _) => return at,
            _ => at += 1,
        }
    }
    bytes.len()
}
