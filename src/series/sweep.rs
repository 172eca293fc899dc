//! `--sweep request-rate=10,20,50` and `--repeats N`: which runs those are.
//!
//! Rule: the repeats of a point differ in their seed alone, each in prompts and arrivals, so that their spread is that of the
//! figures and not of one schedule. All points once, then all again: what drifts meets every point alike. Deliberately not
//! here: what a point changes in a configuration (`cli::bench`).

use std::fmt;

use crate::load::schedule::Rate;

/// Values of a sweep at most, and repeats.
const MOST_VALUES: usize = 1_000;

/// What is changed from run to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point {
    /// Nothing: repeats alone.
    Same,
    /// `--request-rate`.
    RequestRate(Rate),
    /// `--max-concurrency`.
    MaxConcurrency(u32),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("as given"),
            Self::RequestRate(Rate::AllAtOnce) => f.write_str("request-rate=inf"),
            Self::RequestRate(Rate::PerSecond(rate)) => write!(f, "request-rate={rate}"),
            Self::MaxConcurrency(places) => write!(f, "max-concurrency={places}"),
        }
    }
}

/// Points in the order in which they were written; none twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep(Vec<Point>);

impl Default for Sweep {
    fn default() -> Self {
        Self(vec![Point::Same])
    }
}

impl Sweep {
    /// Reads `FLAG=VALUE,VALUE`.
    ///
    /// # Errors
    /// The flag cannot be swept, or a value is none of its.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (flag, values) = text
            .split_once('=')
            .ok_or_else(|| format!("expected FLAG=VALUE,VALUE such as request-rate=10,20,50; got {text}"))?;
        let read: fn(&str) -> Result<Point, String> = match flag.trim().trim_start_matches("--") {
            "request-rate" => |value| Rate::parse(value).map(Point::RequestRate),
            "max-concurrency" => |value| {
                let places = value.parse().ok().filter(|n| (1..=1_000_000).contains(n));
                places.map(Point::MaxConcurrency).ok_or_else(|| format!("expected 1 to 1000000, got {value}"))
            },
            other => return Err(format!("{other} cannot be swept; request-rate and max-concurrency can")),
        };
        let points = values.split(',').map(|value| read(value.trim())).collect::<Result<Vec<_>, _>>()?;
        if points.len() > MOST_VALUES {
            return Err(format!("{} values; at most {MOST_VALUES}", points.len()));
        }
        match points.iter().enumerate().find(|(i, point)| points[..*i].contains(point)) {
            Some((_, twice)) => {
                Err(format!("{twice} is there twice; --repeats makes each point several times"))
            }
            None => Ok(Self(points)),
        }
    }

    /// The points.
    pub fn points(&self) -> &[Point] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeps_are_read() {
        let of = |text: &str| {
            Sweep::parse(text).unwrap().points().iter().map(Point::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            of("request-rate=10, 2.5,inf"),
            ["request-rate=10", "request-rate=2.5", "request-rate=inf"]
        );
        assert_eq!(of("--max-concurrency=1,64"), ["max-concurrency=1", "max-concurrency=64"]);
    }

    #[test]
    fn what_cannot_be_swept_is_told() {
        for (bad, word) in [
            ("request-rate", "such as"),
            ("seed=1,2", "seed cannot be swept"),
            ("request-rate=10,", "above 0"),
            ("max-concurrency=0", "1 to 1000000"),
            ("request-rate=10,10", "twice"),
        ] {
            let told = Sweep::parse(bad).unwrap_err();
            assert!(told.contains(word), "{bad}: {told}");
        }
    }
}
