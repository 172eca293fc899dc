//! What more workers and more cores do to the headline, and what its trace costs end to end.
//!
//! Rule: as in the first table, CPU of the proxy's process for a small request in a closed loop. Deliberately not here: the
//! decision alone (`request_path`).

use crate::load::{Broken, Case, Load, Pace};
use crate::options::Options;
use crate::page::{Page, Section, with_notes};
use crate::peers::{Peer, Running, Stage, Tracing};
use crate::request_path::Steps;
use crate::rounds::Samples;
use crate::table::{Table, short};

/// Sizes of the fleet.
const FLEETS: [usize; 5] = [2, 8, 32, 128, 512];
/// Candidates of the comparison with and without a trace.
const TRACED_FLEET: usize = 8;

fn closed(clients: usize, requests: usize) -> Case {
    Case::plain("plain", "120 B", 120, Pace::Closed(clients), requests)
}

/// From 2 to 512 workers.
pub fn workers(
    stage: &mut Stage,
    load: &mut Load,
    steps: Option<&Steps>,
    options: &Options,
    page: &mut Page,
) -> Result<(), Broken> {
    if !options.has("workers") {
        return Ok(());
    }
    let (mut running, mut fleets, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for fleet in FLEETS {
        let started = stage.start(Peer::HEADLINE, load, fleet);
        if let Some(peer) = keep(started, &mut notes, &format!("{fleet} workers"))? {
            running.push(peer);
            fleets.push(fleet);
        }
    }
    let cases = [closed(16, options.requests)];
    let samples = Samples::take(load, &running, &cases, options.rounds)?;
    let mut table = Table::new(["workers", "end to end, µs", "decision, µs", "decision and record, µs"]);
    for (p, fleet) in fleets.iter().enumerate() {
        let step = steps.and_then(|steps| steps.fleets.iter().find(|step| step.workers == *fleet));
        let us = |ns: Option<f64>| ns.map_or_else(|| "none".to_owned(), |ns| short(ns / 1e3));
        table.row(
            fleet.to_string(),
            [
                samples.cell(p, 0, |s| s.cpu_us),
                us(step.map(|s| s.choose_ns)),
                us(step.map(|s| s.choose_ns + s.record_ns + s.serialise_ns)),
            ],
        );
    }
    notes.extend(samples.notes());
    let text = with_notes(table.text(), &notes);
    page.add(Section { key: "workers", title: "From 2 to 512 workers", text });
    Ok(())
}

/// From one to all cores.
pub fn cores(stage: &mut Stage, load: &mut Load, options: &Options, page: &mut Page) -> Result<(), Broken> {
    if !options.has("cores") {
        return Ok(());
    }
    let all = stage.cores;
    let mut table =
        Table::new(["cores", "CPU, µs", "requests/s", "% of its cores", "load generator, % of its core"]);
    let mut notes = Vec::new();
    for cores in sizes(all) {
        stage.on_cores((all - cores..all).collect());
        let Some(peer) = keep(stage.start(Peer::HEADLINE, load, 1), &mut notes, &format!("{cores} cores"))?
        else {
            continue;
        };
        let running = [peer];
        let cases = [closed(16 * cores, options.requests)];
        let samples = Samples::take(load, &running, &cases, options.rounds)?;
        let shared = if cores == all { ", shared with the load" } else { "" };
        table.row(
            format!("{cores}{shared}"),
            [
                samples.cell(0, 0, |s| s.cpu_us),
                samples.cell(0, 0, |s| s.per_s),
                samples.cell(0, 0, |s| s.proxy_share * 100.0 / cores as f64),
                samples.cell(0, 0, |s| s.load_share * 100.0),
            ],
        );
        notes.extend(samples.notes());
    }
    stage.on_cores(vec![all - 1]);
    let text = with_notes(table.text(), &notes);
    page.add(Section { key: "cores", title: "From one to all cores", text });
    Ok(())
}

/// Trace on against off.
pub fn trace(
    stage: &mut Stage,
    load: &mut Load,
    steps: Option<&Steps>,
    options: &Options,
    page: &mut Page,
) -> Result<(), Broken> {
    if !options.has("trace") {
        return Ok(());
    }
    let (mut running, mut notes) = (Vec::new(), Vec::new());
    for peer in [Peer::HEADLINE, Peer::Milepost("cache_aware", Tracing::OFF)] {
        running.extend(keep(stage.start(peer, load, TRACED_FLEET), &mut notes, &peer.name())?);
    }
    if !notes.is_empty() {
        page.add(Section {
            key: "trace",
            title: "Trace on against off",
            text: with_notes(String::new(), &notes),
        });
        return Ok(());
    }
    let paced_requests = (options.requests / 10).max(100);
    let cases = [
        closed(16, options.requests),
        Case::plain("paced", "2,000/s", 120, Pace::PerSecond(2_000.0), paced_requests),
    ];
    let samples = Samples::take(load, &running, &cases, options.rounds)?;
    let mut table = Table::new(["µs of CPU, 8 workers", "on", "off", "more"]);
    let mut row = |name: &str, on: Option<f64>, off: Option<f64>| {
        let cell = |us: Option<f64>| us.map_or_else(|| "none".to_owned(), short);
        table.row(name, [cell(on), cell(off), cell(on.zip(off).map(|(on, off)| on - off))]);
    };
    for (c, case) in cases.iter().enumerate() {
        let [on, off] = [0, 1].map(|p| samples.median(p, c, |s| s.cpu_us));
        row(&format!("all threads, {}", if c == 0 { "16 at once" } else { &case.title }), on, off);
    }
    if let Some(steps) = steps {
        let us = |ns: f64| Some(ns / 1e3);
        row(
            "on the request's path: record made and handed over",
            us(steps.record_traced_ns),
            us(steps.record_untraced_ns),
        );
        row("in the writer: serialised and written", us(steps.writer_ns), Some(0.0));
    }
    let text = with_notes(table.text(), &samples.notes());
    page.add(Section { key: "trace", title: "Trace on against off", text });
    Ok(())
}

/// 1, 2, 4, ... and all.
fn sizes(all: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < all).collect();
    sizes.push(all);
    sizes
}

/// What could not be started is a note.
fn keep(
    started: Result<Running, Broken>,
    notes: &mut Vec<String>,
    what: &str,
) -> Result<Option<Running>, Broken> {
    match started {
        Ok(running) => Ok(Some(running)),
        Err(Broken::Interrupted) => Err(Broken::Interrupted),
        Err(Broken::Invalid(why)) => {
            notes.push(format!("{what}: {why}"));
            Ok(None)
        }
    }
}
