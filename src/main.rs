//! The binary: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser;
use milepost::cli::Cli;

/// 4 % fewer instructions a small request than with glibc's allocator, and no `mprotect` as threads' heaps grow and shrink;
/// see ARCHITECTURE.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("milepost: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
