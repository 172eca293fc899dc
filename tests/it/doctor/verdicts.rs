//! One verdict each: what cannot be used, what is missing, what cannot be told.

use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::doctor::report::{Report, Stop, Verdict};
use milepost::doctor::{DoctorConfig, Rounds, run};
use milepost::net::{Connector, PipeNet};
use tokio::time::Instant;

use super::engine::{Habit, start};
use super::{config, examine, masked};
use crate::harness::{Worker, dead_url, json};
use crate::piped::url;

async fn in_virtual_time(net: &PipeNet, urls: &[String], change: impl FnOnce(&mut DoctorConfig)) -> Report {
    let mut config = config(urls, Connector::Pipes(net.clone()));
    change(&mut config);
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    run(&config, &clock, &Arc::new(Rounds::default())).await
}

async fn one(habit: Habit) -> (Report, Vec<String>, Vec<String>, u32) {
    let net = PipeNet::default();
    let (url, engine) = start(&net, 1, habit);
    let report = in_virtual_time(&net, &[url], |_| {}).await;
    // What was aborted ends with its next token.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let engine = engine.lock().unwrap();
    (report, engine.long.clone(), engine.aborted.clone(), engine.running)
}

fn stop(report: &Report) -> &Stop {
    report.targets[0].stop.as_ref().expect("it was looked at")
}

#[tokio::test]
async fn what_is_no_sglang_server_says_what_it_is_instead() {
    let plain = Worker::start(|_| json("{\"hello\":\"world\"}")).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let no_http = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let report = examine(&[plain.url.clone(), no_http, dead_url()], |_| {}).await;
    assert_eq!(masked(&report), include_str!("foreign.txt"), "\n{}", report.text());
    assert_eq!(report.count(Verdict::Unusable), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_requests_fail_cannot_be_used() {
    let net = PipeNet::default();
    let (url, _engine) = start(&net, 1, Habit::Good);
    let report =
        in_virtual_time(&net, &[url], |config| config.limits.answer = Duration::from_millis(50)).await;
    let text = report.text();
    assert!(text.contains("UNUSABLE"), "{text}");
    assert!(text.contains("a streamed request of a few tokens fails: no whole answer in 0 s"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn twenty_dead_servers_do_not_hold_up_one_that_lives() {
    let net = PipeNet::default();
    let mut urls: Vec<String> = Vec::new();
    for port in 1..=20 {
        urls.push(start(&net, port, Habit::Hangs).0);
    }
    urls.push(start(&net, 21, Habit::Good).0);
    let began = Instant::now();
    let report = in_virtual_time(&net, &urls, |_| {}).await;
    // As long as one of them is waited for, and no longer.
    assert_eq!(began.elapsed().as_secs(), 9);
    assert_eq!((report.count(Verdict::Unusable), report.targets.len()), (20, 21));
    assert!(report.targets[0].findings[0].what.contains("no answer in 9.0 s"), "{:?}", report.targets[0]);
    assert_ne!(report.targets[20].verdict, Verdict::Unusable);
    assert!(report.targets[20].url == url(21), "in the order in which they were named");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_drops_the_work_is_seen_to_and_is_not_told_to_abort() {
    let (report, long, aborted, running) = one(Habit::Good).await;
    assert!(matches!(stop(&report), Stop::Ends { after_ns: 0..1_000_000_000, .. }), "{:?}", stop(&report));
    assert!(
        report.text().contains("keep-alive   an idle connection is closed after 5.0 s"),
        "{}",
        report.text()
    );
    assert_eq!((long.len(), aborted.len(), running), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_runs_on_is_told_to_abort_that_request_and_nothing_is_left() {
    let (report, long, aborted, running) = one(Habit::RunsOn).await;
    assert!(matches!(stop(&report), Stop::RunsOn { for_ns: 5_000_000_000.., .. }), "{:?}", stop(&report));
    assert!(report.text().contains("does NOT end its request"), "{}", report.text());
    assert_eq!((aborted, running), (long, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_client_is_not_taken_for_the_request_that_was_left() {
    let (report, long, aborted, running) = one(Habit::IsJoined).await;
    let Stop::Untold { why } = stop(&report) else { panic!("{:?}", stop(&report)) };
    assert!(why.contains("still ran when the request had been aborted by name"), "{why}");
    assert!(!aborted.is_empty() && aborted.iter().all(|rid| *rid == long[0]), "{aborted:?}");
    assert_eq!(running, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hides_what_it_is_and_generates_can_be_used() {
    let (report, ..) = one(Habit::HidesItself).await;
    assert_ne!(report.targets[0].verdict, Verdict::Unusable);
    assert!(report.text().contains("refuses what would describe it (status 401)"), "{}", report.text());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_not_claimed() {
    for (habit, words, begun) in [
        (Habit::IsBusy(3), "others' requests are running", 0),
        (Habit::Hides, "/v1/loads did not show the request while it ran", 1),
        (Habit::IsSilent, "tells its load nowhere", 0),
    ] {
        let (report, long, aborted, running) = one(habit).await;
        let Stop::Untold { why } = stop(&report) else { panic!("{habit:?}: {:?}", stop(&report)) };
        assert!(why.contains(words), "{why}");
        assert_eq!((long.len(), running), (begun, 0), "{habit:?}");
        assert_eq!(aborted, long, "what was not seen to end is aborted by name");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_early_is_missing_something() {
    let (report, ..) = one(Habit::ClosesAfter(Duration::from_secs(2))).await;
    let text = report.text();
    assert!(
        text.contains("it closes idle connections after 2.0 s, and a router keeps them for 4 s"),
        "{text}"
    );
    assert!(text.contains("SGLANG_TIMEOUT_KEEP_ALIVE=5"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_examination_that_is_interrupted_leaves_nothing_running() {
    let net = PipeNet::default();
    let (url, engine) = start(&net, 1, Habit::RunsOn);
    let config = config(&[url], Connector::Pipes(net.clone()));
    let clock = Clock::virtual_time(1_000_000_000, 1_700_000_000_000_000_000);
    let rounds = Arc::new(Rounds::default());
    let interrupted = tokio::time::timeout(Duration::from_secs(2), run(&config, &clock, &rounds)).await;
    assert!(interrupted.is_err() && engine.lock().unwrap().running == 1, "it is in the middle of it");
    rounds.abort_open(&clock).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let engine = engine.lock().unwrap();
    assert_eq!((&engine.aborted, engine.running), (&engine.long, 0));
}
