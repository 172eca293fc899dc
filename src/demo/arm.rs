//! One policy: a fresh stage, the same load as every other policy, its files, its figures.
//!
//! Rule: what is the same for all (seed, prompts, schedule, options) comes from [`DemoConfig`] alone; nothing is carried from
//! one arm to the next. The stage is taken down however the load ended. Deliberately not here: comparing.

use std::path::PathBuf;
use std::sync::Arc;

use super::books::Books;
use super::folder::Folder;
use super::stage::{Performance, Stage};
use super::{Audience, DemoConfig, DemoContext, DemoError};
use crate::load::progress::{Progress, Standing};
use crate::load::target::Target;
use crate::load::{LoadConfig, LoadError, RunContext, RunReport, TraceSource, run as run_load};
use crate::report::files::{Destination, Extras, write_run};
use crate::report::{Metrics, Survey};
use crate::trace::reader::TraceFile;

/// What came of one policy.
#[derive(Debug)]
pub struct Arm {
    /// The policy.
    pub policy: String,
    /// The run, row by row.
    pub run: RunReport,
    /// Its figures.
    pub metrics: Metrics,
    /// The workers, in the order in which they were started.
    pub workers: Vec<Performance>,
    /// Whether what client, trace, router and workers counted agrees.
    pub books: Books,
    /// Its folder.
    pub folder: PathBuf,
}

impl Arm {
    /// Prompt tokens found in caches as a share of all, 0 to 1, over requests that tell both.
    pub fn cached_share(&self) -> Option<f64> {
        let shares = self.metrics.workers.values();
        let (cached, prompt) =
            shares.fold((0, 0), |(c, p), w| (c + w.cached_tokens.unwrap_or(0), p + w.prompt_tokens));
        (prompt > 0).then(|| cached as f64 / prompt as f64)
    }

    /// Requests that each worker answered, in the workers' order.
    pub fn requests_by_worker(&self) -> Vec<u64> {
        let of = |w: &Performance| self.metrics.workers.get(&w.host).map_or(0, |share| share.requests);
        self.workers.iter().map(of).collect()
    }

    /// Requests of the busiest worker over the mean of all; 1 is even.
    pub fn busiest_over_mean(&self) -> Option<f64> {
        let requests = self.requests_by_worker();
        let (most, all) = (requests.iter().max()?, requests.iter().sum::<u64>());
        (all > 0).then(|| *most as f64 * requests.len() as f64 / all as f64)
    }

    /// Share of the simulated steps of all workers that ended late, 0 to 1.
    pub fn late_share(&self) -> f64 {
        let (late, steps) = self
            .workers
            .iter()
            .fold((0, 0), |(late, steps), w| (late + w.pace.late_steps, steps + w.pace.steps));
        if steps == 0 { 0.0 } else { late as f64 / steps as f64 }
    }

    /// Mean lateness of all steps, and the greatest, in microseconds.
    pub fn lateness_us(&self) -> (f64, f64) {
        let steps: u64 = self.workers.iter().map(|w| w.pace.steps).sum();
        let sum: f64 = self.workers.iter().map(|w| w.pace.late_mean_us * w.pace.steps as f64).sum();
        let most = self.workers.iter().map(|w| w.pace.late_max_us).fold(0.0, f64::max);
        (if steps == 0 { 0.0 } else { sum / steps as f64 }, most)
    }
}

/// Runs one policy.
pub(super) async fn run(
    config: &DemoConfig,
    policy: &str,
    folder: &Folder,
    context: &DemoContext,
) -> Result<Arm, DemoError> {
    let folder = folder.arm(policy)?;
    let trace = folder.join("trace.jsonl");
    let stage = Stage::up(config, policy, &trace, &context.clock).await?;
    let played = play(config, &stage, trace.clone(), context).await;
    let router_requests = stage.down().await?;
    let (run, workers) = played?;
    let traced = TraceFile::read(&trace).map_err(|e| DemoError::Run(e.to_string()))?;
    let books = Books::of(&run, &traced, router_requests, &workers);
    let survey = Survey::of(&run, &[]);
    let to =
        Destination { folder: folder.clone(), collection: None, details: false, extras: Extras::default() };
    write_run(&run, &survey, &to).map_err(|e| DemoError::Run(format!("cannot write the results: {e}")))?;
    Ok(Arm { policy: policy.to_owned(), run, metrics: survey.gathered.metrics, workers, books, folder })
}

async fn play(
    config: &DemoConfig,
    stage: &Stage,
    trace: PathBuf,
    context: &DemoContext,
) -> Result<(RunReport, Vec<Performance>), DemoError> {
    tokio::select! {
        biased;
        () = context.stop.wait() => return Err(LoadError::Interrupted.into()),
        ready = stage.ready() => ready?,
    }
    let target = Target::parse(&format!("http://{}", stage.address())).map_err(DemoError::Run)?;
    let load = LoadConfig {
        num_prompts: config.workload.prompts,
        arrivals: config.workload.rate().into(),
        seed: config.seed,
        // A warm-up would leave the first prompt in one worker's cache.
        warmup_requests: 0,
        router_trace: Some(TraceSource::File(trace)),
        ..LoadConfig::new(target, config.workload.dataset.clone())
    };
    let progress: Arc<dyn Progress> = Arc::new(Standings(Arc::clone(&context.audience)));
    let load_context =
        RunContext { stop: context.stop.clone(), ..RunContext::new(context.clock.clone(), progress) };
    let run = run_load(load, load_context).await?;
    let workers = stage.performances().await?;
    Ok((run, workers))
}

/// Passes on how far the load is. Its notes are the same for every policy and are told once, above the table.
struct Standings(Arc<dyn Audience>);

impl Progress for Standings {
    fn note(&self, _: &str) {}

    fn standing(&self, standing: Standing) {
        self.0.standing(standing);
    }
}
