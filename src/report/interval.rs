//! How sure a number is: limits of percentiles from order statistics, limits of shares.
//!
//! Rule: limits hold with a probability of at least 95 %, whatever the distribution. The limits of a percentile are two of
//! the samples: of n independent samples the number below the true quantile q is binomial (n, q), so that ranks l and u can
//! be chosen which enclose it with at most 2.5 % outside on each side. Where no sample is high (or low) enough for that, n is
//! too small and there are no limits: below 6 samples for p50, 36 for p90, 72 for p95, 368 for p99, 3,688 for p99.9.
//! Deliberately not here: limits of means, and of samples that depend on each other.

/// Probability outside on each side.
const TAIL: f64 = 0.025;
/// The standard normal's 97.5 % point.
const Z: f64 = 1.959_963_984_540_054;
/// Standard deviations (and samples) around the mean beyond which a binomial has nothing that counts here.
const REACH: f64 = 10.0;

/// Ranks from 1 of the two samples out of `n` that enclose quantile `q`; `None` where n is too small.
pub fn ranks(n: u64, q: f64) -> Option<(u64, u64)> {
    if n == 0 || !(q > 0.0 && q < 1.0) {
        return None;
    }
    let (mean, reach) = (n as f64 * q, REACH * ((n as f64 * q * (1.0 - q)).sqrt() + 1.0));
    let first = (mean - reach).floor().max(0.0) as u64;
    let last = ((mean + reach).ceil() as u64).min(n);
    // The highest rank l with P(B < l) <= 2.5 %.
    let (mut below, mut l) = (0.0, first);
    while l < last {
        below += probability(n, q, l);
        if below > TAIL {
            break;
        }
        l += 1;
    }
    // The lowest rank u with P(B >= u) <= 2.5 %.
    let (mut above, mut u) = (0.0, last);
    while u > first {
        above += probability(n, q, u);
        if above > TAIL {
            break;
        }
        u -= 1;
    }
    let upper = u + 1;
    (l >= 1 && upper <= n).then_some((l, upper))
}

/// P(B = k) of a binomial.
fn probability(n: u64, q: f64, k: u64) -> f64 {
    let ways = ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    (ways + k as f64 * q.ln() + (n - k) as f64 * (1.0 - q).ln()).exp()
}

/// ln n!, by Stirling's series where that is exact to 1e-12.
fn ln_factorial(n: u64) -> f64 {
    if n < 32 {
        return (2..=n).map(|k| (k as f64).ln()).sum();
    }
    let x = n as f64;
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3))
}

/// Wilson's limits of a share: `good` of `all`; `None` of nothing.
pub fn wilson(good: u64, all: u64) -> Option<(f64, f64)> {
    if all == 0 {
        return None;
    }
    let (n, share) = (all as f64, good as f64 / all as f64);
    let middle = share + Z * Z / (2.0 * n);
    let spread = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Some((((middle - spread) / scale).max(0.0), ((middle + spread) / scale).min(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// n = 10, q = 0.5: P(B <= 1) = 11/1024 = 1.1 % and P(B <= 2) = 5.5 %, so ranks 2 and 9.
    #[test]
    fn limits_of_the_median_of_ten_are_the_second_and_the_ninth() {
        assert_eq!(ranks(10, 0.5), Some((2, 9)));
        // q^n > 2.5 %: even the largest sample is not surely above.
        assert_eq!((ranks(5, 0.5), ranks(6, 0.5)), (None, Some((1, 6))));
    }

    /// The smallest n is the first with q^n <= 2.5 %.
    #[test]
    fn the_smallest_n_of_each_percentile_is_the_one_that_the_rule_states() {
        for (q, least) in [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)] {
            assert_eq!((ranks(least - 1, q), ranks(least, q).is_some()), (None, true), "{q}");
        }
        assert_eq!((ranks(0, 0.5), ranks(10, 0.0)), (None, None));
    }

    #[test]
    fn wilson_by_hand() {
        // (0.9 + 3.8415/20 +- 1.95996 sqrt(0.09/10 + 3.8415/400)) / (1 + 0.38415)
        let (low, high) = wilson(9, 10).unwrap();
        assert!((low - 0.595_850).abs() < 1e-5 && (high - 0.982_124).abs() < 1e-5, "{low} {high}");
        assert_eq!(wilson(0, 0), None);
        assert_eq!((wilson(0, 5).unwrap().0, wilson(5, 5).unwrap().1), (0.0, 1.0));
    }

    proptest! {
        /// The probability that the true quantile is enclosed, summed from the binomial itself by recursion.
        #[test]
        fn limits_hold_with_95_percent_and_no_narrower_tail_would(n in 6_u64..3000, q in 0.02_f64..0.98) {
            if let Some((l, u)) = ranks(n, q) {
                let mut p = (n as f64 * (1.0 - q).ln()).exp();
                prop_assume!(p > 1e-290);
                let (mut below, mut above, mut to_l, mut from_u) = (0.0, 0.0, 0.0, 0.0);
                for k in 0..=n {
                    below += if k < l { p } else { 0.0 };
                    to_l += if k <= l { p } else { 0.0 };
                    above += if k >= u { p } else { 0.0 };
                    from_u += if k + 1 >= u { p } else { 0.0 };
                    p *= (n - k) as f64 / (k + 1) as f64 * q / (1.0 - q);
                }
                prop_assert!(below <= 0.025 + 1e-9 && above <= 0.025 + 1e-9, "{below} {above}");
                prop_assert!(to_l > 0.025 - 1e-9 && from_u > 0.025 - 1e-9, "{to_l} {from_u}");
            }
        }

        #[test]
        fn a_share_lies_within_its_limits(all in 1_u64..10_000, part in 0.0_f64..=1.0) {
            let good = (part * all as f64) as u64;
            let (low, high) = wilson(good, all).unwrap();
            let share = good as f64 / all as f64;
            prop_assert!(0.0 <= low && low <= share + 1e-12 && share <= high + 1e-12 && high <= 1.0);
        }
    }
}
