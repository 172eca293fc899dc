//! The cells of a row, as values: what its line in the CSV is made of, its object in JSON, and the names of `--column`.
//!
//! Rule: a cell is taken from the row once, by no detour through text, and is written without an allocation, as millions of rows
//! have 63 each. Deliberately not here: which cells there are ([`super::csv`]).

use std::borrow::Cow;
use std::fmt::Write;

const SECOND_NS: u64 = 1_000_000_000;

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The row does not know it.
    Nothing,
    /// A text; an empty one is nothing.
    Text(Cow<'a, str>),
    /// Yes or no.
    Truth(bool),
    /// A number of things.
    Count(u64),
    /// A time: nanoseconds, told in seconds.
    Nanos(i64),
}

impl<'a> Cell<'a> {
    pub(super) fn text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Nothing, |text| Self::Text(Cow::Borrowed(text)))
    }

    pub(super) fn count(count: Option<impl Into<u64>>) -> Self {
        count.map_or(Self::Nothing, |count| Self::Count(count.into()))
    }

    pub(super) fn nanos(ns: Option<i64>) -> Self {
        ns.map_or(Self::Nothing, Self::Nanos)
    }

    /// Appends it as a cell of the CSV.
    pub(super) fn add_csv(&self, out: &mut String) {
        match self {
            Self::Nothing => {}
            Self::Text(text) if text.contains(['"', ',', '\n', '\r']) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\"{}\"", text.replace('"', "\"\""));
            }
            Self::Text(text) => out.push_str(text),
            Self::Truth(true) => out.push_str("True"),
            Self::Truth(false) => out.push_str("False"),
            Self::Count(count) => add_digits(out, *count, 1),
            Self::Nanos(ns) => add_seconds(out, *ns),
        }
    }

    /// Appends it as a value in JSON: a number, a truth, a text, or null.
    pub(super) fn add_json(&self, out: &mut String) {
        match self {
            Self::Nothing => out.push_str("null"),
            Self::Text(text) if text.is_empty() => out.push_str("null"),
            Self::Text(text) if text.bytes().any(|b| b < b' ' || b == b'"' || b == b'\\') => {
                // Writing to a String cannot fail.
                let _ = write!(out, "{}", serde_json::Value::from(&**text));
            }
            Self::Text(text) => {
                out.push('"');
                out.push_str(text);
                out.push('"');
            }
            Self::Truth(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Count(count) => add_digits(out, *count, 1),
            Self::Nanos(ns) => {
                add_seconds(out, *ns);
                while out.ends_with('0') && !out.ends_with(".0") {
                    out.pop();
                }
            }
        }
    }
}

/// Seconds with nine decimals, exact: no detour through floating point.
fn add_seconds(out: &mut String, ns: i64) {
    if ns < 0 {
        out.push('-');
    }
    let size = ns.unsigned_abs();
    add_digits(out, size / SECOND_NS, 1);
    out.push('.');
    add_digits(out, size % SECOND_NS, 9);
}

/// A number in at least so many digits.
fn add_digits(out: &mut String, mut number: u64, least: usize) {
    let mut digits = [b'0'; 20];
    let mut begin = digits.len();
    while number > 0 {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    begin = begin.min(digits.len() - least);
    out.push_str(std::str::from_utf8(&digits[begin..]).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cell: &Cell<'_>) -> (String, String) {
        let (mut csv, mut json) = (String::new(), String::new());
        cell.add_csv(&mut csv);
        cell.add_json(&mut json);
        (csv, json)
    }

    #[test]
    fn a_cell_is_told_in_both_forms() {
        let both = |cell, csv: &str, json: &str| assert_eq!(of(&cell), (csv.to_owned(), json.to_owned()));
        both(Cell::Nothing, "", "null");
        both(Cell::Truth(true), "True", "true");
        both(Cell::Count(0), "0", "0");
        both(Cell::Count(u64::MAX), "18446744073709551615", "18446744073709551615");
        both(Cell::Nanos(-1_500_000), "-0.001500000", "-0.0015");
        both(Cell::Nanos(0), "0.000000000", "0.0");
        both(Cell::Nanos(10_000_000_001), "10.000000001", "10.000000001");
        both(Cell::Nanos(i64::MIN), "-9223372036.854775808", "-9223372036.854775808");
        both(Cell::text(Some("")), "", "null");
        both(Cell::text(Some("a:1")), "a:1", "\"a:1\"");
        both(Cell::text(Some("a, \"b\"\n\\")), "\"a, \"\"b\"\"\n\\\"", r#""a, \"b\"\n\\""#);
    }
}
