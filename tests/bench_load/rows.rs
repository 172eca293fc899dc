//! What a good run says.

use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::body::{Backend, RequestOptions};
use milepost::load::row::Row;
use milepost::load::{LoadConfig, run};
use milepost::report::{Survey, csv, json, summary};
use milepost::trace::align::UNKNOWN_WORKER;
use serde_json::Value;

use crate::server::{Server, about, json as plain, stream};
use crate::{config, data, measured};

fn replay(name: &str) -> Server {
    let events = data(name);
    Server::new(&Clock::system(), move |got| {
        about(got).unwrap_or_else(|| {
            if got.body["stream"] == Value::Bool(true) {
                stream(&events, Duration::ZERO)
            } else {
                plain("200 OK", &events)
            }
        })
    })
}

#[tokio::test]
async fn a_generate_stream_gives_counts_and_client_stamps() {
    let server = replay("sglang-0.4.9.post6-patched_generate_stream.sse");
    let url = server.listen().await;
    let report = measured(LoadConfig { warmup_requests: 2, ..config(&url, 5) }).await;
    assert_eq!(report.rows.len(), 5);
    assert_eq!(server.load().len(), 5, "warm-up requests are marked");
    for row in report.rows.held() {
        assert!(row.success(), "{:?}", row.failure);
        assert_eq!(row.host.as_deref(), url.strip_prefix("http://"));
        assert_eq!(
            (row.prompt_tokens, row.completion_tokens, row.total_tokens()),
            (Some(6), Some(8), Some(14))
        );
        assert_eq!((row.max_new_tokens, row.input_words, row.has_generated_text), (Some(8), None, true));
        assert_eq!(row.arrival_ns, row.router_send_ns);
        assert_eq!(row.gaps.iter().map(|g| g.tokens).sum::<u32>(), 7);
        let stamps = [
            Some(row.scheduled_ns),
            row.dispatched_ns,
            row.connected_ns,
            row.arrival_ns,
            row.client_first_token_ns,
            row.finish_ns,
        ];
        assert!(stamps.iter().all(Option::is_some) && stamps.is_sorted(), "{stamps:?}");
        assert!(row.sent_ns >= row.arrival_ns && row.client_end_ns == row.finish_ns);
    }
    assert_eq!(
        report.servers[0].to_string().split(": ").nth(1),
        Some("tiny, SGLang 0.4.9.post6, max_running_requests 16")
    );
}

#[tokio::test]
async fn open_ai_streams_count_tokens_by_usage() {
    for (backend, name, path) in [
        (Backend::Chat, "sglang-0.5.23_chat_stream_usage.sse", "/v1/chat/completions"),
        (Backend::Completions, "sglang-0.5.23_completions_stream_usage.sse", "/v1/completions"),
    ] {
        let server = replay(name);
        let report = measured(LoadConfig { backend, ..config(&server.listen().await, 1) }).await;
        let row = &report.rows.held()[0];
        assert!(row.success(), "{:?}", row.failure);
        assert_eq!(row.input_words, Some(6));
        assert_eq!(row.completion_tokens, Some(6));
        assert!(row.client_first_token_ns.is_some());
        // There is no router whose time this could be.
        assert_eq!(
            (row.ttft_source, row.ttft_router_ns, row.ttft_ns),
            ("client", None, row.ttft_client_ns())
        );
        let got = &server.load()[0];
        assert_eq!((got.path.as_str(), &got.body["model"]), (path, &Value::from("tiny")));
        assert_eq!(got.header("x-request-id"), Some(row.req_id.as_str()));
    }
}

/// As behind sglang-router, whose answers name no worker: whose clock the stamps are of is not known.
#[tokio::test]
async fn a_target_that_tells_no_version_is_not_taken_for_the_worker() {
    let events = data("sglang-0.5.23_generate_stream.sse");
    let server = Server::new(&Clock::system(), move |got| match got.path.as_str() {
        "/get_server_info" | "/server_info" => plain("200 OK", r#"{"router_manager":true}"#),
        _ => about(got).unwrap_or_else(|| stream(&events, Duration::ZERO)),
    });
    let report = measured(config(&server.listen().await, 2)).await;
    let row = &report.rows.held()[0];
    assert!(row.success(), "{:?}", row.failure);
    assert_eq!(
        (row.host.as_deref(), row.created_ns, row.queue_start_ns, row.simulated),
        (None, None, None, None)
    );
    assert!(row.missing.contains(&("server_created_time", UNKNOWN_WORKER)), "{:?}", row.missing);
    // Differences in one clock stay.
    assert!(row.pure_queue_ns.is_some() && row.queue_in_server_ns.is_some() && row.tokenize_ns.is_some());
    let survey = Survey::of(&report, &[]);
    assert_eq!((row.ttft_source, survey.metrics().workers.len()), ("client", 0));
    let told = survey.warnings.join("\n");
    assert!(told.contains("host is empty in 2 rows") && told.contains("worker (not named)"), "{told}");
}

#[tokio::test]
async fn a_plain_answer_has_no_first_token() {
    let server = replay("sglang-0.4.9.post6-patched_generate_nonstream.json");
    let request = RequestOptions { stream: false, ..RequestOptions::default() };
    let report = measured(LoadConfig { request, ..config(&server.listen().await, 1) }).await;
    let row = &report.rows.held()[0];
    assert!(row.success(), "{:?}", row.failure);
    assert_eq!((row.ttft_router_ns, row.client_first_token_ns, row.gaps.len()), (None, None, 0));
}

#[tokio::test]
async fn connections_are_reused_and_headers_sent() {
    let server = replay("sglang-0.5.23_generate_stream.sse");
    let mut config = LoadConfig { max_concurrency: Some(2), ..config(&server.listen().await, 20) };
    config.headers.insert("x-team", "blue".parse().unwrap());
    let report = measured(config).await;
    assert!(report.rows.held().iter().all(Row::success));
    assert!(report.rows.held().iter().filter(|r| r.reused_connection).count() >= 16);
    assert!(server.load().iter().all(|g| g.header("x-team") == Some("blue")));
    let ids: std::collections::BTreeSet<_> = report.rows.held().iter().map(|r| &r.req_id).collect();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn the_reports_agree_with_the_rows() {
    let server = replay("sglang-0.5.23_generate_stream.sse");
    let report = measured(config(&server.listen().await, 4)).await;
    let text = csv::csv(&report.rows);
    assert_eq!(text.lines().count(), 5);
    assert!(text.lines().skip(1).all(|l| l.split(',').count() == csv::COLUMNS.len() && l.contains(",True,")));
    let survey = Survey::of(&report, &[]);
    let files = vec![("csv", "x.csv".to_owned())];
    let object = json::run_json(&report, &survey, &files);
    assert!(!object.to_string().contains('\n'));
    let mut full = Vec::new();
    json::write_full(&mut full, &object, &report.rows, &|_| ()).unwrap();
    let full: Value = serde_json::from_slice(&full).unwrap();
    assert_eq!(full["per_request"].as_array().unwrap().len(), 4);
    assert_eq!(full["metrics"]["completed"], Value::from(4));
    assert_eq!(full["metrics"]["success_rate"], Value::from(1.0));
    assert_eq!(full["exported_files"]["csv"], Value::from("x.csv"));
    let printed = summary::summary(&report, &survey, &files);
    assert!(printed.contains("Successful requests:                 4 of 4 (100.0 %)"), "{printed}");
    assert!(printed.contains("max_running_requests 16") && printed.contains("csv: x.csv"), "{printed}");
}

/// `n` > 1: the members of the answer are added up, not mistaken for one another.
#[tokio::test(start_paused = true)]
async fn several_answers_in_one_are_added_up_and_timed_apart() {
    let event = |index: u8, tokens: u8| {
        format!(
            "data: {{\"text\":\"a\",\"index\":{index},\"meta_info\":{{\"id\":\"{index}\",\"finish_reason\":null,\"prompt_tokens\":6,\
             \"completion_tokens\":{tokens},\"cached_tokens\":0}}}}\n\n"
        )
    };
    let events =
        [event(0, 1), event(1, 1), event(1, 2), event(0, 3), event(1, 5)].concat() + "data: [DONE]\n\n";
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| stream(&events, Duration::from_millis(10)))
    });
    let extra = serde_json::json!({"sampling_params": {"n": 2}});
    let request = RequestOptions { extra: extra.as_object().unwrap().clone(), ..RequestOptions::default() };
    let config = LoadConfig { request, ..config("http://pipe:1", 1) };
    let report = run(config, server.context()).await.unwrap();
    let row = &report.rows.held()[0];
    assert!(row.success(), "{:?}", row.failure);
    assert_eq!((row.completion_tokens, row.counted_tokens, row.batch_size), (Some(8), Some(8), Some(2)));
    let seen: Vec<_> = row.gaps.iter().map(|gap| (gap.tokens, gap.member)).collect();
    assert_eq!(seen, [(1, 1), (1, 1), (2, 0), (3, 1)]);
    let ns: Vec<u64> = row.gaps.iter().map(|gap| gap.ns).collect();
    assert!(ns.iter().all(|ns| (10_000_000..12_000_000).contains(ns)), "{ns:?}");
    // The first token is that of the member that began last, one event after the other's.
    assert_eq!(row.client_first_token_ns, row.gaps_from_ns.map(|from| from.saturating_add_unsigned(ns[0])));
    assert_eq!(row.ttft_ns, row.ttft_client_ns());
    // Gaps are of one member each.
    let apart: Vec<_> = row.stream_gaps().map(|(gap, _)| (gap.ns, gap.tokens, gap.member)).collect();
    assert_eq!(apart, [(ns[1], 1, 1), (ns[0] + ns[1] + ns[2], 2, 0), (ns[2] + ns[3], 3, 1)]);
    // Two and four tokens after the first ones.
    let decode_ns = ns[0] + ns[1] + ns[2] + ns[1] + ns[2] + ns[3];
    assert_eq!((row.tpot_client_ns(), row.tpot_ns()), (Some(decode_ns as f64 / 6.0), None));
    // Each member counts its prompt of six tokens, which is no sign that it was another one.
    assert_eq!((row.planned_tokens, row.prompt_tokens), (6, Some(12)));
    let checks = Survey::of(&report, &[]).verdict.checks;
    assert!(checks.iter().all(|check| check.rule != "prompt_tokens"), "{checks:?}");
}

/// The warm-up and the questions about the server are in no figure: the load goes over the connection that they left.
#[tokio::test]
async fn connections_of_the_warm_up_are_not_counted() {
    let server = replay("sglang-0.5.23_generate_stream.sse");
    let config = LoadConfig { warmup_requests: 3, ..config(&server.listen().await, 1) };
    let report = measured(config).await;
    assert_eq!((report.connections_opened, report.rows.held()[0].reused_connection), (0, true));
}

#[test]
fn the_page_of_metrics_is_its_table() {
    crate::kept_page::hold("metrics.md", &milepost::report::explain::page(), "--test bench_load page");
}

/// Two prompts of six tokens are in the caches when the load begins, unless they are emptied.
#[tokio::test]
async fn the_bound_of_cache_hits_counts_what_the_warm_up_sent() {
    let url = replay("sglang-0.4.9.post6-patched_generate_stream.sse").listen().await;
    for (flush_cache, cached_tokens) in [(false, 12), (true, 0)] {
        let report = measured(LoadConfig { warmup_requests: 2, flush_cache, ..config(&url, 5) }).await;
        let reuse = report.reuse.unwrap();
        assert_eq!((reuse.cached_tokens, reuse.prompt_tokens), (cached_tokens, 30), "flush {flush_cache}");
    }
}
