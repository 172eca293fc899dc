//! What the trace keeps of a decision: what the policy saw and said, of up to sixteen candidates.
//!
//! Rule: made in the decision's critical section, so it copies numbers and looks nothing up; an input that
//! the policy does not ask for is not written, as it was not seen. Deliberately not here: the fields' meaning (`trace::decision`).

use std::sync::Arc;

use milepost_policies::{Decision, Needs, WorkerView};

use crate::trace::decision::{CandidateRecord, DecisionRecord, EstimatesRecord, Parts, ServerLoadRecord};

/// Candidates kept whole in a decision record; above that the chosen one, the runner-up and a sample.
pub const MAX_CANDIDATES: usize = 16;

/// The record of a decision in which `chosen` was chosen. `needs`: of the policy; `url`: of a candidate.
pub(super) fn record(
    decision: &Decision,
    chosen: usize,
    views: &[WorkerView],
    needs: Needs,
    url: impl Fn(usize) -> Arc<str>,
) -> DecisionRecord {
    let standing = decision.standing();
    let seen = || sample(views.len(), chosen, standing.runner_up);
    let size = views.len().min(MAX_CANDIDATES);
    let mut record = DecisionRecord {
        reason: decision.reason().into(),
        eligible: views.len() as u32,
        fallback: decision.fallback().map(Into::into),
        candidates: Vec::with_capacity(size),
        ..DecisionRecord::default()
    };
    record.candidates.extend(seen().map(|i| CandidateRecord {
        worker: url(i),
        score: decision.scores().get(i).copied().flatten(),
        reason: Some(decision.score_reason(i)).filter(|reason| !reason.is_empty()).map(Into::into),
        in_flight: views[i].in_flight_requests,
        prefix_match_bytes: views[i].prefix_match_bytes.filter(|_| needs.prefix_match),
        chosen: i == chosen,
    }));
    (record.margin, record.ties) = (standing.margin, Some(standing.ties).filter(|ties| *ties > 0));
    if !decision.part_names().is_empty() {
        record.part_names = decision.part_names().iter().map(|name| (*name).into()).collect();
        record.parts.reserve_exact(size);
        record.parts.extend(seen().map(|i| Parts::of(decision.score_parts(i))));
    }
    if needs.estimates {
        record.estimates.reserve_exact(size);
        record.estimates.extend(seen().map(|i| estimates(&views[i])));
    }
    if needs.server_loads {
        record.server_loads.reserve_exact(size);
        record.server_loads.extend(seen().map(|i| server_load(&views[i])));
    }
    record
}

fn estimates(view: &WorkerView) -> EstimatesRecord {
    EstimatesRecord {
        prefix_match_tokens: view.prefix_match_tokens.map(short),
        prefilling_requests: view.prefilling_requests,
        decoding_requests: view.decoding_requests,
        outstanding_prefill_tokens: view.outstanding_prefill_tokens.map(short),
        outstanding_decode_tokens: view.outstanding_decode_tokens.map(short),
        prefill_rate_tokens_per_s: view.prefill_rate_tokens_per_s.map(seven_digits),
        decode_rate_tokens_per_s: view.decode_rate_tokens_per_s.map(seven_digits),
        answered_tokens_per_s: view.answered_tokens_per_s.map(seven_digits),
        latency_ewma_us: view.latency_ewma_us.map(seven_digits),
        ttft_ewma_us: view.ttft_ewma_us.map(seven_digits),
        cache_hit_rate: view.cache_hit_rate.map(seven_digits),
    }
}

fn server_load(view: &WorkerView) -> ServerLoadRecord {
    ServerLoadRecord {
        queue_depth: view.queue_depth,
        running: view.running,
        kv_usage: view.kv_usage.map(seven_digits),
        throughput_tokens_per_s: view.throughput_tokens_per_s.map(seven_digits),
        server_load_age_us: view.server_load_age_us.map(short),
        max_running_requests: view.max_running_requests,
    }
}

fn short(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn seven_digits(number: f64) -> f32 {
    number as f32
}

/// Which candidates go into the record, in fleet order: all of them, or the chosen one, the runner-up and an even sample.
fn sample(eligible: usize, chosen: usize, runner_up: Option<usize>) -> impl Iterator<Item = usize> {
    let all = eligible <= MAX_CANDIDATES;
    let step = eligible.div_ceil(MAX_CANDIDATES - 2).max(1);
    (0..eligible).filter(move |i| all || *i == chosen || Some(*i) == runner_up || i % step == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_all_candidates_up_to_sixteen_and_the_best_two_above() {
        assert_eq!(sample(16, 3, None).count(), 16);
        let kept: Vec<usize> = sample(512, 300, Some(401)).collect();
        assert!(kept.len() <= MAX_CANDIDATES && kept.contains(&300) && kept.contains(&401));
        assert!(kept.is_sorted());
    }

    fn seen(needs: Needs) -> DecisionRecord {
        let view = WorkerView {
            in_flight_requests: 2,
            prefix_match_bytes: Some(4_000),
            prefix_match_tokens: Some(1_000),
            outstanding_prefill_tokens: Some(u64::MAX),
            latency_ewma_us: Some(20_133.123_456),
            queue_depth: Some(7),
            ..WorkerView::default()
        };
        let other = WorkerView { prefix_match_tokens: Some(0), ..view };
        let mut decision = Decision::default();
        decision.clear(2);
        decision.name_parts(&["queue_us", "prefill_us"]);
        decision.score_with(0, -3.0, "waits");
        decision.parts(0, &[1.0, 2.0]);
        decision.score(1, -9.5);
        decision.choose(0, "least");
        record(&decision, 0, &[view, other], needs, |i| format!("w{i}").into())
    }

    #[test]
    fn the_record_says_what_was_seen_and_said() {
        let record = seen(Needs { estimates: true, prefix_match: true, ..Needs::default() });
        assert_eq!(
            (&*record.reason, record.eligible, record.margin, record.ties),
            ("least", 2, Some(6.5), Some(1))
        );
        assert_eq!(record.fallback, None);
        assert_eq!(record.part_names, ["queue_us", "prefill_us"]);
        let parts: Vec<_> = record.parts.iter().map(Parts::values).collect();
        assert_eq!(parts, [[Some(1.0), Some(2.0)], [None, None]]);
        let [first, second] = &record.candidates[..] else { panic!("two") };
        assert_eq!((first.chosen, first.score, first.reason.as_deref()), (true, Some(-3.0), Some("waits")));
        assert_eq!(first.prefix_match_bytes, Some(4_000));
        assert_eq!((second.chosen, second.score, second.reason.as_deref()), (false, Some(-9.5), None));
        let [first, second] = &record.estimates[..] else { panic!("two") };
        assert_eq!(first.outstanding_prefill_tokens, Some(u32::MAX));
        assert_eq!(first.latency_ewma_us, Some(20_133.123));
        assert_eq!(second.prefix_match_tokens, Some(0));
    }

    #[test]
    fn what_the_policy_does_not_ask_for_was_not_seen() {
        let plain = seen(Needs::default());
        assert_eq!((plain.candidates[0].in_flight, plain.candidates[0].prefix_match_bytes), (2, None));
        assert!(plain.estimates.is_empty() && plain.server_loads.is_empty());
        let polled = seen(Needs { server_loads: true, ..Needs::default() });
        assert_eq!((polled.server_loads[1].queue_depth, polled.estimates.len()), (Some(7), 0));
    }
}
