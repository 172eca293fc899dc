//! Decisions by several threads at once: how long the lock round a decision is held when everybody wants it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use milepost::clock::Clock;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::LockStep;
use super::stage::Stage;

/// Workers of the fleet that is decided on.
const FLEET: usize = 8;
/// Of one look; the median of some is told.
const TIME: Duration = Duration::from_millis(100);
const LOOKS: usize = 7;
const LOOKS_QUICK: usize = 1;

/// With 1, 2, 4, ... threads up to twice the cores.
pub(super) fn measure(cores: usize, quick: bool) -> Result<Vec<LockStep>, String> {
    let looks = if quick { LOOKS_QUICK } else { LOOKS };
    let threads = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n <= 2 * cores);
    let stage = Stage::new("cache_aware", FLEET, false)?;
    let step = |threads| {
        let mut each: Vec<f64> = (0..looks).map(|_| each_ns(&stage, cores, threads)).collect();
        LockStep { threads, each_ns: crate::table::median(&mut each).unwrap_or(0.0) }
    };
    Ok(threads.map(step).collect())
}

fn each_ns(stage: &Stage, cores: usize, threads: usize) -> f64 {
    let (decisions, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let clock = Clock::system();
    let start_ns = clock.mono_ns();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (decisions, stop) = (&decisions, &stop);
            scope.spawn(move || {
                let mut set = CpuSet::new();
                (0..cores).for_each(|core| set.set(core));
                // Refused, it stays where the bench is, and the number is that of fewer cores.
                let _ = sched_setaffinity(None, &set);
                let mut made = 0;
                while !stop.load(Ordering::Relaxed) {
                    stage.decide(thread * 509 + made);
                    made += 1;
                }
                decisions.fetch_add(made as u64, Ordering::Relaxed);
            });
        }
        std::thread::sleep(TIME);
        stop.store(true, Ordering::Relaxed);
    });
    let took_ns = clock.mono_ns() - start_ns;
    took_ns as f64 / decisions.load(Ordering::Relaxed).max(1) as f64
}
