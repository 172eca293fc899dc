//! What becomes of files that were rotated away: packed, and the oldest removed where all together are too large.
//!
//! Rule: a thread of its own does it, so that neither traffic nor capture waits. A file is packed beside itself, written through to the
//! disk, given its name, and only then is the plain one removed: whatever fails, one of the two is whole. The file that is
//! written is never touched, whoever writes it, nor one that does not begin as a trace does. Deliberately not here: when files are
//! rotated ([`super::scribe`]), which files there are ([`super::parts`]).

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::parts::{Kept, PACKED_END, Part, UNFINISHED_END, captures_in, id_of, kept_beside, parts_of};
use super::reader::first_run;
use crate::log;

/// Bytes packed between two looks whether to stop.
const CHUNK_BYTES: u64 = 1 << 20;
/// zstd's own default.
const LEVEL: i32 = 3;

/// How files are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Keeping {
    /// They are packed by zstd.
    pub(super) packs: bool,
    /// All of them together may have this many bytes.
    pub(super) max_bytes: Option<u64>,
    /// So may all captures in this folder, whatever their names, with them.
    pub(super) folder: Option<PathBuf>,
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
            .spawn(move || work(&incoming, &keeping, &stop_thread));
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

fn work(looks: &Receiver<PathBuf>, keeping: &Keeping, stop: &AtomicBool) {
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
fn keep(live: &Path, keeping: &Keeping, stop: &AtomicBool) -> io::Result<()> {
    let packed = if keeping.packs { pack_all(live, stop) } else { Ok(()) };
    if let Some(max_bytes) = keeping.max_bytes {
        let files = match &keeping.folder {
            Some(folder) => captures_in(folder)?,
            None => Vec::new(),
        };
        remove_oldest(live, kept_beside(live)?.into_iter().chain(files), max_bytes)?;
    }
    packed
}

/// Removes the oldest until the rest is small enough. What milepost did not make is none of them, nor what somebody writes.
fn remove_oldest(live: &Path, files: impl Iterator<Item = Kept>, max_bytes: u64) -> io::Result<()> {
    let mut files: Vec<Kept> = files.collect();
    files.sort();
    // By another way to the same folder a file may be there twice.
    files.dedup_by_key(|file| file.id);
    let sum = |files: &[Kept]| files.iter().map(|file| file.bytes).sum::<u64>();
    if sum(&files) <= max_bytes {
        return Ok(());
    }
    let live = live.metadata().ok().map(|live| id_of(&live));
    files.retain(|file| Some(file.id) != live && is_capture(&file.path));
    let mut bytes = sum(&files);
    for file in files {
        if bytes <= max_bytes {
            break;
        }
        bytes -= file.bytes;
        let Some(_held) = unlocked(&file.path)? else { continue };
        std::fs::remove_file(&file.path)?;
        log::info(&format!("trace: {} removed, as all files together were too large", file.path.display()));
    }
    Ok(())
}

/// It begins as a trace does, and nobody writes it.
fn is_capture(path: &Path) -> bool {
    first_run(path).is_some() && matches!(unlocked(path), Ok(Some(_)))
}

/// The file, held against whoever would begin to write it; `None` where somebody does.
fn unlocked(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
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
    let written = packer.finish()?;
    // By which the oldest are known, of whatever name.
    written.set_modified(plain.metadata()?.modified()?)?;
    written.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::trace::parts::{open_at, part_path};
    use crate::trace::record::Record;
    use crate::trace::writer::tests::run_record;

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
        keep(&live, &packing(), &stop).unwrap();
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
        let kept = keep(&live, &packing(), &AtomicBool::new(false));
        assert!(kept.is_err());
        assert_eq!(names(&live), ["t.000001.jsonl", "t.000002.jsonl.zst"]);
        std::fs::remove_dir_all(live.parent().unwrap()).unwrap();
    }

    fn packing() -> Keeping {
        Keeping { packs: true, ..Keeping::default() }
    }

    fn limit(max_bytes: u64) -> Keeping {
        Keeping { max_bytes: Some(max_bytes), ..Keeping::default() }
    }

    /// A file of a capture, of so many bytes, last written so long ago.
    fn write(path: &Path, bytes: usize, age_s: u64) {
        let run = serde_json::to_string(&Record::Run(run_record(&Clock::system()))).unwrap() + "\n";
        std::fs::write(path, format!("{run}{}", "\n".repeat(bytes - run.len()))).unwrap();
        let file = File::options().write(true).open(path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_secs(age_s)).unwrap();
    }

    #[test]
    fn the_oldest_go_first_and_one_that_is_to_stop_leaves_a_whole_file() {
        let live = live("cap");
        for number in 1..=5 {
            write(&part_path(&live, number), 1_000, 10);
        }
        // By its name a part, and nothing that milepost wrote.
        std::fs::write(part_path(&live, 6), "mine").unwrap();
        write(&live, 9_000, 0);
        let stop = AtomicBool::new(true);
        keep(&live, &Keeping { packs: true, ..limit(2_500) }, &stop).unwrap();
        assert_eq!(names(&live), ["t.000004.jsonl", "t.000005.jsonl", "t.000006.jsonl"]);
        keep(&live, &limit(1), &stop).unwrap();
        assert_eq!(names(&live), ["t.000006.jsonl"]);
        assert!(live.exists());
        std::fs::remove_dir_all(live.parent().unwrap()).unwrap();
    }

    #[test]
    fn the_limit_holds_over_all_names_in_the_folder_of_captures() {
        let live = live("names");
        let folder = live.parent().unwrap().to_owned();
        let at = |name: &str| folder.join(name);
        write(&at("friday.000001.jsonl"), 1_000, 500);
        write(&at("friday.jsonl"), 1_000, 400);
        write(&part_path(&live, 1), 1_000, 300);
        write(&at("monday.jsonl"), 1_000, 450);
        write(&part_path(&live, 2), 1_000, 200);
        write(&live, 1_000, 600);
        std::fs::write(at("notes.jsonl"), "{}\n".repeat(5_000)).unwrap();
        std::fs::write(at("table.csv"), "mine").unwrap();
        // Another router writes it; this one its own.
        let theirs = File::open(at("monday.jsonl")).unwrap();
        flock(&theirs, FlockOperation::NonBlockingLockExclusive).unwrap();
        let ours = File::open(&live).unwrap();
        flock(&ours, FlockOperation::NonBlockingLockExclusive).unwrap();
        let keeping = Keeping { folder: Some(folder.clone()), ..limit(2_000) };
        keep(&live, &keeping, &AtomicBool::new(false)).unwrap();
        let left =
            ["monday.jsonl", "notes.jsonl", "t.000001.jsonl", "t.000002.jsonl", "t.jsonl", "table.csv"];
        let mut found: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, left);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
