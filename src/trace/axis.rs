//! The router's time axis: how a wall clock reading, of this host or another, becomes a moment on the router's
//! `CLOCK_MONOTONIC`, and how wrong that may be.
//!
//! Rule: every placed moment comes with a bound; what has no bound is not placed. Offsets between hosts are taken from
//! request pairs: offset = ((t2 - t1) + (t3 - t4)) / 2, error at most half the delay (t4 - t1) - (t3 - t2) (RFC 5905 §8)
//! and what the clocks drift apart between t1 and t4; the pair of least bound wins (as in §10), as long as no pair nearer to the moment contradicts it: then a clock was stepped
//! between. Path asymmetry cannot be seen and is inside the bound. Deliberately not here:
//! which stamp means what, see [`super::align`].

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::ClockSnapshot;
use crate::trace::record::{ClockRecord, Outcome, RequestRecord, WorkerRecord};
use crate::wire::meta_info::ServerStamps;

/// Drift allowed for where no snapshot or pair tells: one part in 20 000 (50 µs per second), above free-running quartz (30).
const DRIFT_PART: u64 = 20_000;
/// Unix seconds in a double step by 238 ns: half a step for the server's rounding, one for reading the trace back.
const FLOAT_NS: u64 = 360;
/// One pair is kept for each span of this length and worker.
const SPAN_NS: u64 = 2_000_000_000;
/// Sides of steps that are tried for one reading, from the one of its request's arrival on.
const MAX_SIDES: usize = 32;
/// Spans to either side that may lend their pair.
const NEAR_SPANS: u64 = 30;

/// Nanoseconds of seconds in a double, split first so that Unix seconds keep what they have. Beyond ±126 years, where no
/// clock is, it stays at that edge, so that the sum of two is still a number.
pub(super) fn nanos(seconds: f64) -> i64 {
    let seconds = seconds.clamp(-4e9, 4e9);
    seconds.trunc() as i64 * 1_000_000_000 + (seconds.fract() * 1e9).round() as i64
}

/// A router stamp as a signed number; no clock reaches the edge.
pub(super) fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// A moment on the axis and how far off it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// `CLOCK_MONOTONIC` of the router's host, nanoseconds.
    pub mono_ns: i64,
    /// The true moment lies at most this far away.
    pub bound_ns: u64,
}

/// The clock records of one run: the host's wall clock against its monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct ClockTrack {
    /// In order of `mono_ns`.
    readings: Vec<Reading>,
    /// Places of the readings before which the wall clock was set.
    steps: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    clock: ClockSnapshot,
    /// If a step lies before it, where the record says that this begins.
    step_after_ns: Option<u64>,
}

impl ClockTrack {
    /// Adds a reading, such as the clock of a `run` record.
    pub fn add(&mut self, clock: ClockSnapshot) {
        self.insert(Reading { clock, step_after_ns: None });
    }

    /// Adds a `clock` record.
    pub fn add_record(&mut self, record: &ClockRecord) {
        self.insert(Reading { clock: record.snapshot(), step_after_ns: record.wall_step_after_ns });
    }

    fn insert(&mut self, reading: Reading) {
        let at = self.readings.partition_point(|r| r.clock.mono_ns <= reading.clock.mono_ns);
        self.readings.insert(at, reading);
        // Out of order it may part two that were neighbours; that is rare.
        let from = if at + 1 == self.readings.len() { at.max(1) } else { 1 };
        self.steps.truncate(self.steps.partition_point(|step| *step < from));
        let stepped =
            |at: &usize| self.readings[*at].clock.wall_step_ns(&self.readings[*at - 1].clock).is_some();
        let found: Vec<usize> = (from..self.readings.len()).filter(stepped).collect();
        self.steps.extend(found);
    }

    /// Forgets readings before this moment, save for the last of them, and of the rest all but the newest `at_most`: for who reads
    /// clocks without an end.
    pub fn forget_before(&mut self, mono_ns: u64, at_most: usize) {
        let old = self.readings.partition_point(|r| r.clock.mono_ns <= mono_ns).saturating_sub(1);
        let gone = old.max(self.readings.len().saturating_sub(at_most));
        self.readings.drain(..gone);
        // A step needs the reading before it.
        self.steps.retain(|step| *step > gone);
        self.steps.iter_mut().for_each(|step| *step -= gone);
    }

    /// Places a reading of this host's wall clock, through the snapshot nearest to it. `near_mono_ns` is a moment not far
    /// from it, which tells the two sides of a clock step apart.
    ///
    /// The bound is half the snapshot's bracket, plus what the wall clock moved against the monotonic one up to the
    /// neighbour on the other side (slew), or 50 ppm of the distance where there is no other side before a step.
    pub fn place_unix(&self, unix_ns: i64, near_mono_ns: u64) -> Option<Placed> {
        self.place_unix_within(unix_ns, near_mono_ns, near_mono_ns)
    }

    /// As [`Self::place_unix`], of a reading that was most likely taken between two moments. Where the wall clock was set, each side
    /// of the step has a moment for the reading; one that lies on the other side of it, or farther from the two moments, is none.
    /// If two are left nobody can tell which is true, and the bound has both.
    pub fn place_unix_within(&self, unix_ns: i64, from_ns: u64, to_ns: u64) -> Option<Placed> {
        let whole = || place_by(&self.readings, unix_ns, from_ns);
        if self.steps.is_empty() {
            return whole();
        }
        let away_ns = |placed: &Placed| {
            let (from_ns, to_ns) = (signed(from_ns), signed(to_ns));
            let away_ns = from_ns.saturating_sub(placed.mono_ns).max(placed.mono_ns.saturating_sub(to_ns));
            away_ns.saturating_sub(signed(placed.bound_ns)).max(0)
        };
        let first = self.steps.partition_point(|step| self.readings[*step].clock.mono_ns <= from_ns);
        let sides = first.saturating_sub(1)..=self.steps.len().min(first + MAX_SIDES);
        let possible: Vec<Placed> = sides.filter_map(|side| self.place_on(side, unix_ns, from_ns)).collect();
        let Some(mut best) = possible
            .iter()
            .copied()
            .min_by_key(|placed| (away_ns(placed), placed.mono_ns.abs_diff(signed(from_ns))))
        else {
            return whole();
        };
        if away_ns(&best) == 0 {
            let others = possible.iter().filter(|placed| away_ns(placed) == 0);
            let apart_ns = others.map(|other| other.mono_ns.abs_diff(best.mono_ns)).max().unwrap_or(0);
            best.bound_ns = best.bound_ns.saturating_add(apart_ns);
        }
        Some(best)
    }

    /// Places a reading by the clocks between two steps, if it can have been taken there.
    fn place_on(&self, side: usize, unix_ns: i64, near_ns: u64) -> Option<Placed> {
        let begin = side.checked_sub(1).map_or(0, |step| self.steps[step]);
        let end = self.steps.get(side).copied().unwrap_or(self.readings.len());
        let placed = place_by(&self.readings[begin..end], unix_ns, near_ns)?;
        let is_after = begin == 0 || {
            let before = self.readings[begin - 1].clock.mono_ns;
            let after_ns = self.readings[begin].step_after_ns.unwrap_or(before).max(before);
            placed.mono_ns.saturating_add(signed(placed.bound_ns)) >= signed(after_ns)
        };
        let is_before = self.readings.get(end).is_none_or(|next| {
            placed.mono_ns.saturating_sub(signed(placed.bound_ns)) <= signed(next.clock.mono_ns)
        });
        (is_after && is_before).then_some(placed)
    }

    /// Wall minus monotonic time of this host near a moment.
    pub fn offset_ns_near(&self, mono_ns: u64) -> Option<i64> {
        nearest(&self.readings, mono_ns).map(|index| self.readings[index].clock.offset_ns())
    }

    /// The widest bracket of its readings.
    pub fn widest_bracket_ns(&self) -> Option<u64> {
        self.readings.iter().map(|reading| reading.clock.bracket_ns).max()
    }

    /// How often this host's wall clock was set.
    pub fn steps(&self) -> u64 {
        self.steps.len() as u64
    }
}

/// Places a reading of the wall clock by readings between which it was not set.
fn place_by(readings: &[Reading], unix_ns: i64, near_ns: u64) -> Option<Placed> {
    let guess = nearest(readings, near_ns)?;
    let about_ns = u64::try_from(unix_ns.saturating_sub(readings[guess].clock.offset_ns())).ok()?;
    let index = nearest(readings, about_ns)?;
    let snapshot = readings[index].clock;
    let mono_ns = unix_ns.saturating_sub(snapshot.offset_ns());
    let other = if about_ns >= snapshot.mono_ns {
        readings.get(index + 1)
    } else {
        index.checked_sub(1).map(|i| &readings[i])
    };
    let moved_ns = match other {
        Some(other) => other.clock.offset_ns().abs_diff(snapshot.offset_ns()),
        None => about_ns.abs_diff(snapshot.mono_ns) / DRIFT_PART,
    };
    let bound_ns = (snapshot.bracket_ns / 2).saturating_add(moved_ns).saturating_add(FLOAT_NS);
    Some(Placed { mono_ns, bound_ns })
}

fn nearest(readings: &[Reading], mono_ns: u64) -> Option<usize> {
    let after = readings.partition_point(|r| r.clock.mono_ns <= mono_ns);
    let candidates = [after.checked_sub(1), Some(after)];
    candidates
        .into_iter()
        .flatten()
        .filter(|&i| i < readings.len())
        .min_by_key(|&i| readings[i].clock.mono_ns.abs_diff(mono_ns))
}

/// Wall clocks of remote workers against the router's monotonic clock, learned from the requests themselves.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    workers: BTreeMap<String, BTreeMap<u64, Pair>>,
    routers: BTreeSet<String>,
    contradictions: u64,
}

/// What one exchange tells of a server's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Server wall minus router monotonic.
    pub offset_ns: i64,
    /// What the way there and back took together, by two clocks: a drift of the server's is in it, times how long it held the request.
    pub delay_ns: u64,
    /// What the two clocks may have drifted apart meanwhile.
    pub drift_ns: u64,
    /// When, `CLOCK_MONOTONIC` of the router's host.
    pub at_ns: u64,
}

impl Pair {
    /// How far the offset may be off, when it was taken.
    pub fn bound_ns(&self) -> u64 {
        (self.delay_ns / 2).saturating_add(self.drift_ns).saturating_add(FLOAT_NS)
    }

    /// How far it may be off at another moment.
    pub(super) fn bound_at(&self, mono_ns: u64) -> u64 {
        self.bound_ns().saturating_add(drift_ns(self.at_ns.abs_diff(mono_ns)))
    }
}

/// The server claims to have held a request longer than the router waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contradiction;

impl Offsets {
    /// Reads what a worker said about itself: behind one that is a router there are engines with clocks of their own.
    pub fn know(&mut self, worker: &WorkerRecord) {
        if worker.router == Some(true) {
            self.routers.insert(worker.worker.to_string());
        }
    }

    /// True where the worker is a router: its address is no engine's, and no stamp that comes through it can be placed.
    pub fn is_router(&self, worker: &str) -> bool {
        self.routers.contains(worker)
    }

    /// Learns from one request, if it was answered by a remote worker that told when it took and sent something.
    pub fn learn(&mut self, record: &RequestRecord) {
        if record.same_host == Some(true) || record.outcome != Outcome::Done {
            return;
        }
        let (Some(worker), Some(pair)) = (&record.worker, exchange(record)) else {
            return;
        };
        if self.is_router(worker) {
            return;
        }
        let Ok(pair) = pair else {
            self.contradictions += 1;
            return;
        };
        let spans = self.workers.entry(worker.to_string()).or_default();
        let best = spans.entry(pair.at_ns / SPAN_NS).or_insert(pair);
        if pair.bound_ns() < best.bound_ns() {
            *best = pair;
        }
    }

    /// What is known of a worker's wall clock: the best exchange of each span, in order.
    pub fn pairs(&self, worker: &str) -> impl Iterator<Item = &Pair> {
        self.workers.get(worker).into_iter().flat_map(BTreeMap::values)
    }

    /// Forgets what was learned before this moment, save for some seconds: for who learns without an end.
    pub fn forget_before(&mut self, mono_ns: u64) {
        self.workers.retain(|_, spans| {
            *spans = spans.split_off(&(mono_ns / SPAN_NS));
            !spans.is_empty()
        });
    }

    /// Requests whose stamps contradict themselves: the server claims to have held them longer than the router waited.
    pub fn contradictions(&self) -> u64 {
        self.contradictions
    }

    /// Places a reading of `worker`'s wall clock, taken near `near_mono_ns`, by the pair of the smallest bound among those
    /// of a minute to either side. `own` is the pair of the very request, if it has one. `None` before anything is known of
    /// that minute.
    pub fn place_unix(
        &self,
        worker: &str,
        unix_ns: i64,
        near_mono_ns: u64,
        own: Option<Pair>,
    ) -> Option<Placed> {
        let best = self.best_near(worker, near_mono_ns, own)?;
        let mono_ns = unix_ns.saturating_sub(best.offset_ns);
        // The stamp may be far from `near_mono_ns`: its own moment counts.
        let bound_ns = best.bound_at(u64::try_from(mono_ns).unwrap_or(0));
        Some(Placed { mono_ns, bound_ns })
    }

    /// Pairs are looked at from the nearest on. All that agree with those before them are of one clock; one that cannot be
    /// true together with them lies behind a step, and so does what is farther on its side. A step smaller than the delays
    /// about it is not seen.
    fn best_near(&self, worker: &str, near_ns: u64, own: Option<Pair>) -> Option<Pair> {
        let spans = self.workers.get(worker)?;
        let span = near_ns / SPAN_NS;
        let before = spans.range(span.saturating_sub(NEAR_SPANS)..=span).rev().map(|(_, pair)| pair);
        let after = spans.range(span..=span + NEAR_SPANS).map(|(_, pair)| pair);
        let mut before = before.filter(|pair| pair.at_ns <= near_ns).peekable();
        let mut after = after.filter(|pair| pair.at_ns > near_ns).peekable();
        let (mut before_is_open, mut after_is_open) = (true, true);
        let mut best = own;
        let mut agreed = own.map(|pair| interval(&pair, near_ns));
        loop {
            let back = before.peek().filter(|_| before_is_open).map(|pair| near_ns - pair.at_ns);
            let forth = after.peek().filter(|_| after_is_open).map(|pair| pair.at_ns - near_ns);
            let Some(distance_ns) = back.into_iter().chain(forth).min() else { return best };
            // No pair farther away has a smaller bound.
            if best.is_some_and(|best| drift_ns(distance_ns) >= best.bound_at(near_ns)) {
                return best;
            }
            let is_back = back == Some(distance_ns);
            let Some(pair) = (if is_back { before.next() } else { after.next() }) else { return best };
            let (low, high) = interval(pair, near_ns);
            let (least, most) = agreed.unwrap_or((i64::MIN, i64::MAX));
            let both = (least.max(low), most.min(high));
            if both.0 > both.1 {
                let side = if is_back { &mut before_is_open } else { &mut after_is_open };
                *side = false;
                continue;
            }
            agreed = Some(both);
            if best.is_none_or(|best| pair.bound_at(near_ns) < best.bound_at(near_ns)) {
                best = Some(*pair);
            }
        }
    }
}

/// Between which the offset lies at another moment, by one pair.
pub(super) fn interval(pair: &Pair, mono_ns: u64) -> (i64, i64) {
    let bound_ns = signed(pair.bound_at(mono_ns));
    (pair.offset_ns.saturating_sub(bound_ns), pair.offset_ns.saturating_add(bound_ns))
}

/// What two clocks may drift apart in this time.
fn drift_ns(span_ns: u64) -> u64 {
    span_ns / DRIFT_PART
}

/// The four stamps of one exchange that ended well, wherever the server is.
pub fn exchange(record: &RequestRecord) -> Option<Result<Pair, Contradiction>> {
    let arrival_ns = signed(record.arrival_mono_ns);
    let sent_ns = arrival_ns.saturating_add(signed(record.router_send_ns?));
    let taken_ns = nanos(created(&record.server)?);
    let (answered_ns, read_ns) = reply_stamps(record)?;
    let read_ns = arrival_ns.saturating_add(signed(read_ns));
    let waited_ns = read_ns.saturating_sub(sent_ns);
    let delay_ns = waited_ns.saturating_sub(answered_ns - taken_ns);
    let drift_ns = drift_ns(u64::try_from(waited_ns).unwrap_or(0));
    // A clock that runs fast makes a long wait longer than it was; what that cannot explain is no drift.
    if delay_ns < -signed(drift_ns) {
        return Some(Err(Contradiction));
    }
    let delay_ns = u64::try_from(delay_ns).unwrap_or(0);
    // Halved before they are added: the sum of two Unix times in nanoseconds leaves i64.
    let offset_ns = taken_ns.saturating_sub(sent_ns) / 2 + answered_ns.saturating_sub(read_ns) / 2;
    Some(Ok(Pair { offset_ns, delay_ns, drift_ns, at_ns: u64::try_from(sent_ns).ok()? }))
}

/// When the server sent something, Unix nanoseconds, and when the router read that, nanoseconds after arrival.
fn reply_stamps(record: &RequestRecord) -> Option<(i64, u64)> {
    let server = &record.server;
    if record.sse_events > 0 {
        if let (Some(sent), Some(read_ns)) = (server.response_sent_to_client_ts, record.first_event_ns) {
            return Some((nanos(sent), read_ns));
        }
        return Some((nanos(server.server_first_token_time?), record.first_token_ns?));
    }
    let finished =
        server.response_sent_to_client_ts.or(server.request_finished_ts).or(server.decode_finished_ts);
    let finished_ns = match finished {
        Some(seconds) => nanos(seconds),
        None => nanos(created(server)?) + nanos(server.e2e_latency?),
    };
    Some((finished_ns, record.first_byte_ns?))
}

/// When the server's HTTP process took the request, Unix seconds.
pub(super) fn created(server: &ServerStamps) -> Option<f64> {
    server.server_created_time.or(server.request_received_ts)
}

#[cfg(test)]
#[path = "axis_tests.rs"]
mod tests;
