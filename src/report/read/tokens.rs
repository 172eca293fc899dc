//! The times of tokens beside the rows they are of.
//!
//! Rule: both files have one order, so that one line is held at a time; a line that fits no row is said. Deliberately not here: the
//! form of a line ([`crate::report::tokens`]).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::{MAX_LINE_BYTES, ReadError};
use crate::load::row::Row;
use crate::report::tokens::TokenTimes;

/// A file of token times that is read along.
pub(super) struct Tokens {
    path: PathBuf,
    input: BufReader<File>,
    line: u64,
    buffer: Vec<u8>,
    next: Option<TokenTimes>,
}

impl Tokens {
    pub(super) fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|e| ReadError::new(path, e))?;
        let input = BufReader::with_capacity(1 << 18, file);
        let mut tokens = Self { path: path.to_owned(), input, line: 0, buffer: Vec::new(), next: None };
        tokens.advance()?;
        Ok(tokens)
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        self.buffer.clear();
        self.line += 1;
        let read = (&mut self.input).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut self.buffer);
        let bytes = read.map_err(|e| ReadError::at(&self.path, self.line, e))?;
        self.next = if bytes == 0 {
            None
        } else {
            let times = serde_json::from_slice(&self.buffer);
            Some(times.map_err(|e| ReadError::at(&self.path, self.line, e))?)
        };
        Ok(())
    }

    /// Gives a row its gaps if the next line is of it.
    pub(super) fn join(&mut self, row: &mut Row) -> Result<(), ReadError> {
        if let Some(times) = &self.next
            && times.req_id == row.req_id
        {
            let what = "expected as many tokens as times, neither ever falling";
            row.gaps = times.gaps().ok_or_else(|| ReadError::at(&self.path, self.line, what))?;
            row.gaps_from_ns = times.at_ns.first().copied();
            self.advance()?;
        }
        Ok(())
    }

    /// What to say of lines that fit no row.
    pub(super) fn left_over(self) -> Option<String> {
        let times = self.next?;
        Some(format!(
            "{}: line {} is of request {}, which is not next in the table: times from there on are left out",
            self.path.display(),
            self.line,
            times.req_id
        ))
    }
}
