//! The shape of arrivals: gaps of mean 1, drawn from a seeded generator.
//!
//! Rule: each distribution is what its name says, which the tests hold it to (Kolmogorov-Smirnov, index of dispersion) over
//! several seeds. Deliberately not here: rates, which stretch the gaps.

use std::fmt;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How the gaps between arrivals are distributed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Shape {
    /// Exponential gaps: arrivals of many clients that know nothing of each other.
    #[default]
    Poisson,
    /// Equal gaps.
    Constant,
    /// Gamma distributed gaps of this shape parameter, above 0: 1 is Poisson, less is burstier (the coefficient of variation is
    /// one over its root). What vLLM calls `--burstiness`.
    Gamma(f64),
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisson => f.write_str("poisson"),
            Self::Constant => f.write_str("constant"),
            Self::Gamma(shape) => write!(f, "gamma {shape}"),
        }
    }
}

impl Shape {
    /// The next gap; 1 on average.
    pub(super) fn gap(self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Poisson => exponential(rng),
            Self::Gamma(shape) => gamma(shape, rng) / shape,
        }
    }
}

fn exponential(rng: &mut ChaCha8Rng) -> f64 {
    let uniform: f64 = rng.random();
    -(1.0 - uniform).ln()
}

/// Gamma with this shape and scale 1: Marsaglia and Tsang, "A simple method for generating gamma variables" (2000), with their
/// boost for shapes below 1.
fn gamma(shape: f64, rng: &mut ChaCha8Rng) -> f64 {
    if shape < 1.0 {
        let uniform: f64 = rng.random();
        return gamma(shape + 1.0, rng) * (1.0 - uniform).powf(1.0 / shape);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let normal = normal(rng);
        let v = (1.0 + c * normal).powi(3);
        let uniform: f64 = 1.0 - rng.random::<f64>();
        if v > 0.0 && uniform.ln() < 0.5 * normal * normal + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// Standard normal, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (2.0 * exponential(rng)).sqrt();
    let turn: f64 = rng.random();
    radius * (std::f64::consts::TAU * turn).cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const GAPS: usize = 2_500;
    const SEEDS: u64 = 30;

    fn gaps(shape: Shape, seed: u64) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..GAPS).map(|_| shape.gap(&mut rng)).collect()
    }

    /// Largest distance between the sample's distribution and this one, times the root of the sample's size.
    fn kolmogorov_smirnov(mut sample: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
        sample.sort_by(f64::total_cmp);
        let n = sample.len() as f64;
        let apart = sample.iter().enumerate().map(|(i, x)| {
            let at = cdf(*x);
            (at - i as f64 / n).abs().max(((i + 1) as f64 / n - at).abs())
        });
        apart.fold(0.0, f64::max) * n.sqrt()
    }

    /// Of 30 seeds at most 2 may be beyond what one in a hundred is (1.63), and none beyond one in a million (2.7).
    fn is_distributed(shape: Shape, cdf: impl Fn(f64) -> f64) {
        let far: Vec<f64> = (0..SEEDS).map(|seed| kolmogorov_smirnov(gaps(shape, seed), &cdf)).collect();
        assert!(far.iter().filter(|d| **d > 1.63).count() <= 2, "{shape:?}: {far:?}");
        assert!(far.iter().all(|d| *d < 2.7), "{shape:?}: {far:?}");
    }

    /// Erlang: the chance of fewer than `k` events of rate `k` in `x`, taken from 1.
    fn erlang(k: u32, x: f64) -> f64 {
        let mean = f64::from(k) * x;
        let terms = (0..k).scan(1.0, |term, i| {
            let this = *term;
            *term *= mean / f64::from(i + 1);
            Some(this)
        });
        1.0 - terms.sum::<f64>() * (-mean).exp()
    }

    #[test]
    fn the_gaps_are_exponential_or_gamma_as_asked() {
        is_distributed(Shape::Poisson, |x| 1.0 - (-x).exp());
        is_distributed(Shape::Gamma(1.0), |x| 1.0 - (-x).exp());
        is_distributed(Shape::Gamma(2.0), |x| erlang(2, x));
        is_distributed(Shape::Gamma(9.0), |x| erlang(9, x));
        assert!(gaps(Shape::Constant, 1).iter().all(|gap| (gap - 1.0).abs() < f64::EPSILON));
    }

    /// A sum of two independent gamma gaps of shape 1/2 is one of shape 1: exponential, which checks the boost below 1.
    #[test]
    fn two_bursty_gaps_add_up_to_a_poisson_one() {
        let far: Vec<f64> = (0..SEEDS)
            .map(|seed| {
                let sums = gaps(Shape::Gamma(0.5), seed)
                    .chunks(2)
                    .map(|two| two.iter().sum::<f64>() / 2.0)
                    .collect();
                kolmogorov_smirnov(sums, |x| 1.0 - (-x).exp())
            })
            .collect();
        assert!(far.iter().filter(|d| **d > 1.63).count() <= 2, "{far:?}");
    }

    /// Variance over mean of the counts in windows of 25 gaps: 1 for Poisson, 1/k for gamma of shape k, 0 for constant.
    #[test]
    fn counts_are_as_dispersed_as_the_shape_says() {
        let dispersion = |shape: Shape| {
            let of_seed = |seed| {
                let mut counts = vec![0.0_f64; GAPS / 25 - 1];
                let mut at = 0.0;
                for gap in gaps(shape, seed) {
                    at += gap;
                    if let Some(count) = counts.get_mut((at / 25.0) as usize) {
                        *count += 1.0;
                    }
                }
                // A bursty run may end early; what it did not reach is no window.
                counts.truncate((at / 25.0) as usize);
                let n = counts.len() as f64;
                let mean = counts.iter().sum::<f64>() / n;
                counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / (n - 1.0) / mean
            };
            (0..SEEDS).map(of_seed).sum::<f64>() / SEEDS as f64
        };
        let close = |shape, expected: f64, by: f64| {
            let got = dispersion(shape);
            assert!((got - expected).abs() < by, "{shape:?}: {got}");
        };
        close(Shape::Poisson, 1.0, 0.05);
        close(Shape::Gamma(0.25), 4.0, 0.4);
        close(Shape::Gamma(4.0), 0.25, 0.05);
        close(Shape::Constant, 0.0, 0.01);
    }
}
