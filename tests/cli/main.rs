//! The binary as a user meets it: flags, files, exit codes, signals, and what it must never say.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod bench;
mod canary;
mod capture;
#[path = "../it/certificates.rs"]
#[expect(dead_code, reason = "the tests of the router use more of it")]
mod certificates;
mod crash;
mod decisions;
mod descriptors;
mod doctor;
mod export;
mod faults;
mod flags;
mod help;
mod http;
#[path = "../kept_page/mod.rs"]
mod kept_page;
mod process;
mod replay;
mod report;
mod route;
