//! Arrivals and answers in virtual time, over in-memory pipes.

use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::progress::{Silent, Stop};
use milepost::load::schedule::Rate;
use milepost::load::{LoadConfig, RunContext, run};

use crate::server::{Server, about, stream};
use crate::{config, data};

/// 100 requests at 50 a second whose answers take 5 s all arrive within about 2 s: arrivals are not serialised by answers.
#[tokio::test(start_paused = true)]
async fn arrivals_do_not_wait_for_answers() {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let events = data("sglang-0.4.9.post6-patched_generate_stream.sse");
    let count = events.split_inclusive("\n\n").count() as u32;
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| stream(&events, Duration::from_secs(5) / count))
    });
    let config = LoadConfig { rate: Rate::PerSecond(50.0), ..config("http://pipe:1", 100) };
    let context =
        RunContext { clock, connector: server.pipes(), progress: Arc::new(Silent), stop: Stop::never() };
    let report = run(config, context).await.unwrap();

    let mut at_ns: Vec<u64> = server.load().iter().map(|g| g.at_ns).collect();
    at_ns.sort_unstable();
    assert_eq!(at_ns.len(), 100);
    let span_s = (at_ns[99] - at_ns[0]) as f64 / 1e9;
    assert!((1.3..=2.7).contains(&span_s), "{span_s}");
    for row in &report.rows {
        assert!(row.success(), "{:?}", row.failure);
        let latency_s = row.client_latency_ns().unwrap() as f64 / 1e9;
        assert!((4.0..=5.1).contains(&latency_s), "{latency_s}");
        assert!(row.lateness_ns().unwrap() < 5_000_000);
    }
}

/// With one place, the wait for it is in the latency from schedule and not in the one from send.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_place_shows_from_schedule() {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let events = data("sglang-0.4.9.post6-patched_generate_stream.sse");
    let count = events.split_inclusive("\n\n").count() as u32;
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| stream(&events, Duration::from_secs(1) / count))
    });
    let config = LoadConfig { max_concurrency: Some(1), ..config("http://pipe:1", 3) };
    let context =
        RunContext { clock, connector: server.pipes(), progress: Arc::new(Silent), stop: Stop::never() };
    let report = run(config, context).await.unwrap();
    let mut from_schedule: Vec<i64> =
        report.rows.iter().map(|r| r.latency_from_schedule_ns().unwrap() / 100_000_000).collect();
    from_schedule.sort_unstable();
    assert!(
        report.rows.iter().all(|r| (800_000_000..1_100_000_000).contains(&r.client_latency_ns().unwrap()))
    );
    assert!(
        (8..=11).contains(&from_schedule[0])
            && (16..=22).contains(&from_schedule[1])
            && (24..=33).contains(&from_schedule[2])
    );
    assert_eq!(milepost::report::timeline::in_flight(&report.rows).peak, 1);
}
