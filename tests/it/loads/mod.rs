//! What servers say of their load, as a policy sees it: servers that tell, lie, hang, answer something else, die, come back.
//!
//! Over pipes and in virtual time, so a second is a second. A server's answer is what the test last told it to answer.

mod server;

use std::sync::atomic::Ordering;
use std::time::Duration;

use milepost::fleet::loads::LoadConfig;
use milepost::net::PipeNet;
use milepost_policies::{Labels, Needs};
use tokio::time::sleep;

use self::server::{LOADS, Reply, Server, Watched};
use crate::harness::post;
use crate::piped::PipedRouter;

async fn secs(secs: u64) {
    sleep(Duration::from_secs(secs)).await;
}

/// `/v1/loads` of one rank with so many waiting.
fn queue(waiting: u32) -> Reply {
    Reply::Body(format!(r#"{{"loads":[{{"dp_rank":0,"num_waiting_reqs":{waiting},"num_running_reqs":2}}]}}"#))
}

#[tokio::test(start_paused = true)]
async fn a_policy_sees_what_each_server_says_of_itself_and_how_old_that_is() {
    let net = PipeNet::default();
    let newest = r#"{"loads":[{"dp_rank":0,"num_running_reqs":5,"num_waiting_reqs":3,"max_running_requests":16,"token_usage":0.25,"gen_throughput":120.5}]}"#;
    let older = r#"[{"dp_rank":0,"num_reqs":9,"num_waiting_reqs":2,"num_tokens":4000}]"#;
    let (a, b) = (Server::start(&net, 1, LOADS, newest), Server::start(&net, 2, "/get_load", older));
    let watched = Watched::start(&net, &[&a, &b]);
    let before = watched.views().await;
    assert!(before.iter().all(|view| view.queue_depth.is_none() && view.server_load_age_us.is_none()));
    secs(10).await;
    let views = watched.views().await;
    assert_eq!((views[0].queue_depth, views[0].running, views[0].kv_usage), (Some(3), Some(5), Some(0.25)));
    assert_eq!((views[0].throughput_tokens_per_s, views[0].max_running_requests), (Some(120.5), Some(16)));
    assert_eq!((views[1].queue_depth, views[1].running, views[1].kv_usage), (Some(2), Some(7), None));
    let asked = a.asked();
    assert!((9..=11).contains(&asked.len()), "once a second: {asked:?}");
    let last = asked.last().unwrap().at;
    assert_eq!(views[0].server_load_age_us.map(u128::from), Some(last.elapsed().as_micros()));
    assert!(asked.iter().all(|question| question.connection == asked[0].connection), "on one connection");
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_number_that_cannot_be_is_unknown_to_the_policy_and_the_others_count() {
    let net = PipeNet::default();
    let lies =
        r#"{"loads":[{"num_waiting_reqs":4e9,"num_running_reqs":2,"token_usage":7.3,"gen_throughput":-1}]}"#;
    let server = Server::start(&net, 1, LOADS, lies);
    let watched = Watched::start(&net, &[&server]);
    secs(2).await;
    let view = watched.views().await[0];
    assert_eq!((view.queue_depth, view.running, view.kv_usage), (None, Some(2), None));
    assert_eq!(view.throughput_tokens_per_s, None);
    assert!(view.server_load_age_us.is_some());
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_answer_is_unknown_until_there_is_one_again() {
    let body = |text: &str| Reply::Body(text.to_owned());
    for silence in [
        body("<html><body>Service is busy</body></html>"),
        body(r#"{"workers":{"http://w:1":{"loads":[]}}}"#),
        body(r#"{"loads":[{"num_waiting_reqs":NaN}]}"#),
        body(r#"{"loads":[{"num_waiting_reqs":-1,"num_running_reqs":-1}]}"#),
        body(r#"[{"dp_rank":0,"num_waiting_reqs":0},{"dp_rank":0,"num_waiting_reqs":9}]"#),
        body(""),
        Reply::Routed(r#"{"loads":[{"num_waiting_reqs":0}]}"#.to_owned()),
        Reply::Status(401),
        Reply::Status(404),
        Reply::Status(503),
        Reply::Long(10_000_000),
        Reply::Cut(r#"{"loads":[{"num_waiting_reqs":0}]}"#.to_owned()),
        Reply::Hang,
        Reply::HangUp,
    ] {
        let net = PipeNet::default();
        let (silent, other) = (Server::start(&net, 1, LOADS, "{}"), Server::start(&net, 2, LOADS, "{}"));
        silent.says(LOADS, queue(7));
        other.says(LOADS, queue(4));
        let watched = Watched::start(&net, &[&silent, &other]);
        secs(2).await;
        assert_eq!(watched.queues().await, [Some(7), Some(4)], "{silence:?}");
        silent.says(LOADS, silence.clone());
        // An interval, and where it hangs its time.
        secs(4).await;
        assert_eq!(watched.queues().await, [None, Some(4)], "{silence:?}");
        assert_eq!(watched.views().await[0].server_load_age_us, None, "{silence:?}");
        assert_eq!(silent.open.1.load(Ordering::Relaxed), 1, "one question at a time: {silence:?}");
        silent.says(LOADS, queue(8));
        secs(4).await;
        assert_eq!(watched.queues().await, [Some(8), Some(4)], "{silence:?}");
        watched.finish().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_is_unknown_and_its_successor_is_asked_from_the_first_endpoint_on() {
    let net = PipeNet::default();
    let server = Server::start(&net, 1, "/metrics", "sglang:num_queue_reqs{tp_rank=\"0\"} 6.0\n");
    let other = Server::start(&net, 2, LOADS, "{}");
    other.says(LOADS, queue(1));
    let watched = Watched::start(&net, &[&other, &server]);
    secs(3).await;
    assert_eq!(watched.queues().await, [Some(1), Some(6)]);
    assert_eq!(server.paths()[..4], [LOADS, "/get_load", "/metrics", "/metrics"]);
    net.close(1);
    server.says("/metrics", Reply::HangUp);
    secs(3).await;
    assert_eq!(watched.queues().await, [Some(1), None]);
    server.asked();
    server.says(LOADS, queue(2));
    server.listen(&net);
    secs(2).await;
    assert_eq!(watched.queues().await, [Some(1), Some(2)]);
    assert!(server.paths().iter().all(|path| path == LOADS), "nobody asks the page of metrics any more");
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_upgraded_without_being_away_is_found_out_in_a_minute() {
    let net = PipeNet::default();
    let server = Server::start(&net, 1, "/metrics", "sglang_num_queue_reqs 6\nsglang_token_usage 0.5\n");
    server.says("/get_load", Reply::Body(r#"{"load":4000}"#.to_owned()));
    let watched = Watched::start(&net, &[&server]);
    secs(30).await;
    let paths = server.paths();
    assert_eq!(paths[..3], [LOADS, "/get_load", "/metrics"]);
    assert!(paths.len() > 25 && paths[3..].iter().all(|path| path == "/metrics"), "{paths:?}");
    assert_eq!(watched.views().await[0].kv_usage, Some(0.5));
    server.says(LOADS, queue(9));
    secs(60).await;
    assert_eq!(watched.queues().await, [Some(9)]);
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_tells_its_load_nowhere_is_asked_once_a_minute() {
    let net = PipeNet::default();
    let server = Server::start(&net, 1, "/get_load", r#"{"load":0}"#);
    let watched = Watched::start(&net, &[&server]);
    secs(130).await;
    assert_eq!(server.paths(), [LOADS, "/get_load", "/metrics"].repeat(3));
    assert_eq!(watched.queues().await, [None], "nothing waits: that is not what it said");
    assert!(
        watched
            .router
            .metrics()
            .await
            .contains("milepost_worker_server_load_failures_total{worker=\"http://127.0.0.1:1\"} 3")
    );
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_ranks_of_a_server_are_told_apart_by_one_question() {
    let net = PipeNet::default();
    let two = r#"{"loads":[{"dp_rank":1,"num_waiting_reqs":5},{"dp_rank":0,"num_waiting_reqs":2}]}"#;
    let server = Server::start(&net, 1, LOADS, two);
    server.says("/server_info", Reply::Body(r#"{"version":"0.5.23","dp_size":3}"#.to_owned()));
    let aware = Watched::with(&net, &[&server], |config| config.dp_aware = true);
    secs(5).await;
    assert_eq!(aware.queues().await, [Some(2), Some(5), None], "of the third it said nothing");
    let questions = server.paths().len();
    assert!((4..=5).contains(&questions), "{questions} in 5 s");
    // Whoever asked goes; the next one asks in its place.
    let first = aware.router.shared.fleet.workers()[0].clone();
    assert!(aware.router.shared.fleet.remove(&first));
    server.says(LOADS, Reply::Body(two.replace(":5", ":6")));
    secs(2).await;
    assert_eq!(aware.queues().await, [Some(6), None]);
    aware.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_ranks_are_one_worker_is_their_sum() {
    let net = PipeNet::default();
    let two = r#"{"loads":[{"dp_rank":1,"num_waiting_reqs":5,"token_usage":0.5},{"dp_rank":0,"num_waiting_reqs":2,"token_usage":1.0}]}"#;
    let server = Server::start(&net, 1, LOADS, two);
    let watched = Watched::start(&net, &[&server]);
    secs(2).await;
    let view = watched.views().await[0];
    assert_eq!((view.queue_depth, view.kv_usage, view.running), (Some(7), Some(0.75), None));
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_that_hangs_behind_a_server_that_answers_is_unknown() {
    let net = PipeNet::default();
    let hung = r#"{"loads":[{"timestamp":1795299930.19,"num_waiting_reqs":0}]}"#;
    let server = Server::start(&net, 1, LOADS, hung);
    let watched = Watched::start(&net, &[&server]);
    secs(3).await;
    assert_eq!(watched.queues().await, [Some(0)]);
    secs(5).await;
    assert_eq!(watched.queues().await, [None], "the same moment's numbers, more than five seconds long");
    server.says(LOADS, Reply::Body(hung.replace("30.19", "47.5")));
    secs(1).await;
    assert_eq!(watched.queues().await, [Some(0)]);
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_asked_no_more_and_whoever_gets_the_slot_is_unknown() {
    let net = PipeNet::default();
    let (stays, leaves) = (Server::start(&net, 1, LOADS, "{}"), Server::start(&net, 2, LOADS, "{}"));
    stays.says(LOADS, queue(1));
    leaves.says(LOADS, queue(2));
    let watched = Watched::start(&net, &[&stays, &leaves]);
    secs(2).await;
    leaves.says(LOADS, Reply::Hang);
    secs(2).await;
    assert_eq!(leaves.open.0.load(Ordering::Relaxed), 1, "a question is under way");
    let fleet = &watched.router.shared.fleet;
    assert!(fleet.remove(&fleet.workers()[1].clone()));
    leaves.asked();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(leaves.open.0.load(Ordering::Relaxed), 0, "and is taken back");
    let newcomer = Server::start(&net, 3, LOADS, "<html>");
    let added = format!(r#"{{"url":"{}"}}"#, newcomer.url);
    assert_eq!(watched.router.ask(post("/workers", &added)).await.status, 202);
    secs(5).await;
    assert_eq!(watched.queues().await, [Some(1), None]);
    assert_eq!(leaves.paths(), [""; 0]);
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_while_unhealthy_and_what_was_said_before_does_not_count_after() {
    let net = PipeNet::default();
    let server = Server::start(&net, 1, LOADS, "{}");
    server.says(LOADS, queue(3));
    server.says("/health", Reply::Status(200));
    let watched = Watched::with(&net, &[&server], |config| {
        config.health.enabled = true;
        config.health.interval = Duration::from_secs(10);
        config.health.failure_threshold = 1;
        config.health.success_threshold = 1;
    });
    secs(5).await;
    assert_eq!(watched.queues().await, [Some(3)]);
    server.says("/health", Reply::Status(503));
    secs(10).await;
    server.asked();
    secs(8).await;
    assert_eq!(server.paths(), [""; 0], "while it is away");
    server.says("/health", Reply::Status(200));
    server.says(LOADS, Reply::Hang);
    secs(10).await;
    assert_eq!(watched.queues().await, [None]);
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn where_no_policy_reads_it_no_server_is_asked_unless_somebody_wants_the_gauges() {
    let series = |page: &str| page.lines().filter(|line| line.starts_with("milepost_worker_server_")).count();
    let net = PipeNet::default();
    let server = Server::start(&net, 1, LOADS, "{}");
    server.says(
        LOADS,
        Reply::Body(r#"{"loads":[{"num_waiting_reqs":3,"num_running_reqs":2,"token_usage":0.5}]}"#.into()),
    );
    let router = PipedRouter::start(&net, std::slice::from_ref(&server.url), |config| {
        config.policy = "power_of_two".to_owned();
    });
    secs(60).await;
    assert_eq!(server.paths(), [""; 0]);
    assert_eq!(series(&router.metrics().await), 0);
    router.finish().await;

    let monitor = LoadConfig { interval: Duration::from_secs(10), always: true };
    let watched = Watched::needing(Needs::default(), &net, &[&server], |config| config.loads = monitor);
    secs(95).await;
    let questions = server.paths().len();
    assert!((9..=10).contains(&questions), "every ten seconds: {questions}");
    let page = watched.router.metrics().await;
    for line in [
        "milepost_worker_server_queue_requests{worker=\"http://127.0.0.1:1\"} 3",
        "milepost_worker_server_running_requests{worker=\"http://127.0.0.1:1\"} 2",
        "milepost_worker_server_kv_usage_ratio{worker=\"http://127.0.0.1:1\"} 0.5",
        "milepost_worker_server_load_failures_total{worker=\"http://127.0.0.1:1\"} 0",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    assert_eq!(watched.queues().await, [None], "no policy wanted to know");
    server.says(LOADS, Reply::Body("<html>".to_owned()));
    secs(20).await;
    let page = watched.router.metrics().await;
    assert!(
        !page.contains("server_queue_requests")
            && page.contains("server_load_failures_total{worker=\"http://127.0.0.1:1\"} 2")
    );
    let age = page.lines().find_map(|line| {
        line.strip_prefix("milepost_worker_server_load_age_seconds{worker=\"http://127.0.0.1:1\"} ")
    });
    let age: f64 = age.expect("an age").parse().unwrap();
    assert!((20.0..30.1).contains(&age), "since it last told: {age}");
    watched.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_says_of_a_worker_reaches_the_policy_and_so_does_a_change() {
    let net = PipeNet::default();
    let (a, b) = (Server::start(&net, 1, LOADS, "{}"), Server::start(&net, 2, LOADS, "{}"));
    let watched = Watched::start(&net, &[&a]);
    let added = format!(r#"{{"url":"{}","priority":80,"labels":{{"rack":"r1"}}}}"#, b.url);
    let answer = watched.router.ask(post("/workers", &added)).await;
    let at = answer.header("location").unwrap().to_owned();
    let said = async || -> Vec<(u32, Labels)> {
        watched.labelled_views().await.into_iter().map(|(view, labels)| (view.priority, labels)).collect()
    };
    let labels =
        |of: &[(&str, &str)]| of.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Labels>();
    assert_eq!(said().await, [(50, labels(&[])), (80, labels(&[("rack", "r1")]))]);
    let change = r#"{"priority":10,"labels":{"gpu":"h100"}}"#;
    let put = post(&at, change).replacen("POST", "PUT", 1);
    assert_eq!(watched.router.ask(put).await.status, 202);
    assert_eq!(said().await, [(50, labels(&[])), (10, labels(&[("gpu", "h100"), ("rack", "r1")]))]);
    watched.finish().await;
}
