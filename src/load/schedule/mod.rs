//! When each request is due: made once, from one seed, before the first request leaves.
//!
//! Rule: a schedule is absolute. Nothing that happens during a run (a slow answer, a late wake-up, a full server) moves a
//! later arrival, else the load under test is not the load asked for. Deliberately not here: keeping time, see `pacer`.

mod file;
mod shape;
mod stages;
mod ticks;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use shape::Shape;
pub use stages::{Stage, Stages, parse_seconds};
pub use ticks::TracePace;

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

/// Which arrivals are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    /// How fast.
    pub pace: Pace,
    /// How regular.
    pub shape: Shape,
    /// No request is due after this.
    pub duration: Option<Duration>,
}

/// How fast requests arrive.
#[derive(Clone, Debug, PartialEq)]
pub enum Pace {
    /// At one rate.
    Rate(Rate),
    /// At a rate that changes.
    Stages(Stages),
    /// When a schedule that was saved says, whatever the shape.
    Saved(Arc<Schedule>),
    /// When the requests of the trace that is the data set came.
    Trace {
        /// How its times are kept.
        pace: TracePace,
        /// The due times; none before the data set was read.
        schedule: Arc<Schedule>,
    },
}

impl From<Rate> for Arrivals {
    /// Poisson arrivals, as many as there are prompts.
    fn from(rate: Rate) -> Self {
        Self { pace: Pace::Rate(rate), shape: Shape::Poisson, duration: None }
    }
}

impl Arrivals {
    /// The mean rate, requests a second; `None` where all are due at once, or all of a saved schedule at one moment.
    pub fn mean_per_s(&self) -> Option<f64> {
        match &self.pace {
            Pace::Rate(rate) => rate.per_second(),
            Pace::Stages(stages) => Some(stages.mean_per_s()),
            Pace::Saved(schedule) | Pace::Trace { schedule, .. } => schedule.mean_per_s(),
        }
    }

    /// The highest rate, as far as it is planned, requests a second.
    pub fn peak_per_s(&self) -> Option<f64> {
        match &self.pace {
            Pace::Stages(stages) => Some(stages.peak_per_s()),
            Pace::Rate(_) | Pace::Saved(_) | Pace::Trace { .. } => self.mean_per_s(),
        }
    }

    /// For the report: the rate as `bench_serving` has it, `inf` where all are due at once.
    pub fn rate_text(&self) -> String {
        self.mean_per_s().map_or_else(|| "inf".to_owned(), |rate| rate.to_string())
    }

    /// For the report: how arrivals are spread.
    pub fn shape_text(&self) -> String {
        match &self.pace {
            Pace::Saved(_) => "saved".to_owned(),
            Pace::Trace { .. } => "trace".to_owned(),
            Pace::Rate(_) | Pace::Stages(_) => self.shape.to_string(),
        }
    }

    /// What says how long arrivals at a rate go on; `None` where they last as long as there are prompts, or have times of their own.
    pub fn time_flag(&self) -> Option<&'static str> {
        match self.pace {
            Pace::Stages(_) => Some("--stages"),
            Pace::Rate(Rate::PerSecond(_)) => self.duration.map(|_| "--duration"),
            Pace::Rate(Rate::AllAtOnce) | Pace::Saved(_) | Pace::Trace { .. } => None,
        }
    }

    /// The number of requests follows from the time, not from the prompts.
    pub fn ends_by_itself(&self) -> bool {
        self.duration.is_some() || !matches!(self.pace, Pace::Rate(_))
    }
}

/// Due times of all requests of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// Nanoseconds after the start of the run, in order; one for each request that has a time of its own.
    pub at_ns: Vec<u64>,
    /// The requests after those: turns of sessions, each due when another was answered.
    pub waits: Vec<Wait>,
}

/// What a turn waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// The answer to this request, counted from 0 over the due times and then the turns.
    pub after: usize,
    /// So long after that answer.
    pub think_ns: u64,
    /// And not before this time of the run.
    pub not_before_ns: u64,
}

impl Schedule {
    /// Gaps added up from 0, as in `bench_serving`: the first request is due at 0, the next one gap later. At most `most`;
    /// fewer where the duration, the stages or the saved schedule end before.
    pub fn new(arrivals: &Arrivals, most: usize, seed: u64) -> Self {
        let end_ns = arrivals.duration.map_or(u64::MAX, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        if let Pace::Saved(schedule) | Pace::Trace { schedule, .. } = &arrivals.pace {
            let due = schedule.at_ns.iter().copied().take(most).take_while(|at_ns| *at_ns < end_ns);
            return Self { at_ns: due.collect(), waits: Vec::new() };
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut requests = 0.0;
        let mut at_ns = Vec::with_capacity(most.min(1 << 20));
        while at_ns.len() < most {
            let seconds = match &arrivals.pace {
                Pace::Rate(rate) => rate.per_second().map_or(0.0, |per_second| requests / per_second),
                Pace::Stages(stages) => match stages.time_of(requests) {
                    Some(seconds) => seconds,
                    None => break,
                },
                Pace::Saved(_) | Pace::Trace { .. } => break,
            };
            let due_ns = (seconds * 1e9) as u64;
            if due_ns >= end_ns {
                break;
            }
            at_ns.push(due_ns);
            requests += arrivals.shape.gap(&mut rng);
        }
        Self { at_ns, waits: Vec::new() }
    }

    fn mean_per_s(&self) -> Option<f64> {
        let last_ns = self.last_ns();
        (last_ns > 0).then(|| (self.at_ns.len() - 1) as f64 * 1e9 / last_ns as f64)
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

    fn poisson(per_second: f64) -> Arrivals {
        Rate::PerSecond(per_second).into()
    }

    #[test]
    fn inf_is_all_at_once() {
        assert_eq!(Schedule::new(&Rate::AllAtOnce.into(), 3, 1).at_ns, [0, 0, 0]);
    }

    #[test]
    fn rates_that_are_no_rates_are_refused() {
        for bad in ["0", "-1", "nan", "-inf", "", "fast"] {
            assert!(Rate::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Rate::parse("inf"), Ok(Rate::AllAtOnce));
        assert_eq!(Rate::parse("2.5"), Ok(Rate::PerSecond(2.5)));
    }

    #[test]
    fn a_duration_ends_a_run_and_constant_arrivals_are_exact() {
        let arrivals =
            Arrivals { shape: Shape::Constant, duration: Some(Duration::from_millis(30)), ..poisson(100.0) };
        assert_eq!(Schedule::new(&arrivals, 100, 1).at_ns, [0, 10_000_000, 20_000_000]);
        assert_eq!(Schedule::new(&arrivals, 2, 1).at_ns.len(), 2);
        assert!(arrivals.ends_by_itself() && !poisson(1.0).ends_by_itself());
    }

    #[test]
    fn each_stage_has_the_requests_that_are_its_due() {
        let stages = Stages::parse("50@10s,50..150@10s,150@10s").unwrap();
        let arrivals = Arrivals { pace: Pace::Stages(stages), ..poisson(1.0) };
        let mut counts = [0_f64; 3];
        for seed in 0..20 {
            let schedule = Schedule::new(&arrivals, usize::MAX, seed);
            assert!(schedule.at_ns.is_sorted());
            schedule.at_ns.iter().for_each(|at_ns| counts[(at_ns / 10_000_000_000) as usize] += 1.0);
        }
        for (count, expected) in counts.iter().zip([10_000.0, 20_000.0, 30_000.0_f64]) {
            assert!((count - expected).abs() < 4.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn a_saved_schedule_is_kept_whatever_the_seed() {
        let saved = Arc::new(Schedule::new(&poisson(100.0), 50, 3));
        let arrivals = Arrivals { pace: Pace::Saved(Arc::clone(&saved)), ..poisson(1.0) };
        assert_eq!(Schedule::new(&arrivals, usize::MAX, 99), *saved);
        assert_eq!(Schedule::new(&arrivals, 7, 99).at_ns, saved.at_ns[..7]);
        assert_eq!(Schedule::new(&poisson(100.0), 50, 3).hash(), saved.hash());
        assert_ne!(Schedule::new(&poisson(100.0), 50, 4).hash(), saved.hash());
    }

    proptest! {
        #[test]
        fn one_seed_one_schedule_in_order(seed: u64, count in 0_usize..300, rate in 0.01_f64..10_000.0) {
            let schedule = Schedule::new(&poisson(rate), count, seed);
            prop_assert_eq!(&schedule, &Schedule::new(&poisson(rate), count, seed));
            prop_assert_eq!(schedule.at_ns.len(), count);
            prop_assert!(schedule.at_ns.is_sorted());
        }

        #[test]
        fn twice_the_rate_is_half_the_time(seed: u64) {
            let slow = Schedule::new(&poisson(10.0), 100, seed).last_ns() as f64;
            let fast = Schedule::new(&poisson(20.0), 100, seed).last_ns() as f64;
            prop_assert!((slow / fast - 2.0).abs() < 1e-6);
        }
    }
}
