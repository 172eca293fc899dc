//! `run.json`, one request at a time.
//!
//! Rule: the requests are never in memory together, whatever their number; their cells are read as those of the CSV are.
//! Deliberately not here: the figures that the file holds, which are made again.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::cells::setter;
use super::{Facts, ReadError, said};
use crate::load::row::Row;
use crate::report::files::CSV;
use crate::report::gather::Side;
use crate::report::marks;

/// Members that say what the run was.
const SAID: [&str; 7] =
    ["started_unix_s", "verdict", "partial", "config", "arguments", "milepost_version", "marks"];

/// Every row in turn.
pub(super) fn rows(path: &Path, take: &mut dyn FnMut(Side, &Row)) -> Result<Facts, ReadError> {
    let file = File::open(path).map_err(|e| ReadError::new(path, e))?;
    let mut input = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 18, file));
    let mut run = Run { head: Map::new(), rows: 0, found: false, without_rows: false, take };
    input.deserialize_map(&mut run).map_err(|e| ReadError::new(path, e))?;
    if !run.found {
        let what = "there is no per_request in it; the run.json of a run has it, and a line of --output-file with --output-details";
        return Err(ReadError::new(path, what));
    }
    if run.without_rows {
        let csv = path.with_file_name(CSV);
        let what = format!(
            "per_request is null, as there are too many requests for it; read {} instead",
            csv.display()
        );
        return Err(ReadError::new(path, what));
    }
    let Run { head, .. } = run;
    input.end().map_err(|_| ReadError::new(path, "more than one run; name the folders of the runs"))?;
    let notes = vec!["no ITL and ICL: the times of the tokens are not in this file".to_owned()];
    let head = Value::Object(head);
    let marks = marks::of_files(&head["marks"]);
    Ok(Facts { side: Side::Client, said: said(&head), notes, marks })
}

struct Run<'a> {
    head: Map<String, Value>,
    rows: u64,
    found: bool,
    /// `per_request` is null.
    without_rows: bool,
    take: &'a mut dyn FnMut(Side, &Row),
}

impl<'de> Visitor<'de> for &mut Run<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the object of a run")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<String>()? {
            if key == "per_request" {
                self.found = true;
                members.next_value_seed(Requests(self))?;
            } else if SAID.contains(&key.as_str()) {
                self.head.insert(key, members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// The list of requests.
struct Requests<'a, 'b>(&'a mut Run<'b>);

impl<'de> DeserializeSeed<'de> for Requests<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Requests<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of requests")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.without_rows = true;
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut requests: A) -> Result<(), A::Error> {
        while let Some(request) = requests.next_element::<Map<String, Value>>()? {
            self.0.rows += 1;
            let row = row(&request).map_err(|what| {
                A::Error::custom(format!("request {} of per_request: {what}", self.0.rows))
            })?;
            (self.0.take)(Side::Client, &row);
        }
        Ok(())
    }
}

fn row(request: &Map<String, Value>) -> Result<Row, String> {
    let mut row = Row::default();
    for (name, value) in request {
        let Some(set) = setter(name) else { continue };
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        set(&mut row, &text).map_err(|expected| format!("{name}: expected {expected}, got {value}"))?;
    }
    Ok(row)
}
