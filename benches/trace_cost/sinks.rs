//! The first table: CPU of the router for a request, with each way to trace and without.
//!
//! Rule: all routers run at the same time and are measured in turns; CPU is that of all threads of the process, the writer's and
//! the packer's too. Another sink is another line of [`ARMS`]. Deliberately not here: other proxies (the bench `end_to_end`).

use std::time::Duration;

use crate::load::{Broken, Case, Load, Pace};
use crate::options::Options;
use crate::page::{Page, Section, progress, with_notes};
use crate::peers::{Peer, Running, Stage, Tracing};
use crate::rounds::Samples;
use crate::table::{Table, short};

/// Workers of the fleet, all of them candidates of each decision.
pub const FLEET: usize = 8;
/// What `sglang-router` does too.
const POLICY: &str = "cache_aware";
/// Requests by which the bytes of a record are counted.
const COUNTED: usize = 1_000;
/// All that ended before is written after this long.
const WRITTEN: Duration = Duration::from_millis(200);

const fn file(title: &'static str, flags: &'static [&'static str]) -> Tracing {
    Tracing { title, flags }
}

/// The ways to trace, in the order of the table.
const ARMS: &[Tracing] = &[
    file("off", Tracing::OFF.flags),
    file("file", Tracing::FILE.flags),
    file("file, --trace-prompt none", &["--trace-log", "trace.jsonl", "--trace-prompt", "none"]),
    file("file, --trace-decisions off", &["--trace-log", "trace.jsonl", "--trace-decisions", "off"]),
    file("file, --trace-decisions journal", &["--trace-log", "trace.jsonl", "--trace-decisions", "journal"]),
    file(
        "file, rotated, zstd, limited",
        &["--trace-log", "trace.jsonl", "--trace-rotate-size", "8388608", "--trace-max-size", "67108864"],
    ),
    file("standard output", &["--trace-log", "-"]),
    file("spans to a collector", &["--enable-trace", "--otlp-traces-endpoint", Tracing::COLLECTOR]),
    file(
        "file, and spans to a collector",
        &["--trace-log", "trace.jsonl", "--enable-trace", "--otlp-traces-endpoint", Tracing::COLLECTOR],
    ),
];

/// Measures and tells.
pub fn measure(stage: &mut Stage, load: &mut Load, options: &Options, page: &mut Page) -> Result<(), Broken> {
    let (mut running, mut notes) = (Vec::new(), Vec::new());
    for arm in ARMS {
        progress(&format!("starting {}", arm.title));
        match stage.start(Peer::Milepost(POLICY, *arm), load, FLEET) {
            Ok(mut router) => {
                arm.title.clone_into(&mut router.name);
                running.push(router);
            }
            Err(Broken::Interrupted) => return Err(Broken::Interrupted),
            Err(Broken::Invalid(why)) => notes.push(format!("{}: left out, {why}", arm.title)),
        }
    }
    let n = options.requests;
    let cases = [
        Case::plain("plain", "120 B, 16 at once", 120, Pace::Closed(16), n),
        Case::plain("4k", "4 KB, 16 at once", 4_096, Pace::Closed(16), n),
        Case::plain("paced", "120 B, 2,000/s", 120, Pace::PerSecond(2_000.0), (n / 5).max(200)),
    ];
    let samples = Samples::take(load, &running, &cases, options.rounds)?;
    let off = running.iter().position(|router| router.name == ARMS[0].title);
    let head = cases.iter().flat_map(|case| [case.title.as_str(), "/ off"]);
    let mut table = Table::new(std::iter::once("µs of CPU a request").chain(head).chain(["bytes a request"]));
    for (p, router) in running.iter().enumerate() {
        let cells = (0..cases.len()).flat_map(|c| {
            let us = |p: usize| samples.median(p, c, |s| s.cpu_us);
            let ratio = us(p).zip(off.and_then(us)).map(|(us, off)| format!("{:.2}", us / off));
            [samples.cell(p, c, |s| s.cpu_us), ratio.unwrap_or_else(|| "none".to_owned())]
        });
        let mut cells: Vec<String> = cells.collect();
        cells.push(bytes(load, router, &cases[0])?);
        table.row(router.name.clone(), cells);
    }
    notes.extend(samples.notes());
    page.add(Section {
        key: "sinks",
        title: "A request with each sink",
        text: with_notes(table.text(), &notes),
    });
    Ok(())
}

/// Bytes that a request puts into the file; nothing where there is none, or where it is cut meanwhile.
fn bytes(load: &mut Load, router: &Running, case: &Case) -> Result<String, Broken> {
    let size = || router.trace().and_then(|path| path.metadata().ok()).map(|file| file.len());
    let before = size();
    load.run(&Case { requests: COUNTED, ..case.clone() }, router.port)?;
    load.serve(WRITTEN)?;
    let grown = size().zip(before).and_then(|(after, before)| after.checked_sub(before));
    Ok(grown
        .filter(|bytes| *bytes > 0)
        .map_or_else(String::new, |bytes| short(bytes as f64 / COUNTED as f64)))
}
