//! A capture that is left on: load for an hour and more, memory looked at meanwhile, and then the books of the files.
//!
//! Rule: the capture is set up as in staging (rotated, packed, limited), the workers are simulated, and the load is asked for by
//! the clock. It holds if requests = records + lost + not captured with none lost, counted from the files, the clients and the
//! numbers of the requests, and if memory is flat by the rule of the soak (`benches/soak/flat.rs`). Deliberately not here:
//! faults and clients that leave, which are the soak's.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milepost::clock::Clock;
use milepost::trace::parts::{files_of, is_packed};
use milepost::trace::reader::TraceReader;

use crate::books::Books;
use crate::flat;
use crate::fleet::Fleet;
use crate::load::{Broken, Case, Load, Pace, quantile};
use crate::options::Options;
use crate::page::{Page, Section, progress, with_notes};
use crate::peers::{Peer, Running, Stage, Tracing};
use crate::sinks::FLEET;
use crate::spent;
use crate::table::{Table, short};

/// As in staging: files of 64 MiB, 2.5 GiB in all, room for a disk that stalls for a minute.
const CAPTURE: Tracing = Tracing {
    title: "file, rotated, zstd, limited",
    flags: &[
        "--trace-log",
        "trace.jsonl",
        "--trace-rotate-size",
        "67108864",
        "--trace-max-size",
        "2684354560",
        "--trace-buffer-records",
        "120000",
    ],
};
/// Bytes of the prompts.
const PROMPT_BYTES: usize = 1_024;
/// One run of the load; the next one sends the same prompts again.
const SLICE_S: f64 = 60.0;
/// A line after so many of them, for who looks at it later.
const TOLD_EACH: u64 = 5;
/// Between two looks at memory, where the run is long.
const LOOK_S: f64 = 10.0;
/// Looks that a judgement needs, and some.
const LOOKS: f64 = 60.0;
/// All requests have ended before the capture is stopped.
const ENDED: Duration = Duration::from_secs(2);
/// Runs of the load that failed and are told of.
const NAMED: usize = 5;

/// What was seen while it ran.
#[derive(Default)]
struct Seen {
    memory: Vec<flat::Sample>,
    most_load: f64,
    slices: u64,
    broken: Vec<String>,
    late_ns: Vec<u64>,
    sent: u64,
    wall_s: f64,
    cpu_s: f64,
}

/// Runs and tells; what does not hold is an error, behind what was told.
pub fn measure(
    stage: &mut Stage,
    load: &mut Load,
    minutes: f64,
    options: &Options,
    page: &mut Page,
) -> Result<(), Broken> {
    let fleet = Fleet::start(stage, load, FLEET as u64)?;
    let before = load.sent();
    let router = stage.start_before(Peer::Milepost("cache_aware", CAPTURE), load, &fleet.ports)?;
    let idle_mib = memory_mib(&router);
    let mut seen = run(load, &router, minutes, options)?;
    load.serve(ENDED)?;
    seen.sent = load.sent() - before;
    stop(&router)?;
    let books = audit(&router)?;
    let sent = seen.broken.is_empty().then_some(seen.sent);
    let mut offences = books.offences(sent);
    let judged = flat::judge(&seen.memory);
    if judged.is_some_and(|flat| !flat.holds()) {
        offences.push("memory is not flat".to_owned());
    }
    tell(&seen, idle_mib, judged, &books, &router, page);
    if offences.is_empty() {
        return Ok(());
    }
    Err(Broken::Invalid(format!("it does not hold: {}", offences.join("; "))))
}

/// The load, for its time.
fn run(load: &mut Load, router: &Running, minutes: f64, options: &Options) -> Result<Seen, Broken> {
    let clock = Clock::system();
    let begun_ns = clock.mono_ns();
    let total_s = minutes * 60.0;
    let since_s = || (clock.mono_ns() - begun_ns) as f64 / 1e9;
    let (seen, ended) = (Mutex::new(Seen::default()), AtomicBool::new(false));
    let cpu = router.cpu();
    let served = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let pause = Duration::from_secs_f64((total_s / LOOKS).clamp(0.5, LOOK_S));
            while !ended.load(Ordering::Acquire) {
                let sample = flat::Sample { at_s: since_s(), rss_mib: memory_mib(router) };
                look(&seen, sample);
                std::thread::park_timeout(pause);
            }
        });
        let served = slices(load, router, options, total_s, &seen, &since_s);
        ended.store(true, Ordering::Release);
        looker.thread().unpark();
        served
    });
    served?;
    let mut seen = seen.into_inner().unwrap_or_default();
    (seen.wall_s, seen.cpu_s) = (since_s(), router.cpu().since(&cpu) as f64 / 1e9);
    Ok(seen)
}

fn look(seen: &Mutex<Seen>, sample: flat::Sample) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    if let Ok(mut seen) = seen.lock() {
        seen.most_load = load.max(seen.most_load);
        seen.memory.push(sample);
    }
}

fn slices(
    load: &mut Load,
    router: &Running,
    options: &Options,
    total_s: f64,
    seen: &Mutex<Seen>,
    since_s: &(impl Fn() -> f64 + Sync),
) -> Result<(), Broken> {
    while since_s() < total_s {
        let slice_s = SLICE_S.min(total_s - since_s()).max(1.0);
        let requests = ((slice_s * options.rate) as usize).max(1);
        let paced = Case::plain("hold", "", PROMPT_BYTES, Pace::PerSecond(options.rate), requests);
        let run = load.run(&Case { is_scripted: false, ..paced }, router.port);
        let Ok(mut seen) = seen.lock() else { return Err(Broken::invalid("the look at memory failed")) };
        seen.slices += 1;
        match run {
            Ok(tally) => seen.late_ns.push(quantile(&tally.late_ns, 0.99)),
            Err(Broken::Interrupted) => return Err(Broken::Interrupted),
            Err(Broken::Invalid(why)) => seen.broken.push(why),
        }
        let rss_mib = seen.memory.last().map_or(0.0, |last| last.rss_mib);
        let (done, broken) = (seen.slices, seen.broken.len());
        let minutes = since_s() / 60.0;
        drop(seen);
        let line =
            format!("{minutes:.0} minutes, {done} runs of the load, {broken} broken, {rss_mib:.1} MiB");
        if done % TOLD_EACH == 0 {
            println!("{line}");
        }
        progress(&line);
    }
    Ok(())
}

fn memory_mib(router: &Running) -> f64 {
    router.process.as_ref().map_or(0.0, |process| process.memory().rss_kib as f64 / 1024.0)
}

/// As an operator would: all that there is gets written, and the file is let go.
fn stop(router: &Running) -> Result<(), Broken> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    command.args(["trace", "stop", "--router", &format!("http://127.0.0.1:{}", router.port)]);
    spent::run(command).map(drop)
}

/// The books of all its files.
fn audit(router: &Running) -> Result<Books, Broken> {
    let mut books = Books::default();
    let files = files(router)?;
    for (n, path) in files.iter().enumerate() {
        crate::process::check()?;
        progress(&format!("auditing file {} of {}", n + 1, files.len()));
        let mut reader = TraceReader::open(path).map_err(|e| Broken::invalid(e.to_string()))?;
        for record in &mut reader {
            books.enter(&record.map_err(|e| Broken::invalid(e.to_string()))?.1);
        }
        books.torn_lines += reader.torn_lines();
    }
    Ok(books)
}

fn files(router: &Running) -> Result<Vec<PathBuf>, Broken> {
    let live = router.trace().ok_or_else(|| Broken::invalid("the router has no trace"))?;
    let pattern = live.with_file_name("trace*");
    files_of(&pattern).map_err(|e| Broken::invalid(e.to_string()))
}

fn tell(
    seen: &Seen,
    idle_mib: f64,
    judged: Option<flat::Flat>,
    books: &Books,
    router: &Running,
    page: &mut Page,
) {
    let mut table = Table::new(["a capture that is left on", ""]);
    let count = |n: u64| n.to_string();
    table.row("minutes", [short(seen.wall_s / 60.0)]);
    table.row("requests sent", [count(seen.sent)]);
    table.row("a second", [short(seen.sent as f64 / seen.wall_s.max(1.0))]);
    table.row("requests by their numbers", [count(books.requests())]);
    table.row("= records", [count(books.records)]);
    table.row("+ lost", [count(books.missing.requests)]);
    table.row("+ not captured", [count(books.missing.stopped + books.missing.sampled)]);
    table.row("+ in files that the limit has removed", [count(books.removed)]);
    table.row("lines that are no record", [count(books.torn_lines)]);
    table.row("the router's CPU, µs a request", [short(seen.cpu_s * 1e6 / seen.sent.max(1) as f64)]);
    table.row("its share of a core, %", [short(seen.cpu_s * 100.0 / seen.wall_s.max(1.0))]);
    table.row("resident before the load, MiB", [short(idle_mib)]);
    if let Some(flat) = judged {
        table.row("median of the second quarter of the time, MiB", [short(flat.first_mib)]);
        table.row("median of the last quarter, MiB", [short(flat.last_mib)]);
        table.row("slope after the first quarter, MiB an hour", [format!("{:+.2}", flat.slope_mib_per_h)]);
    }
    let files = files(router).unwrap_or_default();
    let bytes: u64 = files.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum();
    let packed = files.iter().filter(|path| is_packed(path)).count();
    table.row("files, of these packed", [format!("{}, {packed}", files.len())]);
    table.row("bytes on disk a record", [short(bytes as f64 / books.records.max(1) as f64)]);
    page.add(Section {
        key: "hold",
        title: "A capture that is left on",
        text: with_notes(table.text(), &notes(seen, judged.is_some())),
    });
}

fn notes(seen: &Seen, is_judged: bool) -> Vec<String> {
    let mut notes = vec![format!(
        "the machine's load was up to {:.1}; in the worst minute 99 of 100 requests went out within {} ms of their time",
        seen.most_load,
        short(seen.late_ns.iter().max().copied().unwrap_or(0) as f64 / 1e6)
    )];
    if !is_judged {
        notes.push("too short to judge memory".to_owned());
    }
    if !seen.broken.is_empty() {
        let first: Vec<&str> = seen.broken.iter().take(NAMED).map(String::as_str).collect();
        notes.push(format!(
            "{} of {} runs of the load ended early, so that what was sent is not held against the records: {}",
            seen.broken.len(),
            seen.slices,
            first.join("; ")
        ));
    }
    notes
}
