//! Decisions by several threads at once: how long the lock round a decision is held when everybody wants it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use milepost::clock::Clock;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::LockStep;
use super::stage::Stage;

/// Workers of the fleet that is decided on.
const FLEET: usize = 8;
const TIME: Duration = Duration::from_millis(400);
const TIME_QUICK: Duration = Duration::from_millis(50);

/// With 1, 2, 4, ... threads up to twice the cores.
pub(super) fn measure(cores: usize, quick: bool) -> Result<Vec<LockStep>, String> {
    let time = if quick { TIME_QUICK } else { TIME };
    let threads = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n <= 2 * cores);
    let stage = Stage::new("cache_aware", FLEET, false)?;
    Ok(threads.map(|threads| LockStep { threads, each_ns: each_ns(&stage, cores, threads, time) }).collect())
}

fn each_ns(stage: &Stage, cores: usize, threads: usize, time: Duration) -> f64 {
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
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let took_ns = clock.mono_ns() - start_ns;
    took_ns as f64 / decisions.load(Ordering::Relaxed).max(1) as f64
}
