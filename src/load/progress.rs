//! What a run tells while it runs, and how it is told to stop.
//!
//! Rule: telling never holds up a request. Deliberately not here: terminals, see `cli::bench`.

use std::path::Path;

use tokio::sync::watch;

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Requests planned.
    pub planned: usize,
    /// Handed over by the pacer.
    pub due: usize,
    /// Ended.
    pub ended: usize,
    /// Of these, failed at the client.
    pub failed: usize,
    /// Handed over and waiting for a place under `--max-concurrency`.
    pub waiting: usize,
    /// Due by now as the schedule has it; none where all are due at once.
    pub asked: Option<usize>,
    /// Time to first token at the client so far, p50 and p99 to 3 %, milliseconds.
    pub ttft_ms: Option<(f64, f64)>,
    /// Since the start of the run, seconds.
    pub elapsed_s: f64,
}

impl Standing {
    /// Sent, or about to be.
    pub fn made(&self) -> usize {
        self.due.saturating_sub(self.waiting)
    }

    /// Sent and not ended.
    pub fn in_flight(&self) -> usize {
        self.made().saturating_sub(self.ended)
    }
}

/// What is done after the load: rows, files, figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing<'a> {
    /// In words what is being made.
    pub what: &'a str,
    /// Requests that it is done with.
    pub done: usize,
    /// All of them.
    pub all: usize,
}

/// Who is told.
pub trait Progress: Send + Sync {
    /// One line of text, once.
    fn note(&self, text: &str);
    /// About once a second.
    fn standing(&self, standing: Standing);
    /// Again and again while what was measured is put together and written.
    fn closing(&self, _: Closing<'_>) {}
    /// The requests are written whole, here.
    fn requests_written(&self, _: &Path) {}
    /// That is over.
    fn closed(&self) {}
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn note(&self, _: &str) {}
    fn standing(&self, _: Standing) {}
}

/// Whether a run is to end now. Clones see the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// Ends a run. Dropping it never does.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<bool>);

impl Stop {
    /// A pair.
    pub fn pair() -> (StopHandle, Self) {
        let (tx, rx) = watch::channel(false);
        (StopHandle(tx), Self(rx))
    }

    /// One that never comes.
    pub fn never() -> Self {
        Self::pair().1
    }

    /// Waits until the run is to end.
    pub async fn wait(&self) {
        let mut rx = self.0.clone();
        if rx.wait_for(|stop| *stop).await.is_err() {
            // Nobody is left who could stop it.
            std::future::pending::<()>().await;
        }
    }

    /// The run is to end.
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }
}

impl StopHandle {
    /// Ends the run: nothing more is sent, what is in flight is cut.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}
