//! A router that may have few open files, and one that has run out of them.
//!
//! Rule: clients wait and none fails for want of a descriptor; what the router lacks is not put down to a worker.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::http::{connect, get, post, read_until, reply, scripted};
use crate::process::{Folder, PATIENCE, Process, Router};

/// Sends a request on a connection that stays, and reads one answer with a length.
fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.replace("connection: close\r\n", "").as_bytes()).unwrap();
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).expect(&head);
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

#[test]
fn the_limit_is_raised_and_more_clients_than_it_allows_wait_for_their_turn() {
    let folder = Folder::new();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let url = scripted(move |request, stream| {
        if request.starts_with("POST /generate") {
            wait.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        reply(stream, "200 OK", "{}");
    });
    let args = Router::args(&format!("--worker-urls {url}"));
    let mut router = Router::of(Process::start_with_files(&folder.0, 70, 106, &args));
    let line = router.process.line("streams at once");
    assert!(
        line.contains("up to 20 streams at once: 106 open files, two a stream and 66 for the rest"),
        "{line}"
    );
    assert!(
        line.contains("warning") && line.contains("ulimit -Hn") && line.contains("LimitNOFILE="),
        "{line}"
    );
    router.process.line("healthy");
    let clients: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut client = connect(&router.address);
            client.write_all(post("/generate", "", r#"{"text":"a"}"#).as_bytes()).unwrap();
            client
        })
        .collect();
    router.process.line("20 client connections, as many as the descriptors of this process allow");
    for _ in 0..50 {
        go.send(()).unwrap();
    }
    for mut client in clients {
        let mut text = String::new();
        read_until(&mut client, &mut text, "{}");
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    }
    let (_, page) = get(&router.metrics, "/metrics");
    assert!(page.contains("milepost_accept_failures_total 0"), "none was accepted that had no room");
    let ended = router.process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("open files (os error"), "{}", ended.stderr);
}

#[test]
fn no_room_for_a_single_stream_is_said_at_once() {
    let folder = Folder::new();
    let ended = Process::start_with_files(&folder.0, 40, 60, &Router::args("--worker-urls")).finish();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("60 open files") && ended.stderr.contains("ulimit -Hn"),
        "{}",
        ended.stderr
    );
}

#[cfg(target_os = "linux")]
#[test]
#[expect(clippy::disallowed_methods, reason = "how often something may happen depends on the time it had")]
fn out_of_descriptors_it_waits_without_spinning_and_blames_no_worker() {
    use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

    let folder = Folder::new();
    let url = scripted(|_, stream| {
        reply(stream, "200 OK", "{}");
        // No idle connection is left for the next request.
        let _ = stream.shutdown(Shutdown::Both);
    });
    let args = "--disable-retries --cb-failure-threshold 2 --health-check-interval-secs 1 --health-failure-threshold 1";
    let mut router = Router::start(&folder, &format!("--worker-urls {url} {args}"));
    let pid = router.process.pid();
    router.process.line("healthy");
    let generate = post("/generate", "", r#"{"text":"a"}"#);
    let (mut client, mut scraper) = (connect(&router.address), connect(&router.metrics));
    assert!(ask(&mut client, &generate).starts_with("http/1.1 200"));
    let mut failures = || {
        let page = ask(&mut scraper, "GET /metrics HTTP/1.1\r\nhost: r\r\n\r\n");
        let line = page.lines().find_map(|l| l.strip_prefix("milepost_accept_failures_total "));
        line.expect(&page).parse::<u128>().unwrap()
    };
    assert_eq!(failures(), 0);

    // Fewer than are open: from now on every new one fails.
    let began = std::time::Instant::now();
    // What this process may have, its child may.
    let maximum = getrlimit(Resource::Nofile).maximum;
    let allow = |current| prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap();
    allow(Some(3));
    for _ in 0..3 {
        let refused = ask(&mut client, &generate);
        assert!(refused.starts_with("http/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
        assert!(refused.contains("router_out_of_descriptors") && refused.contains("ulimit -n"), "{refused}");
    }
    let mut shown = String::new();
    while !shown.contains("\"failed_check\":\"connect: ") {
        shown = ask(&mut client, "GET /workers HTTP/1.1\r\nhost: r\r\n\r\n");
    }
    assert!(shown.contains("\"is_healthy\":true") && shown.contains("\"breaker\":\"closed\""), "{shown}");
    let mut newcomers: Vec<TcpStream> = (0..3).map(|_| connect(&router.address)).collect();
    while failures() < 3 {}
    let (failed, elapsed) = (failures(), began.elapsed());
    assert!(failed <= elapsed.as_millis() / 100 + 1, "{failed} in {elapsed:?}");

    allow(maximum);
    for client in newcomers.iter_mut().chain([&mut client]) {
        assert!(ask(client, &generate).starts_with("http/1.1 200"));
    }
    let elapsed = began.elapsed();
    let ended = router.process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let lines = ended.stderr.lines().filter(|l| l.contains("warning: accept: ")).count() as u64;
    assert!((1..=elapsed.as_secs() / 10 + 1).contains(&lines), "{lines} in {elapsed:?}: {}", ended.stderr);
    assert!(!ended.stderr.contains("unhealthy"), "{}", ended.stderr);
}
