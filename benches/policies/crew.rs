//! Jobs done by as many threads as there are cores, with their results in the order of the jobs.
//!
//! Rule: a result depends on its job alone, so the number of threads and their pace change nothing. The first error ends all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::progress;

/// Does all `jobs`; `what` is told on a terminal with how many are done.
pub fn all<J: Sync, T: Send>(
    what: &str,
    jobs: &[J],
    work: impl Fn(&J) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Mutex<Vec<Option<Result<T, String>>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(jobs.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, job)) = take(&next, jobs) {
                    let result = work(job);
                    if result.is_err() {
                        next.store(jobs.len(), Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(result);
                    let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                    progress::show(&format!("{what}: {done} of {}", jobs.len()));
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What is missing was not begun because of an error, which is among the others.
    results.into_iter().flatten().collect()
}

fn take<'a, J>(next: &AtomicUsize, jobs: &'a [J]) -> Option<(usize, &'a J)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(place).map(|job| (place, job))
}
