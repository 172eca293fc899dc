//! The file of a failure schedule: a line an action.
//!
//! ```text
//! # a comment
//! at = 30s, stop worker 2
//! at = 60s, start worker 2
//! at = 90s, for = 20s, slow worker 1 by 3x
//! at = 120s, until = 150s, hang worker http://127.0.0.1:31001
//! ```
//!
//! Rule: whoever reads it knows for each worker at each moment what is wrong with it: a worker has one fault at a time, and
//! what ends one fits it. An error says the line, what stands there and what was expected. Deliberately not here: whether a
//! worker of that name can be made to fail.

use std::path::Path;

use super::{Action, Fault, Kind, Plan, StopBy};
use crate::load::schedule::parse_seconds;

/// Largest file read.
const MAX_BYTES: u64 = 1 << 20;
/// Faults at most: each is a phase.
const MAX_FAULTS: usize = 200;
/// Lines with an action at most: two a fault, and room for what is then told to be too much.
const MAX_LINES: usize = 10_000;
/// A worker that is as slow as this hangs.
const SLOWEST: f64 = 1000.0;

const EXPECTED: &str = "expected `at = TIME[, for = TIME | , until = TIME], ACTION worker WORKER`, such as `at = 30s, stop worker 2`";
const ACTIONS: &str = "stop [by KILL|TERM], start, slow by FACTORx, hang, reset, empty or heal";

/// One line.
struct Line {
    number: usize,
    at_ns: u64,
    end_ns: Option<u64>,
    action: Action,
    worker: String,
}

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or a line is none; the message names both.
    pub fn read(path: &Path) -> Result<Self, String> {
        let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let bytes = std::fs::metadata(path).map_err(|e| named(&e))?.len();
        if bytes > MAX_BYTES {
            return Err(named(&format_args!("it has {bytes} bytes, at most {MAX_BYTES} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
        Self::parse(&text).map_err(|e| format!("{} {e}", path.display()))
    }

    /// Reads the text of a file; the error begins with the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if lines.len() == MAX_LINES && !line.is_empty() {
                return Err(format!(
                    "line {number}: more than {MAX_LINES} actions; at most {MAX_FAULTS} faults are made"
                ));
            }
            if !line.is_empty() {
                lines.push(read_line(number, line).map_err(|e| format!("line {number}: {e}"))?);
            }
        }
        // Of two at one moment the one that stands first is done first.
        lines.sort_by_key(|line| line.at_ns);
        let mut faults: Vec<Fault> = Vec::new();
        for line in lines {
            let number = line.number;
            take(&mut faults, line).map_err(|e| format!("line {number}: {e}"))?;
        }
        match faults.len() {
            0 => Err(format!("has no fault in it: {EXPECTED}")),
            1..=MAX_FAULTS => Ok(Self { faults }),
            many => Err(format!("has {many} faults, at most {MAX_FAULTS} are made")),
        }
    }

    /// The schedule in one line of the file's words.
    pub fn to_text(&self) -> String {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let one = |fault: &Fault| {
            let until = fault.end_ns.map(|ns| format!(", until = {}s", seconds(ns))).unwrap_or_default();
            format!("at = {}s{until}, {fault}", seconds(fault.at_ns))
        };
        self.faults.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

/// Begins a fault, or ends the one that it fits.
fn take(faults: &mut Vec<Fault>, line: Line) -> Result<(), String> {
    let Line { number, at_ns, end_ns, action, worker } = line;
    let open =
        |fault: &&mut Fault| fault.worker == worker && fault.end_ns.is_none_or(|end_ns| at_ns < end_ns);
    let open = faults.iter_mut().rev().find(open);
    let Action::Begin(kind) = action else {
        let word = action.word();
        let Some(fault) = open.filter(|fault| Action::end_of(fault.kind) == action) else {
            let wanted =
                if action == Action::Start { "stopped" } else { "slow, hanging, resetting or empty" };
            return Err(format!("{word} worker {worker}: by then no earlier line has made it {wanted}"));
        };
        if let Some(end_ns) = fault.end_ns {
            return Err(format!(
                "{word} worker {worker}: line {} ends by itself at {} s",
                fault.line,
                end_ns as f64 / 1e9
            ));
        }
        fault.end_ns = Some(at_ns);
        return Ok(());
    };
    if let Some(fault) = open {
        return Err(format!(
            "worker {worker} has the fault of line {} by then: {fault}; end that first",
            fault.line
        ));
    }
    faults.push(Fault { line: number, kind, worker, at_ns, end_ns });
    Ok(())
}

fn read_line(number: usize, text: &str) -> Result<Line, String> {
    let wrong = || format!("{EXPECTED}; got {text}");
    let (mut at_ns, mut end_ns, mut action) = (None, None, None);
    for part in text.split(',').map(str::trim) {
        match part.split_once('=').map(|(key, value)| (key.trim(), value)) {
            Some(("at", value)) if at_ns.is_none() => at_ns = Some(nanoseconds("at", value)?),
            Some(("until", value)) if end_ns.is_none() => {
                end_ns = Some((false, nanoseconds("until", value)?));
            }
            Some(("for", value)) if end_ns.is_none() => end_ns = Some((true, nanoseconds("for", value)?)),
            None if action.is_none() => action = Some(read_action(part)?),
            _ => return Err(wrong()),
        }
    }
    let (Some(at_ns), Some((action, worker))) = (at_ns, action) else { return Err(wrong()) };
    let end_ns = end_ns.map(|(lasts, ns)| if lasts { at_ns + ns } else { ns });
    if end_ns.is_some() && !matches!(action, Action::Begin(_)) {
        return Err(format!("{} ends a fault and has no `for` or `until` itself", action.word()));
    }
    match end_ns {
        Some(end_ns) if end_ns <= at_ns => Err(format!("`until` must be after `at`; got {text}")),
        end_ns => Ok(Line { number, at_ns, end_ns, action, worker }),
    }
}

fn nanoseconds(key: &str, text: &str) -> Result<u64, String> {
    parse_seconds(text).map(|seconds| (seconds * 1e9) as u64).map_err(|e| format!("{key}: {e}"))
}

/// `stop worker 2 by TERM`.
fn read_action(text: &str) -> Result<(Action, String), String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (word, worker, by) = match words.as_slice() {
        [word, "worker", worker] => (*word, *worker, None),
        [word, "worker", worker, "by", by] => (*word, *worker, Some(*by)),
        _ => return Err(format!("expected `ACTION worker WORKER`, where ACTION is {ACTIONS}; got {text}")),
    };
    let action = match (word, by) {
        ("stop", None | Some("KILL")) => Action::Begin(Kind::Stop(StopBy::Kill)),
        ("stop", Some("TERM")) => Action::Begin(Kind::Stop(StopBy::Term)),
        ("stop", Some(by)) => return Err(format!("stop: expected by KILL or by TERM, got by {by}")),
        ("slow", Some(by)) => {
            let factor = by.strip_suffix('x').and_then(|factor| factor.parse::<f64>().ok());
            let factor = factor.filter(|factor| *factor > 1.0 && *factor <= SLOWEST);
            let wrong =
                || format!("slow: expected a factor above 1 and up to {SLOWEST}, such as by 3x; got by {by}");
            Action::Begin(Kind::Slow(factor.ok_or_else(wrong)?))
        }
        ("slow", None) => return Err("slow: expected how much, such as slow worker 2 by 3x".to_owned()),
        ("hang", None) => Action::Begin(Kind::Hang),
        ("reset", None) => Action::Begin(Kind::Reset),
        ("empty", None) => Action::Begin(Kind::Empty),
        ("start", None) => Action::Start,
        ("heal", None) => Action::Heal,
        _ => return Err(format!("expected an action out of {ACTIONS}; got {text}")),
    };
    Ok((action, worker.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_and_told_in_its_own_words() {
        let text = "# what happens\n\nat = 60s, start worker 2\nat = 30s, stop worker 2  # as a crash\n\
                    for = 20s, at=1.5m, slow worker 1 by 2.5x\nat = 2m, until = 150s, hang worker http://127.0.0.1:31001\n\
                    at = 70s, stop worker 2 by TERM\n";
        let plan = Plan::parse(text).unwrap();
        assert_eq!(
            plan.to_text(),
            "at = 30s, until = 60s, stop worker 2 by KILL; at = 70s, stop worker 2 by TERM; \
             at = 90s, until = 110s, slow worker 1 by 2.5x; at = 120s, until = 150s, hang worker http://127.0.0.1:31001"
        );
        assert_eq!(plan.faults.iter().map(|fault| fault.line).collect::<Vec<_>>(), [4, 7, 5, 6]);
    }

    #[test]
    fn what_is_no_schedule_is_told_with_its_line_and_what_was_expected() {
        for (text, words) in [
            ("", &["no fault"][..]),
            ("stop worker 2", &["line 1", "at = TIME"]),
            ("\nat = 30s", &["line 2", "at = TIME"]),
            ("at = soon, stop worker 2", &["line 1", "at: expected a time", "soon"]),
            ("at = 30s, explode worker 2", &["line 1", "stop [by KILL|TERM]", "explode"]),
            ("at = 30s, stop 2", &["ACTION worker WORKER", "got stop 2"]),
            ("at = 30s, stop worker 2 by HUP", &["KILL or by TERM", "HUP"]),
            ("at = 30s, slow worker 2", &["slow worker 2 by 3x"]),
            ("at = 30s, slow worker 2 by 3", &["by 3x", "got by 3"]),
            ("at = 30s, slow worker 2 by 0.5x", &["above 1"]),
            ("at = 30s, until = 20s, hang worker 2", &["after `at`"]),
            ("at = 30s, for = 1s, until = 40s, hang worker 2", &["at = TIME"]),
            ("at = 30s, start worker 2", &["line 1", "made it stopped"]),
            ("at = 30s, hang worker 2\nat = 31s, start worker 2", &["line 2", "made it stopped"]),
            ("at = 30s, stop worker 2\nat = 31s, heal worker 2", &["line 2", "hanging"]),
            (
                "at = 30s, for = 9s, hang worker 2\nat = 31s, heal worker 2",
                &["line 2", "line 1 ends by itself at 39 s"],
            ),
            (
                "at = 30s, stop worker 2\nat = 40s, hang worker 2",
                &["line 2", "fault of line 1", "stop worker 2 by KILL"],
            ),
            ("at = 30s, stop worker 2\nat = 40s, for = 2s, start worker 2", &["line 2", "no `for`"]),
        ] {
            let told = Plan::parse(text).unwrap_err();
            for word in words {
                assert!(told.contains(word), "{text}: {word:?} in {told}");
            }
        }
        assert!(Plan::read(Path::new("/nonexistent.faults")).unwrap_err().contains("/nonexistent.faults"));
    }

    #[test]
    fn a_file_has_so_many_faults_and_so_many_lines() {
        let line = |n: usize| format!("at = {}s, for = 1s, hang worker 1\n", 2 * n + 1);
        let text = |lines: usize| (0..lines).map(line).collect::<Vec<_>>().concat();
        assert_eq!(Plan::parse(&text(MAX_FAULTS)).unwrap().faults.len(), MAX_FAULTS);
        assert_eq!(Plan::parse(&text(MAX_FAULTS + 1)).unwrap_err(), "has 201 faults, at most 200 are made");
        let long = Plan::parse(&text(MAX_LINES + 1)).unwrap_err();
        assert_eq!(long, "line 10001: more than 10000 actions; at most 200 faults are made");
    }

    #[test]
    fn a_worker_may_fail_again_once_it_is_well() {
        let plan =
            Plan::parse("at = 1s, for = 1s, reset worker 1\nat = 2s, stop worker 1\nat = 1s, empty worker 2")
                .unwrap();
        assert_eq!(plan.faults.len(), 3);
    }
}
