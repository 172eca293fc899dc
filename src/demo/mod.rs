//! Workers, router and load in one process: each policy on the same schedule, and one table that compares them.
//!
//! `workload` (what is sent) → `stage` (workers and router on free ports) → `arm` (one policy on a fresh stage) → `table`,
//! `json` (what came of it), in a `folder` that is ours. Rule: the sockets, the router and the load are the ones of `route`
//! and `bench`; only the workers are simulated, and everything printed says so. Each policy is run once: it is a demonstration
//! and never a verdict. Deliberately not here: the command line, terminals (`cli::demo`).

pub mod arm;
pub mod books;
pub mod folder;
pub mod json;
pub mod machine;
pub mod picture;
pub mod stage;
pub mod table;
pub mod workload;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use self::arm::Arm;
use self::folder::Folder;
use self::machine::Machine;
use self::workload::Workload;
use crate::clock::Clock;
use crate::load::LoadError;
use crate::load::progress::{Standing, Stop};
use crate::sim::{Dialect, SimConfig};

/// The four policies, in the order of the table.
pub const POLICIES: [&str; 4] = ["cache_aware", "round_robin", "random", "shortest_queue"];

/// Most workers of one demo: each is a thread.
pub const MOST_WORKERS: usize = 64;

/// What is shown.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Where the files go; see [`Folder`] for what may be there already.
    pub output_dir: PathBuf,
    /// Policies by name, in the order of the runs.
    pub policies: Vec<String>,
    /// Number of workers.
    pub workers: usize,
    /// The SGLang server that the workers speak like.
    pub dialect: Dialect,
    /// Divides all simulated times; 1.0 is as the profile derives them.
    pub speedup: f64,
    /// Seed of prompts, arrivals, random choices and answers.
    pub seed: u64,
    /// What is sent, and how fast.
    pub workload: Workload,
}

impl DemoConfig {
    /// Four workers, four policies, the built-in workload, `./milepost-demo`.
    pub fn new(workload: Workload) -> Self {
        Self {
            output_dir: PathBuf::from("milepost-demo"),
            policies: POLICIES.map(str::to_owned).to_vec(),
            workers: 4,
            dialect: Dialect::default(),
            speedup: 1.0,
            seed: 1,
            workload,
        }
    }

    /// What each worker is.
    pub fn worker(&self) -> SimConfig {
        SimConfig {
            dialect: self.dialect,
            profile: self.workload.profile(),
            speedup: self.speedup,
            seed: self.seed,
            ..SimConfig::default()
        }
    }

    fn check(&self) -> Result<(), DemoError> {
        let usage = |what: String| Err(DemoError::Usage(what));
        if self.policies.is_empty() {
            return usage("--policies: expected at least one".to_owned());
        }
        for (i, name) in self.policies.iter().enumerate() {
            if let Err(e) = milepost_policies::build(name, &milepost_policies::PolicyConfig::default()) {
                return usage(format!("--policies: {e}"));
            }
            if self.policies[..i].contains(name) {
                return usage(format!("--policies: {name} is there twice"));
            }
        }
        if !(1..=MOST_WORKERS).contains(&self.workers) {
            return usage(format!("--workers: expected 1 to {MOST_WORKERS}, got {}", self.workers));
        }
        self.worker().check().map_err(DemoError::Usage)
    }
}

/// Who is told how far the demo is.
pub trait Audience: Send + Sync {
    /// The text above the table, before anything runs.
    fn opens(&self, head: &str);
    /// A policy's turn; `number` counts from 1.
    fn begins(&self, policy: &str, number: usize, of: usize);
    /// About once a second.
    fn standing(&self, standing: Standing);
    /// A policy's turn is over.
    fn ends(&self, arm: &Arm);
}

/// What a demo stands in.
#[derive(Clone)]
pub struct DemoContext {
    /// Where time comes from.
    pub clock: Clock,
    /// Who is told.
    pub audience: Arc<dyn Audience>,
    /// Ends it early.
    pub stop: Stop,
}

/// What came of it.
#[derive(Debug)]
pub struct DemoReport {
    /// What was shown.
    pub config: DemoConfig,
    /// Where it ran.
    pub machine: Machine,
    /// What the data set says about itself.
    pub notes: Vec<String>,
    /// Requests of each run.
    pub requests: usize,
    /// One for each policy that was begun.
    pub arms: Vec<Arm>,
    /// It was ended early.
    pub partial: bool,
    /// From the first worker's start to the last one's end, seconds.
    pub took_s: f64,
}

/// Why there is no demo, or not a whole one.
#[derive(Debug)]
pub enum DemoError {
    /// An argument, a file or a folder that cannot be used as given.
    Usage(String),
    /// Something outside the command line went wrong.
    Run(String),
    /// Ended before there was a single result.
    Interrupted,
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Run(what) => f.write_str(what),
            Self::Interrupted => f.write_str("interrupted before the first result: nothing was measured"),
        }
    }
}

impl std::error::Error for DemoError {}

impl From<LoadError> for DemoError {
    fn from(e: LoadError) -> Self {
        match e {
            LoadError::Dataset(_) | LoadError::Options(_) => Self::Usage(e.to_string()),
            LoadError::Interrupted => Self::Interrupted,
            LoadError::Target(_) | LoadError::Trace(_) | LoadError::System(_) => Self::Run(e.to_string()),
        }
    }
}

/// Runs every policy in turn and writes the files. Nothing it started is left when it returns.
///
/// # Errors
/// Nothing was measured, or the files could not be written. A stopped demo with a result is a report with `partial`.
pub async fn run(config: DemoConfig, context: DemoContext) -> Result<DemoReport, DemoError> {
    config.check()?;
    let loaded = config.workload.load(config.seed)?;
    let folder = Folder::claim(&config.output_dir).map_err(|e| DemoError::Usage(e.to_string()))?;
    let begun_ns = context.clock.mono_ns();
    let mut report = DemoReport {
        machine: Machine::this(),
        notes: loaded.notes,
        requests: loaded.prompts.len(),
        arms: Vec::with_capacity(config.policies.len()),
        partial: false,
        took_s: 0.0,
        config,
    };
    context.audience.opens(&table::head(&report));
    let of = report.config.policies.len();
    for (i, policy) in report.config.policies.iter().enumerate() {
        context.audience.begins(policy, i + 1, of);
        match arm::run(&report.config, policy, &folder, &context).await {
            Ok(arm) => {
                context.audience.ends(&arm);
                report.arms.push(arm);
            }
            Err(DemoError::Interrupted) if !report.arms.is_empty() => {}
            Err(e) => return Err(e),
        }
        if context.stop.is_set() {
            report.partial = true;
            break;
        }
    }
    report.took_s = (context.clock.mono_ns() - begun_ns) as f64 / 1e9;
    folder.write("summary.txt", &table::text(&report))?;
    folder.write("summary.json", &format!("{:#}\n", json::json(&report)))?;
    Ok(report)
}
