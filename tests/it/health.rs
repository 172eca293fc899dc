//! Health checks of single workers: what was said about one comes before the flags, and may change while it runs.

use std::time::Duration;

use milepost::config::worker_url::WorkerUrl;
use milepost::fleet::spec::{HealthOverrides, WorkerSettings, WorkerSpec};
use milepost::net::PipeNet;

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
