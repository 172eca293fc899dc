//! Where a run's files go: the one place here that writes.
//!
//! Rule: nothing is overwritten; all files are written whole and then moved into place; the requests come first, as what follows
//! takes seconds a million, in which they could be lost. Deliberately not here: what is in the files, and how the folder
//! of a run is called (`folder`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::column::Columns;
use super::csv::write_csv;
use super::folder;
use super::hdr::Recording;
use super::json::{ExportedFiles, TOLD, run_json, write_detailed, write_full};
use super::manifest::{MANIFEST, manifest};
use super::recount::Arm;
use super::survey::Survey;
use super::{page, tokens};
use crate::load::progress::{Closing, Progress, Silent};
use crate::load::row::Row;
use crate::load::rows::Each;
use crate::load::run::RunReport;

/// One row a request.
pub const CSV: &str = "requests.csv";
/// The whole run.
pub const JSON: &str = "run.json";
/// When the tokens of each answer came, where it was asked for.
pub const TOKENS: &str = "tokens.jsonl";

/// Latencies as HDR histograms, where they were asked for.
pub const HDR: &str = "latency.hdr";

/// The page with charts, where it was asked for.
pub const PAGE: &str = "report.html";

/// Bytes of a line that are written together.
const LINE_BYTES: usize = 1 << 20;

/// Files of every run.
const FILES: [&str; 3] = [CSV, JSON, "schedule.jsonl"];

/// Where results go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// [`write_run`]: the folder of the run. [`begin_dated`]: the one in which it gets its own.
    pub folder: PathBuf,
    /// A file that collects runs, one line each.
    pub collection: Option<PathBuf>,
    /// Put `per_request` into that line too.
    pub details: bool,
    /// What else to write.
    pub extras: Extras,
}

/// Files that are written where they are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras {
    /// When the tokens of each answer came.
    pub token_times: bool,
    /// The page with charts.
    pub report: bool,
    /// Latencies as HDR histograms.
    pub hdr: bool,
}

/// A run whose requests are on disk and whose figures are not.
#[derive(Debug)]
pub struct Begun {
    /// With the folder of the run.
    to: Destination,
    json_path: PathBuf,
    files: ExportedFiles,
}

/// Writes what takes no figures into a new folder of the run's own. `look` sees each row on its way, in order; not all of them where
/// this fails.
///
/// # Errors
/// A file or folder cannot be written; the message names it.
pub fn begin_dated(
    run: &RunReport,
    to: &Destination,
    progress: &dyn Progress,
    look: &mut dyn FnMut(&Row),
) -> io::Result<Begun> {
    let to = Destination { folder: folder::dated(&to.folder, run)?, ..to.clone() };
    begin(run, to, progress, look)
}

/// Writes the rest, with the manifest, and leads `latest` to it; what was written, by kind and path.
///
/// # Errors
/// A file cannot be written; the message names it.
pub fn finish_dated(
    begun: Begun,
    run: &RunReport,
    survey: &Survey,
    progress: &dyn Progress,
) -> io::Result<ExportedFiles> {
    let folder = begun.to.folder.clone();
    let mut files = finish(begun, run, survey, progress)?;
    let path = folder.join(MANIFEST);
    write_whole(&path, &format!("{:#}\n", manifest(run, &survey.verdict, &folder)?))?;
    files.push(("manifest", path.display().to_string()));
    if let Some(parent) = folder.parent() {
        folder::link_latest(parent, &folder);
    }
    Ok(files)
}

/// Writes everything into the folder as it is given; what was written, by kind and path.
///
/// # Errors
/// There is a run already, or a file or folder cannot be written; the message names it.
pub fn write_run(run: &RunReport, survey: &Survey, to: &Destination) -> io::Result<ExportedFiles> {
    finish(begin(run, to.clone(), &Silent, &mut |_| ())?, run, survey, &Silent)
}

fn begin(
    run: &RunReport,
    to: Destination,
    progress: &dyn Progress,
    look: &mut dyn FnMut(&Row),
) -> io::Result<Begun> {
    let [csv_path, json_path, schedule_path] = claim(&to.folder)?;
    let mut files = vec![
        ("csv", csv_path.display().to_string()),
        ("json", json_path.display().to_string()),
        ("schedule", schedule_path.display().to_string()),
    ];
    if let Some(path) = &to.collection {
        files.push(("output_file", path.display().to_string()));
    }
    let seen = each(run, CSV, progress).inspect(|row| look(row));
    write_with(&csv_path, |out| write_csv(out, seen, Columns::of(&run.config.columns)))?;
    progress.requests_written(&csv_path);
    write_with(&schedule_path, |out| run.schedule.write(out))?;
    if to.extras.token_times {
        let path = to.folder.join(TOKENS);
        files.push(("token_times", path.display().to_string()));
        write_with(&path, |out| tokens::write(out, each(run, TOKENS, progress)))?;
    }
    if to.extras.hdr {
        let path = to.folder.join(HDR);
        files.push(("hdr", path.display().to_string()));
        let mut recording = Recording::begin()?.without_token_times(run.without_token_times);
        each(run, HDR, progress).for_each(|row| recording.add(&row));
        write_with(&path, |out| recording.write(out, run.start.unix_ns))?;
    }
    Ok(Begun { to, json_path, files })
}

fn finish(
    begun: Begun,
    run: &RunReport,
    survey: &Survey,
    progress: &dyn Progress,
) -> io::Result<ExportedFiles> {
    let Begun { to, json_path, mut files } = begun;
    if to.extras.report {
        let path = to.folder.join(PAGE);
        files.push(("report", path.display().to_string()));
        write_whole(&path, &page::page(&[Arm::of_run(run, &survey.verdict, &to.folder)]))?;
    }
    let object = run_json(run, survey, &files);
    let all = run.rows.len();
    let told = |what| move |done| progress.closing(Closing { what, done, all });
    told(JSON)(0);
    write_with(&json_path, |out| write_full(out, &object, &run.rows, &told(JSON)))?;
    match &to.collection {
        Some(path) if to.details => {
            let (untimed, told) = (run.without_token_times > 0, told("the line of --output-file"));
            append(path, |out| write_detailed(out, &object, &run.rows, untimed, &told))?;
        }
        Some(path) => append_line(path, &object.to_string())?,
        None => {}
    }
    Ok(files)
}

/// Each row, and how many there were is told.
fn each<'a>(run: &'a RunReport, what: &'a str, progress: &'a dyn Progress) -> Each<'a> {
    let all = run.rows.len();
    Box::new(run.rows.iter().enumerate().map(move |(done, row)| {
        if done.is_multiple_of(TOLD) {
            progress.closing(Closing { what, done, all });
        }
        row
    }))
}

/// The paths of the files in a folder that holds no run yet; made if need be.
fn claim(folder: &Path) -> io::Result<[PathBuf; 3]> {
    let context = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", folder.display()));
    fs::create_dir_all(folder).map_err(context)?;
    let paths = FILES.map(|name| folder.join(name));
    match paths.iter().find(|path| path.exists()) {
        None => Ok(paths),
        Some(path) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{}: a run is there already and stays", path.display()),
        )),
    }
}

/// Writes a file so that it is there whole or not at all; the error names it.
pub(crate) fn write_whole(path: &Path, content: &(impl AsRef<[u8]> + ?Sized)) -> io::Result<()> {
    write_with(path, |out| out.write_all(content.as_ref()))
}

/// The same for what is written piece by piece.
fn write_with(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let partial = path.with_extension("partial");
    File::create(&partial)
        .map(BufWriter::new)
        .and_then(|mut out| write(&mut out).and_then(|()| out.flush()))
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|e| {
            // Half a file is of no use and fills the disk that may be full.
            let _ = fs::remove_file(&partial);
            io::Error::new(e.kind(), format!("{}: {e}", path.display()))
        })
}

/// Appends one line to a file that collects runs.
pub(crate) fn append_line(path: &Path, line: &str) -> io::Result<()> {
    append(path, |out| writeln!(out, "{line}"))
}

/// All of it or nothing, and one run after the other, where files can be locked; elsewhere long lines of two runs may mix.
fn append(path: &Path, write: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let append = || {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        // Another run ends its line in bounded time; closing the file unlocks it.
        let locked = flock(&file, FlockOperation::LockExclusive).is_ok();
        let before_bytes = file.metadata()?.len();
        let mut out = BufWriter::with_capacity(LINE_BYTES, &file);
        let written = write(&mut out).and_then(|()| out.flush());
        // What is still in the buffer goes with it.
        drop(out.into_parts());
        if written.is_err() && locked {
            let _ = file.set_len(before_bytes);
        }
        written
    };
    append().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_does_not_touch_the_first() {
        let root = std::env::temp_dir().join(format!("milepost-export-{}", std::process::id()));
        let folder = root.join("a/b");
        let [_, json, _] = claim(&folder).unwrap();
        write_whole(&json, "1").unwrap();
        assert!(claim(&folder).unwrap_err().to_string().contains("run.json: a run is there already"));
        assert_eq!(fs::read_to_string(&json).unwrap(), "1");
        append_line(&folder.join("all.jsonl"), "{}").unwrap();
        append_line(&folder.join("all.jsonl"), "{}").unwrap();
        // The second half of a long line fails: the first half goes too.
        let half = |out: &mut BufWriter<&File>| {
            out.write_all(&vec![b'x'; 2 * LINE_BYTES])?;
            out.write_all(b"rest")?;
            Err(io::Error::other("full"))
        };
        assert!(
            append(&folder.join("all.jsonl"), half).unwrap_err().to_string().ends_with("all.jsonl: full")
        );
        assert_eq!(fs::read_to_string(folder.join("all.jsonl")).unwrap(), "{}\n{}\n");
        let failed = write_with(&folder.join("x.csv"), |_| Err(io::Error::other("full"))).unwrap_err();
        assert!(failed.to_string().ends_with("x.csv: full") && !folder.join("x.partial").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
