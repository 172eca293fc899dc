//! How many requests are in flight over time, from begins and ends as they come.
//!
//! Rule: exact while the intervals are kept. After that the mean is still exact, and the curve is that of the moments between
//! slices of time, of which there are a million at most: what is over within one slice does not show in the peak. Deliberately
//! not here: the sweep over kept intervals (`timeline`).

use crate::report::timeline::{Concurrency, MAX_POINTS, Point, concurrency};

/// Slices of time.
const SLICES: usize = 1 << 20;
/// As many nanoseconds, for slices of one.
const SLICES_NS: i64 = 1 << 20;

/// Intervals, kept or counted by slice.
#[derive(Clone, Debug)]
pub(super) enum Intervals {
    Kept(Vec<(i64, i64)>),
    Counted(Box<Slices>),
}

impl Default for Intervals {
    fn default() -> Self {
        Self::Kept(Vec::new())
    }
}

impl Intervals {
    /// One interval `[begin, end)` in nanoseconds.
    pub(super) fn add(&mut self, begin: i64, end: i64) {
        match self {
            _ if end <= begin => {}
            Self::Kept(kept) => kept.push((begin, end)),
            Self::Counted(slices) => slices.add(begin, end),
        }
    }

    /// Intervals that are kept.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::Kept(kept) => kept.len(),
            Self::Counted(_) => 0,
        }
    }

    /// Lets the intervals go if there are more than `most`.
    pub(super) fn shrink(&mut self, most: usize) {
        if let Self::Kept(kept) = self
            && kept.len() > most
        {
            *self = Self::Counted(Box::new(Slices::of(kept)));
        }
    }

    pub(super) fn curve(self) -> Concurrency {
        match self {
            Self::Kept(kept) => concurrency(kept),
            Self::Counted(slices) => slices.curve(),
        }
    }
}

/// Begins and ends in each slice.
#[derive(Clone, Debug)]
pub(super) struct Slices {
    from_ns: i64,
    width_ns: i64,
    begun: Vec<u32>,
    ended: Vec<u32>,
    /// First begin, last end, and the sum of all lengths: the mean needs no slices.
    first_ns: i64,
    last_ns: i64,
    area_ns: f64,
}

impl Slices {
    fn of(kept: &[(i64, i64)]) -> Self {
        let first_ns = kept.iter().map(|i| i.0).min().unwrap_or(0);
        let mut slices = Self {
            from_ns: first_ns,
            width_ns: 1,
            begun: vec![0; SLICES],
            ended: vec![0; SLICES],
            first_ns,
            last_ns: first_ns,
            area_ns: 0.0,
        };
        for (begin, end) in kept {
            slices.add(*begin, *end);
        }
        slices
    }

    fn add(&mut self, begin: i64, end: i64) {
        (self.first_ns, self.last_ns) = (self.first_ns.min(begin), self.last_ns.max(end));
        self.area_ns += (end - begin) as f64;
        while (end - self.from_ns) / self.width_ns >= SLICES_NS {
            self.widen();
        }
        // What begins before all that was there when slices began counts from the first one.
        let slice = |ns: i64| (ns.saturating_sub(self.from_ns).max(0) / self.width_ns) as usize;
        let (begin, end) = (slice(begin), slice(end));
        self.begun[begin] += 1;
        self.ended[end] += 1;
    }

    /// Two slices become one.
    fn widen(&mut self) {
        self.width_ns = self.width_ns.saturating_mul(2);
        for counts in [&mut self.begun, &mut self.ended] {
            for slice in 0..SLICES / 2 {
                counts[slice] = counts[2 * slice] + counts[2 * slice + 1];
            }
            counts[SLICES / 2..].fill(0);
        }
    }

    fn curve(&self) -> Concurrency {
        let used = ((self.last_ns - self.from_ns) / self.width_ns) as usize + 1;
        let together = used.div_ceil(MAX_POINTS as usize);
        let (mut now, mut peak) = (0_i64, 0_i64);
        let mut points: Vec<Point> = Vec::new();
        for slice in 0..used.min(SLICES) {
            now += i64::from(self.begun[slice]) - i64::from(self.ended[slice]);
            peak = peak.max(now);
            let at_s = (self.from_ns as f64 + slice as f64 * self.width_ns as f64) / 1e9;
            match points.last_mut() {
                Some(last) if slice % together != 0 => last.in_flight = last.in_flight.max(now.max(0) as u64),
                _ => points.push(Point { at_s, in_flight: now.max(0) as u64 }),
            }
        }
        let span_ns = (self.last_ns - self.first_ns).max(1) as f64;
        Concurrency { peak: peak.max(0) as u64, mean: self.area_ns / span_ns, points }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten at a time for a second each, a new one every 100 ms.
    #[test]
    fn slices_tell_the_same_as_the_sweep() {
        let all: Vec<(i64, i64)> =
            (0..5_000).map(|n| (n * 100_000_000, n * 100_000_000 + 1_000_000_001)).collect();
        let mut kept = Intervals::default();
        let mut counted = Intervals::default();
        for (n, (begin, end)) in all.iter().enumerate() {
            kept.add(*begin, *end);
            counted.add(*begin, *end);
            counted.shrink(if n < 100 { 5_000 } else { 10 });
        }
        assert_eq!((kept.kept(), counted.kept()), (5_000, 0));
        let (exact, near) = (kept.curve(), counted.curve());
        assert!((exact.mean - near.mean).abs() < 1e-9, "{} {}", exact.mean, near.mean);
        assert!(exact.peak.abs_diff(near.peak) <= 1 && near.points.len() <= MAX_POINTS as usize);
        let middle = near.points[near.points.len() / 2];
        assert!((10..=11).contains(&middle.in_flight), "{middle:?}");
    }
}
