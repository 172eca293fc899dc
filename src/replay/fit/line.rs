//! Lines through points that a few of them cannot turn.
//!
//! Rule: medians, not sums. [`Line::through`] takes the median of slopes (Theil and Sen), here of each point and the one half of
//! all points behind it. [`rate`] is for times with a floor, where most points lie flat: what costs most decides.
//! Deliberately not here: what the points are.

use super::FEWEST;

/// Rounds in which a rate and what is beside it find each other.
const ROUNDS: usize = 8;

/// `at_zero + slope · x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// Change of y with x.
    pub(super) slope: f64,
    /// Value at x = 0.
    pub(super) at_zero: f64,
}

impl Line {
    /// Through (x, y); `None` if there are too few points, or all at one x.
    pub(super) fn through(mut points: Vec<(f64, f64)>) -> Option<Self> {
        points.retain(|(x, y)| x.is_finite() && y.is_finite());
        if points.len() < FEWEST {
            return None;
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let half = points.len() / 2;
        let pairs = points.iter().zip(&points[half..]);
        let slopes = pairs.filter(|(a, b)| b.0 > a.0).map(|(a, b)| (b.1 - a.1) / (b.0 - a.0));
        let slope = median(slopes)?;
        let at_zero = median(points.iter().map(|(x, y)| y - slope * x))?;
        Some(Self { slope, at_zero })
    }
}

/// The rate of y by x where y is at least `floor` and something unknown beside: what is between the points that hold the least of
/// all x and those that hold the upper half of it. Many requests whose prompt is nearly all cached take the shortest step there
/// is, whatever their length, and the few others are what a rate is about. `None` if there are too few points.
pub(super) fn rate(mut points: Vec<(f64, f64)>, floor: f64) -> Option<f64> {
    points.retain(|(x, y)| x.is_finite() && y.is_finite() && *x > 0.0);
    if points.len() < FEWEST {
        return None;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut above = points.iter().map(|point| point.0).sum::<f64>();
    let half = above / 2.0;
    let begins = points.iter().position(|point| {
        above -= point.0;
        above <= half
    })?;
    let middle =
        |part: &[(f64, f64)]| Some((median(part.iter().map(|p| p.0))?, median(part.iter().map(|p| p.1))?));
    let (large_x, large_y) = middle(&points[begins..])?;
    let (small_x, small_y) = middle(&points[..points.len() / 4])?;
    if large_x < small_x * 2.0 {
        // All are alike, so that what is beside cannot be told from the rate.
        return Some(large_y / large_x);
    }
    let mut rate = (large_y - small_y) / (large_x - small_x);
    for _ in 0..ROUNDS {
        let beside = (small_y - floor.max(rate * small_x)).max(0.0);
        rate = (large_y - beside) / large_x;
    }
    Some(rate)
}

/// The middle value.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_wild_points_does_not_turn_the_line() {
        let points = (0..100).map(|n| {
            let x = f64::from(n * 37 % 100);
            (x, if n % 10 == 0 { 1e6 } else { 5.0 + 2.0 * x })
        });
        let line = Line::through(points.collect()).unwrap();
        assert!((line.slope - 2.0).abs() < 0.1 && (line.at_zero - 5.0).abs() < 5.0, "{line:?}");
    }

    #[test]
    fn where_most_lie_on_a_floor_the_large_ones_decide() {
        let points: Vec<(f64, f64)> = (0..200)
            .map(|n| {
                let x = if n % 20 == 0 { 2_000.0 + f64::from(n) } else { 60.0 + f64::from(n % 7) };
                (x, 5.0 + (0.03 * x).max(7.0))
            })
            .collect();
        let found = rate(points, 7.0).unwrap();
        assert!((found - 0.03).abs() < 0.000_5, "{found}");
        let alike = rate(vec![(100.0, 3.0); 50], 0.0).unwrap();
        assert!((alike - 0.03).abs() < 1e-9, "{alike}");
        assert_eq!(rate(vec![(100.0, 3.0); FEWEST - 1], 0.0), None);
    }

    #[test]
    fn few_points_or_one_place_make_no_line() {
        assert_eq!(Line::through(vec![(1.0, 1.0); FEWEST - 1]), None);
        assert_eq!(Line::through(vec![(1.0, 1.0); FEWEST]), None);
    }
}
