//! The thread that writes the trace, as a value: started, steered, and ended by being dropped.
//!
//! Rule: what cannot be written is said before the router serves; afterwards nothing that happens here stops it. Deliberately
//! not here: what the thread does (`scribe`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use http::HeaderName;

use super::capture::Capture;
use super::outlet::Follower;
use super::prompt::{PromptKey, PromptTrace};
use super::record::RunRecord;
use super::sample::Sampling;
use super::scribe::Scribe;
use super::sink::Sink;
use crate::clock::Clock;
use crate::log;

/// How long the end waits for whoever reads standard output or a named pipe, in steps.
const READER_WAIT: Duration = Duration::from_millis(5);
const READER_WAITS: u32 = 400;

/// How a trace is captured, whatever file it goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureConfig {
    /// Folder in which captures may be started by name (`--trace-dir`).
    pub folder: Option<PathBuf>,
    /// A file of so many bytes is rotated (`--trace-rotate-size`).
    pub rotate_bytes: Option<u64>,
    /// One that was begun so long ago is rotated (`--trace-rotate-secs`).
    pub rotate_after: Option<Duration>,
    /// All files of a capture together, and all captures in the folder (`--trace-max-size`): beyond it the oldest is removed.
    pub max_bytes: Option<u64>,
    /// Rotated files are packed (`--trace-compress`).
    pub packs: bool,
    /// Which requests are kept.
    pub sampling: Sampling,
    /// What is told of prompts (`--trace-prompt`).
    pub prompt: PromptTrace,
    /// Request headers that are told (`--trace-headers`).
    pub headers: Vec<HeaderName>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self {
            folder: None,
            rotate_bytes: None,
            rotate_after: None,
            max_bytes: None,
            packs: true,
            sampling: Sampling::default(),
            prompt: PromptTrace::default(),
            headers: Vec::new(),
        }
    }
}

/// The thread that writes.
#[derive(Debug)]
pub struct TraceWriter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    capture: Arc<Capture>,
    /// What is written is no plain file, so that its reader may hold up the end.
    has_reader: bool,
}

/// Why a trace cannot be written.
#[derive(Debug)]
pub enum TraceOpenError {
    /// The file cannot be opened for writing.
    Open(PathBuf, io::Error),
    /// Another router writes it.
    Locked(PathBuf),
    /// The folder is none.
    Folder(PathBuf),
    /// There is no thread to be had.
    Thread(io::Error),
    /// There is no key to be had for the hashes of prompts.
    Key(io::Error),
}

impl fmt::Display for TraceOpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path, error) => {
                write!(f, "{}: cannot be written: {error}", path.display())?;
                // What may not be looked at, or is no folder, may well be there.
                match path.parent().filter(|folder| !folder.as_os_str().is_empty() && is_absent(folder)) {
                    None => Ok(()),
                    Some(folder) => {
                        let folder = folder.display();
                        write!(f, "; there is no folder {folder}, make it first: mkdir -p {folder}")
                    }
                }
            }
            Self::Locked(path) => write!(
                f,
                "{}: another process is writing it; give each router a file of its own",
                path.display()
            ),
            Self::Folder(path) if is_absent(path) => {
                let path = path.display();
                write!(f, "{path}: there is no such folder; make it first: mkdir -p {path}")
            }
            Self::Folder(path) => match path.metadata() {
                Err(error) => write!(f, "{}: cannot be looked at: {error}", path.display()),
                Ok(_) => write!(f, "{}: is no folder", path.display()),
            },
            Self::Thread(error) => write!(f, "no thread to write it: {error}"),
            Self::Key(error) => write!(f, "no key for the hashes of prompts: {error}"),
        }
    }
}

impl TraceOpenError {
    /// The flag that asked for it, without dashes.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::Folder(_) => "trace-dir",
            Self::Open(..) | Self::Locked(_) | Self::Thread(_) => "trace-log",
            Self::Key(_) => "trace-prompt",
        }
    }
}

impl std::error::Error for TraceOpenError {}

impl TraceWriter {
    /// Opens the file (`-`: standard output), writes the `run` record and starts the thread; without a file it waits to be told one.
    /// Each follower is offered what is written.
    pub fn start(
        log: Option<&Path>,
        config: CaptureConfig,
        run: RunRecord,
        sink: Arc<Sink>,
        clock: Clock,
        followers: Vec<Box<dyn Follower>>,
    ) -> Result<Self, TraceOpenError> {
        if let Some(folder) = config.folder.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(TraceOpenError::Folder(folder.clone()));
        }
        let (capture, desk) = Capture::new();
        let key = PromptKey::drawn().map_err(TraceOpenError::Key)?;
        let mut scribe = Scribe::new(log, config, (run, key), sink, clock, desk);
        scribe.begin(followers)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stop_thread = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || scribe.work(&stop_thread))
            .map_err(TraceOpenError::Thread)?;
        capture.set_writer(thread.thread().clone());
        Ok(Self {
            stop,
            thread: Some(thread),
            capture: Arc::new(capture),
            has_reader: log.is_some_and(has_reader),
        })
    }

    /// Steers it.
    pub fn capture(&self) -> Arc<Capture> {
        Arc::clone(&self.capture)
    }
}

impl Drop for TraceWriter {
    /// Writes what is left and closes the file.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A file is written or fails; whoever reads anything else may have stopped to.
            for _ in 0..READER_WAITS {
                if !self.has_reader || thread.is_finished() {
                    break;
                }
                std::thread::park_timeout(READER_WAIT);
            }
            if self.has_reader && !thread.is_finished() {
                log::warn("nobody reads the trace from standard output or its pipe; its end is missing");
                return;
            }
            if thread.join().is_err() {
                log::warn("the trace writer failed; the end of the trace is missing");
            }
        }
    }
}

/// There is nothing of this name, for certain.
fn is_absent(path: &Path) -> bool {
    path.try_exists().is_ok_and(|there| !there)
}

/// The path that means standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// What is written there goes to somebody who may stop to read: it is no plain file.
fn has_reader(path: &Path) -> bool {
    is_stdout(path) || path.metadata().is_ok_and(|found| !found.is_file())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
pub(super) mod tests;
