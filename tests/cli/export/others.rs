//! Exports read by the programs they are for (`tests/exports/*.py`), where Python has them.
//!
//! `MILEPOST_EXPORTS_PYTHON` names an interpreter; without it `~/.cache/milepost-exports/bin/python` is taken. Where there is
//! none, or a package is missing, a test says so and passes: the Rust tests beside it read the same files.

use std::path::PathBuf;
use std::process::Command;

use super::{TRACE, export};
use crate::process::Folder;

/// How a script says that a package is not there.
const ABSENT: i32 = 77;

fn python() -> Option<PathBuf> {
    let named = std::env::var_os("MILEPOST_EXPORTS_PYTHON").map(PathBuf::from);
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/milepost-exports/bin/python"));
    named.or_else(usual).filter(|path| path.exists())
}

/// Runs a script with the trace and what was made of it, if it can run here.
fn read_by(script: &str, folder: &Folder, file: &str) {
    let Some(python) = python() else {
        eprintln!("{script} was not run: no Python of its own");
        return;
    };
    let path = format!("{}/tests/exports/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    // What it imports of ours leaves nothing behind in the sources.
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("MILEPOST", env!("CARGO_BIN_EXE_milepost"));
    command.args([&path, TRACE]).arg(folder.0.join(file));
    let ended = command.output().unwrap();
    let said = [ended.stdout, ended.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    if ended.status.code() == Some(ABSENT) {
        eprintln!("{script} was not run: {said}");
        return;
    }
    assert!(ended.status.success(), "{script}: {said}");
}

#[test]
fn csv_is_read_by_pandas_polars_and_duckdb() {
    let folder = Folder::new();
    export(&folder, "csv", "t.csv");
    read_by("tables.py", &folder, "t.csv");
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_is_read_by_pyarrow_pandas_polars_and_duckdb() {
    let folder = Folder::new();
    export(&folder, "parquet", "t.parquet");
    read_by("tables.py", &folder, "t.parquet");
}

#[test]
fn chrome_trace_events_are_read_by_trace_processor() {
    let folder = Folder::new();
    export(&folder, "perfetto", "t.json");
    read_by("perfetto_events.py", &folder, "t.json");
}

#[test]
fn spans_are_read_by_protobuf_and_taken_over_http() {
    let folder = Folder::new();
    export(&folder, "otlp", "t.json");
    read_by("otlp_spans.py", &folder, "t.json");
}
