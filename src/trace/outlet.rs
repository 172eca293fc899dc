//! Where the lines of a trace go.
//!
//! Rule: a batch is whole lines and is written, or it is not and its records are counted as lost; what comes after is tried again.
//! Deliberately not here: what becomes of records elsewhere ([`Follower`]s see the same batches and count for themselves).

use std::fmt;
use std::io::{self, Write};

use super::live::LiveFile;
use super::record::Record;

/// Records of a batch that is handed on at most.
pub const MAX_BATCH_RECORDS: usize = 256;

/// Somebody else who wants the records as they are written: an exporter with a queue and a thread of its own.
pub trait Follower: Send + fmt::Debug {
    /// Offers the next records, at most [`MAX_BATCH_RECORDS`] of them. Must not wait: what there is no room for is dropped and
    /// counted by the follower.
    fn offer(&mut self, batch: &[Record]);
}

/// Where lines go.
#[derive(Debug)]
pub(super) enum Outlet {
    /// The live file of a capture.
    File(LiveFile),
    /// Standard output.
    Stdout,
}

impl Outlet {
    /// Writes whole lines.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::File(live) => live.write(lines),
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
        }
    }

    /// The live file, if it is one.
    pub(super) fn file(&self) -> Option<&LiveFile> {
        match self {
            Self::File(live) => Some(live),
            Self::Stdout => None,
        }
    }

    /// What status calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::File(live) if !live.is_regular() => "pipe",
            Self::File(_) => "file",
            Self::Stdout => "stdout",
        }
    }
}
