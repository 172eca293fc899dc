//! A whole run as JSON.
//!
//! Rule: `run.json` holds everything, but no more than a million requests one by one (`requests.csv` has all of them); the line
//! for `--output-file` is the same object without `per_request`, on one line.
//! Numbers of the CSV come as numbers, an absent one as null. Deliberately not here: files.

use std::io;

use serde_json::{Map, Value, json};

use super::column;
use super::csv::{COLUMNS, cells};
use super::peers;
use super::split::{Split, hint, one_sided};
use super::survey::Survey;
use crate::load::row::Row;
use crate::load::rows::Rows;
use crate::load::run::RunReport;

/// Rows in `per_request` at most: 1.5 GB of JSON.
const MOST_DETAILED: usize = 1_000_000;

/// Rows from one time that it is told how many are done to the next.
pub(super) const TOLD: usize = 1024;

/// Is told now and then how many rows are done.
pub type Told<'a> = &'a dyn Fn(usize);

/// Files that a run has written.
pub type ExportedFiles = Vec<(&'static str, String)>;

/// The object without `per_request`.
pub fn run_json(run: &RunReport, survey: &Survey, files: &ExportedFiles) -> Value {
    let metrics = survey.metrics();
    let (rows, records) = one_sided(run, &survey.gathered);
    let split = metrics.split.as_ref();
    let mut object = json!({
        "format": 1,
        "milepost_version": env!("CARGO_PKG_VERSION"),
        "partial": run.partial,
        "simulated": survey.simulated,
        "schedule_xxh3": run.schedule.hash(),
        "started_unix_s": run.start.unix_ns as f64 / 1e9,
        "prompts_xxh3": run.prompts_xxh3,
        "arguments": run.config.arguments,
        "config": run.config.to_json(),
        "connections_opened": run.connections_opened,
        "tls_handshakes": run.handshakes.count,
        "mean_tls_handshake_ms": run.handshakes.mean_ms(),
        "servers": run.servers.iter().map(crate::load::probe::ServerInfo::to_json).collect::<Vec<_>>(),
        "metrics": metrics.to_json(),
        "percentiles_within": metrics.percentiles_within(),
        "where_the_time_went": split.map(Split::to_json),
        "found_on_one_side": { "rows_without_record": rows, "records_without_row": records },
        "hint": split.and_then(|split| hint(run, metrics, split)),
        "columns": column::to_json(&survey.gathered.columns),
        "cache_hits": survey.cache_hits.to_json(),
        "concurrency_over_time": metrics.in_flight.points,
        "running_over_time": metrics.running.points,
        "faults": super::faults::to_json(run, &survey.aftermaths),
        "stages": super::phases::stages_json(run),
        "marks": super::marks::of_run(run),
        "verdict": survey.verdict.to_json(),
        "warnings": survey.warnings,
        "exported_files": files.iter().map(|(what, path)| ((*what).to_owned(), json!(path))).collect::<Map<_, _>>(),
    });
    if let Some(object) = object.as_object_mut() {
        object.extend(peers::to_json(run, metrics));
    }
    object
}

/// Writes the object of [`run_json`] with the rows as its `per_request`, on one line, row by row: as a tree they take six times
/// the memory of the rows themselves. Of more than `MOST_DETAILED` rows it is null.
pub fn write_full(out: &mut impl io::Write, object: &Value, rows: &Rows, told: Told<'_>) -> io::Result<()> {
    write_members(out, object)?;
    write_rows(out, rows, told)
}

/// The same with the lists that scripts for other load generators read ([`peers::LISTS`]): what `--output-details` asks for.
/// `untimed`: for the token times of some requests there was no room.
pub fn write_detailed(
    out: &mut impl io::Write,
    object: &Value,
    rows: &Rows,
    untimed: bool,
    told: Told<'_>,
) -> io::Result<()> {
    write_members(out, object)?;
    if rows.len() <= MOST_DETAILED {
        peers::write_lists(out, rows, untimed)?;
    }
    write_rows(out, rows, told)
}

/// All of the object but its end.
fn write_members(out: &mut impl io::Write, object: &Value) -> io::Result<()> {
    let text = object.to_string();
    out.write_all(text.strip_suffix('}').unwrap_or(&text).as_bytes())?;
    out.write_all(b",")
}

/// The rows, and the end of the object.
fn write_rows(out: &mut impl io::Write, rows: &Rows, told: Told<'_>) -> io::Result<()> {
    if rows.len() > MOST_DETAILED {
        return out.write_all(b"\"per_request\":null}\n");
    }
    out.write_all(b"\"per_request\":[")?;
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        if index.is_multiple_of(TOLD) {
            told(index);
        }
        text.clear();
        text.push_str(if index > 0 { "," } else { "" });
        add_row(&mut text, &row);
        out.write_all(text.as_bytes())?;
    }
    out.write_all(b"]}\n")
}

/// Appends one row as an object, keyed by the CSV's columns.
pub fn add_row(out: &mut String, row: &Row) {
    for (place, (column, cell)) in COLUMNS.iter().zip(cells(row)).enumerate() {
        out.push_str(if place > 0 { ",\"" } else { "{\"" });
        out.push_str(column);
        out.push_str("\":");
        cell.add_json(out);
    }
    out.push('}');
}

/// The same as a tree.
#[cfg(test)]
pub(super) fn row_json(row: &Row) -> Value {
    let mut text = String::new();
    add_row(&mut text, row);
    serde_json::from_str(&text).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::example;

    #[test]
    fn a_row_has_numbers_truths_texts_and_nulls() {
        let row = row_json(&Row { req_id: "17".to_owned(), ..example() });
        assert_eq!(row["req_id"], json!("17"));
        assert_eq!(row["success"], json!(true));
        assert_eq!(row["ttft"], json!(0.021));
        assert_eq!(row["actual_output_tokens"], json!(5));
        assert_eq!(row["error"], Value::Null);
        assert_eq!(row.as_object().unwrap().len(), COLUMNS.len());
    }
    #[test]
    fn the_whole_is_the_object_with_each_row() {
        let mut out = Vec::new();
        write_full(&mut out, &json!({"a": {"b": 1}}), &vec![example(), example()].into(), &|_| ()).unwrap();
        let whole: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            whole,
            json!({"a": {"b": 1}, "per_request": [row_json(&example()), row_json(&example())]})
        );
        out.clear();
        write_detailed(&mut out, &json!({"a": 1}), &vec![example()].into(), false, &|_| ()).unwrap();
        let detailed: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&detailed["errors"], detailed["per_request"].as_array().map(Vec::len)),
            (&json!([""]), Some(1))
        );
        out.clear();
        write_full(&mut out, &json!({"a": 1}), &vec![Row::default(); MOST_DETAILED + 1].into(), &|_| ())
            .unwrap();
        assert_eq!(out, b"{\"a\":1,\"per_request\":null}\n");
    }
}
