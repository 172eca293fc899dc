//! A trace file that a router is writing, followed over its rotations.
//!
//! Rule: every whole line is told once, in order: the rest of the file that was open, those that were rotated away after it, packed or
//! not, then the live one. What is read stays open, so that neither its new name nor its end under another process takes a line from
//! it. Deliberately not here: what the lines say ([`super::traced`]).

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::trace::parts::{Part, open_at, parts_of};
use crate::trace::reader::MAX_LINE_BYTES;
use crate::trace::record::Record;

/// How the first line of a file begins.
const RUN: &[u8] = b"{\"kind\":\"run\"";
/// Rotations that may happen while one is looked for.
const MAX_TRIES: u32 = 8;

/// Who is told a line, and whether it was written after the beginning.
type Take<'a> = &'a mut dyn FnMut(&[u8], bool) -> Result<(), String>;

/// See the module.
#[derive(Debug)]
pub(super) struct Following {
    path: PathBuf,
    file: File,
    /// Bytes of the open file that were told.
    told: u64,
    /// What stands before this byte of it was written before this was made.
    begin: u64,
    /// Its number among the files of the capture, as its last `run` record says.
    number: Option<u64>,
}

impl Following {
    /// Remembers where the file ends now.
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let begin = file.metadata()?.len();
        let mut first = Vec::new();
        BufReader::new(&file).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut first)?;
        if first.last() == Some(&b'\n') && serde_json::from_slice::<Record>(&first).is_err() {
            return Err(io::Error::other("not a milepost trace: its first line is no record"));
        }
        Ok(Self { path: path.to_owned(), file, told: 0, begin, number: None })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the lines that are new.
    pub(super) fn look(&mut self, take: Take<'_>) -> io::Result<()> {
        for _ in 0..MAX_TRIES {
            self.rest(take)?;
            if !self.is_replaced()? {
                return Ok(());
            }
            // What was written between the two is the last of it.
            self.rest(take)?;
            if !self.go_on(take)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The whole lines of the open file that were not told. One that has become shorter was begun anew, and all of it is new.
    fn rest(&mut self, take: Take<'_>) -> io::Result<()> {
        if self.file.metadata()?.len() < self.told.max(self.begin) {
            (self.told, self.begin) = (0, 0);
        }
        self.file.seek(SeekFrom::Start(self.told))?;
        let (mut place, begin, number) = (self.told, self.begin, &mut self.number);
        let read = each_line(&mut BufReader::new(&self.file), |line| {
            *number = part_of(line).or(*number);
            take(line, place >= begin)?;
            place += line.len() as u64;
            Ok(())
        });
        self.told = place;
        read
    }

    /// The path leads to another file than the open one. While it leads nowhere a rotation is under way.
    fn is_replaced(&self) -> io::Result<bool> {
        match self.path.metadata() {
            Ok(found) => Ok(!is_same(&found, &self.file.metadata()?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells the files that were rotated away since, and opens the live one; false if there is none yet.
    fn go_on(&mut self, take: Take<'_>) -> io::Result<bool> {
        for _ in 0..MAX_TRIES {
            for part in self.later()? {
                let told = open_at(&part.path, 0)
                    .and_then(|mut lines| each_line(&mut lines, |line| take(line, true)));
                match told {
                    Ok(()) => self.number = Some(part.number),
                    // It is packed by now, or the oldest that had to go.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => return Err(error),
                }
            }
            let file = match File::open(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            };
            let live = file.metadata()?;
            let is_live = |part: &Part| part.path.metadata().is_ok_and(|found| is_same(&found, &live));
            // Unless another one was rotated away meanwhile.
            if self.later()?.iter().all(is_live) {
                (self.file, self.told, self.begin) = (file, 0, 0);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The files that were rotated away after the open one.
    fn later(&self) -> io::Result<Vec<Part>> {
        // A trace that does not number its files is not rotated by the router.
        let Some(number) = self.number else { return Ok(Vec::new()) };
        Ok(parts_of(&self.path)?.into_iter().filter(|part| part.number > number).collect())
    }
}

fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The number of the file, if this line is the `run` record that tells it.
fn part_of(line: &[u8]) -> Option<u64> {
    match line.starts_with(RUN).then(|| serde_json::from_slice(line)) {
        Some(Ok(Record::Run(run))) => run.capture.map(|capture| capture.part),
        _ => None,
    }
}

/// Hands over each whole line with its end; one that is too long in pieces.
fn each_line(lines: &mut dyn BufRead, mut take: impl FnMut(&[u8]) -> Result<(), String>) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = lines.take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') && bytes < MAX_LINE_BYTES {
            return Ok(());
        }
        take(&line).map_err(io::Error::other)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::parts::{PACKED_END, part_path};
    use crate::trace::record::{CaptureRecord, RunRecord};
    use crate::trace::schema::filled_records;

    /// The first line of a file.
    fn run(part: u64) -> String {
        let run = filled_records().into_iter().find_map(|record| match record {
            Record::Run(run) => Some(run),
            _ => None,
        });
        let capture = CaptureRecord { part, ..CaptureRecord::default() };
        let run = RunRecord { capture: Some(capture), ..run.unwrap() };
        serde_json::to_string(&Record::Run(run)).unwrap() + "\n"
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("milepost-follow-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// The lines of a look that are no `run` records, each with whether it is new.
    fn look(following: &mut Following) -> Vec<(String, bool)> {
        let mut told = Vec::new();
        let mut take = |line: &[u8], is_new| {
            let line = String::from_utf8_lossy(line).trim_end().to_owned();
            if !line.starts_with("{\"kind\":\"run\"") {
                told.push((line, is_new));
            }
            Ok(())
        };
        following.look(&mut take).unwrap();
        told
    }

    fn new(lines: &[&str]) -> Vec<(String, bool)> {
        lines.iter().map(|line| ((*line).to_owned(), true)).collect()
    }

    fn append(path: &Path, text: &str) {
        let before = std::fs::read_to_string(path).unwrap();
        std::fs::write(path, before + text).unwrap();
    }

    #[test]
    fn lines_are_told_once_and_in_order_over_rotations_packed_or_not() {
        let folder = folder("rotated");
        let live = folder.join("t.jsonl");
        // A part from before.
        std::fs::write(part_path(&live, 1), run(1) + "never\n").unwrap();
        std::fs::write(&live, run(2) + "old\n").unwrap();
        let mut following = Following::begin(&live).unwrap();
        append(&live, "a\nb");
        assert_eq!(look(&mut following), [("old".to_owned(), false), ("a".to_owned(), true)]);
        append(&live, "b\nc\n");
        // Three rotations between two looks; the first file is packed already.
        std::fs::rename(&live, part_path(&live, 2)).unwrap();
        let text = run(3) + "d\n";
        let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
        std::fs::write(format!("{}{PACKED_END}", part_path(&live, 3).display()), packed).unwrap();
        std::fs::write(part_path(&live, 4), run(4) + "e\n").unwrap();
        assert_eq!(look(&mut following), new(&["bb", "c"]), "no live file: the rotation is under way");
        std::fs::write(&live, run(5) + "f\n").unwrap();
        assert_eq!(look(&mut following), new(&["d", "e", "f"]));
        append(&live, "g\n");
        assert_eq!((look(&mut following), look(&mut following)), (new(&["g"]), Vec::new()));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// Longer than where this run began by the time of the look, yet shorter than what was read.
    #[test]
    fn a_file_begun_anew_is_read_from_its_start_and_once() {
        let folder = folder("anew");
        let live = folder.join("t.jsonl");
        std::fs::write(&live, run(1)).unwrap();
        let mut following = Following::begin(&live).unwrap();
        append(&live, "x\ny\na\n");
        assert_eq!(look(&mut following), new(&["x", "y", "a"]));
        std::fs::write(&live, "x\nb\n").unwrap();
        assert_eq!((look(&mut following), look(&mut following)), (new(&["x", "b"]), Vec::new()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
