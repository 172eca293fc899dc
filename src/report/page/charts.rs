//! Which charts a report has.
//!
//! Rule: what can be compared is in one chart, with a colour for each run; what is inside one run has a chart for each. A chart without
//! a point is left out. Deliberately not here: drawing (`chart`).

use std::collections::BTreeSet;

use super::phases::{phases, title};
use crate::report::chart::bars::{Bar, Bars, Group};
use crate::report::chart::picture::Picture;
use crate::report::chart::plot::{Axis, Plot, Series, Upright};
use crate::report::chart::scale::Scale;
use crate::report::gather::{Drawn, Line};
use crate::report::marks::Mark;
use crate::report::recount::Arm;
use crate::report::timeline::Concurrency;

/// Workers whose share is drawn.
const WORKERS: usize = 24;

/// A picture and the name of its file.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Without its ending.
    pub file: String,
    /// The picture.
    pub picture: Picture,
}

/// All charts, in the order of the page.
pub fn charts(arms: &[Arm]) -> Vec<Chart> {
    let mut out = Vec::new();
    let mut add = |file: &str, plot: Plot| {
        if plot.series.iter().any(|s| s.points.len() > 1) {
            out.push(Chart { file: file.to_owned(), picture: plot.picture() });
        }
    };
    let slices = arms.iter().filter_map(|arm| Some(arm.gathered.drawn.as_ref()?.requests.slice_s));
    let (least, most) = slices.fold((f64::MAX, 0.0), |(a, b), s| (s.min(a), s.max(b)));
    // Each run has slices of its own.
    let up_to = if least < most { "up to " } else { "" };
    let per = format!("in slices of {up_to}{most} s");
    add(
        "throughput",
        over_time(&format!("Successful requests per second, {per}"), "req/s", arms, |d| &d.requests.points),
    );
    add(
        "tokens",
        over_time(&format!("Tokens of successful requests per second, {per}"), "tok/s", arms, |d| {
            &d.tokens.points
        }),
    );
    add("latency", latency(arms));
    add("ttft", distributions("Time to first token", each(arms, |d| &d.ttft)));
    add("concurrency", concurrency("Requests in flight", arms, |arm| &arm.gathered.metrics.in_flight));
    add(
        "running",
        concurrency("Requests past the servers' queue", arms, |arm| &arm.gathered.metrics.running),
    );
    let all: Vec<&Drawn> = arms.iter().filter_map(|arm| arm.gathered.drawn.as_ref()).collect();
    let ttfts = all.iter().flat_map(|d| d.ttft_by_worker.iter().chain(&d.ttft_by_policy));
    // One axis for all of them, as they are to be compared.
    let axis = fitting(ttfts.map(|line| &line.points));
    for (arm, drawn) in arms.iter().filter_map(|arm| Some((arm, arm.gathered.drawn.as_ref()?))) {
        let ending = if arms.len() > 1 { format!("-{}", file_name(&arm.name)) } else { String::new() };
        for (what, lines) in [("worker", &drawn.ttft_by_worker), ("policy", &drawn.ttft_by_policy)] {
            if lines.len() > 1 {
                // The name comes first: of a title that is too long the middle goes.
                let title = match arms {
                    [_] => format!("Time to first token by {what}"),
                    _ => format!("{}: TTFT by {what}", arm.name),
                };
                let plot = Plot { x: axis, ..distributions(&title, numbered(lines)) };
                add(&format!("ttft-by-{what}{ending}"), plot);
            }
        }
    }
    out.extend(share(arms));
    for arm in arms {
        out.extend(timelines(arm, arms.len() > 1));
    }
    out
}

/// Letters, digits and dashes of a name.
pub(super) fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

/// A curve of each run.
fn each(arms: &[Arm], of: impl Fn(&Drawn) -> &Line) -> Vec<Series> {
    let line = |(colour, arm): (usize, &Arm)| {
        let points = of(arm.gathered.drawn.as_ref()?).points.clone();
        Some(Series { name: arm.name.clone(), colour, dashed: false, points })
    };
    arms.iter().enumerate().filter_map(line).collect()
}

fn numbered(lines: &[Line]) -> Vec<Series> {
    let series = |(colour, line): (usize, &Line)| Series {
        name: line.name.clone(),
        colour,
        dashed: false,
        points: line.points.clone(),
    };
    lines.iter().enumerate().map(series).collect()
}

/// The largest x and y of all curves.
fn most(series: &[Series], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    series.iter().flat_map(|s| &s.points).map(of).fold(0.0, f64::max)
}

/// What happened in the runs: of several in the colour of its own.
fn marks(arms: &[Arm]) -> Vec<Upright> {
    let one = |colour: usize, mark: &Mark| Upright {
        x: mark.at_s,
        name: mark.label.clone(),
        colour: (arms.len() > 1).then_some(colour),
    };
    let all = arms.iter().enumerate().flat_map(|(n, arm)| arm.facts.marks.iter().map(move |mark| (n, mark)));
    all.map(|(n, mark)| one(n, mark)).collect()
}

fn seconds(series: &[Series]) -> Axis {
    Axis { label: "s after the start", scale: Scale::between(0.0, most(series, |p| p.0)) }
}

fn over_time(
    title: &str,
    unit: &'static str,
    arms: &[Arm],
    points: impl Fn(&Drawn) -> &Vec<(f64, f64)>,
) -> Plot {
    let curve = |(colour, arm): (usize, &Arm)| {
        let points = points(arm.gathered.drawn.as_ref()?).clone();
        Some(Series { name: arm.name.clone(), colour, dashed: false, points })
    };
    let series: Vec<Series> = arms.iter().enumerate().filter_map(curve).collect();
    let y = Axis { label: unit, scale: Scale::from_zero(most(&series, |p| p.1)) };
    Plot { title: title.to_owned(), x: seconds(&series), y, steps: true, series, lines: marks(arms) }
}

fn concurrency(title: &str, arms: &[Arm], of: impl Fn(&Arm) -> &Concurrency) -> Plot {
    let curve = |(colour, arm): (usize, &Arm)| Series {
        name: arm.name.clone(),
        colour,
        dashed: false,
        points: of(arm).points.iter().map(|p| (p.at_s, p.in_flight as f64)).collect(),
    };
    let series: Vec<Series> = arms.iter().enumerate().map(curve).collect();
    let y = Axis { label: "requests", scale: Scale::from_zero(most(&series, |p| p.1)) };
    Plot { title: title.to_owned(), x: seconds(&series), y, steps: true, series, lines: marks(arms) }
}

/// Of one run also what its users waited, from the schedule.
fn latency(arms: &[Arm]) -> Plot {
    let mut series = each(arms, |d| &d.latency);
    if let ([one], [only]) = (arms, series.as_mut_slice())
        && let Some(from) =
            one.gathered.drawn.as_ref().map(|d| &d.from_schedule).filter(|l| !l.points.is_empty())
    {
        "arrival to finish".clone_into(&mut only.name);
        let points = from.points.clone();
        series.push(Series { name: "client, from schedule".to_owned(), colour: 1, dashed: true, points });
    }
    distributions("E2E latency", series)
}

fn distributions(title: &str, series: Vec<Series>) -> Plot {
    let x = fitting(series.iter().map(|s| &s.points));
    let y = Axis { label: "share of requests", scale: Scale::from_zero(1.0) };
    Plot {
        title: format!("{title}: share of requests that took no longer"),
        x,
        y,
        steps: false,
        series,
        lines: Vec::new(),
    }
}

/// An axis of times for these curves. The quickest hundredth does not make it logarithmic.
pub(super) fn fitting<'a>(curves: impl Iterator<Item = &'a Vec<(f64, f64)>>) -> Axis {
    let ends = curves.filter_map(|points| {
        let least = points.iter().find(|p| p.1 >= 0.01)?.0;
        Some((least, points.last()?.0))
    });
    let (least, most) = ends.fold((f64::INFINITY, 0.0), |(l, m), (least, most)| (least.min(l), most.max(m)));
    Axis { label: "ms", scale: Scale::fitting(least, most) }
}

fn share(arms: &[Arm]) -> Option<Chart> {
    let hosts: BTreeSet<&String> = arms.iter().flat_map(|arm| arm.gathered.metrics.workers.keys()).collect();
    let bar = |host: &String, colour: usize, arm: &Arm| {
        let metrics = &arm.gathered.metrics;
        let requests = metrics.workers.get(host).map_or(0, |w| w.requests);
        let percent = 100.0 * requests as f64 / metrics.placed().max(1) as f64;
        Bar {
            colour,
            span: (0.0, percent),
            text: format!("{percent:.1} % ({requests})"),
            about: format!("{}: {requests} requests at {host}", arm.name),
        }
    };
    let group = |host: &&String| Group {
        name: (*host).clone(),
        bars: arms.iter().enumerate().map(|(colour, arm)| bar(host, colour, arm)).collect(),
    };
    let bars = Bars {
        title: if hosts.len() > WORKERS {
            format!("Share of the requests, the first {WORKERS} of {} workers", hosts.len())
        } else {
            "Share of the requests by worker".to_owned()
        },
        label: "% of the requests that a worker got",
        groups: hosts.iter().take(WORKERS).map(group).collect(),
        legend: arms.iter().enumerate().map(|(colour, arm)| (colour, arm.name.clone())).collect(),
    };
    (!hosts.is_empty()).then(|| Chart { file: "share".to_owned(), picture: bars.picture() })
}

/// The request in the middle and the slowest, phase by phase.
fn timelines(arm: &Arm, several: bool) -> Vec<Chart> {
    let Some(drawn) = &arm.gathered.drawn else { return Vec::new() };
    let mut out = Vec::new();
    for (what, words, row) in
        [("median", "of median latency", &drawn.median), ("slowest", "that took longest", &drawn.slowest)]
    {
        let Some(row) = row else { continue };
        let phases = phases(row, arm.facts.side);
        if phases.is_empty() {
            continue;
        }
        let groups = phases.into_iter().enumerate().map(|(n, phase)| Group {
            name: phase.name,
            bars: vec![Bar {
                colour: n,
                span: (phase.from_ms, phase.from_ms + phase.ms),
                text: format!("{:.2} ms", phase.ms),
                about: format!("{:.3} ms, from {:.3} ms on", phase.ms, phase.from_ms),
            }],
        });
        let of = if several { format!("{}: ", arm.name) } else { String::new() };
        let bars = Bars {
            title: format!("{of}request {words} ({})", title(row)),
            label: if row.sent_ns.is_some() { "ms after it was due" } else { "ms after its arrival" },
            groups: groups.collect(),
            legend: Vec::new(),
        };
        let ending = if several { format!("-{}", file_name(&arm.name)) } else { String::new() };
        out.push(Chart { file: format!("timeline-{what}{ending}"), picture: bars.picture() });
    }
    out
}
