//! Health, information, load and metrics endpoints.
//!
//! Rule: keys in the order of the captured answers; of the server arguments only those that mean something here, and
//! `"simulated":true`. Gauges are those of the last step's end (a real server's move at prefill batches and every 40 decode
//! steps). Deliberately not here: `format` and `include` of /v1/loads.

use std::fmt::Write as _;
use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::json;

use super::Exchange;
use super::ask;
use super::call::Call;
use super::problem::{self, quoted};
use super::reply::SimBody;
use crate::sim::engine::Load;
use crate::sim::stamps::{iso_date, seconds};

/// `SGLANG_HEALTH_CHECK_TIMEOUT`, in polls of one second.
const HEALTH_POLLS: u32 = 20;

/// Answers a GET (or HEAD, where a server has it), and POST /`flush_cache`.
pub async fn answer(exchange: &Exchange, path: &str) -> Response<SimBody> {
    let replies = exchange.replies();
    let dialect = exchange.worker.config.dialect;
    let load = exchange.worker.runner.load();
    let json = |body: String| replies.json(StatusCode::OK, body);
    match path {
        "/health" if dialect.is_049() => replies.empty(StatusCode::OK),
        "/health" | "/health_generate" => health(exchange).await,
        "/get_model_info" | "/model_info" => json(model_info(exchange)),
        "/get_server_info" | "/server_info" => json(server_info(exchange, &load)),
        "/get_load" => json(format!("{{\"load\":{}}}", load.used_tokens + load.waiting_tokens)),
        "/v1/loads" => json(loads(exchange, &load)),
        "/v1/models" => json(format!("{{\"object\":\"list\",\"data\":[{}]}}", model(exchange))),
        "/metrics" | "/metrics/" if !exchange.worker.config.metrics => {
            exchange.refuse_path(StatusCode::NOT_FOUND, None)
        }
        "/metrics" | "/metrics/" if dialect.is_rust() => {
            replies.whole(StatusCode::OK, Some(METRICS), None, metrics(exchange, &load).into())
        }
        "/metrics" | "/metrics/" => replies.chunks(METRICS, vec![Ok(metrics(exchange, &load).into())]),
        "/flush_cache" => flush(exchange).await,
        "/milepost/sim" => json(simulation(exchange, &load)),
        "/ping" => replies.empty(StatusCode::OK),
        _ => one_model(exchange, path),
    }
}

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Generates one token; answers after a second at the earliest, as the real handler sleeps between looks, and is content with
/// any sign of life of a busy engine. The Rust front end answers at once.
async fn health(exchange: &Exchange) -> Response<SimBody> {
    let (worker, replies) = (&exchange.worker, exchange.replies());
    if worker.config.dialect.is_rust() {
        return replies.empty(StatusCode::OK);
    }
    let steps_before = worker.runner.pace().steps;
    let rid = format!("HEALTH_CHECK_{}", worker.random_id(worker.next_id()));
    let body = json!({"input_ids": [0], "rid": rid, "sampling_params": {"max_new_tokens": 1}});
    let Ok(call) = ask::generate(&body, exchange.limits()).and_then(|ask| Call::start(worker, &ask, false))
    else {
        return replies.empty(StatusCode::SERVICE_UNAVAILABLE);
    };
    for _ in 0..HEALTH_POLLS {
        tokio::time::sleep(Duration::from_secs(1).div_f64(worker.config.speedup)).await;
        if worker.runner.pace().steps > steps_before {
            drop(call);
            return exchange.replies().empty(StatusCode::OK);
        }
    }
    exchange.replies().empty(StatusCode::SERVICE_UNAVAILABLE)
}

async fn flush(exchange: &Exchange) -> Response<SimBody> {
    let flushed = exchange.worker.runner.flush().await;
    let status = if flushed { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let body = "Cache flushed.\nPlease check backend logs for more details. (When there are running or waiting requests, the operation will not be performed.)\n";
    exchange.replies().whole(status, None, None, body.into())
}

fn model(exchange: &Exchange) -> String {
    let config = &exchange.worker.config;
    let (name, created) = (quoted(&config.model_path), exchange.replies().unix_ns / 1_000_000_000);
    let parent = if config.dialect.is_049() { "" } else { "\"parent\":null," };
    let longest = config.profile.context_tokens;
    format!(
        r#"{{"id":{name},"object":"model","created":{created},"owned_by":"sglang","root":{name},{parent}"max_model_len":{longest}}}"#
    )
}

fn one_model(exchange: &Exchange, path: &str) -> Response<SimBody> {
    let name = path.strip_prefix("/v1/models/").unwrap_or_default();
    if name == exchange.worker.config.model_path {
        return exchange.replies().json(StatusCode::OK, model(exchange));
    }
    let body = if exchange.worker.config.dialect.is_rust() {
        let error =
            problem::object("error", &format!("The model `{name}` does not exist"), "BadRequestError", 404);
        format!("{{\"error\":{error}}}")
    } else {
        let message = quoted(&format!("The model '{name}' does not exist"));
        format!(
            r#"{{"error":{{"message":{message},"type":"invalid_request_error","param":"model","code":"model_not_found"}}}}"#
        )
    };
    exchange.replies().json(StatusCode::NOT_FOUND, body)
}

fn model_info(exchange: &Exchange) -> String {
    let config = &exchange.worker.config;
    let name = quoted(&config.model_path);
    if config.dialect.is_049() {
        return format!(
            r#"{{"model_path":{name},"tokenizer_path":{name},"is_generation":true,"preferred_sampling_params":null}}"#
        );
    }
    let more = if config.dialect.is_rust() {
        ""
    } else {
        r#","has_image_understanding":false,"has_audio_understanding":false,"model_type":"llama","architectures":["LlamaForCausalLM"]"#
    };
    format!(
        r#"{{"model_path":{name},"served_model_name":{name},"tokenizer_path":{name},"is_generation":true,"preferred_sampling_params":null,"weight_version":"default","load_format":"dummy","reasoning_parser":null,"tool_call_parser":null,"disaggregation_mode":"null"{more}}}"#
    )
}

fn server_info(exchange: &Exchange, load: &Load) -> String {
    let config = &exchange.worker.config;
    let (name, version) = (quoted(&config.model_path), config.dialect.version());
    let p = &config.profile;
    let queued = match config.max_queued_requests {
        Some(most) => most.to_string(),
        None if config.dialect.is_049() => i64::MAX.to_string(),
        None => "null".to_owned(),
    };
    let (running, kv, chunk) = (p.max_running_requests, p.kv_tokens, p.chunked_prefill_tokens);
    let (metrics, input) = (config.metrics, p.max_input_tokens());
    let state = internal_state(exchange, load);
    let tail = match (config.dialect.is_049(), config.dialect.is_rust()) {
        (true, _) => format!(r#""internal_states":[{state}],"version":"{version}""#),
        (_, true) => format!(
            r#""max_context_length":{},"version":"{version}","frontend":"rust","internal_states":[{state}]"#,
            p.context_tokens
        ),
        _ => format!(
            r#""kv_events":null,"internal_states":[{state}],"version":"{version}","frontend":"python""#
        ),
    };
    format!(
        r#"{{"model_path":{name},"tokenizer_path":{name},"load_format":"dummy","context_length":null,"dtype":"bfloat16","max_running_requests":{running},"max_queued_requests":{queued},"max_total_tokens":{kv},"chunked_prefill_size":{chunk},"schedule_policy":"fcfs","page_size":1,"device":"simulated","tp_size":1,"pp_size":1,"stream_interval":1,"random_seed":{},"enable_metrics":{metrics},"served_model_name":{name},"enable_cache_report":false,"dp_size":1,"disable_radix_cache":false,"disaggregation_mode":"null","status":"ready","simulated":true,"max_total_num_tokens":{kv},"max_req_input_len":{input},{tail}}}"#,
        config.seed
    )
}

fn internal_state(exchange: &Exchange, load: &Load) -> String {
    let config = &exchange.worker.config;
    let (kv, throughput) = (config.profile.kv_tokens, load.tokens_per_s);
    if config.dialect.is_049() {
        let tokens = load.used_tokens + load.waiting_tokens;
        return format!(
            r#"{{"last_gen_throughput":{throughput:?},"memory_usage":{{"weight":null,"kvcache":null,"cuda_graph":0.0,"token_capacity":{kv}}},"load":{tokens}}}"#
        );
    }
    let running = config.profile.max_running_requests;
    format!(
        r#"{{"effective_max_running_requests_per_dp":{running},"last_gen_throughput":{throughput:?},"memory_usage":{{"weight":null,"kvcache":null,"startup_available":null,"token_capacity":{kv},"token_capacity_swa":null}}}}"#
    )
}

fn loads(exchange: &Exchange, load: &Load) -> String {
    let config = &exchange.worker.config;
    let unix_ns = exchange.replies().unix_ns;
    let ratio = |part: u64, whole: u64| {
        if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 1e4).round() / 1e4 }
    };
    let Load { running, waiting, waiting_tokens, used_tokens, capacity_tokens, .. } = *load;
    let (usage, hits) =
        (ratio(used_tokens, capacity_tokens), ratio(load.cached_tokens_total, load.prompt_tokens_total));
    let most_running = config.profile.max_running_requests;
    let (at, iso, version) = (seconds(unix_ns), iso_date(unix_ns), config.dialect.version());
    let utilization = ratio(running as u64, most_running as u64).max(usage);
    let (throughput, uncached) = (load.tokens_per_s, load.prompt_tokens_total - load.cached_tokens_total);
    let (busy_us, total) = (load.prefill_busy_ns / 1_000, used_tokens + waiting_tokens);
    format!(
        r#"{{"timestamp":"{iso}","version":"{version}","accelerator":null,"num_accelerators":1,"loads":[{{"timestamp":{at:?},"dp_rank":0,"num_running_reqs":{running},"num_waiting_reqs":{waiting},"num_waiting_uncached_tokens":{waiting_tokens},"num_used_tokens":{used_tokens},"num_total_tokens":{total},"num_active_tokens":{used_tokens},"num_prealloc_ready_tokens":0,"max_total_num_tokens":{capacity_tokens},"max_running_requests":{most_running},"token_usage":{usage:?},"gen_throughput":{throughput:?},"cache_hit_rate":{hits:?},"utilization":{utilization:?},"total_prefill_uncached_tokens":{uncached},"total_prefill_busy_us":{busy_us},"decode_moments":null,"memory":{{"weight_gb":null,"kv_cache_gb":null,"graph_gb":null,"token_capacity":{capacity_tokens}}},"disaggregation":{{"mode":"null","prefill_bootstrap_queue_reqs":0,"prefill_inflight_queue_reqs":0,"decode_prealloc_queue_reqs":0,"decode_transfer_queue_reqs":0,"decode_retracted_queue_reqs":0,"kv_transfer_speed_gb_s":0.0,"kv_transfer_latency_ms":0.0}},"queues":{{"waiting":{waiting},"grammar":0,"paused":0,"retracted":0,"prealloc_ready":0}}}}]}}"#
    )
}

fn metrics(exchange: &Exchange, load: &Load) -> String {
    let config = &exchange.worker.config;
    let name = quoted(&config.model_path);
    let rank = if config.dialect.is_049() { "" } else { r#"moe_ep_rank="0","# };
    let engine = format!(r#"engine_type="unified",model_name={name},{rank}pp_rank="0",tp_rank="0""#);
    let plain = format!("model_name={name}");
    let capacity = load.capacity_tokens.max(1) as f64;
    let hit_rate = load.cached_tokens_total as f64 / load.prompt_tokens_total.max(1) as f64;
    let mut series = vec![
        ("prompt_tokens_total", "counter", &plain, load.prompt_tokens_total as f64),
        ("generation_tokens_total", "counter", &plain, load.generated_tokens_total as f64),
        ("cached_tokens_total", "counter", &plain, load.cached_tokens_total as f64),
        ("num_requests_total", "counter", &plain, load.finished_total as f64),
        ("num_aborted_requests_total", "counter", &plain, load.aborted_total as f64),
        ("num_running_reqs", "gauge", &engine, load.running as f64),
        ("num_used_tokens", "gauge", &engine, load.used_tokens as f64),
        ("token_usage", "gauge", &engine, load.used_tokens as f64 / capacity),
        ("num_queue_reqs", "gauge", &engine, load.waiting as f64),
        ("cache_hit_rate", "gauge", &engine, hit_rate),
    ];
    if !config.dialect.is_049() {
        series.push(("max_total_num_tokens", "gauge", &engine, load.capacity_tokens as f64));
        series.push(("kv_evictable_tokens", "gauge", &engine, load.evictable_tokens as f64));
    }
    let mut text = String::new();
    for (metric, kind, labels, value) in series {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP sglang:{metric} Simulated.\n# TYPE sglang:{metric} {kind}\nsglang:{metric}{{{labels}}} {value:?}\n"
        );
    }
    text
}

/// What no real server tells: that this is a simulation, of what, and how exact it was so far.
fn simulation(exchange: &Exchange, load: &Load) -> String {
    let config = &exchange.worker.config;
    let pace = exchange.worker.runner.pace();
    json!({
        "simulated": true,
        "dialect": config.dialect.name(),
        "speedup": config.speedup,
        "seed": config.seed,
        "clock_offset_us": config.clock_offset_us,
        "steps": pace.steps,
        "prefill_steps": load.prefill_steps,
        "decode_steps": load.decode_steps,
        "late_steps": pace.late_steps,
        "late_share": pace.late_share,
        "late_mean_us": pace.late_mean_us,
        "late_max_us": pace.late_max_us,
        "running": load.running,
        "waiting": load.waiting,
        "used_tokens": load.used_tokens,
        "evictable_tokens": load.evictable_tokens,
        "prompt_tokens": load.prompt_tokens_total,
        "cached_tokens": load.cached_tokens_total,
        "generated_tokens": load.generated_tokens_total,
        "retracted": load.retracted_total,
        "profile": &config.profile,
    })
    .to_string()
}
