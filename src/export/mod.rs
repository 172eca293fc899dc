//! A trace as the files that other tools read.
//!
//! `survey` (first pass: clocks, offsets) and `source` (second pass: one item after the other, aligned) → a format's writer.
//! Rule: a trace may be larger than memory, so nothing is kept for each request; what a format has no place for is counted
//! and said, never dropped in silence. Deliberately not here: which file and which format (`cli::export`), reading and
//! aligning (`trace`).

pub mod aligned;
pub mod clocks;
pub mod columns;
pub mod csv;
pub mod lanes;
pub mod mooncake;
pub mod otlp;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod perfetto;
pub mod source;
pub mod stages;
pub mod survey;

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::trace::reader::ReadError;

/// Why a trace was not exported.
#[derive(Debug)]
pub enum ExportError {
    /// It cannot be read.
    Read(ReadError),
    /// The result cannot be written.
    Write(io::Error),
    /// It is not what it was when it was read first.
    Changed(PathBuf),
    /// It holds nothing that this format has a place for, or not what it needs; in words.
    Unfit(String),
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Write(error) => write!(f, "the result cannot be written: {error}"),
            Self::Changed(path) => write!(
                f,
                "{}: the file was rotated or changed while it was read; try again, with a copy, or with its folder",
                path.display()
            ),
            Self::Unfit(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ExportError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Write(error) => Some(error),
            Self::Changed(_) | Self::Unfit(_) => None,
        }
    }
}

impl From<ReadError> for ExportError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<io::Error> for ExportError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}
