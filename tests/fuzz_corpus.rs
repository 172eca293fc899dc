//! The fuzz targets' seeds, and many small changes of each, through the targets' own properties: on stable, in every test run.
//!
//! Rule: the changes follow from a fixed seed, so a failure comes again. Deliberately not here: the properties
//! (`fuzz/properties.rs`), and coverage-guided search, which `cargo fuzz` does.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its data must fail")]

#[path = "../fuzz/properties.rs"]
mod properties;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Changed copies of each seed that somebody wrote.
const CHANGED: usize = 400;
/// Changed copies of each seed that a search has found, of which there are many.
const CHANGED_FOUND: usize = 10;

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"\\ud800",
    b"{",
    b"}",
    b"[[[[",
    b"null",
    b"-1",
    b"1e999",
    b"18446744073709551616",
    b"\n",
    b"\r\n\r\n",
    b"data: ",
    b"\xff\xfe",
    b"\0",
    b"data: [DONE]\n\n",
    b"transfer-encoding: chunked\r\n",
    b"content-length: 5\r\n",
    b"connection: close\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"\r",
    b", ",
    b";",
];

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{folder}: {e}"))
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    assert!(found.len() >= 5, "{target}: {} seeds", found.len());
    found
}

/// Cuts, doubles, overwrites or inserts, once to four times.
fn change(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let to = rng.random_range(at..=bytes.len().min(at + 64));
        let piece = PIECES[rng.random_range(0..PIECES.len())];
        match rng.random_range(0..5) {
            0 => drop(bytes.drain(at..to)),
            1 => {
                let copy = bytes[at..to].to_vec();
                bytes.splice(at..at, copy);
            }
            2 => drop(bytes.splice(at..at, piece.iter().copied())),
            3 => drop(bytes.splice(at..to, piece.iter().copied())),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << rng.random_range(0..8);
                }
            }
        }
    }
    bytes
}

fn replay(target: &str, property: fn(&[u8])) {
    replay_changed(target, property, CHANGED);
}

/// With so many copies of each seed that somebody wrote.
fn replay_changed(target: &str, property: fn(&[u8]), written: usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (name, seed) in seeds(target) {
        property(&seed);
        let copies = if name.starts_with("found-") { CHANGED_FOUND } else { written };
        for _ in 0..copies {
            let changed = change(&seed, &mut rng);
            let holds = catch_unwind(AssertUnwindSafe(|| property(&changed))).is_ok();
            assert!(holds, "{target}/{name}, changed: {}", changed.escape_ascii());
        }
    }
}

#[test]
fn command_line() {
    replay("command_line", properties::command_line);
}

#[test]
fn request_look() {
    replay("request_look", properties::request_look);
}

#[test]
fn sse_scanner() {
    replay("sse_scanner", properties::sse_scanner);
}

#[test]
fn answer_reader() {
    replay("answer_reader", properties::answer_reader);
}

#[test]
fn trace_reader() {
    replay("trace_reader", properties::trace_reader);
}

#[test]
fn http1_request() {
    replay("http1_request", properties::http1_request);
}

#[test]
fn http1_answer() {
    replay("http1_answer", properties::http1_answer);
}

#[test]
fn worker_url() {
    replay("worker_url", properties::worker_url);
}

#[test]
fn prefix_index() {
    replay("prefix_index", properties::prefix_index);
}

/// A script is compiled and run until its limits end it, which takes far longer than the others do.
#[test]
fn policy_script() {
    replay_changed("policy_script", properties::policy_script, 100);
}

#[test]
fn policy_weights() {
    replay("policy_weights", properties::policy_weights);
}
