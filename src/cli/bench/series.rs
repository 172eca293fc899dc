//! `--sweep`, `--repeats` and `--find-rate`: several runs, one table, one line of JSON a run.
//!
//! Rule: a run whose line is in the file already is not made again; Ctrl-C ends the series after writing what there is.
//! Deliberately not here: which runs they are, and what they say (`crate::series`).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches, ValueEnum};
use serde_json::{Value, json};

use super::arguments::of_one_run;
use super::session::{Kept, Session};
use super::{BenchArgs, Flags};
use crate::cli::{Failure, print};
use crate::load::LoadConfig;
use crate::load::dataset::Dataset;
use crate::load::schedule::{Shape, parse_seconds};
use crate::report::Rating;
use crate::report::json::run_json;
use crate::series::{
    Answer, Axis, Limits, Lines, Mode, Point, Slo, Sweep, ended_early, find_rate, identity, load_was_made,
    table,
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
    /// A run for each value of a flag with a number, such as request-rate=10,20,50 or gsp-num-groups=8,64; what cannot be swept is told
    /// with all that can. Given several times: of each combination, or see --sweep-mode
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
pub(super) fn run(args: &Flags, asked: Asked<'_>, session: Session) -> Result<(), Failure> {
    if asked.typed.is_empty() {
        return Err(Failure::Usage("a series: what is typed, file names too, must be UTF-8".to_owned()));
    }
    let name = if args.series.find_rate { "find-rate.jsonl" } else { "sweep.jsonl" };
    let collection = args.output.output_file.clone();
    let path: PathBuf = collection.unwrap_or_else(|| args.output.output_dir.join(name));
    let lines =
        Lines::read(&path).map_err(|e| Failure::Usage(format!("cannot read the runs made before: {e}")))?;
    let mut series = Series { session, lines, asked, counted: None };
    let told = match &args.series.slo {
        Some(slo) if args.series.find_rate => series.search(args, slo),
        _ => series.sweep(args),
    };
    let printed = print(&format!("runs: {}\n", series.lines.path().display()));
    told.and(printed)
}

/// What a series is made from: a command line, and the run that it asks for.
pub(super) struct Asked<'a> {
    /// The command line.
    pub typed: &'a [String],
    /// What it asks for, the series left out.
    pub base: &'a LoadConfig,
}

impl Asked<'_> {
    /// One run of a series, with what is its own: read as the command line that asks for it alone, so that what is written of the run
    /// asks for the same again. What this process makes go wrong stays as it is.
    fn alone(&self, own: &[(&str, String)]) -> Result<LoadConfig, String> {
        let typed = of_one_run(self.typed, own);
        let command = BenchArgs::augment_args(Command::new("bench").no_binary_name(true));
        let flags = command.try_get_matches_from(&typed).and_then(|found| Flags::from_arg_matches(&found));
        let flags = flags.map_err(|e| {
            let told = e.to_string();
            told.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        Ok(LoadConfig { faults: self.base.faults.clone(), ..super::config(&flags, &typed)? })
    }

    /// The run of a point.
    fn at(&self, point: &Point, repeat: u64) -> Result<LoadConfig, String> {
        let mut own: Vec<(&str, String)> =
            point.settings().iter().map(|s| (s.flag(), s.value().to_owned())).collect();
        own.push(("seed", (self.base.seed + repeat).to_string()));
        let is_bursty = point.settings().iter().any(|setting| setting.flag() == "burstiness");
        if is_bursty && self.base.arrivals.shape != Shape::Constant {
            // What was typed may be another shape, which refuses a burstiness.
            own.push(("arrivals", "gamma".to_owned()));
        }
        self.alone(&own).map_err(|why| format!("--sweep {point}: {why}"))
    }

    /// Refuses a flag of which no value makes another run than the next. Of a single one the next is any other that can be had.
    fn tells_apart(&self, axis: &Axis) -> Result<(), String> {
        let mut made = BTreeSet::new();
        for point in axis.points() {
            // What it is alone cannot be had where another flag of the grid is what it needs.
            let Ok(config) = self.at(&point, 0) else { return Ok(()) };
            made.insert(told_apart_by(&config));
        }
        let mut seen = axis.points().len();
        if let [point] = &axis.points()[..] {
            let others = point.others().into_iter().filter_map(|other| self.at(&other, 0).ok());
            seen += others.map(|config| made.insert(told_apart_by(&config))).count();
        }
        if seen > 1 && made.len() == 1 {
            let dataset = self.base.dataset.name();
            return Err(format!(
                "--sweep {}: it changes nothing of a run with --dataset-name {dataset}",
                axis.flag()
            ));
        }
        Ok(())
    }

    /// A search's run. Prompts and arrivals are new each time: what an earlier run left in a cache is not asked.
    fn probe(&self, per_s: f64, number: usize, slo: &Slo) -> Result<LoadConfig, String> {
        let fewest = FEWEST_REQUESTS.max(f64::from(slo.fewest_requests()));
        let lasts_s = self.base.arrivals.duration.unwrap_or(PROBE).as_secs_f64().max(fewest / per_s);
        let own = [
            ("request-rate", per_s.to_string()),
            ("duration", format!("{lasts_s}s")),
            ("seed", (self.base.seed + number as u64).to_string()),
        ];
        self.alone(&own).map_err(|why| format!("--find-rate at {per_s}/s: {why}"))
    }
}

/// What two runs are told apart by.
fn told_apart_by(config: &LoadConfig) -> String {
    let mut run = config.to_json();
    if config.dataset.counts_itself() {
        run["num_prompts"] = Value::Null;
    }
    run.to_string()
}

struct Series<'a> {
    session: Session,
    lines: Lines,
    asked: Asked<'a>,
    counted: Option<Counted>,
}

/// What is known of a data set's length.
#[derive(Clone, Copy)]
struct Counted {
    /// Requests that were asked of it.
    asked: usize,
    /// Those that it gave.
    given: usize,
    /// Of these, with a due time of their own.
    starts: usize,
}

impl Series<'_> {
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
        let Kept { survey, files, printed } = self.session.keep(&report)?;
        let mut line = run_json(&report, &survey, &files);
        let (planned, due) = (report.schedule.at_ns.len(), report.config.starts_due());
        line["series"] = json!({"point": point, "config_xxh3": id, "starts": planned, "starts_due": due});
        self.lines.add(&line).map_err(|e| Failure::Run(format!("cannot write the results: {e}")))?;
        printed?;
        Ok(line)
    }

    fn sweep(&mut self, args: &Flags) -> Result<(), Failure> {
        let sweep = args.series.points().map_err(Failure::Usage)?;
        // Before the first request, as the last point may be one that cannot be made.
        args.series.sweep.iter().try_for_each(|axis| self.asked.tells_apart(axis)).map_err(Failure::Usage)?;
        for point in sweep.points() {
            self.asked.at(point, 0).map_err(Failure::Usage)?;
        }
        let runtime = super::runtime()?;
        let mut made: Vec<(String, Vec<Value>)> =
            sweep.points().iter().map(|point| (point.to_string(), Vec::new())).collect();
        let outcome = runtime.block_on(async {
            for repeat in 0..args.series.repeats {
                for (point, (name, runs)) in sweep.points().iter().zip(&mut made) {
                    let config = self.asked.at(point, u64::from(repeat)).map_err(Failure::Usage)?;
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
        let printed = print(&table::of_points(&rows));
        outcome?;
        printed?;
        worst(made.iter().flat_map(|(_, runs)| runs))
    }

    /// How many the data set lets begin in this run. It is read again only where a run asks for more than was ever read.
    fn starts(&mut self, config: &LoadConfig) -> Result<usize, Failure> {
        let asked = config.num_prompts;
        if matches!(config.dataset, Dataset::Random(_)) {
            return Ok(asked);
        }
        let counted = match self.counted {
            Some(counted) if asked <= counted.asked || counted.given < counted.asked => counted,
            _ => {
                let exact = config.backend.takes_tokens();
                let opened = config.dataset.open(asked, config.seed, exact);
                let prompts = opened.map_err(|e| Failure::Usage(e.to_string()))?.prompts;
                Counted { asked, given: prompts.len(), starts: prompts.starts() }
            }
        };
        self.counted = Some(counted);
        Ok(counted.starts.min(asked))
    }

    fn search(&mut self, args: &Flags, slo: &Slo) -> Result<(), Failure> {
        let limits = args.series.limits(self.asked.base).map_err(Failure::Usage)?;
        let clock = self.session.clock();
        let began_ns = clock.mono_ns();
        let elapsed_s = || (clock.mono_ns() - began_ns) as f64 / 1e9;
        let answer = super::runtime()?.block_on(async {
            find_rate(limits, slo, elapsed_s, async |per_s, number| {
                let config = self.asked.probe(per_s, number, slo).map_err(Failure::Usage)?;
                let planned =
                    json!({"series": {"starts": self.starts(&config)?, "starts_due": config.starts_due()}});
                match ended_early(&planned) {
                    // It would tell nothing: no request is sent for it.
                    Some(why) if number == 0 => {
                        Err(Failure::Usage(format!("--find-rate at {per_s}/s: {why}")))
                    }
                    Some(_) => Ok(planned),
                    // What the client failed to make tells nothing, and may work now.
                    None => {
                        self.line(config, json!({"request_rate": per_s, "probe": number + 1}), load_was_made)
                            .await
                    }
                }
            })
            .await
        })?;
        self.lines
            .add(&answer.to_json(slo))
            .map_err(|e| Failure::Run(format!("cannot write the results: {e}")))?;
        print(&format!("{}{}", table::of_search(&answer), told(&answer, slo, args.dataset.unit())))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::SWEPT;

    #[test]
    fn what_can_be_swept_is_a_flag_with_one_value() {
        let command = BenchArgs::augment_args(Command::new("bench"));
        for swept in SWEPT {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(swept));
            assert!(arg.is_some_and(|arg| arg.get_action().takes_values() && !arg.is_hide_set()), "{swept}");
        }
    }
}
