//! A new script's first runs, on made-up workers.
//!
//! Rule: it warns and refuses nothing, as nobody knows which values a fleet will have. It shows a misspelt name, and a script
//! that cannot do without a value which is not known at the start. Deliberately not here: what is done about it.

use super::compile::CompiledScript;
use super::{Cause, Script};
use crate::decision::Decision;
use crate::policy::Policy;
use crate::view::{RequestView, Time, WorkerId, WorkerView, Workers};

/// The script, with its warnings.
pub(super) fn rehearsed(compiled: CompiledScript) -> CompiledScript {
    let mut script = Script::new("rehearsal", compiled);
    let known = (0..3).map(known).collect::<Vec<_>>();
    let unknown = (0..3).map(unknown).collect::<Vec<_>>();
    let asked = RequestView {
        seq: 1,
        prompt_bytes: 4_000,
        prompt_tokens: Some(1_000),
        max_new_tokens: Some(100),
        stream: true,
        model: Some("a-model"),
        routing_key: Some("a-key"),
        target: Some(0),
        client_hash: Some(7),
        ..RequestView::default()
    };
    let bare = RequestView { seq: 2, ..RequestView::default() };
    let runs = [
        ("with every value known", asked, &known),
        ("with nothing known of the workers", asked, &unknown),
        ("with nothing known of request and workers", bare, &unknown),
    ];
    let mut warnings: Vec<(String, String)> = Vec::new();
    for (when, request, fleet) in runs {
        if let Some(what) = complaint(&mut script, &request, fleet)
            && !warnings.iter().any(|(_, told)| *told == what)
        {
            warnings.push((format!("tried on made-up workers {when}: {what}"), what));
        }
    }
    let mut compiled = script.compiled;
    compiled.warnings = warnings.into_iter().map(|(warning, _)| warning).collect();
    compiled
}

fn complaint(script: &mut Script, request: &RequestView<'_>, fleet: &[WorkerView]) -> Option<String> {
    let workers = Workers::new(fleet)?;
    let mut decision = Decision::default();
    decision.clear(workers.len());
    script.choose(Time::default(), request, &workers, &mut decision);
    // A script may well want none of these.
    let nobody = Cause::of_reason(decision.reason()) == Some(Cause::Nobody);
    script.complaint().filter(|_| !nobody).map(str::to_owned)
}

fn unknown(id: u32) -> WorkerView {
    WorkerView { id: WorkerId(id), position: id, priority: 50, ..WorkerView::default() }
}

fn known(id: u32) -> WorkerView {
    let (count, tokens) = (id + 1, u64::from(id + 1) * 100);
    let rate = f64::from(count) * 1_000.0;
    WorkerView {
        in_flight_requests: count,
        last_chosen_seq: u64::from(id),
        prefix_match_bytes: Some(tokens * 4),
        prefix_match_tokens: Some(tokens),
        prefilling_requests: Some(count),
        decoding_requests: Some(count),
        outstanding_prefill_tokens: Some(tokens),
        outstanding_decode_tokens: Some(tokens),
        prefill_rate_tokens_per_s: Some(rate),
        decode_rate_tokens_per_s: Some(rate / 10.0),
        answered_tokens_per_s: Some(rate),
        latency_ewma_us: Some(rate * 1_000.0),
        ttft_ewma_us: Some(rate * 100.0),
        cache_hit_rate: Some(0.5),
        queue_depth: Some(count),
        running: Some(count),
        kv_usage: Some(0.5),
        throughput_tokens_per_s: Some(rate),
        server_load_age_us: Some(500_000),
        max_running_requests: Some(64),
        ..unknown(id)
    }
}
