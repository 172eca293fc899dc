//! One file a command: what was typed → what it means. Deliberately not here: the work itself.

use clap::{Parser, Subcommand};

mod align;
pub mod bench;
mod capture;
mod check;
pub mod demo;
pub mod doctor;
pub mod exit;
mod export;
pub mod holder;
mod outfile;
pub mod replay;
pub mod report;
pub mod route;
mod show;
pub mod signal;
pub mod trace;
pub mod worker;

pub use exit::Failure;

use crate::stdio;

/// See and steer traffic to SGLang fleets.
#[derive(Debug, Parser)]
#[command(name = "milepost", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 the run failed, 2 usage, 3 bench: the verdict is SUSPECT, 4 INVALID; doctor: 3 something is missing, 4 some servers cannot be used; 130 interrupted."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Route requests to SGLang workers and write one trace record for each.
    Route(Box<route::RouteArgs>),
    /// Run a simulated SGLang worker: real wire format, no GPU.
    Worker(worker::WorkerArgs),
    /// Send load, join it with the router's trace, write one CSV row per request.
    Bench(Box<bench::BenchArgs>),
    /// Ask servers and a router what they are, what they tell and what is missing.
    Doctor(doctor::DoctorArgs),
    /// Make the figures of runs again from their files, with charts, side by side.
    Report(report::ReportArgs),
    /// Look at a trace, or steer the capture of a router that runs.
    Trace(trace::TraceArgs),
    /// Make recorded decisions again, and try other policies on a trace.
    Replay(replay::ReplayArgs),
    /// Workers, router and load on this machine: the four policies side by side (SIMULATED).
    Demo(demo::DemoArgs),
}

/// Writes to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes()).map(drop)
}

/// The same; false if the reader went away.
fn print_bytes(bytes: &[u8]) -> Result<bool, Failure> {
    stdio::print(bytes).map_err(|e| Failure::Run(format!("standard output: {e}")))
}

impl Cli {
    /// Reads the command line; `bench` may take a part of it from files.
    ///
    /// # Errors
    /// A file cannot be used. What is wrong with the command line itself ends the process, as clap does.
    pub fn read() -> Result<Self, Failure> {
        let typed: Vec<String> = match std::env::args_os().map(std::ffi::OsString::into_string).collect() {
            Ok(typed) => typed,
            // Paths may be what they like; only --config is not read of such a command line.
            Err(_) => return Ok(Self::parse()),
        };
        let (Some(program), Some(command)) = (typed.first(), typed.get(1)) else { return Ok(Self::parse()) };
        if command != "bench" {
            return Ok(Self::parse());
        }
        let (arguments, notes) = bench::BenchArgs::expand(&typed[2..]).map_err(Failure::Usage)?;
        for note in notes {
            stdio::tell_line(&note);
        }
        let mut cli = Self::parse_from([program, command].into_iter().chain(&arguments));
        if let Command::Bench(args) = &mut cli.command {
            args.remember(&arguments);
        }
        Ok(cli)
    }

    /// Runs the command.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Route(args) => route::run(&args),
            Command::Worker(args) => worker::run(args),
            Command::Bench(args) => bench::run(*args),
            Command::Doctor(args) => doctor::run(args),
            Command::Report(args) => report::run(&args),
            Command::Trace(args) => trace::run(args),
            Command::Replay(args) => replay::run(args),
            Command::Demo(args) => demo::run(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launch_scripts_may_abbreviate_and_append_overrides() {
        for args in [
            ["milepost", "route", "--pol", "random", "--port", "1", "--port", "2"],
            ["milepost", "bench", "--num-p", "9", "--seed", "1", "--seed", "2"],
        ] {
            assert!(Cli::try_parse_from(args).is_ok(), "{args:?}");
        }
        let ambiguous = Cli::try_parse_from(["milepost", "route", "--worker", "x"]);
        assert!(ambiguous.is_err(), "an ambiguous beginning is refused");
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
