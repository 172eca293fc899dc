//! Whether memory has stayed flat: a pure judgement over samples.
//!
//! Rule: the first quarter of the time is warm-up (pools, the index, the allocator's own); of the rest the median of the last
//! third may exceed that of the first third by [`GROWTH_SHARE`] of it or [`GROWTH_MIB`], whichever is more, and so may the
//! straight line through all of the rest between its ends. A run that is too short to tell says so.

/// Growth that is noise, MiB.
pub const GROWTH_MIB: f64 = 3.0;
/// Growth that is noise, as a share of what there was.
pub const GROWTH_SHARE: f64 = 0.05;
/// Samples after warm-up that a judgement needs.
const LEAST_SAMPLES: usize = 30;

/// One look at the process.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Seconds since the load began.
    pub at_s: f64,
    /// Resident memory, MiB.
    pub rss_mib: f64,
}

/// What the samples say.
#[derive(Clone, Copy, Debug)]
pub struct Flat {
    /// Median of the first third after warm-up, MiB.
    pub first_mib: f64,
    /// Median of the last third, MiB.
    pub last_mib: f64,
    /// Slope of the line of least squares after warm-up, MiB an hour.
    pub slope_mib_per_h: f64,
    /// Growth of that line from warm-up to the end, MiB.
    pub line_growth_mib: f64,
    /// Growth that is allowed, MiB.
    pub tolerance_mib: f64,
}

impl Flat {
    /// Both ways of looking at it agree.
    pub fn holds(&self) -> bool {
        self.last_mib - self.first_mib <= self.tolerance_mib && self.line_growth_mib <= self.tolerance_mib
    }
}

/// Judges; `None` if the run was too short.
pub fn judge(samples: &[Sample]) -> Option<Flat> {
    let warm = &samples[samples.len() / 4..];
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else {
        return None;
    };
    if warm.len() < LEAST_SAMPLES {
        return None;
    }
    let third = warm.len() / 3;
    let first_mib = median(&warm[..third]);
    let slope_per_s = slope(warm);
    Some(Flat {
        first_mib,
        last_mib: median(&warm[warm.len() - third..]),
        slope_mib_per_h: slope_per_s * 3600.0,
        line_growth_mib: slope_per_s * (last.at_s - first.at_s),
        tolerance_mib: GROWTH_MIB.max(first_mib * GROWTH_SHARE),
    })
}

fn median(samples: &[Sample]) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(|s| s.rss_mib).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of the line of least squares, MiB a second.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (at_s, rss_mib) = (mean(|s| s.at_s), mean(|s| s.rss_mib));
    let (mut both, mut square) = (0.0, 0.0);
    for sample in samples {
        both += (sample.at_s - at_s) * (sample.rss_mib - rss_mib);
        square += (sample.at_s - at_s).powi(2);
    }
    if square > 0.0 { both / square } else { 0.0 }
}
