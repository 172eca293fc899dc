//! What arrived, against what was asked for.
//!
//! Rule: everything is computed from the server's own stamps; no tool's word is taken for its load. Deliberately not here:
//! what the tools say of the server.

use crate::tools::Shape;

/// Arrivals in a window of the index of dispersion, on average.
const WINDOW_ARRIVALS: f64 = 20.0;

/// The load as it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrived {
    /// Mean rate, first to last.
    pub per_s: f64,
    /// Kolmogorov-Smirnov distance of the gaps from exponential ones of the rate asked for; of a Poisson load alone.
    pub ks: Option<f64>,
    /// Variance over mean of the arrivals in windows of twenty: 1 of a Poisson process, 0 of equal gaps.
    pub dispersion: f64,
    /// Behind the grid that was asked for, beyond what the one least behind was, milliseconds; of equal gaps alone.
    pub late_p99_ms: Option<f64>,
}

impl Arrived {
    /// Of arrivals in order; `None` of fewer than two.
    pub fn of(at_ns: &[u64], asked_per_s: f64, shape: Shape) -> Option<Self> {
        let (first, last) = (*at_ns.first()?, *at_ns.last()?);
        let span_s = (last - first) as f64 / 1e9;
        let gaps_s = at_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9);
        (span_s > 0.0).then(|| Self {
            per_s: (at_ns.len() - 1) as f64 / span_s,
            ks: (shape == Shape::Poisson).then(|| ks_exponential(gaps_s.collect(), asked_per_s)),
            dispersion: dispersion(at_ns, WINDOW_ARRIVALS / asked_per_s),
            late_p99_ms: (shape == Shape::Constant).then(|| late_p99_ms(at_ns, asked_per_s)),
        })
    }

    /// Distance that a true Poisson process exceeds once in twenty times.
    pub fn ks_limit(arrivals: usize) -> f64 {
        1.358 / (arrivals.saturating_sub(1).max(1) as f64).sqrt()
    }
}

fn ks_exponential(mut gaps_s: Vec<f64>, per_s: f64) -> f64 {
    gaps_s.sort_by(f64::total_cmp);
    let n = gaps_s.len() as f64;
    let far = |(place, gap): (usize, &f64)| {
        let expected = 1.0 - (-gap * per_s).exp();
        (expected - place as f64 / n).abs().max((expected - (place + 1) as f64 / n).abs())
    };
    gaps_s.iter().enumerate().map(far).fold(0.0, f64::max)
}

fn dispersion(at_ns: &[u64], span_s: f64) -> f64 {
    let (Some(first), Some(last)) = (at_ns.first(), at_ns.last()) else { return 0.0 };
    let each_ns = (span_s * 1e9) as u64;
    // The last window is not whole.
    let mut windows = vec![0.0_f64; ((last - first) / each_ns.max(1)) as usize];
    for at in at_ns {
        if let Some(count) = windows.get_mut(((at - first) / each_ns.max(1)) as usize) {
            *count += 1.0;
        }
    }
    let n = windows.len() as f64;
    let mean = windows.iter().sum::<f64>() / n;
    let variance = windows.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (n - 1.0);
    variance / mean
}

fn late_p99_ms(at_ns: &[u64], per_s: f64) -> f64 {
    let first = at_ns.first().copied().unwrap_or(0);
    let behind = |(place, at): (usize, &u64)| (at - first) as f64 / 1e6 - place as f64 / per_s * 1e3;
    let mut late: Vec<f64> = at_ns.iter().enumerate().map(behind).collect();
    late.sort_by(f64::total_cmp);
    late[(late.len() - 1) * 99 / 100] - late[0]
}
