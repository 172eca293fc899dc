//! What the benchmarks of this crate share: text to hash, and the quickest of times. Deliberately not here: what is measured.

use std::time::Duration;

/// Rounds of which the quickest is printed.
pub const ROUNDS: usize = 9;

/// Text of numbers that depends on `seed` from its first byte on.
pub fn words(bytes: usize, seed: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + 24);
    let mut state = seed as u64 + 1;
    while text.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.extend_from_slice(format!("{} ", state >> 33).as_bytes());
    }
    text.truncate(bytes);
    text
}

/// The mean time of one call in the quickest of the rounds, in nanoseconds.
pub fn quickest_ns(calls: usize, mut call: impl FnMut(usize)) -> f64 {
    quickest(|| time(|| (0..calls).for_each(&mut call)).as_nanos() as f64 / calls as f64)
}

/// The least of what the rounds give: what else runs on the machine only ever adds.
pub fn quickest(round: impl FnMut() -> f64) -> f64 {
    std::iter::repeat_with(round).take(ROUNDS).fold(f64::INFINITY, f64::min)
}

/// How long `work` takes.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark outside the router times itself; the crate it measures reads no clock"
)]
pub fn time(work: impl FnOnce()) -> Duration {
    let start = std::time::Instant::now();
    work();
    start.elapsed()
}
