//! Why a text is no script, and why a script gave no answer.
//!
//! Rule: both say where in the text, and what to do about it. Deliberately not here: which file the text is from.

use std::fmt;

use rhai::{EvalAltResult, ParseError, Position};

/// A place in a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Character in it, from 1.
    pub column: usize,
}

impl Place {
    pub(super) fn of(position: Position) -> Option<Self> {
        let line = position.line()?;
        Some(Self { line, column: position.position().unwrap_or(1) })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// Where; `None` if that is nowhere in particular.
    pub place: Option<Place>,
    /// What is wrong, and what to do.
    pub what: String,
}

/// Longest part of a message that a script can have a say in.
const MAX_MESSAGE_CHARS: usize = 300;

impl ScriptError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { place: None, what: what.into() }
    }

    pub(super) fn at(position: Position, what: impl Into<String>) -> Self {
        Self { place: Place::of(position), what: what.into() }
    }

    pub(super) fn parse(error: &ParseError) -> Self {
        let what = shortened(&error.0.to_string());
        let hint = if what.contains("ndefined variable") {
            "; a function sees its arguments and nothing else: write a constant as fn name() { 1.5 }"
        } else if what.contains("reserved") || what.contains("disabled") {
            "; a script can compute and nothing else"
        } else {
            ""
        };
        Self { place: Place::of(error.1), what: format!("{what}{hint}") }
    }
}

impl ScriptError {
    /// Of a text that is one expression.
    pub(super) fn expression(error: &ParseError) -> Self {
        Self { place: Place::of(error.1), what: shortened(&error.0.to_string()) }
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl std::error::Error for ScriptError {}

/// Why a script gave no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It threw, or did what cannot be done.
    Error,
    /// It took too many operations.
    Operations,
    /// It called itself too deep.
    Depth,
    /// A string, array or map became too large, or there were too many variables.
    Size,
    /// What it gave is neither a number nor `()`.
    WrongType,
    /// A score is infinite or not a number.
    NotFinite,
    /// It chose a worker that is not there.
    UnknownWorker,
    /// It chose nobody.
    Nobody,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Error,
        Self::Operations,
        Self::Depth,
        Self::Size,
        Self::WrongType,
        Self::NotFinite,
        Self::UnknownWorker,
        Self::Nobody,
    ];

    /// The cause in one word.
    pub fn word(self) -> &'static str {
        self.reason().strip_prefix("script_fallback:").unwrap_or_default()
    }

    /// What the decision record says.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Error => "script_fallback:error",
            Self::Operations => "script_fallback:operations",
            Self::Depth => "script_fallback:depth",
            Self::Size => "script_fallback:size",
            Self::WrongType => "script_fallback:wrong_type",
            Self::NotFinite => "script_fallback:not_finite",
            Self::UnknownWorker => "script_fallback:unknown_worker",
            Self::Nobody => "script_fallback:nobody",
        }
    }

    /// The cause that a decision's reason tells of; `None` if it is no fallback.
    pub fn of_reason(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.reason() == reason)
    }
}

/// One run that gave no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) what: String,
}

impl Failure {
    pub(super) fn new(cause: Cause, what: impl Into<String>) -> Self {
        Self { cause, what: what.into() }
    }

    pub(super) fn of(error: &EvalAltResult) -> Self {
        let inner = error.unwrap_inner();
        let cause = match inner {
            EvalAltResult::ErrorTooManyOperations(_) => Cause::Operations,
            EvalAltResult::ErrorStackOverflow(_) => Cause::Depth,
            EvalAltResult::ErrorDataTooLarge(..) | EvalAltResult::ErrorTooManyVariables(_) => Cause::Size,
            _ => Cause::Error,
        };
        let message = shortened(&inner.to_string());
        let hint = if matches!(inner, EvalAltResult::ErrorFunctionNotFound(..)) && message.contains("()") {
            "; () is a value that is not known: say what counts instead, as in x ?? 1.0, or ask known(x)"
        } else {
            ""
        };
        Self { cause, what: format!("{message}{hint}") }
    }
}

fn shortened(message: &str) -> String {
    let line = message.replace(['\n', '\r'], " ");
    match line.char_indices().nth(MAX_MESSAGE_CHARS) {
        Some((end, _)) => format!("{}..", &line[..end]),
        None => line,
    }
}
