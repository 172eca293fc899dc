//! Keeps the schedule: hands each request's index over at its due time.
//!
//! Rule: never early, never re-anchored, nothing skipped; whoever is late is late against the absolute clock, and the row
//! says by how much. A thread of its own, because tokio's timer has a grid of 1 ms (p99 lateness about 2 ms, against
//! 0.06 to 0.09 ms for `clock_nanosleep` and a short spin). It hands over shortly before the due time and whoever takes it
//! waits out the rest awake: a thread of the runtime that has to be woken at the due time itself is late by what waking
//! costs, which in a virtual machine is tens of microseconds. In virtual time there is no thread, only tokio's timer.
//! Deliberately not here: what a request does.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::thread::{ClockId, clock_nanosleep_absolute, set_current_timer_slack};
use rustix::time::Timespec;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::schedule::Schedule;
use crate::clock::Clock;

/// A request is handed over this long before its due time: longer than two threads usually take to wake up, one after the
/// other, short enough that 1,000 requests a second cost an eighth of a core.
const EARLY_NS: u64 = 150_000;
/// As much is enough where the one before was due shortly before: the cores are not deep asleep, and there is less to spend.
const EARLY_AWAKE_NS: u64 = 100_000;
/// What shortly before is.
const AWAKE_NS: u64 = 300_000;
/// Longest single sleep, so that a stop is seen.
const NAP_NS: u64 = 50_000_000;

/// The due requests, in order. Dropping it stops the pacer.
#[derive(Debug)]
pub struct Paced {
    soon: mpsc::Receiver<usize>,
    /// Taken, and not due yet.
    held: Option<usize>,
    schedule: Arc<Schedule>,
    start_mono_ns: u64,
    clock: Clock,
    stopped: Arc<AtomicBool>,
}

impl Paced {
    /// The index of the next due request; `None` after the last. Nothing is lost if it is dropped and called again.
    pub async fn next(&mut self) -> Option<usize> {
        if self.held.is_none() {
            self.held = Some(self.soon.recv().await?);
        }
        let due_ns = self.start_mono_ns + self.held.map_or(0, |index| self.schedule.at_ns[index]);
        // Others have their turn meanwhile, and sockets are looked at: what is in flight does not wait for what is due.
        while !self.clock.is_virtual() && self.clock.mono_ns() < due_ns {
            tokio::task::yield_now().await;
        }
        self.held.take()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Goes as far with `request` as it can without waiting, here and now, and lets a task go on: so its first write is made by
/// whoever has it due, in order, and not when another thread has woken. A panic in it is the caller's.
pub fn begin<T: Send + 'static>(
    requests: &mut JoinSet<T>,
    request: impl Future<Output = T> + Send + 'static,
) {
    let mut request = Box::pin(request);
    // Nobody is to be woken for it: the task asks at once again.
    match request.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ended) => requests.spawn(std::future::ready(ended)),
        Poll::Pending => requests.spawn(request),
    };
}

/// Starts to hand over requests; the schedule's zero is `start_mono_ns`.
///
/// # Errors
/// The operating system gave no thread.
pub fn start(schedule: Arc<Schedule>, start_mono_ns: u64, clock: Clock) -> std::io::Result<Paced> {
    // Room for all, so that the pacer never waits for the other side.
    let (tx, soon) = mpsc::channel(schedule.at_ns.len().max(1));
    let stopped = Arc::new(AtomicBool::new(false));
    let paced = Paced {
        soon,
        held: None,
        schedule: Arc::clone(&schedule),
        start_mono_ns,
        clock: clock.clone(),
        stopped: Arc::clone(&stopped),
    };
    if clock.is_virtual() {
        tokio::spawn(keep_virtual(schedule, start_mono_ns, clock, tx));
    } else {
        std::thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || keep(&schedule, start_mono_ns, &clock, &tx, &stopped))?;
    }
    Ok(paced)
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
    let mut last_ns = 0;
    for (index, &at_ns) in schedule.at_ns.iter().enumerate() {
        let early_ns = if at_ns.saturating_sub(last_ns) < AWAKE_NS { EARLY_AWAKE_NS } else { EARLY_NS };
        last_ns = at_ns;
        let soon_ns = (start_mono_ns + at_ns).saturating_sub(early_ns);
        if !sleep_until(soon_ns, clock, stopped) || tx.try_send(index).is_err() {
            return;
        }
    }
}

/// False if stopped meanwhile.
fn sleep_until(soon_ns: u64, clock: &Clock, stopped: &AtomicBool) -> bool {
    loop {
        if stopped.load(Ordering::Relaxed) {
            return false;
        }
        let now_ns = clock.mono_ns();
        if now_ns >= soon_ns {
            return true;
        }
        let wake_ns = soon_ns.min(now_ns + NAP_NS);
        let wake = Timespec {
            tv_sec: i64::try_from(wake_ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(wake_ns % 1_000_000_000).unwrap_or(0),
        };
        // An interrupted sleep is only a shorter one: the loop looks at the clock again.
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &wake);
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
            // Given up again and again, as the loop of a run does when something else happens.
            let index = loop {
                tokio::select! {
                    biased;
                    index = paced.next() => break index,
                    () = tokio::task::yield_now() => {}
                }
            };
            assert_eq!(index, Some(expected));
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
    async fn a_request_is_on_its_way_when_it_is_begun() {
        let on_its_way = Arc::new(AtomicBool::new(false));
        let mut requests = JoinSet::new();
        let flag = Arc::clone(&on_its_way);
        begin(&mut requests, async move {
            flag.store(true, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
            "waited"
        });
        assert!(on_its_way.load(Ordering::Relaxed), "no task has run yet");
        assert_eq!(requests.join_next().await.unwrap().unwrap(), "waited");
        begin(&mut requests, std::future::ready("at once"));
        assert_eq!(requests.join_next().await.unwrap().unwrap(), "at once");
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
