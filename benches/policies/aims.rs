//! What the policy of our own was made for, and whether it got there.
//!
//! Rule: an aim is missed if one of its cells misses it, and the worst one is told. What no policy could have met (less room than
//! the workload needs, a bound above the aim) is told as such beside it, and is missed all the same where the aim says so.

use std::fmt::Write;

use crate::arms::Arm;
use crate::decide::Decided;
use crate::figures::Figures;
use crate::measure::{Cell, Measured, SHARES, USUAL, peer_cache_aware};
use crate::stats::Mean;
use crate::tables::{hits, short};
use crate::workload::Kind;

/// The policy that has them.
pub const OURS: &str = "lowest_ttft";
/// What is known to be good without sharing.
const PLAIN_PEER: &str = "shortest_queue";

const LEAST_HITS: f64 = 0.95;
/// One cache of the fleet's size has this part of what one that never forgets has: there is room.
const ROOM: f64 = 0.99;
const MOST_TTFT_RATIO: f64 = 0.5;
const MOST_LOSS: f64 = 1.02;
const MOST_IMBALANCE: f64 = 1.2;
/// Workers and µs.
const MOST_DECISION_US: [(usize, f64); 2] = [(64, 5.0), (512, 15.0)];

struct Aim {
    what: String,
    is_met: Option<bool>,
    found: String,
}

/// The table of aims; `None` if the policy is not among the arms.
pub fn table(all: &[Measured], arms: &[Arm], times: &[Decided]) -> Option<String> {
    let find = |name: &str| arms.iter().position(|arm| arm.name == name);
    let ours = find(OURS)?;
    let mut rows = vec![hit_share(all, ours)];
    rows.extend(find(&peer_cache_aware()).map(|peer| first_token(all, ours, peer)));
    rows.extend(find(PLAIN_PEER).map(|peer| without_sharing(all, ours, peer)));
    rows.push(balance(all, ours));
    rows.push(decision(times));
    let mut out = format!("| aim of `{OURS}` | | found |\n|---|---|---|\n");
    for Aim { what, is_met, found } in rows {
        let verdict = match is_met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        let _ = writeln!(out, "| {what} | {verdict} | {found} |");
    }
    Some(out)
}

fn sharing(all: &[Measured]) -> impl Iterator<Item = &Measured> {
    all.iter().filter(|measured| measured.kind.shares())
}

fn hit_share(all: &[Measured], ours: usize) -> Aim {
    let mut found = Vec::new();
    let mut is_met = None;
    for measured in sharing(all) {
        let cells = measured.cells[ours].iter().zip(&measured.pooled_shares);
        let shares: Vec<(f64, f64)> = cells
            .map(|(cell, pooled)| {
                let possible = cell.mean(|run| run.possible_share).value;
                (hits(cell).value, pooled / possible)
            })
            .collect();
        let (least, room) = shares
            .iter()
            .fold((f64::INFINITY, f64::INFINITY), |(a, b), (hit, room)| (a.min(*hit), b.min(*room)));
        if room >= ROOM {
            is_met = Some(is_met.unwrap_or(true) && least >= LEAST_HITS);
            found.push(format!("{} {:.1} %", measured.kind.name(), least * 100.0));
        } else {
            found.push(format!(
                "{} {:.1} % (no room: one cache of the fleet's size has {:.1} %)",
                measured.kind.name(),
                least * 100.0,
                room * 100.0
            ));
        }
    }
    let what = format!(
        "hits at least {:.0} % of a cache that never forgets, where there is room",
        LEAST_HITS * 100.0
    );
    Aim { what, is_met, found: format!("least of all loads: {}", found.join(", ")) }
}

fn first_token(all: &[Measured], ours: usize, peer: usize) -> Aim {
    let mut found = Vec::new();
    let mut is_met = None;
    for measured in sharing(all) {
        let name = measured.kind.name();
        let ratio = |load: usize| ttft_ratio(&measured.cells[ours][load], &measured.cells[peer][load]);
        let usual = ratio(USUAL);
        is_met = Some(is_met.unwrap_or(true) && usual.is_some_and(|r| r.value <= MOST_TTFT_RATIO));
        let tell = |ratio: Option<Mean>| {
            ratio.map_or("saturated".to_owned(), |r| format!("{:.2} ± {:.2}", r.value, r.half))
        };
        let bound = &measured.cells[peer][USUAL];
        let bound = bound.mean(|run| run.least_ttft_p99_ms / run.ttft_p99_ms).value;
        let mut told = format!("{name} {}", tell(usual));
        if bound > MOST_TTFT_RATIO {
            let _ = write!(told, " (no policy gets below {bound:.2})");
        }
        if measured.loads.len() > SHARES.len() {
            let _ = write!(told, ", {} at the peer's own 0.8", tell(ratio(SHARES.len())));
        }
        found.push(told);
    }
    let what = format!(
        "TTFT p99 at {} of the weakest arm's capacity at most {MOST_TTFT_RATIO} of `{}`'s, on workloads that share",
        SHARES[USUAL],
        peer_cache_aware()
    );
    Aim { what, is_met, found: found.join("; ") }
}

fn ttft_ratio(ours: &Cell, peer: &Cell) -> Option<Mean> {
    let steady = !ours.is_saturated() && !peer.is_saturated();
    steady.then(|| ours.ratio(peer, |run| run.ttft_p99_ms))
}

/// What is compared, and its name.
type Value = (&'static str, fn(&Figures) -> f64);

fn without_sharing(all: &[Measured], ours: usize, peer: usize) -> Aim {
    let values: [Value; 4] = [
        ("TTFT p50", |run| run.ttft_p50_ms),
        ("TTFT p99", |run| run.ttft_p99_ms),
        ("E2E p50", |run| run.e2e_p50_ms),
        ("E2E p99", |run| run.e2e_p99_ms),
    ];
    let mut worst: Option<(Mean, String)> = None;
    for measured in all.iter().filter(|measured| measured.kind == Kind::Plain) {
        for (load, share) in SHARES.iter().enumerate() {
            let (ours, peer) = (&measured.cells[ours][load], &measured.cells[peer][load]);
            for (name, value) in values {
                let ratio = ours.ratio(peer, value);
                if worst.as_ref().is_none_or(|(worst, _)| ratio.value > worst.value) {
                    worst = Some((ratio, format!("{name} at {share}")));
                }
            }
        }
    }
    Aim {
        what: format!("without sharing never more than {MOST_LOSS} times `{PLAIN_PEER}`'s latency"),
        is_met: worst.as_ref().map(|(ratio, _)| ratio.value <= MOST_LOSS),
        found: worst.map_or(String::new(), |(r, at)| format!("worst: {at}, {:.3} ± {:.3}", r.value, r.half)),
    }
}

fn balance(all: &[Measured], ours: usize) -> Aim {
    let mut worst = (0.0, String::new());
    for measured in all {
        for (cell, load) in measured.cells[ours].iter().zip(&measured.loads) {
            let requests = cell.mean(|run| run.requests_imbalance).value;
            let tokens = cell.mean(|run| run.tokens_imbalance).value;
            for (value, of) in [(requests, "requests"), (tokens, "tokens")] {
                if value > worst.0 {
                    worst = (value, format!("{of}, {} at {}", measured.kind.name(), load.name));
                }
            }
        }
    }
    Aim {
        what: format!(
            "busiest worker at most {MOST_IMBALANCE} times the mean, in requests and in tokens computed"
        ),
        is_met: Some(worst.0 <= MOST_IMBALANCE),
        found: format!("worst: {:.2} ({})", worst.0, worst.1),
    }
}

fn decision(decided: &[Decided]) -> Aim {
    let ours: Vec<&Decided> = decided.iter().filter(|decided| decided.arm == OURS).collect();
    let at = |workers: usize| ours.iter().find(|decided| decided.workers == workers).map(|d| d.us);
    let limits = MOST_DECISION_US.iter();
    let mut is_met = limits.clone().map(|(workers, most)| at(*workers).map(|us| us <= *most));
    let found =
        limits.clone().filter_map(|(workers, _)| Some(format!("{} µs at {workers}", short(at(*workers)?))));
    let limits = limits.map(|(workers, most)| format!("{most} µs at {workers}")).collect::<Vec<_>>();
    Aim {
        what: format!("a decision, prompt of 10,000 characters: at most {} workers", limits.join(", ")),
        is_met: is_met.try_fold(true, |all, one| Some(all && one?)),
        found: format!("{} (measured, differs from run to run)", found.collect::<Vec<_>>().join(", ")),
    }
}
