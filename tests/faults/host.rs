//! What goes wrong with the router's process and its host.

use std::sync::Arc;

use rustix::process::Signal;
use tokio::sync::{Notify, Semaphore};

use crate::client::{generate, generate_stream};
use crate::process::{LOOK, LOOKS, Processes, until};
use crate::table::rows;
use crate::worker::{Step, done, event, ok, stream_head};

rows! {
    "The router's process and its host";
    sigterm_amid_a_stream by Process "SIGTERM amid a stream":
        "200 whole; exit code 0",
        "done 200, attempts 1; stamps to last_byte",
        "kept";
    a_second_signal by Process "a second SIGTERM amid a stream, while another request waits for its answer":
        "200 cut after 104 B, closed; closed, no answer; exit code 130",
        "stopped 200, attempts 1; stamps to first_token + stopped, attempts 1; stamps to router_send",
        "closed ×2";
    more_clients_than_descriptors by Process "50 clients of a router that may have 106 open files":
        "200 whole each time; exit code 0",
        "done 200, attempts 1; stamps to last_byte ×50",
        "kept";
    descriptors_run_out by Process "the router may not open a file any more, and then it may again":
        "200 whole, 503 router_out_of_descriptors, 200 whole, 200 whole; exit code 0",
        "done 200, attempts 1; stamps to last_byte + refused 503, attempts 5 (W0 connect: Too many open files), error \"router_out_of_descriptors: the router has no room for a connection to a worker (connect: Too many open files); raise `ulimit -n`\"; stamps to decided + done 200, attempts 1; stamps to last_byte ×2",
        "ended by the worker ×3";
    no_room_for_the_trace by Process "the trace cannot be written for a while (RLIMIT_FSIZE, which answers as a full disk does)":
        "200 whole each time; exit code 0",
        "done 200, attempts 1; stamps to last_byte ×2 + lost 5",
        "kept";
    another_process_at_the_workers_port by Process "the worker's process is killed, and another one is started at its port":
        "200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte ×2",
        "none";
}

async fn sigterm_amid_a_stream(p: &Processes) -> String {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    p.worker(move |_| vec![stream_head(), event(1), Step::Wait(Arc::clone(&wait)), done()]).await;
    let router = p.router("", "").await;
    let mut client = router.asking(generate_stream()).await;
    client.read_until("data: ").await;
    router.signal(Signal::TERM);
    let door = router.door.clone();
    router.line("no longer listening").await;
    assert!(door.enter().await.is_err(), "the port is free");
    go.notify_one();
    let seen = client.answer().await.line();
    format!("{seen}; exit code {}", router.end().await)
}

async fn a_second_signal(p: &Processes) -> String {
    let worker = p
        .worker(|got| {
            let is_stream = got.body.windows(6).any(|w| w == b"stream");
            let begun = if is_stream { vec![stream_head(), event(1)] } else { Vec::new() };
            [begun, vec![Step::UntilClosed]].concat()
        })
        .await;
    let router = p.router("", "").await;
    let mut streaming = router.asking(generate_stream()).await;
    streaming.read_until("data: ").await;
    let mut waiting = router.asking(generate()).await;
    until("the worker has both", || (worker.requests().len() == 2).then_some(())).await;
    router.signal(Signal::TERM);
    router.line("a second signal ends at once").await;
    router.signal(Signal::TERM);
    let seen = format!("{}; {}", streaming.answer().await.line(), waiting.answer().await.line());
    format!("{seen}; exit code {}", router.end().await)
}

async fn more_clients_than_descriptors(p: &Processes) -> String {
    let go = Arc::new(Semaphore::new(0));
    let door = Arc::clone(&go);
    let worker = p.worker(move |_| [vec![Step::Pass(Arc::clone(&door))], ok()].concat()).await;
    let router = p.router("ulimit -n 106;", "").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(router.asking(generate()).await);
    }
    router.line("20 client connections, as many as the descriptors of this process allow").await;
    until("those that were let in are at the worker", || (worker.requests().len() == 20).then_some(())).await;
    go.add_permits(50);
    let mut seen = Vec::new();
    for mut client in clients {
        seen.push(client.answer().await.line());
    }
    assert!(router.gauge("milepost_accept_failures_total").await == 0.0);
    router.signal(Signal::TERM);
    seen.dedup();
    format!("{} each time; exit code {}", seen.join(", "), router.end().await)
}

async fn descriptors_run_out(p: &Processes) -> String {
    // No connection is kept for the next request.
    p.worker(|_| [ok(), vec![Step::Close]].concat()).await;
    let router = p.router("", "--cb-failure-threshold 1").await;
    let mut client = router.asking(generate()).await;
    let mut seen = vec![client.answer().await.line()];
    router.limit_descriptors(Some(3));
    client.send(generate()).await;
    seen.push(client.answer().await.line());
    // It is in the kernel's queue.
    let mut newcomer = router.asking(generate()).await;
    router.line("accept: ").await;
    router.limit_descriptors(None);
    seen.push(newcomer.answer().await.line());
    client.send(generate()).await;
    seen.push(client.answer().await.line());
    drop((client, newcomer));
    router.signal(Signal::TERM);
    format!("{}; exit code {}", seen.join(", "), router.end().await)
}

async fn no_room_for_the_trace(p: &Processes) -> String {
    p.worker(|_| ok()).await;
    let router = p.router("", "").await;
    let mut seen = vec![router.ask(generate()).await.line()];
    let written = until("the first is written", || {
        let trace = p.trace();
        trace.contains("\"kind\":\"request\"").then_some(trace.len() as u64)
    })
    .await;
    router.limit_files(Some(written + 100));
    for _ in 0..5 {
        seen.push(router.ask(generate()).await.line());
    }
    router.line("records are lost (and counted) until it can be written").await;
    for _ in 0..LOOKS {
        if router.gauge("milepost_trace_requests_lost_total").await >= 5.0 {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    router.limit_files(None);
    seen.push(router.ask(generate()).await.line());
    router.line("writing again").await;
    router.signal(Signal::TERM);
    assert_eq!(router.lines("records are lost"), 1, "said once");
    let code = router.end().await;
    seen.dedup();
    format!("{} each time; exit code {code}", seen.join(", "))
}

async fn another_process_at_the_workers_port(p: &Processes) -> String {
    let first = p.simulated_worker(0).await;
    let port = first.port();
    let router = p.router("", &format!("--worker-urls http://127.0.0.1:{port}")).await;
    let one = router.ask(generate()).await.line();
    first.signal(Signal::KILL);
    first.end().await;
    let second = p.simulated_worker(port).await;
    let two = router.ask(generate()).await.line();
    router.signal(Signal::TERM);
    assert_eq!(router.end().await, 0);
    drop(second);
    format!("{one}, {two}")
}
