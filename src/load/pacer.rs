//! Keeps the schedule: hands each request's index over at its due time.
//!
//! Rule: never early, never re-anchored, nothing skipped; whoever is late is late against the absolute clock, and the row
//! says by how much. A thread of its own, because tokio's timer has a grid of 1 ms (p99 lateness about 2 ms, against
//! 0.06 to 0.09 ms for `clock_nanosleep` and a short spin); in virtual time there is no thread, only that timer. Deliberately not here: what a request does.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::Timespec;
use tokio::sync::mpsc;

use super::schedule::Schedule;
use crate::clock::Clock;

/// The thread wakes this long before the due time and spins the rest: longer than a usual late wake-up, short enough that
/// 1,000 requests a second cost 6 % of a core.
const SPIN_NS: u64 = 60_000;
/// Longest single sleep, so that a stop is seen.
const NAP_NS: u64 = 50_000_000;

/// The due requests, in order. Dropping it stops the pacer.
#[derive(Debug)]
pub struct Paced {
    due: mpsc::Receiver<usize>,
    stopped: Arc<AtomicBool>,
}

impl Paced {
    /// The index of the next due request; `None` after the last.
    pub async fn next(&mut self) -> Option<usize> {
        self.due.recv().await
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Starts to hand over requests; the schedule's zero is `start_mono_ns`.
///
/// # Errors
/// The operating system gave no thread.
pub fn start(schedule: Arc<Schedule>, start_mono_ns: u64, clock: Clock) -> std::io::Result<Paced> {
    // Room for all, so that the pacer never waits for the other side.
    let (tx, due) = mpsc::channel(schedule.at_ns.len().max(1));
    let stopped = Arc::new(AtomicBool::new(false));
    if clock.is_virtual() {
        tokio::spawn(keep_virtual(schedule, start_mono_ns, clock, tx));
    } else {
        let flag = Arc::clone(&stopped);
        std::thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || keep(&schedule, start_mono_ns, &clock, &tx, &flag))?;
    }
    Ok(Paced { due, stopped })
}

async fn keep_virtual(schedule: Arc<Schedule>, start_mono_ns: u64, clock: Clock, tx: mpsc::Sender<usize>) {
    for (index, at_ns) in schedule.at_ns.iter().enumerate() {
        let left_ns = (start_mono_ns + at_ns).saturating_sub(clock.mono_ns());
        if left_ns > 0 {
            tokio::time::sleep(Duration::from_nanos(left_ns)).await;
        }
        if tx.try_send(index).is_err() {
            return;
        }
    }
}

fn keep(
    schedule: &Schedule,
    start_mono_ns: u64,
    clock: &Clock,
    tx: &mpsc::Sender<usize>,
    stopped: &AtomicBool,
) {
    // Without it the kernel may round every wake-up by 50 us; a refusal costs accuracy only, and lateness is reported.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    for (index, at_ns) in schedule.at_ns.iter().enumerate() {
        if !wait_until(start_mono_ns + at_ns, clock, stopped) || tx.try_send(index).is_err() {
            return;
        }
    }
}

/// False if stopped meanwhile.
fn wait_until(due_ns: u64, clock: &Clock, stopped: &AtomicBool) -> bool {
    loop {
        if stopped.load(Ordering::Relaxed) {
            return false;
        }
        let now_ns = clock.mono_ns();
        if now_ns >= due_ns {
            return true;
        }
        let wake_ns = due_ns.saturating_sub(SPIN_NS).min(now_ns + NAP_NS);
        if wake_ns > now_ns {
            let wake = Timespec {
                tv_sec: i64::try_from(wake_ns / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(wake_ns % 1_000_000_000).unwrap_or(0),
            };
            // An interrupted sleep is only a shorter one: the loop looks at the clock again.
            let _ = clock_nanosleep_absolute(ClockId::Monotonic, &wake);
        } else {
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::schedule::Rate;

    #[tokio::test]
    async fn the_thread_is_never_early_and_hands_over_all_in_order() {
        let clock = Clock::system();
        let schedule = Arc::new(Schedule::new(&Rate::PerSecond(2000.0).into(), 50, 3));
        let start_ns = clock.mono_ns() + 1_000_000;
        let mut paced = start(Arc::clone(&schedule), start_ns, clock.clone()).unwrap();
        for expected in 0..50 {
            assert_eq!(paced.next().await, Some(expected));
            assert!(clock.mono_ns() >= start_ns + schedule.at_ns[expected]);
        }
        assert_eq!(paced.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_time_keeps_the_same_schedule() {
        let clock = Clock::virtual_time(1_000_000_000, 0);
        let schedule = Arc::new(Schedule::new(&Rate::PerSecond(1.0).into(), 20, 3));
        let start_ns = clock.mono_ns();
        let mut paced = start(Arc::clone(&schedule), start_ns, clock.clone()).unwrap();
        while let Some(index) = paced.next().await {
            let late_ns = clock.mono_ns() - start_ns - schedule.at_ns[index];
            assert!(late_ns < 2_000_000, "{late_ns}"); // tokio's timer has a grid of 1 ms
        }
    }

    #[tokio::test]
    async fn dropping_the_receiver_ends_the_thread() {
        let clock = Clock::system();
        let schedule = Arc::new(Schedule { at_ns: vec![0, 3_600_000_000_000], ..Schedule::default() });
        let mut paced = start(schedule, clock.mono_ns(), clock).unwrap();
        assert_eq!(paced.next().await, Some(0));
        let flag = Arc::clone(&paced.stopped);
        drop(paced);
        assert!(flag.load(Ordering::Relaxed));
        // The thread holds the other handle until it has seen the flag.
        while Arc::strong_count(&flag) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
