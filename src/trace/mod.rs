//! The product: trace records, how they get to the file without holding up a request, and how they are read back.
//!
//! `record`, `header`, `decision` and `journal` (the schema) → `sink` (bounded, per thread) → `writer` (one thread, the `scribe`,
//! who writes a `live` file, does what `capture` asks and leaves `parts` behind) → `reader` → `align` (on `axis`).
//! Rule: no request waits for the trace; what cannot be taken is counted in the file itself.

pub mod align;
mod archive;
mod awaited;
pub mod axis;
pub mod borders;
pub mod capture;
pub mod decision;
pub mod drift;
#[cfg(test)]
pub mod example;
pub mod header;
pub mod journal;
pub mod json;
mod known;
pub mod leaves;
mod live;
pub mod outlet;
pub mod parts;
mod pause;
pub mod prompt;
pub mod reader;
pub mod record;
pub mod sample;
pub mod sampled;
pub mod schema;
mod scribe;
mod sieve;
pub mod sink;
pub mod unpacking;
mod watch;
pub mod writer;

/// `boot_id` of this host: two processes with the same one share a `CLOCK_MONOTONIC` (save time namespaces).
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
