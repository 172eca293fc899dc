//! The binary: parse, call, exit code.

use std::process::ExitCode;

use clap::Parser;
use milepost::cli::Cli;

/// glibc's allocator takes an eighth of a small request's instructions, and moves a thread's heap end back and forth
/// (`mprotect`) while connections come and go; see ARCHITECTURE.md.
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
