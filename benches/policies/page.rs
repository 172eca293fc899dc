//! The page: what was measured and how, in one file beside its pictures.
//!
//! Rule: the whole page is made by one command and is the same for the same command, decision times apart; only the section of
//! the check over sockets, which is another command, is kept from the page that was there. Deliberately not here: measuring.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use milepost::sim::Profile;

use crate::aims;
use crate::arms::{Arm, LEFT_OUT, PEER};
use crate::capacity::CLOSE;
use crate::decide::{self, Decided};
use crate::figures::{GROWTH, LITTLE, WARM_UP};
use crate::measure::{Measured, PEER_SHARE, SHARES, STEADY_SHARE, USUAL, WORKERS, peer_cache_aware};
use crate::picture::{Axis, Label, Panel, Role, svg};
use crate::stats::Mean;
use crate::tables;

const LIVE_BEGIN: &str = "<!-- made: live -->\n";
const LIVE_END: &str = "<!-- end: live -->\n";
const NO_LIVE: &str = "Not made yet.\n";

/// All that goes in.
pub struct Made<'a> {
    /// By workload.
    pub all: &'a [Measured],
    /// In the order of the tables.
    pub arms: &'a [Arm],
    /// Times of decisions.
    pub decided: &'a [Decided],
    /// Runs of each cell.
    pub seeds: u64,
    /// As it was typed, if not in the usual way.
    pub command: String,
}

/// The page but for its pictures and the section of the live check.
fn body(made: &Made<'_>, live: &str, stem: &str) -> String {
    let mut out = head(made);
    let aims = aims::table(made.all, made.arms, made.decided);
    let aims = aims.unwrap_or_else(|| format!("`{}` was not among the arms.\n", aims::OURS));
    let _ = write!(out, "\n## Aims\n\n{aims}\n## At a glance\n\n");
    let share = SHARES[USUAL];
    let _ = write!(
        out,
        "![TTFT p99 of each arm at {share} of the weakest arm's capacity]({stem}-ttft.svg)\n\n\
         ![Capacity of each arm]({stem}-capacity.svg)\n\n{}\n## Workload by workload\n\n",
        tables::glance(made.all, made.arms)
    );
    for measured in made.all {
        let _ = writeln!(out, "{}", tables::workload(measured, made.arms));
    }
    let _ = write!(
        out,
        "## What a decision takes\n\nMicroseconds under the router's lock for a prompt of 10,000 characters, the quickest of nine \
         rounds: look-up, views,\npolicy, index and counts. These are times of the machine that made the page and differ from run \
         to run; nothing else here does.\n\n{}\n## The port beside the original\n\n{LIVE_BEGIN}{live}{LIVE_END}",
        decide::table(made.decided)
    );
    out
}

fn head(made: &Made<'_>) -> String {
    let Made { command, seeds, .. } = made;
    let kv_tokens = Profile::default().kv_tokens;
    let (cache, caches) = (thousands(kv_tokens), thousands(kv_tokens * WORKERS as u64));
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let (close, growth, little) = (percent(CLOSE - 1.0), percent(GROWTH), percent(LITTLE));
    let (warm_up, steady, peer) = (percent(WARM_UP), percent(STEADY_SHARE), peer_cache_aware());
    format!(
        "# What each policy gives

Latency, cache hits, balance and capacity of {WORKERS} simulated workers under each policy, in virtual time. One command makes this
page and its pictures, the same ones each time:

```sh
{command}
```

How it is measured:

- **The fleet** is {WORKERS} engines of `milepost worker` with its default profile, an 8B model on an H100 (`src/sim/profile.rs` derives
  it): continuous batching, chunked prefill, a prefix cache of {cache} tokens each with least-recently-used eviction. Everything
  here is SIMULATED; what is real is who decides.
- **The decisions** are the router's own: each policy runs in the `Chooser` that `milepost route` has, with its prefix index and
  what it learns, and is told of first tokens and ends with the engine's true counts. Network and decision take no time.
- **`{PEER}`** is a port of three policies of sglang-router 0.3.2 (`policies/benches/{PEER}`), with its own tree
  of characters. Its `power_of_two` compares loads that it polls every 30 s, as that router does.
- **Settings** are the defaults of the command line, unless a name says otherwise.
- **Capacity** of an arm: the highest rate at which a run is in a steady state, found by bisection to {close} (seed 1). Steady: from
  the third quarter of the arrivals to the fourth the mean number in flight grows by at most {growth} of the requests that arrive in a
  quarter, and the mean number in flight is rate times mean time in the system (Little's law) within {little}. A capacity
  is that of runs of this length; longer ones find more for `chat`, whose conversations take a while to fill a fleet.
- **Loads** are shares of the *weakest* arm's capacity, so that no ratio compares with a queue that grows without end, and one more
  at which `{peer}` is itself at {PEER_SHARE}. An arm with fewer than {steady} steady runs is *saturated* there and
  has no latency.
- **A cell** is the mean of {seeds} seeds ± half its 95 % interval (Student's t). A seed draws arrivals, lengths and order, the same
  ones for all arms. The first {warm_up} of a run is warm-up and not counted; all later arrivals are.
- **TTFT and E2E** are from arrival at the router to first and last token. **Hits** are prompt tokens that were cached, of those that
  a cache which never forgets and which all workers share would have had; \"the fleet's size\" is one such cache with room for
  {caches} tokens. **max/mean** is the busiest worker's share of requests, and of tokens computed (prompt tokens that were not
  cached, and answers), over all of the time that counts.

Left out: {}.
",
        left_out(),
    )
}

fn left_out() -> String {
    let why = |(name, why): &(&str, &str)| format!("`{name}` ({why})");
    LEFT_OUT.iter().map(why).collect::<Vec<_>>().join(",\n")
}

/// With a comma after each three digits.
fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn pictures(made: &Made<'_>) -> [(&'static str, String); 2] {
    let label = |arm: &Arm| {
        let role = match arm {
            arm if arm.is_peer() => Role::Peer,
            arm if arm.name == aims::OURS => Role::Own,
            _ => Role::Other,
        };
        Label { name: arm.name.clone(), role }
    };
    let labels: Vec<Label> = made.arms.iter().map(label).collect();
    let panel = |measured: &Measured, value: &dyn Fn(usize) -> Option<Mean>| Panel {
        title: measured.kind.name().to_owned(),
        values: (0..made.arms.len()).map(value).collect(),
    };
    let ttft = |measured: &Measured| {
        panel(measured, &|arm| {
            let cell = &measured.cells[arm][USUAL];
            (!cell.is_saturated()).then(|| cell.mean(|run| run.ttft_p99_ms))
        })
    };
    let capacity = |measured: &Measured| {
        panel(measured, &|arm| Some(Mean { value: measured.capacities[arm], half: 0.0 }))
    };
    let ttft: Vec<Panel> = made.all.iter().map(ttft).collect();
    let capacity: Vec<Panel> = made.all.iter().map(capacity).collect();
    let title = format!("TTFT p99 at {} of the weakest arm's capacity, ms", SHARES[USUAL]);
    [
        ("ttft", svg(&title, Axis::Logarithmic, &labels, &ttft)),
        ("capacity", svg("Capacity, requests/s", Axis::Linear, &labels, &capacity)),
    ]
}

/// Writes page and pictures.
pub fn write(path: &Path, made: &Made<'_>) -> Result<(), String> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let live = live_section(&old).map_or(NO_LIVE, |range| &old[range]);
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("policies");
    for (what, svg) in pictures(made) {
        save(&path.with_file_name(format!("{stem}-{what}.svg")), &svg)?;
    }
    save(path, &body(made, live, stem))
}

/// Puts the result of the live check into a page that is there.
pub fn write_live(path: &Path, text: &str) -> Result<(), String> {
    let mut page = fs::read_to_string(path).map_err(|e| told(path, &e.to_string()))?;
    let range = live_section(&page).ok_or_else(|| told(path, "it has no section for the live check"))?;
    page.replace_range(range, text);
    save(path, &page)
}

fn live_section(page: &str) -> Option<std::ops::Range<usize>> {
    let from = page.find(LIVE_BEGIN)? + LIVE_BEGIN.len();
    let to = page[from..].find(LIVE_END)?;
    Some(from..from + to)
}

/// Whether something can be written there, asked before minutes are spent.
pub fn check(path: &Path) -> Result<(), String> {
    let folder: PathBuf =
        path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    if folder.is_dir() { Ok(()) } else { Err(told(path, "no such folder")) }
}

fn save(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| told(path, &e.to_string()))
}

fn told(path: &Path, what: &str) -> String {
    format!("--write {}: {what}", path.display())
}
