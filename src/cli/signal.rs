//! Ctrl-C and SIGTERM, the same for every command.
//!
//! Rule: they are listened for from one moment on, not from wait to wait, so that none is lost in between. Deliberately not
//! here: what a command does then.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::load::progress::StopHandle;
use crate::stdio::tell_line;

/// SIGINT and SIGTERM, from the moment this is made.
#[derive(Debug)]
pub struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    /// Replaces the default action, which is to end the process.
    pub fn listen() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns at the next one; at once if it came since the last.
    pub async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A file that may not grow any further (`ulimit -f`) is then an error of its writer; by default the process ends.
pub fn outlive_file_limits() -> io::Result<()> {
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// For commands that measure: the first signal stops the run, so that what there is gets written; the second ends at once.
pub async fn stop_measuring(handle: StopHandle) {
    // Without a handler the default action ends the process, which is what a signal asks for.
    let Ok(mut signals) = StopSignals::listen() else { return };
    signals.next().await;
    tell_line("\ninterrupted: writing what was measured so far (once more to leave at once)");
    handle.stop();
    signals.next().await;
    std::process::exit(130);
}
