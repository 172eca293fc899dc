//! Plays seeds, one after the other.
//!
//! Deliberately not here: what is wrong with a world (`invariants`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milepost::clock::Clock;

use crate::invariants;
use crate::plan::Plan;
use crate::world::{Ended, run};

/// Worlds in the suite.
const SUITE: u64 = 300;
/// Real time that no world may take; one that does will not end.
const STUCK: Duration = Duration::from_secs(120);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, got {text:?}")))
}

/// The world of a seed, told in full.
fn told(ended: &Ended, broken: &[String]) -> String {
    let seed = ended.plan.seed;
    let mut out = format!("{:#?}\n", ended.plan.config);
    let plan = &ended.plan;
    let _ = writeln!(out, "seed {seed}: {} workers, pipes of {} B", plan.workers, plan.room_bytes);
    let _ = writeln!(
        out,
        "worker_idle {:?}, panic_every {}, stop_at {:?}",
        plan.worker_idle, plan.panic_every, plan.stop_at
    );
    for visit in &plan.visits {
        let numbers: Vec<usize> = visit.requests.iter().map(|r| r.number).collect();
        let ahead = if visit.pipelined { " ahead" } else { "" };
        let _ = writeln!(out, "requests {numbers:?}{ahead}: {:?}", visit.manner);
    }
    out += &story(ended);
    let _ = writeln!(out, "\nseed {seed}: {} promises broken", broken.len());
    for what in broken {
        let _ = writeln!(out, "  {what}");
    }
    let _ = writeln!(
        out,
        "again: MILEPOST_SEED={seed} cargo test -p milepost --test simulation worlds -- --nocapture"
    );
    out
}

/// What happened, and what the trace says of it.
fn story(ended: &Ended) -> String {
    let mut out = ended.story.told().lines.join("\n");
    out.push('\n');
    for record in &ended.requests {
        let mut record = record.clone();
        // The one thing of another world: ids that the router makes hold its process's number.
        if !record.request_id.starts_with('r') {
            record.request_id.clear();
        }
        let _ = writeln!(out, "{}", serde_json::to_string(&record).unwrap());
    }
    out
}

fn play(seed: u64) -> Ended {
    run(Plan::of(seed))
}

/// Ends the process if a world takes for ever, as one that turns in a circle cannot be interrupted.
fn guard(seed: &'static AtomicU64) {
    std::thread::spawn(move || {
        let mut last = u64::MAX;
        loop {
            std::thread::sleep(STUCK);
            let now = seed.load(Ordering::Relaxed);
            if now == last {
                eprintln!(
                    "seed {now} does not end: MILEPOST_SEED={now} cargo test -p milepost --test simulation worlds"
                );
                std::process::exit(1);
            }
            last = now;
        }
    });
}

#[test]
fn worlds_hold_what_the_router_promises() {
    static PLAYED: AtomicU64 = AtomicU64::new(0);
    let only = number("MILEPOST_SEED");
    let first = only.or(number("MILEPOST_FIRST_SEED")).unwrap_or(0);
    let count = only.map_or_else(|| number("MILEPOST_SEEDS").unwrap_or(SUITE), |_| 1);
    guard(&PLAYED);
    let began_ns = Clock::system().mono_ns();
    let mut met = BTreeMap::new();
    for seed in first..first + count {
        PLAYED.store(seed, Ordering::Relaxed);
        let ended = play(seed);
        let broken = invariants::check(&ended);
        assert!(broken.is_empty(), "{}", told(&ended, &broken));
        if only.is_some() {
            println!("{}", told(&ended, &broken));
        }
        invariants::count(&ended, &mut met);
        let played = seed - first + 1;
        if played.is_multiple_of(1_000) {
            let seconds = (Clock::system().mono_ns() - began_ns) as f64 / 1e9;
            println!("{played} of {count} worlds, {:.0} a second", played as f64 / seconds);
        }
    }
    if only.is_none() {
        for (what, times) in &met {
            println!("{times:>9} {what}");
        }
    }
    if count >= SUITE {
        let missing: Vec<&str> =
            invariants::MUST_BE_MET.iter().filter(|what| !met.contains_key(**what)).copied().collect();
        assert!(missing.is_empty(), "no world had {missing:?}");
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..30 {
        let (one, other) = (story(&play(seed)), story(&play(seed)));
        if let Some((a, b)) = one.lines().zip(other.lines()).find(|(a, b)| a != b) {
            panic!("seed {seed}, first difference:\n{a}\n{b}");
        }
        assert_eq!(one.len(), other.len(), "seed {seed}");
    }
}
