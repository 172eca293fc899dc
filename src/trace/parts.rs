//! The files of a capture: the live one, and those that were rotated away from it.
//!
//! `trace.jsonl` is written; `trace.000007.jsonl` was the seventh file, and is `trace.000007.jsonl.zst` once it is packed. Rule: the
//! number alone says the order, it goes up for ever, and no file is ever written over. Deliberately not here: writing
//! (`live`), packing (`archive`), what the lines mean ([`super::reader`]).

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::capture::file_name;
use super::reader::MAX_LINE_BYTES;

/// What the name of a packed file ends in.
pub const PACKED_END: &str = ".zst";
/// What the name of a file ends in while it is packed.
pub(super) const UNFINISHED_END: &str = ".packing";
/// Bytes read at one time.
const READ_BYTES: usize = 1 << 16;
/// Digits of a part's number, so that a plain listing is in order.
const DIGITS: usize = 6;
/// What the name of a trace ends in, where a folder is read.
const TRACE_ENDS: [&str; 2] = [".jsonl", ".ndjson"];

/// A file that was rotated away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its size on disk.
    pub bytes: u64,
    /// It is packed by zstd.
    pub is_packed: bool,
}

/// The path of part `number` of the capture that writes `live`, while it is plain.
pub fn part_path(live: &Path, number: u64) -> PathBuf {
    let (stem, end) = split(live);
    live.with_file_name(format!("{stem}.{number:0DIGITS$}{end}"))
}

/// The parts of the capture that writes `live`, in order. One that is there plain and packed is the plain one: it is being packed.
pub fn parts_of(live: &Path) -> io::Result<Vec<Part>> {
    let (stem, end) = split(live);
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder(live))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let (plain, is_packed) = unpacked(name);
        let number = plain.strip_prefix(&*stem).and_then(|rest| rest.strip_prefix('.'));
        let number = number.and_then(|rest| rest.strip_suffix(&*end)).and_then(number_of);
        if let Some(number) = number {
            let bytes = entry.metadata().map_or(0, |m| m.len());
            parts.push(Part { number, path: entry.path(), bytes, is_packed });
        }
    }
    parts.sort_by_key(|part| (part.number, part.is_packed));
    parts.dedup_by_key(|part| part.number);
    Ok(parts)
}

/// A file of a capture as it lies there, in order of age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kept {
    modified: SystemTime,
    /// See [`order`].
    order: (String, u64, bool),
    /// By which it is known on its disk.
    pub(super) id: (u64, u64),
    /// Its size on disk.
    pub(super) bytes: u64,
    /// Where it is.
    pub(super) path: PathBuf,
}

/// By which a file is known, whatever its name.
pub(super) fn id_of(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The parts of the capture that writes `live`.
pub(super) fn kept_beside(live: &Path) -> io::Result<Vec<Kept>> {
    let (stem, end) = split(live);
    let capture = format!("{stem}{end}");
    kept_in(folder(live), |(of, number, _)| *of == capture && *number < u64::MAX)
}

/// All files in a folder that have names of captures, those that are written included.
pub(super) fn captures_in(folder: &Path) -> io::Result<Vec<Kept>> {
    kept_in(folder, |(of, _, _)| file_name(of).is_ok_and(|name| name == *of))
}

fn kept_in(folder: &Path, fits: impl Fn(&(String, u64, bool)) -> bool) -> io::Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Some(order) = entry.file_name().to_str().map(order).filter(|order| fits(order)) else { continue };
        // One that is gone meanwhile, or a link, is none.
        if let Ok(found) = entry.metadata()
            && found.is_file()
        {
            let (modified, bytes) = (found.modified()?, found.len());
            kept.push(Kept { modified, order, id: id_of(&found), bytes, path: entry.path() });
        }
    }
    Ok(kept)
}

/// Whether a file of this name is meant.
type Fits<'a> = Box<dyn Fn(&str) -> bool + 'a>;

/// The files that a path means: itself, all traces in a folder, or those whose names fit a pattern (`*` and `?` in the last part of
/// the path). Captures are in the order of their names, the files of one in that of their numbers.
pub fn files_of(path: &Path) -> io::Result<Vec<PathBuf>> {
    let pattern = path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains(['*', '?']));
    let (folder, fits): (&Path, Fits<'_>) = match pattern {
        _ if path.is_dir() => {
            (path, Box::new(|name| TRACE_ENDS.iter().any(|end| unpacked(name).0.ends_with(end))))
        }
        Some(pattern) if !path.exists() => {
            (folder(path), Box::new(|name| matches(pattern.as_bytes(), name.as_bytes())))
        }
        _ => return Ok(vec![path.to_owned()]),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(name) =
            entry.file_name().to_str().filter(|name| fits(name) && !name.ends_with(UNFINISHED_END))
            && entry.path().is_file()
        {
            found.push((order(name), entry.path()));
        }
    }
    found.sort();
    found.dedup_by(|(b, _), (a, _)| (&b.0, b.1) == (&a.0, a.1));
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no trace"));
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Opens a file of a capture at this byte of its lines, packed or not.
pub fn open_at(path: &Path, from_bytes: u64) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = File::open(path)?;
    if !is_packed(path) {
        // What cannot seek is read from where it is, which is its beginning.
        if from_bytes > 0 {
            file.seek(SeekFrom::Start(from_bytes))?;
        }
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)));
    }
    let mut lines = BufReader::with_capacity(READ_BYTES, zstd::Decoder::new(file)?);
    io::copy(&mut (&mut lines).take(from_bytes), &mut io::sink())?;
    Ok(Box::new(lines))
}

/// The name says that it is packed.
pub fn is_packed(path: &Path) -> bool {
    path.to_str().is_some_and(|path| unpacked(path).1)
}

/// Whole lines of a plain file from a byte on, at most so many bytes of them. A line longer than that is told in pieces.
pub fn whole_lines(path: &Path, from_bytes: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    open_at(path, from_bytes)?.take(max_bytes).read_to_end(&mut lines)?;
    lines.truncate(whole_bytes(&lines, max_bytes));
    Ok(lines)
}

/// Where the last whole line of a plain file that is written ends, at most [`MAX_LINE_BYTES`] before its end.
pub fn whole_end(path: &Path) -> io::Result<u64> {
    // To open a pipe would be to wait for its writer, and to read it to take from its reader.
    if !path.metadata()?.is_file() {
        return Ok(0);
    }
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let from_bytes = len.saturating_sub(MAX_LINE_BYTES as u64);
    file.seek(SeekFrom::Start(from_bytes))?;
    let mut read = Vec::new();
    file.take(len - from_bytes).read_to_end(&mut read)?;
    Ok(from_bytes + whole_bytes(&read, MAX_LINE_BYTES as u64) as u64)
}

/// How much of what was read is whole lines; all of it where one line is as long as may be read.
pub(super) fn whole_bytes(read: &[u8], max_bytes: u64) -> usize {
    match read.iter().rposition(|&byte| byte == b'\n') {
        Some(last) => last + 1,
        None if (read.len() as u64) < max_bytes => 0,
        None => read.len(),
    }
}

/// Both are of one capture, by their names.
pub fn is_same_capture(a: &Path, b: &Path) -> bool {
    let capture = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(|name| order(name).0);
    capture(a) == capture(b)
}

/// Where a file stands: its capture, its number (the live one is the last), plain before packed.
fn order(name: &str) -> (String, u64, bool) {
    let (plain, is_packed) = unpacked(name);
    let (stem, end) = split(Path::new(plain));
    let numbered = stem.rsplit_once('.').and_then(|(stem, digits)| Some((stem, number_of(digits)?)));
    let (stem, number) = numbered.unwrap_or((&stem, u64::MAX));
    (format!("{stem}{end}"), number, is_packed)
}

fn unpacked(name: &str) -> (&str, bool) {
    name.strip_suffix(PACKED_END).map_or((name, false), |plain| (plain, true))
}

/// `*` is any characters, `?` is one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    // Behind the last star, and the name from where it is to be tried next.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, in_name + 1));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[in_name] => {
                (at, in_name) = (at + 1, in_name + 1);
            }
            _ => {
                let Some((behind, next)) = star else { return false };
                (at, in_name) = (behind, next);
                star = Some((behind, next + 1));
            }
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

fn number_of(digits: &str) -> Option<u64> {
    let is_number = digits.len() >= DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten().filter(|number| *number > 0)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name without what follows its last dot, and that.
fn split(live: &Path) -> (String, String) {
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    let stem = live.file_stem().map(text).unwrap_or_default();
    (stem, live.extension().map(|end| format!(".{}", text(end))).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("milepost-parts-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_parts_of_one_capture_are_found_in_order_and_those_of_others_are_not() {
        let folder = folder_of("order");
        let live = folder.join("trace.jsonl");
        for number in [12, 2, 1_000_000] {
            std::fs::write(part_path(&live, number), "x").unwrap();
        }
        let others = [
            "trace.jsonl",
            "trace.1.jsonl",
            "trace.00000x.jsonl",
            "other.000003.jsonl",
            "trace.000000.jsonl",
        ];
        for other in others.into_iter().chain(["trace.000003.jsonl.zst", "trace.000012.jsonl.zst"]) {
            std::fs::write(folder.join(other), "x").unwrap();
        }
        let found: Vec<(u64, bool)> =
            parts_of(&live).unwrap().iter().map(|part| (part.number, part.is_packed)).collect();
        assert_eq!(found, [(2, false), (3, true), (12, false), (1_000_000, false)]);
        assert_eq!(part_path(Path::new("d/t.jsonl"), 7), Path::new("d/t.000007.jsonl"));
        assert_eq!(part_path(Path::new("t"), 7), Path::new("t.000007"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_and_a_pattern_are_files_in_the_order_of_their_captures_and_numbers() {
        let folder = folder_of("files");
        for name in
            ["b.jsonl", "b.000002.jsonl", "b.000010.jsonl.zst", "a.jsonl", "b.000002.jsonl.zst", "x.csv"]
        {
            std::fs::write(folder.join(name), "x").unwrap();
        }
        let names = |path: &Path| -> Vec<String> {
            let files = files_of(path).unwrap();
            files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&folder), ["a.jsonl", "b.000002.jsonl", "b.000010.jsonl.zst", "b.jsonl"]);
        assert_eq!(names(&folder.join("b.*")), ["b.000002.jsonl", "b.000010.jsonl.zst", "b.jsonl"]);
        assert_eq!(names(&folder.join("?.jsonl")), ["a.jsonl", "b.jsonl"]);
        assert_eq!(names(&folder.join("b*2*l")), ["b.000002.jsonl"]);
        assert_eq!(names(&folder.join("a.jsonl")), ["a.jsonl"]);
        assert!(files_of(&folder.join("c*")).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_whole_lines_are_told() {
        let folder = folder_of("lines");
        let path = folder.join("t.jsonl");
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        let told = |from, max| String::from_utf8(whole_lines(&path, from, max).unwrap()).unwrap();
        assert_eq!(
            (told(0, 100), told(0, 5), told(4, 100)),
            ("one\ntwo\n".into(), "one\n".into(), "two\n".into())
        );
        assert_eq!(whole_end(&path).unwrap(), 8, "not in the line that is being written");
        assert_eq!((told(8, 100), told(0, 2), told(99, 9)), (String::new(), "on".into(), String::new()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
