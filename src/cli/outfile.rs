//! Where a command writes what it made of traces: a file, or standard output.
//!
//! Rule: what is there is not written over unless that is asked for, and never a trace that is being read; a file has its name
//! when it is whole, so one that is there can be used. It may be read by whom the trace may be: its owner. Deliberately not here:
//! what is written (`export`).

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Failure;
use crate::export::ExportError;
use crate::trace::parts::files_of;

/// Bytes gathered before they are written.
const GATHERED_BYTES: usize = 1 << 18;
/// Ends the name of a file that is not whole yet.
const PARTIAL: &str = ".part";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutFile<'a> {
    /// Its path; - is standard output.
    pub(super) path: &'a Path,
    /// Whether one that is there is replaced.
    pub(super) overwrite: bool,
}

impl OutFile<'_> {
    fn is_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    /// Refuses to write over what is there, or over one of the traces that are to be read.
    pub(super) fn check(&self, traces: &[PathBuf]) -> Result<(), Failure> {
        if self.is_stdout() {
            return Ok(());
        }
        let out = self.path.display();
        // What cannot be listed is said when it is to be read.
        let read = |given: &PathBuf| files_of(given).unwrap_or_else(|_| vec![given.clone()]);
        let same =
            |given: &PathBuf| read(given).iter().any(|file| file == self.path || is_same(file, self.path));
        if traces.iter().any(same) {
            return Err(Failure::Usage(format!("--out {out}: it is a trace that is to be read")));
        }
        if self.path.exists() && !self.overwrite {
            return Err(Failure::Usage(format!("--out {out} is there already; --overwrite replaces it")));
        }
        Ok(())
    }

    /// Has it written; nothing is told where whoever reads standard output went away.
    pub(super) fn write<T: Default>(
        &self,
        make: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, ExportError>,
    ) -> Result<T, Failure> {
        if self.is_stdout() {
            let mut out = BufWriter::with_capacity(GATHERED_BYTES, io::stdout());
            return match make(&mut out).and_then(|made| Ok(out.flush().map(|()| made)?)) {
                // A reader that went away (`| head`) is no failure.
                Err(ExportError::Write(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(T::default()),
                done => done.map_err(|e| failure(&e)),
            };
        }
        let mut partial = self.path.to_path_buf().into_os_string();
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        let file =
            create(&partial).map_err(|why| Failure::Run(format!("--out {}: {why}", self.path.display())))?;
        let written = write_file(file, make).and_then(|made| {
            std::fs::rename(&partial, self.path)?;
            Ok(made)
        });
        written.map_err(|error| {
            // What is not whole is of no use; that it cannot be removed would hide what went wrong.
            let _ = std::fs::remove_file(&partial);
            match failure(&error) {
                Failure::Run(why) => Failure::Run(format!("--out {}: {why}", self.path.display())),
                other => other,
            }
        })
    }
}

/// Whose fault it is that nothing was written.
pub(super) fn failure(error: &ExportError) -> Failure {
    match error {
        ExportError::Write(_) | ExportError::Changed(_) => Failure::Run(error.to_string()),
        ExportError::Read(_) | ExportError::Unfit(_) => Failure::Usage(error.to_string()),
    }
}

fn write_file<T>(
    file: File,
    make: impl FnOnce(&mut (dyn Write + Send)) -> Result<T, ExportError>,
) -> Result<T, ExportError> {
    let mut out = BufWriter::with_capacity(GATHERED_BYTES, file);
    let result = make(&mut out)?;
    out.flush()?;
    Ok(result)
}

/// Creates the file that is not whole yet; one that is there is another export's, or a stranger's.
fn create(partial: &Path) -> Result<File, String> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(partial);
    created.map_err(|error| {
        let what = if error.kind() == io::ErrorKind::AlreadyExists {
            "is there already, of an export that runs or was killed; remove it if none runs"
        } else {
            "cannot be written"
        };
        format!("{} {what}: {error}", partial.display())
    })
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
