//! Resident memory: of a proxy that has just started, and for each of thousands of streams that it holds.
//!
//! Rule: a fresh process each, as an allocator keeps what earlier work took; memory is read when every stream has had its first
//! event. PSS stands beside RSS because processes of one program share pages. Deliberately not here: what is left afterwards.

use crate::load::{Broken, Case, LATE_NS, Load, Pace};
use crate::options::Options;
use crate::page::{Page, Section, progress, with_notes};
use crate::peers::{Peer, Stage};
use crate::process::Memory;
use crate::table::{Table, median, short};

const STREAMS: usize = 3_000;
const STREAMS_QUICK: usize = 200;
/// Events of these streams are a second apart, and they have more than anybody waits for.
const GAP_US: u64 = 1_000_000;
/// Fresh processes of each peer.
const STARTS: usize = 3;
/// Open files that a stream takes here: the client's side and the worker's.
const FILES_PER_STREAM: usize = 2;
/// Open files that are no stream's.
const OTHER_FILES: usize = 1_000;

/// Measures and tells.
pub fn measure(
    stage: &mut Stage,
    load: &mut Load,
    peers: &[Peer],
    options: &Options,
    open_files: u64,
    page: &mut Page,
) -> Result<(), Broken> {
    if !options.has("memory") {
        return Ok(());
    }
    let room =
        usize::try_from(open_files).unwrap_or(usize::MAX).saturating_sub(OTHER_FILES) / FILES_PER_STREAM;
    let streams = if options.quick { STREAMS_QUICK } else { STREAMS }.min(room);
    let case = Case {
        key: "memory",
        title: format!("{streams} streams"),
        prompt_bytes: 120,
        events: 1_000_000,
        gap_us: GAP_US,
        pace: Pace::Closed(streams),
        requests: streams,
        late_ns: LATE_NS,
        is_scripted: true,
    };
    let head = ["MiB idle, RSS", "PSS", "KiB more for each stream, RSS", "PSS"];
    let mut table = Table::new(std::iter::once("").chain(head));
    let mut notes = Vec::new();
    for peer in peers.iter().filter(|peer| **peer != Peer::Direct) {
        let mut runs = Vec::new();
        for _ in 0..if options.quick { 1 } else { STARTS.min(options.rounds) } {
            progress(&format!("memory: {}", peer.name()));
            match once(stage, load, *peer, &case) {
                Ok(run) => runs.push(run),
                Err(Broken::Interrupted) => return Err(Broken::Interrupted),
                Err(Broken::Invalid(why)) => notes.push(format!("{}: a run left out, {why}", peer.name())),
            }
        }
        let middle = |of: &dyn Fn(&[Memory; 2]) -> f64| {
            median(&mut runs.iter().map(of).collect::<Vec<_>>()).map_or_else(|| "none".to_owned(), short)
        };
        let more = |idle: u64, held: u64| held.saturating_sub(idle) as f64 / streams as f64;
        table.row(
            peer.name(),
            [
                middle(&|[idle, _]| idle.rss_kib as f64 / 1024.0),
                middle(&|[idle, _]| idle.pss_kib as f64 / 1024.0),
                middle(&|[idle, held]| more(idle.rss_kib, held.rss_kib)),
                middle(&|[idle, held]| more(idle.pss_kib, held.pss_kib)),
            ],
        );
    }
    let text =
        with_notes(format!("{}\n{streams} streams, each with one event read.\n", table.text()), &notes);
    page.add(Section { key: "memory", title: "Memory", text });
    Ok(())
}

/// Idle and with the streams.
fn once(stage: &mut Stage, load: &mut Load, peer: Peer, case: &Case) -> Result<[Memory; 2], Broken> {
    let running = stage.start(peer, load, 1)?;
    let memory = || running.process.as_ref().map(crate::process::Process::memory).unwrap_or_default();
    let idle = memory();
    let opened = load.open_streams(case, running.port);
    let held = memory();
    load.end();
    opened?;
    if idle.rss_kib == 0 || held.rss_kib == 0 {
        return Err(Broken::invalid("its memory cannot be read"));
    }
    Ok([idle, held])
}
