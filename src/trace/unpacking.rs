//! Pages of packed files, each read on where the page before ended.
//!
//! A packed file cannot be entered in the middle, so whoever asks for its pages one after the other would have it unpacked from the
//! beginning for each. Rule: a reader is kept where a page ended and serves the next page of that place, whoever asks; at most
//! `MAX_KEPT` are, the longest unused goes first, and all go once nobody has asked for a while. A place where no reader stands is
//! read from the beginning. Deliberately not here: plain files ([`super::parts`]), the clock of the while ([`crate::admin`]).

use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::parts::{id_of, is_packed, open_at, whole_bytes, whole_lines};

/// Readers that are kept: each has a file open and some megabytes of memory.
const MAX_KEPT: usize = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Unpacking {
    kept: Mutex<Kept>,
    unpacked_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    /// The longest unused first.
    readers: Vec<Reader>,
    /// Somebody calls [`Unpacking::drop_unused`] now and then.
    is_tended: bool,
}

/// A packed file, unpacked up to a place.
struct Reader {
    path: PathBuf,
    /// By which the file is known: another one may get its name.
    id: (u64, u64),
    /// Where the next page begins, a byte of the lines.
    at_bytes: u64,
    /// What was unpacked behind that: a line that is not whole.
    rest: Vec<u8>,
    /// `None` behind the end, or behind what can be read of a file that is torn.
    source: Option<Box<dyn BufRead + Send>>,
    /// Nobody has read since somebody looked.
    is_unused: bool,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.path)
            .field("at_bytes", &self.at_bytes)
            .finish_non_exhaustive()
    }
}

impl Unpacking {
    /// As [`whole_lines`], of a file that may be packed.
    pub fn whole_lines(&self, path: &Path, from_bytes: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
        if !is_packed(path) {
            return whole_lines(path, from_bytes, max_bytes);
        }
        let id = id_of(&path.metadata()?);
        let mut reader = match self.take(path, id, from_bytes) {
            Some(reader) => reader,
            None => self.open(path, id, from_bytes)?,
        };
        let lines = reader.read(max_bytes, &self.unpacked_bytes);
        // Behind the end nobody asks again.
        if !lines.is_empty() {
            self.keep(reader);
        }
        Ok(lines)
    }

    /// True if from now on the caller is to call [`Self::drop_unused`] again and again until that says that nothing is left.
    pub fn wants_tending(&self) -> bool {
        let mut kept = self.kept();
        !kept.readers.is_empty() && !std::mem::replace(&mut kept.is_tended, true)
    }

    /// Drops the readers that nobody used since the last call; false if none is left, and none has to look any more.
    pub fn drop_unused(&self) -> bool {
        let mut kept = self.kept();
        kept.readers.retain_mut(|reader| !std::mem::replace(&mut reader.is_unused, true));
        kept.is_tended = !kept.readers.is_empty();
        kept.is_tended
    }

    /// Bytes of lines that were unpacked so far, read or passed over.
    pub fn unpacked_bytes(&self) -> u64 {
        self.unpacked_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, path: &Path, id: (u64, u64), from_bytes: u64) -> Option<Reader> {
        let mut kept = self.kept();
        let fits = |reader: &Reader| reader.at_bytes == from_bytes && reader.id == id && reader.path == path;
        let at = kept.readers.iter().position(fits)?;
        Some(kept.readers.remove(at))
    }

    fn open(&self, path: &Path, id: (u64, u64), from_bytes: u64) -> io::Result<Reader> {
        let mut source = open_at(path, 0)?;
        let passed = io::copy(&mut (&mut source).take(from_bytes), &mut Counted(&self.unpacked_bytes));
        // Of a file that is torn there is what comes before.
        let source = passed.is_ok().then_some(source);
        let (path, rest) = (path.to_owned(), Vec::new());
        Ok(Reader { path, id, at_bytes: from_bytes, rest, source, is_unused: false })
    }

    fn keep(&self, mut reader: Reader) {
        reader.is_unused = false;
        let mut kept = self.kept();
        kept.readers.push(reader);
        let too_many = kept.readers.len().saturating_sub(MAX_KEPT);
        kept.readers.drain(..too_many);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The next whole lines.
    fn read(&mut self, max_bytes: u64, unpacked_bytes: &AtomicU64) -> Vec<u8> {
        let mut lines = std::mem::take(&mut self.rest);
        if let Some(source) = &mut self.source {
            let had_bytes = lines.len() as u64;
            let read = source.take(max_bytes.saturating_sub(had_bytes)).read_to_end(&mut lines);
            unpacked_bytes.fetch_add(lines.len() as u64 - had_bytes, Ordering::Relaxed);
            if read.is_err() || (lines.len() as u64) < max_bytes {
                self.source = None;
            }
        }
        self.rest = lines.split_off(whole_bytes(&lines, max_bytes));
        self.at_bytes += lines.len() as u64;
        lines
    }
}

/// Where what is passed over goes.
struct Counted<'a>(&'a AtomicU64);

impl io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: u64 = 1_000;

    /// Lines of several lengths, and a packed file of them that holds `cut` of its bytes.
    fn packed(name: &str, cut: impl FnOnce(usize) -> usize) -> (PathBuf, String) {
        let folder = std::env::temp_dir().join(format!("milepost-unpacking-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let lines =
            (0..20_000_usize).map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}\n", n.wrapping_mul(7_919) % 4_099));
        let text: String = lines.collect();
        let bytes = zstd::encode_all(text.as_bytes(), 3).unwrap();
        let path = folder.join("t.000001.jsonl.zst");
        std::fs::write(&path, &bytes[..cut(bytes.len())]).unwrap();
        (path, text)
    }

    fn read_all(unpacking: &Unpacking, path: &Path, mut at_bytes: u64) -> String {
        let mut all = Vec::new();
        loop {
            let page = unpacking.whole_lines(path, at_bytes, PAGE_BYTES).unwrap();
            assert!(page.len() as u64 <= PAGE_BYTES && page.last().is_none_or(|last| *last == b'\n'));
            if page.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            at_bytes += page.len() as u64;
            all.extend(page);
        }
    }

    fn remove(path: &Path) {
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn page_after_page_gives_the_lines_of_the_file_and_unpacks_each_byte_once() {
        let (path, text) = packed("once", |all| all);
        let unpacking = Unpacking::default();
        assert_eq!(read_all(&unpacking, &path, 0), text);
        assert!(text.len() as u64 > 50 * PAGE_BYTES);
        assert_eq!(unpacking.unpacked_bytes(), text.len() as u64);
        assert!(!unpacking.wants_tending(), "who has read it all leaves nothing open");
        remove(&path);
    }

    #[test]
    fn a_place_where_no_reader_stands_is_found_from_the_beginning() {
        let (path, text) = packed("place", |all| all);
        let unpacking = Unpacking::default();
        let first = unpacking.whole_lines(&path, 0, PAGE_BYTES).unwrap();
        let second = unpacking.whole_lines(&path, first.len() as u64, PAGE_BYTES).unwrap();
        // The answer was lost, and the page is asked for again.
        assert_eq!(unpacking.whole_lines(&path, first.len() as u64, PAGE_BYTES).unwrap(), second);
        let late = text.find("{\"n\":4990,").unwrap();
        assert_eq!(read_all(&unpacking, &path, late as u64), text[late..]);
        assert_eq!(unpacking.whole_lines(&path, text.len() as u64 + 9, PAGE_BYTES).unwrap(), b"");
        assert!(unpacking.whole_lines(&path.with_file_name("t.000002.jsonl.zst"), 0, 1).is_err());
        remove(&path);
    }

    #[test]
    fn of_a_torn_file_there_is_what_comes_before() {
        let (path, text) = packed("torn", |all| all / 2);
        let unpacking = Unpacking::default();
        let read = read_all(&unpacking, &path, 0);
        assert!(text.starts_with(&read) && read.len() < text.len() && read.ends_with('\n'));
        assert!(unpacking.unpacked_bytes() <= text.len() as u64);
        remove(&path);
    }

    #[test]
    fn another_file_of_the_same_name_is_not_read_on_with_the_first_ones_reader() {
        let (path, _) = packed("name", |all| all);
        let unpacking = Unpacking::default();
        let first = unpacking.whole_lines(&path, 0, PAGE_BYTES).unwrap();
        let other = format!("{}\nother\n", "x".repeat(first.len() - 1));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, zstd::encode_all(other.as_bytes(), 3).unwrap()).unwrap();
        assert_eq!(unpacking.whole_lines(&path, first.len() as u64, PAGE_BYTES).unwrap(), b"other\n");
        remove(&path);
    }

    #[test]
    fn few_readers_are_kept_and_those_that_nobody_uses_are_dropped() {
        let (path, _) = packed("kept", |all| all);
        let unpacking = Unpacking::default();
        assert!(!unpacking.wants_tending());
        let lengths = 1..=MAX_KEPT as u64 + 3;
        let places: Vec<u64> = lengths
            .map(|more| unpacking.whole_lines(&path, 0, PAGE_BYTES + 20 * more).unwrap().len() as u64)
            .collect();
        let standing = || unpacking.kept().readers.iter().map(|reader| reader.at_bytes).collect::<Vec<_>>();
        assert_eq!(standing(), places[3..], "the last ones");
        assert!(unpacking.wants_tending() && !unpacking.wants_tending(), "by one is enough");
        assert!(unpacking.drop_unused());
        let next = unpacking.whole_lines(&path, places[4], PAGE_BYTES).unwrap().len() as u64;
        assert!(unpacking.drop_unused());
        assert_eq!(standing(), [places[4] + next], "the one that was used");
        assert!(!unpacking.drop_unused() && standing().is_empty() && !unpacking.wants_tending());
        remove(&path);
    }
}
