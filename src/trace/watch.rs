//! The writer's eye on this host's two clocks: when a `clock` record is due, and whether the wall clock was set.
//!
//! Rule: a record is due at start, every ten seconds, and when wall against monotonic time has moved by over a millisecond; what
//! slewing cannot explain is a step, which is told, counted and logged. Deliberately not here: writing (`scribe`), what a step means
//! for stamps ([`super::axis`]).

use std::sync::Arc;

use super::header::ClockRecord;
use super::sink::Sink;
use crate::clock::{Clock, ClockSnapshot};
use crate::log;

/// Pause between two `clock` records.
const CLOCK_EVERY_NS: u64 = 10_000_000_000;
/// A change of wall minus monotonic time by more than this is told at once.
const MOVED_NS: u64 = 1_000_000;
/// Pause between two lines of the log: a host whose clock is set again and again must not fill it.
const LOG_EVERY_NS: u64 = 60_000_000_000;

/// See the module.
pub(super) struct ClockWatch {
    clock: Clock,
    sink: Arc<Sink>,
    last: ClockSnapshot,
    /// The last look that found the clocks as they were.
    unmoved_mono_ns: u64,
    may_log_mono_ns: u64,
}

impl ClockWatch {
    /// One that has seen `first`.
    pub(super) fn new(clock: Clock, sink: Arc<Sink>, first: ClockSnapshot) -> Self {
        Self { clock, sink, last: first, unmoved_mono_ns: first.mono_ns, may_log_mono_ns: 0 }
    }

    /// The clocks where a file begins.
    pub(super) fn begin(&mut self) -> ClockSnapshot {
        let snapshot = self.clock.snapshot();
        self.take(snapshot);
        snapshot
    }

    /// The record that is due now, if one is.
    pub(super) fn look(&mut self, force: bool) -> Option<ClockRecord> {
        let now = self.clock.now();
        let moved_ns = offset(now.unix_ns, now.mono_ns).abs_diff(self.last_offset());
        let is_due = force || now.mono_ns.saturating_sub(self.last.mono_ns) >= CLOCK_EVERY_NS;
        if is_due || moved_ns > MOVED_NS {
            // A preemption between the two reads looks like a step; the bracketed snapshot does not, so look again with it.
            let snapshot = self.clock.snapshot();
            let moved_ns = offset(snapshot.unix_ns, snapshot.mono_ns).abs_diff(self.last_offset());
            if is_due || moved_ns > MOVED_NS {
                let unmoved_mono_ns = self.unmoved_mono_ns;
                let step_ns = self.take(snapshot);
                return Some(ClockRecord {
                    boot_id: super::boot_id(),
                    wall_step_us: step_ns.map(|ns| ns / 1_000),
                    wall_step_after_ns: step_ns.map(|_| unmoved_mono_ns),
                    ..ClockRecord::from(snapshot)
                });
            }
        }
        self.unmoved_mono_ns = now.mono_ns;
        None
    }

    /// From now on this is what the clocks were; says by how much the wall clock was set since the last one.
    fn take(&mut self, snapshot: ClockSnapshot) -> Option<i64> {
        let step_ns = snapshot.wall_step_ns(&self.last);
        (self.last, self.unmoved_mono_ns) = (snapshot, snapshot.mono_ns);
        if let Some(step_ns) = step_ns {
            self.sink.count_wall_step();
            if snapshot.mono_ns >= self.may_log_mono_ns {
                self.may_log_mono_ns = snapshot.mono_ns.saturating_add(LOG_EVERY_NS);
                log::warn(&format!(
                    "the wall clock of this host was set {} by {} ms; times of the trace stay in order, and stamps on both sides \
                     are placed by what the clock was then",
                    if step_ns < 0 { "back" } else { "forward" },
                    step_ns.unsigned_abs() / 1_000_000
                ));
            }
        }
        step_ns
    }

    fn last_offset(&self) -> u64 {
        offset(self.last.unix_ns, self.last.mono_ns)
    }
}

fn offset(unix_ns: u64, mono_ns: u64) -> u64 {
    unix_ns.wrapping_sub(mono_ns)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const WALL_NS: u64 = 1_795_000_000_000_000_000;

    #[tokio::test(start_paused = true)]
    async fn a_step_is_told_once_with_its_size_and_where_it_lies() {
        let clock = Clock::virtual_time(1_000, WALL_NS);
        let sink = Arc::new(Sink::off());
        let mut watch = ClockWatch::new(clock.clone(), Arc::clone(&sink), clock.snapshot());
        advance(Duration::from_secs(3)).await;
        assert_eq!(watch.look(false), None);
        advance(Duration::from_millis(30)).await;
        clock.step_wall(5_000_000_000);
        let told = watch.look(false).expect("a record at once");
        assert_eq!((told.wall_step_us, told.wall_step_after_ns), (Some(5_000_000), Some(3_000_001_000)));
        assert_eq!((told.mono_ns, sink.wall_steps()), (3_030_001_000, 1));
        advance(Duration::from_secs(10)).await;
        let due = watch.look(false).expect("every ten seconds");
        assert_eq!((due.wall_step_us, sink.wall_steps()), (None, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn slewing_is_told_and_is_no_step_and_a_file_that_begins_after_a_step_counts_it() {
        let clock = Clock::virtual_time(1_000, WALL_NS);
        let sink = Arc::new(Sink::off());
        let mut watch = ClockWatch::new(clock.clone(), Arc::clone(&sink), clock.snapshot());
        advance(Duration::from_secs(9)).await;
        clock.step_wall(2_000_000);
        let slewed = watch.look(false).expect("it has moved by over a millisecond");
        assert_eq!((slewed.wall_step_us, sink.wall_steps()), (None, 0), "500 ppm of nine seconds are more");
        clock.step_wall(3_600_000_000_000);
        assert_eq!(watch.begin().unix_ns, WALL_NS + 3_609_002_000_000);
        assert_eq!((sink.wall_steps(), watch.look(false)), (1, None));
    }
}
