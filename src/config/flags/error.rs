//! Why a command line cannot be used.
//!
//! Rule: an error names the flag, the value and what was expected, or what to do instead; a secret is never in it.

use std::fmt;

use super::flag::{Flag, Value};
use crate::config::ConfigError;
use crate::config::policy_file::PolicyError;

/// Longest part of a value that is quoted back.
const QUOTED_CHARS: usize = 200;

/// Why a command line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagError {
    /// A value is not what its flag takes.
    Value {
        /// The flag, without dashes.
        flag: &'static str,
        /// What would do.
        expected: String,
        /// What was typed; `None` where that may be a secret.
        got: Option<String>,
    },
    /// One part of a flag's value cannot be used.
    Part {
        /// The flag, without dashes.
        flag: &'static str,
        /// The part, as typed.
        part: String,
        /// What is wrong with it, or what was expected.
        why: String,
    },
    /// Two flags do not go together.
    Pair {
        /// The flag that was given.
        flag: &'static str,
        /// The other one.
        other: &'static str,
        /// What is wrong between them.
        why: String,
    },
    /// Flags that would be wrong to pass over, each with its reason.
    Refused(Vec<(&'static str, &'static str)>),
    /// There is no such policy.
    Policy(PolicyError),
    /// A worker's URL.
    Workers(ConfigError),
}

impl FlagError {
    /// The value of `flag` is not what it takes.
    pub(super) fn value(flag: &Flag, got: &str) -> Self {
        Self::expected(flag, flag.value.to_string(), got)
    }

    /// The value of `flag` is not `expected`.
    pub(super) fn expected(flag: &Flag, expected: impl Into<String>, got: &str) -> Self {
        let got = (flag.value != Value::Secret).then(|| quoted(got));
        Self::Value { flag: flag.name, expected: expected.into(), got }
    }

    /// `part` of the value of `flag` cannot be used.
    pub(super) fn part(flag: &Flag, part: &str, why: impl Into<String>) -> Self {
        Self::Part { flag: flag.name, part: quoted(part), why: why.into() }
    }
}

fn quoted(typed: &str) -> String {
    let mut text: String = typed.chars().take(QUOTED_CHARS).collect();
    if text.len() < typed.len() {
        text.push('\u{2026}');
    }
    text
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { flag, expected, got: Some(got) } if got.is_empty() => {
                write!(f, "--{flag}: expected {expected}, got an empty text")
            }
            Self::Value { flag, expected, got: Some(got) } => {
                write!(f, "--{flag}: expected {expected}, got {got}")
            }
            Self::Value { flag, expected, got: None } => write!(f, "--{flag}: expected {expected}"),
            Self::Part { flag, part, why } if part.is_empty() => {
                write!(f, "--{flag}: an empty part: {why}")
            }
            Self::Part { flag, part, why } => write!(f, "--{flag}: {part}: {why}"),
            Self::Pair { flag, other, why } => write!(f, "--{flag} and --{other}: {why}"),
            Self::Refused(flags) => {
                f.write_str("this command line cannot be routed by milepost: ")?;
                super::notice::write_reasons(f, flags)
            }
            Self::Policy(error) => write!(f, "--policy: {error}"),
            Self::Workers(error) => write!(f, "--worker-urls: {error}"),
        }
    }
}

impl std::error::Error for FlagError {}
