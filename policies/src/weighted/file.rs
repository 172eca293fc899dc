//! The weights of `weighted` as a TOML text.
//!
//! Rule: what cannot be meant is an error that names the entry, its line and what would do. Deliberately not here: reading
//! files.

use std::fmt;
use std::ops::Range;

use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::{ALL, Picker, SCORERS, Weights};
use crate::registry::nearest;

/// `temperature` where none is given: a worker whose score is 0.2 (of 1) less than another's is e times less likely.
pub(super) const TEMPERATURE: f64 = 0.2;
/// Largest text, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// What is allowed beside the scorers.
const KEYS: [&str; 3] = ["scorers", "picker", "temperature"];
const PICKERS: [(&str, Picker); 3] =
    [("max", Picker::Max), ("softmax", Picker::Softmax), ("two_choices", Picker::TwoChoices)];

/// Why a text does not say how to weigh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightsError {
    /// The entry, such as `scorers.prefix_match`; empty if it is none in particular.
    pub entry: String,
    /// Its line, from 1; `None` if it is none in particular.
    pub line: Option<usize>,
    /// What is wrong, and what would do.
    pub what: String,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.entry.is_empty() {
            write!(f, "{}: ", self.entry)?;
        }
        f.write_str(&self.what)?;
        match self.line {
            Some(line) => write!(f, " (line {line})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for WeightsError {}

/// The text that is read, for the lines of its errors.
struct Source<'a>(&'a str);

impl Source<'_> {
    fn error(
        &self,
        entry: impl Into<String>,
        place: Option<Range<usize>>,
        what: impl Into<String>,
    ) -> WeightsError {
        let before = place.and_then(|place| self.0.get(..place.start));
        let line = before.map(|before| 1 + before.matches('\n').count());
        WeightsError { entry: entry.into(), line, what: what.into() }
    }
}

impl Weights {
    /// Reads a TOML text; `policies/README.md` has an example.
    pub fn parse(text: &str) -> Result<Self, WeightsError> {
        let source = Source(text);
        if text.len() > MAX_BYTES {
            let what = format!("the file has {} bytes, at most {MAX_BYTES} are read", text.len());
            return Err(source.error("", None, what));
        }
        let table = DeTable::parse(text)
            .map_err(|error| source.error("", error.span(), format!("no TOML: {}", error.message())))?;
        let mut weights = Self { of_scorers: [0.0; SCORERS], picker: Picker::Max, temperature: TEMPERATURE };
        let mut scorers = None;
        for (key, value) in table.get_ref() {
            let place = Some(value.span());
            match key.get_ref().as_ref() {
                "scorers" => scorers = Some(value),
                "picker" => weights.picker = picker(&source, value.get_ref(), place)?,
                "temperature" => weights.temperature = temperature(&source, value.get_ref(), place)?,
                other => return Err(source.error(quoted(other), place, unknown("entry", other, &KEYS))),
            }
        }
        let Some(scorers) = scorers else {
            return Err(source.error(
                "scorers",
                None,
                "missing: expected a table [scorers] of names and weights",
            ));
        };
        weights.of_scorers = read(&source, scorers.get_ref(), scorers.span())?;
        Ok(weights)
    }
}

fn picker(
    source: &Source<'_>,
    value: &DeValue<'_>,
    place: Option<Range<usize>>,
) -> Result<Picker, WeightsError> {
    let known = PICKERS.map(|(name, _)| name);
    let Some(typed) = value.as_str() else {
        let what = format!("expected one of {}, got a value of type {}", known.join(", "), value.type_str());
        return Err(source.error("picker", place, what));
    };
    let picker = PICKERS.iter().find(|(name, _)| *name == typed);
    picker
        .map(|(_, picker)| *picker)
        .ok_or_else(|| source.error("picker", place, unknown("picker", typed, &known)))
}

fn temperature(
    source: &Source<'_>,
    value: &DeValue<'_>,
    place: Option<Range<usize>>,
) -> Result<f64, WeightsError> {
    match number(value) {
        Some(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(source.error(
            "temperature",
            place,
            format!("expected a number above 0, got {}", shown(value)),
        )),
    }
}

fn read(
    source: &Source<'_>,
    scorers: &DeValue<'_>,
    place: Range<usize>,
) -> Result<[f64; SCORERS], WeightsError> {
    let Some(table) = scorers.as_table() else {
        let what =
            format!("expected a table of names and weights, got a value of type {}", scorers.type_str());
        return Err(source.error("scorers", Some(place), what));
    };
    let names: Vec<_> = ALL.iter().map(|scorer| scorer.name).collect();
    let mut weights = [0.0; SCORERS];
    for (key, value) in table {
        let (name, place) = (key.get_ref().as_ref(), Some(value.span()));
        let entry = format!("scorers.{}", quoted(name));
        let Some(index) = ALL.iter().position(|scorer| scorer.name == name) else {
            return Err(source.error(entry, place, unknown("scorer", name, &names)));
        };
        weights[index] = match number(value.get_ref()) {
            Some(weight) if weight.is_finite() && weight >= 0.0 => weight,
            _ => {
                let what = format!("expected a weight of 0 or more, got {}", shown(value.get_ref()));
                return Err(source.error(entry, place, what));
            }
        };
    }
    if weights.iter().all(|weight| *weight <= 0.0) {
        return Err(source.error("scorers", Some(place), "expected at least one weight above 0"));
    }
    Ok(scaled(weights))
}

/// The weights, one above 0 among them, with a sum of 1.
pub(super) fn scaled(weights: [f64; SCORERS]) -> [f64; SCORERS] {
    let most = weights.iter().copied().fold(0.0, f64::max);
    // By the largest first, as the sum may be beyond what a number can be.
    let parts = weights.map(|weight| weight / most);
    let sum: f64 = parts.iter().sum();
    parts.map(|part| part / sum)
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    if let Some(integer) = value.as_integer() {
        return i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|integer| integer as f64);
    }
    value.as_float().and_then(|float| float.as_str().parse().ok())
}

fn shown(value: &DeValue<'_>) -> String {
    let number = value.as_integer().map(DeInteger::as_str);
    match number.or(value.as_float().map(DeFloat::as_str)).or(value.as_str()) {
        Some(text) => quoted(text),
        None => format!("a value of type {}", value.type_str()),
    }
}

/// As much of it as anybody needs to find it again.
fn quoted(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

fn unknown(kind: &str, typed: &str, known: &[&'static str]) -> String {
    let meant = nearest(typed, known).map(|name| format!("did you mean {name}? ")).unwrap_or_default();
    format!("no such {kind}; {meant}one of: {}", known.join(", "))
}
