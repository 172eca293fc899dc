//! How long the requests now in flight have been there.
//!
//! Rule: a request adds one to the slot of its arrival and takes it away again, which is what a plain gauge costs; all
//! summing is the reader's. A slot is five seconds wide, and there are 45 hours of them: an older request would look
//! younger. Deliberately not here: which requests they are, the trace says that.

use std::sync::atomic::{AtomicU32, Ordering};

/// Width of a slot.
const SLOT_NS: u64 = 5_000_000_000;
/// Slots, a power of two.
const SLOTS: u64 = 32_768;
/// Upper bounds in seconds; sglang-router's.
pub(super) const BOUNDS_S: [u64; 11] = [30, 60, 180, 300, 600, 1200, 3600, 7200, 14_400, 28_800, 86_400];

/// Requests in flight by time of arrival.
#[derive(Debug)]
pub(super) struct Ages(Box<[AtomicU32]>);

impl Ages {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU32::new(0)).collect())
    }

    pub(super) fn began(&self, arrival_mono_ns: u64) {
        self.slot(arrival_mono_ns / SLOT_NS).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, arrival_mono_ns: u64) {
        self.slot(arrival_mono_ns / SLOT_NS).fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests in flight between each bound and the one before it, those above all bounds last.
    pub(super) fn count(&self, now_mono_ns: u64) -> [u64; BOUNDS_S.len() + 1] {
        let mut counts = [0; BOUNDS_S.len() + 1];
        let now = now_mono_ns / SLOT_NS;
        // From the present backwards, as far as the ring goes or time has.
        for back in 0..SLOTS {
            let in_flight = self.slot(now.wrapping_sub(back)).load(Ordering::Relaxed);
            let age_s = back * SLOT_NS / 1_000_000_000;
            counts[BOUNDS_S.partition_point(|bound| *bound < age_s)] += u64::from(in_flight);
        }
        counts
    }

    fn slot(&self, number: u64) -> &AtomicU32 {
        &self.0[(number % SLOTS) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_grows_older_until_it_has_ended() {
        let ages = Ages::new();
        let (first_ns, second_ns) = (7_000_000_000, 100_000_000_000);
        ages.began(first_ns);
        ages.began(second_ns);
        assert_eq!(ages.count(second_ns)[..3], [1, 0, 1], "one of 0 s, one of 93 s");
        assert_eq!(ages.count(first_ns + 90_000 * 1_000_000_000)[10..], [0, 2]);
        ages.ended(first_ns);
        assert_eq!(ages.count(second_ns).iter().sum::<u64>(), 1);
        ages.ended(second_ns);
        assert_eq!(ages.count(second_ns), [0; 12]);
    }
}
