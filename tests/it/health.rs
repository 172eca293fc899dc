//! Health checks of single workers: what was said about one comes before the flags, and may change while it runs.

use std::time::Duration;

use milepost::config::worker_url::WorkerUrl;
use milepost::fleet::spec::{HealthOverrides, WorkerSettings, WorkerSpec};
use milepost::net::PipeNet;
use milepost::trace::record::WorkerRecord;

use crate::piped::{self, PipedRouter};

fn settings(health: HealthOverrides) -> WorkerSettings {
    WorkerSettings { health, ..WorkerSettings::default() }
}

#[tokio::test(start_paused = true)]
async fn one_worker_is_checked_as_was_said_about_it_and_a_change_takes_effect() {
    // Nothing listens there, so every check fails.
    let router = PipedRouter::start(&PipeNet::default(), &[], |c| c.health.enabled = true);
    let unchecked = HealthOverrides { disabled: Some(true), ..HealthOverrides::default() };
    let url = WorkerUrl::parse(&piped::url(1)).unwrap();
    let spec = WorkerSpec { settings: settings(unchecked), ..WorkerSpec::from(url) };
    let worker = router.shared.fleet.add(spec).unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert!(worker.is_healthy(), "it is not checked");

    let often = HealthOverrides {
        disabled: Some(false),
        interval: Some(Duration::from_secs(2)),
        failure_threshold: Some(2),
        ..HealthOverrides::default()
    };
    worker.set_settings(settings(often));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(worker.is_healthy(), "one failure is not two");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!worker.is_healthy(), "the second check is two seconds after the first");

    worker.set_settings(settings(HealthOverrides { disabled: Some(true), ..HealthOverrides::default() }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(worker.is_healthy());
    let (_, workers) = router.finish().await;
    let events: Vec<&str> = workers.iter().map(|w| w.event.as_str()).collect();
    assert_eq!(events, ["added", "unhealthy", "healthy"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_can_be_checked_where_the_router_checks_none() {
    let router = PipedRouter::start(&PipeNet::default(), &[], |_| {});
    let checked = HealthOverrides { disabled: Some(false), ..HealthOverrides::default() };
    let url = WorkerUrl::parse(&piped::url(1)).unwrap();
    let spec = WorkerSpec { settings: settings(checked), ..WorkerSpec::from(url) };
    let worker = router.shared.fleet.add(spec).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!worker.is_healthy() && router.readiness().await == 503);
    router.finish().await;
}

/// A wrong port must not be silent until `--worker-startup-timeout-secs` have passed, and a model that loads must not fill the log.
#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_answer_is_told_of_ever_more_rarely() {
    let router = PipedRouter::start(&PipeNet::default(), &[piped::url(1)], |c| c.health.enabled = true);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (_, workers) = router.finish().await;
    let told: Vec<_> = workers.iter().filter(|w| w.event == "no_answer_yet").collect();
    let secs = |w: &WorkerRecord| (w.mono_ns - workers[0].mono_ns) / 1_000_000_000;
    assert!(
        told.iter().map(|w| secs(w)).zip([5, 10, 20, 40, 80]).all(|(at, due)| (due..due + 3).contains(&at))
    );
    assert_eq!(told.len(), 5);
    let why = told[0].detail.as_deref().unwrap();
    assert!(why.starts_with("connect: ") && why.ends_with(" s so far, still trying"), "{why}");
}
