//! What is going on, on one line of a terminal; nothing where nobody watches.

use std::io::{IsTerminal, Write};

/// Replaces the line.
pub fn show(what: &str) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // A terminal that takes nothing is no reason to stop.
        let _ = write!(out, "\r\x1b[K{what}");
        let _ = out.flush();
    }
}
