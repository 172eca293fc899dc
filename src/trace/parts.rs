//! The files of a capture: the live one, and those that were rotated away from it.
//!
//! `trace.jsonl` is written; `trace.000007.jsonl` was the seventh file. Rule: the number alone says the order, it goes up for ever,
//! and no file is ever written over. Deliberately not here: writing ([`super::live`]).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes read at one time.
const READ_BYTES: usize = 1 << 16;
/// Digits of a part's number, so that a plain listing is in order.
const DIGITS: usize = 6;

/// A file that was rotated away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number, from 1.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
    /// Its size on disk.
    pub bytes: u64,
}

/// The path of part `number` of the capture that writes `live`.
pub fn part_path(live: &Path, number: u64) -> PathBuf {
    let (stem, end) = split(live);
    live.with_file_name(format!("{stem}.{number:0DIGITS$}{end}"))
}

/// The parts of the capture that writes `live`, in order.
pub fn parts_of(live: &Path) -> io::Result<Vec<Part>> {
    let (stem, end) = split(live);
    let mut parts = Vec::new();
    for entry in std::fs::read_dir(folder(live))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = name.strip_prefix(&*stem).and_then(|rest| rest.strip_prefix('.'));
        let number = number.and_then(|rest| rest.strip_suffix(&*end)).and_then(number_of);
        if let Some(number) = number {
            parts.push(Part { number, path: entry.path(), bytes: entry.metadata().map_or(0, |m| m.len()) });
        }
    }
    parts.sort_by_key(|part| part.number);
    Ok(parts)
}

/// Opens a file of a capture at this byte of its lines.
pub fn open_at(path: &Path, from_bytes: u64) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from_bytes))?;
    Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)))
}

/// Whole lines of a file from a byte on, at most so many bytes of them. A line longer than that is told in pieces.
pub fn whole_lines(path: &Path, from_bytes: u64, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    open_at(path, from_bytes)?.take(max_bytes).read_to_end(&mut lines)?;
    let whole = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if whole > 0 || (lines.len() as u64) < max_bytes {
        lines.truncate(whole);
    }
    Ok(lines)
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
        for other in
            ["trace.jsonl", "trace.1.jsonl", "trace.00000x.jsonl", "other.000003.jsonl", "trace.000000.jsonl"]
        {
            std::fs::write(folder.join(other), "x").unwrap();
        }
        let numbers: Vec<u64> = parts_of(&live).unwrap().iter().map(|part| part.number).collect();
        assert_eq!(numbers, [2, 12, 1_000_000]);
        assert_eq!(part_path(Path::new("d/t.jsonl"), 7), Path::new("d/t.000007.jsonl"));
        assert_eq!(part_path(Path::new("t"), 7), Path::new("t.000007"));
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
        assert_eq!((told(8, 100), told(0, 2), told(99, 9)), (String::new(), "on".into(), String::new()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
