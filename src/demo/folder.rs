//! The output folder: ours, or empty.
//!
//! Rule: only files that a demo writes are ever removed, by name, and only where an earlier demo left its marker; whatever
//! else lies there stays. One demo at a time writes a folder. Deliberately not here: what is in the files.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::DemoError;
use crate::report::files::write_whole;

/// Says that a folder is a demo's.
pub const MARKER: &str = ".milepost-demo";

const MARKER_TEXT: &str = "Made by `milepost demo`: the next demo replaces summary.txt, summary.json and each policy's files here.\n";

/// Files of a demo, in the folder itself.
const TOP_FILES: [&str; 3] = ["summary.txt", "summary.json", "summary.partial"];
/// Files of a policy, in a folder of its own.
const ARM_FILES: [&str; 7] = [
    "requests.csv",
    "run.json",
    "schedule.jsonl",
    "trace.jsonl",
    "requests.partial",
    "run.partial",
    "schedule.partial",
];

/// Why a folder cannot be used.
#[derive(Debug)]
pub enum FolderError {
    /// It holds something and no marker.
    NotOurs(PathBuf, String),
    /// Another demo writes it.
    Busy(PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs(path, found) => write!(
                f,
                "--output-dir {}: not empty (it holds {found}) and not the folder of an earlier demo, which would hold {MARKER}; \
                 choose another folder or empty this one",
                path.display()
            ),
            Self::Busy(path) => {
                write!(
                    f,
                    "--output-dir {}: another demo is writing it; choose another folder",
                    path.display()
                )
            }
            Self::Io(path, e) => write!(f, "--output-dir {}: {e}", path.display()),
        }
    }
}

impl std::error::Error for FolderError {}

/// A folder that is ours for as long as this lives.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    /// Locked.
    _marker: File,
}

impl Folder {
    /// Makes it, or takes the one of an earlier demo and removes that demo's files.
    ///
    /// # Errors
    /// It is somebody else's, in use, or cannot be written.
    pub fn claim(root: &Path) -> Result<Self, FolderError> {
        let fail = |e: io::Error| FolderError::Io(root.to_owned(), e);
        fs::create_dir_all(root).map_err(fail)?;
        let path = root.join(MARKER);
        if !path.exists()
            && let Some(found) = fs::read_dir(root).map_err(fail)?.next()
        {
            let found = found.map_err(fail)?.file_name().to_string_lossy().into_owned();
            return Err(FolderError::NotOurs(root.to_owned(), found));
        }
        let mut marker =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        flock(&marker, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| FolderError::Busy(root.to_owned()))?;
        marker.set_len(0).and_then(|()| marker.write_all(MARKER_TEXT.as_bytes())).map_err(fail)?;
        empty(root).map_err(|(path, e)| FolderError::Io(path, e))?;
        Ok(Self { root: root.to_owned(), _marker: marker })
    }

    /// The folder of one policy, made if need be.
    pub fn arm(&self, policy: &str) -> Result<PathBuf, DemoError> {
        let path = self.root.join(policy);
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(path),
            Err(e) => Err(DemoError::Run(format!("{}: {e}", path.display()))),
        }
    }

    /// Writes a file of the demo itself, whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<(), DemoError> {
        write_whole(&self.root.join(name), text)
            .map_err(|e| DemoError::Run(format!("cannot write the results: {e}")))
    }
}

/// Removes what an earlier demo wrote, of every policy there is.
fn empty(root: &Path) -> Result<(), (PathBuf, io::Error)> {
    remove_files(root, &TOP_FILES)?;
    for spec in milepost_policies::POLICIES {
        let arm = root.join(spec.name);
        match fs::symlink_metadata(&arm) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err((arm, e)),
            // A link may lead to a folder that is not ours.
            Ok(found) if !found.is_dir() => return Err((arm, ErrorKind::NotADirectory.into())),
            Ok(_) => remove_files(&arm, &ARM_FILES)?,
        }
        // Not empty: something of the user's is left in it.
        let _ = fs::remove_dir(&arm);
    }
    Ok(())
}

fn remove_files(folder: &Path, names: &[&str]) -> Result<(), (PathBuf, io::Error)> {
    for path in names.iter().map(|name| folder.join(name)) {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err((path, e)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("milepost-demo-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn an_earlier_demo_is_replaced_and_what_else_lies_there_stays() {
        let root = scratch("replace");
        let folder = Folder::claim(&root).unwrap();
        folder.write("summary.txt", "old").unwrap();
        for policy in ["random", "cache_aware"] {
            fs::write(folder.arm(policy).unwrap().join("requests.csv"), "old").unwrap();
        }
        fs::write(root.join("cache_aware/mine.txt"), "mine").unwrap();
        assert!(matches!(Folder::claim(&root), Err(FolderError::Busy(_))), "still locked");
        drop(folder);
        Folder::claim(&root).unwrap();
        assert!(!root.join("summary.txt").exists() && !root.join("random").exists());
        assert!(!root.join("cache_aware/requests.csv").exists());
        assert_eq!(fs::read_to_string(root.join("cache_aware/mine.txt")).unwrap(), "mine");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_folder_of_somebody_else_is_left_alone() {
        let root = scratch("foreign");
        fs::create_dir_all(&root).unwrap();
        Folder::claim(&root).unwrap();
        fs::remove_file(root.join(MARKER)).unwrap();
        fs::write(root.join("summary.txt"), "theirs").unwrap();
        let refusal = Folder::claim(&root).unwrap_err().to_string();
        assert!(refusal.contains("summary.txt") && refusal.starts_with("--output-dir"), "{refusal}");
        assert_eq!(fs::read_to_string(root.join("summary.txt")).unwrap(), "theirs");
        assert!(Folder::claim(&root.join("summary.txt")).is_err(), "a file is no folder");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_link_where_a_policy_belongs_is_not_followed() {
        let (root, other) = (scratch("link"), scratch("elsewhere"));
        drop(Folder::claim(&root).unwrap());
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("run.json"), "theirs").unwrap();
        std::os::unix::fs::symlink(&other, root.join("random")).unwrap();
        assert!(Folder::claim(&root).unwrap_err().to_string().contains("random"));
        assert!(other.join("run.json").exists());
        fs::remove_dir_all(&root).unwrap();
        fs::remove_dir_all(&other).unwrap();
    }
}
