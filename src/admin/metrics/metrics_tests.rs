//! Tests of what one record adds.

use super::*;
use crate::config::resilience::BreakerConfig;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::spec::WorkerSpec;
use crate::net::{Connector, PipeNet};
use crate::trace::record::AttemptRecord;
use crate::wire::answer::Tokens;
use crate::wire::meta_info::ServerStamps;

fn worker() -> Worker {
    let url = WorkerUrl::parse("http://w:1").unwrap();
    let pipes = Connector::Pipes(PipeNet::default());
    Worker::new(milepost_policies::WorkerId(0), WorkerSpec::from(url), pipes, BreakerConfig::default(), true)
}

fn sum_and_count(histogram: &Histogram) -> (f64, u64) {
    let snapshot = histogram.snapshot();
    (snapshot.sum_s, snapshot.count)
}

fn stream() -> RequestRecord {
    RequestRecord {
        outcome: Outcome::Done,
        attempts: 1,
        stream: true,
        sse_events: 3,
        status: Some(200),
        head_ns: Some(1),
        router_send_ns: Some(500_000_000),
        first_token_ns: Some(1_500_000_000),
        last_byte_ns: Some(3_500_000_000),
        end_ns: 3_500_000_000,
        tokens: Tokens { prompt_tokens: Some(7), completion_tokens: Some(5), cached_tokens: Some(4) },
        endpoint: Endpoint::Generate,
        ..RequestRecord::default()
    }
}

#[test]
fn a_stream_tells_ttft_itl_and_decode_at_the_router() {
    let (metrics, worker) = (Metrics::new(), worker());
    metrics.request_ended(&stream(), Some(&worker), "");
    let meters = worker.meters.get().unwrap();
    assert_eq!(sum_and_count(&meters.ttft), (1.0, 1), "from router send");
    assert_eq!(sum_and_count(&metrics.ttft), (1.5, 1), "from arrival");
    assert_eq!(sum_and_count(&meters.itl), (0.5, 1), "2 s for four gaps");
    assert_eq!(sum_and_count(&meters.decode), (2.0, 1));
    assert_eq!((sum_and_count(&meters.queue).1, sum_and_count(&meters.prefill).1), (0, 0), "nobody told");
    let told = [&meters.prompt_tokens, &meters.completion_tokens, &meters.cached_tokens];
    assert_eq!(told.map(|n| n.load(Ordering::Relaxed)), [7, 5, 4]);
}

#[test]
fn one_token_has_no_gap_and_a_cut_stream_no_decode_time() {
    let (metrics, worker) = (Metrics::new(), worker());
    let one = Tokens { completion_tokens: Some(1), ..Tokens::default() };
    metrics.request_ended(&RequestRecord { tokens: one, ..stream() }, Some(&worker), "");
    let cut = RequestRecord { outcome: Outcome::ClientGone, last_byte_ns: None, ..stream() };
    metrics.request_ended(&cut, Some(&worker), "");
    let meters = worker.meters.get().unwrap();
    assert_eq!((sum_and_count(&meters.itl).1, sum_and_count(&meters.decode).1), (0, 1));
    assert_eq!(sum_and_count(&meters.ttft).1, 2, "both had a first token");
    let several =
        [RequestRecord { prompts: Some(2), ..stream() }, RequestRecord { samples: Some(2), ..stream() }];
    for record in &several {
        metrics.request_ended(record, Some(&worker), "");
    }
    assert_eq!(
        (sum_and_count(&meters.itl).1, sum_and_count(&meters.decode).1),
        (0, 3),
        "several answers at once"
    );
    assert_eq!(meters.ended[Outcome::ClientGone as usize].load(Ordering::Relaxed), 1);
}

#[test]
fn server_durations_are_taken_in_one_clock_or_not_at_all() {
    let (metrics, worker) = (Metrics::new(), worker());
    let wall = 1_800_000_000.0;
    // 0.5.23, a plain answer: everything in its wall clock.
    let newer = ServerStamps {
        request_received_ts: Some(wall),
        forward_entry_time: Some(wall + 0.25),
        queue_time: Some(0.125),
        first_token_latency: Some(0.75),
        request_finished_ts: Some(wall + 2.75),
        ..ServerStamps::default()
    };
    let plain =
        RequestRecord { server: newer, sse_events: 0, stream: false, first_token_ns: None, ..stream() };
    metrics.request_ended(&plain, Some(&worker), "");
    let meters = worker.meters.get().unwrap();
    assert_eq!(sum_and_count(&meters.queue), (0.125, 1));
    assert_eq!(sum_and_count(&meters.prefill), (0.5, 1));
    assert_eq!(sum_and_count(&meters.decode), (2.0, 1));
    // Patched 0.4.9: the queue in the monotonic clock, the first token in the other one.
    let patched = ServerStamps {
        queue_time_start: Some(100.0),
        queue_time_end: Some(100.5),
        server_first_token_time: Some(wall + 1.0),
        ..ServerStamps::default()
    };
    metrics.request_ended(&RequestRecord { server: patched, ..stream() }, Some(&worker), "");
    assert_eq!(sum_and_count(&meters.queue), (0.625, 2));
    assert_eq!(sum_and_count(&meters.prefill).1, 1, "no difference between two clocks");
    // A clock that was set back inside a request.
    let back =
        ServerStamps { queue_time_start: Some(9.0), queue_time_end: Some(8.0), ..ServerStamps::default() };
    metrics.request_ended(&RequestRecord { server: back, ..stream() }, Some(&worker), "");
    let wild = ServerStamps { queue_time: Some(4e9), ..ServerStamps::default() };
    metrics.request_ended(&RequestRecord { server: wild, ..stream() }, Some(&worker), "");
    assert_eq!(sum_and_count(&meters.queue).1, 2, "neither backwards nor longer than the request");
}

#[test]
fn failed_attempts_are_retries_with_their_statuses_and_back_offs() {
    let metrics = Metrics::new();
    let failed = |status, backoff_ns| AttemptRecord { status, backoff_ns, ..AttemptRecord::default() };
    let failed_attempts = vec![failed(Some(503), None), failed(None, Some(50_000_000))];
    let record = RequestRecord { attempts: 3, failed_attempts, policy: Some("random".into()), ..stream() };
    metrics.request_ended(&record, None, "");
    let counts = &metrics.counts;
    assert_eq!(counts.retries[0].load(Ordering::Relaxed), 2);
    assert_eq!(counts.retries_exhausted[0].load(Ordering::Relaxed), 0, "the third was good");
    assert_eq!(counts.upstream.seen().collect::<Vec<_>>(), [(200, 1), (503, 1)]);
    assert_eq!(counts.selections().collect::<Vec<_>>(), [("default", "random", 3)]);
    assert_eq!(counts.worker_errors[0].load(Ordering::Relaxed), 2);
    let pauses: Vec<_> = counts.backoffs.used().map(|(i, h)| (i, sum_and_count(h))).collect();
    assert_eq!(pauses, [(1, (0.05, 1))], "after the second");
}

#[test]
fn an_error_has_one_type_and_a_bad_request_is_not_its_workers() {
    let with =
        |outcome, status, attempts| RequestRecord { outcome, status: Some(status), attempts, ..stream() };
    let kinds = |r: &RequestRecord| {
        (router_error(r).map(|i| counts::ROUTER_ERRORS[i]), worker_error(r).map(|i| counts::WORKER_ERRORS[i]))
    };
    let backend = Some("backend_error");
    assert_eq!(kinds(&with(Outcome::WorkerError, 400, 1)), (Some("validation_error"), None));
    assert_eq!(kinds(&with(Outcome::WorkerError, 429, 1)), (backend, backend));
    assert_eq!(kinds(&with(Outcome::WorkerError, 200, 1)), (backend, backend), "an error inside a 200");
    assert_eq!(kinds(&with(Outcome::WorkerReset, 200, 1)), (backend, backend));
    assert_eq!(kinds(&with(Outcome::Unreachable, 503, 0)), (Some("no_workers"), None));
    assert_eq!(kinds(&with(Outcome::TimedOut, 504, 1)), (Some("timeout"), Some("timeout")));
    assert_eq!(kinds(&with(Outcome::ClientGone, 200, 1)), (None, None));
    assert_eq!(kinds(&with(Outcome::Panicked, 200, 1)), (Some("internal_error"), None));
}

#[test]
fn given_buckets_replace_the_built_in_ones_in_order_and_once() {
    let metrics = Metrics::with_buckets(&[2.0, 0.5, 2.0, f64::NAN, -1.0, f64::INFINITY]);
    let bounds: Vec<f64> = metrics.ttft.snapshot().cumulative.iter().map(|(bound, _)| *bound).collect();
    assert_eq!(bounds, [0.5, 2.0]);
    let built_in = Metrics::new().ttft.snapshot().cumulative;
    assert_eq!((built_in[0].0, built_in[19].0, built_in.len()), (0.001, 240.0, 20));
}

#[test]
fn a_connection_is_open_until_it_is_dropped() {
    let metrics = Metrics::new();
    let open = metrics.connection();
    assert_eq!(metrics.connections.load(Ordering::Relaxed), 1);
    drop(open);
    assert_eq!(metrics.connections.load(Ordering::Relaxed), 0);
}
