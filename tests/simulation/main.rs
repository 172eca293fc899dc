//! Seeded worlds: a router, its workers and its clients in one thread and in virtual time, with whatever can go wrong.
//!
//! One seed is one world, drawn whole (`plan`), played (`world`) and judged (`invariants`). A seed that fails says its story
//! and the command that plays it again. `MILEPOST_SEEDS` is how many are played, `MILEPOST_FIRST_SEED` where they begin,
//! `MILEPOST_SEED` the only one; `many.sh` plays a hundred thousand. Deliberately not here: what pipes cannot do: resets
//! and descriptors that run out (`tests/faults`), TLS (`tests/it`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails here, with the place")]

mod answer;
mod asking;
mod client;
mod draw;
mod fault;
mod invariants;
mod plan;
mod seeds;
mod story;
mod worker;
mod world;
