//! The plan: capacities first, then each arm at loads made of them, all seeds alike for all arms.
//!
//! Rule: one workload after the other, so that only one is held in memory. Deliberately not here: what is printed.

use milepost::sim::Profile;

use crate::arms::{Arm, PEER};
use crate::capacity::{capacity, guess};
use crate::crew;
use crate::figures::{Figures, figures, pooled_share};
use crate::options::Options;
use crate::play::{Fleet, play};
use crate::stats::Mean;
use crate::workload::{Kind, Workload};

/// Workers of the fleet.
pub const WORKERS: usize = 8;
/// Loads, as shares of the weakest arm's capacity.
pub const SHARES: [f64; 3] = [0.5, 0.8, 0.95];
/// Place of the load at which arms are compared.
pub const USUAL: usize = 1;
/// The share of the peer's capacity at which a last load lies.
pub const PEER_SHARE: f64 = 0.8;
/// Fewer steady runs of a cell than this share: the arm is saturated there.
pub const STEADY_SHARE: f64 = 0.8;

/// Requests a second, and what they are a share of.
#[derive(Clone, Debug)]
pub struct Load {
    /// In words.
    pub name: String,
    /// Requests a second.
    pub rate: f64,
}

/// An arm at a load, all seeds.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// By seed.
    pub runs: Vec<Figures>,
}

impl Cell {
    /// Over the seeds.
    pub fn mean(&self, value: impl Fn(&Figures) -> f64) -> Mean {
        Mean::of(self.runs.iter().map(value))
    }

    /// This arm's by the other's, seed by seed.
    pub fn ratio(&self, other: &Self, value: impl Fn(&Figures) -> f64) -> Mean {
        Mean::of_ratios(self.runs.iter().zip(&other.runs).map(|(a, b)| (value(a), value(b))))
    }

    /// Too few of its runs were in a steady state: it has no latency, as a longer run would have a longer one.
    pub fn is_saturated(&self) -> bool {
        let steady = self.runs.iter().filter(|run| run.is_steady).count();
        (steady as f64) < self.runs.len() as f64 * STEADY_SHARE
    }
}

/// All that is known of one workload.
pub struct Measured {
    /// Which.
    pub kind: Kind,
    /// Requests of a run.
    pub requests: usize,
    /// By arm, in the order given.
    pub capacities: Vec<f64>,
    /// Loads.
    pub loads: Vec<Load>,
    /// By arm and load.
    pub cells: Vec<Vec<Cell>>,
    /// By load: part of the prompt tokens that one cache of the fleet's size would have had.
    pub pooled_shares: Vec<f64>,
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
    let loads = loads(arms, &capacities);
    let mut jobs = Vec::new();
    for place in 0..arms.len() {
        for load in &loads {
            jobs.extend(workloads.iter().zip(&seeds).map(|(workload, seed)| (place, load, workload, *seed)));
        }
    }
    let runs = crew::all(&format!("{name}: runs"), &jobs, |(arm, load, workload, seed)| {
        let mut router = arms[*arm].start(*seed, fleet.workers)?;
        let played = play(workload, load.rate, &fleet, &mut *router);
        // Who chooses changes nothing but the moments at which chats go on.
        let pooled = (*arm == 0).then(|| pooled_share(workload, &played, &fleet));
        Ok((figures(workload, &played, &fleet), pooled))
    })?;
    let by_load: Vec<_> = runs.chunks(seeds.len()).collect();
    let cell = |runs: &&[(Figures, Option<f64>)]| Cell { runs: runs.iter().map(|(run, _)| *run).collect() };
    let cells = by_load.chunks(loads.len()).map(|arm| arm.iter().map(cell).collect()).collect();
    let pooled = |runs: &&[(Figures, Option<f64>)]| Mean::of(runs.iter().filter_map(|run| run.1)).value;
    let pooled_shares = by_load.iter().take(loads.len()).map(pooled).collect();
    Ok(Measured { kind, requests: first.requests.len(), capacities, loads, cells, pooled_shares })
}

/// Shares of what the weakest can take, and of what the peer's `cache_aware` can.
fn loads(arms: &[Arm], capacities: &[f64]) -> Vec<Load> {
    let least = capacities.iter().copied().fold(f64::INFINITY, f64::min);
    let share =
        |share: &f64| Load { name: format!("{share} of the weakest arm's capacity"), rate: share * least };
    let peer = arms.iter().position(|arm| arm.name == peer_cache_aware()).map(|place| capacities[place]);
    let peer = peer.map(|capacity| Load {
        name: format!("{PEER_SHARE} of the capacity of `{}`", peer_cache_aware()),
        rate: PEER_SHARE * capacity,
    });
    SHARES.iter().map(share).chain(peer).collect()
}

/// The arm that is to be beaten.
pub fn peer_cache_aware() -> String {
    format!("{PEER} cache_aware")
}
