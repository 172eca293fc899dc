//! Progress of a run on standard error.
//!
//! Rule: a terminal gets one line kept up to date, a file a line every 10 s. Deliberately not here: the summary.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::load::progress::{Progress, Standing};

/// Seconds between two lines where there is no terminal.
const LINE_SECONDS: u64 = 10;

/// Writes to standard error.
#[derive(Debug)]
pub struct Console {
    quiet: bool,
    terminal: bool,
    told_s: AtomicU64,
}

impl Console {
    /// `quiet` leaves the progress out; notes are always written.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal(), told_s: AtomicU64::new(0) }
    }
}

impl Progress for Console {
    fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    fn standing(&self, s: Standing) {
        let last = s.ended == s.planned;
        let due = self.told_s.load(Ordering::Relaxed) + LINE_SECONDS;
        if self.quiet || !(self.terminal || last || s.elapsed_s as u64 >= due) {
            return;
        }
        self.told_s.store(s.elapsed_s as u64, Ordering::Relaxed);
        let in_flight = s.due - s.ended;
        let line = format!(
            "{:>6.0} s  {}/{} ended, {in_flight} in flight, {} failed",
            s.elapsed_s, s.ended, s.planned, s.failed
        );
        if self.terminal {
            eprint!("\r{line}\x1b[K{}", if last { "\n" } else { "" });
        } else {
            eprintln!("{line}");
        }
    }
}
