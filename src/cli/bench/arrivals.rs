//! When requests arrive: the rate, its shape, and the seed of both arrivals and prompts.
//!
//! Rule: names and defaults are `bench_serving`'s where it has them, else vLLM's. Deliberately not here: making and keeping the
//! schedule (`load::schedule`, `load::pacer`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::load::config::MOST_REQUESTS;
use crate::load::schedule::{Arrivals, Pace, Rate, Schedule, Shape, Stages, TracePace, parse_seconds};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ShapeName {
    /// Exponential gaps, as of many clients that know nothing of each other
    Poisson,
    /// Equal gaps
    Constant,
    /// Gamma distributed gaps, see --burstiness
    Gamma,
    /// The times of the trace that is the data set: what a trace has without --request-rate
    Trace,
}

/// When requests arrive.
#[derive(Debug, Args)]
#[command(next_help_heading = "Arrivals")]
pub(super) struct ArrivalArgs {
    /// Mean number of arrivals a second; inf: all at once [default: inf; a trace's own times]
    #[arg(long, value_parser = Rate::parse, allow_negative_numbers = true)]
    request_rate: Option<Rate>,
    /// How arrivals are spread
    #[arg(long, value_enum)]
    arrivals: Option<ShapeName>,
    /// Shape of gamma distributed gaps: 1 is Poisson, less is burstier, more is more regular
    #[arg(long, allow_negative_numbers = true)]
    burstiness: Option<f64>,
    /// A rate that changes, as RATE@TIME or FROM..TO@TIME: 10@30s,10..100@1m,100@30s
    #[arg(long, value_name = "STAGES", value_parser = Stages::parse, conflicts_with = "request_rate")]
    stages: Option<Stages>,
    /// No arrival after this time (30s, 5m); without --num-prompts as many requests as are due in it. Of sessions it ends only
    /// what begins: turns follow their answers, however late. weka at its own times: of each session what was recorded in it
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    duration: Option<f64>,
    /// Arrivals of an earlier run, bit for bit: its schedule.jsonl
    #[arg(long, value_name = "FILE", conflicts_with_all = ["request_rate", "stages", "arrivals", "burstiness"])]
    schedule: Option<PathBuf>,
    /// Traces: how many times as fast as it was
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    schedule_speedup: Option<f64>,
    /// Traces: leave requests at the ticks of a coarse clock instead of spreading them between
    #[arg(long)]
    keep_ticks: bool,
    /// Most requests in flight; waiting for a place counts in the latencies from schedule
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) max_concurrency: Option<u32>,
    /// Seed of prompts and arrivals
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

impl ArrivalArgs {
    /// As values that cannot be wrong.
    pub(super) fn arrivals(&self, of_trace: bool) -> Result<Arrivals, String> {
        if let Some(pace) = self.trace_pace(of_trace)? {
            let pace = Pace::Trace { pace, schedule: Arc::new(Schedule::default()) };
            let duration = self.duration.map(Duration::from_secs_f64);
            return Ok(Arrivals { pace, shape: Shape::Poisson, duration });
        }
        let pace = match (&self.schedule, &self.stages) {
            (Some(path), _) => {
                Pace::Saved(Arc::new(Schedule::read(path).map_err(|e| format!("--schedule: {e}"))?))
            }
            (None, Some(stages)) => Pace::Stages(stages.clone()),
            (None, None) => Pace::Rate(self.request_rate.unwrap_or(Rate::AllAtOnce)),
        };
        if pace == Pace::Rate(Rate::AllAtOnce) && (self.duration.is_some() || self.arrivals.is_some()) {
            return Err(
                "--duration and --arrivals need a --request-rate: at inf all are due at once".to_owned()
            );
        }
        Ok(Arrivals { pace, shape: self.shape()?, duration: self.duration.map(Duration::from_secs_f64) })
    }

    /// How the times of a trace are kept, where arrivals are a trace's.
    fn trace_pace(&self, of_trace: bool) -> Result<Option<TracePace>, String> {
        let asked = self.arrivals == Some(ShapeName::Trace);
        let other = self.request_rate.is_some() || self.stages.is_some();
        if asked && (!of_trace || other) {
            return Err(
                "--arrivals trace: only with a trace as data set (--dataset-name mooncake, azure, burstgpt, \
                 qwen-bailian, weka or milepost-trace), without --request-rate and --stages"
                    .to_owned(),
            );
        }
        let own = self.arrivals.is_none() && self.burstiness.is_none() && self.schedule.is_none();
        if !(asked || of_trace && own && !other) {
            if self.schedule_speedup.is_some() || self.keep_ticks {
                return Err(
                    "--schedule-speedup and --keep-ticks: only where arrivals are a trace's".to_owned()
                );
            }
            return Ok(None);
        }
        let speedup = self.schedule_speedup.unwrap_or(1.0);
        if !(speedup.is_finite() && (1e-6..=1e6).contains(&speedup)) {
            return Err(format!("--schedule-speedup: expected 0.000001 to 1000000, got {speedup}"));
        }
        Ok(Some(TracePace { speedup, keep_ticks: self.keep_ticks }))
    }

    fn shape(&self) -> Result<Shape, String> {
        match (self.arrivals, self.burstiness) {
            (_, Some(shape)) if !(shape.is_finite() && shape >= 0.01) => {
                Err(format!("--burstiness: expected a number of at least 0.01, got {shape}"))
            }
            (None | Some(ShapeName::Gamma), Some(shape)) => Ok(Shape::Gamma(shape)),
            (Some(_), Some(_)) => Err("--burstiness: only with --arrivals gamma".to_owned()),
            (Some(ShapeName::Gamma), None) => Err("--arrivals gamma: --burstiness is missing".to_owned()),
            (Some(ShapeName::Constant), None) => Ok(Shape::Constant),
            (None | Some(ShapeName::Poisson | ShapeName::Trace), None) => Ok(Shape::Poisson),
        }
    }
}

/// How many requests: as given, else as many as are due where the arrivals end by themselves.
pub(super) fn requests(arrivals: &Arrivals, given: Option<u32>, seed: u64) -> usize {
    match given {
        Some(given) => given as usize,
        None if matches!(arrivals.pace, Pace::Trace { .. }) => MOST_REQUESTS,
        None if arrivals.ends_by_itself() => Schedule::new(arrivals, MOST_REQUESTS, seed).at_ns.len(),
        None => DEFAULT_REQUESTS,
    }
}

/// `bench_serving`'s.
const DEFAULT_REQUESTS: usize = 1000;
