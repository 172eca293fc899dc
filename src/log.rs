//! What the router says while it runs: one line an event on standard error, with its time in UTC.
//!
//! Rule: no line carries a body, a prompt or a key. Deliberately not here: per-request logging; that is the trace.

use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};

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
