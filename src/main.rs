//! The binary: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser;
use milepost::cli::Cli;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("milepost: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
