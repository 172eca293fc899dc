//! Which stamps the answers held, where they land on this host's time axis, and whether the server's clocks are what they are
//! taken for.
//!
//! Rule: placed by the code that places those of a trace (`trace::align`), so that what is found here is what a router on this
//! host would write. Deliberately not here: what is missing and why that matters (`remedy`).

use super::call::Exchange;
use super::patient::Bystander;
use super::report::{Column, Examined, Heard, Kind, OtherClocks, StampFound, WallClock};
use crate::clock::ClockSnapshot;
use crate::trace::align::{Aligned, TtftSource, align};
use crate::trace::axis::{ClockTrack, Offsets, Pair, exchange};
use crate::trace::record::RequestRecord;
use crate::wire::meta_info::ServerStamps;

/// Room for the rounding of seconds in a double.
const ROUNDING_NS: u64 = 1_000;
/// What NTP may slew meanwhile, and what nobody would see in a trace.
const SLEW_NS: u64 = 1_000_000;

/// Fills in what both requests told. `clocks` were read before and after them.
pub(super) fn fill(
    found: &mut Examined,
    clocks: &[ClockSnapshot; 2],
    bystanders: &[Bystander],
    streamed: Exchange,
    plain: Option<Exchange>,
) {
    let mut track = ClockTrack::default();
    for clock in clocks {
        track.add(*clock);
    }
    let mut both = [Some(streamed), plain];
    for exchange in both.iter_mut().flatten() {
        locate(exchange, found, bystanders);
    }
    let records = || both.iter().flatten().map(|exchange| &exchange.record);
    let mut offsets = Offsets::default();
    records().for_each(|record| offsets.learn(record));
    // Whose clock it is, is not known of what comes through a router: there may be several engines.
    if found.what == Kind::Sglang {
        found.wall_clock = wall_clock(records(), clocks[0]);
        if found.same_host == Some(true) {
            found.other_clocks = other_clocks(records(), found.wall_clock);
        }
    }
    let [streamed, plain] = both.map(|exchange| exchange.map(|exchange| heard(exchange, &track, &offsets)));
    (found.streamed, found.plain) = (streamed, plain);
}

/// Says whose the answer is: this server's, or that of the worker that a router names.
fn locate(exchange: &mut Exchange, found: &Examined, bystanders: &[Bystander]) {
    let record = &mut exchange.record;
    if found.what == Kind::Sglang {
        (record.worker, record.same_host) = (Some(found.url.as_str().into()), found.same_host);
    } else if let Some(url) = &exchange.worker_url {
        let known = bystanders.iter().find(|other| other.worker.url.as_str() == url);
        record.worker = Some(url.as_str().into());
        record.same_host = Some(known.is_some_and(|other| other.same_host == Some(true)));
    }
}

/// By the exchange that tells it best.
fn wall_clock<'a>(
    records: impl Iterator<Item = &'a RequestRecord>,
    host: ClockSnapshot,
) -> Option<WallClock> {
    let pairs = records.filter_map(|record| exchange(record)?.ok());
    let best = pairs.min_by_key(Pair::bound_ns)?;
    let host_offset_ns = i64::try_from(host.unix_ns).ok()? - i64::try_from(host.mono_ns).ok()?;
    Some(WallClock {
        ahead_ns: best.offset_ns.saturating_sub(host_offset_ns),
        bound_ns: best.bound_ns().saturating_add(host.bracket_ns / 2),
    })
}

/// A forwarded port has an address of this host and clocks of another; a container may have a monotonic clock of its own.
fn other_clocks<'a>(
    mut records: impl Iterator<Item = &'a RequestRecord>,
    wall: Option<WallClock>,
) -> Option<OtherClocks> {
    if records.any(monotonic_outside) {
        return Some(OtherClocks::Monotonic);
    }
    let is_off = wall.is_some_and(|wall| wall.ahead_ns.unsigned_abs() > wall.bound_ns + SLEW_NS);
    is_off.then_some(OtherClocks::Wall)
}

/// A stamp of this host's monotonic clock lies between the moments at which the request was sent and answered.
fn monotonic_outside(record: &RequestRecord) -> bool {
    let Some(last_byte_ns) = record.last_byte_ns else { return false };
    let from_ns = record.arrival_mono_ns.saturating_sub(ROUNDING_NS);
    let to_ns = record.arrival_mono_ns.saturating_add(last_byte_ns).saturating_add(ROUNDING_NS);
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    [record.server.queue_time_start, record.server.queue_time_end]
        .into_iter()
        .flatten()
        .any(|seconds| !(from_ns..=to_ns).contains(&ns(seconds)))
}

fn heard(exchange: Exchange, track: &ClockTrack, offsets: &Offsets) -> Heard {
    let Exchange { status, error, answer, record, router_headers, worker_url, .. } = exchange;
    let aligned = align(&record, track, offsets);
    let found = |(name, clock, value_s)| StampFound { name, clock, value_s };
    Heard {
        status,
        error,
        events: answer.events,
        prompt_tokens: answer.tokens.prompt_tokens,
        cached_tokens: answer.tokens.cached_tokens,
        completion_tokens: answer.tokens.completion_tokens,
        first_token_ns: record.first_token_ns,
        last_byte_ns: record.last_byte_ns,
        stamps: record.server.sent().map(found).collect(),
        columns: columns(&aligned, &record),
        clock_bound_ns: aligned.clock_bound_ns,
        order_broken: aligned.order_broken,
        router_headers,
        worker_url,
    }
}

fn columns(aligned: &Aligned, record: &RequestRecord) -> Vec<Column> {
    let server = &record.server;
    let all = [
        ("server_created_time", aligned.created_ns, created_of(server)),
        ("queue_time_start", aligned.queue_start_ns, queue_start_of(server)),
        ("queue_time_end", aligned.queue_end_ns, queue_end_of(server)),
        ("pure_queue_time", aligned.pure_queue_ns, queue_of(server)),
        ("server_first_token_time", aligned.first_token_ns, first_token_of(aligned.ttft_source, server)),
    ];
    let column = |(name, at_ns, made_of): (&'static str, Option<i64>, Option<&'static str>)| Column {
        name,
        made_of: made_of.filter(|_| at_ns.is_some()),
        at_ns,
        missing: aligned.missing.iter().find(|(column, _)| *column == name).map(|(_, why)| *why),
    };
    all.into_iter().map(column).collect()
}

fn created_of(server: &ServerStamps) -> Option<&'static str> {
    match (server.server_created_time, server.request_received_ts) {
        (Some(_), _) => Some("server_created_time"),
        (None, Some(_)) => Some("request_received_ts"),
        (None, None) => None,
    }
}

fn queue_start_of(server: &ServerStamps) -> Option<&'static str> {
    server.queue_time_start.map(|_| "queue_time_start").or(Some("forward_entry_time - queue_time"))
}

fn queue_end_of(server: &ServerStamps) -> Option<&'static str> {
    server.queue_time_end.map(|_| "queue_time_end").or(Some("forward_entry_time"))
}

fn queue_of(server: &ServerStamps) -> Option<&'static str> {
    let both = server.queue_time_start.and(server.queue_time_end);
    both.map(|_| "queue_time_end - queue_time_start").or(Some("queue_time"))
}

fn first_token_of(source: TtftSource, server: &ServerStamps) -> Option<&'static str> {
    match source {
        TtftSource::ServerPatch => Some("server_first_token_time"),
        TtftSource::ServerFirstTokenLatency => Some("request_received_ts + first_token_latency"),
        TtftSource::ServerSentTs => Some("response_sent_to_client_ts"),
        TtftSource::ServerPrefillFinished if server.prefill_finished_time.is_some() => {
            Some("prefill_finished_time")
        }
        TtftSource::ServerPrefillFinished => Some("prefill_finished_ts"),
        TtftSource::Router | TtftSource::None => None,
    }
}
