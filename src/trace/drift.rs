//! What is known of a remote worker's wall clock as a whole: its offset, how fast it drifts, how often it was stepped.
//!
//! Rule: a step is two exchanges that cannot both be true of one clock that drifts as clocks do; a drift is told with how wrong it
//! may be. For people: what places a stamp is [`super::axis`] alone.

use super::axis::{Pair, interval};

/// A drift over less than this says more of the exchanges than of the clock.
const LEAST_SPAN_NS: u64 = 10_000_000_000;

/// A worker's wall clock against the router's monotonic clock, by the exchanges of its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WallClock {
    /// The exchange of the smallest bound since the last step.
    pub best: Pair,
    /// How fast it gains on the router's clock since the last step, millionths, and how far off that may be; absent where the
    /// exchanges lie too near to each other.
    pub drift_ppm: Option<(f64, f64)>,
    /// Steps noticed: those larger than the bounds about them.
    pub steps: u64,
}

impl WallClock {
    /// Of the exchanges in order; `None` where there are none.
    pub fn of<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Option<Self> {
        // Since the last step.
        let mut alike: Vec<Pair> = Vec::new();
        let mut best: Option<Pair> = None;
        let mut steps = 0;
        for pair in pairs {
            let kept = best.filter(|best| agree(best, pair));
            if best.is_some() && kept.is_none() {
                steps += 1;
                alike.clear();
            }
            alike.push(*pair);
            best = kept.filter(|kept| kept.bound_at(pair.at_ns) < pair.bound_ns()).or(Some(*pair));
        }
        let best = *alike.iter().min_by_key(|pair| pair.bound_ns())?;
        Some(Self { best, drift_ppm: drift(&alike), steps })
    }
}

fn agree(a: &Pair, b: &Pair) -> bool {
    let ((low, high), (least, most)) = (interval(a, b.at_ns), interval(b, b.at_ns));
    low.max(least) <= high.min(most)
}

/// From the best exchange of the first half to that of the second.
fn drift(pairs: &[Pair]) -> Option<(f64, f64)> {
    let (first, second) = pairs.split_at(pairs.len() / 2);
    let best = |half: &[Pair]| half.iter().min_by_key(|pair| pair.bound_ns()).copied();
    let (from, to) = (best(first)?, best(second)?);
    let span_ns = to.at_ns.checked_sub(from.at_ns).filter(|span_ns| *span_ns >= LEAST_SPAN_NS)? as f64;
    let error_ns = from.delay_ns / 2 + to.delay_ns / 2;
    Some(((to.offset_ns - from.offset_ns) as f64 * 1e6 / span_ns, error_ns as f64 * 1e6 / span_ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    /// An exchange each two seconds; the clock gains 20 us a second.
    fn pair(second: u64, ahead_ns: i64) -> Pair {
        let at_ns = second * SECOND_NS;
        let offset_ns = 7_000_000 + ahead_ns + 20_000 * i64::try_from(second).unwrap();
        Pair { offset_ns, delay_ns: 200_000, drift_ns: 0, at_ns }
    }

    #[test]
    fn a_drift_is_told_with_its_error() {
        let pairs: Vec<Pair> = (0..30).map(|n| pair(2 * n, 0)).collect();
        let clock = WallClock::of(pairs.iter()).unwrap();
        let (ppm, error_ppm) = clock.drift_ppm.unwrap();
        assert!((ppm - 20.0).abs() < 1e-9 && error_ppm > 0.0 && error_ppm < 10.0, "{ppm} {error_ppm}");
        assert_eq!(clock.steps, 0);
        assert_eq!(WallClock::of([].iter()), None);
        assert_eq!(WallClock::of(pairs[..3].iter()).unwrap().drift_ppm, None, "over four seconds");
    }

    #[test]
    fn a_step_is_counted_once_and_what_lay_before_it_is_left_out() {
        let before = (0..10).map(|n| pair(2 * n, 0));
        let after = (10..40).map(|n| pair(2 * n, -40_000_000));
        let pairs: Vec<Pair> = before.chain(after).collect();
        let clock = WallClock::of(pairs.iter()).unwrap();
        assert_eq!(clock.steps, 1);
        assert!(clock.best.offset_ns < 0 && (clock.drift_ppm.unwrap().0 - 20.0).abs() < 1e-9);
        // A slow exchange between the two hides nothing.
        let slow = Pair { delay_ns: SECOND_NS, ..pairs[10] };
        let hidden = [pairs[9], slow, pairs[11]];
        assert_eq!(WallClock::of(hidden.iter()).unwrap().steps, 1);
    }
}
