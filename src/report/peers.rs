//! The figures of a run under the names that scripts for SGLang's `bench_serving` and vLLM's `bench serve` read.
//!
//! Rule: a key has the meaning and the unit that it has there: latencies are the client's, from the send, in milliseconds (single
//! requests in seconds), and each number is one that [`Metrics`] has already. What is not measured here is null, as scripts ask
//! for the key. One table, [`KEYS`], is what is written, tested and documented. Deliberately not here: our own names (`json`).

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::metrics::Metrics;
use super::stats::Summary;
use crate::load::dataset::Dataset;
use crate::load::row::{Gap, Row};
use crate::load::rows::Rows;
use crate::load::run::RunReport;
use crate::load::schedule::{Pace, Shape};
use crate::units::utc;

/// Whose scripts read a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Of SGLang's `bench_serving` (a line of JSON a run).
    Sglang,
    /// Of vLLM's `bench serve` (`--save-result`) and `bench sweep plot`.
    Vllm,
    /// Of both.
    Both,
}

/// One key beside the latencies.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// At the top of `run.json`.
    pub name: &'static str,
    /// Who reads it.
    pub reader: Reader,
    /// What it holds, in words.
    pub about: &'static str,
    value: fn(&RunReport, &Metrics) -> Value,
}

const fn key(
    name: &'static str,
    reader: Reader,
    about: &'static str,
    value: fn(&RunReport, &Metrics) -> Value,
) -> Key {
    Key { name, reader, about, value }
}

/// Every key that is no latency.
pub const KEYS: [Key; 27] = [
    key("date", Reader::Vllm, "start of the run, UTC, as `20261122-154501`", |run, _| json!(date(run))),
    key("backend", Reader::Both, "`--backend`", |run, _| json!(run.config.backend.name())),
    key("model_id", Reader::Vllm, "`--model`, else the model that the first server tells", |run, _| {
        json!(
            run.config.model.as_ref().or_else(|| run.servers.iter().find_map(|server| server.model.as_ref()))
        )
    }),
    key("dataset_name", Reader::Sglang, "`--dataset-name`", |run, _| json!(run.config.dataset.name())),
    key("num_prompts", Reader::Vllm, "requests planned", |_, m| json!(m.requests)),
    key(
        "request_rate",
        Reader::Both,
        "asked for, a second; `\"inf\"` where all are due at once",
        |run, _| run.config.arrivals.mean_per_s().map_or_else(|| json!("inf"), |rate| json!(rate)),
    ),
    key(
        "burstiness",
        Reader::Vllm,
        "1 is Poisson; null for arrivals that are no gamma distribution",
        |run, _| json!(burstiness(run)),
    ),
    key("max_concurrency", Reader::Both, "`--max-concurrency`, else null", |run, _| {
        json!(run.config.max_concurrency)
    }),
    key("sharegpt_output_len", Reader::Sglang, "`--sharegpt-output-len`, else null", |run, _| {
        match &run.config.dataset {
            Dataset::ShareGpt(options) | Dataset::Custom(options) => json!(options.output_tokens),
            _ => Value::Null,
        }
    }),
    key("random_input_len", Reader::Sglang, "of the data set `random`, else null", |run, _| {
        random(run)[0].clone()
    }),
    key("random_output_len", Reader::Sglang, "of the data set `random`, else null", |run, _| {
        random(run)[1].clone()
    }),
    key("random_range_ratio", Reader::Sglang, "of the data set `random`, else null", |run, _| {
        random(run)[2].clone()
    }),
    key("duration", Reader::Both, "seconds, as `metrics.duration`", |_, m| json!(m.duration_s)),
    key("completed", Reader::Both, "successful requests", |_, m| json!(m.completed)),
    key("failed", Reader::Vllm, "requests that failed", |_, m| json!(m.requests - m.completed)),
    key(
        "total_input_tokens",
        Reader::Both,
        "as `metrics.total_input_tokens`: the server's count, of the requests that tell it (`metrics.input_tokens_known_requests`); null where none does",
        |_, m| json!(m.input_tokens),
    ),
    key(
        "total_output_tokens",
        Reader::Both,
        "as `metrics.total_output_tokens`: the server's count, else the best there is, of the requests that have one (`metrics.output_tokens_known_requests`); null where none has",
        |_, m| json!(m.output_tokens),
    ),
    key(
        "total_output_tokens_retokenized",
        Reader::Sglang,
        "null: nothing is tokenised again here",
        |_, _| Value::Null,
    ),
    key("request_throughput", Reader::Both, "successful requests a second", |_, m| {
        json!(m.per_second(m.completed))
    }),
    key("request_goodput", Reader::Vllm, "requests a second within `--goodput`, null without it", |_, m| {
        json!(m.goodput.as_ref().and_then(|goodput| goodput.per_second))
    }),
    key(
        "input_throughput",
        Reader::Sglang,
        "prompt tokens a second, of the requests that tell them; null where none does",
        |_, m| json!(m.input_throughput()),
    ),
    key(
        "output_throughput",
        Reader::Both,
        "generated tokens a second, of the requests that tell them; null where none does",
        |_, m| json!(m.output_throughput()),
    ),
    key(
        "total_throughput",
        Reader::Sglang,
        "both kinds of tokens a second, each of the requests that tell them; null where no request tells one kind",
        |_, m| json!(m.total_throughput()),
    ),
    key("total_token_throughput", Reader::Vllm, "the same", |_, m| json!(m.total_throughput())),
    key(
        "concurrency",
        Reader::Sglang,
        "sum of the E2E latencies of successful requests / duration",
        |_, m| json!(concurrency(m)),
    ),
    key(
        "max_concurrent_requests",
        Reader::Both,
        "as `metrics.concurrency.peak`: not of whole seconds; exact up to 16 million samples, then of a million moments",
        |_, m| json!(m.in_flight.peak),
    ),
    key("accept_length", Reader::Sglang, "null: it is the server's to tell", |_, _| Value::Null),
];

/// A latency by its name there, who reads it, and the quantity that it is here.
pub const LATENCIES: [(&str, Reader, &str); 5] = [
    ("ttft", Reader::Both, "ttft_client"),
    ("tpot", Reader::Both, "tpot_client"),
    ("itl", Reader::Both, "itl"),
    ("e2e_latency", Reader::Sglang, "client_latency"),
    ("e2el", Reader::Vllm, "client_latency"),
];

/// A figure of a latency by the beginning of its key: `p99_ttft_ms`.
type Figure = (&'static str, fn(&Summary) -> f64);

/// Those that are there of each latency.
pub const FIGURES: [Figure; 7] = [
    ("mean", |s| s.mean),
    ("median", |s| s.median),
    ("std", |s| s.std),
    ("p90", |s| s.p90),
    ("p95", |s| s.p95),
    ("p99", |s| s.p99),
    ("max", |s| s.max),
];

/// Lists with an entry for each request, which come with `--output-details`.
pub const LISTS: [(&str, &str); 5] = [
    ("input_lens", "prompt tokens"),
    ("output_lens", "generated tokens, 0 of one that failed"),
    ("ttfts", "seconds from the send to the first token, 0 without one"),
    ("itls", "a list: seconds between tokens, as `itl`; null where there was no room for them"),
    ("errors", "what went wrong, empty where nothing did"),
];

/// All keys with their values; an unknown is null.
pub fn to_json(run: &RunReport, metrics: &Metrics) -> Map<String, Value> {
    let mut out: Map<String, Value> =
        KEYS.iter().map(|key| (key.name.to_owned(), (key.value)(run, metrics))).collect();
    for (name, _, quantity) in LATENCIES {
        let summary = metrics.summary(quantity);
        for (figure, of) in FIGURES {
            out.insert(format!("{figure}_{name}_ms"), json!(summary.as_ref().map(of)));
        }
    }
    out
}

/// The [`LISTS`] as members of an object that goes on, each followed by a comma; one row at a time, as all of it may be large.
///
/// `untimed`: for the token times of some requests there was no room.
pub fn write_lists(out: &mut impl Write, rows: &Rows, untimed: bool) -> io::Result<()> {
    let of: [fn(&Row) -> Value; 5] = [
        |row| json!(row.prompt_tokens.unwrap_or(row.planned_tokens)),
        |row| json!(row.decode_length().filter(|_| row.success()).unwrap_or(0)),
        |row| json!(row.ttft_client_ns().unwrap_or(0) as f64 / 1e9),
        |row| {
            let each = |(gap, _): (Gap, u64)| {
                let seconds = gap.ns as f64 / 1e9 / f64::from(gap.tokens);
                std::iter::repeat_n(seconds, gap.tokens as usize)
            };
            row.stream_gaps().flat_map(each).collect()
        },
        |row| json!(row.failure.as_ref().map_or("", |failure| failure.text.as_str())),
    ];
    for ((name, _), value) in LISTS.into_iter().zip(of) {
        write!(out, "\"{name}\":[")?;
        for (at, row) in rows.iter().enumerate() {
            let unknown = untimed && name == "itls" && row.gaps.is_empty() && row.counted_tokens > Some(1);
            let value = if unknown { Value::Null } else { value(&row) };
            write!(out, "{}{value}", if at > 0 { "," } else { "" })?;
        }
        out.write_all(b"],")?;
    }
    Ok(())
}

/// As vLLM writes it.
fn date(run: &RunReport) -> String {
    let digits: String = utc(run.start.unix_ns).chars().filter(char::is_ascii_digit).take(14).collect();
    let (day, time) = digits.split_at(digits.len().min(8));
    format!("{day}-{time}")
}

fn burstiness(run: &RunReport) -> Option<f64> {
    match (&run.config.arrivals.pace, run.config.arrivals.shape) {
        (Pace::Saved(_) | Pace::Trace { .. }, _) | (_, Shape::Constant) => None,
        (_, Shape::Poisson) => Some(1.0),
        (_, Shape::Gamma(shape)) => Some(shape),
    }
}

/// Lengths and ratio of the random data set.
fn random(run: &RunReport) -> [Value; 3] {
    match &run.config.dataset {
        Dataset::Random(o) => [json!(o.input_tokens), json!(o.output_tokens), json!(o.range_ratio)],
        _ => [Value::Null, Value::Null, Value::Null],
    }
}

fn concurrency(m: &Metrics) -> Option<f64> {
    let e2e = m.summary("client_latency")?;
    (m.duration_s > 0.0).then(|| e2e.mean * e2e.count as f64 / 1e3 / m.duration_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::failure::{Class, Failure};
    use crate::load::row::example;

    #[test]
    fn lists_have_an_entry_for_each_request_in_seconds() {
        let failed =
            Row { failure: Some(Failure::new(Class::Reset, "a \"reset\"")), gaps: Vec::new(), ..example() };
        let unsent = Row { write_begun_ns: None, ..failed.clone() };
        let mut text = b"{".to_vec();
        write_lists(&mut text, &vec![example(), failed, unsent].into(), false).unwrap();
        text.extend(b"\"end\":0}");
        let told: Value = serde_json::from_slice(&text).unwrap();
        for (name, _) in LISTS {
            assert_eq!(told[name].as_array().unwrap().len(), 3, "{name}");
        }
        assert_eq!((&told["input_lens"][0], &told["output_lens"]), (&json!(3), &json!([5, 0, 0])));
        assert_eq!(told["ttfts"], json!([0.0231, 0.0231, 0.0]));
        assert_eq!(told["itls"], json!([[0.01, 0.01, 0.01, 0.01], [], []]));
        assert_eq!(told["errors"], json!(["", "a \"reset\"", "a \"reset\""]));
    }

    #[test]
    fn token_times_for_which_there_was_no_room_are_unknown_and_not_none() {
        let dropped = Row { gaps: Vec::new(), counted_tokens: Some(5), ..example() };
        let mut text = b"{".to_vec();
        write_lists(&mut text, &vec![example(), dropped].into(), true).unwrap();
        text.extend(b"\"end\":0}");
        let told: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((told["itls"][0].as_array().unwrap().len(), &told["itls"][1]), (4, &Value::Null));
    }

    #[test]
    fn no_key_is_there_twice() {
        let latencies = LATENCIES.iter().flat_map(|l| FIGURES.map(|f| format!("{}_{}_ms", f.0, l.0)));
        let mut names: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).chain(latencies).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
