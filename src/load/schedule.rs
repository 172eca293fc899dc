//! When each request is due: made once, from one seed, before the first request leaves.
//!
//! Rule: a schedule is absolute. Nothing that happens during a run (a slow answer, a late wake-up, a full server) moves a
//! later arrival, else the load under test is not the load asked for. Deliberately not here: keeping time, see `pacer`.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How many requests a second are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// All at once (`--request-rate inf`).
    AllAtOnce,
    /// Poisson arrivals with this mean number a second. Finite and above 0.
    PerSecond(f64),
}

impl Rate {
    /// Reads `inf` or a number above 0.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(rate) if rate == f64::INFINITY => Ok(Self::AllAtOnce),
            Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Self::PerSecond(rate)),
            _ => Err(format!("expected requests per second above 0, or inf; got {text}")),
        }
    }

    /// The number, if it is one.
    pub fn per_second(self) -> Option<f64> {
        match self {
            Self::AllAtOnce => None,
            Self::PerSecond(rate) => Some(rate),
        }
    }
}

/// Due times of all requests of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Nanoseconds after the start of the run, in order; one for each request.
    pub at_ns: Vec<u64>,
}

impl Schedule {
    /// Exponential gaps (inverse transform, `-ln(1-u)/rate`) added up from 0, as in `bench_serving`: the first request is due
    /// at 0, the next one gap later.
    pub fn new(rate: Rate, count: usize, seed: u64) -> Self {
        let Rate::PerSecond(per_second) = rate else {
            return Self { at_ns: vec![0; count] };
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut due_ns = 0.0_f64;
        let mut at_ns = Vec::with_capacity(count);
        for _ in 0..count {
            at_ns.push(due_ns as u64);
            let uniform: f64 = rng.random();
            due_ns += -(1.0 - uniform).ln() / per_second * 1e9;
        }
        Self { at_ns }
    }

    /// The last due time, nanoseconds after the start.
    pub fn last_ns(&self) -> u64 {
        self.at_ns.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inf_is_all_at_once() {
        assert_eq!(Schedule::new(Rate::AllAtOnce, 3, 1).at_ns, [0, 0, 0]);
    }

    #[test]
    fn rates_that_are_no_rates_are_refused() {
        for bad in ["0", "-1", "nan", "-inf", "", "fast"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Rate::parse("inf"), Ok(Rate::AllAtOnce));
        assert_eq!(Rate::parse("2.5"), Ok(Rate::PerSecond(2.5)));
    }

    /// Gaps are exponential: mean 1/rate, coefficient of variation 1, and a share 1/e of them longer than the mean.
    #[test]
    fn gaps_have_the_shape_of_a_poisson_process() {
        let at_ns = Schedule::new(Rate::PerSecond(1000.0), 20_001, 7).at_ns;
        let gaps: Vec<f64> = at_ns.windows(2).map(|w| (w[1] - w[0]) as f64 / 1e6).collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let sd = (gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / n).sqrt();
        let longer = gaps.iter().filter(|g| **g > 1.0).count() as f64 / n;
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        assert!((sd / mean - 1.0).abs() < 0.05, "{sd}");
        assert!((longer - (-1.0_f64).exp()).abs() < 0.02, "{longer}");
    }

    proptest! {
        #[test]
        fn one_seed_one_schedule_in_order(seed: u64, count in 0_usize..300, rate in 0.01_f64..10_000.0) {
            let schedule = Schedule::new(Rate::PerSecond(rate), count, seed);
            prop_assert_eq!(&schedule, &Schedule::new(Rate::PerSecond(rate), count, seed));
            prop_assert_eq!(schedule.at_ns.len(), count);
            prop_assert!(schedule.at_ns.is_sorted());
        }

        #[test]
        fn twice_the_rate_is_half_the_time(seed: u64) {
            let slow = Schedule::new(Rate::PerSecond(10.0), 100, seed).last_ns() as f64;
            let fast = Schedule::new(Rate::PerSecond(20.0), 100, seed).last_ns() as f64;
            prop_assert!((slow / fast - 2.0).abs() < 1e-6);
        }
    }
}
