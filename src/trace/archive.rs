//! What becomes of files that were rotated away: packed, and the oldest removed where all together are too large.
//!
//! Rule: a thread of its own does it, so that neither traffic nor capture waits. A file is packed beside itself, written through to the
//! disk, given its name, and only then is the plain one removed: whatever fails, one of the two is whole. The file that is
//! written is never touched. Deliberately not here: when files are rotated ([`super::scribe`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::parts::{PACKED_END, Part, UNFINISHED_END, parts_of};
use crate::log;

/// Bytes packed between two looks whether to stop.
const CHUNK_BYTES: u64 = 1 << 20;
/// zstd's own default.
const LEVEL: i32 = 3;

/// How files are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keeping {
    /// They are packed by zstd.
    pub(super) packs: bool,
    /// All of them together may have this many bytes.
    pub(super) max_bytes: Option<u64>,
}

/// The thread that keeps them.
#[derive(Debug)]
pub(super) struct Archive {
    looks: Option<SyncSender<PathBuf>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Archive {
    /// Starts the thread; `None` where there is nothing to do, or no thread to be had.
    pub(super) fn start(keeping: Keeping) -> Option<Self> {
        if !keeping.packs && keeping.max_bytes.is_none() {
            return None;
        }
        // One look sees all there is, so of those that wait one is enough.
        let (looks, incoming) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stop_thread = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("trace-archive".to_owned())
            .spawn(move || work(&incoming, keeping, &stop_thread));
        match thread {
            Ok(thread) => Some(Self { looks: Some(looks), stop, thread: Some(thread) }),
            Err(error) => {
                log::warn(&format!("trace: no thread to pack rotated files: {error}; they stay as they are"));
                None
            }
        }
    }

    /// Asks it to look after the files beside `live`; never waits.
    pub(super) fn look(&self, live: &Path) {
        if let Some(looks) = &self.looks {
            let _ = looks.try_send(live.to_owned());
        }
    }
}

impl Drop for Archive {
    /// A file that is being packed is left as it was, for the next time.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.looks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(looks: &Receiver<PathBuf>, keeping: Keeping, stop: &AtomicBool) {
    let mut failing = false;
    while let Ok(live) = looks.recv() {
        let kept = keep(&live, keeping, stop);
        if let (Err(error), false) = (&kept, failing) {
            log::warn(&format!("trace {}: rotated files cannot be kept as asked: {error}", live.display()));
        }
        failing = kept.is_err();
    }
}

/// Packs what is plain, then removes the oldest until the rest is small enough.
fn keep(live: &Path, keeping: Keeping, stop: &AtomicBool) -> io::Result<()> {
    let packed = if keeping.packs { pack_all(live, stop) } else { Ok(()) };
    if let Some(max_bytes) = keeping.max_bytes {
        let mut parts = parts_of(live)?;
        let mut bytes: u64 = parts.iter().map(|part| part.bytes).sum();
        while bytes > max_bytes && !parts.is_empty() {
            let oldest = parts.remove(0);
            std::fs::remove_file(&oldest.path)?;
            bytes -= oldest.bytes;
            log::info(&format!(
                "trace: {} removed, as all files together were too large",
                oldest.path.display()
            ));
        }
    }
    packed
}

/// One that cannot be packed is left, and the others are packed all the same; the last error is told.
fn pack_all(live: &Path, stop: &AtomicBool) -> io::Result<()> {
    let mut packed = Ok(());
    for part in parts_of(live)?.iter().filter(|part| !part.is_packed) {
        if stop.load(Ordering::Acquire) {
            break;
        }
        if let Err(error) = pack(part, stop) {
            packed = Err(error);
        }
    }
    packed
}

/// Packs one file; leaves it as it was if that fails or is to stop.
fn pack(part: &Part, stop: &AtomicBool) -> io::Result<()> {
    let named = |end: &str| {
        let mut name = part.path.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    let (unfinished, packed) = (named(UNFINISHED_END), named(PACKED_END));
    let done = write_packed(&part.path, &unfinished, stop);
    if let Ok(true) = done {
        std::fs::rename(&unfinished, &packed)?;
        return std::fs::remove_file(&part.path);
    }
    let _ = std::fs::remove_file(&unfinished);
    done.map(drop)
}

/// False if it was to stop.
fn write_packed(from: &Path, to: &Path, stop: &AtomicBool) -> io::Result<bool> {
    let mut plain = File::open(from)?;
    // What a process that was killed left there is nobody's.
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut packer = zstd::Encoder::new(file, LEVEL)?;
    // So that a file that was torn is known by it.
    packer.include_checksum(true)?;
    while io::copy(&mut (&mut plain).take(CHUNK_BYTES), &mut packer)? > 0 {
        if stop.load(Ordering::Acquire) {
            return Ok(false);
        }
    }
    packer.finish()?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::trace::parts::{open_at, part_path};

    fn live(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("milepost-archive-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("t.jsonl")
    }

    fn names(live: &Path) -> Vec<String> {
        let parts = parts_of(live).unwrap().into_iter();
        parts.map(|part| part.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn rotated_files_are_packed_and_read_as_before_and_the_live_one_stays() {
        let live = live("pack");
        let text = "{\"kind\":\"x\"}\n".repeat(100_000);
        for path in [part_path(&live, 1), part_path(&live, 2), live.clone()] {
            std::fs::write(path, &text).unwrap();
        }
        // Of a process that was killed in the middle.
        std::fs::write(live.with_file_name("t.000001.jsonl.packing"), "junk").unwrap();
        let stop = AtomicBool::new(false);
        keep(&live, Keeping { packs: true, max_bytes: None }, &stop).unwrap();
        assert_eq!(names(&live), ["t.000001.jsonl.zst", "t.000002.jsonl.zst"]);
        assert!(!live.with_file_name("t.000001.jsonl.packing").exists());
        let mut read = String::new();
        let packed = &parts_of(&live).unwrap()[0];
        open_at(&packed.path, 13).unwrap().read_to_string(&mut read).unwrap();
        assert_eq!(read, text[13..]);
        assert!(packed.bytes < 10_000 && std::fs::read_to_string(&live).unwrap() == text);
        std::fs::remove_dir_all(live.parent().unwrap()).unwrap();
    }

    #[test]
    fn one_that_cannot_be_packed_does_not_keep_the_others_from_it() {
        let live = live("stuck");
        std::fs::create_dir(part_path(&live, 1)).unwrap();
        std::fs::write(part_path(&live, 2), "two\n").unwrap();
        let kept = keep(&live, Keeping { packs: true, max_bytes: None }, &AtomicBool::new(false));
        assert!(kept.is_err());
        assert_eq!(names(&live), ["t.000001.jsonl", "t.000002.jsonl.zst"]);
        std::fs::remove_dir_all(live.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_oldest_go_first_and_one_that_is_to_stop_leaves_a_whole_file() {
        let live = live("cap");
        for number in 1..=5 {
            std::fs::write(part_path(&live, number), [b'x'; 100]).unwrap();
        }
        std::fs::write(&live, [b'x'; 1000]).unwrap();
        let stop = AtomicBool::new(true);
        keep(&live, Keeping { packs: true, max_bytes: Some(250) }, &stop).unwrap();
        assert_eq!(names(&live), ["t.000004.jsonl", "t.000005.jsonl"]);
        assert!(live.exists());
        std::fs::remove_dir_all(live.parent().unwrap()).unwrap();
    }
}
