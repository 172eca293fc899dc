//! What is counted at a worker: plain numbers that a request adds to and that somebody may read.
//!
//! Rule: adding never locks, allocates or looks anything up: a request holds its worker, and the worker holds these. They
//! leave the fleet with their worker. Deliberately not here: names, labels and the text format (`admin::metrics`).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::trace::record::Outcome;

/// How often values fell between bounds, and their sum. Two atomic additions a value.
#[derive(Debug)]
pub struct Histogram {
    bounds_ns: Box<[u64]>,
    // One more than bounds: the last is what lies above all of them.
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Upper bounds in seconds, and how many values were at most that.
    pub cumulative: Vec<(f64, u64)>,
    /// All values.
    pub count: u64,
    /// Their sum in seconds.
    pub sum_s: f64,
}

impl Histogram {
    /// Buckets with these upper bounds, ascending nanoseconds, and one above.
    pub fn new(bounds_ns: &[u64]) -> Self {
        Self {
            bounds_ns: bounds_ns.into(),
            counts: (0..=bounds_ns.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_ns: AtomicU64::new(0),
        }
    }

    /// Adds one value.
    pub fn observe_ns(&self, ns: u64) {
        let at = self.bounds_ns.partition_point(|bound| *bound < ns);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What it holds now. The count is that of the buckets, so the two always agree.
    pub fn snapshot(&self) -> Snapshot {
        let mut count = 0;
        let cumulative = self.bounds_ns.iter().zip(&self.counts).map(|(bound, n)| {
            count += n.load(Ordering::Relaxed);
            (*bound as f64 / 1e9, count)
        });
        let cumulative = cumulative.collect();
        count += self.counts.last().map_or(0, |above| above.load(Ordering::Relaxed));
        Snapshot { cumulative, count, sum_s: self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9 }
    }
}

/// One worker's numbers.
#[derive(Debug)]
pub struct WorkerMeters {
    /// Requests that ended at it, each outcome at its own number.
    pub ended: [AtomicU64; Outcome::ALL.len()],
    /// Attempts at it that gave no answer to pass on.
    pub failed_attempts: AtomicU64,
    /// Prompt tokens of its answers.
    pub prompt_tokens: AtomicU64,
    /// Generated tokens of its answers.
    pub completion_tokens: AtomicU64,
    /// Prompt tokens that it had in its prefix cache.
    pub cached_tokens: AtomicU64,
    /// Prompt tokens that it was thought to have there, of the answers that told how many it had.
    pub predicted_cached_tokens: AtomicU64,
    /// Router send to first token at the router.
    pub ttft: Histogram,
    /// Mean gap between tokens.
    pub itl: Histogram,
    /// In its waiting queue.
    pub queue: Histogram,
    /// End of the queue to first token.
    pub prefill: Histogram,
    /// First token to last byte.
    pub decode: Histogram,
}

impl WorkerMeters {
    /// All at zero.
    pub fn new(duration_bounds_ns: &[u64], itl_bounds_ns: &[u64]) -> Self {
        let duration = || Histogram::new(duration_bounds_ns);
        Self {
            ended: Default::default(),
            failed_attempts: AtomicU64::new(0),
            prompt_tokens: AtomicU64::new(0),
            completion_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            predicted_cached_tokens: AtomicU64::new(0),
            ttft: duration(),
            itl: Histogram::new(itl_bounds_ns),
            queue: duration(),
            prefill: duration(),
            decode: duration(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_a_bound_is_inside_and_one_above_all_is_still_counted() {
        let histogram = Histogram::new(&[1_000_000_000, 2_000_000_000]);
        for ns in [1, 1_000_000_000, 1_000_000_001, 9_000_000_000] {
            histogram.observe_ns(ns);
        }
        let Snapshot { cumulative, count, sum_s } = histogram.snapshot();
        assert_eq!((cumulative, count), (vec![(1.0, 2), (2.0, 3)], 4));
        assert!((sum_s - 11.000_000_002).abs() < 1e-9);
    }
}
