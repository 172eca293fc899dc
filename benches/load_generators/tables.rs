//! The two tables: open loops at given rates, and as many streams as one core can hold.
//!
//! Rule: a column is the server's word or the kernel's; what a tool says stands beside it as what it says. Deliberately not
//! here: how a run is made.

use std::fmt::Write as _;
use std::time::Duration;

use crate::broken::Broken;
use crate::options::Options;
use crate::page::{Section, progress, with_notes};
use crate::runs::{self, Outcome, Stage};
use crate::server::{Beat, Seen};
use crate::shape::Arrived;
use crate::tools::{Pace, Shape, Tool};

/// Few tokens, so that the load is in the arrivals.
const SHORT: Beat = Beat { first: Duration::from_millis(20), gap: Duration::from_millis(10) };
const SHORT_TOKENS: u64 = 2;
/// As an engine under load sends them.
const LONG: Beat = Beat { first: Duration::from_millis(50), gap: Duration::from_millis(50) };
const LONG_TOKENS: u64 = 40;
/// Rounds of each stream.
const ROUNDS: usize = 3;
/// A stream is held if what is reported of its first token is no further from the truth than this, on average.
const TRUE_MS: f64 = 10.0;
/// And if so many of those asked for were open at once.
const OPEN_SHARE: f64 = 0.95;

/// Rates asked for and made.
pub fn rates(stage: &mut Stage, options: &Options) -> Result<Section, Broken> {
    let mut text = String::from(
        "| tool | asked | came, req/s | error | KS (5 % limit) | dispersion | late p99, ms | CPU, µs/request | TTFT said − true, ms |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    let mut notes = Vec::new();
    for &per_s in &options.rates {
        // A tool that does not come to an end at a rate is not waited for twice.
        let mut endless = Vec::new();
        for shape in [Shape::Poisson, Shape::Constant] {
            let asked = format!("{} {per_s}/s", shape.name());
            let requests = (per_s * options.seconds) as usize;
            for &tool in options.tools.iter().filter(|tool| tool.can(Pace::Rate(per_s, shape))) {
                if endless.contains(&tool) {
                    notes
                        .push(format!("{}, {asked}: not tried, as it did not end at this rate", tool.name()));
                    continue;
                }
                progress(&format!("{} at {asked}", tool.name()));
                match stage.run(tool, (Pace::Rate(per_s, shape), requests, SHORT_TOKENS), SHORT, false) {
                    Ok(run) => {
                        text.push_str(&rate_row(tool, &asked, per_s, shape, &run));
                        notes.extend(run.doubt.map(|doubt| format!("{}, {asked}: {doubt}", tool.name())));
                    }
                    Err(Broken::Interrupted) => return Err(Broken::Interrupted),
                    Err(Broken::Invalid(why)) => {
                        if why.starts_with(runs::NOT_ENDED) {
                            endless.push(tool);
                        }
                        notes.push(format!("{}, {asked}: {why}", tool.name()));
                    }
                }
            }
        }
    }
    Ok(Section { key: "rates", title: "Asked for and arrived", text: with_notes(text, &notes) })
}

fn rate_row(tool: Tool, asked: &str, per_s: f64, shape: Shape, run: &Outcome) -> String {
    let at_ns: Vec<u64> = run.seen.iter().map(|s: &Seen| s.arrived_ns).collect();
    let Some(came) = Arrived::of(&at_ns, per_s, shape) else { return String::new() };
    let ks = came.ks.map(|ks| format!("{ks:.3} ({:.3})", Arrived::ks_limit(at_ns.len())));
    format!(
        "| {} | {asked} | {:.1} | {:+.1} % | {} | {:.2} | {} | {:.0} | {} |\n",
        tool.name(),
        came.per_s,
        (came.per_s / per_s - 1.0) * 100.0,
        ks.unwrap_or_default(),
        came.dispersion,
        came.late_p99_ms.map(|ms| format!("{ms:.2}")).unwrap_or_default(),
        run.cpu_ns / 1e3 / run.seen.len() as f64,
        run.reported.ttft_mean_ms.map(|ms| format!("{:+.2}", ms - run.true_ttft_ms().0)).unwrap_or_default(),
    )
}

/// Streams that one core holds.
pub fn streams(stage: &mut Stage, options: &Options) -> Result<Section, Broken> {
    let mut text = String::from(
        "| tool | streams asked | open at most | CPU, µs/token | TTFT mean said − true, ms | TTFT p99 said − true, ms | held |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut notes = Vec::new();
    for &tool in &options.tools {
        let mut most = 0;
        for &places in &options.streams {
            progress(&format!("{}, {places} streams", tool.name()));
            let load = (Pace::Closed(places), places * ROUNDS, LONG_TOKENS);
            let run = match stage.run(tool, load, LONG, true) {
                Ok(run) => run,
                Err(Broken::Interrupted) => return Err(Broken::Interrupted),
                Err(Broken::Invalid(why)) => {
                    notes.push(format!("{}, {places} streams: {why}", tool.name()));
                    break;
                }
            };
            notes.extend(
                run.doubt.as_ref().map(|doubt| format!("{}, {places} streams: {doubt}", tool.name())),
            );
            let (mean, p99) = run.true_ttft_ms();
            let off = |said: Option<f64>, is: f64| said.map(|said| said - is);
            let (mean, p99) = (off(run.reported.ttft_mean_ms, mean), off(run.reported.ttft_p99_ms, p99));
            let open = run.most_open();
            let all = run.reported.completed == Some(run.seen.len() as u64);
            let held = all
                && open as f64 >= OPEN_SHARE * places as f64
                && mean.is_some_and(|ms| ms.abs() <= TRUE_MS);
            // A string takes everything.
            let _ = writeln!(
                text,
                "| {} | {places} | {open} | {:.1} | {} | {} | {} |",
                tool.name(),
                run.cpu_ns / 1e3 / run.tokens().max(1) as f64,
                mean.map(|ms| format!("{ms:+.1}")).unwrap_or_default(),
                p99.map(|ms| format!("{ms:+.1}")).unwrap_or_default(),
                if held { "yes" } else { "no" },
            );
            if !held {
                break;
            }
            most = places;
        }
        notes.push(format!("{}: {most} streams held by one core", tool.name()));
    }
    Ok(Section { key: "streams", title: "Streams that one core holds", text: with_notes(text, &notes) })
}
