//! `bench --router-trace URL` beside a router whose trace is rotated while the load runs.

use std::sync::Arc;

use milepost::clock::Clock;
use milepost::load::dataset::{Dataset, RandomOptions};
use milepost::load::progress::Silent;
use milepost::load::target::Target;
use milepost::load::{LoadConfig, RunContext, TraceSource, run};
use milepost::report::Survey;
use milepost::report::split::one_sided;
use milepost::trace::parts::parts_of;

use crate::harness::{TestRouter, Worker, json};

/// Many times what the writer of the trace takes at once, so that it rotates in between.
const REQUESTS: usize = 400;

#[tokio::test]
async fn a_trace_that_is_rotated_during_a_load_is_joined_row_by_row_from_its_address() {
    let worker = Worker::start(|_| {
        json(r#"{"text":"x","meta_info":{"id":"x","completion_tokens":1,"prompt_tokens":4,"finish_reason":{"type":"length"}}}"#)
    })
    .await;
    let router = TestRouter::with(&[&worker], |config| config.capture.rotate_bytes = Some(2_000)).await;
    let url = format!("http://{}", router.addr);
    let dataset = Dataset::Random(RandomOptions { input_tokens: 4, output_tokens: 1, range_ratio: 1.0 });
    let mut config = LoadConfig {
        num_prompts: REQUESTS,
        warmup_requests: 1,
        max_concurrency: Some(2),
        router_trace: Some(TraceSource::Url(Target::parse(&format!("{url}/milepost/trace")).unwrap())),
        ..LoadConfig::new(Target::parse(&url).unwrap(), dataset)
    };
    config.request.stream = false;
    let report = run(config, RunContext::new(Clock::system(), Arc::new(Silent))).await.unwrap();
    let trace = router.shared.config.trace_log.clone().unwrap();
    router.end().await;
    let parts = parts_of(&trace).unwrap();
    for path in parts.iter().map(|part| &part.path).chain([&trace]) {
        let _ = std::fs::remove_file(path);
    }
    assert!(parts.len() >= 2, "rotated {} times", parts.len());
    for row in &report.rows {
        assert!(row.success() && row.in_trace && row.router_send_ns.is_some(), "{row:?}");
    }
    let Survey { gathered, warnings: warned, .. } = Survey::of(&report, &[]);
    assert_eq!((report.rows.len(), one_sided(&report, &gathered)), (REQUESTS, (Some(0), Some(0))));
    assert!(!warned.iter().any(|w| w.contains("trace")), "{warned:?}");
}
