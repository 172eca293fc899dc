//! `milepost replay`: a recorded trace, decided again.
//!
//! | module | what it is |
//! |---|---|
//! | [`reading`] | the trace, line by line, into what the others need |
//! | [`exact`] | the calls of a journal made again: the same decisions, or the first that is not |
//! | [`rows`] | the requests, as they were asked and as they were answered |
//! | [`prompt`] | prompts as tokens: of their hashes, or guessed from what was said to match |
//! | [`fit`] | simulated workers that answer as the recorded ones did |
//! | [`arm`] | one policy in front of them |
//! | [`figures`], [`table`], [`json`] | what came of it, for people and for programs |
//!
//! Rule: what is not known exactly is called approximate, first and with the reason, and how far the simulation is from what was
//! recorded is printed beside what it says. Offline: no socket, no clock, every random choice by a seed. Deliberately not here:
//! the command line (`cli::replay`).

pub mod arm;
pub mod exact;
pub mod figures;
pub mod fit;
pub mod json;
pub mod prompt;
pub mod reading;
pub mod rows;
pub mod table;

use std::fmt;

use milepost_policies::{PolicyConfig, UnknownPolicy};

use self::arm::{Arm, Played, Progress};
use self::figures::Difference;
use self::fit::Fitted;
use self::reading::{Limits, Reading};
use crate::trace::reader::ReadError;

/// Differences that are listed for each policy.
pub const DIFFERENCES: usize = 10;

/// What is to be replayed.
#[derive(Clone, Debug, Default)]
pub struct ReplayConfig {
    /// Policies to try.
    pub policies: Vec<String>,
    /// Seed of their random choices; `None`: the recorded one.
    pub seed: Option<u64>,
    /// Bounds of what is read.
    pub limits: Limits,
}

/// Why there is no replay.
#[derive(Debug)]
pub enum ReplayError {
    /// The trace cannot be read.
    Read(ReadError),
    /// There is no such run in it.
    NoRun {
        /// Asked for.
        asked: usize,
        /// There are so many.
        runs: usize,
    },
    /// It holds no request that was answered by a worker.
    Nothing {
        /// Requests in it.
        requests: u64,
    },
    /// A policy that is to be tried.
    Policy(UnknownPolicy),
    /// The journal says what no router writes.
    Journal(String),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::NoRun { asked, runs } => write!(f, "--run {asked}: the trace holds {runs} (from 1)"),
            Self::Nothing { requests: 0 } => f.write_str("the trace holds no request"),
            Self::Nothing { requests } => write!(
                f,
                "none of the {requests} requests in the trace has an answer to go by (a prompt, a worker, a count of tokens)"
            ),
            Self::Policy(error) => write!(f, "--policy: {error}"),
            Self::Journal(why) => write!(f, "the journal cannot be replayed: {why}"),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<ReadError> for ReplayError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Everything that was found out.
#[derive(Debug)]
pub struct Replay {
    /// The trace.
    pub reading: Reading,
    /// Why what follows is approximate beyond being simulated; empty where it is not.
    pub approximate: Vec<String>,
    /// The simulated workers; `None` if no policy was to be tried.
    pub what_if: Option<WhatIf>,
}

/// Policies tried on simulated workers.
#[derive(Debug)]
pub struct WhatIf {
    /// The workers.
    pub fitted: Fitted,
    /// What was recorded.
    pub recorded: figures::Figures,
    /// The recorded choices on the simulated workers: how far these are from the truth.
    pub again: figures::Figures,
    /// The policies, the recorded one first.
    pub arms: Vec<Tried>,
}

/// One policy.
#[derive(Debug)]
pub struct Tried {
    /// Its name.
    pub policy: String,
    /// It is the one that was recorded.
    pub is_recorded: bool,
    /// What it would have given.
    pub figures: figures::Figures,
    /// Requests that it would have sent elsewhere than they went.
    pub elsewhere: u64,
    /// Those of them that would have gained most.
    pub gains: Vec<Difference>,
}

/// Refuses a policy that there is not, before anything is read.
pub fn check_policies(policies: &[String]) -> Result<(), ReplayError> {
    let config = PolicyConfig::default();
    policies
        .iter()
        .try_for_each(|name| milepost_policies::build(name, &config).map(drop).map_err(ReplayError::Policy))
}

/// Replays what was read.
pub fn replay(
    reading: Reading,
    config: &ReplayConfig,
    progress: &dyn Progress,
) -> Result<Replay, ReplayError> {
    let approximate = reading.approximate();
    let what_if = if config.policies.is_empty() {
        None
    } else if reading.rows.is_empty() {
        return Err(ReplayError::Nothing { requests: reading.requests });
    } else {
        Some(try_all(&reading, config, progress)?)
    };
    Ok(Replay { reading, approximate, what_if })
}

fn try_all(reading: &Reading, config: &ReplayConfig, progress: &dyn Progress) -> Result<WhatIf, ReplayError> {
    let recorded_policy = reading.policy();
    let mut settings = reading.policy_config();
    settings.seed = config.seed.unwrap_or(settings.seed);
    let is_known = |name: &str| milepost_policies::build(name, &settings).is_ok();
    let mut names: Vec<&str> =
        recorded_policy.iter().map(String::as_str).filter(|name| is_known(name)).collect();
    for name in &config.policies {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    progress.begins("fitting the workers", 1);
    let fitted = fit::fit(reading);
    progress.begins("simulating", (names.len() as u64 + 1) * reading.rows.len() as u64);
    let again = Arm::recorded(reading, &fitted).play(progress);
    let arms: Result<Vec<Arm<'_>>, UnknownPolicy> =
        names.iter().map(|name| Arm::of(name, &settings, reading, &fitted)).collect();
    let played = arm::play_all(arms.map_err(ReplayError::Policy)?, progress);
    let tried = names.iter().zip(played).map(|(name, played)| Tried {
        policy: (*name).to_owned(),
        is_recorded: recorded_policy.as_deref() == Some(*name),
        figures: figures::Figures::of(reading, &played),
        elsewhere: figures::elsewhere(reading, &played),
        gains: figures::gains(reading, &again, &played, DIFFERENCES),
    });
    let arms = tried.collect();
    let recorded = figures::Figures::of(reading, &Played::recorded(reading));
    Ok(WhatIf { recorded, again: figures::Figures::of(reading, &again), fitted, arms })
}

#[cfg(test)]
mod tests;
