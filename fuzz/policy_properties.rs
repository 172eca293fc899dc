//! What must hold for any text of a script or of weights: an error of a readable length, or a policy that always chooses.
//!
//! Deliberately not here: which worker, as a text may say anything.

use milepost_policies::script::{Cause, Script, compile};
use milepost_policies::weighted::Weighted;
use milepost_policies::{Decision, Policy, RequestView, Time, Weights, WorkerId, WorkerView, Workers};

/// Longest error, in bytes.
const MAX_ERROR_BYTES: usize = 2_000;

/// A script.
pub fn policy_script(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match compile(text) {
        Ok(compiled) => {
            let mut script = Script::new("script:fuzzed", compiled);
            for decision in decisions(&mut script) {
                let fell_back = Cause::of_reason(decision.reason()).is_some();
                assert!(fell_back || decision.reason() == "script");
                assert_eq!(fell_back, decision.fallback().is_some());
            }
        }
        Err(error) => assert!(error.to_string().len() < MAX_ERROR_BYTES, "{error}"),
    }
}

/// Weights.
pub fn policy_weights(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Weights::parse(text) {
        Ok(weights) => {
            for decision in decisions(&mut Weighted::new("weighted:fuzzed", weights, 1)) {
                let scores = decision.scores().iter().flatten();
                assert!(scores.clone().all(|score| (-1e-9..=1.0 + 1e-9).contains(score)), "{decision:?}");
            }
        }
        Err(error) => assert!(error.to_string().len() < MAX_ERROR_BYTES, "{error}"),
    }
}

/// One about workers of which nothing is known, and one about some that are known.
fn decisions(policy: &mut dyn Policy) -> Vec<Decision> {
    let request = RequestView { seq: 1, prompt_bytes: 100, ..RequestView::default() };
    let decide = |known: bool| {
        let fleet: Vec<_> = (0..3).map(|id| worker(id, known)).collect();
        let workers = Workers::new(&fleet).expect("not empty");
        let mut decision = Decision::default();
        decision.clear(workers.len());
        policy.choose(Time::default(), &request, &workers, &mut decision);
        assert!(decision.chosen().is_some_and(|index| index < fleet.len()));
        decision
    };
    [false, true].map(decide).to_vec()
}

fn worker(id: u32, known: bool) -> WorkerView {
    let value = known.then(|| f64::from(id) * 1e3);
    let count = known.then(|| u64::from(id));
    WorkerView {
        id: WorkerId(id),
        position: id,
        in_flight_requests: id * 3 % 4,
        prefix_match_bytes: count,
        latency_ewma_us: value,
        ttft_ewma_us: value,
        throughput_tokens_per_s: value,
        cache_hit_rate: known.then_some(f64::NAN),
        queue_depth: known.then_some(id),
        ..WorkerView::default()
    }
}
