//! Server stamps on the router's time axis.
//!
//! Rule: raw values are never changed; what cannot be compared stays absent, with the reason. Differences are taken inside
//! one clock, or between moments placed on the axis. Stages are read by presence of names, in two generations:
//!
//! | stage | patched 0.4.9 | 0.5.x |
//! |---|---|---|
//! | created | `server_created_time`, wall | `request_received_ts`, wall |
//! | queue start | `queue_time_start`, monotonic | `forward_entry_time - queue_time` (0.5.10+), wall |
//! | queue end | `queue_time_end`, monotonic | `forward_entry_time` (0.5.10+), wall |
//! | pure queue | end - start | `queue_time` |
//! | first token | `server_first_token_time`, wall | see [`TtftSource`] |
//!
//! Deliberately not here: I/O, and any guess about a remote monotonic clock.

use serde::{Deserialize, Serialize};

use super::axis::{ClockTrack, Offsets, Placed, created, exchange, nanos, signed};
use crate::trace::record::RequestRecord;
use crate::wire::meta_info::ServerStamps;

/// The stamp or field was not in the answer.
pub const NOT_SENT: &str = "not_sent";
/// The worker is remote and nothing is known of its wall clock near this request, or what is known puts the stamp outside the request
/// by more than the bound and a millisecond: that clock was set meanwhile.
pub const NO_OFFSET: &str = "remote_clock_unknown";
/// It is not known which worker answered (a router in between that does not name it), so neither whose clock it is.
pub const UNKNOWN_WORKER: &str = "worker_unknown";
/// The stamp is of a remote host's monotonic clock, which nothing can place.
pub const REMOTE_MONOTONIC: &str = "remote_monotonic_clock";
/// The stamp lies outside its own request by more than a millisecond: the worker's clock is not this host's, though its address
/// is (a forwarded port, a container with clocks of its own).
pub const NOT_THIS_CLOCK: &str = "clock_not_of_this_host";
/// The run has no clock record.
pub const NO_CLOCK_RECORD: &str = "no_clock_record";
/// The answer was not streamed, and the server's first token is not told right then (all before 0.5.23).
pub const NOT_STREAMED: &str = "not_streamed";
/// The request was retracted: `queue_time` holds later waits too.
pub const RETRACTED: &str = "retracted";

/// All of these.
pub const REASONS: [&str; 8] = [
    NOT_SENT,
    NO_OFFSET,
    UNKNOWN_WORKER,
    REMOTE_MONOTONIC,
    NOT_THIS_CLOCK,
    NO_CLOCK_RECORD,
    NOT_STREAMED,
    RETRACTED,
];

/// How far outside its request a stamp may lie: clocks are slewed, and what is less than this misleads nobody.
const OUTSIDE_NS: u64 = 1_000_000;

/// Which stamp the TTFT comes from, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TtftSource {
    /// `server_first_token_time` of a patched server; streams only, as the output of others is reported late.
    ServerPatch,
    /// `request_received_ts + first_token_latency` (0.5.23).
    ServerFirstTokenLatency,
    /// `response_sent_to_client_ts` (0.5.6+); streams only, as it is the end otherwise.
    ServerSentTs,
    /// `prefill_finished_time` or `prefill_finished_ts`; streams only. Some ms before the token leaves.
    ServerPrefillFinished,
    /// The first event with tokens, at the router.
    Router,
    /// There is no valid one.
    #[default]
    None,
}

impl TtftSource {
    /// The word for files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerPatch => "server_patch",
            Self::ServerFirstTokenLatency => "server_first_token_latency",
            Self::ServerSentTs => "server_sent_ts",
            Self::ServerPrefillFinished => "server_prefill_finished",
            Self::Router => "router",
            Self::None => "none",
        }
    }
}

/// One request's stages. Moments are nanoseconds after its arrival, and may be negative within the bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aligned {
    /// The server took the request.
    pub created_ns: Option<i64>,
    /// It entered the scheduler's waiting queue.
    pub queue_start_ns: Option<i64>,
    /// It left the waiting queue.
    pub queue_end_ns: Option<i64>,
    /// The server's first token.
    pub first_token_ns: Option<i64>,
    /// Last byte of the answer at the router.
    pub finish_ns: Option<i64>,
    /// In the waiting queue, a duration in the server's own clock.
    pub pure_queue_ns: Option<i64>,
    /// Created to queue start, a duration.
    pub tokenize_ns: Option<i64>,
    /// Created to the server's first token, a duration in the server's own clock (column `queue_time_in_server`).
    pub queue_in_server_ns: Option<i64>,
    /// First token after arrival: the server's, else the router's.
    pub ttft_ns: Option<i64>,
    /// Whose.
    pub ttft_source: TtftSource,
    /// The largest bound of a placed moment; absent if no server stamp was placed.
    pub clock_bound_ns: Option<u64>,
    /// What was taken from a reading of the server's wall clock to place it on the router's monotonic clock; of several readings the
    /// one of the largest bound. Absent if none was placed.
    pub clock_offset_ns: Option<i64>,
    /// The stages are out of order by more than the bound, or one lay outside the request and was not placed.
    pub order_broken: bool,
    /// CSV columns that stay empty, with the reason.
    pub missing: Vec<(&'static str, &'static str)>,
}

/// A stamp in its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw {
    /// `CLOCK_MONOTONIC` of the server's host.
    Mono(i64),
    /// Its wall clock.
    Wall(i64),
}

type Stage = Result<Raw, &'static str>;

/// Puts the server stamps of `record` on the router's axis: through `clocks` (of the record's run) if the worker is on the
/// router's host, through `offsets` if it is not.
pub fn align(record: &RequestRecord, clocks: &ClockTrack, offsets: &Offsets) -> Aligned {
    let mut aligner = Aligner { record, clocks, offsets, out: Aligned::default() };
    aligner.fill();
    aligner.out
}

/// Durations at the server, each taken inside one of its clocks: they need no alignment, and hold for a remote worker too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerSpans {
    /// In the waiting queue.
    pub queue_ns: Option<u64>,
    /// End of the queue to first token.
    pub prefill_ns: Option<u64>,
    /// First token to finished.
    pub decode_ns: Option<u64>,
}

/// The server's own durations in `record`. Absent where the two ends are told in different clocks, or are out of order.
pub fn server_spans(record: &RequestRecord) -> ServerSpans {
    if record.server.is_empty() {
        return ServerSpans::default();
    }
    let (clocks, offsets) = (ClockTrack::default(), Offsets::default());
    let aligner = Aligner { record, clocks: &clocks, offsets: &offsets, out: Aligned::default() };
    let (first_token, _) = aligner.first_token();
    let between = |from: Stage, to: Stage| within_one_clock(from.ok()?, to.ok()?);
    let positive = |ns: Option<i64>| ns.and_then(|ns| u64::try_from(ns).ok());
    ServerSpans {
        queue_ns: positive(waited_ns(&record.server)),
        prefill_ns: positive(between(aligner.queue_end(), first_token)),
        decode_ns: positive(between(first_token, aligner.finished())),
    }
}

struct Aligner<'a> {
    record: &'a RequestRecord,
    clocks: &'a ClockTrack,
    offsets: &'a Offsets,
    out: Aligned,
}

impl Aligner<'_> {
    fn fill(&mut self) {
        let record = self.record;
        let created = created(&record.server).map(wall).ok_or(NOT_SENT);
        let (queue_start, queue_end) = (self.queue_start(), self.queue_end());
        let (first_token, source) = self.first_token();
        self.out.created_ns = self.stage("server_created_time", created);
        self.out.queue_start_ns = self.stage("queue_time_start", queue_start);
        self.out.queue_end_ns = self.stage("queue_time_end", queue_end);
        self.out.first_token_ns = self.stage("server_first_token_time", first_token);
        self.out.finish_ns = record.last_byte_ns.map(signed);
        self.pure_queue();
        self.tokenize(created, queue_start);
        self.out.queue_in_server_ns = match (created, first_token) {
            (Ok(created), Ok(token)) => within_one_clock(created, token),
            _ => None,
        };
        self.ttft(source);
        self.out.order_broken = self.order_broken();
    }

    fn queue_start(&self) -> Stage {
        let server = &self.record.server;
        if let Some(start) = server.queue_time_start {
            return Ok(Raw::Mono(nanos(start)));
        }
        let (Some(entry), Some(waited)) = (server.forward_entry_time, server.queue_time) else {
            return Err(NOT_SENT);
        };
        if server.num_retractions.is_some_and(|n| n > 0) {
            return Err(RETRACTED);
        }
        Ok(Raw::Wall(nanos(entry) - nanos(waited)))
    }

    fn queue_end(&self) -> Stage {
        let server = &self.record.server;
        match (server.queue_time_end, server.forward_entry_time) {
            (Some(end), _) => Ok(Raw::Mono(nanos(end))),
            (None, Some(entry)) => Ok(wall(entry)),
            (None, None) => Err(NOT_SENT),
        }
    }

    /// The best stamp that is valid for this answer.
    fn first_token(&self) -> (Stage, TtftSource) {
        let server = &self.record.server;
        let streamed = self.record.sse_events > 0;
        let latency = match (server.request_received_ts, server.first_token_latency) {
            (Some(received), Some(latency)) => Some(Raw::Wall(nanos(received) + nanos(latency))),
            _ => None,
        };
        let prefill = server.prefill_finished_time.or(server.prefill_finished_ts);
        let candidates = [
            (server.server_first_token_time.map(wall), streamed, TtftSource::ServerPatch),
            (latency, true, TtftSource::ServerFirstTokenLatency),
            (server.response_sent_to_client_ts.map(wall), streamed, TtftSource::ServerSentTs),
            (prefill.map(wall), streamed, TtftSource::ServerPrefillFinished),
        ];
        let mut reason = NOT_SENT;
        for (stamp, valid, source) in candidates {
            match stamp {
                Some(stamp) if valid => return (Ok(stamp), source),
                Some(_) => reason = NOT_STREAMED,
                None => {}
            }
        }
        (Err(reason), TtftSource::None)
    }

    fn finished(&self) -> Stage {
        let server = &self.record.server;
        let told = server.request_finished_ts.or(server.decode_finished_ts).map(wall);
        let by_latency = || match (created(server), server.e2e_latency) {
            (Some(created), Some(latency)) => Some(Raw::Wall(nanos(created) + nanos(latency))),
            _ => None,
        };
        told.or_else(by_latency).ok_or(NOT_SENT)
    }

    fn pure_queue(&mut self) {
        self.out.pure_queue_ns = waited_ns(&self.record.server);
        if self.out.pure_queue_ns.is_none() {
            self.out.missing.push(("pure_queue_time", NOT_SENT));
        }
    }

    fn tokenize(&mut self, created: Stage, queue_start: Stage) {
        let server = &self.record.server;
        let told = match (created, queue_start) {
            (Ok(created), Ok(start)) => within_one_clock(created, start)
                .or_else(|| Some(self.out.queue_start_ns?.saturating_sub(self.out.created_ns?)))
                .ok_or(REMOTE_MONOTONIC),
            (Ok(_), Err(RETRACTED)) => Err(RETRACTED),
            _ => match (server.request_received_ts, server.request_sent_to_scheduler_ts) {
                (Some(received), Some(sent)) => Ok(nanos(sent) - nanos(received)),
                _ => Err(NOT_SENT),
            },
        };
        self.out.tokenize_ns = told.ok();
        self.out.missing.extend(told.err().map(|reason| ("tokenize_time", reason)));
    }

    fn ttft(&mut self, source: TtftSource) {
        let router_ns = self.record.first_token_ns.map(signed);
        (self.out.ttft_ns, self.out.ttft_source) = match (self.out.first_token_ns, router_ns) {
            (Some(ns), _) => (Some(ns), source),
            (None, Some(ns)) => (Some(ns), TtftSource::Router),
            (None, None) => (None, TtftSource::None),
        };
        if self.out.ttft_ns.is_none() {
            let column = "server_first_token_time";
            let told = self.out.missing.iter().find(|(name, _)| *name == column);
            let reason = told.map_or(NOT_SENT, |(_, reason)| *reason);
            self.out.missing.push(("ttft", reason));
        }
    }

    /// Places a stage, or notes why it cannot be.
    fn stage(&mut self, column: &'static str, stage: Stage) -> Option<i64> {
        match stage.and_then(|raw| Ok((raw, self.place(raw)?))) {
            Ok((raw, placed)) => {
                let bound_ns = self.out.clock_bound_ns.unwrap_or(0);
                if let Raw::Wall(unix_ns) = raw
                    && placed.bound_ns >= bound_ns
                {
                    self.out.clock_offset_ns = Some(unix_ns.saturating_sub(placed.mono_ns));
                }
                self.out.clock_bound_ns = Some(bound_ns.max(placed.bound_ns));
                Some(placed.mono_ns.saturating_sub(signed(self.record.arrival_mono_ns)))
            }
            Err(reason) => {
                self.out.missing.push((column, reason));
                None
            }
        }
    }

    fn place(&self, raw: Raw) -> Result<Placed, &'static str> {
        let near_ns = self.record.arrival_mono_ns;
        let same_host = self.record.same_host == Some(true);
        let told = self.record.worker.as_deref().filter(|worker| !self.offsets.is_router(worker));
        let worker = told.ok_or(UNKNOWN_WORKER)?;
        match raw {
            Raw::Mono(mono_ns) if same_host => self.inside(Placed { mono_ns, bound_ns: 0 }),
            Raw::Mono(_) => Err(REMOTE_MONOTONIC),
            Raw::Wall(unix_ns) if same_host => {
                let to_ns = near_ns.saturating_add(self.record.end_ns);
                self.inside(self.clocks.place_unix_within(unix_ns, near_ns, to_ns).ok_or(NO_CLOCK_RECORD)?)
            }
            Raw::Wall(unix_ns) => {
                let own = exchange(self.record).and_then(Result::ok);
                let placed = self.offsets.place_unix(worker, unix_ns, near_ns, own).ok_or(NO_OFFSET)?;
                self.inside(placed).map_err(|_| NO_OFFSET)
            }
        }
    }

    /// What was stamped for a request lies between its send and its end, or the clock is another one.
    fn inside(&self, placed: Placed) -> Result<Placed, &'static str> {
        let record = self.record;
        let slack_ns = placed.bound_ns.saturating_add(OUTSIDE_NS);
        let since = |after_ns: u64| record.arrival_mono_ns.saturating_add(after_ns);
        let from_ns = signed(since(record.router_send_ns.unwrap_or(0)).saturating_sub(slack_ns));
        let end_ns = record.last_byte_ns.unwrap_or(0).max(record.end_ns);
        let to_ns = if end_ns == 0 { i64::MAX } else { signed(since(end_ns).saturating_add(slack_ns)) };
        if (from_ns..=to_ns).contains(&placed.mono_ns) { Ok(placed) } else { Err(NOT_THIS_CLOCK) }
    }

    /// False for arrival ≤ `router_send` ≤ created ≤ queue start ≤ queue end ≤ first token ≤ finish, each against all before it.
    fn order_broken(&self) -> bool {
        let out = &self.out;
        let sent_ns = self.record.router_send_ns.map(signed);
        let stages = [
            sent_ns,
            out.created_ns,
            out.queue_start_ns,
            out.queue_end_ns,
            out.first_token_ns,
            out.finish_ns,
        ];
        let slack_ns = i64::try_from(out.clock_bound_ns.unwrap_or(0)).unwrap_or(i64::MAX);
        let mut latest_ns = 0;
        let mut broken = out.missing.iter().any(|(_, why)| *why == NOT_THIS_CLOCK);
        for ns in stages.into_iter().flatten() {
            broken |= ns.saturating_add(slack_ns) < latest_ns;
            latest_ns = latest_ns.max(ns);
        }
        broken
    }
}

fn wall(seconds: f64) -> Raw {
    Raw::Wall(nanos(seconds))
}

/// How long the server says that a request was in its waiting queue.
fn waited_ns(server: &ServerStamps) -> Option<i64> {
    match (server.queue_time_start, server.queue_time_end) {
        (Some(start), Some(end)) => Some(nanos(end) - nanos(start)),
        _ => server.queue_time.map(nanos),
    }
}

fn within_one_clock(from: Raw, to: Raw) -> Option<i64> {
    match (from, to) {
        (Raw::Mono(from), Raw::Mono(to)) | (Raw::Wall(from), Raw::Wall(to)) => Some(to.saturating_sub(from)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "align_tests.rs"]
mod tests;
