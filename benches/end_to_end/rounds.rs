//! Peers by cases: interleaved rounds, medians, and what is no number.
//!
//! Rule: all peers in one run, one after the other within each round, so that a machine that changes its mind changes it for
//! all of them. Closed loops have a round before those that count, which sends prompts that nobody has seen: a cache of prefixes
//! takes memory for them then, page by page, and has it afterwards. A run that was no measurement is told and left out.
//! Deliberately not here: what the cases are.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::{Broken, Case, Load, Pace, Tally, quantile};
use crate::page::progress;
use crate::peers::{Peer, Running};
use crate::table::{median, short};

/// The load generator's core is full from here on; a proxy that waited for it meanwhile was measured at another load.
const FULL: f64 = 0.98;
/// A proxy that uses this much of its core is what limits a closed loop.
const BUSY: f64 = 0.85;

/// What a proxy does later for a run, such as writing its trace, is done so long after it.
const REST: Duration = Duration::from_millis(50);

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// CPU of the proxy for each request or event, microseconds.
    pub cpu_us: f64,
    /// Share of its core that the proxy used.
    pub proxy_share: f64,
    /// Share of its core that the load generator used.
    pub load_share: f64,
    /// CPU of the load generator and the worker for each request or event, microseconds.
    pub load_us: f64,
    /// Requests a second.
    pub per_s: f64,
    /// To the whole answer, half and 99 of 100 requests, microseconds.
    pub whole_us: [f64; 2],
    /// To the first byte of the body, half and 99 of 100 requests, microseconds.
    pub first_us: [f64; 2],
}

/// All runs of each peer and case.
#[derive(Default)]
pub struct Samples {
    runs: BTreeMap<(usize, usize), Vec<Sample>>,
    first: BTreeMap<(usize, usize), Sample>,
    broken: BTreeMap<(usize, usize), Vec<String>>,
    rounds: usize,
    names: Vec<String>,
    titles: Vec<String>,
}

impl Samples {
    /// Runs every case `rounds` times on every peer, closed loops once before.
    pub fn take(
        load: &mut Load,
        peers: &[impl Borrow<Running>],
        cases: &[Case],
        rounds: usize,
    ) -> Result<Self, Broken> {
        let names = peers.iter().map(|peer| peer.borrow().name.clone()).collect();
        let titles = cases.iter().map(|case| case.title.clone()).collect();
        let mut samples = Self { rounds, names, titles, ..Self::default() };
        for round in 0..=rounds {
            let counts = |case: &Case| round > 0 || matches!(case.pace, Pace::Closed(_));
            for (c, case) in cases.iter().enumerate().filter(|(_, case)| counts(case)) {
                for (p, peer) in peers.iter().map(Borrow::borrow).enumerate() {
                    progress(&format!("round {round} of {rounds}, {}: {}", case.title, peer.name));
                    match sample(load, peer, case) {
                        Ok(sample) if round == 0 => drop(samples.first.insert((p, c), sample)),
                        Ok(sample) => samples.runs.entry((p, c)).or_default().push(sample),
                        Err(Broken::Interrupted) => return Err(Broken::Interrupted),
                        // It will fail again where it counts, and be told there.
                        Err(Broken::Invalid(_)) if round == 0 => {}
                        Err(Broken::Invalid(why)) => samples.broken.entry((p, c)).or_default().push(why),
                    }
                }
            }
        }
        Ok(samples)
    }

    /// The median of something over the runs of a peer and a case, unless too few of them count.
    pub fn median(&self, peer: usize, case: usize, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        let runs = self.runs.get(&(peer, case)).filter(|runs| runs.len() * 2 > self.rounds)?;
        median(&mut runs.iter().map(of).collect::<Vec<_>>())
    }

    /// Something of the round before those that count.
    pub fn first(&self, peer: usize, case: usize, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        self.first.get(&(peer, case)).map(of)
    }

    /// A median as a cell.
    pub fn cell(&self, peer: usize, case: usize, of: impl Fn(&Sample) -> f64) -> String {
        self.median(peer, case, of).map_or_else(|| "none".to_owned(), short)
    }

    /// What was left out, a line each.
    pub fn notes(&self) -> Vec<String> {
        let note = |(&(p, c), whys): (&(usize, usize), &Vec<String>)| {
            let counts = self.runs.get(&(p, c)).is_some_and(|runs| runs.len() * 2 > self.rounds);
            let so = if counts { "left out" } else { "failed, so there is no number" };
            let (name, title, last) =
                (&self.names[p], &self.titles[c], whys.last().map_or("", String::as_str));
            format!("{name}, {title}: {} of {} runs {so}: {last}", whys.len(), self.rounds)
        };
        self.broken.iter().map(note).collect()
    }
}

/// One run, if it was a measurement.
pub fn sample(load: &mut Load, peer: &Running, case: &Case) -> Result<Sample, Broken> {
    let before = peer.cpu();
    let tally = load.run(case, peer.port)?;
    load.serve(REST)?;
    let cpu_ns = peer.cpu().since(&before);
    peer.empty_trace();
    let wall_s = tally.wall_ns as f64 / 1e9;
    let us = |values: &[u64]| [0.5, 0.99].map(|part| quantile(values, part) as f64 / 1e3);
    let sample = Sample {
        cpu_us: cpu_ns as f64 / 1e3 / case.units() as f64,
        proxy_share: cpu_ns as f64 / tally.wall_ns as f64,
        load_share: tally.own_share(),
        load_us: tally.own_cpu_ns as f64 / 1e3 / case.units() as f64,
        per_s: tally.answers() as f64 / wall_s,
        whole_us: us(&tally.whole_ns),
        first_us: us(&tally.first_ns),
    };
    judge(peer, case, &tally, &sample)?;
    Ok(sample)
}

fn judge(peer: &Running, case: &Case, tally: &Tally, sample: &Sample) -> Result<(), Broken> {
    if tally.answers() < case.requests {
        return Err(Broken::invalid(format!("{} answers to {} requests", tally.answers(), case.requests)));
    }
    let late_ns = quantile(&tally.late_ns, 0.99);
    match case.pace {
        Pace::PerSecond(_) if late_ns > case.late_ns => {
            let us = late_ns / 1_000;
            Err(Broken::invalid(format!("the load generator was late: one request in a hundred by {us} µs")))
        }
        Pace::Closed(_)
            if peer.peer != Peer::Direct && sample.load_share > FULL && sample.proxy_share < BUSY =>
        {
            let share = sample.proxy_share * 100.0;
            let why =
                format!("the load generator's core was full, and the proxy used {share:.0} % of its own");
            Err(Broken::invalid(why))
        }
        _ => Ok(()),
    }
}
