//! Arrivals and answers in virtual time, over in-memory pipes.

use std::time::Duration;

use milepost::clock::Clock;
use milepost::load::schedule::{Arrivals, Pace, Rate, Shape, Stages};
use milepost::load::{LoadConfig, run};
use milepost::report::recount::Arm;
use milepost::report::{Metrics, Survey, json, page, summary};

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
    let config = LoadConfig { arrivals: Rate::PerSecond(50.0).into(), ..config("http://pipe:1", 100) };
    let report = run(config, server.context()).await.unwrap();

    let mut at_ns: Vec<u64> = server.load().iter().map(|g| g.at_ns).collect();
    at_ns.sort_unstable();
    assert_eq!(at_ns.len(), 100);
    let span_s = (at_ns[99] - at_ns[0]) as f64 / 1e9;
    assert!((1.3..=2.7).contains(&span_s), "{span_s}");
    for row in report.rows.held() {
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
    let report = run(config, server.context()).await.unwrap();
    let mut from_schedule: Vec<i64> =
        report.rows.held().iter().map(|r| r.latency_from_schedule_ns().unwrap() / 100_000_000).collect();
    from_schedule.sort_unstable();
    assert!(
        report
            .rows
            .held()
            .iter()
            .all(|r| (800_000_000..1_100_000_000).contains(&r.client_latency_ns().unwrap()))
    );
    assert!(
        (8..=11).contains(&from_schedule[0])
            && (16..=22).contains(&from_schedule[1])
            && (24..=33).contains(&from_schedule[2])
    );
    assert_eq!(Metrics::of(&report.rows).in_flight.peak, 1);
}

/// A step of the wall clock in the run leaves the server's stamps where they belong, save within a second of the step.
#[tokio::test(start_paused = true)]
async fn a_clock_step_is_in_doubt_for_a_second_only() {
    const STEP_NS: u64 = 50_000_000;
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let (server_clock, stepped) = (clock.clone(), std::sync::atomic::AtomicBool::new(false));
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| {
            let now = server_clock.now();
            if now.mono_ns > 6_000_000_000 && !stepped.swap(true, std::sync::atomic::Ordering::Relaxed) {
                server_clock.step_wall(STEP_NS);
            }
            let created = now.unix_ns as f64 / 1e9;
            stream(
                &format!(
                    "data: {{\"text\":\"a\",\"meta_info\":{{\"id\":\"1\",\"finish_reason\":null,\"prompt_tokens\":6,\"completion_tokens\":1,\
                     \"cached_tokens\":0,\"request_received_ts\":{created:.9}}}}}\n\ndata: [DONE]\n\n"
                ),
                Duration::from_millis(10),
            )
        })
    });
    let config = LoadConfig { arrivals: Rate::PerSecond(20.0).into(), ..config("http://pipe:1", 160) };
    let report = run(config, server.context()).await.unwrap();
    assert!(report.rows.held().last().unwrap().arrival_ns.unwrap() > 6_500_000_000);
    let told = report.notes.iter().filter(|note| note.contains("the wall clock was stepped by +50.000 ms"));
    assert_eq!(told.count(), 1, "{:?}", report.notes);
    for row in report.rows.held() {
        let latency_ms = row.client_latency_ns().unwrap() / 1_000_000;
        assert!((20..25).contains(&latency_ms), "a step is in no latency: {latency_ms} ms");
    }
    for row in report.rows.held() {
        let sent_ns = row.arrival_ns.unwrap();
        let off_ns = (row.created_ns.unwrap() - sent_ns).unsigned_abs();
        let bound_ns = row.clock_bound_ns.unwrap();
        assert!(off_ns <= bound_ns + 1_000_000 && !row.order_broken, "{off_ns} {bound_ns}");
        if !(3_900_000_000..6_100_000_000).contains(&sent_ns) {
            assert!(bound_ns < 1_000_000, "at {sent_ns}: {bound_ns}");
        }
    }
}

/// Constant arrivals at 2/s, then 10/s, behind one place: whatever waits is of the stage in which it was due.
#[tokio::test(start_paused = true)]
async fn stages_are_told_apart_by_when_requests_were_due() {
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let events = data("sglang-0.4.9.post6-patched_generate_stream.sse");
    let server = Server::new(&clock, move |got| {
        about(got).unwrap_or_else(|| stream(&events, Duration::from_millis(20)))
    });
    let pace = Pace::Stages(Stages::parse("2@5s,10@2s").unwrap());
    let arrivals = Arrivals { pace, shape: Shape::Constant, duration: None };
    let config = LoadConfig { arrivals, max_concurrency: Some(1), ..config("http://pipe:1", 30) };
    let report = run(config, server.context()).await.unwrap();
    let survey = Survey::of(&report, &[]);
    let object = json::run_json(&report, &survey, &Vec::new());
    let stages = ["stage 1 (2/s)", "stage 2 (10/s)"];
    for (name, due) in stages.iter().zip([(0, 5_000_000_000), (5_000_000_000, 8_000_000_000)]) {
        let rows = report.rows.iter().filter(|row| (due.0..due.1).contains(&row.scheduled_ns)).count();
        assert_eq!(object["metrics"]["by_phase"]["parts"][name]["requests"], rows, "{name}");
    }
    assert_eq!(
        (object["stages"][0]["to_s"].as_f64(), object["marks"][0]["at_s"].as_f64()),
        (Some(5.0), Some(5.0))
    );
    let printed = summary::summary(&report, &survey, &[]);
    let at = |text: &str| printed.find(text).unwrap_or_else(|| panic!("{text} is not in {printed}"));
    assert!(at("Stage by stage") < at(stages[0]) && at(stages[0]) < at(stages[1]));
    assert!(printed.contains("2@5s,10@2s (mean 4.29)"), "{printed}");
    let trend = survey.verdict.checks.iter().find(|check| check.rule == "trend_e2e").unwrap();
    assert_eq!(
        (trend.rating(), trend.text()),
        (None, "the rate changes by plan"),
        "few requests, and still no steady load"
    );
    assert_eq!(printed.matches(stages[0]).count(), 1, "once, in order of time: {printed}");
    // The page has them in the order of time too, not the busier one first.
    let html = page::page(&[Arm::of_run(&report, &survey.verdict, std::path::Path::new("x"))]);
    let cell = |name: &str| html.find(&format!("<td>{name}</td>")).unwrap();
    assert!(cell(stages[0]) < cell(stages[1]) && html.contains(&format!(">{}</text>", stages[1])));
}
