//! What goes wrong with the router's process and its host.

use rustix::process::Signal;

use crate::client::{generate, generate_stream};
use crate::process::{LOOK, LOOKS, Processes, until};
use crate::table::{Seen, rows};
use crate::worker::{Step, done, event, ok, stream_head};

rows! {
    "The router's process and its host";
    sigterm_amid_a_stream by Process "SIGTERM amid a stream":
        "200 whole; exit code 0",
        "done 200, attempts 1; stamps to last_byte",
        "kept";
    no_room_for_the_trace by Process "the trace cannot be written for a while (RLIMIT_FSIZE, which answers as a full disk does)":
        "200 whole each time; exit code 0",
        "done 200, attempts 1; stamps to last_byte ×2 + lost 5",
        "kept";
    another_process_at_the_workers_port by Process "the worker's process is killed, and another one is started at its port":
        "200 whole, 200 whole",
        "done 200, attempts 1; stamps to last_byte ×2",
        "none";
}

fn sigterm_amid_a_stream() -> Seen {
    crate::process::play(|p| Box::pin(sigterm(p)))
}

async fn sigterm(p: &Processes) -> String {
    let go = std::sync::Arc::new(tokio::sync::Notify::new());
    let wait = std::sync::Arc::clone(&go);
    p.worker(move |_| vec![stream_head(), event(1), Step::Wait(std::sync::Arc::clone(&wait)), done()]).await;
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

fn no_room_for_the_trace() -> Seen {
    crate::process::play(|p| Box::pin(no_room(p)))
}

async fn no_room(p: &Processes) -> String {
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

fn another_process_at_the_workers_port() -> Seen {
    crate::process::play(|p| Box::pin(another_process(p)))
}

async fn another_process(p: &Processes) -> String {
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
