//! Tests of the printed schema against records as they are written.

use serde_json::Value;

use super::*;
use crate::clock::ClockSnapshot;
use crate::trace::decision::{EstimatesRecord, Parts, ServerLoadRecord};
use crate::trace::journal::{
    ChoiceCall, ConfigValues, DescribeCall, EventCall, JoinCall, JournalCall, JournalRecord, LeaveCall,
    PolicyCall, StartCall,
};
use crate::trace::prompt::PromptBlocks;
use crate::trace::record::{
    AttemptRecord, CandidateRecord, CaptureRecord, ClockRecord, ConnectionRecord, DecisionRecord, Late,
    LostRecord, MarkRecord, Record, RequestRecord, RunRecord, ShadowRecord, WorkerRecord,
};
use crate::wire::answer::Tokens;
use crate::wire::meta_info::ServerStamps;
use crate::wire::traceparent::{SpanId, TraceId};

fn text_value() -> String {
    "x".to_owned()
}

fn decision() -> DecisionRecord {
    let candidate = CandidateRecord {
        worker: "w".into(),
        score: Some(0.5),
        reason: Some("r".into()),
        in_flight: 1,
        prefix_match_bytes: Some(1),
        chosen: true,
    };
    let estimates = EstimatesRecord {
        prefix_match_tokens: Some(1),
        prefilling_requests: Some(1),
        decoding_requests: Some(1),
        outstanding_prefill_tokens: Some(1),
        outstanding_decode_tokens: Some(1),
        prefill_rate_tokens_per_s: Some(0.1),
        decode_rate_tokens_per_s: Some(0.1),
        answered_tokens_per_s: Some(0.1),
        latency_ewma_us: Some(0.1),
        ttft_ewma_us: Some(0.1),
        cache_hit_rate: Some(0.1),
    };
    let server_load = ServerLoadRecord {
        queue_depth: Some(1),
        running: Some(1),
        kv_usage: Some(0.1),
        throughput_tokens_per_s: Some(0.1),
        server_load_age_us: Some(1),
        max_running_requests: Some(1),
    };
    DecisionRecord {
        reason: "r".into(),
        took_ns: 1,
        eligible: 1,
        margin: Some(0.5),
        ties: Some(1),
        fallback: Some("c".into()),
        candidates: vec![candidate],
        part_names: vec!["queue_us".into(), "prefill_us".into()],
        parts: vec![Parts::of(&[Some(0.1), None])],
        estimates: vec![estimates],
        server_loads: vec![server_load],
    }
}

fn shadow() -> Late<Vec<ShadowRecord>> {
    let late = Late::awaited();
    let (policy, worker) = ("p".into(), Some("w".into()));
    late.set(vec![ShadowRecord { policy, worker, agrees: true, score: Some(0.5), reason: "r".into() }]);
    late
}

fn stamps() -> ServerStamps {
    ServerStamps {
        e2e_latency: Some(1.5),
        server_created_time: Some(1.5),
        server_first_token_time: Some(1.5),
        queue_time_start: Some(1.5),
        queue_time_end: Some(1.5),
        queue_time: Some(1.5),
        request_received_ts: Some(1.5),
        request_sent_to_scheduler_ts: Some(1.5),
        api_server_dispatch_finish_ts: Some(1.5),
        forward_entry_time: Some(1.5),
        prefill_finished_ts: Some(1.5),
        prefill_finished_time: Some(1.5),
        first_token_latency: Some(1.5),
        response_sent_to_client_ts: Some(1.5),
        decode_finished_ts: Some(1.5),
        request_finished_ts: Some(1.5),
        num_retractions: Some(1),
    }
}

fn request() -> RequestRecord {
    RequestRecord {
        rid: Some(text_value()),
        phase: Some(text_value()),
        model: Some(text_value()),
        prompts: Some(1),
        samples: Some(2),
        prompt_bytes: Some(1),
        prompt_hashes: Some(PromptBlocks::Keyed([1, 2][..].into())),
        prompt_text: Some(text_value()),
        // A name that has a row of its own.
        headers: [("model".to_owned(), text_value())].into(),
        kept_for: Some("slow".into()),
        max_new_tokens: Some(1),
        client: Some(text_value().into()),
        client_arrival_time: Some(text_value()),
        trace_id: Some(TraceId::of(1)),
        span_id: Some(SpanId::of(1)),
        parent_span_id: Some(SpanId::of(1)),
        trace_sampled: Some(true),
        worker: Some(text_value().into()),
        same_host: Some(true),
        worker_span_id: Some(SpanId::of(1)),
        dp_rank: Some(1),
        dp_rank_by: Some("body".into()),
        policy: Some(text_value().into()),
        policy_by: Some("header".into()),
        split_arm: Some(text_value().into()),
        split_by: Some("request_id".into()),
        decision: Some(decision()),
        shadow: shadow(),
        failed_attempts: vec![AttemptRecord {
            router_send_ns: Some(1),
            span_id: Some(SpanId::of(1)),
            ..AttemptRecord::default()
        }],
        body_read_ns: Some(1),
        limit_wait_ns: Some(1),
        decided_ns: Some(1),
        connected_ns: Some(1),
        router_send_ns: Some(1),
        first_byte_ns: Some(1),
        head_ns: Some(1),
        first_event_ns: Some(1),
        first_token_ns: Some(1),
        last_byte_ns: Some(1),
        status: Some(200),
        error: Some(text_value()),
        sse_done: Some(true),
        tokens: Tokens { prompt_tokens: Some(1), completion_tokens: Some(1), cached_tokens: Some(1) },
        predicted_cached_tokens: Some(1),
        answer_unread: Some("no_memory".into()),
        has_text: Some(true),
        finish_reason: Some(text_value().into()),
        server: stamps(),
        ..RequestRecord::default()
    }
}

fn others() -> [Record; 6] {
    let clock = ClockSnapshot { mono_ns: 1, unix_ns: 1, bracket_ns: 1 };
    let run = RunRecord {
        schema: SCHEMA,
        version: "0".into(),
        pid: 1,
        boot_id: Some(text_value()),
        listen: "l".into(),
        policy: "p".into(),
        split: Some("a=1,b=2".into()),
        shadow_policies: vec!["s".into()],
        seed: 1,
        workers: vec!["w".into()],
        capture: Some(CaptureRecord {
            sample_share: Some(0.5),
            slowest_per_minute: Some(1),
            prompt: Some(text_value()),
            prompt_block_bytes: Some(1),
            prompt_key_id: Some(text_value()),
            ..CaptureRecord::default()
        }),
        clock,
    };
    let worker = WorkerRecord {
        router: Some(true),
        mono_ns: 1,
        worker: "w".into(),
        event: "added".into(),
        detail: Some(text_value()),
        model: Some(text_value()),
        version: Some(text_value()),
        max_running_requests: Some(1),
        simulated: Some(true),
    };
    let connection =
        ConnectionRecord { end_mono_ns: 1, client: Some(text_value()), requests: 1, error: "e".into() };
    [
        Record::Run(run),
        Record::Clock(ClockRecord {
            boot_id: Some(text_value()),
            wall_step_us: Some(1),
            wall_step_after_ns: Some(1),
            ..ClockRecord::from(clock)
        }),
        Record::Connection(connection),
        Record::Worker(worker),
        Record::Mark(MarkRecord { mono_ns: 1, unix_ns: 1, label: text_value() }),
        Record::Lost(LostRecord { requests: 1, journal: 1, others: 1, stopped: 1, sampled: 1, prompts: 1 }),
    ]
}

fn journal() -> impl Iterator<Item = Record> {
    let start = StartCall { index_bytes: 1, worker_prefix_bytes: Some(1), load_lasts_us: 1 };
    let policy = PolicyCall { policy: 1, name: text_value(), config: ConfigValues::default() };
    let event = EventCall {
        event: "ended".into(),
        slot: 1,
        seq: Some(1),
        ttft_us: Some(1),
        latency_us: Some(1),
        ok: Some(true),
        prompt_tokens: Some(1),
        completion_tokens: Some(1),
        cached_tokens: Some(1),
        queue_depth: Some(1),
        running: Some(1),
        kv_usage: Some(0.5),
        throughput_tokens_per_s: Some(0.5),
        max_running_requests: Some(1),
    };
    let choice = ChoiceCall {
        attempts: 1,
        hashes: Some([1, 2][..].into()),
        hashed_bytes: Some(1),
        engine_hashes: Some([1, 2][..].into()),
        engine_bytes: Some(1),
        is_counted: true,
        is_multiple: true,
        prompt_tokens: Some(1),
        max_new_tokens: Some(1),
        stream: true,
        model: Some(text_value()),
        routing_key_hash: Some(1),
        client_hash: Some(1),
        target: Some(1),
        eligible: vec![1, 1],
        chosen: Some(1),
        scores_hash: Some(1),
        ..ChoiceCall::default()
    };
    [
        JournalCall::Start(start.into()),
        JournalCall::Policy(policy.into()),
        JournalCall::Join(JoinCall::default().into()),
        JournalCall::Describe(DescribeCall::default().into()),
        JournalCall::Leave(LeaveCall::default()),
        JournalCall::Event(event.into()),
        JournalCall::Choice(choice.into()),
    ]
    .into_iter()
    .map(|call| Record::Journal(Box::new(JournalRecord { n: 1, now_us: 1, call })))
}

/// One record of each kind with every field filled.
pub(crate) fn filled_records() -> Vec<Record> {
    others().into_iter().chain(journal()).chain([Record::Request(Box::new(request()))]).collect()
}

fn keys(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                found.push(key.clone());
                keys(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_that_is_written_is_in_the_schema() {
    let text = text();
    let mut found = Vec::new();
    for record in filled_records() {
        let value = serde_json::to_value(&record).unwrap();
        let kind = value["kind"].as_str().unwrap().to_owned();
        assert!(text.contains(&format!("\nkind \"{kind}\": ")), "{kind}");
        keys(&value, &mut found);
    }
    assert!(found.len() > 90, "{}", found.len());
    for key in found.iter().filter(|key| *key != "kind") {
        let row = text.lines().find(|line| line.starts_with(&format!("  {key} ")));
        let words = row.map_or(0, |row| row.split_whitespace().count());
        assert!(words > 3, "{key} has no row with a meaning: {row:?}");
    }
}

#[test]
fn words_of_enums_are_those_that_are_written() {
    let text = text();
    for word in ["\"worker_error\"", "\"fan_out\"", "\"completions\"", "\"panicked\""] {
        assert!(text.contains(word), "{word}");
    }
    let rows = text.lines().filter(|line| line.starts_with("  forward_entry_time "));
    assert_eq!(rows.count(), 1, "what is used in several places is told once");
    assert!(text.lines().all(|line| line.chars().count() <= 130));
}
