//! Which figures, and what they mean.
//!
//! Rule: `--goodput` takes what `bench_serving` takes. Deliberately not here: the figures (`report`).

use clap::{Args, ValueEnum};

use crate::load::config::OwnColumn;
use crate::report::column;
use crate::report::goodput::Slo;

/// Columns of the user's own at most: each is computed of every row.
const MOST_COLUMNS: usize = 64;

/// What `--explain` is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Explain {
    /// Each number of this run, with its definition
    Shown,
    /// Every definition there is; nothing is sent
    All,
}

/// Which figures.
#[derive(Debug, Args)]
#[command(next_help_heading = "Figures")]
pub(super) struct FigureArgs {
    /// Limits in ms that a good request keeps, such as ttft:200 tpot:50 e2el:5000 (at the client, from the send), or any name that
    /// --explain=all tells
    #[arg(long, value_name = "NAME:MS", num_args = 1..)]
    goodput: Vec<String>,
    /// A metric of your own, computed of each row of requests.csv by its columns: 'ms=ttft*1000'; 64 at most
    #[arg(long, value_name = "NAME=EXPR")]
    column: Vec<String>,
    /// Print definitions: beside the numbers of this run, or with --explain=all every one and nothing else
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "shown")]
    explain: Option<Explain>,
}

impl FigureArgs {
    /// The limits; each name once.
    pub(super) fn slos(&self) -> Result<Vec<Slo>, String> {
        Slo::all(&self.goodput)
    }

    /// The limits as they were given: the lines of a series have what was made of them.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&'static str, String)> {
        (!self.goodput.is_empty()).then(|| ("goodput", self.goodput.join(" "))).into_iter()
    }

    /// Metrics of the user's own; each name once.
    pub(super) fn columns(&self) -> Result<Vec<OwnColumn>, String> {
        if self.column.len() > MOST_COLUMNS {
            return Err(format!(
                "--column: {} of them, at most {MOST_COLUMNS} are computed",
                self.column.len()
            ));
        }
        let mut columns: Vec<OwnColumn> = Vec::new();
        for text in &self.column {
            let own = column::parse(text).map_err(|e| format!("--column {e}"))?;
            if columns.iter().any(|earlier| earlier.name == own.name) {
                return Err(format!("--column {}: there are two of that name", own.name));
            }
            columns.push(own);
        }
        Ok(columns)
    }

    /// Definitions and nothing else.
    pub(super) fn explains_all(&self) -> bool {
        self.explain == Some(Explain::All)
    }

    /// Definitions after the summary.
    pub(super) fn explains_shown(&self) -> bool {
        self.explain == Some(Explain::Shown)
    }
}
