//! The only reader of time.
//!
//! Rule: nothing else in milepost asks the operating system what time it is; a [`Clock`] comes in as a value, so that the
//! same code runs in virtual time. `CLOCK_MONOTONIC` is read as a number (not as `Instant`) because it is the very clock
//! behind Python's `time.perf_counter()`: on one host a router stamp and a server stamp then compare directly.
//! Deliberately not here: offsets between hosts and every other estimate, see [`crate::trace::align`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One moment on both clocks of this host, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// `CLOCK_MONOTONIC` in nanoseconds: zero at boot, never steps.
    pub mono_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since the Unix epoch: comparable between hosts, may step.
    pub unix_ns: u64,
}

impl Stamp {
    /// The wall time of a later moment, carried forward on the monotonic clock so that one request's stamps keep their order
    /// through a clock step.
    pub fn unix_ns_at(&self, mono_ns: u64) -> u64 {
        self.unix_ns.wrapping_add(mono_ns.wrapping_sub(self.mono_ns))
    }
}

/// Both clocks with the width of the window in which they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockSnapshot {
    /// `CLOCK_MONOTONIC` in nanoseconds, middle of the window.
    pub mono_ns: u64,
    /// `CLOCK_REALTIME` in nanoseconds since the Unix epoch.
    pub unix_ns: u64,
    /// Width of the window of two monotonic reads round the wall read, in nanoseconds: the error of the pair is at most half.
    pub bracket_ns: u64,
}

/// Wall against monotonic time moves by no more than this part of the time that goes by, unless somebody sets the wall clock: what
/// `adjtime` and NTP slew at most.
const SLEW_PART: u64 = 2_000;

impl ClockSnapshot {
    /// Wall minus monotonic time.
    pub fn offset_ns(&self) -> i64 {
        let signed = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
        signed(self.unix_ns) - signed(self.mono_ns)
    }

    /// How far the wall clock was set forward (or back, less than 0) between `earlier` and this; `None` if what it moved is within
    /// the error of both and what slewing may do in that time.
    pub fn wall_step_ns(&self, earlier: &Self) -> Option<i64> {
        let moved_ns = self.offset_ns().saturating_sub(earlier.offset_ns());
        let error_ns = (self.bracket_ns / 2).saturating_add(earlier.bracket_ns / 2);
        let slewed_ns = self.mono_ns.abs_diff(earlier.mono_ns) / SLEW_PART;
        (moved_ns.unsigned_abs() > error_ns.saturating_add(slewed_ns)).then_some(moved_ns)
    }
}

/// CPU time of all threads of this process so far, in nanoseconds.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

/// Where time comes from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Virtual(Arc<VirtualTime>),
}

#[derive(Debug)]
struct VirtualTime {
    origin: tokio::time::Instant,
    boot_ns: u64,
    epoch_ns: u64,
    step_ns: AtomicU64,
}

impl Clock {
    /// The clocks of this host.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that follows tokio's (pausable) time: for simulation. Starts at `boot_ns` monotonic and `epoch_ns` wall time.
    pub fn virtual_time(boot_ns: u64, epoch_ns: u64) -> Self {
        let origin = tokio::time::Instant::now();
        Self(Source::Virtual(Arc::new(VirtualTime { origin, boot_ns, epoch_ns, step_ns: AtomicU64::new(0) })))
    }

    /// True for [`Self::virtual_time`]: waits must then be tokio's, not the operating system's.
    pub fn is_virtual(&self) -> bool {
        matches!(self.0, Source::Virtual(_))
    }

    /// Steps the wall clock of a virtual clock forward, as NTP would; no effect on the system's.
    pub fn step_wall(&self, by_ns: u64) {
        if let Source::Virtual(v) = &self.0 {
            v.step_ns.fetch_add(by_ns, Ordering::Relaxed);
        }
    }

    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub fn mono_ns(&self) -> u64 {
        match &self.0 {
            Source::System => read(ClockId::Monotonic),
            Source::Virtual(v) => v.boot_ns + v.elapsed_ns(),
        }
    }

    /// Both clocks, read back to back.
    pub fn now(&self) -> Stamp {
        match &self.0 {
            Source::System => Stamp { mono_ns: read(ClockId::Monotonic), unix_ns: read(ClockId::Realtime) },
            Source::Virtual(v) => {
                let elapsed_ns = v.elapsed_ns();
                let unix_ns = v.epoch_ns + elapsed_ns + v.step_ns.load(Ordering::Relaxed);
                Stamp { mono_ns: v.boot_ns + elapsed_ns, unix_ns }
            }
        }
    }

    /// The best of five bracketed reads: the narrowest window wins, as a preemption inside a window widens it.
    pub fn snapshot(&self) -> ClockSnapshot {
        let mut best: Option<ClockSnapshot> = None;
        for _ in 0..5 {
            let before_ns = self.mono_ns();
            let unix_ns = self.now().unix_ns;
            let bracket_ns = self.mono_ns() - before_ns;
            if best.is_none_or(|b| bracket_ns < b.bracket_ns) {
                best = Some(ClockSnapshot { mono_ns: before_ns + bracket_ns / 2, unix_ns, bracket_ns });
            }
        }
        best.unwrap_or(ClockSnapshot { mono_ns: 0, unix_ns: 0, bracket_ns: u64::MAX })
    }
}

impl VirtualTime {
    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

fn read(id: ClockId) -> u64 {
    let t = clock_gettime(id);
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_does_not_go_back_and_wall_is_after_2020() {
        let clock = Clock::system();
        let a = clock.now();
        let b = clock.now();
        assert!(b.mono_ns >= a.mono_ns);
        assert!(a.unix_ns > 1_577_836_800_000_000_000);
    }

    #[test]
    fn a_snapshot_is_bracketed_by_its_neighbours() {
        let clock = Clock::system();
        let before = clock.mono_ns();
        let s = clock.snapshot();
        assert!(s.mono_ns >= before && s.mono_ns <= clock.mono_ns());
    }

    #[test]
    fn a_step_is_more_than_brackets_and_slewing_explain() {
        let at = |mono_ns: u64, unix_ns: u64| ClockSnapshot { mono_ns, unix_ns, bracket_ns: 2_000 };
        let first = at(1_000_000_000, 50_000_000_000);
        // A second later: 500 us of slew and 2 us of brackets.
        assert_eq!(at(2_000_000_000, 51_000_502_000).wall_step_ns(&first), None);
        assert_eq!(at(2_000_000_000, 51_000_502_001).wall_step_ns(&first), Some(502_001));
        assert_eq!(at(2_000_000_000, 47_000_000_000).wall_step_ns(&first), Some(-4_000_000_000));
    }

    #[tokio::test(start_paused = true)]
    async fn virtual_time_follows_tokio_and_steps_only_the_wall() {
        let clock = Clock::virtual_time(1_000, 5_000);
        tokio::time::advance(std::time::Duration::from_millis(2)).await;
        clock.step_wall(7);
        assert_eq!(clock.now(), Stamp { mono_ns: 2_001_000, unix_ns: 2_005_007 });
    }
}
