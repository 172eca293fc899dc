//! `milepost report`: the figures of runs, made again from their files, with charts.
//!
//! Rule: only files are read, nothing is measured. Deliberately not here: reading (`report::read`), figures (`report::gather`), the
//! page (`report::page`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Failure, print};
use crate::report::files::write_whole;
use crate::report::gather::{Gathering, Side};
use crate::report::goodput::Slo;
use crate::report::page::{charts, page};
use crate::report::read::{Facts, Input, inputs};
use crate::report::recount::{Arm, compared, shorten, summary};

/// Arguments of `milepost report`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  milepost report milepost-bench/latest\n  milepost report milepost-demo --out demo.html\n  milepost report trace.jsonl\n  milepost report before=runs/a after=runs/b\n\nSeveral runs are shown side by side, under the names that are given. A trace alone tells what the router saw."
)]
pub struct ReportArgs {
    /// Runs: requests.csv, run.json, the folder of a run or a folder of such folders, a router's trace log (a file, packed too, its folder or a pattern). NAME=PATH says how a run is called
    #[arg(required = true, value_name = "[NAME=]PATH")]
    runs: Vec<PathBuf>,
    /// Where the page goes: one file of HTML, without scripts or anything from elsewhere
    #[arg(long, default_value = "report.html", value_name = "FILE")]
    out: PathBuf,
    /// A folder for each chart as an SVG of its own
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// The figures as JSON, by run, with the names they have in run.json
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Limits in ms that a good request keeps, such as ttft:200 tpot:50 e2el:5000
    #[arg(long, value_name = "NAME:MS")]
    goodput: Vec<String>,
}

/// Runs `milepost report`.
#[expect(clippy::needless_pass_by_value, reason = "every command takes its arguments whole")]
pub fn run(args: ReportArgs) -> Result<(), Failure> {
    let slos = Slo::all(&args.goodput).map_err(Failure::Usage)?;
    let usage = |e: crate::report::read::ReadError| Failure::Usage(e.to_string());
    let inputs = inputs(&args.runs).map_err(usage)?;
    let arms = inputs.iter().map(|input| arm(input, &slos).map_err(usage));
    let mut arms = arms.collect::<Result<Vec<Arm>, Failure>>()?;
    // Who gives a name has said how runs are told apart.
    if !inputs.iter().any(|input| input.is_named) {
        shorten(&mut arms);
    }
    let mut text: String = arms.iter().map(summary).collect();
    if arms.len() > 1 {
        text.push_str(&compared(&arms));
    }
    let mut written = vec![args.out.display().to_string()];
    write(&args.out, &page(&arms))?;
    if let Some(folder) = &args.svg {
        std::fs::create_dir_all(folder)
            .map_err(|e| Failure::Run(format!("--svg {}: {e}", folder.display())))?;
        for chart in charts(&arms) {
            write(&folder.join(format!("{}.svg", chart.file)), &chart.svg.file())?;
        }
        written.push(folder.display().to_string());
    }
    if let Some(path) = &args.json {
        write(path, &format!("{:#}\n", figures(&arms)))?;
        written.push(path.display().to_string());
    }
    print(&format!("{text}written: {}\n", written.join(", ")))
}

fn arm(input: &Input, slos: &[Slo]) -> Result<Arm, crate::report::read::ReadError> {
    let begun = |side: Side| Gathering::bounded(side).drawn().judged(slos);
    let mut gathering = None;
    let facts: Facts = input.rows(&mut |side, row| gathering.get_or_insert_with(|| begun(side)).add(row))?;
    let gathered = gathering.unwrap_or_else(|| begun(facts.side)).gathered();
    Ok(Arm { name: input.name.clone(), from: input.path.display().to_string(), facts, gathered })
}

fn figures(arms: &[Arm]) -> Value {
    let one = |arm: &Arm| {
        json!({
            "read_from": arm.from,
            "metrics": arm.gathered.metrics.to_json(),
            "where_the_time_went": arm.gathered.metrics.split.as_ref().map(crate::report::split::Split::to_json),
            "concurrency_over_time": arm.gathered.metrics.in_flight.points,
            "running_over_time": arm.gathered.metrics.running.points,
            "percentiles_within": arm.gathered.metrics.percentiles_within(),
            "notes": arm.notes(),
        })
    };
    Value::Object(arms.iter().map(|arm| (arm.name.clone(), one(arm))).collect::<Map<_, _>>())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    write_whole(path, text).map_err(|e| Failure::Run(format!("cannot write {e}")))
}
