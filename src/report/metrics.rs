//! The figures of a run.
//!
//! Rule: latencies are of successful requests, failures are counted beside them, and each figure says how many samples it
//! rests on. Names are `bench_serving`'s where the definition is the same. Deliberately not here: how they are printed.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::breakdown::{self, KEYS, Part};
use super::gather::{Gathering, Side};
use super::goodput::Goodput;
use super::quantity::named;
use super::split::Split;
use super::stats::{PERCENTILES, Summary};
use super::timeline::Concurrency;
use crate::load::row::Row;

/// Quantities that also stand under their inherited names, without a unit (`p99_server_latency`).
const INHERITED: [&str; 2] = ["server_latency", "total_latency"];

/// What is to be said of figures whose samples were let go.
pub const ROUNDED: &str = "so many requests that percentiles are within 0.1 %, and the peak of the concurrency is that of a million moments; \
     counts, sums, means and largest values are exact";

/// One worker's part of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerShare {
    /// Requests it answered, well or not.
    pub requests: u64,
    /// Of these, successful.
    pub succeeded: u64,
    /// Generated tokens of those.
    pub output_tokens: u64,
    /// Prompt tokens found in its cache, of those it counted; none where it does not say.
    pub cached_tokens: Option<u64>,
    /// Prompt tokens of the requests that tell `cached_tokens`.
    pub prompt_tokens: u64,
    /// It says that it is simulated.
    pub simulated: Option<bool>,
}

impl WorkerShare {
    /// One of its requests.
    pub(super) fn add(&mut self, row: &Row) {
        self.requests += 1;
        self.succeeded += u64::from(row.success());
        self.output_tokens += row.decode_length().filter(|_| row.success()).unwrap_or(0);
        self.simulated = self.simulated.or(row.simulated);
        if let (Some(cached), Some(prompt)) = (row.cached_tokens, row.prompt_tokens) {
            self.cached_tokens = Some(self.cached_tokens.unwrap_or(0) + cached);
            self.prompt_tokens += prompt;
        }
    }
}

/// All figures of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Requests planned.
    pub requests: u64,
    /// Successful ones.
    pub completed: u64,
    /// From the start of the run to the last end at the client, seconds.
    pub duration_s: f64,
    /// Prompt tokens of successful requests, by the servers' count; `None` where no server tells it.
    pub input_tokens: Option<u64>,
    /// Successful requests whose prompt tokens are known: of these is that sum.
    pub input_known: u64,
    /// The same by plan.
    pub planned_input_tokens: u64,
    /// Generated tokens of successful requests, by the best count there is; `None` where none is told.
    pub output_tokens: Option<u64>,
    /// Successful requests whose generated tokens are known.
    pub output_known: u64,
    /// Distributions in their units, in the order of `quantity::all`.
    pub quantities: Vec<(&'static str, Option<Summary>)>,
    /// Failures by class.
    pub errors: BTreeMap<&'static str, u64>,
    /// Requests by worker.
    pub workers: BTreeMap<String, WorkerShare>,
    /// The same figures for parts of the requests, in the order of [`KEYS`].
    pub breakdown: Vec<Vec<Part>>,
    /// Parts of each key that there was no room to tell apart.
    pub left_out: Vec<u64>,
    /// Requests within the limits asked for, if any were.
    pub goodput: Option<Goodput>,
    /// In flight at the client.
    pub in_flight: Concurrency,
    /// Running at the servers.
    pub running: Concurrency,
    /// Successful requests that tell when they ran: of these is that curve.
    pub running_known: u64,
    /// Requests planned a second, over the schedule.
    pub offered_rate: Option<f64>,
    /// Requests sent a second, from the first send to the last.
    pub sent_rate: Option<f64>,
    /// Where the time went; `None` without a successful request.
    pub split: Option<Split>,
    /// Samples were let go: percentiles are within 0.1 %.
    pub rounded: bool,
}

impl Metrics {
    /// Counts and measures, in bounded memory.
    pub fn of(rows: impl IntoIterator<Item: Borrow<Row>>) -> Self {
        let mut gathering = Gathering::bounded(Side::Client);
        for row in rows {
            gathering.add(row.borrow());
        }
        gathering.gathered().metrics
    }

    /// How far percentiles may be off, as a share: where samples were let go.
    pub fn percentiles_within(&self) -> f64 {
        if self.rounded { 0.001 } else { 0.0 }
    }

    /// Successful requests a second; `None` for a run without duration.
    pub fn per_second(&self, count: u64) -> Option<f64> {
        (self.duration_s > 0.0).then(|| count as f64 / self.duration_s)
    }

    /// Prompt tokens a second, of the requests that tell them; `None` too where none does.
    pub fn input_throughput(&self) -> Option<f64> {
        self.per_second(self.input_tokens?)
    }

    /// Generated tokens a second, of the requests that tell them; `None` too where none does.
    pub fn output_throughput(&self) -> Option<f64> {
        self.per_second(self.output_tokens?)
    }

    /// Prompt and generated tokens a second, each of the requests that tell them; `None` where no request tells one kind.
    pub fn total_throughput(&self) -> Option<f64> {
        self.per_second(self.input_tokens? + self.output_tokens?)
    }

    /// Share of requests that succeeded, 0 to 1.
    pub fn success_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.completed as f64 / self.requests as f64 }
    }

    /// One distribution.
    pub fn summary(&self, name: &str) -> Option<Summary> {
        self.quantities.iter().find(|(n, _)| *n == name).and_then(|(_, s)| *s)
    }

    /// The `metrics` object of the JSON. An unknown is null.
    pub fn to_json(&self) -> Value {
        let mut out = json!({
            "requests": self.requests,
            "completed": self.completed,
            "failed": self.requests - self.completed,
            "success_rate": self.success_rate(),
            "duration": self.duration_s,
            "offered_request_rate": self.offered_rate,
            "sent_request_rate": self.sent_rate,
            "request_throughput": self.per_second(self.completed),
            "total_input_tokens": self.input_tokens,
            "input_tokens_known_requests": self.input_known,
            "total_output_tokens": self.output_tokens,
            "output_tokens_known_requests": self.output_known,
            "planned_input_tokens": self.planned_input_tokens,
            "input_token_throughput": self.input_throughput(),
            "output_token_throughput": self.output_throughput(),
            "total_token_throughput": self.total_throughput(),
            "concurrency": { "mean": self.in_flight.mean, "peak": self.in_flight.peak },
            "errors": self.errors,
            "workers": self.workers.iter().map(|(host, w)| (host.clone(), share(w, self.placed()))).collect::<Map<_, _>>(),
        });
        let mut intervals = Map::new();
        for (name, summary) in &self.quantities {
            let suffix = named(name).map_or("", |q| q.unit.suffix());
            for (figure, value) in figures(*summary) {
                out[format!("{figure}_{name}{suffix}")] = json!(value);
                // The inherited name of the two latencies has no unit; scripts read it, and it is milliseconds too.
                if INHERITED.contains(name) {
                    out[format!("{figure}_{name}")] = json!(value);
                }
            }
            out[format!("count_{name}")] = json!(summary.map_or(0, |s| s.count));
            let limits = summary.map(|s| {
                PERCENTILES
                    .iter()
                    .zip(s.limits)
                    .map(|((p, _), l)| ((*p).to_owned(), json!(l)))
                    .collect::<Map<_, _>>()
            });
            intervals.insert(format!("{name}{suffix}"), json!(limits));
        }
        out["percentiles_ci95"] = Value::Object(intervals);
        for ((key, parts), left_out) in KEYS.iter().zip(&self.breakdown).zip(&self.left_out) {
            out[format!("by_{}", key.name)] = breakdown::to_json(parts, *left_out);
        }
        if let (Some(goodput), Some(out)) = (&self.goodput, out.as_object_mut()) {
            out.extend(goodput.to_json());
        }
        out
    }

    /// Requests of which the worker is known: what the shares of workers are of, so that they add up to 100 % in a run that
    /// was interrupted too.
    pub fn placed(&self) -> u64 {
        self.workers.values().map(|w| w.requests).sum()
    }
}

/// The figures of one distribution by the beginning of their key.
fn figures(summary: Option<Summary>) -> [(&'static str, Option<f64>); 8] {
    let of = |figure: fn(&Summary) -> f64| summary.as_ref().map(figure);
    [
        ("mean", of(|s| s.mean)),
        ("std", of(|s| s.std)),
        ("median", of(|s| s.median)),
        ("p90", of(|s| s.p90)),
        ("p95", of(|s| s.p95)),
        ("p99", of(|s| s.p99)),
        ("p999", of(|s| s.p999)),
        ("max", of(|s| s.max)),
    ]
}

fn share(w: &WorkerShare, all: u64) -> Value {
    json!({
        "requests": w.requests,
        "share": if all == 0 { 0.0 } else { w.requests as f64 / all as f64 },
        "succeeded": w.succeeded,
        "output_tokens": w.output_tokens,
        "cache_hit_rate": w.cached_tokens.filter(|_| w.prompt_tokens > 0).map(|c| c as f64 / w.prompt_tokens as f64),
        "simulated": w.simulated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::row::example;

    #[test]
    fn the_figures_of_two_rows_by_hand() {
        let failed =
            Row { failure: Some(Failure::new(Class::Reset, "x")), scheduled_ns: 1_999_000_000, ..example() };
        let m = Metrics::of(&[example(), failed]);
        assert_eq!((m.requests, m.completed, m.output_tokens, m.input_tokens), (2, 1, Some(5), Some(3)));
        assert!((m.duration_s - 1.062).abs() < 1e-12);
        let json = m.to_json();
        let close = |key: &str, expected: f64| {
            let got = json[key].as_f64().unwrap();
            assert!((got - expected).abs() < 1e-9, "{key}: {got}");
        };
        close("mean_server_latency_ms", 60.0);
        close("p99_total_latency_ms", 61.0);
        close("p99_total_latency", 61.0);
        close("mean_server_latency", 60.0);
        close("median_ttft_ms", 21.0);
        close("mean_tpot_ms", 10.0);
        close("mean_queue_time_in_router_ms", 1.0);
        close("mean_queue_time_in_server_ms", 19.0);
        close("mean_pure_queue_time_ms", 10.0);
        close("mean_itl_ms", 10.0);
        close("success_rate", 0.5);
        close("offered_request_rate", 1.0);
        close("request_throughput", 1.0 / 1.062);
        assert_eq!((&json["count_itl"], &json["count_icl"]), (&json!(4), &json!(2)));
        close("mean_icl_ms", 20.0);
        close("p999_ttft_ms", 21.0);
        close("std_itl_ms", 0.0);
        // One sample bears no percentile; no sample has no entry.
        assert_eq!(json["percentiles_ci95"]["ttft_ms"]["p99"], Value::Null);
        assert_eq!(json["by_worker"]["parts"]["127.0.0.1:31000"]["requests"], json!(2));
        assert_eq!(json.get("slo_attainment"), None);
        assert_eq!(json["errors"], json!({"reset": 1}));
        assert_eq!(json["workers"]["127.0.0.1:31000"]["share"], json!(1.0));
    }

    /// As with servers that tell no usage: what is not known is no zero.
    #[test]
    fn prompt_tokens_that_no_server_told_are_null() {
        let untold = Row { prompt_tokens: None, ..example() };
        let m = Metrics::of(std::slice::from_ref(&untold));
        let json = m.to_json();
        let keys = ["total_input_tokens", "input_token_throughput", "total_token_throughput"];
        assert_eq!((m.input_tokens, keys.map(|key| json[key].clone())), (None, [const { Value::Null }; 3]));
        assert!(json["output_token_throughput"].as_f64().unwrap() > 0.0);
        assert_eq!(
            (&json["input_tokens_known_requests"], &json["output_tokens_known_requests"]),
            (&json!(0), &json!(1))
        );
        let some = Metrics::of(&[untold, example()]);
        assert_eq!((some.input_tokens, some.input_known, some.output_known), (Some(3), 1, 2));
        let uncounted = Row { completion_tokens: None, trace_completion_tokens: None, ..example() };
        let json = Metrics::of([uncounted]).to_json();
        let keys = ["total_output_tokens", "output_token_throughput", "total_token_throughput"];
        assert_eq!(keys.map(|key| json[key].clone()), [const { Value::Null }; 3]);
        assert!(json["input_token_throughput"].as_f64().unwrap() > 0.0);
    }

    /// What came of a request that failed is in no sum of tokens.
    #[test]
    fn tokens_of_the_workers_and_of_the_parts_add_up_to_those_of_the_run() {
        let other = Row { host: Some("b:1".to_owned()), ..example() };
        let cut = Row { failure: Some(Failure::new(Class::Truncated, "x")), ..example() };
        let m = Metrics::of(&[example(), other, cut]);
        let workers: Vec<u64> = m.workers.values().map(|w| w.output_tokens).collect();
        let parts: Vec<u64> = m.breakdown[0].iter().map(|p| p.output_tokens).collect();
        assert_eq!((m.output_tokens, workers, parts), (Some(10), vec![5, 5], vec![5, 5]));
    }

    /// As after Ctrl-C: the requests that were never sent take nothing from any worker's share.
    #[test]
    fn workers_share_the_requests_that_got_to_one() {
        let sent = |host: &str| Row { host: Some(host.to_owned()), ..example() };
        let unsent = || Row { host: None, failure: Some(Failure::new(Class::NotSent, "x")), ..example() };
        let json = Metrics::of(&[sent("a"), unsent(), sent("b"), sent("a"), sent("a"), unsent()]).to_json();
        let shares = ["a", "b"].map(|host| json["workers"][host]["share"].clone());
        assert_eq!((shares, &json["success_rate"]), ([json!(0.75), json!(0.25)], &json!(4.0 / 6.0)));
    }

    #[test]
    fn no_row_gives_nulls_not_zeros() {
        let json = Metrics::of(Vec::<Row>::new()).to_json();
        assert_eq!(json["mean_ttft_ms"], Value::Null);
        assert_eq!(json["request_throughput"], Value::Null);
    }
}
