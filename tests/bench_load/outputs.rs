//! `--check-outputs`: who is asked, what differs, and the exit code.

use std::time::Duration;

use milepost::clock::Clock;
use milepost::sim::{Dialect, SimConfig, serve};
use serde_json::json as value;
use tokio::net::TcpListener;

use crate::cli::{Folder, bench, output, text};
use crate::server::{Server, json, stream};

/// A worker that says this, whatever it is asked.
fn saying(said: &str) -> Server {
    let event = value!({"text": said, "meta_info": {"id": "1", "finish_reason": null, "prompt_tokens": 3, "completion_tokens": 2}});
    let events = format!("data: {event}\n\ndata: [DONE]\n\n");
    Server::new(&Clock::system(), move |_| stream(&events, Duration::ZERO))
}

/// A simulated SGLang server, a hundred times as fast; it ends with the test.
pub async fn simulated(dialect: Dialect, seed: u64, max_running_requests: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut config = SimConfig { dialect, seed, speedup: 100.0, ..SimConfig::default() };
    config.profile.max_running_requests = max_running_requests;
    tokio::spawn(serve(listener, config, Clock::system(), std::future::pending()));
    url
}

/// Simulated workers of one seed say the same whatever they speak like; another seed is another model.
#[tokio::test]
async fn simulated_workers_are_alike_by_their_seed() {
    let folder = Folder::new("outputs-simulated");
    let [old, new] = [simulated(Dialect::V049, 1, 8).await, simulated(Dialect::V0523, 1, 8).await];
    let (code, told) = checked(&folder, &format!("--worker-urls {old} {new} --output-len 6")).await;
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.matches("2 of 2 workers alike").count(), 4, "{told}");
    let other = simulated(Dialect::V0523, 7, 8).await;
    let (code, told) = checked(&folder, &format!("--worker-urls {old} {new} {other} --output-len 6")).await;
    assert_eq!(code, Some(4), "{told}");
    assert!(told.contains(&format!("{other} differs from character")), "{told}");
    assert_eq!(told.matches("2 of 3 workers alike").count(), 4, "{told}");
}

async fn checked(folder: &Folder, args: &str) -> (Option<i32>, String) {
    let out = output(bench(folder, &format!("--check-outputs {args}"))).await;
    (out.status.code(), [text(&out.stdout), text(&out.stderr)].concat())
}

#[tokio::test]
async fn workers_that_say_the_same_are_0_and_others_4() {
    let folder = Folder::new("outputs");
    let servers = ["a b c d", "a b c d", "a b x d"].map(saying);
    let [a, b, c] = [servers[0].listen().await, servers[1].listen().await, servers[2].listen().await];
    let (code, told) =
        checked(&folder, &format!("--worker-urls {a} {b} --prompt hello --output-len 9")).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("\"hello\": 2 of 2 workers alike"), "{told}");
    let asked = servers[0].got.lock().unwrap()[0].clone();
    assert_eq!(asked.body["sampling_params"]["temperature"], 0.0);
    assert_eq!(
        (&asked.body["text"], &asked.body["sampling_params"]["max_new_tokens"]),
        (&value!("hello"), &value!(9))
    );

    let (code, told) = checked(&folder, &format!("--worker-urls {c} {a} {b}@1")).await;
    assert_eq!(code, Some(4), "{told}");
    let difference = format!("{c} differs from character 5 on: \"a b x d\" where most say \"a b c d\"");
    assert!(told.contains(&difference) && told.contains("4 of 12 answers differ"), "{told}");
    let ranked = servers[1].got.lock().unwrap().last().unwrap().body.clone();
    assert_eq!(ranked["data_parallel_rank"], 1);

    let (code, told) = checked(&folder, &format!("--worker-urls {a} http://127.0.0.1:9")).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("http://127.0.0.1:9 gave no text: connect:"), "{told}");
    assert!(!folder.0.join("milepost-bench").exists(), "nothing is measured");
}

#[tokio::test]
async fn a_router_is_asked_who_its_workers_are() {
    let folder = Folder::new("outputs-router");
    let workers = [saying("x").listen().await, saying("x").listen().await];
    for list in [
        value!({"workers": [{"id": "1", "url": workers[0]}, {"id": "2", "url": workers[1]}], "total": 2}),
        value!({"urls": workers}),
    ] {
        let (path, body) = if list["urls"].is_array() { ("/list_workers", list) } else { ("/workers", list) };
        let router = Server::new(&Clock::system(), move |got| {
            if got.path == path { json("200 OK", &body.to_string()) } else { json("404 Not Found", "{}") }
        });
        let (code, told) = checked(&folder, &format!("--base-url {}", router.listen().await)).await;
        assert_eq!(code, Some(0), "{told}");
        assert_eq!(told.matches("2 of 2 workers alike").count(), 4, "{told}");
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_said() {
    let folder = Folder::new("outputs-none");
    let worker = saying("x").listen().await;
    let alone =
        Server::new(&Clock::system(), |_| json("200 OK", r#"{"workers":[{"url":"http://127.0.0.1:9"}]}"#));
    for (args, code, words) in [
        (format!("--worker-urls {worker}"), 2, &["two workers or more", "got 1"][..]),
        ("--worker-urls gpu3:8000 http://a:1".to_owned(), 2, &["--worker-urls", "http:// is missing"]),
        (format!("--worker-urls {worker} {worker} --temperature 1"), 2, &["temperature", "chance"]),
        (
            format!("--worker-urls {worker} {worker} --request-rate 1"),
            2,
            &["request-rate", "at the same time"],
        ),
        (format!("--base-url {}", alone.listen().await), 2, &["got 1"]),
        (format!("--base-url {worker}"), 1, &["is no router", "--worker-urls"]),
        ("--base-url http://127.0.0.1:9".to_owned(), 1, &["is no router", "/workers"]),
    ] {
        let (got, told) = checked(&folder, &args).await;
        assert_eq!(got, Some(code), "{args}: {told}");
        for word in words {
            assert!(told.contains(word), "{args}: {word:?} in {told}");
        }
    }
}
