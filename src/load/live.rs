//! Percentiles while a run goes on: a histogram of fixed size.
//!
//! Rule: a look costs microseconds and no memory, whatever the number of requests; a percentile is right to 3 %. The figures of
//! the report are exact and come from the rows. Deliberately not here: how they are shown.

/// Each bucket is so much wider than the one before.
const STEP: f64 = 1.06;
/// Beginning of the first bucket, nanoseconds: what is shorter is counted there.
const LEAST_NS: f64 = 1_000.0;
/// The last bucket ends after half an hour and more.
const BUCKETS: usize = 370;

/// How many of which length.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub(super) fn add(&mut self, ns: u64) {
        let bucket = (ns as f64 / LEAST_NS).max(1.0).ln() / STEP.ln();
        self.counts[(bucket as usize).min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// The length that this share of all is not longer than, milliseconds; none while there is none.
    pub(super) fn percentile_ms(&self, share: f64) -> Option<f64> {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut passed = 0;
        let bucket = self.counts.iter().position(|count| {
            passed += count;
            passed >= wanted
        })?;
        // The middle of the bucket, as its ends are a ratio apart.
        Some(LEAST_NS * STEP.powf(bucket as f64 + 0.5) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close_at_every_size() {
        assert_eq!(Histogram::default().percentile_ms(0.5), None);
        for unit_ns in [2_000, 1_000_000, 1_000_000_000] {
            let mut histogram = Histogram::default();
            (1..=1000_u64).for_each(|i| histogram.add(i * unit_ns));
            for share in [0.5, 0.9, 0.99] {
                let expected_ms = share * 1000.0 * unit_ns as f64 / 1e6;
                let got_ms = histogram.percentile_ms(share).unwrap();
                assert!((got_ms / expected_ms - 1.0).abs() < 0.031, "{got_ms} {expected_ms}");
            }
        }
        let mut ends = Histogram::default();
        ends.add(0);
        ends.add(u64::MAX);
        assert!(ends.percentile_ms(0.0).unwrap() < 0.01 && ends.percentile_ms(1.0).unwrap() > 1_800_000.0);
    }
}
