//! `milepost report`: the figures of runs, made again from their files, with charts.
//!
//! Rule: only files are read, nothing is measured. Deliberately not here: reading (`report::read`), figures (`report::gather`), the
//! page (`report::page`), what HDR logs are together (`report::hdr`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{Failure, print};
use crate::naming::unlike;
use crate::report::chart::picture::Picture;
#[cfg(feature = "png")]
use crate::report::chart::png;
use crate::report::chart::svg;
use crate::report::files::write_whole;
use crate::report::gather::{Gathering, Side};
use crate::report::goodput::Slo;
use crate::report::hdr::{json as logs_json, text as logs_text};
use crate::report::page::{Chart, charts, log_charts, logs_page, page};
use crate::report::read::hdr::{is_log, read_all};
use crate::report::read::{Facts, Input, ReadError, inputs};
use crate::report::recount::{Arm, compared, shorten, summary};

/// Arguments of `milepost report`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  milepost report milepost-bench/latest\n  milepost report milepost-demo --out demo.html\n  milepost report trace.jsonl\n  milepost report before=runs/a after=runs/b\n  milepost report client-1/latency.hdr client-2/latency.hdr\n\nSeveral runs are shown side by side, under the names that are given. A trace alone tells what the router saw. \
    Of HDR logs (bench --hdr) there are only their distributions, and those of all of them together."
)]
pub struct ReportArgs {
    /// Runs: requests.csv, run.json, the folder of a run or a folder of such folders, a router's trace log (a file, packed too, its folder or a pattern); or HDR logs, of which the figures are merged. NAME=PATH says how one is called
    #[arg(required = true, value_name = "[NAME=]PATH")]
    runs: Vec<PathBuf>,
    /// Where the page goes: one file of HTML, without scripts or anything from elsewhere [default: report.html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A folder for each chart as an SVG of its own
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
    /// A folder for each chart as a PNG, light and with twice the pixels, for slides
    #[cfg(feature = "png")]
    #[arg(long, value_name = "FOLDER")]
    png: Option<PathBuf>,
    /// The figures as JSON, by run, with the names they have in run.json
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Limits in ms that a good request keeps, such as ttft:200 tpot:50 e2el:5000
    #[arg(long, value_name = "NAME:MS")]
    goodput: Vec<String>,
}

/// Runs `milepost report`.
pub fn run(args: &ReportArgs) -> Result<(), Failure> {
    let slos = Slo::all(&args.goodput).map_err(Failure::Usage)?;
    let usage = |e: ReadError| Failure::Usage(e.to_string());
    if are_hdr_logs(&args.runs)? {
        return merge(args);
    }
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
    let mut written = vec![write_page(args, &page(&arms))?];
    written.extend(pictures(args, &|| charts(&arms))?);
    if let Some(path) = &args.json {
        write(path, &format!("{:#}\n", figures(&arms)))?;
        written.push(path.display().to_string());
    }
    print(&format!("{text}written: {}\n", written.join(", ")))
}

/// The page, where it is wanted; its name.
fn write_page(args: &ReportArgs, page: &str) -> Result<String, Failure> {
    let out = args.out.as_deref().unwrap_or(Path::new("report.html"));
    write(out, page)?;
    Ok(out.display().to_string())
}

/// The charts in the forms that are asked for; the names of their folders.
fn pictures(args: &ReportArgs, charts: &dyn Fn() -> Vec<Chart>) -> Result<Vec<String>, Failure> {
    let mut written = Vec::new();
    if let Some(folder) = &args.svg {
        each_chart(&charts(), "svg", folder, |picture| Ok(svg::file(picture).into_bytes()))?;
        written.push(folder.display().to_string());
    }
    #[cfg(feature = "png")]
    if let Some(folder) = &args.png {
        each_chart(&charts(), "png", folder, |picture| {
            png::encoded(picture).map_err(|e| Failure::Run(format!("--png: {e}")))
        })?;
        written.push(folder.display().to_string());
    }
    Ok(written)
}

/// Each chart as a file of its own, by its name and the ending that the flag is called after.
fn each_chart(
    charts: &[Chart],
    ending: &str,
    folder: &Path,
    drawn: impl Fn(&Picture) -> Result<Vec<u8>, Failure>,
) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)
        .map_err(|e| Failure::Run(format!("--{ending} {}: {e}", folder.display())))?;
    // Names that differ only in what a file name leaves out are one here.
    let mut taken = HashSet::new();
    for chart in charts {
        let name =
            unlike(&chart.file, |name, number| format!("{name}-{number}"), |name| taken.contains(name));
        write(&folder.join(format!("{name}.{ending}")), &drawn(&chart.picture)?)?;
        taken.insert(name);
    }
    Ok(())
}

/// Either all are or none is: a log holds no requests that could stand beside those of a run.
fn are_hdr_logs(paths: &[PathBuf]) -> Result<bool, Failure> {
    let mut others = Vec::new();
    for path in paths {
        if !is_log(path).map_err(|e| Failure::Usage(e.to_string()))? {
            others.push(path);
        }
    }
    match others.first() {
        None => Ok(true),
        Some(_) if others.len() == paths.len() => Ok(false),
        Some(other) => Err(Failure::Usage(format!(
            "{} is no HDR log, and the others are; an HDR log holds counts and no requests, so name only HDR logs, or only runs",
            other.display()
        ))),
    }
}

/// HDR logs, each and all of them together.
fn merge(args: &ReportArgs) -> Result<(), Failure> {
    if !args.goodput.is_empty() {
        let why = "--goodput: an HDR log holds counts and no requests; name the folder of the run for it";
        return Err(Failure::Usage(why.to_owned()));
    }
    let (logs, merged) = read_all(&args.runs).map_err(|e| Failure::Usage(e.to_string()))?;
    let text = logs_text(&logs, &merged);
    let mut written = vec![write_page(args, &logs_page(&logs, &merged))?];
    written.extend(pictures(args, &|| log_charts(&logs, &merged))?);
    if let Some(path) = &args.json {
        write(path, &format!("{:#}\n", logs_json(&logs, &merged)))?;
        written.push(path.display().to_string());
    }
    print(&format!("{text}written: {}\n", written.join(", ")))
}

fn arm(input: &Input, slos: &[Slo]) -> Result<Arm, ReadError> {
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

fn write(path: &Path, content: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), Failure> {
    write_whole(path, content).map_err(|e| Failure::Run(format!("cannot write {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_of_one_name_are_files_of_their_own() {
        let picture = Picture { width: 1.0, height: 1.0, about: String::new(), shapes: Vec::new() };
        let chart = Chart { file: "ttft--".to_owned(), picture };
        let charts = [chart.clone(), chart.clone(), chart];
        let folder = std::env::temp_dir().join(format!("milepost-charts-{}", std::process::id()));
        each_chart(&charts, "svg", &folder, |_| Ok(Vec::new())).unwrap();
        for name in ["ttft--", "ttft---2", "ttft---3"] {
            assert!(folder.join(format!("{name}.svg")).exists(), "{name}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
