//! The first table: CPU of the proxy process for each request and each streamed event.

use crate::load::{Broken, Case, LATE_NS, Load, Pace};
use crate::options::Options;
use crate::page::{Page, Section, progress, with_notes};
use crate::peers::{Peer, Running, Stage};
use crate::rounds::Samples;
use crate::table::{Table, short};

/// Streams that begin in a second.
const STREAMS_PER_S: f64 = 150.0;
const EVENTS: u64 = 64;
const GAP_US: u64 = 5_000;

/// What the first table found that other parts need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    /// CPU of the headline for a small request, microseconds.
    pub ours_us: Option<f64>,
    /// The same of haproxy.
    pub haproxy_us: Option<f64>,
}

/// The cases of the first table that were asked for.
pub fn chosen(options: &Options) -> Vec<Case> {
    let n = options.requests;
    let all = [
        Case::plain("plain16", "120 B, 16 at once", 120, Pace::Closed(16), n),
        Case::plain("plain4", "120 B, 4 at once", 120, Pace::Closed(4), n),
        Case::plain("paced", "120 B, 2,000/s", 120, Pace::PerSecond(2_000.0), (n / 10).max(100)),
        Case::plain("4k", "4 KB, 16 at once", 4_096, Pace::Closed(16), n),
        Case::plain("64k", "64 KB, 16 at once", 65_536, Pace::Closed(16), (n / 4).max(100)),
        Case {
            key: "sse",
            title: "SSE event".to_owned(),
            prompt_bytes: 120,
            events: EVENTS,
            gap_us: GAP_US,
            pace: Pace::PerSecond(STREAMS_PER_S),
            requests: (n / 90).max(50),
            late_ns: LATE_NS,
            is_scripted: true,
        },
    ];
    all.into_iter().filter(|case| options.has(case.key)).collect()
}

/// Starts all peers, each told and left out where it cannot be.
pub fn start(
    stage: &mut Stage,
    load: &mut Load,
    peers: &[Peer],
) -> Result<(Vec<Running>, Vec<String>), Broken> {
    let (mut running, mut notes) = (Vec::new(), Vec::new());
    for peer in peers {
        progress(&format!("starting {}", peer.name()));
        match stage.start(*peer, load, 1) {
            Ok(peer) => running.push(peer),
            Err(Broken::Interrupted) => return Err(Broken::Interrupted),
            Err(Broken::Invalid(why)) => notes.push(format!("{}: left out, {why}", peer.name())),
        }
    }
    Ok((running, notes))
}

/// Measures and tells the first table.
pub fn measure(
    load: &mut Load,
    peers: &[Running],
    options: &Options,
    page: &mut Page,
) -> Result<Found, Broken> {
    let cases = chosen(options);
    if cases.is_empty() {
        return Ok(Found::default());
    }
    let samples = Samples::take(load, peers, &cases, options.rounds)?;
    let mut text = cpu_table(&samples, peers, &cases);
    text.push_str(&shares(&samples, peers, &cases));
    if let Some(c) = cases.iter().position(|case| case.key == "sse") {
        text.push_str(&first_events(&samples, peers, c));
    }
    let text = with_notes(text, &samples.notes());
    page.add(Section { key: "cpu", title: "CPU of the proxy", text });
    let plain16 = cases.iter().position(|case| case.key == "plain16");
    let cpu_us = |wanted: Peer| {
        let p = peers.iter().position(|peer| peer.peer == wanted)?;
        samples.median(p, plain16?, |s| s.cpu_us)
    };
    Ok(Found { ours_us: cpu_us(Peer::HEADLINE), haproxy_us: cpu_us(Peer::Haproxy) })
}

fn cpu_table(samples: &Samples, peers: &[Running], cases: &[Case]) -> String {
    let mut table =
        Table::new(std::iter::once("µs of CPU").chain(cases.iter().map(|case| case.title.as_str())));
    for (p, peer) in peers.iter().enumerate().filter(|(_, peer)| peer.peer != Peer::Direct) {
        table.row(peer.name.clone(), (0..cases.len()).map(|c| samples.cell(p, c, |s| s.cpu_us)));
    }
    let place = |wanted: Peer| peers.iter().position(|peer| peer.peer == wanted);
    if let Some(direct) = place(Peer::Direct) {
        let load_us = (0..cases.len()).map(|c| samples.cell(direct, c, |s| s.load_us));
        table.row("the load itself, direct", load_us);
    }
    let ratio = |c: usize| {
        let cpu = |peer: Option<usize>| samples.median(peer?, c, |s| s.cpu_us);
        let better =
            [Peer::Haproxy, Peer::Nginx].into_iter().filter_map(|peer| cpu(place(peer))).reduce(f64::min);
        let ours = cpu(place(Peer::HEADLINE)).zip(better);
        ours.map_or_else(|| "none".to_owned(), |(ours, better)| format!("{:.2}", ours / better))
    };
    if let Some(ours) = place(Peer::HEADLINE) {
        let first = |c: usize| samples.first(ours, c, |s| s.cpu_us).map_or_else(|| "none".to_owned(), short);
        table.row("headline, prompts never seen", (0..cases.len()).map(first));
    }
    table.row("headline / better C proxy", (0..cases.len()).map(ratio));
    table.text()
}

/// How full both cores were: whether a closed loop was limited by the proxy, as it should be.
fn shares(samples: &Samples, peers: &[Running], cases: &[Case]) -> String {
    let closed: Vec<usize> = (0..cases.len()).filter(|c| matches!(cases[*c].pace, Pace::Closed(_))).collect();
    if closed.is_empty() {
        return String::new();
    }
    let titles = closed.iter().map(|c| cases[*c].title.as_str());
    let mut table = Table::new(std::iter::once("% of its core: proxy / load").chain(titles));
    for (p, peer) in peers.iter().enumerate() {
        let cell = |c: &usize| {
            let share = |of: fn(&crate::rounds::Sample) -> f64| samples.median(p, *c, of);
            let shares = share(|s| s.proxy_share).zip(share(|s| s.load_share));
            shares.map_or_else(|| "none".to_owned(), |(p, l)| format!("{:.0} / {:.0}", p * 100.0, l * 100.0))
        };
        table.row(peer.name.clone(), closed.iter().map(cell));
    }
    format!("\n{}", table.text())
}

fn first_events(samples: &Samples, peers: &[Running], c: usize) -> String {
    let mut table = Table::new(["ms to the first event", "half", "99 of 100", "half, more than direct"]);
    let direct = peers.iter().position(|peer| peer.peer == Peer::Direct);
    let direct = direct.and_then(|p| samples.median(p, c, |s| s.first_us[0]));
    for (p, peer) in peers.iter().enumerate() {
        let [half, most] = [0, 1].map(|i| samples.median(p, c, |s| s.first_us[i]));
        let ms = |us: Option<f64>| us.map_or_else(|| "none".to_owned(), |us| short(us / 1e3));
        table.row(
            peer.name.clone(),
            [ms(half), ms(most), ms(half.zip(direct).map(|(us, direct)| us - direct))],
        );
    }
    format!("\n{}", table.text())
}
