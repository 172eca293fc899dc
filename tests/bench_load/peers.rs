//! The keys that scripts for other load generators read: all there, of the right type, in milliseconds, and our own numbers.
//!
//! The lists are what such scripts ask for, written down here apart from the table that is tested.

use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::LoadConfig;
use milepost::report::{Survey, json, summary};
use serde_json::Value;

use crate::server::{Server, about, stream};
use crate::{config, data, measured};

/// Scripts that make a table of `bench_serving`'s lines take each of these.
const SGLANG: [&str; 42] = [
    "backend",
    "dataset_name",
    "request_rate",
    "max_concurrency",
    "sharegpt_output_len",
    "random_input_len",
    "random_output_len",
    "random_range_ratio",
    "duration",
    "completed",
    "total_input_tokens",
    "total_output_tokens",
    "total_output_tokens_retokenized",
    "request_throughput",
    "input_throughput",
    "output_throughput",
    "total_throughput",
    "mean_e2e_latency_ms",
    "median_e2e_latency_ms",
    "std_e2e_latency_ms",
    "p90_e2e_latency_ms",
    "p95_e2e_latency_ms",
    "p99_e2e_latency_ms",
    "mean_ttft_ms",
    "median_ttft_ms",
    "std_ttft_ms",
    "p90_ttft_ms",
    "p95_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "median_tpot_ms",
    "std_tpot_ms",
    "p99_tpot_ms",
    "mean_itl_ms",
    "median_itl_ms",
    "std_itl_ms",
    "p95_itl_ms",
    "p99_itl_ms",
    "max_itl_ms",
    "concurrency",
    "max_concurrent_requests",
    "accept_length",
];

/// vLLM's table of serving results, its records for `PyTorch`'s benchmark database, `bench sweep plot` and `plot_pareto`.
const VLLM: [&str; 29] = [
    "date",
    "model_id",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "output_throughput",
    "total_token_throughput",
    "max_concurrent_requests",
    "mean_ttft_ms",
    "median_ttft_ms",
    "std_ttft_ms",
    "p99_ttft_ms",
    "mean_tpot_ms",
    "median_tpot_ms",
    "std_tpot_ms",
    "p99_tpot_ms",
    "mean_itl_ms",
    "median_itl_ms",
    "std_itl_ms",
    "p99_itl_ms",
    "p99_e2el_ms",
];

/// Not measured, or not asked for in this run: scripts get null.
const NULL: [&str; 5] = [
    "max_concurrency",
    "sharegpt_output_len",
    "total_output_tokens_retokenized",
    "request_goodput",
    "accept_length",
];

const TEXTS: [&str; 5] = ["backend", "dataset_name", "request_rate", "date", "model_id"];

#[tokio::test]
async fn scripts_for_other_load_generators_find_every_key() {
    let events = data("sglang-0.5.23_generate_stream.sse");
    // Tokens that come apart, so that no latency is 0 by chance.
    let server = Server::new(&Clock::system(), move |got| {
        about(got).unwrap_or_else(|| stream(&events, Duration::from_millis(2)))
    });
    let report =
        measured(LoadConfig { model: Some("m".to_owned()), ..config(&server.listen().await, 5) }).await;
    let survey = Survey::of(&report, &[]);
    let run = json::run_json(&report, &survey, &Vec::new());
    for key in SGLANG.iter().chain(&VLLM) {
        let value = run.get(*key).unwrap_or_else(|| panic!("{key} is not there"));
        let (null, text) = (NULL.contains(key), TEXTS.contains(key));
        assert!(value.is_null() == null && value.is_string() == text, "{key}: {value}");
        assert!(null || text || value.as_f64().is_some_and(|v| v.is_finite() && v >= 0.0), "{key}: {value}");
    }
    assert_eq!((&run["backend"], &run["request_rate"]), (&Value::from("sglang"), &Value::from("inf")));
    assert_eq!((run["random_input_len"].as_u64(), run["random_range_ratio"].as_f64()), (Some(6), Some(1.0)));
    let date = run["date"].as_str().unwrap();
    assert!(date.len() == 15 && date.as_bytes()[8] == b'-', "{date}");

    let number = |value: &Value| value.as_f64().unwrap();
    for (theirs, ours) in [
        ("ttft", "ttft_client"),
        ("tpot", "tpot_client"),
        ("itl", "itl"),
        ("e2e_latency", "client_latency"),
        ("e2el", "client_latency"),
    ] {
        for figure in ["mean", "median", "std", "p90", "p95", "p99", "max"] {
            let key = format!("{figure}_{theirs}_ms");
            assert_eq!(run[&key], run["metrics"][format!("{figure}_{ours}_ms")], "{key}");
        }
    }
    for (theirs, ours) in [
        ("duration", "duration"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("total_output_tokens", "total_output_tokens"),
        ("request_throughput", "request_throughput"),
        ("input_throughput", "input_token_throughput"),
        ("output_throughput", "output_token_throughput"),
        ("total_throughput", "total_token_throughput"),
        ("total_token_throughput", "total_token_throughput"),
    ] {
        assert_eq!(run[theirs], run["metrics"][ours], "{theirs}");
    }
    // Milliseconds, by the rows' own stamps; and seconds times seconds for the mean of what was in flight.
    let mean_ms = |of: &dyn Fn(&milepost::load::row::Row) -> i64| {
        report.rows.iter().map(|row| of(&row) as f64 / 1e6).sum::<f64>() / report.rows.len() as f64
    };
    let ttft_ms = mean_ms(&|row| row.client_first_token_ns.unwrap() - row.write_begun_ns.unwrap());
    let e2e_ms = mean_ms(&|row| row.client_end_ns.unwrap() - row.write_begun_ns.unwrap());
    assert!((number(&run["mean_ttft_ms"]) - ttft_ms).abs() < 1e-6 && ttft_ms < number(&run["mean_e2el_ms"]));
    let in_flight = 5.0 * e2e_ms / 1e3 / number(&run["duration"]);
    assert!((number(&run["concurrency"]) - in_flight).abs() < 1e-6, "{in_flight}");
    // What the summary prints.
    let printed = summary::summary(&report, &survey, &[]);
    let line = printed.lines().find(|line| line.starts_with("Client TTFT, from send")).unwrap();
    assert!(line.contains(&format!("{:.2}", number(&run["mean_ttft_ms"]))), "{line}");
}
