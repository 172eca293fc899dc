//! The one table of a request: its columns, and a record as a row of cells.
//!
//! Rule: the columns are the leaves of the schema, in its order, then what alignment adds; so a field that is added to the
//! record is a column of every table without another line, and a value that has none is an error, not a gap. A name is the
//! field's; of a field inside an object with the object's name before it, unless it says that itself (`tokens.prompt_tokens`
//! is `prompt_tokens`, `server.queue_time` is `server_queue_time`). Deliberately not here: the forms of files.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::ExportError;
use super::source::Placed;
use crate::buffer::Buffer;
use crate::trace::align::Aligned;
use crate::trace::json::push_json;
use crate::trace::leaves::{LeafKind, leaves};

/// What alignment adds: name, kind, meaning.
const DERIVED: [(&str, LeafKind, &str); 15] = [
    ("aligned_created_ns", LeafKind::Integer, "The server took the request, nanoseconds after arrival."),
    (
        "aligned_queue_start_ns",
        LeafKind::Integer,
        "It entered the server's waiting queue, nanoseconds after arrival.",
    ),
    (
        "aligned_queue_end_ns",
        LeafKind::Integer,
        "It left the server's waiting queue, nanoseconds after arrival.",
    ),
    ("aligned_first_token_ns", LeafKind::Integer, "The server's first token, nanoseconds after arrival."),
    ("finish_ns", LeafKind::Integer, "Last byte of the answer at the router, nanoseconds after arrival."),
    ("pure_queue_ns", LeafKind::Integer, "Time in the server's waiting queue, nanoseconds."),
    ("tokenize_ns", LeafKind::Integer, "Taken by the server to its waiting queue, nanoseconds."),
    ("queue_in_server_ns", LeafKind::Integer, "Taken by the server to its first token, nanoseconds."),
    (
        "ttft_ns",
        LeafKind::Integer,
        "First token, the server's or else the router's, nanoseconds after arrival.",
    ),
    ("ttft_source", LeafKind::Text, "Whose first token that is."),
    (
        "clock_bound_ns",
        LeafKind::Integer,
        "Most by which an aligned moment may be off, nanoseconds; absent if none was aligned.",
    ),
    (
        "clock_offset_ns",
        LeafKind::Integer,
        "Taken from the worker's wall clock to place its stamps on the router's monotonic clock, nanoseconds.",
    ),
    ("order_broken", LeafKind::Truth, "The stages are out of order by more than the bound."),
    ("missing", LeafKind::Text, "What could not be told, with the reason: stage=reason; ..."),
    (
        "run",
        LeafKind::Integer,
        "Number of the router's run in the files given, from 1; seq counts within it.",
    ),
];

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What its cells hold; a list is JSON.
    pub kind: LeafKind,
    /// Meaning and unit.
    pub doc: Cow<'static, str>,
}

/// A value of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Cell<'a> {
    /// The record does not tell.
    #[default]
    Absent,
    /// A whole number.
    Integer(i64),
    /// Any number.
    Number(f64),
    /// True or false.
    Truth(bool),
    /// Words, or a list as JSON.
    Text(Cow<'a, str>),
}

/// The columns, and where the fields of a record stand among them.
#[derive(Debug)]
pub struct Columns {
    columns: Vec<Column>,
    fields: Fields,
}

#[derive(Debug, Default)]
struct Fields(Vec<(String, Place)>);

#[derive(Debug)]
enum Place {
    Cell(usize, LeafKind),
    Within(Fields),
}

impl Columns {
    /// Those of a request.
    pub fn of_requests() -> Self {
        let mut table = Self { columns: Vec::new(), fields: Fields::default() };
        for leaf in leaves("RequestRecord") {
            table.fields.put(&leaf.path, Place::Cell(table.columns.len(), leaf.kind));
            table.columns.push(Column { name: name_of(&leaf.path), kind: leaf.kind, doc: leaf.doc.into() });
        }
        table.columns.extend(derived_columns());
        table
    }

    /// The columns, in order.
    pub fn all(&self) -> &[Column] {
        &self.columns
    }

    /// The cells of a request, one for each column; `text` is room that they may borrow from.
    pub fn row<'a>(
        &self,
        placed: &'a Placed<'_>,
        text: &'a mut Buffer,
    ) -> Result<Vec<Cell<'a>>, ExportError> {
        let unfit = |why: &dyn fmt::Display| {
            ExportError::Unfit(format!("request {} cannot be a row: {why}", placed.record.seq))
        };
        text.clear();
        push_json(text, placed.record).map_err(|e| unfit(&e))?;
        let mut cells = vec![Cell::Absent; self.columns.len() - DERIVED.len()];
        let mut json = serde_json::Deserializer::from_slice(text.as_bytes());
        Filler { fields: &self.fields, cells: &mut cells }.deserialize(&mut json).map_err(|e| unfit(&e))?;
        cells.extend(derived(placed));
        Ok(cells)
    }
}

/// The columns of what alignment adds.
pub(super) fn derived_columns() -> impl Iterator<Item = Column> {
    DERIVED.into_iter().map(|(name, kind, doc)| Column { name: name.to_owned(), kind, doc: doc.into() })
}

fn name_of(path: &[String]) -> String {
    match path {
        [outer, own] if own.contains(outer.as_str()) => own.clone(),
        _ => path.join("_"),
    }
}

/// The cells of [`derived_columns`].
pub(super) fn derived<'a>(placed: &'a Placed<'_>) -> [Cell<'a>; DERIVED.len()] {
    // Taken apart, so that what alignment may add one day does not compile without its column.
    let Aligned {
        created_ns,
        queue_start_ns,
        queue_end_ns,
        first_token_ns,
        finish_ns,
        pure_queue_ns,
        tokenize_ns,
        queue_in_server_ns,
        ttft_ns,
        ttft_source,
        clock_bound_ns,
        clock_offset_ns,
        order_broken,
        missing,
    } = &placed.aligned;
    let integer = |value: &Option<i64>| value.map_or(Cell::Absent, Cell::Integer);
    let missing: Vec<String> = missing.iter().map(|(what, why)| format!("{what}={why}")).collect();
    [
        integer(created_ns),
        integer(queue_start_ns),
        integer(queue_end_ns),
        integer(first_token_ns),
        integer(finish_ns),
        integer(pure_queue_ns),
        integer(tokenize_ns),
        integer(queue_in_server_ns),
        integer(ttft_ns),
        Cell::Text(ttft_source.as_str().into()),
        clock_bound_ns.map_or(Cell::Absent, |ns| Cell::Integer(whole(ns))),
        integer(clock_offset_ns),
        Cell::Truth(*order_broken),
        if missing.is_empty() { Cell::Absent } else { Cell::Text(missing.join("; ").into()) },
        Cell::Integer(whole(placed.run)),
    ]
}

/// A count as tables hold it; beyond 2^63 is only what a client made up.
pub(super) fn whole(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Fields {
    fn put(&mut self, path: &[String], place: Place) {
        let Some((name, rest)) = path.split_first() else { return };
        if rest.is_empty() {
            self.0.push((name.clone(), place));
            return;
        }
        let at = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            self.0.push((name.clone(), Place::Within(Self::default())));
            self.0.len() - 1
        });
        if let Place::Within(fields) = &mut self.0[at].1 {
            fields.put(rest, place);
        }
    }

    /// The place of a field, looked for from `from` on, as fields come in the order in which they are declared.
    fn find(&self, name: &str, from: &mut usize) -> Option<&Place> {
        let (before, after) = self.0.split_at(*from);
        let at = match after.iter().position(|(known, _)| known == name) {
            Some(at) => *from + at,
            None => before.iter().position(|(known, _)| known == name)?,
        };
        *from = at + 1;
        Some(&self.0[at].1)
    }
}

/// Puts the members of an object into their cells.
struct Filler<'t, 'c, 'a> {
    fields: &'t Fields,
    cells: &'c mut [Cell<'a>],
}

impl<'a> DeserializeSeed<'a> for Filler<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Filler<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of the trace")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let mut from = 0;
        while let Some(name) = map.next_key::<&str>()? {
            match self.fields.find(name, &mut from) {
                Some(Place::Within(fields)) => {
                    map.next_value_seed(Filler { fields, cells: &mut *self.cells })?;
                }
                Some(Place::Cell(at, kind)) => {
                    let raw: &'a RawValue = map.next_value()?;
                    self.cells[*at] = cell(raw.get(), *kind).map_err(M::Error::custom)?;
                }
                None => return Err(M::Error::custom(format_args!("the field {name:?} has no column"))),
            }
        }
        Ok(())
    }
}

fn cell(json: &str, kind: LeafKind) -> Result<Cell<'_>, String> {
    let strange = || format!("{json:.40} where a value of another kind belongs");
    if json == "null" {
        return Ok(Cell::Absent);
    }
    match kind {
        LeafKind::Integer => match json.parse::<i64>() {
            Ok(n) => Ok(Cell::Integer(n)),
            Err(_) => json.parse::<u64>().map(|n| Cell::Integer(whole(n))).map_err(|_| strange()),
        },
        LeafKind::Number => json.parse().map(Cell::Number).map_err(|_| strange()),
        LeafKind::Truth => json.parse().map(Cell::Truth).map_err(|_| strange()),
        LeafKind::List => Ok(Cell::Text(json.into())),
        LeafKind::Text => {
            let plain = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(strange)?;
            if plain.contains('\\') {
                let text = serde_json::from_str::<String>(json).map_err(|_| strange())?;
                return Ok(Cell::Text(text.into()));
            }
            Ok(Cell::Text(plain.into()))
        }
    }
}

#[cfg(test)]
#[path = "columns_tests.rs"]
mod tests;
