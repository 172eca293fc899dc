//! The plan: capacities first, then each arm at shares of the weakest one's, all seeds alike for all arms.
//!
//! Rule: one workload after the other, so that only one is held in memory. Deliberately not here: what is printed.

use milepost::sim::Profile;

use crate::arms::Arm;
use crate::capacity::{capacity, guess};
use crate::crew;
use crate::figures::{Figures, figures};
use crate::options::Options;
use crate::play::{Fleet, play};
use crate::workload::{Kind, Workload};

/// Workers of the fleet.
pub const WORKERS: usize = 8;
/// Loads, as shares of the weakest arm's capacity.
pub const LOADS: [f64; 3] = [0.5, 0.8, 0.95];

/// All that is known of one workload.
pub struct Measured {
    /// Which.
    pub kind: Kind,
    /// Requests of a run.
    pub requests: usize,
    /// By arm, in the order given.
    pub capacities: Vec<f64>,
    /// Rate of each of [`LOADS`], requests a second.
    pub rates: Vec<f64>,
    /// By arm, load and seed.
    pub cells: Vec<Vec<Vec<Figures>>>,
}

impl Measured {
    /// The arm that can take least.
    pub fn weakest(&self) -> usize {
        let capacities = self.capacities.iter().enumerate();
        capacities.min_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(arm, _)| arm)
    }
}

/// Requests of a run: enough for a 99th percentile and for several times the longest stay.
fn requests(kind: Kind) -> usize {
    match kind {
        Kind::Balanced | Kind::Zipf | Kind::ColdShift => 5_000,
        Kind::Mooncake => 4_000,
        Kind::Chat => 12_000,
        Kind::Plain => 10_000,
    }
}

/// Measures one workload.
pub fn measure(kind: Kind, arms: &[Arm], options: &Options) -> Result<Measured, String> {
    let fleet = Fleet { profile: Profile::default(), workers: WORKERS };
    let requests = (requests(kind) as f64 * options.scale) as usize;
    let seeds: Vec<u64> = (1..=options.seeds).collect();
    let name = kind.name();
    let workloads: Vec<Workload> =
        crew::all(&format!("{name}: drawing"), &seeds, |seed| kind.draw(*seed, requests))?;
    let first = workloads.first().ok_or("no seed")?;
    let start = guess(first, &fleet);
    let capacities =
        crew::all(&format!("{name}: capacities"), arms, |arm| capacity(arm, first, &fleet, start))?;
    let least = capacities.iter().copied().fold(f64::INFINITY, f64::min);
    let rates: Vec<f64> = LOADS.iter().map(|load| load * least).collect();
    let mut jobs = Vec::new();
    for arm in arms {
        for rate in &rates {
            jobs.extend(workloads.iter().zip(&seeds).map(|(workload, seed)| (arm, *rate, workload, *seed)));
        }
    }
    let runs = crew::all(&format!("{name}: runs"), &jobs, |(arm, rate, workload, seed)| {
        let mut router = arm.start(*seed, fleet.workers)?;
        let played = play(workload, *rate, &fleet, &mut *router);
        Ok(figures(workload, &played, fleet.workers))
    })?;
    let by_load = runs.chunks(seeds.len()).map(<[Figures]>::to_vec).collect::<Vec<_>>();
    let cells = by_load.chunks(rates.len()).map(<[Vec<Figures>]>::to_vec).collect();
    Ok(Measured { kind, requests: first.requests.len(), capacities, rates, cells })
}
