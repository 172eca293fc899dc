//! Workers that come and go under load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::client::{Answer, generate, generate_stream, post};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::{Got, Reads, Step, Worker, done, event, ok, stream_head};

rows! {
    "Workers that come and go under load";
    a_worker_is_added by Pipes "a worker is added":
        "200 whole each time",
        "done 200, attempts 1; stamps to last_byte; 50 ms ×800",
        "kept";
    a_worker_is_removed by Pipes "one of two workers is removed; a stream is at it":
        "200 whole each time; the stream 200 whole",
        "done 200, attempts 1; stamps to last_byte; 5000 ms + done 200, attempts 1; stamps to last_byte; 50 ms ×800",
        "closed after 0 ms, kept";
    the_only_worker_is_removed by Pipes "the only worker is removed":
        "200 whole or 503 no_available_workers",
        "800 in all: done 200, attempts 1; stamps to last_byte + unreachable 503, attempts 0, error \"no_available_workers: no worker is available; GET /workers says why\"; stamps to body_read",
        "closed after 0 ms";
    a_worker_is_replaced by Pipes "one of two workers dies, and 3 s later another process is at its port":
        "200 whole each time",
        "800 in all: done 200, attempts 1; stamps to last_byte + done 200, attempts 2 (W0 connect: connection refused); stamps to last_byte + done 200, attempts 2, reconnects 1 (W0 connect: connection refused); stamps to last_byte",
        "ended by the worker, kept";
    the_only_worker_is_replaced by Pipes "the only worker dies, and 100 ms later another process is at its port; --disable-circuit-breaker":
        "200 whole each time",
        "800 in all: done 200, attempts 1; stamps to last_byte + done 200, attempts 3, reconnects 1 (W0 connect: connection refused); stamps to last_byte",
        "ended by the worker, kept";
    the_only_worker_is_replaced_with_a_breaker by Pipes "the only worker dies, and 100 ms later another process is at its port; the circuit breaker opens at the tenth refusal":
        "200 whole or 502 call_upstream_connection_failed or 503 no_available_workers",
        "800 in all: done 200, attempts 1; stamps to last_byte + unreachable 502, attempts 1, reconnects 1 (W0 connect: connection refused), error \"call_upstream_connection_failed: no worker could be reached; the last one said: connect: connection refused\"; stamps to decided + unreachable 502, attempts 2, reconnects 1 (W0 connect: connection refused), error \"call_upstream_connection_failed: no worker could be reached; the last one said: connect: connection refused\"; stamps to decided + unreachable 503, attempts 0, error \"no_available_workers: no worker is available; GET /workers says why\"; stamps to body_read",
        "ended by the worker";
    a_worker_dies_with_streams by Pipes "one of two workers dies with streams at it":
        "200 cut after 104 B, closed, 200 cut after 104 B, closed, 200 whole, 200 whole",
        "worker_reset 200, attempts 1, error \"the connection closed before the answer had ended\"; stamps to first_token; 0 ms + done 200, attempts 1; stamps to last_byte; 2000 ms + worker_reset 200, attempts 1, error \"the connection closed before the answer had ended\"; stamps to first_token; 0 ms + done 200, attempts 1; stamps to last_byte; 2000 ms",
        "ended by the worker ×2, kept ×2";
    a_name_gets_another_address by Pipes "the worker's name gets another address, and nobody is at the old one":
        "200 whole each time",
        "800 in all: done 200, attempts 1, reconnects 1; stamps to last_byte + done 200, attempts 1; stamps to last_byte",
        "ended by the worker, kept";
    a_name_gets_another_address_beside by Pipes "the worker's name gets another address, and the old one still answers":
        "200 whole, 200 whole; within a minute it is at the new one",
        "done 200, attempts 1; stamps to last_byte; 50 ms ×2",
        "kept ×2";
    a_name_is_nobodys by Pipes "the worker's name cannot be resolved any more, and it is there":
        "200 whole, 200 whole ten minutes later",
        "done 200, attempts 1; stamps to last_byte; 50 ms ×2",
        "kept ×2";
}

/// Clients that ask without pause.
const CLIENTS: usize = 8;
/// Requests of each.
const REQUESTS: usize = 100;

/// Time at a worker.
fn takes_50_ms(_: &Got) -> Vec<Step> {
    [vec![Step::Pause(Duration::from_millis(50))], ok()].concat()
}

/// Clients that ask for five seconds and more; what they saw.
struct Load(JoinSet<BTreeMap<String, usize>>);

impl Load {
    fn start(s: &Stage) -> Self {
        s.under_load();
        let door = s.door();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let door = door.clone();
            clients.spawn(async move {
                let mut seen = BTreeMap::new();
                let mut client = door.enter().await.unwrap();
                for _ in 0..REQUESTS {
                    client.send(generate()).await;
                    let answer = client.answer().await;
                    *seen.entry(answer.line()).or_default() += 1;
                    if answer.header("connection") == Some("close") || !answer.whole {
                        client = door.enter().await.unwrap();
                    }
                }
                seen
            });
        }
        Self(clients)
    }

    /// All answers are told; how many of each kind where they are not all the same.
    async fn end(self) -> String {
        let mut all: BTreeMap<String, usize> = BTreeMap::new();
        for (line, number) in self.0.join_all().await.into_iter().flatten() {
            *all.entry(line).or_default() += number;
        }
        assert_eq!(all.values().sum::<usize>(), CLIENTS * REQUESTS);
        let lines: Vec<String> = all.keys().cloned().collect();
        if lines.len() == 1 { format!("{} each time", lines[0]) } else { lines.join(" or ") }
    }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

async fn change(s: &Stage, request: String) -> Answer {
    let answer = s.ask(request).await;
    assert!(matches!(answer.status, Some(200..300)), "{}", answer.line());
    answer
}

async fn remove(s: &Stage, worker: &Worker) {
    change(s, format!("POST /remove_worker?url={} HTTP/1.1\r\nhost: r\r\ncontent-length: 0\r\n\r\n", worker.url))
        .await;
}

async fn a_worker_is_added(s: &Stage) -> String {
    s.worker(takes_50_ms).await;
    s.route(|_| {}).await;
    let load = Load::start(s);
    pause(1_000).await;
    let added = s.worker(takes_50_ms).await;
    change(s, post("/workers", &format!("{{\"url\":\"{}\"}}", added.url))).await;
    let seen = load.end().await;
    let share = added.requests().len();
    assert!((200..400).contains(&share), "it got {share} of the 640 that came after it");
    seen
}

async fn a_worker_is_removed(s: &Stage) -> String {
    let go = Arc::new(tokio::sync::Notify::new());
    let wait = Arc::clone(&go);
    let script = move |got: &Got| {
        if got.body.windows(6).any(|w| w == b"stream") {
            return vec![stream_head(), event(1), Step::Wait(Arc::clone(&wait)), done()];
        }
        takes_50_ms(got)
    };
    let leaving = s.worker(script).await;
    s.worker(takes_50_ms).await;
    s.route(|_| {}).await;
    let mut streaming = s.asking(generate_stream()).await;
    streaming.read_until("data: ").await;
    let load = Load::start(s);
    pause(1_000).await;
    remove(s, &leaving).await;
    pause(100).await;
    let got = leaving.requests().len();
    let seen = load.end().await;
    assert_eq!(leaving.requests().len(), got, "it gets no more");
    go.notify_one();
    format!("{seen}; the stream {}", streaming.answer().await.line())
}

async fn the_only_worker_is_removed(s: &Stage) -> String {
    let worker = s.worker(takes_50_ms).await;
    s.route(|_| {}).await;
    let load = Load::start(s);
    pause(1_000).await;
    remove(s, &worker).await;
    load.end().await
}

/// The worker's process ends, and after so many milliseconds another is at its port.
async fn replace(s: &Stage, worker: &Worker, after_ms: u64) -> Worker {
    worker.kill();
    s.pipes().close(worker.port());
    pause(after_ms).await;
    s.worker_at(worker.port(), Reads::Whole, takes_50_ms).await
}

async fn a_worker_is_replaced(s: &Stage) -> String {
    let first = s.worker(takes_50_ms).await;
    s.worker(takes_50_ms).await;
    s.route(|c| c.breaker.enabled = false).await;
    let load = Load::start(s);
    pause(1_025).await;
    let second = replace(s, &first, 3_000).await;
    let seen = load.end().await;
    assert!(second.requests().len() > 20, "it is used: {}", second.requests().len());
    seen
}

async fn the_only_worker_is_replaced(s: &Stage) -> String {
    only_replaced(s, false).await
}

async fn the_only_worker_is_replaced_with_a_breaker(s: &Stage) -> String {
    only_replaced(s, true).await
}

async fn only_replaced(s: &Stage, breaker: bool) -> String {
    let first = s.worker(takes_50_ms).await;
    s.route(|c| c.breaker.enabled = breaker).await;
    let load = Load::start(s);
    pause(1_025).await;
    replace(s, &first, 100).await;
    load.end().await
}

async fn a_worker_dies_with_streams(s: &Stage) -> String {
    let streams = |_: &Got| vec![stream_head(), event(1), Step::UntilClosed];
    let dying = s.worker(streams).await;
    s.worker(|_| vec![stream_head(), event(1), Step::Pause(Duration::from_secs(2)), done()]).await;
    s.route(|_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = s.asking(generate_stream()).await;
        client.read_until("data: ").await;
        clients.push(client);
    }
    dying.kill();
    let mut seen = Vec::new();
    for mut client in clients {
        seen.push(client.answer().await.line());
    }
    seen.sort();
    seen.join(", ")
}

/// A router whose worker has a name, which is that of the first of these.
async fn named(s: &Stage) -> [Worker; 2] {
    let workers = [s.worker(takes_50_ms).await, s.worker(takes_50_ms).await];
    s.pipes().name("gpu0", workers[0].port());
    s.route(|c| {
        c.workers = milepost::config::worker_urls(&["http://gpu0:8000".to_owned()], "pipe", 1).unwrap();
        c.health.enabled = true;
    })
    .await;
    workers
}

async fn a_name_gets_another_address(s: &Stage) -> String {
    let [old, new] = named(s).await;
    let load = Load::start(s);
    pause(1_025).await;
    s.pipes().name("gpu0", new.port());
    old.kill();
    s.pipes().close(old.port());
    let seen = load.end().await;
    assert!(new.requests().len() > 600, "it is used: {}", new.requests().len());
    seen
}

async fn a_name_gets_another_address_beside(s: &Stage) -> String {
    let [_, new] = named(s).await;
    let one = s.ask(generate()).await.line();
    s.pipes().name("gpu0", new.port());
    // The longest pause between two health checks.
    pause(61_000).await;
    let two = s.ask(generate()).await.line();
    assert_eq!(new.requests().iter().filter(|g| g.head.starts_with("POST /generate")).count(), 1);
    format!("{one}, {two}; within a minute it is at the new one")
}

async fn a_name_is_nobodys(s: &Stage) -> String {
    named(s).await;
    let one = s.ask(generate()).await.line();
    s.pipes().forget("gpu0");
    pause(600_000).await;
    format!("{one}, {} ten minutes later", s.ask(generate()).await.line())
}
