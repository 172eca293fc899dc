//! Progress of a run on standard error.
//!
//! Rule: a terminal gets one block of two lines that is kept up to date, a file one line every 10 s. Rates are of the time since
//! the last look, percentiles of the run so far. After the load what is written is told in one line, if it takes over two seconds.
//! Deliberately not here: the summary.

use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::load::progress::{Closing, Progress, Standing};
use crate::stdio::{tell, tell_line};

/// Seconds between two lines where there is no terminal.
const LINE_SECONDS: f64 = 10.0;
/// What is done after the load is told from so many nanoseconds on.
const SHORT_NS: u64 = 2_000_000_000;
/// And then again after so many: on a terminal, and elsewhere.
const AGAIN_NS: [u64; 2] = [200_000_000, 10_000_000_000];
/// Cells of the bar.
const BAR: usize = 20;
/// Columns of a terminal that does not tell.
const COLUMNS: usize = 80;

/// Writes to standard error.
#[derive(Debug)]
pub struct Console {
    quiet: bool,
    terminal: bool,
    clock: Clock,
    seen: Mutex<Seen>,
}

/// What was told last.
#[derive(Debug, Default)]
struct Seen {
    /// None before the first look at a run.
    last: Option<Standing>,
    told_s: f64,
    /// The block is on the screen and nothing was written below it.
    drawn: bool,
    /// Since when there is no more load, and when that was told last.
    closing_ns: Option<(u64, u64)>,
    /// The last line is to be drawn again, and has no end.
    open: bool,
}

impl Console {
    /// `quiet` leaves the progress out; notes are always written.
    pub fn new(quiet: bool) -> Self {
        Self {
            quiet,
            terminal: std::io::stderr().is_terminal(),
            clock: Clock::system(),
            seen: Mutex::default(),
        }
    }
}

impl Progress for Console {
    fn note(&self, text: &str) {
        let mut seen = self.seen();
        seen.drawn = false;
        seen.erase();
        tell_line(text);
    }

    fn standing(&self, now: Standing) {
        if self.quiet {
            return;
        }
        let mut seen = self.seen();
        // A new run of a series begins anew.
        if seen.last.is_some_and(|last| last.elapsed_s > now.elapsed_s) {
            *seen = Seen { drawn: seen.drawn, ..Seen::default() };
        }
        let last = now.ended == now.planned;
        if self.terminal {
            let columns = columns();
            let up = if seen.drawn { "\x1b[2A" } else { "" };
            let [first, second] =
                [head(&now, true), rates(&now, seen.last.as_ref())].map(|line| cut(&line, columns));
            tell(&format!("{up}\r{first}\x1b[K\n\r{second}\x1b[K\n"));
            // What comes after the last look stands below.
            seen.drawn = !last;
        } else if last || now.elapsed_s - seen.told_s >= LINE_SECONDS {
            tell_line(&format!("{}; {}", head(&now, false), rates(&now, seen.last.as_ref()).trim_start()));
            seen.told_s = now.elapsed_s;
        } else {
            // Rates of a line are of the time since the line before.
            return;
        }
        seen.last = Some(now);
    }

    fn closing(&self, now: Closing<'_>) {
        if self.quiet {
            return;
        }
        let mono_ns = self.clock.mono_ns();
        let mut seen = self.seen();
        let (began_ns, told_ns) = *seen.closing_ns.get_or_insert((mono_ns, mono_ns));
        let again_ns = AGAIN_NS[usize::from(!self.terminal)];
        if mono_ns - began_ns < SHORT_NS || mono_ns - told_ns < again_ns {
            return;
        }
        seen.closing_ns = Some((began_ns, mono_ns));
        if self.terminal {
            tell(&format!("\r{}\x1b[K", cut(&closing(&now, true), columns())));
            seen.open = true;
        } else {
            tell_line(&closing(&now, false));
        }
    }

    fn closed(&self) {
        let mut seen = self.seen();
        seen.closing_ns = None;
        seen.erase();
    }
}

impl Console {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// Makes room for what comes.
    fn erase(&mut self) {
        if std::mem::take(&mut self.open) {
            tell("\r\x1b[K");
        }
    }
}

/// As wide as the terminal; some say 0 for not knowing.
fn columns() -> usize {
    let told = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if told == 0 { COLUMNS } else { told }
}

fn head(now: &Standing, bar: bool) -> String {
    let waiting =
        if now.waiting > 0 { format!(", {} waiting for a place", now.waiting) } else { String::new() };
    let bar = if bar { filled(now.ended, now.planned) } else { String::new() };
    format!(
        "{:>6.0} s  {bar}{}/{} ended, {} in flight{waiting}, {} failed",
        now.elapsed_s,
        now.ended,
        now.planned,
        now.in_flight(),
        now.failed
    )
}

/// A bar with the gap behind it.
fn filled(done: usize, all: usize) -> String {
    let full = (done * BAR).checked_div(all).unwrap_or(BAR);
    format!("[{}{}]  ", "=".repeat(full), " ".repeat(BAR - full))
}

fn closing(now: &Closing<'_>, bar: bool) -> String {
    let Closing { what, done, all } = now;
    if *done == 0 {
        return format!("making {what} of {all} requests");
    }
    let bar = if bar { filled(*done, *all) } else { String::new() };
    format!("making {what}: {bar}{done}/{all} requests")
}

fn rates(now: &Standing, last: Option<&Standing>) -> String {
    let since = last.copied().unwrap_or_default();
    let seconds = now.elapsed_s - since.elapsed_s;
    let per_s = |now: usize, then: usize| {
        if seconds > 0.0 {
            format!("{:.1}/s", now.saturating_sub(then) as f64 / seconds)
        } else {
            "-".to_owned()
        }
    };
    let mut parts = Vec::new();
    if let Some(asked) = now.asked {
        parts.push(format!("asked {}", per_s(asked, since.asked.unwrap_or(0))));
    }
    parts.push(format!("made {}", per_s(now.made(), since.made())));
    if let Some((p50_ms, p99_ms)) = now.ttft_ms {
        parts.push(format!("TTFT p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms"));
    }
    format!("          {}", parts.join(", "))
}

/// A line that wraps would be left behind when the block is drawn again.
fn cut(line: &str, columns: usize) -> String {
    line.chars().take(columns.saturating_sub(1).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_tells_how_far_and_how_fast() {
        let before = Standing {
            elapsed_s: 10.0,
            asked: Some(100),
            due: 100,
            ended: 90,
            planned: 200,
            ..Standing::default()
        };
        let now = Standing {
            elapsed_s: 12.0,
            asked: Some(140),
            due: 138,
            ended: 100,
            waiting: 3,
            failed: 2,
            ttft_ms: Some((31.25, 80.0)),
            ..before
        };
        assert_eq!(
            head(&now, true),
            "    12 s  [==========          ]  100/200 ended, 35 in flight, 3 waiting for a place, 2 failed"
        );
        assert_eq!(
            rates(&now, Some(&before)).trim_start(),
            "asked 20.0/s, made 17.5/s, TTFT p50 31.2 ms, p99 80.0 ms"
        );
        let burst = Standing { asked: None, ttft_ms: None, waiting: 0, ..now };
        assert_eq!(rates(&burst, None).trim_start(), "made 11.5/s");
        assert_eq!(cut("12345678", 5), "1234");
    }

    #[test]
    fn what_is_written_is_told_by_its_requests() {
        let now = Closing { what: "run.json", done: 0, all: 4000 };
        assert_eq!(closing(&now, true), "making run.json of 4000 requests");
        let half = Closing { done: 2000, ..now };
        assert_eq!(closing(&half, true), "making run.json: [==========          ]  2000/4000 requests");
        assert_eq!(closing(&half, false), "making run.json: 2000/4000 requests");
    }
}
