//! What goes wrong with the router itself.

use std::sync::Arc;
use std::time::Duration;

use milepost_policies::{Decision, Policy, RequestView, Time, Workers};
use tokio::sync::Notify;

use crate::client::{generate, generate_stream};
use crate::stage::Stage;
use crate::table::rows;
use crate::worker::{Step, done, event, ok, stream_head};

rows! {
    "The router itself";
    a_policy_panics by Pipes "a policy panics at the first of two requests":
        "closed, no answer; 200 whole",
        "panicked, attempts 0; stamps to limit_wait; 0 ms + done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
    stopped_amid_streams by Pipes "the router is told to stop amid a stream that ends 60 s later":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 60 s",
        "kept";
    stopped_with_a_queue by Pipes "the router is told to stop while a request waits for its place":
        "200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte; 2 ms ×2",
        "kept";
    stopped_and_a_stream_goes_on by Pipes "the router is told to stop, and a stream goes on beyond --shutdown-grace-period-secs":
        "200 cut after 104 B, closed after 179 s",
        "stopped 200, attempts 1; stamps to first_token; 180 s",
        "closed after 0 ms";
    stopped_and_nothing_has_come by Pipes "the router is told to stop, and no answer comes within --shutdown-grace-period-secs":
        "closed, no answer after 179 s",
        "stopped, attempts 1; stamps to router_send; 180 s",
        "closed after 0 ms";
    stopped_in_mid_head by Pipes "the router is told to stop while a client is sending its head":
        "200 whole",
        "done 200, attempts 1; stamps to last_byte; 0 ms",
        "kept";
}

/// Panics at the first request.
struct Panics;

impl Policy for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn choose(&mut self, _: Time, request: &RequestView<'_>, _: &Workers<'_>, out: &mut Decision) {
        assert!(request.seq > 1, "a policy that panics");
        out.choose(0, "any");
    }
}

async fn a_policy_panics(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route_with(Box::new(Panics), |c| c.limits.max_concurrent = Some(1)).await;
    let one = s.ask(generate()).await.line();
    format!("{one}; {}", s.ask(generate()).await.line())
}

/// A client in mid-stream; the stream goes on when it is told to.
async fn streaming(s: &Stage, then: Vec<Step>) -> (crate::client::Client, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let steps = [vec![stream_head(), event(1), Step::Wait(Arc::clone(&go))], then].concat();
    s.worker(move |_| steps.clone()).await;
    s.route(|c| {
        c.limits.max_concurrent = Some(1);
        c.shutdown_grace = Duration::from_secs(180);
    })
    .await;
    let mut client = s.asking(generate_stream()).await;
    client.read_until("data: ").await;
    (client, go)
}

/// Stops the router; nobody can connect from then on.
async fn stop(s: &Stage) {
    s.stop();
    s.settle().await;
    assert!(s.door().enter().await.is_err(), "the port is free");
}

async fn stopped_amid_streams(s: &Stage) -> String {
    let (mut client, go) = streaming(s, vec![done()]).await;
    stop(s).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    go.notify_one();
    client.answer().await.line()
}

async fn stopped_with_a_queue(s: &Stage) -> String {
    let (mut client, go) = streaming(s, vec![done()]).await;
    let mut second = s.asking(generate_stream()).await;
    s.settle().await;
    stop(s).await;
    go.notify_one();
    let one = client.answer().await.line();
    go.notify_one();
    format!("{one}, {}", second.answer().await.line())
}

async fn stopped_and_a_stream_goes_on(s: &Stage) -> String {
    let (mut client, go) = streaming(s, vec![Step::UntilClosed]).await;
    go.notify_one();
    stop(s).await;
    let began = s.now();
    client.answer().await.line() + s.since(began).as_str()
}

async fn stopped_and_nothing_has_come(s: &Stage) -> String {
    s.worker(|_| vec![Step::UntilClosed]).await;
    s.route(|_| {}).await;
    let mut client = s.asking(generate()).await;
    stop(s).await;
    let began = s.now();
    client.answer().await.line() + s.since(began).as_str()
}

async fn stopped_in_mid_head(s: &Stage) -> String {
    s.worker(|_| ok()).await;
    s.route(|_| {}).await;
    let mut client = s.asking("GET /generate HTTP/1.1\r\nho").await;
    s.settle().await;
    stop(s).await;
    client.send("st: r\r\n\r\n").await;
    let answer = client.answer().await;
    assert!(client.ends().await, "the connection ends with it");
    answer.line()
}
