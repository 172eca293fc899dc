//! The file that is being written: append only, mode 0600, locked against a second writer.
//!
//! Rule: what is in it are whole lines, whatever fails: a batch that could not be written is cut off again, and a line that a crash
//! tore is ended before the next one. Rotation never writes over a file. Deliberately not here: what is written, and when it is
//! rotated ([`super::scribe`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::parts::{part_path, parts_of};
use super::writer::TraceOpenError;

/// See the module.
#[derive(Debug)]
pub(super) struct LiveFile {
    file: File,
    path: PathBuf,
    number: u64,
    whole_bytes: u64,
    is_regular: bool,
    /// Behind the whole lines there is a piece of one.
    is_torn: bool,
}

impl LiveFile {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, TraceOpenError> {
        let fail = |error| TraceOpenError::Open(path.to_owned(), error);
        Self::lock(options().create(true).open(path).map_err(fail)?, path)
    }

    /// Makes a file that is not there yet; a link of that name is not followed.
    pub(super) fn create(path: &Path) -> Result<Self, TraceOpenError> {
        let file = options().create_new(true).open(path);
        Self::lock(file.map_err(|error| TraceOpenError::Open(path.to_owned(), error))?, path)
    }

    fn lock(mut file: File, path: &Path) -> Result<Self, TraceOpenError> {
        let fail = |error| TraceOpenError::Open(path.to_owned(), error);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(TraceOpenError::Locked(path.to_owned())),
            Err(error) => return Err(fail(error.into())),
        }
        end_torn_line(&mut file).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        let last = if metadata.is_file() { parts_of(path).map_err(fail)?.pop() } else { None };
        let number = last.map_or(1, |part| part.number + 1);
        let (whole_bytes, is_regular) = (metadata.len(), metadata.is_file());
        Ok(Self { file, path: path.to_owned(), number, whole_bytes, is_regular, is_torn: false })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its number among the files of the capture.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// It is a plain file, and no pipe or device.
    pub(super) fn is_regular(&self) -> bool {
        self.is_regular
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// Writes whole lines, all of them or, as far as the file can be cut, none.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            // It could not be cut off: where that is forbidden, or of a pipe or a device. Its reader counts it as a torn line.
            self.file.write_all(b"\n")?;
            self.is_torn = false;
            if self.is_regular {
                self.whole_bytes = self.file.metadata()?.len();
            }
        }
        match self.file.write_all(lines) {
            Ok(()) => {
                self.whole_bytes += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a batch may be in the file: cut it off, or the next record would be glued to a torn line.
                self.is_torn = self.file.set_len(self.whole_bytes).is_err();
                Err(error)
            }
        }
    }

    /// Gives the file its number as a name, and begins the next one. What fails leaves the file as it was.
    pub(super) fn rotate(&mut self) -> io::Result<PathBuf> {
        if !self.is_regular {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "only a plain file can be rotated"));
        }
        let part = part_path(&self.path, self.number);
        rename_to_new(&self.path, &part)?;
        match Self::open(&self.path) {
            Ok(next) => {
                *self = Self { number: self.number + 1, ..next };
                Ok(part)
            }
            Err(error) => {
                // If another process has made a file there meanwhile, that one stays and this one goes on under its number.
                let _ = rename_to_new(&part, &self.path);
                Err(io::Error::other(error.to_string()))
            }
        }
    }
}

/// Renames, never over a file that is there.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and some file systems in user space cannot.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_to_new(from, to),
        renamed => Ok(renamed?),
    }
}

/// The same in two steps; if the second fails, the first is taken back.
fn link_to_new(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from).inspect_err(|_| drop(std::fs::remove_file(to)))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    options
}

/// A line that a crash tore is ended, so that the next record starts on a line of its own; the reader counts it.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if !file.metadata()?.is_file() || file.metadata()?.len() == 0 {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_cannot_be_cut_off_is_ended_before_the_next_line() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).unwrap();
        }
        let path = PathBuf::from("socket");
        let file = File::from(OwnedFd::from(ours));
        let mut live = LiveFile { file, path, number: 1, whole_bytes: 0, is_regular: false, is_torn: false };
        let batch = "a line that is cut where there is no more room\n".repeat(100_000);
        assert_eq!(live.write(batch.as_bytes()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut read = Vec::new();
        assert_eq!(theirs.read_to_end(&mut read).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(!read.is_empty() && batch.as_bytes().starts_with(&read));
        read.clear();
        live.write(b"next\n").unwrap();
        live.write(b"and next\n").unwrap();
        assert_eq!(theirs.read_to_end(&mut read).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(read, b"\nnext\nand next\n");
    }

    #[test]
    fn a_rename_in_two_steps_moves_the_file_and_never_over_another() {
        let folder = std::env::temp_dir().join(format!("milepost-live-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from"), folder.join("to"));
        std::fs::write(&from, "a").unwrap();
        link_to_new(&from, &to).unwrap();
        assert!(!from.exists() && std::fs::read_to_string(&to).unwrap() == "a");
        std::fs::write(&from, "b").unwrap();
        assert_eq!(link_to_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(from.exists() && std::fs::read_to_string(&to).unwrap() == "a");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
