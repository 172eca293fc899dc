//! The scratch file, and the thread that writes it.
//!
//! Rule: a bounded number of chunks waits for the disk; one for which there is no room goes back to whoever has it. After the
//! first failure nothing more is written, and what was not is handed back at the end. Deliberately not here: reading.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::Place;

/// Chunks that wait for the disk.
const WAITING: usize = 64;

/// Told apart from those of other runs of this process.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Writes chunks.
#[derive(Debug)]
pub(super) struct Writer {
    chunks: SyncSender<(usize, Vec<u8>)>,
    thread: JoinHandle<Written>,
}

/// What became of the chunks.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: File,
    /// By number.
    pub(super) places: Vec<(usize, Place)>,
    /// Why not all were written.
    pub(super) trouble: Option<String>,
}

impl Writer {
    /// Makes the file and the thread.
    pub(super) fn begin(folder: &Path) -> io::Result<Self> {
        let file = nameless(folder)?;
        let (chunks, waiting) = sync_channel(WAITING);
        let thread =
            std::thread::Builder::new().name("scratch".to_owned()).spawn(move || write(file, &waiting))?;
        Ok(Self { chunks, thread })
    }

    /// Hands a chunk over; it comes back where too many wait.
    pub(super) fn send(&self, number: usize, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        self.chunks.try_send((number, bytes)).map_err(|e| match e {
            TrySendError::Full((_, bytes)) | TrySendError::Disconnected((_, bytes)) => bytes,
        })
    }

    /// Waits for the last chunk; `None`: the thread has failed, and with it all chunks that were handed over.
    pub(super) fn finish(self) -> Option<Written> {
        drop(self.chunks);
        self.thread.join().ok()
    }
}

/// A file that is open and in no folder.
fn nameless(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = folder.join(format!(".scratch-{}-{number}", std::process::id()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn write(file: File, waiting: &Receiver<(usize, Vec<u8>)>) -> Written {
    let mut written = Written { file, places: Vec::new(), trouble: None };
    let mut end = 0;
    for (number, chunk) in waiting {
        let mut place = None;
        if written.trouble.is_none() {
            match written.file.write_all_at(&chunk, end) {
                Ok(()) => {
                    place = Some(Place::File { at: end, bytes: chunk.len() });
                    end += chunk.len() as u64;
                }
                Err(e) => written.trouble = Some(e.to_string()),
            }
        }
        written.places.push((number, place.unwrap_or(Place::Memory(chunk))));
    }
    written
}
