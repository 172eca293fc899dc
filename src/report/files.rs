//! Where a run's files go: the one place here that writes.
//!
//! Rule: nothing is overwritten. If the folder holds a run already, this one goes into the first free `run-001`, `run-002`, …
//! inside it; all files are written whole and then moved into place. Deliberately not here: what is in the files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::csv::csv;
use super::json::{ExportedFiles, full_json, run_json};
use super::metrics::Metrics;
use crate::load::run::RunReport;

/// Files of a run.
const FILES: [&str; 3] = ["requests.csv", "run.json", "schedule.jsonl"];
/// Numbered folders at most.
const MOST_RUNS: u32 = 999;

/// Where results go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Folder for `requests.csv` and `run.json`.
    pub folder: PathBuf,
    /// A file that collects runs, one line each.
    pub collection: Option<PathBuf>,
    /// Put `per_request` into that line too.
    pub details: bool,
}

/// Writes everything; what was written, by kind and path.
///
/// # Errors
/// A file or folder cannot be written; the message names it.
pub fn write_run(run: &RunReport, metrics: &Metrics, to: &Destination) -> io::Result<ExportedFiles> {
    let folder = choose(&to.folder)?;
    let [csv_path, json_path, schedule_path] = FILES.map(|name| folder.join(name));
    let mut files = vec![
        ("csv", csv_path.display().to_string()),
        ("json", json_path.display().to_string()),
        ("schedule", schedule_path.display().to_string()),
    ];
    if let Some(path) = &to.collection {
        files.push(("output_file", path.display().to_string()));
    }
    write_whole(&csv_path, &csv(&run.rows))?;
    write_whole(&schedule_path, &run.schedule.to_text())?;
    let full = full_json(run, metrics, &files);
    write_whole(&json_path, &format!("{full}\n"))?;
    if let Some(path) = &to.collection {
        let line = if to.details { full } else { run_json(run, metrics, &files) };
        append_line(path, &line.to_string())?;
    }
    Ok(files)
}

/// Makes and chooses the folder.
///
/// # Errors
/// It cannot be made, or all numbers are used.
fn choose(folder: &Path) -> io::Result<PathBuf> {
    let context = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(context)?;
    if !FILES.iter().any(|file| folder.join(file).exists()) {
        return Ok(folder.to_owned());
    }
    for number in 1..=MOST_RUNS {
        let candidate = folder.join(format!("run-{number:03}"));
        match fs::create_dir(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(context(e)),
        }
    }
    Err(io::Error::other(format!(
        "{}: run-001 to run-{MOST_RUNS} are used; give another --output-dir",
        folder.display()
    )))
}

/// Writes a file so that it is there whole or not at all; the error names it.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// Appends one line to a file that collects runs.
fn append_line(path: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        // In one write, so that two runs that end together do not mix.
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_does_not_touch_the_first() {
        let root = std::env::temp_dir().join(format!("milepost-export-{}", std::process::id()));
        let folder = root.join("a/b");
        assert_eq!(choose(&folder).unwrap(), folder);
        write_whole(&folder.join("run.json"), "1").unwrap();
        assert_eq!(choose(&folder).unwrap(), folder.join("run-001"));
        assert_eq!(choose(&folder).unwrap(), folder.join("run-002"));
        append_line(&folder.join("all.jsonl"), "{}").unwrap();
        append_line(&folder.join("all.jsonl"), "{}").unwrap();
        assert_eq!(fs::read_to_string(folder.join("all.jsonl")).unwrap(), "{}\n{}\n");
        assert_eq!(fs::read_to_string(folder.join("run.json")).unwrap(), "1");
        fs::remove_dir_all(root).unwrap();
    }
}
