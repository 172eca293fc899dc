//! What the trace costs: a request's CPU with each sink, the time and memory of its commands, and a capture that is left on.
//!
//! `cargo bench --bench trace_cost [-- --write docs/trace-cost.md]`; `-- --hold 60` is the hour of load. `--help` names the parts.
//! Rule: load, proxies and pages are those of the bench `end_to_end`; every command that is measured is the release binary as
//! users run it; what was no measurement is told and left out. Deliberately not here: other proxies, correctness of the trace,
//! which the tests hold. The rules by which it counts have tests (`tests/trace_cost_rules.rs`).

mod books;
#[path = "../end_to_end/broken.rs"]
mod broken;
#[path = "../soak/flat.rs"]
mod flat;
mod fleet;
mod hold;
#[path = "../end_to_end/load/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the bench of proxies, which opens streams too")]
mod load;
mod make;
mod material;
mod options;
#[path = "../end_to_end/page.rs"]
mod page;
#[path = "../end_to_end/peers/mod.rs"]
#[expect(dead_code, reason = "shared with the bench of proxies, which has others too")]
mod peers;
#[path = "../end_to_end/process.rs"]
mod process;
mod records;
#[path = "../end_to_end/rounds.rs"]
#[expect(dead_code, reason = "shared with the bench of proxies, which tells latencies too")]
mod rounds;
mod sinks;
mod spent;
#[path = "../end_to_end/table.rs"]
mod table;
#[path = "../soak/ticks.rs"]
mod ticks;

use std::process::ExitCode;

use load::{Broken, Load};
use options::Options;
use page::{Page, Section};
use peers::{Peer, Stage};

/// The words of the page's markers.
const SECTIONS: &[&str] = &["machine", "sinks", "records", "bytes", "hold"];

/// As the router has it, for the records that are written in a process of this program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some((options::MAKE, rest)) = args.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return broken::exit(make::run(rest).map_err(Broken::Invalid));
    }
    match Options::parse(args.into_iter()) {
        Ok(options) => broken::exit(measure(&options)),
        Err((text, code)) => {
            eprintln!("{text}");
            ExitCode::from(code)
        }
    }
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
    tell_machine(&stage, open_files, &mut page);
    let made = match options.hold {
        Some(minutes) => {
            unpin(&mut stage).map_err(broken)?;
            let mut load = Load::new(0).map_err(broken)?;
            hold::measure(&mut stage, &mut load, minutes, options, &mut page)?;
            format!("{minutes} minutes at {} requests a second", options.rate)
        }
        None => {
            process::pin(&stage.load_cores).map_err(broken)?;
            let mut load = Load::new(sinks::FLEET).map_err(broken)?;
            if options.has("sinks") {
                sinks::measure(&mut stage, &mut load, options, &mut page)?;
            }
            if options.has("records") {
                unpin(&mut stage).map_err(broken)?;
                records::measure(&mut stage, &mut load, options, &mut page)?;
            }
            format!("{} rounds of {} requests", options.rounds, options.requests)
        }
    };
    let Some(path) = &options.write else { return Ok(()) };
    let ours = Peer::versions(&[Peer::HEADLINE]).join(", ");
    page.write(path, &format!(" with {ours}, {made}")).map_err(Broken::Invalid)
}

/// Where nothing is compared, everybody may run where there is room.
fn unpin(stage: &mut Stage) -> std::io::Result<()> {
    let all: Vec<usize> = (0..stage.cores).collect();
    process::pin(&all)?;
    stage.load_cores.clone_from(&all);
    stage.on_cores(all);
    Ok(())
}

fn tell_machine(stage: &Stage, open_files: u64, page: &mut Page) {
    let mut notes = Peer::versions(&[Peer::HEADLINE]);
    notes.extend(page::others());
    let text = page::with_notes(page::machine(stage.cores, open_files) + "\n", &notes);
    page.add(Section { key: "machine", title: "Machine and program", text });
}
