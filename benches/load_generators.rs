//! Whether load generators make the load that they are asked for, what that costs, and whether what they report is true.
//!
//! `cargo bench --bench load_generators [-- --write docs/load-generator.md]`. Rule: one server for all, all tools in one run;
//! the load is judged by the server's stamps, CPU is what the kernel counted for the tool between the first arrival and the
//! last answer, and what was no measurement is told and left out. Deliberately not here: correctness of `milepost bench`,
//! which the tests hold.

#[path = "load_generators/answers.rs"]
mod answers;
#[path = "end_to_end/broken.rs"]
mod broken;
#[path = "load_generators/options.rs"]
mod options;
#[path = "end_to_end/page.rs"]
mod page;
#[path = "end_to_end/process.rs"]
#[expect(dead_code, reason = "shared with the bench of proxies, which measures memory too")]
mod process;
#[path = "load_generators/runs.rs"]
mod runs;
#[path = "load_generators/server.rs"]
mod server;
#[path = "load_generators/shape.rs"]
mod shape;
#[path = "load_generators/tables.rs"]
mod tables;
#[path = "load_generators/tokenizer.rs"]
mod tokenizer;
#[path = "load_generators/tools.rs"]
mod tools;

use std::process::ExitCode;

use broken::Broken;
use options::Options;
use page::{Page, Section};
use runs::Stage;

/// The words of the page's markers.
const SECTIONS: &[&str] = &["machine", "rates", "streams"];

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err((text, code)) => {
            eprintln!("{text}");
            return ExitCode::from(code);
        }
    };
    broken::exit(measure(options))
}

fn measure(mut options: Options) -> Result<(), Broken> {
    let broken = |e: std::io::Error| Broken::invalid(e.to_string());
    if let Some(path) = &options.write {
        page::check(path, SECTIONS).map_err(Broken::Invalid)?;
    }
    process::watch_signals().map_err(broken)?;
    let open_files = process::raise_open_files();
    let mut stage = Stage::new().map_err(broken)?;
    let mut page = Page::default();
    let mut notes = vec![stage.told()];
    notes.extend(page::others());
    options.tools.retain(|tool| {
        let version = tool.version();
        let there = version.is_ok();
        notes.push(version.map_or_else(|why| why, |version| format!("{} {version}", tool.name())));
        there
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = page::with_notes(page::machine(cores, open_files) + "\n", &notes);
    page.add(Section { key: "machine", title: "Machine and programs", text });
    page.add(tables::rates(&mut stage, &options)?);
    page.add(tables::streams(&mut stage, &options)?);
    let Some(path) = &options.write else { return Ok(()) };
    let how = format!(", {} s of arrivals at each rate", options.seconds);
    page.write(path, &how).map_err(Broken::Invalid)
}
