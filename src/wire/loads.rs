//! What a server says of its own load, in the forms that SGLang has had: `/v1/loads` (from 0.5.8), `/get_load` (from 0.5.3,
//! gone in 0.5.23) and `/metrics`.
//!
//! Rule: what cannot be (negative, no number, half a request, a cache that is more than full, a queue beyond all measure) is
//! `None`, as is what was not said. An answer of which nothing is left is none at all, so that nobody's silence looks like an
//! idle server. Deliberately not here: who is asked and when (`fleet::loads`); the tokens alone that `/get_load` told before
//! 0.5.3, of which no policy knows how many fit.

use std::fmt;

use milepost_policies::ServerLoad;
use serde_json::Value;

use super::exposition::Sample;

/// Most requests that are believed to wait or to run; an engine runs some thousands at most.
const MAX_REQUESTS: f64 = 1e6;
/// Most tokens a second that are believed.
const MAX_TOKENS_PER_S: f64 = 1e8;
/// Most data-parallel ranks of one server.
const MAX_RANKS: usize = 1024;

/// The load of one data-parallel rank, or of a server that does not tell its ranks apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RankLoad {
    /// Its number; `None` where the server did not say.
    pub rank: Option<u32>,
    /// When the numbers were taken, Unix seconds by the server's clock: comparable with nothing but the same server's
    /// earlier ones. `None` where it did not say.
    pub taken_unix_s: Option<f64>,
    /// The numbers.
    pub load: ServerLoad,
}

/// Why an answer tells no load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLoad {
    /// It is no JSON, or of `/metrics` no text.
    Unreadable,
    /// It is of another shape, or names a rank twice.
    OtherShape,
    /// It holds none of the numbers, or none that can be.
    NothingKnown,
}

impl fmt::Display for NoLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "the answer cannot be read",
            Self::OtherShape => "the answer has another shape",
            Self::NothingKnown => "the answer tells no load that can be",
        })
    }
}

/// Reads the answer to `/v1/loads` or `/get_load`.
pub fn from_json(body: &[u8]) -> Result<Vec<RankLoad>, NoLoad> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| NoLoad::Unreadable)?;
    let ranks = match &answer {
        Value::Array(_) => Some(&answer),
        Value::Object(members) if members.contains_key("load") => return Err(NoLoad::NothingKnown),
        Value::Object(members) => members.get("loads"),
        _ => None,
    };
    let ranks = ranks.and_then(Value::as_array).filter(|ranks| ranks.len() <= MAX_RANKS);
    let ranks = ranks.and_then(|ranks| ranks.iter().map(of_object).collect::<Option<Vec<_>>>());
    told(ranks.ok_or(NoLoad::OtherShape)?)
}

fn of_object(rank: &Value) -> Option<RankLoad> {
    let members = rank.as_object()?;
    let number = |key: &str| members.get(key).and_then(Value::as_f64);
    let queue_depth = number("num_waiting_reqs").and_then(requests);
    // The older form counts those that wait among all.
    let all = || Some(number("num_reqs")? - f64::from(queue_depth?));
    let load = ServerLoad {
        queue_depth,
        running: number("num_running_reqs").or_else(all).and_then(requests),
        kv_usage: number("token_usage").and_then(share),
        throughput_tokens_per_s: number("gen_throughput").and_then(rate),
        max_running_requests: number("max_running_requests").and_then(requests).filter(|most| *most > 0),
    };
    let rank = match members.get("dp_rank") {
        None | Some(Value::Null) => None,
        Some(rank) => Some(rank.as_u64()?.try_into().ok()?),
    };
    Some(RankLoad { rank, taken_unix_s: number("timestamp"), load })
}

/// Reads the answer to `/metrics`.
pub fn from_metrics(body: &[u8]) -> Result<Vec<RankLoad>, NoLoad> {
    let text = std::str::from_utf8(body).map_err(|_| NoLoad::Unreadable)?;
    let mut ranks: Vec<(Option<u32>, Gauges)> = Vec::new();
    for line in text.lines() {
        let Some((gauge, sample)) = gauge(line) else {
            continue;
        };
        let rank = match sample.label("dp_rank").filter(|rank| !rank.is_empty()) {
            None => None,
            Some(rank) => Some(rank.parse().map_err(|_| NoLoad::OtherShape)?),
        };
        let at = match ranks.iter().position(|(other, _)| *other == rank) {
            Some(at) => at,
            None if ranks.len() == MAX_RANKS => return Err(NoLoad::OtherShape),
            None => {
                ranks.push((rank, Gauges::default()));
                ranks.len() - 1
            }
        };
        ranks[at].1.add(gauge, sample.number);
    }
    told(ranks.into_iter().map(|(rank, gauges)| gauges.of(rank)).collect())
}

/// The samples that are read, each at its place in [`Gauges`].
const GAUGES: [&str; 5] =
    ["num_queue_reqs", "num_running_reqs", "token_usage", "gen_throughput", "max_running_requests"];

/// A line's gauge, if it is one of those; a colon or, by way of another exporter, an underscore stands behind the name of the
/// server.
fn gauge(line: &str) -> Option<(usize, Sample<'_>)> {
    let name = line.strip_prefix("sglang")?.strip_prefix([':', '_'])?;
    let called =
        |gauge: &str| name.strip_prefix(gauge).is_some_and(|rest| rest.starts_with(['{', ' ', '\t']));
    let at = GAUGES.iter().position(|gauge| called(gauge))?;
    Some((at, Sample::parse(line)?))
}

/// The values of one rank. Its tensor-parallel processes may each tell the same ones; the largest is that of a process that
/// has heard the latest.
#[derive(Clone, Copy, Debug, Default)]
struct Gauges([Option<f64>; GAUGES.len()]);

impl Gauges {
    fn add(&mut self, at: usize, value: f64) {
        // What cannot be stays: `f64::max` would step over it.
        let fine = value >= 0.0;
        self.0[at] = Some(match self.0[at] {
            Some(old) if fine => {
                if old.is_nan() {
                    old
                } else {
                    old.max(value)
                }
            }
            None if fine => value,
            _ => f64::NAN,
        });
    }

    fn of(self, rank: Option<u32>) -> RankLoad {
        let [queue, running, usage, throughput, most] = self.0;
        let load = ServerLoad {
            queue_depth: queue.and_then(requests),
            running: running.and_then(requests),
            kv_usage: usage.and_then(share),
            throughput_tokens_per_s: throughput.and_then(rate),
            max_running_requests: most.and_then(requests).filter(|most| *most > 0),
        };
        RankLoad { rank, taken_unix_s: None, load }
    }
}

/// The load of a server whose ranks are one worker. What one of them did not say is not known of all; the cache is as full as
/// those of its ranks are on average, since they are alike.
pub fn total(ranks: &[RankLoad]) -> ServerLoad {
    let sum = |of: fn(&ServerLoad) -> Option<f64>| {
        ranks.iter().map(|rank| of(&rank.load)).sum::<Option<f64>>().filter(|_| !ranks.is_empty())
    };
    ServerLoad {
        queue_depth: sum(|load| load.queue_depth.map(f64::from)).and_then(requests),
        running: sum(|load| load.running.map(f64::from)).and_then(requests),
        kv_usage: sum(|load| load.kv_usage).map(|sum| sum / ranks.len() as f64).and_then(share),
        throughput_tokens_per_s: sum(|load| load.throughput_tokens_per_s).and_then(rate),
        max_running_requests: sum(|load| load.max_running_requests.map(f64::from)).and_then(requests),
    }
}

/// The tokens in any generation's answer: `{"load":n}` (0.4.9), `[{"num_tokens":n},..]` (0.5.3), and
/// `{"loads":[{"num_total_tokens":n},..]}` (0.5.8).
pub fn tokens(body: &[u8]) -> Option<u64> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let sum = |ranks: &Value, field: &str| -> Option<u64> {
        let ranks = ranks.as_array().filter(|ranks| !ranks.is_empty())?;
        ranks.iter().map(|rank| rank.get(field)?.as_u64()).sum()
    };
    match &answer {
        Value::Array(_) => sum(&answer, "num_tokens"),
        Value::Object(members) => match members.get("loads") {
            Some(loads) => sum(loads, "num_total_tokens"),
            None => members.get("load")?.as_u64(),
        },
        _ => None,
    }
}

fn told(ranks: Vec<RankLoad>) -> Result<Vec<RankLoad>, NoLoad> {
    let is_twice = |(at, rank): (usize, &RankLoad)| ranks[..at].iter().any(|other| other.rank == rank.rank);
    if ranks.iter().enumerate().any(is_twice) {
        return Err(NoLoad::OtherShape);
    }
    let known = ranks.iter().any(|rank| rank.load != ServerLoad::default());
    if known { Ok(ranks) } else { Err(NoLoad::NothingKnown) }
}

fn requests(value: f64) -> Option<u32> {
    ((0.0..=MAX_REQUESTS).contains(&value) && value.fract() == 0.0).then_some(value as u32)
}

fn share(value: f64) -> Option<f64> {
    (0.0..=1.0).contains(&value).then_some(value)
}

fn rate(value: f64) -> Option<f64> {
    (0.0..=MAX_TOKENS_PER_S).contains(&value).then_some(value)
}

#[cfg(test)]
#[path = "loads_tests.rs"]
mod tests;
