//! `--sweep`, `--repeats` and `--find-rate`: several runs, one table, one line of JSON a run.
//!
//! Rule: a run whose line is in the file already is not made again; Ctrl-C ends the series after writing what there is.
//! Deliberately not here: which runs they are, and what they say (`crate::series`).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Flags;
use super::arguments::of_one_run;
use super::arrivals::requests;
use super::session::{Kept, Session};
use crate::cli::Failure;
use crate::load::LoadConfig;
use crate::load::dataset::Dataset;
use crate::load::schedule::{Pace, Rate, Shape, parse_seconds};
use crate::report::Rating;
use crate::report::json::run_json;
use crate::series::{
    Answer, Axis, Limits, Lines, Mode, Point, Setting, Slo, Sweep, find_rate, identity, load_was_made, table,
};

/// Length of a search's run that is not given any.
const PROBE: Duration = Duration::from_secs(30);
/// A trend takes so many requests, so that a run at a low rate is longer.
const FEWEST_REQUESTS: f64 = 100.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SweepMode {
    /// Each value of one flag with each of the others
    Grid,
    /// Each value of one flag, the others as they are given besides
    OneAtATime,
}

/// Several runs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Series of runs")]
pub(super) struct SeriesArgs {
    /// A run for each value of a flag: request-rate=10,20,50; also max-concurrency, burstiness, random-input-len and
    /// random-output-len. Given several times: of each combination, or see --sweep-mode
    #[arg(long, value_name = "FLAG=V,V", value_parser = Axis::parse, conflicts_with_all = ["find_rate", "schedule", "stages"])]
    sweep: Vec<Axis>,
    /// How several --sweep go together
    #[arg(long, value_enum, default_value = "grid", requires = "sweep")]
    sweep_mode: SweepMode,
    /// Make each run several times, with one seed after the other; the table has 95 % intervals
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), conflicts_with = "find_rate")]
    repeats: u32,
    /// Search the highest rate that keeps --slo, from --request-rate (1) on; each run lasts --duration (30s). The rate is of
    /// requests; of weka, qwen-bailian and multi-turn it is of sessions that begin. A data set must have as many as are due
    #[arg(long, requires = "slo", conflicts_with_all = ["schedule", "stages", "max_concurrency", "num_prompts"])]
    find_rate: bool,
    /// What is promised, such as "p99 ttft<500ms, p99 tpot<50ms"
    #[arg(long, value_name = "GOALS", value_parser = Slo::parse, requires = "find_rate")]
    slo: Option<Slo>,
    /// Runs of a search at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    find_rate_probes: u32,
    /// A search ends where the bad rate is so much above the good one
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    find_rate_precision: f64,
    /// No run of a search begins after this
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_seconds)]
    find_rate_time: f64,
}

impl SeriesArgs {
    /// More than one run is asked for.
    pub(super) fn wanted(&self) -> bool {
        !self.sweep.is_empty() || self.repeats > 1 || self.find_rate
    }

    fn points(&self) -> Result<Sweep, String> {
        let mode = match self.sweep_mode {
            SweepMode::Grid => Mode::Grid,
            SweepMode::OneAtATime => Mode::OneAtATime,
        };
        Sweep::new(&self.sweep, mode).map_err(|e| format!("--sweep: {e}"))
    }

    fn limits(&self, arrivals: &LoadConfig) -> Result<Limits, String> {
        let precision = self.find_rate_precision;
        if !(0.001..=10.0).contains(&precision) {
            return Err(format!("--find-rate-precision: expected 0.001 to 10, got {precision}"));
        }
        Ok(Limits {
            first_per_s: arrivals.arrivals.mean_per_s().unwrap_or(1.0),
            precision,
            probes: self.find_rate_probes as usize,
            time_s: self.find_rate_time,
        })
    }
}

/// Makes the series.
pub(super) fn run(args: &Flags, base: &LoadConfig, session: Session) -> Result<(), Failure> {
    let name = if args.series.find_rate { "find-rate.jsonl" } else { "sweep.jsonl" };
    let collection = args.output.output_file.clone();
    let path: PathBuf = collection.unwrap_or_else(|| args.output.output_dir.join(name));
    let lines =
        Lines::read(&path).map_err(|e| Failure::Usage(format!("cannot read the runs made before: {e}")))?;
    let mut series = Series { session, lines };
    let told = match &args.series.slo {
        Some(slo) if args.series.find_rate => series.search(args, base, slo),
        _ => series.sweep(args, base),
    };
    println!("runs: {}", series.lines.path().display());
    told
}

struct Series {
    session: Session,
    lines: Lines,
}

impl Series {
    /// The line of a run: of an earlier call, or made now.
    async fn line(
        &mut self,
        config: LoadConfig,
        point: Value,
        usable: fn(&Value) -> bool,
    ) -> Result<Value, Failure> {
        let id = identity(&config);
        if let Some(line) = self.lines.find(&id).filter(|line| usable(line)) {
            self.session.note(&format!("{point}: made before, taken from {}", self.lines.path().display()));
            return Ok(line.clone());
        }
        self.session.note(&format!("{point}: begins"));
        let report = self.session.measure(config).await?;
        let Kept { metrics, verdict, files } = self.session.keep(&report)?;
        let mut line = run_json(&report, &metrics, &verdict, &files);
        let (planned, due) = (report.schedule.at_ns.len(), starts_due(&report.config));
        line["series"] = json!({"point": point, "config_xxh3": id, "starts": planned, "starts_due": due});
        self.lines.add(&line).map_err(|e| Failure::Run(format!("cannot write the results: {e}")))?;
        Ok(line)
    }

    fn sweep(&mut self, args: &Flags, base: &LoadConfig) -> Result<(), Failure> {
        let sweep = args.series.points().map_err(Failure::Usage)?;
        let runtime = super::runtime()?;
        let mut made: Vec<(String, Vec<Value>)> =
            sweep.points().iter().map(|point| (point.to_string(), Vec::new())).collect();
        let outcome = runtime.block_on(async {
            for repeat in 0..args.series.repeats {
                for (point, (name, runs)) in sweep.points().iter().zip(&mut made) {
                    let config = at(args, base, point, u64::from(repeat))?;
                    let line =
                        self.line(config, json!({"point": name, "repeat": repeat + 1}), |_| true).await?;
                    let partial = line["partial"] == true;
                    runs.push(line);
                    if partial {
                        return Err(Failure::Interrupted("interrupted: the series is partial".to_owned()));
                    }
                }
            }
            Ok(())
        });
        let rows: Vec<(String, Vec<&Value>)> =
            made.iter().map(|(name, runs)| (name.clone(), runs.iter().collect())).collect();
        print!("{}", table::of_points(&rows));
        outcome?;
        worst(made.iter().flat_map(|(_, runs)| runs))
    }

    fn search(&mut self, args: &Flags, base: &LoadConfig, slo: &Slo) -> Result<(), Failure> {
        let limits = args.series.limits(base).map_err(Failure::Usage)?;
        let clock = self.session.clock();
        let began_ns = clock.mono_ns();
        let elapsed_s = || (clock.mono_ns() - began_ns) as f64 / 1e9;
        let answer = super::runtime()?.block_on(async {
            find_rate(limits, slo, elapsed_s, async |per_s, number| {
                let config = probe(args, base, per_s, number, slo);
                // What the client failed to make tells nothing, and may work now.
                self.line(config, json!({"request_rate": per_s, "probe": number + 1}), load_was_made).await
            })
            .await
        })?;
        self.lines
            .add(&answer.to_json(slo))
            .map_err(|e| Failure::Run(format!("cannot write the results: {e}")))?;
        print!("{}{}", table::of_search(&answer), told(&answer, slo, args.dataset.unit()));
        if answer.ended == "interrupted" {
            return Err(Failure::Interrupted("interrupted: the search is partial".to_owned()));
        }
        match (answer.is_bracket(), answer.probes.is_empty()) {
            (true, _) => Ok(()),
            (false, false) => Err(Failure::Suspect(format!("no bracket: {}", answer.ended))),
            (false, true) => Err(Failure::Run(format!("nothing was measured: {}", answer.ended))),
        }
    }
}

/// `unit`: what a rate counts.
fn told(answer: &Answer, slo: &Slo, unit: &str) -> String {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "not found".to_owned(), |r| format!("{r}{unit}"));
    format!(
        "\n{slo}\nkept at:      {}\nnot kept at:  {}\nended:        {}\n",
        rate(answer.good_per_s),
        rate(answer.bad_per_s),
        answer.ended
    )
}

/// The configuration of a point. The number of requests may follow from the rate.
fn at(args: &Flags, base: &LoadConfig, point: &Point, repeat: u64) -> Result<LoadConfig, Failure> {
    let mut config = LoadConfig { seed: base.seed + repeat, ..base.clone() };
    for setting in point.settings() {
        set(&mut config, *setting).map_err(|e| Failure::Usage(format!("--sweep {}: {e}", setting.flag())))?;
    }
    let mut own: Vec<(&str, String)> = point.settings().iter().map(|s| (s.flag(), s.value())).collect();
    own.push(("seed", config.seed.to_string()));
    if point.settings().iter().any(|setting| matches!(setting, Setting::Burstiness(_))) {
        // What was typed may be another shape, which refuses a burstiness.
        own.push(("arrivals", "gamma".to_owned()));
    }
    config.arguments = of_one_run(&base.arguments, &own);
    if config.arrivals.duration.is_some() && config.arrivals.mean_per_s().is_none() {
        return Err(Failure::Usage("--sweep: request-rate=inf has no --duration".to_owned()));
    }
    config.num_prompts = requests(&config.arrivals, args.dataset.requests(), config.seed);
    Ok(config)
}

fn set(config: &mut LoadConfig, setting: Setting) -> Result<(), String> {
    let dataset = config.dataset.name();
    let random = match &mut config.dataset {
        Dataset::Random(options) => Ok(options),
        _ => Err(format!("only with --dataset-name random, not {dataset}")),
    };
    match setting {
        Setting::RequestRate(rate) => at_rate(config, rate),
        Setting::MaxConcurrency(places) => config.max_concurrency = Some(places as usize),
        Setting::Burstiness(_)
            if config.arrivals.shape == Shape::Constant || config.arrivals.mean_per_s().is_none() =>
        {
            return Err("needs a --request-rate, and arrivals that are not constant".to_owned());
        }
        Setting::Burstiness(shape) => config.arrivals.shape = Shape::Gamma(shape),
        Setting::RandomInputLen(tokens) => random?.input_tokens = tokens,
        Setting::RandomOutputLen(tokens) => random?.output_tokens = tokens,
    }
    Ok(())
}

/// Arrivals at a rate. A trace that was to come at its own times is then read whole: its times mean nothing any more.
fn at_rate(config: &mut LoadConfig, rate: Rate) {
    config.arrivals.pace = Pace::Rate(rate);
    if let Dataset::Trace(options) = &mut config.dataset {
        options.until = None;
    }
}

/// Requests, or beginnings of sessions, that are due in the time of a run at a rate, however many the data set has.
fn starts_due(config: &LoadConfig) -> Option<usize> {
    let at_rate = matches!(config.arrivals.pace, Pace::Rate(Rate::PerSecond(_)));
    (at_rate && config.arrivals.duration.is_some()).then(|| requests(&config.arrivals, None, config.seed))
}

/// The configuration of a search's run. Prompts and arrivals are new each time: what an earlier run left in a cache is not asked.
fn probe(args: &Flags, base: &LoadConfig, per_s: f64, number: usize, slo: &Slo) -> LoadConfig {
    let fewest = FEWEST_REQUESTS.max(f64::from(slo.fewest_requests()));
    let lasts_s = base.arrivals.duration.unwrap_or(PROBE).as_secs_f64().max(fewest / per_s);
    let mut config = LoadConfig { seed: base.seed + number as u64, ..base.clone() };
    at_rate(&mut config, Rate::PerSecond(per_s));
    config.arrivals.duration = Some(Duration::from_secs_f64(lasts_s));
    // The time ends it, or the data set, which the search is told.
    config.num_prompts = requests(&config.arrivals, args.dataset.requests(), config.seed);
    let own = [
        ("request-rate", per_s.to_string()),
        ("duration", format!("{lasts_s}s")),
        ("num-prompts", config.num_prompts.to_string()),
        ("seed", config.seed.to_string()),
    ];
    config.arguments = of_one_run(&base.arguments, &own);
    config
}

/// The exit code of a series is that of its worst run.
fn worst<'a>(runs: impl Iterator<Item = &'a Value>) -> Result<(), Failure> {
    let is = |run: &Value, rating: Rating| run["verdict"]["rating"] == rating.to_string();
    let (mut suspect, mut invalid) = (0, 0);
    for run in runs {
        suspect += usize::from(is(run, Rating::Suspect));
        invalid += usize::from(is(run, Rating::Invalid));
    }
    match (suspect, invalid) {
        (0, 0) => Ok(()),
        (n, 0) => Err(Failure::Suspect(format!("{n} runs are SUSPECT; their lines and summaries say why"))),
        (_, n) => Err(Failure::Invalid(format!("{n} runs are INVALID; their lines and summaries say why"))),
    }
}
