//! What is done after the load, for whoever presses Ctrl-C meanwhile.
//!
//! Rule: the first Ctrl-C says what is being done and where the requests are, so that nobody gives up what took an hour without
//! knowing it; the second ends the process at once, and prints the figures if they are made. Deliberately not here: the files
//! (`report::files`), and the progress on the screen (`report::console`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::signal::StopSignals;
use crate::load::progress::{Closing, Progress, Standing, StopHandle};
use crate::stdio;

/// How to leave; said by every answer to a first Ctrl-C.
const LEAVE: &str = "once more to leave at once";

/// How far it is.
#[derive(Debug, Default)]
struct State {
    /// What is being made, requests done, all of them; none as long as there is load.
    doing: Option<(String, usize, usize)>,
    /// The requests are written whole.
    requests: Option<PathBuf>,
    /// The summary, made and not printed yet.
    summary: Option<String>,
}

/// Passes progress on, and remembers how far the end of a run is.
pub(super) struct Telling {
    console: Arc<dyn Progress>,
    state: Mutex<State>,
}

impl Progress for Telling {
    fn note(&self, text: &str) {
        self.console.note(text);
    }

    fn standing(&self, standing: Standing) {
        self.console.standing(standing);
    }

    fn closing(&self, now: Closing<'_>) {
        self.change(|state| state.doing = Some((now.what.to_owned(), now.done, now.all)));
        self.console.closing(now);
    }

    fn requests_written(&self, path: &Path) {
        self.change(|state| state.requests = Some(path.to_owned()));
    }

    fn closed(&self) {
        self.change(|state| *state = State::default());
        self.console.closed();
    }
}

impl Telling {
    /// To this console.
    pub(super) fn to(console: Arc<dyn Progress>) -> Self {
        Self { console, state: Mutex::default() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The figures are made.
    pub(super) fn figures(&self, summary: String) {
        self.change(|state| state.summary = Some(summary));
    }

    /// Whoever takes the figures prints them. False: they are taken.
    pub(super) fn take_figures(&self) -> bool {
        self.change(|state| state.summary.take()).is_some()
    }

    /// The first signal stops the run, so that what there is gets written, or says what is being written; the second ends at once.
    pub(super) async fn watch(self: Arc<Self>, handle: StopHandle) {
        // Without a handler the default action ends the process, which is what a signal asks for.
        let Ok(mut signals) = StopSignals::listen() else { return };
        signals.next().await;
        self.note(&self.change(|state| format!("\ninterrupted: {}", first(state))));
        handle.stop();
        signals.next().await;
        let (left, summary) = self.change(|state| (second(state), state.summary.take()));
        self.console.closed();
        // What cannot be printed is not told, and the process ends all the same.
        let _ = stdio::print(summary.unwrap_or_default().as_bytes());
        stdio::tell_line(&format!("interrupted: {left}"));
        std::process::exit(130);
    }
}

/// The answer to the first Ctrl-C.
fn first(state: &State) -> String {
    let Some((what, done, all)) = &state.doing else {
        return format!("writing what was measured so far ({LEAVE})");
    };
    let doing = if *all > 0 && *done > 0 {
        format!("{what}: {} % of {all} requests", 100 * done / all)
    } else {
        what.clone()
    };
    match &state.requests {
        Some(path) => format!(
            "the load is over and its requests are written ({}); now {doing} ({LEAVE}: files that are made stay)",
            path.display()
        ),
        None => format!(
            "the load is over and its requests are not written yet; now {doing} ({LEAVE}: then they are lost)"
        ),
    }
}

/// The answer to the second one.
fn second(state: &State) -> String {
    let folder = state.requests.as_deref().and_then(Path::parent);
    match (folder, &state.summary) {
        (Some(folder), Some(_)) => {
            format!("the files made so far are in {}; the summary is whole", folder.display())
        }
        (Some(folder), None) => {
            format!("the files made so far are in {}; there are no figures yet", folder.display())
        }
        (None, _) => "no file of this run is whole".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_and_what_stays_is_said() {
        let mut state = State::default();
        assert_eq!(first(&state), "writing what was measured so far (once more to leave at once)");
        state.doing = Some(("requests.csv".to_owned(), 500_000, 1_000_000));
        assert_eq!(
            first(&state),
            "the load is over and its requests are not written yet; now requests.csv: 50 % of 1000000 requests (once more to leave at \
             once: then they are lost)"
        );
        assert_eq!(second(&state), "no file of this run is whole");
        state.requests = Some(PathBuf::from("out/a/requests.csv"));
        state.doing = Some(("run.json".to_owned(), 0, 1_000_000));
        assert!(
            first(&state).starts_with(
                "the load is over and its requests are written (out/a/requests.csv); now run.json (once more"
            ),
            "{}",
            first(&state)
        );
        assert_eq!(second(&state), "the files made so far are in out/a; there are no figures yet");
        state.summary = Some("figures".to_owned());
        assert_eq!(second(&state), "the files made so far are in out/a; the summary is whole");
    }
}
