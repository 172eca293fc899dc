//! Runs read back from their files: `requests.csv`, `run.json`, the folder of a run, a trace log.
//!
//! Rule: one row at a time, so that the number of rows does not matter; what a file does not hold stays unknown, and a cell that
//! cannot be read is an error with its place, never a silent gap. Deliberately not here: what becomes of the rows
//! ([`super::gather`]).

mod cells;
mod csv;
pub mod hdr;
mod json;
mod tokens;
mod trace;

use std::fmt;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{CSV, JSON, TOKENS};
use super::gather::Side;
use super::manifest::MANIFEST;
use super::marks::{self, Mark};
use crate::load::row::Row;
use crate::naming::{counted, unlike};
use crate::trace::parts::{files_of, is_packed, open_at};

/// Runs side by side at most: more cannot be told apart in a chart.
pub const MOST_RUNS: usize = 12;
/// Longest line that is read.
const MAX_LINE_BYTES: usize = 1 << 24;
/// Manifests are small.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// Why a file cannot be read back.
#[derive(Debug)]
pub struct ReadError {
    path: PathBuf,
    line: Option<u64>,
    what: String,
}

impl ReadError {
    fn new(path: &Path, what: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), line: None, what: what.to_string() }
    }

    fn at(path: &Path, line: u64, what: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), line: Some(line), what: what.to_string() }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for ReadError {}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows, one a line.
    Csv,
    /// A whole run.
    Json,
    /// A router's trace.
    Trace,
}

/// A run in files.
#[derive(Clone, Debug)]
pub struct Input {
    /// How it is called beside others.
    pub name: String,
    /// That name was given with the path.
    pub is_named: bool,
    /// The file with its requests; of a trace also the folder of its parts, or a pattern.
    pub path: PathBuf,
    /// What that is.
    pub kind: Kind,
    /// Times of its tokens, where they were kept.
    tokens: Option<PathBuf>,
    manifest: Option<PathBuf>,
}

/// What is known of a run beside its rows.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Whose stamps there are.
    pub side: Side,
    /// When it was, and what was asked of whom, as far as the files say.
    pub said: Vec<(&'static str, String)>,
    /// What else a reader has to know.
    pub notes: Vec<String>,
    /// What charts over time show beside their curves.
    pub marks: Vec<Mark>,
}

/// The runs behind these paths, each `PATH` or `NAME=PATH`: a folder is a run or holds folders of runs.
///
/// # Errors
/// A path is none of what can be read, or there are too many runs.
pub fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>, ReadError> {
    let mut found = Vec::new();
    for given in paths {
        let (name, path) = parted(given);
        let mut of_path = if path.is_dir() { folder(path)? } else { vec![file(path)?] };
        if let Some(name) = name {
            rename(&mut of_path, name);
        }
        found.append(&mut of_path);
    }
    if let Some(one_more) = found.get(MOST_RUNS) {
        let count = found.len();
        return Err(ReadError::new(
            &one_more.path,
            format!("{count} runs are too many to be shown side by side; name at most {MOST_RUNS}"),
        ));
    }
    tell_apart(&mut found);
    Ok(found)
}

/// The name in `NAME=PATH`. What is there as it stands is a path alone, and no name has a slash.
fn parted(given: &Path) -> (Option<&str>, &Path) {
    let parts = given.to_str().filter(|_| !given.exists()).and_then(|text| text.split_once('='));
    match parts {
        Some((name, path)) if !name.is_empty() && !name.contains('/') => (Some(name), Path::new(path)),
        _ => (None, given),
    }
}

/// Gives the runs of one path the name that came with it; where they are several, each keeps its own behind that.
fn rename(inputs: &mut [Input], name: &str) {
    let is_one = inputs.len() == 1;
    for input in inputs {
        input.name = if is_one { name.to_owned() } else { format!("{name}/{}", input.name) };
        input.is_named = true;
    }
}

fn file(path: &Path) -> Result<Input, ReadError> {
    let kind = kind(path)?;
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let of_run = kind == Kind::Csv && path.file_name().is_some_and(|name| name == CSV);
    // Inside the folder of a run a file is known by the folder.
    let in_folder = of_run || path.file_name().is_some_and(|name| name == JSON);
    let named = if path.is_dir() {
        path.canonicalize().unwrap_or(path.to_owned())
    } else if in_folder {
        beside.canonicalize().unwrap_or(beside.to_owned())
    } else {
        path.to_owned()
    };
    let there = |name: &str| Some(beside.join(name)).filter(|path| of_run && path.is_file());
    let name = named.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let (tokens, manifest) = (there(TOKENS), there(MANIFEST));
    Ok(Input { name, is_named: false, path: path.to_owned(), kind, tokens, manifest })
}

/// What its first bytes say.
fn kind(path: &Path) -> Result<Kind, ReadError> {
    // The first of a pattern's files, or packed: that can only be a trace.
    let files = files_of(path).map_err(|e| ReadError::new(path, e))?;
    let first_path = files.first().map_or(path, PathBuf::as_path);
    let of_trace = files != [path] || is_packed(first_path);
    let mut input = open_at(first_path, 0).map_err(|e| ReadError::new(path, e))?;
    let start = input.fill_buf().map_err(|e| ReadError::new(path, e))?;
    let start = start.strip_prefix(b"\xef\xbb\xbf".as_slice()).unwrap_or(start);
    let first = start.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii();
    if first.starts_with(b"{\"kind\":") {
        Ok(Kind::Trace)
    } else if of_trace {
        Err(ReadError::new(path, format!("{} does not begin as a trace log does", first_path.display())))
    } else if first.starts_with(b"{") {
        Ok(Kind::Json)
    } else if csv::is_header(first) {
        Ok(Kind::Csv)
    } else {
        Err(ReadError::new(
            path,
            format!("expected {CSV} or {JSON} of a run, its folder, or a trace log; this is none of them"),
        ))
    }
}

fn folder(path: &Path) -> Result<Vec<Input>, ReadError> {
    if let Some(run) = run_in(path) {
        return Ok(vec![file(&run)?]);
    }
    let entries = fs::read_dir(path).map_err(|e| ReadError::new(path, e))?;
    let mut runs: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        // `latest` is a link to one of the others.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| run_in(&entry.path()))
        .collect();
    runs.sort();
    if runs.is_empty() && files_of(path).is_ok() {
        // That of a capture, whose files are one trace.
        return Ok(vec![file(path)?]);
    }
    if runs.is_empty() {
        let what = format!("there is no {CSV} or {JSON} in it, nor in a folder of it, and no trace log");
        return Err(ReadError::new(path, what));
    }
    runs.iter().map(|run| file(run)).collect()
}

fn run_in(folder: &Path) -> Option<PathBuf> {
    [CSV, JSON].map(|name| folder.join(name)).into_iter().find(|path| path.is_file())
}

/// Runs of one name get a number.
fn tell_apart(inputs: &mut [Input]) {
    for i in 1..inputs.len() {
        let (before, this) = inputs.split_at_mut(i);
        this[0].name = unlike(&this[0].name, counted, |name| before.iter().any(|other| other.name == name));
    }
}

impl Input {
    /// Reads every row in turn.
    ///
    /// # Errors
    /// The file cannot be read; what was told before is only a part.
    pub fn rows(&self, take: &mut dyn FnMut(Side, &Row)) -> Result<Facts, ReadError> {
        let mut facts = match self.kind {
            Kind::Csv => csv::rows(&self.path, self.tokens.as_deref(), take)?,
            Kind::Json => json::rows(&self.path, take)?,
            Kind::Trace => trace::rows(&self.path, take)?,
        };
        if let Some(manifest) = &self.manifest {
            let told = from_manifest(manifest)?;
            facts.said.extend(said(&told));
            facts.marks = marks::of_files(&told["marks"]);
        }
        Ok(facts)
    }
}

fn from_manifest(path: &Path) -> Result<Value, ReadError> {
    let bytes = fs::metadata(path).map_err(|e| ReadError::new(path, e))?.len();
    if bytes > MAX_MANIFEST_BYTES {
        return Err(ReadError::new(path, format!("{bytes} bytes are no manifest")));
    }
    let text = fs::read(path).map_err(|e| ReadError::new(path, e))?;
    serde_json::from_slice(&text).map_err(|e| ReadError::new(path, e))
}

/// What a manifest or the head of a `run.json` says of its run.
fn said(object: &Value) -> Vec<(&'static str, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let started = text(&object["started"])
        .or_else(|| object["started_unix_s"].as_f64().map(|s| crate::units::utc((s.max(0.0) * 1e9) as u64)));
    let verdict = &object["verdict"];
    let verdict = text(verdict).or_else(|| text(&verdict["rating"]));
    let partial = (object["partial"] == Value::Bool(true)).then(|| "yes, it was interrupted".to_owned());
    let target = text(&object["target"]).or_else(|| text(&object["config"]["target"]));
    let arguments = object["arguments"]
        .as_array()
        .map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
    let told = [
        ("Started", started),
        ("Target", target),
        ("Verdict of the run", verdict),
        ("Partial", partial),
        ("Arguments", arguments.filter(|a| !a.is_empty())),
    ];
    told.into_iter().filter_map(|(what, value)| Some((what, value?))).collect()
}

#[cfg(test)]
mod tests;
