//! Workers that fail on purpose: the schedule, and who makes them fail.
//!
//! Rule: a schedule that cannot be carried out is refused before the first request. Deliberately not here: carrying it out
//! (`load::faults`), and what came of it (`report::faults`).

#![expect(clippy::doc_markdown, reason = "doc comments here are the text of --help")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::cli::Failure;
use crate::clock::Clock;
use crate::load::faults::hands::{Hands, Hook, Recipe, Start};
use crate::load::faults::{Faults, Plan};
use crate::load::progress::Stop;
use crate::load::{LoadConfig, LoadError};
use crate::stdio::tell_line;

/// Who fails, and by whose hand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
pub(super) struct FaultArgs {
    /// What goes wrong when; a line each, # begins a comment:
    ///   at = 30s, stop worker 2          (by KILL; or by TERM)
    ///   at = 60s, start worker 2
    ///   at = 90s, for = 20s, slow worker 1 by 3x
    ///   at = 2m, until = 150s, hang worker http://127.0.0.1:31001
    /// Actions: stop, start, slow, hang, reset, empty, heal (ends slow, hang, reset and empty). Workers: the number of one that
    /// --start-workers starts, the URL of a `milepost worker --allow-faults`, or whatever --fault-hook knows.
    /// All rows of the run are held in memory, some 750 bytes each
    #[arg(long, value_name = "FILE", verbatim_doc_comment, conflicts_with = "find_rate")]
    faults: Option<PathBuf>,
    /// Start so many simulated workers for the run and make the router at the target know them (POST /workers)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    start_workers: Option<u16>,
    /// Flags of `milepost worker` for those, such as "--speedup 10 --max-running-requests 32"
    #[arg(
        long,
        value_name = "FLAGS",
        requires = "start_workers",
        allow_hyphen_values = true,
        default_value = ""
    )]
    worker_flags: String,
    /// Command that makes and ends the faults; it gets ACTION WORKER [DETAIL] and says by its exit code whether it did it
    #[arg(long, value_name = "COMMAND", requires = "faults")]
    fault_hook: Option<String>,
    /// Longest time of one call of it
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    fault_hook_timeout_secs: u64,
}

impl FaultArgs {
    /// What was given of who serves and who fails.
    pub(super) fn asked(&self) -> impl Iterator<Item = (&'static str, String)> {
        let workers = self.start_workers.map(|n| ("start_workers", n.to_string()));
        let flags = (!self.worker_flags.is_empty()).then(|| ("worker_flags", self.worker_flags.clone()));
        let hook = self.fault_hook.clone().map(|hook| ("fault_hook", hook));
        workers.into_iter().chain(flags).chain(hook)
    }

    /// Starts what is to be started, unless all is to end, and tells the run of its faults; `None` where nothing is asked for.
    pub(super) async fn begin(
        &self,
        config: &mut LoadConfig,
        stop: &Stop,
    ) -> Result<Option<Arc<Hands>>, Failure> {
        let plan = self.faults.as_deref().map(Plan::read).transpose();
        let plan = plan.map_err(|e| Failure::Usage(format!("--faults {e}")))?;
        if plan.is_none() && self.start_workers.is_none() {
            return Ok(None);
        }
        let limit = Duration::from_secs(self.fault_hook_timeout_secs);
        let hook = self.fault_hook.as_deref().map(|text| Hook::parse(text, limit)).transpose();
        let hook = hook.map_err(|e| Failure::Usage(format!("--fault-hook: {e}")))?;
        let start = self.start(config, stop).map_err(Failure::Run)?;
        let hands = Hands::begin(hook, start, Clock::system()).await.map_err(|why| {
            if stop.is_set() {
                return Failure::Interrupted(LoadError::Interrupted.to_string());
            }
            Failure::Run(why)
        })?;
        let hands = Arc::new(hands);
        for (number, url) in (1..).zip(hands.urls()) {
            tell_line(&format!("worker {number}: SIMULATED on {url}"));
        }
        if let Some(plan) = plan {
            match Faults::new(plan, Arc::clone(&hands) as _) {
                Ok(faults) => config.faults = Some(faults),
                Err(why) => {
                    // Why it began is told, not why it could not be undone.
                    let _ = hands.end().await;
                    let path =
                        self.faults.as_deref().map(|path| path.display().to_string()).unwrap_or_default();
                    return Err(Failure::Usage(format!("--faults {path} {why}")));
                }
            }
        }
        Ok(Some(hands))
    }

    fn start<'a>(&self, config: &'a LoadConfig, stop: &'a Stop) -> Result<Option<Start<'a>>, String> {
        let Some(count) = self.start_workers else { return Ok(None) };
        let program =
            std::env::current_exe().map_err(|e| format!("--start-workers: cannot find this program: {e}"))?;
        let flags = self.worker_flags.split_whitespace().map(str::to_owned).collect();
        let recipe = Recipe { program, flags };
        Ok(Some(Start {
            count: count.into(),
            recipe,
            router: &config.target,
            headers: &config.headers,
            tls: &config.tls,
            stop,
        }))
    }
}
