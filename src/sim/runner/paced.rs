//! The two ways to wait for a deadline: a thread on the host's clock, a task on a virtual one.
//!
//! Rule: a wait for commands ends when one comes; a wait for a step's end does not, as nothing can join a running step.

use std::sync::PoisonError;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::{
    thread::clock_nanosleep_absolute,
    time::{ClockId, Timespec},
};

use super::{Driver, Next, Shared, locked};

/// Lets a sleep end when it is due and not up to 50 µs later, the default slack of a Linux thread.
#[cfg(target_os = "linux")]
fn ask_for_precise_sleep() {
    // Refused, sleeps are less exact, which the lateness shows.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(not(target_os = "linux"))]
fn ask_for_precise_sleep() {}

pub(super) fn on_a_thread(mut driver: Driver) {
    ask_for_precise_sleep();
    let shared = driver.shared.clone();
    loop {
        match driver.advance() {
            Next::Commands => park(&shared, None),
            Next::CommandsUntil(at_ns) => park(&shared, Some(at_ns)),
            Next::StepEnd(at_ns) => sleep_until(&shared, at_ns),
            Next::Stop => return,
        }
    }
}

pub(super) async fn in_virtual_time(mut driver: Driver) {
    let shared = driver.shared.clone();
    loop {
        let next = driver.advance();
        let wait = |at_ns: u64| {
            tokio::time::sleep(Duration::from_nanos(at_ns.saturating_sub(shared.clock.mono_ns())))
        };
        // `Notify` keeps a wake that came before the wait.
        locked(&shared.inbox).parked = true;
        match next {
            Next::Commands => shared.wake_task.notified().await,
            Next::CommandsUntil(at_ns) => tokio::select! {
                biased;
                () = shared.wake_task.notified() => {}
                () = wait(at_ns) => {}
            },
            Next::StepEnd(at_ns) => wait(at_ns).await,
            Next::Stop => return,
        }
    }
}

fn park(shared: &Shared, until_ns: Option<u64>) {
    let mut inbox = locked(&shared.inbox);
    if !inbox.commands.is_empty() || inbox.stop {
        return;
    }
    inbox.parked = true;
    let wait_ns = until_ns.map_or(u64::from(u32::MAX), |at_ns| at_ns.saturating_sub(shared.clock.mono_ns()));
    // Woken, timed out or neither: the caller looks again.
    let waited = shared.wake_thread.wait_timeout(inbox, Duration::from_nanos(wait_ns));
    let (mut inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
    inbox.parked = false;
}

#[cfg(target_os = "linux")]
fn sleep_until(_shared: &Shared, at_ns: u64) {
    let nanos = (at_ns % 1_000_000_000).cast_signed();
    let at = Timespec { tv_sec: (at_ns / 1_000_000_000).cast_signed(), tv_nsec: nanos };
    // A signal may end the sleep early; another error cannot be helped by trying again.
    while clock_nanosleep_absolute(ClockId::Monotonic, &at) == Err(rustix::io::Errno::INTR) {}
}

#[cfg(not(target_os = "linux"))]
fn sleep_until(shared: &Shared, at_ns: u64) {
    std::thread::sleep(Duration::from_nanos(at_ns.saturating_sub(shared.clock.mono_ns())));
}
