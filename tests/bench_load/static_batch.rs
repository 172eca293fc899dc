//! `--static-batch`: figures of exact times, lines of JSON, and what is refused.

use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::LoadConfig;
use milepost::load::static_batch::{Case, StaticBatch};
use milepost::sim::Dialect;
use serde_json::Value;

use crate::cli::{Folder, bench, output, text};
use crate::config;
use crate::outputs::simulated;
use crate::server::{Got, Server, Step, about, chunk, end, head, json};

/// A member's event. Texts hold all so far, as SGLang's do.
fn event(index: usize, tokens: u64, asked: u64) -> String {
    let finish = if tokens == asked { r#"{"type":"length","length":1}"# } else { "null" };
    format!(
        "data: {{\"text\":\"{}\",\"index\":{index},\"meta_info\":{{\"id\":\"{index}\",\"finish_reason\":{finish},\"prompt_tokens\":10,\
         \"completion_tokens\":{tokens},\"cached_tokens\":1}}}}\n\n",
        "a".repeat(tokens as usize)
    )
}

/// Prefill: 100 ms for the first member and 10 ms more for each other; then a step of 20 ms.
fn batch(got: &Got) -> Vec<Step> {
    let members = got.body["input_ids"].as_array().unwrap().len();
    let asked = got.body["sampling_params"]["max_new_tokens"].as_u64().unwrap();
    let mut steps = vec![head("200 OK", "text/event-stream", ""), Step::Sleep(Duration::from_millis(90))];
    for index in 0..members {
        steps.extend([Step::Sleep(Duration::from_millis(10)), chunk(&event(index, 1, asked))]);
    }
    for tokens in 2..=asked {
        steps.push(Step::Sleep(Duration::from_millis(20)));
        steps.extend((0..members).map(|index| chunk(&event(index, tokens, asked))));
    }
    steps.extend([chunk("data: [DONE]\n\n"), end()]);
    steps
}

fn serving(clock: &Clock) -> Server {
    Server::new(clock, |got| match got.path.as_str() {
        "/generate" => batch(got),
        "/get_server_info" => json(
            "200 OK",
            r#"{"model_path":"tiny","version":"0.4.9.post6","max_running_requests":16,"internal_states":[{"last_gen_throughput":123.5}]}"#,
        ),
        _ => about(got).unwrap(),
    })
}

#[tokio::test(start_paused = true)]
async fn prefill_ends_with_the_last_member_and_steps_are_told_apart() {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let server = serving(&clock);
    let config = LoadConfig { warmup_requests: 1, ..config("http://pipe:1", 1) };
    let mut batches = StaticBatch::begin(config, server.context()).await.unwrap();
    let case = Case { batch_size: 3, input_tokens: 10, output_tokens: 5 };
    batches.warm_up(case).await.unwrap();
    let measured = batches.measure(case, 0).await.unwrap();
    let ms = |ns: u64| ns / 1_000_000;
    assert_eq!((ms(measured.prefill_ns), ms(measured.total_ns)), (120, 200));
    assert_eq!(measured.steps.iter().map(|gap| (ms(gap.ns), gap.tokens)).collect::<Vec<_>>(), [(20, 1); 4]);
    assert_eq!((measured.early, measured.tokens.completion_tokens), (0, Some(15)));
    assert_eq!(measured.speed.last_gen_per_s, Some(123.5));
    assert_eq!(measured.not_flushed, None);

    let got = server.got.lock().unwrap().clone();
    let asked: Vec<&str> = got.iter().map(|g| g.path.as_str()).collect();
    assert_eq!(
        asked,
        ["/generate", "/get_server_info", "/flush_cache", "/generate", "/get_server_info"],
        "caches are emptied after the warm-up"
    );
    let [first, second] = [0, 3].map(|i| got[i].body["input_ids"].as_array().unwrap());
    assert_eq!(second.iter().map(|ids| ids.as_array().unwrap().len()).collect::<Vec<_>>(), [10; 3]);
    assert_ne!(first, second, "no prompt is sent twice");
}

#[tokio::test]
async fn each_combination_is_a_line_with_the_keys_of_sglang() {
    let folder = Folder::new("static-batch");
    let url = serving(&Clock::system()).listen().await;
    let args =
        "--static-batch --batch 1 2 --input-len 8 --output-len 1 3 --result-filename r.jsonl --run-name n";
    let out = output(bench(&folder, &format!("--base-url {url} {args}"))).await;
    let told = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{}{told}", text(&out.stderr));
    assert!(
        told.contains("inside every figure: client, network, HTTP, tokenizer manager and scheduler"),
        "{told}"
    );
    let lines: Vec<Value> =
        folder.read("r.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cases: Vec<(u64, u64)> = lines
        .iter()
        .map(|line| (line["batch_size"].as_u64().unwrap(), line["output_len"].as_u64().unwrap()))
        .collect();
    assert_eq!(cases, [(1, 1), (1, 3), (2, 1), (2, 3)]);
    for line in &lines {
        assert_eq!((&line["run_name"], &line["input_len"]), (&Value::from("n"), &Value::from(8)));
        let decodes = line["output_len"] == 3;
        for (key, there) in [
            ("latency", true),
            ("last_ttft", true),
            ("input_throughput", true),
            ("overall_throughput", true),
            ("last_gen_throughput", true),
            ("prefill_latency", true),
            ("prefill_throughput", true),
            ("total_latency", true),
            ("output_throughput", decodes),
            ("median_decode_latency", decodes),
            ("median_decode_throughput", decodes),
        ] {
            assert_eq!(line[key].as_f64().is_some_and(|value| value > 0.0), there, "{key}: {line}");
        }
        assert!(line["latency"].as_f64() >= line["last_ttft"].as_f64(), "{line}");
        assert_eq!(line["server"]["version"], "0.4.9.post6");
    }
    assert!(!folder.0.join("milepost-bench").exists(), "a batch is no run");
}

/// The simulated SGLang server, of each generation: all members of a batch at once, and more than it runs.
#[tokio::test]
async fn a_simulated_server_is_measured_as_a_real_one_would_be() {
    let folder = Folder::new("static-simulated");
    for dialect in [Dialect::V049, Dialect::V0523, Dialect::V0523Rust] {
        let url = simulated(dialect, 1, 2).await;
        let name = format!("{}.jsonl", dialect.name());
        let args = format!(
            "--base-url {url} --static-batch --batch 1 2 4 --input-len 64 --output-len 1 8 --result-filename {name}"
        );
        let out = output(bench(&folder, &args)).await;
        let told = text(&out.stdout);
        assert_eq!(out.status.code(), Some(0), "{name}: {}{told}", text(&out.stderr));
        assert_eq!(told.matches("runs 2 requests at once").count(), 2, "{name}: {told}");
        let lines = folder.read(&name);
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 6, "{name}");
        for line in &lines {
            assert_eq!(
                (&line["num_early_stopped"], &line["cache_flushed"]),
                (&0.into(), &true.into()),
                "{line}"
            );
            assert_eq!(line["server"]["simulated"], true);
            // On a machine that is busy all steps of a batch may come in one read.
            let whole = line["output_len"] == 1 || told.contains("steps of decode are in the prefill");
            assert!(line["median_decode_latency"].is_number() || whole, "{line}{told}");
        }
    }
}

#[tokio::test]
async fn what_does_not_apply_is_refused_with_its_reason() {
    let folder = Folder::new("static-refused");
    for (args, words) in [
        ("--static-batch --request-rate 3", &["request-rate", "a batch is one request"][..]),
        ("--static-batch --num-prompts 3", &["num-prompts", "--batch-size"]),
        ("--static-batch --disable-stream", &["disable-stream", "prefill from decode"]),
        ("--static-batch --repeats 3", &["repeats", "--batch-size, --input-len and --output-len"]),
        ("--static-batch --backend vllm", &["vllm", "token ids"]),
        ("--static-batch --batch 4096 --input-len 4096", &["16777216", "4194304"]),
        ("--static-batch --result-filename /nonexistent/r", &["/nonexistent/r", "No such file"]),
        ("--static-batch --check-outputs", &["--static-batch", "--check-outputs"]),
        ("--batch 4", &["--static-batch"]),
        ("--output-len 4", &["--output-len", "--static-batch or --check-outputs"]),
    ] {
        let out = output(bench(&folder, &format!("--base-url http://127.0.0.1:9 {args}"))).await;
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args}: {told}");
        for word in words {
            assert!(told.contains(word), "{args}: {word:?} in {told}");
        }
    }
}

/// What one server refuses does not cost the others' lines; a server that is gone ends it.
#[tokio::test]
async fn a_batch_that_fails_is_told_and_the_others_are_kept() {
    let folder = Folder::new("static-failed");
    let server = Server::new(&Clock::system(), |got| match got.path.as_str() {
        "/generate" if got.body["input_ids"][0].as_array().unwrap().len() > 100 => json(
            "400 Bad Request",
            r#"{"error":{"message":"The input is longer than the model's context length"}}"#,
        ),
        "/generate" => batch(got),
        "/flush_cache" => json("404 Not Found", "{}"),
        _ => about(got).unwrap(),
    });
    let url = server.listen().await;
    let args =
        format!("--base-url {url} --static-batch --input-len 200 8 --output-len 2 --warmup-requests 0");
    let out = output(bench(&folder, &args)).await;
    let told = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains("failed: http_status: 400 The input is longer"), "{told}");
    assert!(told.contains("caches could not be emptied (status 404"), "{told}");
    assert!(text(&out.stderr).contains("1 of 2 batches failed"), "{}", text(&out.stderr));
    let lines = folder.read("result.jsonl");
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!((&line["input_len"], &line["cache_flushed"]), (&Value::from(8), &Value::from(false)));

    let out = output(bench(&folder, "--base-url http://127.0.0.1:9 --static-batch")).await;
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("the warm-up batch failed"), "{}", text(&out.stderr));
}
