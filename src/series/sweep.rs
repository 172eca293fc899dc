//! `--sweep request-rate=10,20,50` and `--repeats N`: which runs those are.
//!
//! Rule: several flags make a grid, each value of one with each of the others, or are swept one at a time, the others as they were
//! given. The repeats of a point differ in their seed alone, each in prompts and arrivals, so that their spread is that of the
//! figures and not of one schedule. All points once, then all again: what drifts meets every point alike. Deliberately not
//! here: what a flag means and which values it takes (`cli::bench`, which reads each point as a command line of its own).

use std::fmt;

/// Points of a series at most.
const MOST_POINTS: usize = 1_000;

/// The flags that can be swept: those with a number. The seed is what `--repeats` is for.
pub const SWEPT: [&str; 26] = [
    "request-rate",
    "max-concurrency",
    "burstiness",
    "schedule-speedup",
    "num-prompts",
    "warmup-requests",
    "temperature",
    "top-p",
    "random-input-len",
    "random-output-len",
    "random-range-ratio",
    "sharegpt-output-len",
    "sharegpt-context-len",
    "gsp-num-groups",
    "gsp-prompts-per-group",
    "gsp-system-prompt-len",
    "gsp-question-len",
    "gsp-output-len",
    "gsp-range-ratio",
    "gsp-zipf-alpha",
    "mt-users",
    "mt-turns",
    "mt-system-prompt-len",
    "mt-output-len",
    "mt-think-time",
    "weka-sessions",
];

/// One flag with one value.
#[derive(Clone, Debug)]
pub struct Setting {
    flag: &'static str,
    /// As it was written.
    value: String,
    number: f64,
}

/// Two ways to write a number are one value.
impl PartialEq for Setting {
    fn eq(&self, other: &Self) -> bool {
        self.flag == other.flag && self.number.total_cmp(&other.number).is_eq()
    }
}

impl Setting {
    fn parse(flag: &'static str, value: &str) -> Result<Self, String> {
        let number = value.parse::<f64>().ok().filter(|number| !number.is_nan());
        let number = number.ok_or_else(|| format!("{flag}: expected numbers, got {value:?}"))?;
        Ok(Self { flag, value: value.to_owned(), number })
    }

    /// The flag without its dashes.
    pub fn flag(&self) -> &'static str {
        self.flag
    }

    /// Its value as it was written.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// What is changed for a run; nothing where there are repeats alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Point(Vec<Setting>);

impl Point {
    /// Each flag that is changed.
    pub fn settings(&self) -> &[Setting] {
        &self.0
    }

    /// Points with other values of its first flag, of which a flag may refuse some: twice and half as much, and 1 and 2.
    pub fn others(&self) -> Vec<Self> {
        let Some(setting) = self.0.first() else { return Vec::new() };
        let numbers = [setting.number * 2.0, setting.number / 2.0, 1.0, 2.0];
        let others = numbers.into_iter().map(|number| Setting {
            number,
            value: number.to_string(),
            ..setting.clone()
        });
        others.filter(|other| other != setting).map(|other| Self([&[other], &self.0[1..]].concat())).collect()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("as given");
        }
        for (nth, setting) in self.0.iter().enumerate() {
            let space = if nth == 0 { "" } else { " " };
            write!(f, "{space}{}={}", setting.flag, setting.value)?;
        }
        Ok(())
    }
}

/// One flag with the values of it that are tried, in the order in which they were written; none twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis(Vec<Setting>);

impl Axis {
    /// Reads `FLAG=VALUE,VALUE`.
    ///
    /// # Errors
    /// The flag cannot be swept, or a value is none of its.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (flag, values) = text
            .split_once('=')
            .ok_or_else(|| format!("expected FLAG=VALUE,VALUE such as request-rate=10,20,50; got {text}"))?;
        let flag = flag.trim().trim_start_matches("--");
        let can = || format!("{flag} cannot be swept; {} can", SWEPT.join(", "));
        let flag = SWEPT.into_iter().find(|swept| *swept == flag).ok_or_else(can)?;
        let settings = values.split(',').map(|value| Setting::parse(flag, value.trim()));
        let settings = settings.collect::<Result<Vec<_>, _>>()?;
        match settings.iter().enumerate().find(|(i, setting)| settings[..*i].contains(setting)) {
            Some((_, twice)) => Err(format!(
                "{flag}={} is there twice; --repeats makes each point several times",
                twice.value
            )),
            None => Ok(Self(settings)),
        }
    }

    /// The flag without its dashes.
    pub fn flag(&self) -> &'static str {
        self.0.first().map_or("", Setting::flag)
    }

    /// Each of its values alone.
    pub fn points(&self) -> Vec<Point> {
        self.0.iter().map(|setting| Point(vec![setting.clone()])).collect()
    }
}

/// How several flags are swept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Each value of one with each of the others.
    #[default]
    Grid,
    /// Each value of one, the others as they were given; then those of the next.
    OneAtATime,
}

/// The points of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep(Vec<Point>);

impl Sweep {
    /// The points of these flags; the last one changes from point to point of a grid. Without a flag one point.
    ///
    /// # Errors
    /// A flag is there twice, or the points are too many.
    pub fn new(axes: &[Axis], mode: Mode) -> Result<Self, String> {
        for (i, axis) in axes.iter().enumerate() {
            if axes[..i].iter().any(|other| other.flag() == axis.flag()) {
                return Err(format!("{} is swept twice; give all its values in one", axis.flag()));
            }
        }
        let sizes = axes.iter().map(|axis| axis.0.len());
        let count = match mode {
            Mode::Grid => sizes.fold(1_usize, usize::saturating_mul),
            Mode::OneAtATime => sizes.sum(),
        };
        if count > MOST_POINTS {
            return Err(format!("{count} points; at most {MOST_POINTS}"));
        }
        let points = match mode {
            _ if axes.is_empty() => vec![Point::default()],
            Mode::OneAtATime => axes.iter().flat_map(Axis::points).collect(),
            Mode::Grid => axes.iter().fold(vec![Point::default()], |points, axis| {
                let with = |point: &Point, setting: &Setting| {
                    Point([&point.0[..], std::slice::from_ref(setting)].concat())
                };
                points.iter().flat_map(|point| axis.0.iter().map(move |s| with(point, s))).collect()
            }),
        };
        Ok(Self(points))
    }

    /// The points.
    pub fn points(&self) -> &[Point] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(texts: &[&str], mode: Mode) -> Result<Vec<String>, String> {
        let axes = texts.iter().map(|text| Axis::parse(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Sweep::new(&axes, mode)?.points().iter().map(Point::to_string).collect())
    }

    #[test]
    fn sweeps_are_read() {
        assert_eq!(
            points(&["request-rate=10, 2.5,inf"], Mode::Grid).unwrap(),
            ["request-rate=10", "request-rate=2.5", "request-rate=inf"]
        );
        assert_eq!(
            points(&["--burstiness=0.5,1"], Mode::OneAtATime).unwrap(),
            ["burstiness=0.5", "burstiness=1"]
        );
        assert_eq!(points(&[], Mode::Grid).unwrap(), ["as given"]);
    }

    #[test]
    fn a_point_has_others_beside_it() {
        let others = |text: &str| -> Vec<String> {
            Axis::parse(text).unwrap().points()[0].others().iter().map(Point::to_string).collect()
        };
        assert_eq!(others("mt-turns=3"), ["mt-turns=6", "mt-turns=1.5", "mt-turns=1", "mt-turns=2"]);
        assert_eq!(others("request-rate=inf"), ["request-rate=1", "request-rate=2"]);
        assert_eq!(others("temperature=0"), ["temperature=1", "temperature=2"]);
    }

    #[test]
    fn two_flags_are_a_grid_or_come_one_at_a_time() {
        let two = ["max-concurrency=1,64", "random-input-len=128,1024"];
        assert_eq!(
            points(&two, Mode::Grid).unwrap(),
            [
                "max-concurrency=1 random-input-len=128",
                "max-concurrency=1 random-input-len=1024",
                "max-concurrency=64 random-input-len=128",
                "max-concurrency=64 random-input-len=1024"
            ]
        );
        assert_eq!(
            points(&two, Mode::OneAtATime).unwrap(),
            ["max-concurrency=1", "max-concurrency=64", "random-input-len=128", "random-input-len=1024"]
        );
    }

    #[test]
    fn what_cannot_be_swept_is_told() {
        let many =
            |flag: &str| format!("{flag}={}", (1..=40).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
        for (bad, word) in [
            (vec!["request-rate"], "such as"),
            (vec!["seed=1,2"], "seed cannot be swept; request-rate, max-concurrency, "),
            (vec!["request-rate=10,"], "request-rate: expected numbers, got \"\""),
            (vec!["max-concurrency=many"], "max-concurrency: expected numbers, got \"many\""),
            (vec!["gsp-zipf-alpha=nan"], "gsp-zipf-alpha: expected numbers"),
            (vec!["request-rate=10,10.0"], "request-rate=10.0 is there twice"),
            (vec!["request-rate=10", "request-rate=20"], "request-rate is swept twice"),
            (vec![&many("request-rate"), &many("max-concurrency")], "1600 points; at most 1000"),
        ] {
            let told = points(&bad, Mode::Grid).unwrap_err();
            assert!(told.contains(word), "{bad:?}: {told}");
        }
    }
}
