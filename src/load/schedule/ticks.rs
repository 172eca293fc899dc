//! The arrivals of a trace: its own times, faster or slower, and not all at the ticks of a coarse clock.
//!
//! Rule: where most requests have the time of the one before, the trace was taken with a coarse clock; they did not come at
//! once. Each is then put uniformly, by the seed, between its tick and the next. Deliberately not here: reading traces.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How the times of a trace are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TracePace {
    /// How many times as fast (`--schedule-speedup`). Finite and above 0.
    pub speedup: f64,
    /// Leave the ticks of a coarse clock as they are.
    pub keep_ticks: bool,
}

impl Default for TracePace {
    fn default() -> Self {
        Self { speedup: 1.0, keep_ticks: false }
    }
}

impl TracePace {
    /// Due times in order, and the tick in nanoseconds where requests were spread over ticks.
    pub fn due_ns(self, stamps_ns: &[u64], seed: u64) -> (Vec<u64>, Option<u64>) {
        let tick_ns = tick_ns(stamps_ns).filter(|_| !self.keep_ticks);
        let spread = tick_ns.map(|tick_ns| spread(stamps_ns, tick_ns, seed));
        let at_ns = spread.as_deref().unwrap_or(stamps_ns);
        (at_ns.iter().map(|at_ns| (*at_ns as f64 / self.speedup) as u64).collect(), tick_ns)
    }
}

/// The median distance of ticks, if more than half of all requests have the time of the one before.
fn tick_ns(stamps_ns: &[u64]) -> Option<u64> {
    let mut steps: Vec<u64> = stamps_ns.windows(2).map(|w| w[1] - w[0]).filter(|step| *step > 0).collect();
    if steps.is_empty() || steps.len() * 2 >= stamps_ns.len() {
        return None;
    }
    steps.sort_unstable();
    Some(steps[steps.len() / 2])
}

fn spread(stamps_ns: &[u64], tick_ns: u64, seed: u64) -> Vec<u64> {
    // Another stream than the gaps of arrivals and the prompts have.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(7);
    let mut out = Vec::with_capacity(stamps_ns.len());
    let mut ticks = stamps_ns.chunk_by(|a, b| a == b).peekable();
    while let Some(tick) = ticks.next() {
        let room_ns = ticks.peek().map_or(tick_ns, |next| (next[0] - tick[0]).min(tick_ns));
        let begun = out.len();
        out.extend(tick.iter().map(|at_ns| at_ns + rng.random_range(0..room_ns)));
        out[begun..].sort_unstable();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 3_000_000_000;

    #[test]
    fn ticks_are_spread_uniformly_and_in_order() {
        let stamps: Vec<u64> = (0..300_u64).flat_map(|tick| [tick * TICK_NS; 10]).collect();
        let (due, tick_ns) = TracePace::default().due_ns(&stamps, 1);
        assert_eq!(tick_ns, Some(TICK_NS));
        assert!(due.is_sorted());
        assert!(due.iter().zip(&stamps).all(|(due, stamp)| (*stamp..stamp + TICK_NS).contains(due)));
        // Kolmogorov-Smirnov within the tick; 1.63 is the bound of 1 %.
        let mut within: Vec<f64> = due.iter().map(|at| (at % TICK_NS) as f64 / TICK_NS as f64).collect();
        within.sort_by(f64::total_cmp);
        let n = within.len() as f64;
        let d = within.iter().enumerate().map(|(i, x)| (x - i as f64 / n).abs()).fold(0.0, f64::max);
        assert!(d * n.sqrt() < 1.63, "{d}");
        assert_eq!(TracePace::default().due_ns(&stamps, 1).0, due);
        assert_ne!(TracePace::default().due_ns(&stamps, 2).0, due);
    }

    #[test]
    fn exact_times_stay_and_are_sped_up() {
        let pace = TracePace { speedup: 2.0, keep_ticks: false };
        assert_eq!(pace.due_ns(&[0, 10, 10, 40], 1), (vec![0, 5, 5, 20], None));
        let ticked = [0, 0, 0, 10, 10];
        assert_eq!(TracePace { keep_ticks: true, ..pace }.due_ns(&ticked, 1).0, [0, 0, 0, 5, 5]);
        assert!(TracePace::default().due_ns(&[], 1).0.is_empty());
    }
}
