//! What was typed, and its reading by the table.
//!
//! Rule: a value is read as its flag says and nowhere else; where nothing was typed, the table's default is read. Numbers are
//! read as Python reads them (blanks around, a plus, underscores between digits). Deliberately not here: what values mean.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use super::flag::{Flag, Takes, Value};
use super::{FlagError, all};

/// A century is for ever, and adding it to a clock cannot overflow.
const FOR_EVER_SECS: u64 = 3_155_760_000;

/// The flags of a command line with their values.
#[derive(Clone, Debug, Default)]
pub struct Given {
    values: BTreeMap<&'static str, Vec<OsString>>,
}

impl Given {
    /// Notes that `flag` was given with `values`; an earlier note of the same flag is replaced.
    pub fn set(&mut self, flag: &Flag, values: Vec<OsString>) {
        self.values.insert(flag.name, values);
    }

    /// True if the flag was given, with whatever value.
    pub fn has(&self, flag: &Flag) -> bool {
        self.values.contains_key(flag.name)
    }

    /// What was typed behind the flag; nothing if it was not given.
    pub fn values(&self, flag: &Flag) -> &[OsString] {
        self.values.get(flag.name).map_or(&[], Vec::as_slice)
    }

    /// Every value of every flag, and every default, is of its flag's kind.
    pub fn check(&self) -> Result<(), FlagError> {
        for flag in all() {
            for value in self.texts(flag)? {
                match flag.value {
                    Value::Integer(..) => drop(integer(flag, value)?),
                    Value::Number(..) => drop(number(flag, value)?),
                    Value::Word(words) if !words.contains(&value) => {
                        return Err(FlagError::value(flag, value));
                    }
                    _ => (),
                }
            }
        }
        Ok(())
    }

    /// True if the flag was given a value other than its default.
    pub fn differs(&self, flag: &Flag) -> bool {
        let Some(values) = self.values.get(flag.name) else { return false };
        let same = |typed: &str, default: &str| match flag.value {
            Value::Integer(..) => integer(flag, typed) == integer(flag, default),
            Value::Number(..) => number(flag, typed) == number(flag, default),
            _ => typed == default,
        };
        match (flag.takes, flag.default) {
            (Takes::Switch, _) => true,
            (_, Some(default)) => !values.iter().all(|v| v.to_str().is_some_and(|v| same(v, default))),
            (_, None) => !values.is_empty(),
        }
    }

    /// A switch was given.
    pub(super) fn switch(&self, flag: &Flag) -> bool {
        self.has(flag)
    }

    /// The flag's values as text, or its default.
    pub(super) fn texts<'a>(&'a self, flag: &Flag) -> Result<Vec<&'a str>, FlagError> {
        // A path may be any bytes.
        if flag.value == Value::Path {
            return Ok(Vec::new());
        }
        match self.values.get(flag.name) {
            None => Ok(flag.default.into_iter().collect()),
            Some(values) => values.iter().map(|value| text(flag, value)).collect(),
        }
    }

    /// The flag's value as text, or its default.
    pub(super) fn text<'a>(&'a self, flag: &Flag) -> Result<Option<&'a str>, FlagError> {
        Ok(self.texts(flag)?.first().copied())
    }

    /// The value of a flag that has a default.
    fn required<'a>(&'a self, flag: &Flag) -> Result<&'a str, FlagError> {
        self.text(flag)?.ok_or_else(|| FlagError::value(flag, ""))
    }

    /// The whole number of a flag that has a default.
    pub(super) fn integer<T: TryFrom<i128>>(&self, flag: &Flag) -> Result<T, FlagError> {
        let text = self.required(flag)?;
        T::try_from(integer(flag, text)?).map_err(|_| FlagError::value(flag, text))
    }

    /// The whole number, if the flag was given.
    pub(super) fn optional_integer<T: TryFrom<i128>>(&self, flag: &Flag) -> Result<Option<T>, FlagError> {
        self.has(flag).then(|| self.integer(flag)).transpose()
    }

    /// The number of a flag that has a default.
    pub(super) fn number(&self, flag: &Flag) -> Result<f64, FlagError> {
        number(flag, self.required(flag)?)
    }

    /// The flag's numbers.
    pub(super) fn numbers(&self, flag: &Flag) -> Result<Vec<f64>, FlagError> {
        self.texts(flag)?.into_iter().map(|text| number(flag, text)).collect()
    }

    /// The seconds of a flag that has a default; more than a century is a century.
    pub(super) fn seconds(&self, flag: &Flag) -> Result<Duration, FlagError> {
        Ok(Duration::from_secs(self.integer::<u64>(flag)?.min(FOR_EVER_SECS)))
    }

    /// The milliseconds of a flag that has a default; more than a century is a century.
    pub(super) fn millis(&self, flag: &Flag) -> Result<Duration, FlagError> {
        Ok(Duration::from_millis(self.integer::<u64>(flag)?.min(FOR_EVER_SECS * 1000)))
    }

    /// The flag's paths, none of them empty.
    pub(super) fn paths(&self, flag: &Flag) -> Result<Vec<PathBuf>, FlagError> {
        let path = |value: &OsString| {
            if value.is_empty() { Err(FlagError::value(flag, "")) } else { Ok(PathBuf::from(value)) }
        };
        self.values(flag).iter().map(path).collect()
    }

    /// The flag's path, if it was given.
    pub(super) fn path(&self, flag: &Flag) -> Result<Option<PathBuf>, FlagError> {
        Ok(self.paths(flag)?.into_iter().next())
    }
}

fn text<'a>(flag: &Flag, value: &'a OsStr) -> Result<&'a str, FlagError> {
    value.to_str().ok_or_else(|| FlagError::expected(flag, "UTF-8", &value.to_string_lossy()))
}

fn integer(flag: &Flag, text: &str) -> Result<i128, FlagError> {
    let wrong = || FlagError::value(flag, text);
    let value = python_digits(text).and_then(|digits| digits.parse::<i128>().ok()).ok_or_else(wrong)?;
    match flag.value {
        Value::Integer(least, most) if (least..=most).contains(&value) => Ok(value),
        Value::Integer(_, most) if value > most => {
            Err(FlagError::expected(flag, format!("a whole number of at most {most}"), text))
        }
        _ => Err(wrong()),
    }
}

fn number(flag: &Flag, text: &str) -> Result<f64, FlagError> {
    let wrong = || FlagError::value(flag, text);
    let value = python_digits(text).and_then(|digits| digits.parse::<f64>().ok()).ok_or_else(wrong)?;
    match flag.value {
        // NaN is in no range.
        Value::Number(least, most) if (least..=most).contains(&value) => Ok(value),
        _ => Err(wrong()),
    }
}

/// Without the blanks around and the underscores between digits; `None` where an underscore stands elsewhere.
fn python_digits(text: &str) -> Option<String> {
    let text = text.trim();
    let stands_between_digits = |(i, _): (usize, &str)| {
        let digit = |c: Option<&u8>| c.is_some_and(u8::is_ascii_digit);
        digit(text.as_bytes()[..i].last()) && digit(text.as_bytes().get(i + 1))
    };
    text.match_indices('_').all(stands_between_digits).then(|| text.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags::{fleet, requests, routing};

    fn given(flag: &Flag, values: &[&str]) -> Given {
        let mut given = Given::default();
        given.set(flag, values.iter().map(Into::into).collect());
        given
    }

    #[test]
    fn numbers_are_read_as_python_reads_them() {
        for (text, value) in [("7", 7), (" 7 ", 7), ("+7", 7), ("1_000", 1000), ("007", 7)] {
            assert_eq!(given(&fleet::PORT, &[text]).integer::<u16>(&fleet::PORT), Ok(value), "{text}");
        }
        for text in ["", "_1", "1_", "1__0", "0x10", "7.0", "7a", "-1", "65536", "\u{0667}"] {
            assert!(given(&fleet::PORT, &[text]).integer::<u16>(&fleet::PORT).is_err(), "{text}");
        }
        for text in ["0.5", "5e-1", ".5", "+0.5"] {
            let share = given(&routing::CACHE_THRESHOLD, &[text]).number(&routing::CACHE_THRESHOLD);
            assert_eq!(share, Ok(0.5), "{text}");
        }
        for text in ["nan", "inf", "1.01", "-0.1", "half", ""] {
            assert!(given(&routing::CACHE_THRESHOLD, &[text]).number(&routing::CACHE_THRESHOLD).is_err());
        }
    }

    #[test]
    fn an_error_says_what_the_flag_takes() {
        let error = |flag: &Flag, text: &str| given(flag, &[text]).check().unwrap_err().to_string();
        for (error, words) in [
            (error(&fleet::PORT, "70000"), "--port: expected a whole number of at most 65535, got 70000"),
            (
                error(&requests::MAX_PAYLOAD, "0"),
                "--max-payload-size: expected a whole number of at least 1, got 0",
            ),
            (
                error(&requests::JITTER_FACTOR, "2"),
                "--retry-jitter-factor: expected a number from 0 to 1, got 2",
            ),
            (
                error(&routing::ASSIGNMENT_MODE, "any"),
                "--assignment-mode: expected one of random, min_load, min_group, got any",
            ),
        ] {
            assert_eq!(error, words);
        }
        assert!(error(&fleet::PORT, &"9".repeat(100_000)).len() < 400);
    }

    #[test]
    fn a_default_spelt_out_is_no_difference() {
        assert!(!given(&fleet::PORT, &["030000"]).differs(&fleet::PORT));
        assert!(!given(&requests::BACKOFF_MULTIPLIER, &["1.50"]).differs(&requests::BACKOFF_MULTIPLIER));
        assert!(!given(&fleet::WORKER_URLS, &[]).differs(&fleet::WORKER_URLS));
        assert!(given(&fleet::PORT, &["1"]).differs(&fleet::PORT));
        assert!(given(&fleet::DP_AWARE, &[]).differs(&fleet::DP_AWARE));
        assert!(!Given::default().differs(&fleet::DP_AWARE));
    }
}
