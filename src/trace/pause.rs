//! How long the writer's thread sleeps between two looks.
//!
//! Rule: sooner the more it finds, and within limits. Deliberately not here: being woken, which only orders do.

use std::time::Duration;

/// Shortest pause between two drains: what was noted lately is still in the caches.
pub(super) const SHORTEST: Duration = Duration::from_millis(4);
/// Longest pause, and so the time in which what is noted may be lost with the process. To be woken costs as much as some
/// records do, so few records are waited for.
const LONGEST: Duration = Duration::from_millis(32);
/// Records of one drain, below which the next one may wait longer and above twice of which it comes sooner; of a small sink an
/// eighth.
const WORTH_WAKING_RECORDS: usize = 64;

/// The pause after a drain of so many records from a sink of that capacity.
pub(super) fn next(pause: Duration, drained: usize, capacity_records: usize) -> Duration {
    // A small sink is full before there are as many.
    let few = WORTH_WAKING_RECORDS.min(capacity_records / 8);
    if drained == 0 || drained < few {
        (pause * 2).min(LONGEST)
    } else if drained > 2 * few {
        (pause / 2).max(SHORTEST)
    } else {
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_buffer_is_emptied_as_often_as_it_fills() {
        let after = |capacity, drained: [usize; 4]| {
            drained.iter().fold(LONGEST, |pause, &records| next(pause, records, capacity))
        };
        assert_eq!(after(65_536, [200; 4]), SHORTEST);
        assert_eq!(after(65_536, [100; 4]), LONGEST);
        for capacity in [1, 16, 100, 128] {
            assert_eq!(after(capacity, [capacity; 4]), SHORTEST, "{capacity}");
            assert_eq!(next(SHORTEST, 0, capacity), 2 * SHORTEST);
        }
    }
}
