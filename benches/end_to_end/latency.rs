//! What a proxy adds to the time of a small request, at a light load and at half of what fills haproxy's core.
//!
//! Rule: requests go out by the clock and never wait for answers; a run whose load generator was late is left out. A time is
//! from just before the request is written to the end of its answer, and what is added is the difference of the same quantile
//! through the proxy and direct. Deliberately not here: streams, whose first event is in the first table.

use crate::cases::Found;
use crate::load::{Broken, Case, Load, Pace};
use crate::options::Options;
use crate::page::{Page, Section, with_notes};
use crate::peers::{Peer, Running, Tracing};
use crate::rounds::Samples;
use crate::table::{Table, short};

/// Whose latency is told: the others cannot follow at half load.
const ROWS: [Peer; 5] =
    [Peer::Direct, Peer::HEADLINE, Peer::Milepost("cache_aware", Tracing::OFF), Peer::Haproxy, Peer::Nginx];
/// Requests that go out later than this meet each other.
const SOON_NS: u64 = 300_000;
/// A fleet of a few GPUs at work.
const LIGHT_PER_S: f64 = 200.0;
/// Seconds of one run at the light load.
const LIGHT_S: f64 = 2.0;
/// CPU of haproxy for a small request where this run has not measured it, microseconds.
const HAPROXY_US: f64 = 15.0;

/// Measures and tells.
pub fn measure(
    load: &mut Load,
    running: &[Running],
    found: Found,
    options: &Options,
    page: &mut Page,
) -> Result<(), Broken> {
    if !options.has("latency") {
        return Ok(());
    }
    let full_per_s = 1e6 / found.haproxy_us.unwrap_or(HAPROXY_US);
    let (light, half) = (LIGHT_PER_S, (full_per_s / 2.0 / 1_000.0).round() * 1_000.0);
    let light_requests = if options.quick { 100.0 } else { LIGHT_PER_S * LIGHT_S };
    let case = |key, title: &str, per_s: f64, requests: f64| {
        let paced = Case::plain(key, title, 120, Pace::PerSecond(per_s), requests as usize);
        Case { late_ns: SOON_NS, ..paced }
    };
    let cases = [
        case("light", &format!("{light:.0}/s"), light, light_requests),
        case("half", &format!("{half:.0}/s"), half, half.min(options.requests as f64)),
    ];
    let peers: Vec<&Running> = running.iter().filter(|peer| ROWS.contains(&peer.peer)).collect();
    let samples = Samples::take(load, &peers, &cases, options.rounds)?;
    let mut table = Table::new(std::iter::once("µs".to_owned()).chain(cases.iter().flat_map(|case| {
        [
            format!("p50 at {}", case.title),
            "added".to_owned(),
            format!("p99 at {}", case.title),
            "added".to_owned(),
        ]
    })));
    let direct = peers.iter().position(|peer| peer.peer == Peer::Direct);
    for (p, peer) in peers.iter().enumerate() {
        let cells = (0..cases.len()).flat_map(|c| [(c, 0), (c, 1)]).flat_map(|(c, i)| {
            let whole = |p: usize| samples.median(p, c, |s| s.whole_us[i]);
            let added = whole(p).zip(direct.and_then(whole)).map(|(us, direct)| us - direct);
            [whole(p), added].map(|us| us.map_or_else(|| "none".to_owned(), short))
        });
        table.row(peer.name.clone(), cells.collect::<Vec<_>>());
    }
    let source = if found.haproxy_us.is_some() {
        "measured above"
    } else {
        "taken for granted, as it was not measured in this run"
    };
    let half = format!(
        "Half load is half of 1 s / {} µs, haproxy's CPU for such a request, {source}.",
        short(found.haproxy_us.unwrap_or(HAPROXY_US))
    );
    let text = with_notes(format!("{}\n{half}\n", table.text()), &samples.notes());
    page.add(Section { key: "latency", title: "Added latency", text });
    Ok(())
}
