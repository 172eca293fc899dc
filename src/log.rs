//! What the router says while it runs: one line an event on standard error, with its time in UTC.
//!
//! Rule: no line carries a body, a prompt or a key, and what may happen a thousand times a second is one line in a while
//! ([`Rarely`]). Deliberately not here: per-request logging; that is the trace.

use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock;
use crate::units;

/// How much is said (`--log-level`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Debug,
    /// Start, stop, and changes in the fleet.
    Info,
    /// What somebody should look at.
    Warn,
    /// What failed.
    Error,
}

static THRESHOLD: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Sets the least level that is printed, for the process.
pub fn set_level(level: Level) {
    THRESHOLD.store(level as u8, Ordering::Relaxed);
}

/// Prints one line, unless the level is below the threshold. A closed standard error is ignored: there is nobody to tell.
pub fn say(level: Level, message: &str) {
    if level as u8 >= THRESHOLD.load(Ordering::Relaxed) {
        let word = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warning",
            Level::Error => "error",
        };
        let now = units::utc(Clock::system().now().unix_ns);
        let _ = writeln!(std::io::stderr().lock(), "{now} milepost: {word}: {message}");
    }
}

/// A line at level `info`.
pub fn info(message: &str) {
    say(Level::Info, message);
}

/// A line at level `warn`.
pub fn warn(message: &str) {
    say(Level::Warn, message);
}

/// Warnings of one kind, which may come in thousands: one line in a while, which says how many there were.
#[derive(Debug)]
pub struct Rarely {
    every: Duration,
    last: Option<Instant>,
    unsaid: u64,
}

impl Rarely {
    /// At most one line in so long a time.
    pub fn every(every: Duration) -> Self {
        Self { every, last: None, unsaid: 0 }
    }

    /// The warning, or one more that is not printed.
    pub fn warn(&mut self, message: impl FnOnce() -> String) {
        if let Some(line) = self.line(message) {
            warn(&line);
        }
    }

    fn line(&mut self, message: impl FnOnce() -> String) -> Option<String> {
        if self.last.is_some_and(|last| last.elapsed() < self.every) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(Instant::now());
        Some(match std::mem::take(&mut self.unsaid) {
            0 => message(),
            more => format!("{} (and {more} times since it was last said)", message()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_thousands_is_one_line_a_while_with_their_number() {
        let mut rarely = Rarely::every(Duration::from_secs(10));
        let lines: Vec<String> = (0..1000).filter_map(|_| rarely.line(|| "full".to_owned())).collect();
        assert_eq!(lines, ["full"]);
        tokio::time::advance(Duration::from_secs(10)).await;
        let line = rarely.line(|| "full".to_owned());
        assert_eq!(line.as_deref(), Some("full (and 999 times since it was last said)"));
        assert_eq!(rarely.line(|| "full".to_owned()), None);
    }
}
