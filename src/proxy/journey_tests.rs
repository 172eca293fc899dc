//! Tests of the journey: what the policy is told, and how a request ends that somebody drops.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

use milepost_policies::{Decision, Needs, Policy, RequestView, Time, Workers};

use super::*;
use crate::admin::metrics::Metrics;
use crate::clock::Clock;
use crate::config::RouteConfig;
use crate::config::worker_url::WorkerUrl;
use crate::fleet::Fleet;
use crate::fleet::policies::Wanted;
use crate::net::{Connector, PipeNet};
use crate::proxy::budget::Budget;
use crate::proxy::cors::Cors;
use crate::trace::sink::Sink;

/// Chooses the first worker and remembers what it is told.
struct Listening(Arc<Mutex<Vec<Event>>>);

impl Policy for Listening {
    fn name(&self) -> &'static str {
        "listening"
    }

    fn needs(&self) -> Needs {
        Needs { request_events: true, ..Needs::default() }
    }

    fn choose(&mut self, _: Time, _: &RequestView<'_>, _: &Workers<'_>, out: &mut Decision) {
        out.choose(0, "first");
    }

    fn observe(&mut self, _: Time, event: &Event) {
        self.0.lock().unwrap().push(*event);
    }
}

fn shared(clock: Clock, told: &Arc<Mutex<Vec<Event>>>, request_timeout: Duration) -> Arc<Shared> {
    let mut config = RouteConfig { request_timeout, ..RouteConfig::default() };
    config.health.enabled = false;
    let sink = Arc::new(Sink::bounded(16));
    let pipes = Connector::Pipes(PipeNet::default());
    let policy = Box::new(Listening(Arc::clone(told)));
    Arc::new(Shared {
        listen: None,
        tls: None,
        fleet: Fleet::new(clock.clone(), pipes, config.health.clone(), policy, Arc::clone(&sink)),
        budget: Budget::new(1 << 20),
        experiment: None,
        limit: None,
        cors: Cors::Any,
        instance: "test".to_owned(),
        clock,
        capture: None,
        spans: None,
        live: crate::admin::live::Live::default(),
        sink,
        metrics: Metrics::new(),
        fallbacks: crate::proxy::fallback::Fallbacks::default(),
        requests: AtomicU64::new(0),
        draining: AtomicBool::new(false),
        answers: Budget::new(1 << 20),
        cut: crate::proxy::cut::Cut::default(),
        config,
    })
}

fn begin(shared: &Arc<Shared>) -> Journey {
    let asked = Asked::new(http::Method::GET, "/");
    Journey::begin(shared, &asked, &ClientHeaders::default(), None)
}

/// The one record that was offered.
fn record(shared: &Shared) -> RequestRecord {
    let mut records = Vec::new();
    shared.sink.drain(&mut records);
    let requests =
        records.into_iter().filter_map(|r| if let Record::Request(r) = r { Some(*r) } else { None });
    let [record] = requests.collect::<Vec<_>>().try_into().expect("one record");
    record
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_to_the_policy_from_its_beginning_to_its_end() {
    let told = Arc::default();
    let shared = shared(Clock::virtual_time(1_000, 0), &told, Duration::from_secs(9));
    for port in [1, 2] {
        shared.fleet.add(WorkerUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap()).unwrap();
    }
    let mut journey = begin(&shared);
    let first = journey.choose(shared.fleet.choose(Wanted::default(), &RequestView::default(), &[]).unwrap());
    journey.sending(true);
    tokio::time::advance(Duration::from_millis(3)).await;
    journey.attempt_failed(&first, None, "died".to_owned());
    assert_eq!((first.in_flight(), journey.record().same_host), (0, None));
    let second =
        journey.choose(shared.fleet.choose(Wanted::default(), &RequestView::default(), &[first.id]).unwrap());
    tokio::time::advance(Duration::from_millis(5)).await;
    drop(journey);
    // Events wait for the next choice.
    shared.fleet.choose(Wanted::default(), &RequestView::default(), &[]).unwrap();
    let told: Vec<_> = told.lock().unwrap().iter().filter_map(attempt).collect();
    let end = |worker: &Worker, ms: u64| (worker.id, Some(ms * 1_000));
    let expected = [(first.id, None), end(&first, 3), (second.id, None), end(&second, 5), (first.id, None)];
    assert_eq!(told, expected, "each one routed, and each but the last ended");
    assert_eq!(record(&shared).attempts, 2);
}

/// Worker, and how long an attempt had taken when it ended.
fn attempt(event: &Event) -> Option<(WorkerId, Option<u64>)> {
    match event {
        Event::Routed { worker, .. } => Some((*worker, None)),
        Event::Ended { worker, latency_us, ok: false, .. } => Some((*worker, Some(*latency_us))),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn who_drops_a_request_says_how_it_ended_and_no_time_out_is_too_long() {
    let shared = shared(Clock::virtual_time(1_000, 0), &Arc::default(), Duration::MAX);
    let journey = begin(&shared);
    assert!(!journey.is_late(u64::MAX));
    drop(journey);
    assert_eq!(record(&shared).outcome, Outcome::ClientGone);
    shared.cut.now();
    drop(begin(&shared));
    assert_eq!(record(&shared).outcome, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn what_ends_at_a_worker_that_has_left_is_not_told_of_whoever_has_its_slot_now() {
    let told = Arc::default();
    let shared = shared(Clock::virtual_time(1_000, 0), &told, Duration::from_secs(9));
    let url = |port| WorkerUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let left = shared.fleet.add(url(1)).unwrap();
    let mut journey = begin(&shared);
    journey.choose(shared.fleet.choose(Wanted::default(), &RequestView::default(), &[]).unwrap());
    shared.fleet.remove(&left);
    let joined = shared.fleet.add(url(2)).unwrap();
    assert_eq!(joined.id, left.id);
    drop(journey);
    shared.fleet.choose(Wanted::default(), &RequestView::default(), &[]).unwrap();
    let told: Vec<_> = told.lock().unwrap().iter().filter_map(attempt).collect();
    assert_eq!(told, [(left.id, None), (joined.id, None)], "two were routed, and none ended");
}
