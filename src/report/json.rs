//! A whole run as JSON.
//!
//! Rule: `run.json` holds everything, but no more than a million requests one by one (`requests.csv` has all of them); the line
//! for `--output-file` is the same object without `per_request`, on one line.
//! Numbers of the CSV come as numbers, an absent one as null. Deliberately not here: files.

use std::io;

use serde_json::{Map, Value, json};

use super::column;
use super::csv::{COLUMNS, cells};
use super::metrics::Metrics;
use super::peers;
use super::split::{Split, hint, one_sided};
use super::verdict::Verdict;
use super::warnings::warnings;
use crate::load::row::Row;
use crate::load::rows::Rows;
use crate::load::run::RunReport;

/// Rows in `per_request` at most: 1.5 GB of JSON.
const MOST_DETAILED: usize = 1_000_000;

/// Files that a run has written.
pub type ExportedFiles = Vec<(&'static str, String)>;

/// The object without `per_request`.
pub fn run_json(run: &RunReport, metrics: &Metrics, verdict: &Verdict, files: &ExportedFiles) -> Value {
    let (rows, records) = one_sided(run);
    let split = metrics.split.as_ref();
    let mut object = json!({
        "format": 1,
        "milepost_version": env!("CARGO_PKG_VERSION"),
        "partial": run.partial,
        "simulated": run.rows.iter().any(|r| r.simulated == Some(true)),
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
        "columns": column::to_json(&column::figures(&run.config.columns, &run.rows)),
        "cache_hits": super::cache_hits::CacheHits::of(run).to_json(),
        "concurrency_over_time": metrics.in_flight.points,
        "running_over_time": metrics.running.points,
        "faults": super::faults::to_json(run),
        "stages": super::phases::stages_json(run),
        "marks": super::marks::of_run(run),
        "verdict": verdict.to_json(),
        "warnings": warnings(run),
        "exported_files": files.iter().map(|(what, path)| ((*what).to_owned(), json!(path))).collect::<Map<_, _>>(),
    });
    if let Some(object) = object.as_object_mut() {
        object.extend(peers::to_json(run, metrics));
    }
    object
}

/// Writes the object of [`run_json`] with the rows as its `per_request`, on one line, row by row: as a tree they take six times
/// the memory of the rows themselves. Of more than `MOST_DETAILED` rows it is null.
pub fn write_full(out: &mut impl io::Write, object: &Value, rows: &Rows) -> io::Result<()> {
    write_object(out, object, rows, None)
}

/// The same with the lists that scripts for other load generators read ([`peers::LISTS`]): what `--output-details` asks for.
/// `untimed`: for the token times of some requests there was no room.
pub fn write_detailed(
    out: &mut impl io::Write,
    object: &Value,
    rows: &Rows,
    untimed: bool,
) -> io::Result<()> {
    write_object(out, object, rows, Some(untimed))
}

fn write_object(
    out: &mut impl io::Write,
    object: &Value,
    rows: &Rows,
    lists: Option<bool>,
) -> io::Result<()> {
    let text = object.to_string();
    out.write_all(text.strip_suffix('}').unwrap_or(&text).as_bytes())?;
    if rows.len() > MOST_DETAILED {
        return out.write_all(b",\"per_request\":null}\n");
    }
    out.write_all(b",")?;
    if let Some(untimed) = lists {
        peers::write_lists(out, rows, untimed)?;
    }
    out.write_all(b"\"per_request\":[")?;
    for (index, row) in rows.iter().enumerate() {
        write!(out, "{}{}", if index > 0 { "," } else { "" }, row_json(&row))?;
    }
    out.write_all(b"]}\n")
}

/// One row, keyed by the CSV's columns.
pub fn row_json(row: &Row) -> Value {
    let texts = ["req_id", "error", "host", "ttft_source", "policy", "worker_kind", "missing", "phase"];
    let pairs = COLUMNS.iter().zip(cells(row)).map(|(column, cell)| {
        let value = if cell.is_empty() {
            Value::Null
        } else if texts.contains(column) {
            Value::String(cell)
        } else {
            match cell.as_str() {
                "True" => json!(true),
                "False" => json!(false),
                number => serde_json::from_str(number).unwrap_or(Value::Null),
            }
        };
        ((*column).to_owned(), value)
    });
    Value::Object(pairs.collect())
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
        write_full(&mut out, &json!({"a": {"b": 1}}), &vec![example(), example()].into()).unwrap();
        let whole: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            whole,
            json!({"a": {"b": 1}, "per_request": [row_json(&example()), row_json(&example())]})
        );
        out.clear();
        write_detailed(&mut out, &json!({"a": 1}), &vec![example()].into(), false).unwrap();
        let detailed: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            (&detailed["errors"], detailed["per_request"].as_array().map(Vec::len)),
            (&json!([""]), Some(1))
        );
        out.clear();
        write_full(&mut out, &json!({"a": 1}), &vec![Row::default(); MOST_DETAILED + 1].into()).unwrap();
        assert_eq!(out, b"{\"a\":1,\"per_request\":null}\n");
    }
}
