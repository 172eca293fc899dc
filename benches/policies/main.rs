//! What each policy gives: latency, hits, balance and capacity on a simulated fleet in virtual time, written into a page.
//!
//! `cargo bench --bench policies -- --write docs/policies.md`. Rule: the engines are the simulated worker's, the decisions come
//! from the router's own `Chooser`, and all randomness is from the seeds, so the same command writes the same page (decision
//! times apart, which are marked). It is a bench target because it wants an optimised build and takes minutes. Deliberately not
//! here: sockets and the router's own time (`end_to_end`), which are microseconds where these are milliseconds.

mod aims;
mod arms;
mod bound;
mod capacity;
mod crew;
mod decide;
mod figures;
mod live;
mod measure;
mod options;
mod page;
mod peer;
mod picture;
mod play;
mod progress;
mod prompt;
#[path = "../../policies/benches/sglang_router_032/mod.rs"]
mod sglang_router_032;
mod stats;
mod tables;
mod workload;

use std::process::ExitCode;

use arms::Arm;
use measure::Measured;
use options::Options;
use page::Made;

/// As the router has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if let Some(path) = &options.write {
        page::check(path)?;
    }
    if options.live {
        return beside_the_original(options);
    }
    let mut arms = Arm::all();
    let wanted =
        |name: &str| options.arms.is_empty() || options.arms.iter().any(|word| name.contains(word.as_str()));
    arms.retain(|arm| wanted(&arm.name));
    if arms.is_empty() {
        return Err(format!("--arms {}: no arm has such a name", options.arms.join(",")));
    }
    // Before the other cores get busy.
    let decided = decide::measure(&arms)?;
    let mut all: Vec<Measured> = Vec::new();
    for kind in &options.kinds {
        let measured = measure::measure(*kind, &arms, options)?;
        progress::show("");
        println!("{}", tables::workload(&measured, &arms));
        all.push(measured);
    }
    println!("{}", decide::table(&decided));
    if let Some(aims) = aims::table(&all, &arms, &decided) {
        println!("{aims}");
    }
    let Some(path) = &options.write else { return Ok(()) };
    let made = Made {
        all: &all,
        arms: &arms,
        decided: &decided,
        seeds: options.seeds,
        command: options.command.clone(),
    };
    page::write(path, &made)
}

fn beside_the_original(options: &Options) -> Result<(), String> {
    let (text, agrees) = live::check()?;
    println!("{text}");
    if let Some(path) = &options.write {
        page::write_live(path, &text)?;
    }
    if agrees {
        Ok(())
    } else {
        Err("the port and the original are not alike, or a run was invalid".to_owned())
    }
}
