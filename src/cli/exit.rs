//! Exit codes of every command, in one place.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the run failed: something outside the command line went wrong, or no request succeeded |
//! | 2 | usage: an argument, a file or an address that cannot be used as given |
//! | 3 | `bench`: done and written, but the verdict is SUSPECT; `doctor`: all can be used, and something is missing |
//! | 4 | `bench`: done and written, but the verdict is INVALID; `--check-outputs`: workers differ; `doctor`: some servers cannot be used |
//! | 130 | interrupted by Ctrl-C; what was measured so far is written and marked |

use std::fmt;

/// Why a command did not end with 0.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The run failed (1).
    Run(String),
    /// The arguments cannot be used (2).
    Usage(String),
    /// Done, and the verdict is SUSPECT, or something is missing (3).
    Suspect(String),
    /// Done, and the verdict is INVALID, or some servers cannot be used (4).
    Invalid(String),
    /// Ctrl-C (130).
    Interrupted(String),
}

impl Failure {
    /// The process exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Run(_) => 1,
            Self::Usage(_) => 2,
            Self::Suspect(_) => 3,
            Self::Invalid(_) => 4,
            Self::Interrupted(_) => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(m) | Self::Usage(m) | Self::Suspect(m) | Self::Invalid(m) | Self::Interrupted(m) => {
                f.write_str(m)
            }
        }
    }
}

impl std::error::Error for Failure {}
