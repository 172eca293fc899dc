//! Where values lie on an axis, and which of them are written beside it.
//!
//! Rule: ticks are 1, 2 or 5 times a power of ten, as few digits as tell them apart; an axis from 0 shows 0. Deliberately not
//! here: drawing.

/// Ticks of an axis, about.
const TICKS: f64 = 6.0;
/// A logarithmic axis over fewer decades has 2 and 5 too.
const FEW_DECADES: f64 = 2.5;

/// Values from the first to the last place of an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
}

impl Scale {
    /// From 0 to the next tick above `most`.
    pub fn from_zero(most: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let step = step(most / TICKS, true);
        Self { from: 0.0, to: (most / step - 1e-9).ceil() * step, logarithmic: false }
    }

    /// From `least` to `most` as they are, for a time axis.
    pub fn between(least: f64, most: f64) -> Self {
        if most > least { Self { from: least, to: most, logarithmic: false } } else { Self::from_zero(most) }
    }

    /// In powers of ten, from the tick below `least` to the one above `most`, both above 0.
    pub fn logarithmic(least: f64, most: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
        let least = if least > 0.0 { least.min(most) } else { most / 10.0 };
        let (from, to) = (step(least, false), step(most, true));
        Self { from, to: if to > from { to } else { from * 10.0 }, logarithmic: true }
    }

    /// For values from `least` to `most`: logarithmic where they differ by much.
    pub fn fitting(least: f64, most: f64) -> Self {
        if least > 0.0 && most / least > 30.0 {
            Self::logarithmic(least, most)
        } else {
            Self::from_zero(most)
        }
    }

    /// The place of a value: 0 is the first, 1 the last.
    pub fn place(&self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }

    /// Values with a mark, and their texts.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        if self.logarithmic {
            let few = (self.to / self.from).log10() <= FEW_DECADES;
            let next = |tick: &f64| {
                let next = if few { step(*tick * 1.5, true) } else { step(*tick * 5.5, true) };
                (next <= self.to * 1.001).then_some(next)
            };
            let first = if few { self.from } else { 10_f64.powf((self.from * 0.999).log10().ceil()) };
            return std::iter::successors(Some(first), next).map(|tick| (tick, number(tick, tick))).collect();
        }
        let width = step((self.to - self.from) / TICKS, true);
        let first = (self.from / width - 1e-9).ceil() as i64;
        let last = (self.to / width + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * width).map(|tick| (tick, number(tick, width))).collect()
    }
}

/// The next of 1, 2, 5, 10, 20 ... that is not below, or not above.
pub fn step(value: f64, up: bool) -> f64 {
    let ten = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|part| part * ten);
    let found = if up {
        steps.into_iter().find(|step| *step >= value * 0.999)
    } else {
        steps.into_iter().rfind(|step| *step <= value * 1.001)
    };
    found.unwrap_or(value)
}

/// A value with as many decimals as `step` has; thousands and millions shortened.
pub fn number(value: f64, step: f64) -> String {
    let (value, step, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, step / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, step / 1e3, "k"),
        _ => (value, step, ""),
    };
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(scale: Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_as_short_as_they_can_be() {
        assert_eq!(texts(Scale::from_zero(97.0)), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(texts(Scale::from_zero(0.31)), ["0", "0.1", "0.2", "0.3", "0.4"]);
        assert_eq!(texts(Scale::from_zero(2_600_000.0)), ["0", "500k", "1M", "1.5M", "2M", "2.5M", "3M"]);
        assert_eq!(texts(Scale::logarithmic(3.0, 140.0)), ["2", "5", "10", "20", "50", "100", "200"]);
        assert_eq!(texts(Scale::logarithmic(0.03, 900.0)), ["0.1", "1", "10", "100", "1000"]);
        assert_eq!(texts(Scale::between(0.0, 63.0)), ["0", "20", "40", "60"]);
        assert_eq!(texts(Scale::from_zero(f64::NAN)).len(), 6);
    }

    #[test]
    fn only_what_differs_by_much_is_logarithmic() {
        assert_eq!(Scale::fitting(10.0, 200.0), Scale::from_zero(200.0));
        assert_eq!(Scale::fitting(1.0, 200.0), Scale::logarithmic(1.0, 200.0));
    }

    proptest! {
        #[test]
        fn every_value_has_its_place_and_no_axis_is_crowded(least in 1e-6_f64..1e6, more in 1.0_f64..1e6) {
            let most = least * more;
            for scale in [Scale::from_zero(most), Scale::logarithmic(least, most), Scale::between(least, most)] {
                let ticks = scale.ticks();
                prop_assert!((1..=14).contains(&ticks.len()), "{ticks:?}");
                prop_assert!(ticks.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 != two[1].1), "{ticks:?}");
                prop_assert!(scale.place(least) <= scale.place(most) && scale.place(most) <= 1.0);
            }
        }
    }
}
