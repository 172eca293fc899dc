//! A policy's file through the router: it is used when it has changed, whatever it does no request fails, and record, response
//! and metrics say who chose.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use milepost::config::RouteConfig;
use milepost::trace::record::RequestRecord;
use tokio::net::TcpListener;

use crate::harness::{PATIENCE, Response, TestRouter, Worker, ask, ok, post, post_with, start_error};
use crate::metrics_page;

/// A file that goes when the test ends.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("milepost-script-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = Self(folder.join(name));
        file.write(text);
        file
    }

    /// As an editor does that writes anew beside it and renames.
    fn write(&self, text: &str) {
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, &self.0).unwrap();
    }

    fn policy(&self, kind: &str) -> String {
        format!("{kind}:{}", self.0.display())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(folder) = self.0.parent() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

async fn workers(count: usize) -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(Worker::start(|_| ok()).await);
    }
    workers
}

async fn router(workers: &[Worker], policy: String) -> TestRouter {
    let workers: Vec<&Worker> = workers.iter().collect();
    TestRouter::with(&workers, |config| {
        config.policy = policy;
        config.policy_file_every = Duration::from_millis(5);
        config.allow_policy_header = true;
    })
    .await
}

async fn send(router: &TestRouter) -> Response {
    let response = ask(router.addr, post("/generate", r#"{"text":"a"}"#)).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// Sends until `done` says so; every request is answered well meanwhile.
async fn send_until(router: &TestRouter, done: impl Fn(&Response) -> bool) {
    let sending = async { while !done(&send(router).await) {} };
    tokio::time::timeout(PATIENCE, sending).await.expect("the new file is used");
}

fn reasons(records: &[RequestRecord]) -> Vec<&str> {
    let mut reasons: Vec<_> = records.iter().map(|r| &*r.decision.as_ref().unwrap().reason).collect();
    reasons.dedup();
    reasons
}

/// `fn score` that prefers the worker at this place.
fn prefers(place: usize) -> String {
    format!("fn score(request, worker) {{ if worker.position == {place} {{ 1 }} else {{ 0 }} }}")
}

#[tokio::test]
async fn a_script_chooses_and_a_changed_one_is_used_without_a_restart() {
    let workers = workers(3).await;
    let file = Written::new("mine.rhai", &prefers(2));
    let router = router(&workers, file.policy("script")).await;
    let first = send(&router).await;
    assert_eq!(
        (first.header("x-worker-url"), first.header("x-policy")),
        (Some(&*workers[2].url), Some("script:mine"))
    );
    file.write(&prefers(1));
    send_until(&router, |response| response.header("x-worker-url") == Some(&workers[1].url)).await;
    let records = router.finish_requests().await;
    assert_eq!(reasons(&records), ["script"]);
    let record = records.last().unwrap();
    assert_eq!(record.policy.as_deref(), Some("script:mine"));
    let scores: Vec<_> = record.decision.as_ref().unwrap().candidates.iter().map(|c| c.score).collect();
    assert_eq!(scores, [Some(0.0), Some(1.0), Some(0.0)]);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_passed_over_and_the_old_one_goes_on() {
    let workers = workers(2).await;
    let file = Written::new("mine.rhai", &prefers(1));
    let router = router(&workers, file.policy("script")).await;
    for broken in ["fn score(request, worker) { 1 +", "", "fn rank() { 1 }"] {
        file.write(broken);
        for _ in 0..20 {
            assert_eq!(send(&router).await.header("x-worker-url"), Some(&*workers[1].url));
        }
    }
    // Away, and back as something else.
    std::fs::remove_file(&file.0).unwrap();
    for _ in 0..20 {
        assert_eq!(send(&router).await.header("x-worker-url"), Some(&*workers[1].url));
    }
    file.write(&prefers(0));
    send_until(&router, |response| response.header("x-worker-url") == Some(&workers[0].url)).await;
    assert_eq!(reasons(&router.finish_requests().await), ["script"]);
}

#[tokio::test]
async fn a_new_script_may_need_what_the_old_one_did_not() {
    let workers = workers(2).await;
    let file = Written::new("mine.rhai", &prefers(1));
    let router = router(&workers, file.policy("script")).await;
    send(&router).await;
    file.write("fn score(request, worker) { (worker.prefix_match_bytes ?? 0) + 1 }");
    let prompt = format!("{{\"text\":\"{}\"}}", "a prompt ".repeat(40));
    let score = async {
        // The first one that it is asked about is remembered for whoever got it.
        loop {
            let asked = ask(router.addr, post("/generate", &prompt)).await;
            assert_eq!(asked.status, 200);
            if asked.header("x-worker-url") == Some(&workers[0].url) {
                break;
            }
        }
        for _ in 0..5 {
            assert_eq!(ask(router.addr, post("/generate", &prompt)).await.status, 200);
        }
    };
    tokio::time::timeout(PATIENCE, score).await.expect("the new file is used");
    let records = router.finish_requests().await;
    let best = |r: &RequestRecord| {
        let scores = r.decision.as_ref().unwrap().candidates.iter().filter_map(|c| c.score);
        scores.fold(0.0, f64::max)
    };
    assert!(best(records.last().unwrap()) > 300.0, "{:?}", records.last().unwrap().decision);
}

#[tokio::test]
async fn whatever_a_script_does_requests_are_answered_and_record_and_metrics_say_why() {
    let metrics = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metrics_at = metrics.local_addr().unwrap();
    let clients = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let workers = workers(2).await;
    let urls: Vec<String> = workers.iter().map(|w| w.url.clone()).collect();
    let file = Written::new(
        "odd.rhai",
        r#"fn score(request, worker) {
            if request.prompt_bytes == 1 { loop { } }
            if request.prompt_bytes == 2 { throw "no"; }
            if request.prompt_bytes == 3 { return 0.0 / 0.0; }
            if request.prompt_bytes == 4 { return "much"; }
            if request.prompt_bytes == 5 { return (); }
            worker.position
        }"#,
    );
    let router =
        TestRouter::on(clients, Some(metrics), &urls, |config| config.policy = file.policy("script"));
    for text in ["a", "ab", "abc", "abcd", "abcde", "abcdef", "a"] {
        let response = ask(router.addr, post("/generate", &format!("{{\"text\":\"{text}\"}}"))).await;
        assert_eq!(response.status, 200, "{text}");
    }
    let page = ask(metrics_at, "GET /metrics HTTP/1.1\r\nhost: m\r\n\r\n".to_owned()).await;
    let page = metrics_page::Page::parse(&page.text());
    let count = |cause| {
        page.value("milepost_policy_fallbacks_total", &[("policy", "script:odd"), ("cause", cause)]) as u64
    };
    let counts = ["operations", "error", "not_finite", "wrong_type", "nobody"].map(count);
    assert_eq!(counts, [2, 1, 1, 1, 1]);
    let records = router.finish_requests().await;
    let expected = ["operations", "error", "not_finite", "wrong_type", "nobody", "", "operations"];
    for (record, cause) in records.iter().zip(expected) {
        let decision = record.decision.as_ref().unwrap();
        let reason = if cause.is_empty() { "script".to_owned() } else { format!("script_fallback:{cause}") };
        assert_eq!(decision.reason, reason);
        assert!(decision.candidates.iter().all(|c| c.score.is_some()));
    }
    assert_eq!(records[5].worker.as_deref(), Some(&*workers[1].url));
}

#[tokio::test]
async fn weights_are_used_when_they_have_changed() {
    let workers = workers(2).await;
    let file = Written::new("w.toml", "[scorers]\nprefix_match = 1\n");
    let router = router(&workers, file.policy("weighted")).await;
    assert_eq!(send(&router).await.header("x-policy"), Some("weighted:w"));
    file.write("picker = \"two_choices\"\n[scorers]\nin_flight = 1\n");
    // Of two equals the least recently chosen: the new weights were used.
    let seen = async {
        let mut last = None;
        loop {
            let took = send(&router).await.header("x-worker-url").map(str::to_owned);
            if last.is_some() && last != took {
                break;
            }
            last = took;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the new weights are used");
    let records = router.finish_requests().await;
    assert_eq!(reasons(&records), ["highest_score", "better_of_two"]);
}

#[tokio::test]
async fn a_request_names_the_configured_script_by_its_label_and_no_file() {
    let workers = workers(2).await;
    let (used, other) = (Written::new("used.rhai", &prefers(1)), Written::new("other.rhai", &prefers(0)));
    let router = router(&workers, used.policy("script")).await;
    let named = async |name: &str| {
        ask(router.addr, post_with("/generate", &format!("x-milepost-policy: {name}\r\n"), r#"{"text":"a"}"#))
            .await
    };
    assert_eq!(named("script:used").await.header("x-policy"), Some("script:used"));
    assert_eq!(named("weighted").await.header("x-policy"), Some("weighted"));
    for name in
        [other.policy("script"), used.policy("script"), "script:other".to_owned(), "script".to_owned()]
    {
        let refused = named(&name).await;
        assert_eq!(
            (refused.status, refused.header("x-smg-error-code")),
            (400, Some("unknown_policy")),
            "{name}"
        );
    }
    router.finish_requests().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_at_the_start_is_an_error_with_its_place() {
    let file = Written::new("bad.rhai", "fn score(request, worker) {\n  latency\n}");
    let refused = |policy: String| start_error(RouteConfig { policy, ..RouteConfig::default() });
    let told = refused(file.policy("script"));
    let path = file.0.display().to_string();
    assert!(told.starts_with(&format!("--policy: {path}: line 2, column 3: ")), "{told}");
    file.write("[scorers]\nprefix = 1");
    let told = refused(file.policy("weighted"));
    assert!(
        told.starts_with(&format!(
            "--policy: {path}: scorers.prefix: no such scorer; did you mean prefix_match?"
        )),
        "{told}"
    );
    let told = refused("script:/no/such/file".to_owned());
    assert!(told.contains("/no/such/file: cannot read it"), "{told}");
}
