//! A whole run as JSON.
//!
//! Rule: `run.json` holds everything; the line for `--output-file` is the same object without `per_request`, on one line.
//! Numbers of the CSV come as numbers, an absent one as null. Deliberately not here: files.

use serde_json::{Map, Value, json};

use super::csv::{COLUMNS, cells};
use super::metrics::Metrics;
use super::split::{Split, hint, one_sided};
use super::verdict::Verdict;
use super::warnings::warnings;
use crate::load::row::Row;
use crate::load::run::RunReport;

/// Files that a run has written.
pub type ExportedFiles = Vec<(&'static str, String)>;

/// The object without `per_request`.
pub fn run_json(run: &RunReport, metrics: &Metrics, verdict: &Verdict, files: &ExportedFiles) -> Value {
    let (rows, records) = one_sided(run);
    let split = Split::of(&run.rows);
    json!({
        "format": 1,
        "milepost_version": env!("CARGO_PKG_VERSION"),
        "partial": run.partial,
        "simulated": run.rows.iter().any(|r| r.simulated == Some(true)),
        "schedule_xxh3": run.schedule.hash(),
        "started_unix_s": run.start.unix_ns as f64 / 1e9,
        "prompts_xxh3": run.prompts_xxh3,
        "arguments": run.config.arguments,
        "config": run.config.to_json(),
        "servers": run.servers.iter().map(crate::load::probe::ServerInfo::to_json).collect::<Vec<_>>(),
        "metrics": metrics.to_json(),
        "where_the_time_went": split.as_ref().map(Split::to_json),
        "found_on_one_side": { "rows_without_record": rows, "records_without_row": records },
        "hint": split.as_ref().and_then(|split| hint(run, metrics, split)),
        "cache_hits": super::cache_hits::CacheHits::of(run).to_json(),
        "concurrency_over_time": metrics.in_flight.points,
        "running_over_time": metrics.running.points,
        "verdict": verdict.to_json(),
        "warnings": warnings(run),
        "exported_files": files.iter().map(|(what, path)| ((*what).to_owned(), json!(path))).collect::<Map<_, _>>(),
    })
}

/// The whole object.
pub fn full_json(run: &RunReport, metrics: &Metrics, verdict: &Verdict, files: &ExportedFiles) -> Value {
    let mut object = run_json(run, metrics, verdict, files);
    object["per_request"] = run.rows.iter().map(row_json).collect();
    object
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
}
