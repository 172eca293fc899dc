//! Packed values, one after the other: the first of them in memory, the others in a scratch file.
//!
//! Rule: memory does not grow with the number of values, and whoever appends never waits for the disk. A file that cannot be
//! made or written, or is slower than the values come, costs memory and no value, and is told. It has no name once it is open, so
//! that it is gone with the process however that ends. Deliberately not here: what the values are (`seen`, `records`, [`super::rows`]).

mod file;
mod pack;
pub(super) mod records;
pub(super) mod seen;
mod shapes;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use file::Writer;
pub(super) use pack::Pack;
use pack::{Packer, Unpacker};

/// Values are written together; as a power of two.
const CHUNK_BITS: u32 = 20;
const CHUNK_BYTES: usize = 1 << CHUNK_BITS;
/// The length of a value stands before it.
const LENGTH_BYTES: usize = 4;
/// Read together.
const WINDOW_BYTES: usize = 1 << 16;
/// Of these, before what is asked for: requests are read in the order in which they began, and lie in that of their ends.
const BEFORE_BYTES: usize = 1 << 14;

/// Where a run keeps what it has seen of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// The folder of the scratch file, made if need be.
    pub folder: PathBuf,
    /// Bytes that stay in memory: of what is seen during the load, of the router's records and of rows each.
    pub memory_bytes: usize,
}

impl Default for Keeping {
    /// 64 MiB each: some 90,000 rows as they are, 300,000 requests packed.
    fn default() -> Self {
        Self { folder: std::env::temp_dir(), memory_bytes: 64 << 20 }
    }
}

/// Takes values.
#[derive(Debug)]
pub(super) struct Spool {
    keeping: Keeping,
    packer: Packer,
    /// Values in the chunk that is being filled.
    values: usize,
    chunks: Vec<Chunk>,
    memory_bytes: usize,
    writer: Option<Writer>,
    trouble: Option<String>,
    /// Bytes that the disk was too slow to take.
    kept_back_bytes: usize,
}

/// Some values.
#[derive(Debug)]
struct Chunk {
    values: usize,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Memory(Vec<u8>),
    /// On its way to the disk; after [`Spool::finish`] only where the thread that writes has failed.
    Sent,
    File {
        at: u64,
        bytes: usize,
    },
}

/// All values, to be read.
#[derive(Debug, Default)]
pub(super) struct Spooled {
    chunks: Vec<Chunk>,
    file: Option<File>,
    words: Vec<&'static str>,
    /// What a reader of the run's figures has to know: memory was not bounded.
    pub(super) trouble: Option<String>,
}

impl Spool {
    pub(super) fn new(keeping: &Keeping) -> Self {
        Self {
            keeping: keeping.clone(),
            packer: Packer::default(),
            values: 0,
            chunks: Vec::new(),
            memory_bytes: 0,
            writer: None,
            trouble: None,
            kept_back_bytes: 0,
        }
    }

    /// Appends a value; where it is.
    pub(super) fn append(&mut self, value: &impl Pack) -> u64 {
        let at = self.packer.bytes.len();
        let place = (self.chunks.len() as u64) << CHUNK_BITS | at as u64;
        self.packer.bytes.extend([0; LENGTH_BYTES]);
        value.pack(&mut self.packer);
        let long = (self.packer.bytes.len() - at - LENGTH_BYTES) as u32;
        self.packer.bytes[at..at + LENGTH_BYTES].copy_from_slice(&long.to_le_bytes());
        self.values += 1;
        if self.packer.bytes.len() >= CHUNK_BYTES {
            self.close();
        }
        place
    }

    /// Puts the chunk away that was being filled.
    fn close(&mut self) {
        let bytes = std::mem::take(&mut self.packer.bytes);
        let place = self.put(bytes);
        self.chunks.push(Chunk { values: std::mem::take(&mut self.values), place });
    }

    fn put(&mut self, bytes: Vec<u8>) -> Place {
        let long = bytes.len();
        if self.trouble.is_some() || self.memory_bytes + long <= self.keeping.memory_bytes {
            self.memory_bytes += long;
            return Place::Memory(bytes);
        }
        if self.writer.is_none() {
            match Writer::begin(&self.keeping.folder) {
                Ok(writer) => self.writer = Some(writer),
                Err(e) => {
                    self.trouble = Some(format!("{}: {e}", self.keeping.folder.display()));
                    return Place::Memory(bytes);
                }
            }
        }
        let number = self.chunks.len();
        match self.writer.as_ref().map(|writer| writer.send(number, bytes)) {
            None | Some(Ok(())) => Place::Sent,
            Some(Err(bytes)) => {
                self.kept_back_bytes += long;
                Place::Memory(bytes)
            }
        }
    }

    /// Waits until all is where it stays.
    pub(super) fn finish(mut self) -> Spooled {
        if self.values > 0 {
            self.close();
        }
        let mut file = None;
        if let Some(written) = self.writer.and_then(Writer::finish) {
            for (number, place) in written.places {
                self.chunks[number].place = place;
            }
            (file, self.trouble) = (Some(written.file), self.trouble.or(written.trouble));
        }
        let why = match self.trouble {
            Some(why) => Some(format!("no scratch file could be kept ({why})")),
            None if self.kept_back_bytes > 0 => Some(format!(
                "the disk of the scratch file took {} MiB too slowly",
                self.kept_back_bytes >> 20
            )),
            None => None,
        };
        let trouble = why.map(|why| {
            format!("{why}: what was seen of requests stayed in memory, which is not bounded then; no figure depends on it")
        });
        Spooled { chunks: self.chunks, file, words: self.packer.words(), trouble }
    }
}

impl Spooled {
    /// Reads values in any order, those beside each other best.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { spooled: self, window: Vec::new(), window_at: 0 }
    }

    /// All values in the order in which they were appended. One that cannot be read back is an error in its place.
    pub(super) fn values<T: Pack>(&self) -> impl Iterator<Item = Result<T, String>> + '_ {
        let mut reader = self.reader();
        self.chunks
            .iter()
            .enumerate()
            .flat_map(|(number, chunk)| (0..chunk.values).map(move |_| number))
            .scan((0, 0), move |(chunk, at), number| {
                if *chunk != number {
                    (*chunk, *at) = (number, 0);
                }
                let read = reader.read(number, *at);
                *at += read.as_ref().map_or(0, |(_, long)| *long);
                Some(read.map(|(value, _)| value))
            })
    }
}

/// Reads values back.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    spooled: &'a Spooled,
    window: Vec<u8>,
    /// Where the window begins in the file.
    window_at: u64,
}

impl Reader<'_> {
    /// The value that was appended at `place`.
    pub(super) fn value<T: Pack>(&mut self, place: u64) -> Result<T, String> {
        let chunk = (place >> CHUNK_BITS) as usize;
        let at = place as usize & (CHUNK_BYTES - 1);
        self.read(chunk, at).map(|(value, _)| value)
    }

    /// The value at `at` in a chunk, and how many bytes it takes.
    fn read<T: Pack>(&mut self, chunk: usize, at: usize) -> Result<(T, usize), String> {
        let of = |why: &str| format!("it cannot be read back from the scratch file: {why}");
        let head = self.bytes(chunk, at, LENGTH_BYTES).map_err(|why| of(&why))?;
        let long = head.try_into().map_or(0, u32::from_le_bytes) as usize;
        let spooled = self.spooled;
        let bytes = self.bytes(chunk, at + LENGTH_BYTES, long).map_err(|why| of(&why))?;
        let value = Unpacker::new(bytes, &spooled.words).value();
        value.map(|value| (value, LENGTH_BYTES + long)).ok_or_else(|| of("its bytes are others"))
    }

    /// `count` bytes from `at` on in a chunk.
    fn bytes(&mut self, chunk: usize, at: usize, count: usize) -> Result<&[u8], String> {
        let short = || "it ends too early".to_owned();
        let spooled = self.spooled;
        let chunk = spooled.chunks.get(chunk).ok_or_else(short)?;
        let (begin, bytes) = match &chunk.place {
            Place::Memory(bytes) => return bytes.get(at..at + count).ok_or_else(short),
            Place::Sent => return Err(short()),
            Place::File { at, bytes } => (*at, *bytes),
        };
        let from = begin + at as u64;
        let is_there =
            from >= self.window_at && from + count as u64 <= self.window_at + self.window.len() as u64;
        if !is_there {
            let left = bytes.checked_sub(at).filter(|left| *left >= count).ok_or_else(short)?;
            let file = spooled.file.as_ref().ok_or_else(short)?;
            let before = at.min(BEFORE_BYTES);
            self.window.resize(before + left.min(count.max(WINDOW_BYTES - BEFORE_BYTES)), 0);
            self.window_at = from - before as u64;
            if let Err(e) = file.read_exact_at(&mut self.window, self.window_at) {
                self.window.clear();
                return Err(e.to_string());
            }
        }
        let at = (from - self.window_at) as usize;
        self.window.get(at..at + count).ok_or_else(short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: u64 = 40_000;

    /// Some 70 bytes, each unlike the others.
    fn value(number: u64) -> (u64, String) {
        (number, format!("{number:060}"))
    }

    fn spooled(keeping: &Keeping) -> (Spooled, Vec<u64>) {
        let mut spool = Spool::new(keeping);
        let places = (0..COUNT).map(|number| spool.append(&value(number))).collect();
        (spool.finish(), places)
    }

    fn in_file(spooled: &Spooled) -> usize {
        spooled.chunks.iter().filter(|chunk| matches!(chunk.place, Place::File { .. })).count()
    }

    #[test]
    fn values_come_back_in_order_and_in_any_from_memory_and_from_the_file() {
        let folder = std::env::temp_dir().join(format!("milepost-{}-spool", std::process::id()));
        for memory_bytes in [0, 1 << 20, usize::MAX] {
            let (spooled, places) = spooled(&Keeping { folder: folder.clone(), memory_bytes });
            assert_eq!(in_file(&spooled) == 0, memory_bytes == usize::MAX, "{memory_bytes}");
            assert_eq!(spooled.trouble, None);
            let all: Vec<(u64, String)> = spooled.values().map(Result::unwrap).collect();
            assert!(all.iter().zip(0..).all(|(read, number)| *read == value(number)));
            assert_eq!(all.len() as u64, COUNT);
            let mut reader = spooled.reader();
            for number in (0..COUNT).rev().step_by(7).chain([1, COUNT - 1, 2]) {
                assert_eq!(reader.value(places[number as usize]), Ok(value(number)));
            }
        }
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        assert!(left.is_empty(), "the scratch file has no name: {left:?}");
        std::fs::remove_dir(&folder).unwrap();
    }

    /// The folder is a file: nothing can be made in it.
    #[test]
    fn without_a_file_all_stays_in_memory_and_that_is_told() {
        let folder = std::env::temp_dir().join(format!("milepost-{}-no-spool", std::process::id()));
        std::fs::write(&folder, "x").unwrap();
        let (spooled, _) = spooled(&Keeping { folder: folder.clone(), memory_bytes: 0 });
        std::fs::remove_file(&folder).unwrap();
        assert_eq!(
            (spooled.values::<(u64, String)>().flatten().count() as u64, in_file(&spooled)),
            (COUNT, 0)
        );
        assert!(spooled.trouble.as_ref().unwrap().contains("stayed in memory"), "{:?}", spooled.trouble);
    }

    #[test]
    fn what_cannot_be_read_back_is_an_error_in_its_place() {
        let keeping = Keeping { memory_bytes: CHUNK_BYTES + 4096, ..Keeping::default() };
        let (mut spooled, places) = spooled(&keeping);
        let lost = spooled.chunks[1].values;
        spooled.file = None;
        let all: Vec<Result<(u64, String), String>> = spooled.values().collect();
        assert_eq!(all.len() as u64, COUNT);
        assert!(all[0].is_ok() && all.iter().filter(|read| read.is_err()).count() >= lost);
        let told = spooled.reader().value::<(u64, String)>(places[COUNT as usize - 1]).unwrap_err();
        assert!(told.contains("cannot be read back"), "{told}");
    }
}
