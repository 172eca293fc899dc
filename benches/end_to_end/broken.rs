//! Why a run is no measurement.

use std::fmt;
use std::process::ExitCode;

/// Why there is no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Somebody wants the bench to end.
    Interrupted,
    /// The run was no measurement, in words.
    Invalid(String),
}

impl Broken {
    pub fn invalid(why: impl Into<String>) -> Self {
        Self::Invalid(why.into())
    }
}

/// How a bench ends: what was no measurement is told.
pub fn exit(ended: Result<(), Broken>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(Broken::Interrupted) => ExitCode::from(130),
        Err(Broken::Invalid(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted => f.write_str("interrupted"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}
