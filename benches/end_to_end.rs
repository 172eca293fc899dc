//! What milepost costs beside haproxy, nginx, sglang-router and smg: CPU, latency, memory, and what more workers and cores do.
//!
//! `cargo bench --bench end_to_end [-- --quick]` measures everything and prints it; `--help` names the parts. Rule: one load
//! for all, all peers in one run and in turns, CPU as the kernel counted it for the proxy's process and not as throughput; what
//! was no measurement is told and left out. Proxies run on the last core, load and worker on the first. Deliberately not
//! here: correctness, which the tests hold.

#[path = "end_to_end/broken.rs"]
mod broken;
#[path = "end_to_end/cases.rs"]
mod cases;
#[path = "end_to_end/curves.rs"]
mod curves;
#[path = "end_to_end/latency.rs"]
mod latency;
#[path = "end_to_end/load/mod.rs"]
#[expect(dead_code, reason = "shared with the bench of the trace, which counts what was sent")]
mod load;
#[path = "end_to_end/memory.rs"]
mod memory;
#[path = "end_to_end/options.rs"]
mod options;
#[path = "end_to_end/page.rs"]
mod page;
#[path = "end_to_end/peers/mod.rs"]
#[expect(dead_code, reason = "shared with the bench of the trace, which has files of its own")]
mod peers;
#[path = "end_to_end/process.rs"]
mod process;
#[path = "request_path/mod.rs"]
mod request_path;
#[path = "end_to_end/rounds.rs"]
mod rounds;
#[path = "end_to_end/table.rs"]
mod table;

use std::process::ExitCode;

use cases::Found;
use load::{Broken, Load};
use options::Options;
use page::{Page, Section};
use peers::{Peer, Stage};
use request_path::Steps;

/// The words of the page's markers.
const SECTIONS: &[&str] =
    &["machine", "cpu", "latency", "memory", "budget", "policies", "workers", "cores", "lock", "trace"];
/// Most workers that a part of the bench needs.
const MOST_WORKERS: usize = 512;

/// As the router has it, for the steps that are called in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err((text, code)) => {
            eprintln!("{text}");
            return ExitCode::from(code);
        }
    };
    broken::exit(measure(&options))
}

fn measure(options: &Options) -> Result<(), Broken> {
    let broken = |e: std::io::Error| Broken::invalid(e.to_string());
    if let Some(path) = &options.write {
        page::check(path, SECTIONS).map_err(Broken::Invalid)?;
    }
    process::watch_signals().map_err(broken)?;
    let open_files = process::raise_open_files();
    let mut stage = Stage::new().map_err(broken)?;
    let mut page = Page::default();
    let (peers, notes) = Peer::chosen(options.only());
    tell_machine(&stage, open_files, &peers, notes, &mut page);
    let steps = steps(&stage, options)?;
    process::pin(&stage.load_cores).map_err(broken)?;
    let mut load = Load::new(MOST_WORKERS).map_err(broken)?;
    let found = compare(&mut stage, &mut load, &peers, options, &mut page)?;
    memory::measure(&mut stage, &mut load, &peers, options, open_files, &mut page)?;
    if peers.contains(&Peer::HEADLINE) {
        curves::workers(&mut stage, &mut load, steps.as_ref(), options, &mut page)?;
        curves::cores(&mut stage, &mut load, options, &mut page)?;
        curves::trace(&mut stage, &mut load, steps.as_ref(), options, &mut page)?;
    }
    for (key, title, text) in steps.iter().flat_map(|steps| request_path::sections(steps, found.ours_us)) {
        page.add(Section { key, title, text });
    }
    let Some(path) = &options.write else { return Ok(()) };
    let (rounds, requests) = (options.rounds, options.requests);
    let ours = Peer::versions(&[Peer::HEADLINE]).join(", ");
    let how = format!(" with {ours}, {rounds} rounds of {requests} requests");
    page.write(path, &how).map_err(Broken::Invalid)
}

fn tell_machine(stage: &Stage, open_files: u64, peers: &[Peer], mut notes: Vec<String>, page: &mut Page) {
    notes.extend(page::others());
    let mut lines = Peer::versions(peers);
    lines.append(&mut notes);
    let text = page::with_notes(page::machine(stage.cores, open_files) + "\n", &lines);
    page.add(Section { key: "machine", title: "Machine and programs", text });
}

/// The steps of a request, on the proxies' core, before there are any.
fn steps(stage: &Stage, options: &Options) -> Result<Option<Steps>, Broken> {
    if !["request_path", "workers", "trace"].iter().any(|case| options.has(case)) {
        return Ok(None);
    }
    page::progress("the steps of a request");
    process::pin(&stage.proxy_cores).map_err(|e| Broken::invalid(e.to_string()))?;
    request_path::measure(stage.cores, options.quick).map(Some).map_err(Broken::Invalid)
}

/// All peers beside each other: CPU, then latency.
fn compare(
    stage: &mut Stage,
    load: &mut Load,
    peers: &[Peer],
    options: &Options,
    page: &mut Page,
) -> Result<Found, Broken> {
    if cases::chosen(options).is_empty() && !options.has("latency") {
        return Ok(Found::default());
    }
    let (running, failed) = cases::start(stage, load, peers)?;
    for note in &failed {
        println!("- {note}");
    }
    let found = cases::measure(load, &running, options, page)?;
    latency::measure(load, &running, found, options, page)?;
    Ok(found)
}
