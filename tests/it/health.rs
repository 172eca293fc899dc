//! Health checks of single workers: what was said about one comes before the flags, and may change while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use milepost::config::access::ApiKey;
use milepost::config::worker_url::WorkerUrl;
use milepost::fleet::spec::{HealthOverrides, WorkerSettings, WorkerSpec};
use milepost::net::PipeNet;
use milepost::trace::record::WorkerRecord;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::harness::{TestRouter, ask, post, read_message};
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

/// A server that generates a token for `/health`, as SGLang 0.5.23 does, and so fails its checks while it is paused. The
/// number counts the checks.
fn engine_that_can_pause(net: &PipeNet, port: u16) -> Arc<AtomicUsize> {
    let mut listener = net.listen(port);
    let (paused, checks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&checks);
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let (paused, counted) = (Arc::clone(&paused), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while let Some((head, _)) = read_message(&mut io, &mut buffer).await {
                    let path = head.split(' ').nth(1).unwrap();
                    match path {
                        "/pause_generation" => paused.store(true, Ordering::Relaxed),
                        "/continue_generation" => paused.store(false, Ordering::Relaxed),
                        "/health" => _ = counted.fetch_add(1, Ordering::Relaxed),
                        _ => {}
                    }
                    let code = if path == "/health" && paused.load(Ordering::Relaxed) { 503 } else { 200 };
                    let answer = format!("HTTP/1.1 {code} Said\r\ncontent-length: 2\r\n\r\n{{}}");
                    io.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    checks
}

#[tokio::test(start_paused = true)]
async fn engines_that_were_told_to_go_on_are_checked_then_and_not_a_minute_later() {
    let net = PipeNet::default();
    let checks = engine_that_can_pause(&net, 1);
    let router = PipedRouter::start(&net, &[piped::url(1)], |c| c.health.enabled = true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(router.ask(post("/pause_generation", "{}")).await.status, 200);
    tokio::time::sleep(Duration::from_secs(185)).await;
    assert_eq!(router.readiness().await, 503, "three checks failed");

    // Nothing helps it but to be told to go on.
    assert_eq!(router.ask(post("/update_weights_from_disk", "{}")).await.status, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(router.readiness().await, 503);

    assert_eq!(router.ask(post("/continue_generation", "{}")).await.status, 200);
    let (soon, before) = (router.elapsed() + Duration::from_secs(1), checks.load(Ordering::Relaxed));
    while router.readiness().await != 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(router.elapsed() < soon, "it waits for the interval");
    }
    let made = checks.load(Ordering::Relaxed);
    assert!(made - before <= 2, "as many as have to pass, and no more");
    tokio::time::sleep(Duration::from_secs(58)).await;
    assert_eq!(checks.load(Ordering::Relaxed), made, "the next one is due when it always was");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(checks.load(Ordering::Relaxed), made + 1);
    let (_, workers) = router.finish().await;
    let events: Vec<&str> = workers.iter().map(|w| w.event.as_str()).filter(|e| *e != "described").collect();
    assert_eq!(events, ["added", "healthy", "unhealthy", "healthy"]);
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

#[tokio::test]
async fn a_worker_that_wants_a_key_is_shown_as_such() {
    let open = ["/health"];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while let Some((head, _)) = read_message(&mut stream, &mut buffer).await {
                    let free = open.iter().any(|path| head.contains(path))
                        || head.contains("authorization: Bearer right");
                    let status = if free { "200 OK" } else { "401 Unauthorized" };
                    let body = r#"{"version":"0.5.9"}"#;
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    for (key, wants) in [(None, true), (Some("wrong"), true), (Some("right"), false)] {
        let router = TestRouter::with_urls(std::slice::from_ref(&url), |c| {
            c.health.enabled = true;
            c.auth.api_key = key.and_then(ApiKey::new);
        })
        .await;
        let worker = Arc::clone(&router.shared.fleet.workers()[0]);
        while !worker.is_healthy()
            || (worker.wants_key(), worker.described().version.is_some()) != (wants, !wants)
        {
            tokio::task::yield_now().await;
        }
        let headers = key.map(|key| format!("authorization: Bearer {key}\r\n")).unwrap_or_default();
        let shown =
            ask(router.addr, format!("GET /workers HTTP/1.1\r\nhost: r\r\n{headers}\r\n")).await.json();
        assert_eq!(shown["workers"][0]["milepost"]["wants_key"], wants, "{key:?}");
        router.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_no_longer_wants_a_key_is_no_longer_shown_as_one() {
    let net = PipeNet::default();
    let mut listener = net.listen(1);
    let wants = Arc::new(AtomicBool::new(false));
    let locked = Arc::clone(&wants);
    tokio::spawn(async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let locked = Arc::clone(&locked);
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                while read_message(&mut io, &mut buffer).await.is_some() {
                    let status = if locked.load(Ordering::Relaxed) { 401 } else { 200 };
                    let body = r#"{"version":"0.5.9"}"#;
                    let answer =
                        format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    io.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    let router = PipedRouter::start(&net, &[piped::url(1)], |c| c.health.enabled = true);
    let worker = Arc::clone(&router.shared.fleet.workers()[0]);
    for locked in [false, true, false] {
        wants.store(locked, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((worker.wants_key(), worker.is_healthy()), (locked, !locked));
    }
    router.finish().await;
}
