//! Data set files: bytes → checked text → JSON rows with their line.
//!
//! Rule: a byte-order mark is accepted, anything that is not UTF-8 or not JSON is an error with its line. Deliberately not
//! here: what a row means.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use super::DatasetError;

/// Largest file read: that of `sharegpt` has 0.7 GB.
const MAX_FILE_BYTES: u64 = 2 << 30;

/// Longest line of a file that is read line by line.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// The lines of a file of any size, one after the other, with their numbers. Empty ones are passed over.
pub(super) fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<(usize, String), DatasetError>>, DatasetError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| DatasetError::new(format!("--dataset-path {name}: {e}")))?;
    let mut input = BufReader::with_capacity(1 << 16, file);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        loop {
            let mut bytes = Vec::new();
            number += 1;
            let fail = |what: &str| DatasetError::new(format!("--dataset-path {name} line {number}: {what}"));
            match (&mut input).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes) {
                Err(e) => return Some(Err(fail(&e.to_string()))),
                Ok(0) => return None,
                Ok(read) if read as u64 == MAX_LINE_BYTES => {
                    return Some(Err(fail(&format!("longer than {MAX_LINE_BYTES} bytes"))));
                }
                Ok(_) => {}
            }
            let Ok(line) = std::str::from_utf8(bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes)) else {
                return Some(Err(fail("not UTF-8; convert the file, for example with iconv")));
            };
            if !line.trim().is_empty() {
                return Some(Ok((number, line.trim().to_owned())));
            }
        }
    }))
}

/// Reads a file as text.
pub(super) fn read(path: &Path) -> Result<String, DatasetError> {
    let fail = |what: String| DatasetError::new(format!("--dataset-path {}: {what}", path.display()));
    let meta = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?;
    if meta.is_dir() {
        return Err(fail("expected a file, this is a directory".to_owned()));
    }
    if meta.len() > MAX_FILE_BYTES {
        return Err(fail(format!(
            "the file has {} bytes, at most {MAX_FILE_BYTES} are read; cut it",
            meta.len()
        )));
    }
    let mut bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    if bytes.starts_with(b"\xEF\xBB\xBF") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = line_of(&String::from_utf8_lossy(&e.as_bytes()[..good]));
        fail(format!("line {line}: not UTF-8 (byte {good}); convert the file, for example with iconv"))
    })
}

/// A row with the line it begins on.
type NumberedRow = Result<(usize, Value), DatasetError>;

/// The rows of a JSON array, or of JSON lines, one after the other: a row as a tree is many times as large as its text. Empty lines are
/// passed over.
pub(super) fn rows<'a>(
    text: &'a str,
    path: &'a Path,
) -> Result<Box<dyn Iterator<Item = NumberedRow> + 'a>, DatasetError> {
    let fail = move |line: usize, what: String| {
        DatasetError::new(format!("--dataset-path {} line {line}: {what}", path.display()))
    };
    let parsed = move |line: usize, row: &str| {
        serde_json::from_str(row).map(|value| (line, value)).map_err(|e| fail(line, e.to_string()))
    };
    if !text.trim_start().starts_with('[') {
        let lines = text.lines().enumerate().filter(|(_, row)| !row.trim().is_empty());
        return Ok(Box::new(lines.map(move |(i, row)| parsed(i + 1, row))));
    }
    let items: Vec<&serde_json::value::RawValue> =
        serde_json::from_str(text).map_err(|e| fail(e.line(), e.to_string()))?;
    let (mut line, mut seen) = (1, 0);
    Ok(Box::new(items.into_iter().map(move |item| {
        // Where a slice of `text` begins, from its address: both pointers are into the same string.
        let begin = item.get().as_ptr() as usize - text.as_ptr() as usize;
        line += text[seen..begin].matches('\n').count();
        seen = begin;
        parsed(line, item.get())
    })))
}

fn line_of(before: &str) -> usize {
    before.matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_and_lines_give_the_same_rows() {
        let path = Path::new("x");
        let all = |text: &str| rows(text, path).unwrap().map(Result::unwrap).collect::<Vec<_>>();
        let array = all("[\n {\"a\":1},\n\n {\"a\":2}]");
        let lines = all("\n{\"a\":1}\n\n{\"a\":2}\n");
        assert_eq!(array, lines);
        assert_eq!(array.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn a_bad_row_is_named_by_its_line() {
        let e = rows("{\"a\":1}\n{\"a\":\n", Path::new("p.jsonl")).unwrap().find_map(Result::err).unwrap();
        assert!(e.to_string().contains("p.jsonl line 2"), "{e}");
        let e = rows("[{\"a\":1},\n{\"a\"}]", Path::new("p.json")).err().unwrap();
        assert!(e.to_string().contains("line 2"), "{e}");
    }
}
