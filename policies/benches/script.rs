//! What a script costs: nanoseconds per choice of each example at 8, 64 and 512 workers, everything known and nothing known, and
//! what compiling one costs.
//!
//! A round is short, so that it fits between two interruptions on a machine that has other work; prints the quickest of many.
//! `cargo bench -p milepost-policies --bench script`. Deliberately not here: policies that are built in (`choose`).

#[allow(dead_code, reason = "one benchmark uses this, another that")]
mod measure;

use std::hint::black_box;

use measure::{quickest_ns, time};
use milepost_policies::script::{Script, compile};
use milepost_policies::{Decision, Policy, RequestView, Time, WorkerId, WorkerView, Workers};

const FLEETS: [u32; 3] = [8, 64, 512];
/// Times that `measure`'s rounds are repeated.
const REPEATS: usize = 20;

const EXAMPLES: [(&str, &str); 5] = [
    ("throughput", include_str!("../examples/throughput.rhai")),
    ("shortest_wait", include_str!("../examples/shortest_wait.rhai")),
    ("prefix_or_queue", include_str!("../examples/prefix_or_queue.rhai")),
    ("memory_guard", include_str!("../examples/memory_guard.rhai")),
    ("bounded_sticky", include_str!("../examples/bounded_sticky.rhai")),
];

fn main() {
    println!("ns a choice, the quickest round");
    println!("{:<20} {:>8} {:>10} {:>10} {:>10}", "script", "workers", "known", "unknown", "compiling");
    for (name, text) in EXAMPLES {
        for size in FLEETS {
            let known: Vec<_> = (0..size).map(known).collect();
            let unknown: Vec<_> = known.iter().map(unknown).collect();
            let [known, unknown] = [known, unknown].map(|fleet| choice_ns(text, &fleet));
            let compiling_ns = time(|| drop(black_box(compile(text)))).as_nanos();
            println!("{name:<20} {size:>8} {known:>10.0} {unknown:>10.0} {compiling_ns:>10}");
        }
    }
}

fn choice_ns(text: &str, fleet: &[WorkerView]) -> f64 {
    let mut script = Script::new("script", compile(text).expect("an example"));
    let mut decision = Decision::default();
    let workers = Workers::new(fleet).expect("not empty");
    let calls = 1 + 1_000 / fleet.len();
    let mut choose = |seq: usize| {
        let request = RequestView { seq: seq as u64, prompt_tokens: Some(1_000), ..RequestView::default() };
        decision.clear(workers.len());
        script.choose(Time::default(), black_box(&request), black_box(&workers), &mut decision);
        black_box(decision.chosen());
    };
    let rounds = (0..REPEATS).map(|_| quickest_ns(calls, &mut choose));
    let ns = rounds.fold(f64::INFINITY, f64::min);
    assert_eq!(script.complaint(), None);
    ns
}

fn known(id: u32) -> WorkerView {
    WorkerView {
        in_flight_requests: id * 7 % 13,
        last_chosen_seq: u64::from(id * 31 % 97),
        prefix_match_bytes: Some(u64::from(id * 17 % 29) * 64),
        prefix_match_tokens: Some(u64::from(id * 17 % 29) * 16),
        outstanding_prefill_tokens: Some(u64::from(id) * 100),
        prefill_rate_tokens_per_s: Some(20_000.0 + f64::from(id)),
        throughput_tokens_per_s: Some(500.0 + f64::from(id)),
        latency_ewma_us: Some(1e6 + f64::from(id)),
        queue_depth: Some(id % 5),
        kv_usage: Some(f64::from(id % 10) / 11.0),
        ..unknown(&WorkerView { id: WorkerId(id), position: id, ..WorkerView::default() })
    }
}

fn unknown(of: &WorkerView) -> WorkerView {
    WorkerView {
        id: of.id,
        position: of.position,
        in_flight_requests: of.in_flight_requests,
        last_chosen_seq: of.last_chosen_seq,
        ..WorkerView::default()
    }
}
