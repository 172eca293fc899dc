//! Tests of the pace and of the virtual clock.

use std::sync::Arc;

use super::*;
use crate::sim::engine::End;
use crate::sim::profile::Profile;
use crate::sim::tokens::Answer;

const BOOT_NS: u64 = 5_000_000_000_000_000_000;
const TOKENIZE_NS: u64 = 1_000_000;

fn job(id: JobId, queued_at_ns: u64, output_tokens: u32) -> Job {
    let prompt: Arc<[u32]> = (0..600).map(|t| (id as u32) * 1_000 + t).collect();
    let answer = Answer::new(1, &prompt, 0);
    Job { id, prompt, answer, output_tokens, max_new_tokens: output_tokens, report_every: 1, queued_at_ns }
}

fn engine() -> Engine {
    Engine::new(Profile { max_running_requests: 8, ..Profile::default() }, 1.0, None)
}

/// Mean (queue, tokenise) time in milliseconds of 200 requests, one every `gap_ms`.
async fn mean_waits_ms(clock: &Clock, gap_ms: u64) -> (f64, f64) {
    let runner = Runner::start(engine(), clock.clone()).expect("starts");
    let mut calls = Vec::new();
    for id in 0..200 {
        let created_ns = clock.mono_ns();
        calls.push((created_ns, runner.submit(vec![job(id, created_ns + TOKENIZE_NS, 24)])));
        tokio::time::sleep(std::time::Duration::from_millis(gap_ms)).await;
    }
    let (mut queue_ns, mut tokenize_ns) = (0, 0);
    for (created_ns, call) in &mut calls {
        let p = call.ended().await[0];
        assert_eq!((p.end, p.tokens), (Some(End::Finished), 24));
        queue_ns += p.queue_end_ns.expect("ran") - p.queue_start_ns;
        tokenize_ns += p.queue_start_ns - *created_ns;
    }
    runner.stop();
    (queue_ns as f64 / 200e6, tokenize_ns as f64 / 200e6)
}

#[tokio::test(start_paused = true)]
async fn queue_time_rises_with_the_arrival_rate_and_tokenise_time_does_not() {
    let clock = Clock::virtual_time(BOOT_NS, 1_700_000_000_000_000_000);
    let (slow_queue, slow_tokenize) = mean_waits_ms(&clock, 400).await;
    let (busy_queue, busy_tokenize) = mean_waits_ms(&clock, 40).await;
    let (over_queue, over_tokenize) = mean_waits_ms(&clock, 10).await;
    assert!(slow_queue < 1.0, "an idle worker takes a request at once: {slow_queue}");
    assert!(busy_queue > slow_queue + 1.0, "{busy_queue}");
    assert!(over_queue > busy_queue * 10.0, "an overloaded worker's queue grows: {over_queue}");
    for tokenize in [slow_tokenize, busy_tokenize, over_tokenize] {
        assert!((tokenize - 1.0).abs() < 1e-6, "{tokenize}");
    }
}

#[tokio::test]
async fn the_host_clock_drives_a_thread_that_ends_calls_and_aborts_dropped_ones() {
    let clock = Clock::system();
    let profile = Profile { step_floor_us: 50.0, ..Profile::default() };
    let runner = Runner::start(Engine::new(profile, 1.0, None), clock.clone()).expect("starts");
    drop(runner.submit(vec![job(1, clock.mono_ns(), 100_000)]));
    let before_ns = clock.mono_ns();
    let mut call = runner.submit(vec![job(2, before_ns, 5), job(3, before_ns, 2)]);
    let ended = call.ended().await;
    assert_eq!(ended.iter().map(|p| p.tokens).collect::<Vec<_>>(), [5, 2]);
    let last_ns = ended.iter().filter_map(|p| p.ended_ns).max().expect("ended");
    assert!(before_ns < last_ns && last_ns <= clock.mono_ns(), "a stamp is never in the future");
    // The engine publishes its load when it has stepped or been told something.
    assert!(runner.flush().await, "the dropped call is gone");
    assert_eq!((runner.load().aborted_total, runner.load().finished_total), (1, 2));
    assert!(runner.pace().steps > 0);
    runner.stop();
}
