//! A rate that changes: stages of constant or ramped rate, one after the other.
//!
//! Rule: arrivals are made in the time in which the rate is 1 and then stretched by the inverse of the expected count, so that
//! each stage has the shape that was asked for at the rate it has. Deliberately not here: the shape itself.

use std::fmt;

/// One stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Requests a second at its beginning; finite and not negative.
    pub from_per_s: f64,
    /// At its end.
    pub to_per_s: f64,
    /// How long it lasts, seconds; finite and above 0.
    pub lasts_s: f64,
}

/// Stages in order; at least one, and some requests in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages(Vec<Stage>);

impl Stage {
    /// `10` or `10..100`.
    pub fn rates(&self) -> String {
        let Self { from_per_s, to_per_s, .. } = self;
        if (from_per_s - to_per_s).abs() < f64::EPSILON {
            from_per_s.to_string()
        } else {
            format!("{from_per_s}..{to_per_s}")
        }
    }

    /// Requests expected in it.
    fn requests(&self) -> f64 {
        f64::midpoint(self.from_per_s, self.to_per_s) * self.lasts_s
    }

    /// When `requests` of it are expected, seconds after its beginning.
    fn time_of(&self, requests: f64) -> f64 {
        // The root of from·t + (to − from)/(2·lasts)·t² = requests that loses no digits where the two rates are equal.
        let slope = (self.to_per_s - self.from_per_s) / self.lasts_s;
        let root = (self.from_per_s.powi(2) + 2.0 * slope * requests).max(0.0).sqrt();
        let below = self.from_per_s + root;
        if below > 0.0 { (2.0 * requests / below).min(self.lasts_s) } else { 0.0 }
    }
}

impl Stages {
    /// Reads `RATE@TIME` or `FROM..TO@TIME`, with commas between: `10@30s,10..100@1m,100@30s`.
    ///
    /// # Errors
    /// A stage cannot be read, or there is no request in any of them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let stages = text.split(',').map(|stage| parse_stage(stage.trim())).collect::<Result<Vec<_>, _>>()?;
        if stages.iter().map(Stage::requests).sum::<f64>() > 0.0 {
            Ok(Self(stages))
        } else {
            Err(format!("{text}: no request is due in it"))
        }
    }

    /// When `requests` of all are expected, seconds after the start; `None` after the last stage.
    pub(super) fn time_of(&self, mut requests: f64) -> Option<f64> {
        let mut began_s = 0.0;
        for stage in &self.0 {
            let expected = stage.requests();
            if requests < expected {
                return Some(began_s + stage.time_of(requests));
            }
            requests -= expected;
            began_s += stage.lasts_s;
        }
        None
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = &Stage> {
        self.0.iter()
    }

    /// All requests over all the time, a second.
    pub fn mean_per_s(&self) -> f64 {
        self.0.iter().map(Stage::requests).sum::<f64>() / self.lasts_s()
    }

    /// The rate is one all the time.
    pub fn is_even(&self) -> bool {
        let rates = || self.0.iter().flat_map(|stage| [stage.from_per_s, stage.to_per_s]);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        (most - least).abs() < f64::EPSILON
    }

    /// The highest rate, requests a second.
    pub fn peak_per_s(&self) -> f64 {
        self.0.iter().map(|stage| stage.from_per_s.max(stage.to_per_s)).fold(0.0, f64::max)
    }

    /// How long all of them last, seconds.
    pub fn lasts_s(&self) -> f64 {
        self.0.iter().map(|stage| stage.lasts_s).sum()
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stage) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, "{comma}{}@{}s", stage.rates(), stage.lasts_s)?;
        }
        Ok(())
    }
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    let wrong = || format!("expected RATE@TIME or FROM..TO@TIME, such as 10..100@30s; got {text}");
    let (rates, time) = text.split_once('@').ok_or_else(wrong)?;
    let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
    let rate = |text: &str| text.trim().parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0);
    let (from_per_s, to_per_s) = rate(from).zip(rate(to)).ok_or_else(wrong)?;
    Ok(Stage { from_per_s, to_per_s, lasts_s: parse_seconds(time)? })
}

/// Reads a time above 0: `30s`, `1.5m`, `250ms`, `1h`, or seconds without a unit.
///
/// # Errors
/// It is none.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let known = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let with_unit = known.iter().find_map(|(name, seconds)| Some((text.strip_suffix(name)?, *seconds)));
    let (number, unit_s) = with_unit.unwrap_or((text, 1.0));
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 && number * unit_s <= 1e9 => Ok(number * unit_s),
        _ => Err(format!("expected a time above 0 such as 30s, 5m or 250ms; got {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_and_written_back() {
        let stages = Stages::parse("10@30s, 10..100@1m,0@250ms,100@0.5").unwrap();
        assert_eq!(stages.to_string(), "10@30s,10..100@60s,0@0.25s,100@0.5s");
        assert!((stages.lasts_s() - 90.75).abs() < 1e-9);
        assert!((stages.peak_per_s() - 100.0).abs() < 1e-9);
        assert!((stages.mean_per_s() * 90.75 - (300.0 + 3300.0 + 50.0)).abs() < 1e-6);
        assert!(!stages.is_even() && !Stages::parse("1..2@1s").unwrap().is_even());
        assert!(Stages::parse("10@5s,10@6s").unwrap().is_even());
    }

    #[test]
    fn what_is_no_stage_is_told_with_an_example() {
        for bad in
            ["", "10", "10@", "@30s", "10..@30s", "-1@30s", "nan@3s", "10@0s", "10@-3s", "10@30x", "inf@1s"]
        {
            assert!(Stages::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Stages::parse("0@30s").unwrap_err(), "0@30s: no request is due in it");
        assert!(Stages::parse("ten@30s").unwrap_err().contains("such as 10..100@30s"));
    }

    #[test]
    fn a_ramp_has_a_quarter_of_its_requests_in_its_first_half() {
        let ramp = Stages::parse("0..20@10s").unwrap();
        assert!((ramp.time_of(25.0).unwrap() - 5.0).abs() < 1e-9);
        assert!((ramp.time_of(99.999_999).unwrap() - 10.0).abs() < 1e-6);
        assert_eq!(ramp.time_of(100.0), None);
        let down = Stages::parse("20..0@10s").unwrap();
        assert!((down.time_of(75.0).unwrap() - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_pause_lies_between_the_stages_round_it() {
        let stages = Stages::parse("10@1s,0@5s,10@1s").unwrap();
        assert!(stages.time_of(9.99).unwrap() < 1.0);
        assert!((stages.time_of(10.5).unwrap() - 6.05).abs() < 1e-9);
    }
}
