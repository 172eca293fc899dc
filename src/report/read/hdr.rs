//! `latency.hdr`, or a log in `HdrHistogram`'s format that another program wrote.
//!
//! Rule: one line at a time; intervals are added up by tag, those without a tag under no name. A line that cannot be read is an
//! error with its number, and only a last one that a crash tore is left out and said. Deliberately not here: how a
//! histogram is encoded ([`crate::report::hdr`]).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{MAX_LINE_BYTES, ReadError, parted};
use crate::naming::{counted, unlike};
use crate::report::hdr::{Counts, LEGEND, NOTE, OURS, Tagged, decoded};

/// Tags that are told apart at most.
const MOST_TAGS: usize = 1_000;
/// Notes that are told at most.
const MOST_NOTES: usize = 10;

/// A log that was read.
#[derive(Clone, Debug)]
pub struct HdrLog {
    /// How it is called beside others.
    pub name: String,
    /// The file.
    pub from: String,
    /// Counts by tag, all intervals together.
    pub tagged: Tagged,
    /// Its values are known to be nanoseconds.
    pub nanoseconds: bool,
    /// Lines with a histogram.
    pub intervals: u64,
    /// What else a reader has to know.
    pub notes: Vec<String>,
}

/// It begins as such a log does.
///
/// # Errors
/// It cannot be read.
pub fn is_log(given: &Path) -> Result<bool, ReadError> {
    let (_, path) = parted(given);
    if !path.is_file() {
        return Ok(false);
    }
    let mut begin = Vec::new();
    let file = File::open(path).map_err(|e| ReadError::new(path, e))?;
    file.take(64).read_to_end(&mut begin).map_err(|e| ReadError::new(path, e))?;
    let known = [b"#".as_slice(), b"Tag=", &LEGEND.as_bytes()[..16]];
    Ok(known.iter().any(|mark| begin.starts_with(mark)) || path.extension().is_some_and(|end| end == "hdr"))
}

/// Several, each `PATH` or `NAME=PATH`, and what they are together.
///
/// # Errors
/// One cannot be read, or holds too much.
pub fn read_all(paths: &[PathBuf]) -> Result<(Vec<HdrLog>, Tagged), ReadError> {
    let (mut logs, mut merged) = (Vec::<HdrLog>::new(), Tagged::default());
    for given in paths {
        let (name, path) = parted(given);
        let mut log = read(path)?;
        log.name = name.map_or(log.name, ToOwned::to_owned);
        merged.add_all(&log.tagged).map_err(|what| ReadError::new(path, what))?;
        // Clients that begin at once have folders of one name.
        log.name = unlike(&log.name, counted, |name| logs.iter().any(|other| other.name == name));
        logs.push(log);
    }
    Ok((logs, merged))
}

/// All of one.
fn read(path: &Path) -> Result<HdrLog, ReadError> {
    let mut input = BufReader::with_capacity(1 << 18, File::open(path).map_err(|e| ReadError::new(path, e))?);
    let mut log = HdrLog {
        name: name(path),
        from: path.display().to_string(),
        tagged: Tagged::default(),
        nanoseconds: false,
        intervals: 0,
        notes: Vec::new(),
    };
    let (mut line, mut number, mut torn) = (Vec::new(), 0, false);
    loop {
        line.clear();
        number += 1;
        let read = (&mut input).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line);
        if read.map_err(|e| ReadError::new(path, e))? == 0 {
            break;
        }
        let ended = line.last() == Some(&b'\n');
        if !ended && line.len() >= MAX_LINE_BYTES {
            return Err(ReadError::at(path, number, format!("longer than {MAX_LINE_BYTES} bytes")));
        }
        match log.take(line.trim_ascii()) {
            Ok(()) => {}
            Err(_) if !ended => {
                torn = true;
                log.notes.push(format!("line {number} is torn and left out"));
            }
            Err(what) => return Err(ReadError::at(path, number, what)),
        }
    }
    if log.intervals == 0 && !torn {
        log.notes
            .push("there is no histogram in it: no request succeeded, or the run was cut off".to_owned());
    }
    Ok(log)
}

/// A run's own log is known by the folder of the run.
fn name(path: &Path) -> String {
    let own = path.file_name().is_some_and(|name| name == crate::report::files::HDR);
    let folder = path.canonicalize().ok().and_then(|path| Some(path.parent()?.file_name()?.to_owned()));
    let name = if own { folder } else { path.file_name().map(ToOwned::to_owned) };
    name.unwrap_or_else(|| path.as_os_str().to_owned()).to_string_lossy().into_owned()
}

impl HdrLog {
    /// One line more.
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
        if text.starts_with('#') {
            self.nanoseconds |= text.starts_with(OURS);
            if let Some(note) = text.strip_prefix(NOTE)
                && self.notes.len() < MOST_NOTES
            {
                self.notes.push(note.trim_end_matches(']').to_owned());
            }
            return Ok(());
        }
        if text.is_empty() || text.starts_with(&LEGEND[..16]) {
            return Ok(());
        }
        let (tag, counts) = interval(text)?;
        if self.tagged.0.len() >= MOST_TAGS && !self.tagged.0.contains_key(tag) {
            return Err(format!("more than {MOST_TAGS} tags"));
        }
        self.tagged.add(tag, &counts)?;
        self.intervals += 1;
        Ok(())
    }
}

/// `[Tag=NAME,]START,LENGTH,MAX,HISTOGRAM`.
fn interval(text: &str) -> Result<(&str, Counts), String> {
    let wrong = || "expected [Tag=NAME,]START,LENGTH,MAX,HISTOGRAM".to_owned();
    let (tag, rest) = match text.strip_prefix("Tag=") {
        Some(tagged) => tagged.split_once(',').ok_or_else(wrong)?,
        None => ("", text),
    };
    let cells: Vec<&str> = rest.split(',').map(str::trim).collect();
    let [start, length, max, histogram] = cells[..] else { return Err(wrong()) };
    for (what, cell) in [("start", start), ("length", length), ("largest value", max)] {
        if cell.parse::<f64>().is_err() {
            return Err(format!("expected the {what} of an interval as a number, got {cell:?}"));
        }
    }
    Ok((tag, decoded(histogram)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::row::{Row, example};
    use crate::report::hdr::Recording;

    fn log(rows: &[Row]) -> String {
        let mut recording = Recording::begin().unwrap();
        for row in rows {
            recording.add(row);
        }
        let mut text = Vec::new();
        recording.write(&mut text, 1_700_000_000_000_000_000).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn rows(from: i64, to: i64) -> Vec<Row> {
        (from..to)
            .map(|n| Row { client_end_ns: Some(1_062_000_000 + n * n * 900_001), ..example() })
            .collect()
    }

    fn read_text(name: &str, text: &str) -> Result<HdrLog, String> {
        let path = std::env::temp_dir().join(format!("milepost-hdr-{}-{name}.hdr", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let read = read(&path).map_err(|e| e.to_string());
        std::fs::remove_file(&path).unwrap();
        read
    }

    /// What makes it right to merge: two clients' logs are the log of both.
    #[test]
    fn two_logs_together_are_the_log_of_both() {
        let [one, other, both] = [(0, 90), (90, 200), (0, 200)].map(|(from, to)| log(&rows(from, to)));
        let mut merged = read_text("one", &one).unwrap().tagged;
        merged.add_all(&read_text("other", &other).unwrap().tagged).unwrap();
        let both = read_text("both", &both).unwrap();
        assert!(both.nanoseconds && both.notes.is_empty() && both.intervals > 7, "{both:?}");
        assert_eq!(merged.0, both.tagged.0);
        assert_eq!((merged.0.len(), merged.0["itl"].len(), merged.digits()), (7, 800, Some(3)));
    }

    /// Made by the Python package, which wrote no tag; the figures are its own.
    #[test]
    fn a_log_of_another_program_reads() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hdr/python.hdr");
        assert!(is_log(Path::new(path)).unwrap());
        let log = read(Path::new(path)).unwrap();
        assert_eq!((log.name.as_str(), log.nanoseconds, log.intervals), ("python.hdr", false, 6));
        let all = &log.tagged.0[""];
        let percentiles = [0.5, 0.9, 0.95, 0.99].map(|share| all.value_at_quantile(share));
        assert_eq!(percentiles, [12_031, 168_959, 210_943, 282_623]);
        assert_eq!((all.len(), all.max(), all.sigfig()), (600, 301_055, 2));
    }

    #[test]
    fn a_torn_end_is_left_out_and_a_broken_line_is_named() {
        let whole = log(&rows(0, 3));
        let torn = read_text("torn", &whole[..whole.len() - 9]).unwrap();
        assert_eq!(torn.notes, [format!("line {} is torn and left out", whole.lines().count())]);
        // An end without a line feed is none that is torn.
        assert!(read_text("end", whole.trim_end()).unwrap().notes.is_empty());
        let mut text = Vec::new();
        Recording::begin().unwrap().without_token_times(7).write(&mut text, 0).unwrap();
        let less = read_text("less", std::str::from_utf8(&text).unwrap()).unwrap();
        assert_eq!(less.notes[0], "itl and icl leave out 7 requests for whose token times there was no room");
        let none = read_text("none", "#[milepost 1 bench]\n").unwrap();
        assert!(none.notes[0].contains("no histogram"), "{:?}", none.notes);
        for (line, words) in [
            ("what is this", "line 5: expected [Tag=NAME,]START,LENGTH,MAX,HISTOGRAM"),
            ("Tag=x", "line 5: expected [Tag=NAME,]"),
            ("Tag=x,a,1.0,2.0,HIST", "line 5: expected the start of an interval as a number, got \"a\""),
            ("Tag=x,0.0,1.0,2.0,HIST*", "line 5: the histogram is not base64"),
            ("0.0,1.0,2.0,AAAA", "line 5: the text is base64, but no HDR histogram"),
        ] {
            let head: Vec<&str> = whole.lines().take(4).collect();
            let told = read_text("broken", &format!("{}\n{line}\n", head.join("\n"))).unwrap_err();
            assert!(told.contains(words), "{line}: {told}");
        }
    }
}
