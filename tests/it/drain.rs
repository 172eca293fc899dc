//! The end of a router: not ready first, then deaf, then gone; and a successor on its ports before it is gone.

use std::net::SocketAddr;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::{RouteConfig, worker_urls};
use milepost::net::{Connector, Io, PipeNet};
use milepost::proxy::serve::Router;
use milepost::trace::record::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, chunk, end, find, ok, post, stream_head,
};

/// Asks over a pipe and leaves it open.
pub async fn ask_pipe(pipe: &mut Io, path: &str) -> String {
    pipe.write_all(format!("GET {path} HTTP/1.1\r\nhost: r\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = Vec::new();
    while !is_whole(&text) {
        assert_ne!(pipe.read_buf(&mut text).await.unwrap(), 0, "closed before an answer");
    }
    String::from_utf8(text).unwrap()
}

/// Head and body are there.
fn is_whole(text: &[u8]) -> bool {
    let Some(head_end) = find(text, b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&text[..head_end]).into_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect(&head);
    text.len() == head_end + 4 + length.parse::<usize>().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stop_says_not_ready_at_once_serves_on_and_then_closes_what_is_idle() {
    let net = PipeNet::default();
    let (listener, metrics) = (net.listen(1), net.listen(2));
    let workers = worker_urls(&["http://127.0.0.1:9".to_owned()], "pipe", 1).unwrap();
    let drain_delay = Duration::from_secs(10);
    let mut config = RouteConfig { workers, drain_delay, ..RouteConfig::default() };
    config.health.enabled = false;
    let connector = Connector::Pipes(net.clone());
    let router = Router::start(config, "pipe", Clock::virtual_time(1_000, 0), connector).unwrap();
    let shared = Arc::clone(router.shared());
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(router.serve(listener, Some(metrics), stopped));

    let mut silent = net.connect(1).await.unwrap();
    let mut idle = net.connect(1).await.unwrap();
    assert!(ask_pipe(&mut idle, "/readiness").await.starts_with("HTTP/1.1 200"));
    let began = Instant::now();
    stop.send_replace(true);
    // At once, and to the end of the delay; on connections that are there and on new ones.
    for after_ms in [1, 9_999] {
        sleep_until(began + Duration::from_millis(after_ms)).await;
        let mut fresh = net.connect(1).await.unwrap();
        let unready = ask_pipe(&mut fresh, "/readiness").await;
        assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("shutting down"), "{unready}");
        assert!(ask_pipe(&mut fresh, "/health").await.starts_with("HTTP/1.1 200"), "the process is well");
        assert!(ask_pipe(&mut idle, "/workers").await.starts_with("HTTP/1.1 200"), "{after_ms}");
        let mut scraper = net.connect(2).await.unwrap();
        assert!(ask_pipe(&mut scraper, "/metrics").await.starts_with("HTTP/1.1 200"), "{after_ms}");
    }
    serving.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 10, "nothing is left to wait for");
    for port in [1, 2] {
        assert!(net.connect(port).await.is_err(), "port {port} is closed");
    }
    for pipe in [&mut silent, &mut idle] {
        assert_eq!(pipe.read(&mut [0; 1]).await.unwrap(), 0, "and so is what was open");
    }
    assert_eq!(shared.sink.offered(), 0, "without a trace nothing is offered");
}

/// Binds as soon as the port is free.
async fn bind(addr: SocketAddr) -> TcpListener {
    let free = async {
        loop {
            match TcpListener::bind(addr).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the port is freed")
}

#[tokio::test]
async fn a_successor_takes_both_ports_while_the_old_router_still_streams() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let event = "data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n";
    let old_worker = Worker::start(move |_| {
        let wait = Step::Wait(Arc::clone(&wait));
        vec![stream_head(), chunk(event), wait, chunk("data: [DONE]\n\n"), end()]
    })
    .await;
    let new_worker = Worker::start(|_| ok()).await;
    let (listener, metrics) =
        (bind(([127, 0, 0, 1], 0).into()).await, bind(([127, 0, 0, 1], 0).into()).await);
    let metrics_addr = metrics.local_addr().unwrap();
    let old = TestRouter::on(listener, Some(metrics), from_ref(&old_worker.url), |_| {});
    let mut client = Client::connect(old.addr).await;
    client.send(post("/generate", r#"{"text":"a","stream":true}"#)).await;
    client.read_until("data: ").await;
    old.stop();

    let (listener, metrics) = (bind(old.addr).await, bind(metrics_addr).await);
    let new = TestRouter::on(listener, Some(metrics), from_ref(&new_worker.url), |_| {});
    let response = ask(new.addr, post("/generate", r#"{"text":"b"}"#)).await;
    assert_eq!(response.header("x-worker-url"), Some(new_worker.url.as_str()));
    let page = ask(metrics_addr, "GET /metrics HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert!(
        page.text().contains("smg_http_requests_total{method=\"POST\",path=\"/generate\"} 1"),
        "it is the successor's"
    );

    go.notify_one();
    let response = client.response().await;
    assert!(response.whole && response.text().ends_with("data: [DONE]\n\n"), "{response:?}");
    for router in [old, new] {
        let outcomes: Vec<Outcome> = router.finish_requests().await.iter().map(|r| r.outcome).collect();
        assert_eq!(outcomes, [Outcome::Done]);
    }
}

/// On one thread nothing runs between the end and the count, so a task that was only told to end would still be there.
#[tokio::test]
async fn a_router_that_has_ended_has_no_task_left() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let net = PipeNet::default();
    let workers = worker_urls(&["http://127.0.0.1:1".to_owned()], "127.0.0.1", 30_000).unwrap();
    let config = RouteConfig { workers, ..RouteConfig::default() };
    let router = Router::start(config, "pipe", Clock::system(), Connector::Pipes(net.clone())).unwrap();
    assert_eq!(tasks(), 1, "the worker is watched");
    let (_stop, stopped) = watch::channel(true);
    router.serve(net.listen(30_000), None, stopped).await;
    assert_eq!(tasks(), 0);
}
