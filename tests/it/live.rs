//! The live page and what it reads: who may have it, what it says, and the page itself in a browser.

use std::net::SocketAddr;
use std::process::Command;

use http::HeaderName;
use milepost::config::access::ApiKey;
use milepost::config::{RouteConfig, TraceDecisions};
use milepost::export::otlp::send::Collector;
use milepost::trace::record::Outcome;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{
    PATIENCE, Response, Step, TestRouter, Worker, ask, generate_stream, post, post_with, read_message,
};

/// What a client may call its request, and no page may run.
const HOSTILE: &str = "<img/src=x/onerror=\"document.title='TAKEN'\">";

/// What ends a quoted value, and what no terminal should get, before it.
const BREAKING_OUT: &str = "'\"\u{7}\u{1b}[2J</pre></script>";

/// Looks at what a link opened, goes on by a click on the row of the hostile request, and says what was there.
const CLICK: &str = r"
const waiting = setInterval(() => {
  const one = document.getElementById('one');
  const row = [...document.querySelectorAll('#requests tbody tr')].find((row) => row.textContent.includes('onerror'));
  if (!one.open || !row) return;
  clearInterval(waiting);
  const linked = document.getElementById('one-title').textContent;
  one.close();
  row.click();
  const record = JSON.parse(one.querySelector('pre').textContent);
  const made = document.querySelectorAll('main img, dialog img, main script, dialog script').length;
  document.body.append(`linked ${linked}; clicked ${one.open} ${record.request_id}; ${Object.keys(record).length} fields; made ${made};`);
}, 20);";

/// The stage of a server that tells no stamps.
const UNTOLD: &str = "to server + tokenize + server queue + prefill";

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: r\r\n{headers}\r\n")
}

async fn read(router: &TestRouter, path: &str) -> Response {
    ask(router.addr, get(path, "")).await
}

/// Sends a request of this name, and waits for the end of its answer.
async fn generate(router: &TestRouter, id: &str) -> u16 {
    let headers = format!("x-request-id: {id}\r\n");
    ask(router.addr, post_with("/generate", &headers, r#"{"text":"a b c","stream":true}"#)).await.status
}

/// Asks until the answer is as wanted: the trace is written a little later than an answer.
async fn until(router: &TestRouter, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            let said = read(router, path).await.json();
            if is_wanted(&said) {
                return said;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the router says it in time")
}

fn rows(said: &Value) -> &Vec<Value> {
    said["requests"].as_array().unwrap()
}

async fn streaming() -> Worker {
    Worker::start(|_| generate_stream(2)).await
}

async fn failing() -> Worker {
    let error = json!({"error": {"message": HOSTILE}}).to_string();
    let length = error.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{error}"
    );
    Worker::start(move |_| vec![Step::Send(answer.clone().into())]).await
}

#[tokio::test]
async fn the_page_is_for_everybody_and_its_policy_lets_it_do_nothing_else() {
    let worker = streaming().await;
    let router = TestRouter::with(&[&worker], |config| config.auth.api_key = ApiKey::new("K")).await;
    let page = read(&router, "/milepost/live").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("connect-src 'self'"), "{policy}");
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(!page.text().contains(&worker.url), "there is no data in it");
    for path in ["/milepost/fleet", "/milepost/requests"] {
        assert_eq!(read(&router, path).await.status, 401, "{path}");
        let told = ask(router.addr, get(path, "authorization: Bearer K\r\n")).await;
        assert_eq!((told.status, told.header("content-type")), (200, Some("application/json")), "{path}");
        assert_eq!(told.header("cache-control"), Some("no-store"));
    }
    let records = router.finish_requests().await;
    assert_eq!(records.iter().filter(|r| r.outcome == Outcome::Refused).count(), 2);
}

#[tokio::test]
async fn the_fleet_is_told_with_what_each_worker_did() {
    let (good, bad) = (streaming().await, failing().await);
    let router = TestRouter::start(&[&good, &bad]).await;
    for id in ["a", "b", "c", "d"] {
        generate(&router, id).await;
    }
    let fleet = until(&router, "/milepost/fleet", |fleet| {
        fleet["workers"][1]["counted"]["ended"]["worker_error"] == 2
    })
    .await;
    assert_eq!((&fleet["policy"], &fleet["trace"]["on"]), (&Value::from("round_robin"), &Value::from(true)));
    let worker = &fleet["workers"][0];
    assert_eq!((worker["url"].as_str(), &worker["healthy"]), (Some(good.url.as_str()), &Value::from(true)));
    assert_eq!((&worker["breaker"], &worker["in_flight"]), (&Value::from("closed"), &Value::from(0)));
    let counted = &worker["counted"];
    assert_eq!((&counted["ended"]["done"], &counted["ttft"]["count"]), (&Value::from(2), &Value::from(2)));
    assert_eq!((&counted["prompt_tokens"], &counted["cached_tokens"]), (&Value::from(10), &Value::from(4)));
    assert!(worker["queue_depth"].is_null(), "nobody asked the server, so it is not known");
    assert_eq!(fleet["routed"], 4, "who looks is not among them");
    assert!(fleet["requests"].as_u64() > Some(4));
    router.finish().await;
}

#[tokio::test]
async fn the_last_requests_are_told_with_their_stages_and_then_only_what_is_new() {
    let worker = streaming().await;
    let router = TestRouter::start(&[&worker]).await;
    read(&router, "/health").await;
    generate(&router, "first").await;
    let said = until(&router, "/milepost/requests", |said| !rows(said).is_empty()).await;
    assert_eq!(
        (rows(&said).len(), &said["trace"]["state"]),
        (1, &Value::from("capturing")),
        "no probe is shown"
    );
    let row = &rows(&said)[0];
    assert_eq!(
        (&row["record"]["request_id"], &row["record"]["kind"]),
        (&Value::from("first"), &Value::from("request"))
    );
    let stages = row["stages"].as_array().unwrap();
    assert_eq!(stages[0]["start_ns"], 0);
    assert_eq!(stages.last().unwrap()["end_ns"], row["record"]["end_ns"]);
    assert!(stages.windows(2).all(|two| two[0]["end_ns"] == two[1]["start_ns"]), "{stages:?}");
    // The script tells no stamps, so these are one.
    assert!(stages.iter().any(|stage| stage["name"] == UNTOLD), "{stages:?}");
    assert_eq!(
        (&row["ttft_ns"], &row["ttft_source"]),
        (&row["record"]["first_token_ns"], &Value::from("router"))
    );
    generate(&router, "second").await;
    let after = format!("/milepost/requests?after={}", said["next"]);
    let said = until(&router, &after, |said| !rows(said).is_empty()).await;
    let ids: Vec<&Value> = rows(&said).iter().map(|row| &row["record"]["request_id"]).collect();
    assert_eq!(ids, ["second"]);
    assert_eq!(read(&router, "/milepost/requests?after=x").await.status, 400);
    router.finish().await;
}

#[tokio::test]
async fn a_hundred_who_look_at_once_are_all_told() {
    let worker = streaming().await;
    let router = TestRouter::start(&[&worker]).await;
    generate(&router, "first").await;
    until(&router, "/milepost/requests", |said| !rows(said).is_empty()).await;
    let mut looks = JoinSet::new();
    for _ in 0..100 {
        looks.spawn(ask(router.addr, get("/milepost/requests", "")));
    }
    for look in looks.join_all().await {
        assert_eq!((look.status, rows(&look.json()).len()), (200, 1));
    }
    router.finish().await;
}

#[tokio::test]
async fn without_a_trace_the_fleet_is_told_alone() {
    let worker = streaming().await;
    // Spans alone are no trace that could be looked at.
    for spans in [None, Some(Collector::parse("http://127.0.0.1:1").unwrap())] {
        let change = |config: &mut RouteConfig| (config.trace_log, config.otlp_traces) = (None, spans);
        let router = TestRouter::with(&[&worker], change).await;
        generate(&router, "a").await;
        let said = read(&router, "/milepost/requests").await.json();
        assert_eq!((said.get("trace"), rows(&said).len()), (None, 0));
        assert_eq!(read(&router, "/milepost/fleet").await.json()["trace"]["on"], false);
        router.end().await;
    }
}

/// Something before a router that drops the first questions of the page, and puts a script into the page in place of its
/// policy, so that what keeps others out is the page's own care; its address.
async fn before(router: SocketAddr, mut drops: usize, script: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let Some((head, _)) = read_message(&mut stream, &mut Vec::new()).await else { continue };
            let is_page = head.starts_with("GET /milepost/live");
            // Without its policy a browser asks for an icon too.
            let is_stray = !head.starts_with("GET /milepost/");
            if is_stray || (drops > 0 && !is_page) {
                drops = drops.saturating_sub(1);
                continue;
            }
            let mut answer = ask(router, head).await;
            if is_page && !script.is_empty() {
                let page = answer.text().replace("</body>", &format!("<script>{script}</script></body>"));
                answer.head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    page.len()
                );
                answer.body = page.into();
            }
            // A browser that has gone is asked nothing more.
            let _ = stream.write_all(&[answer.head.as_bytes(), &answer.body].concat()).await;
        }
    });
    addr
}

/// The page as a browser has it after a while; `None` where there is no browser.
async fn in_browser(addr: SocketAddr, name: &str, hash: &str) -> Option<String> {
    let profile = std::env::temp_dir().join(format!("milepost-it-live-{}-{name}", std::process::id()));
    let url = format!("http://{addr}/milepost/live{hash}");
    let mut command = Command::new("chromium");
    command
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--virtual-time-budget=4000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url);
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(6 * PATIENCE, run).await.expect("the browser ends").unwrap();
    let _ = std::fs::remove_dir_all(&profile);
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            eprintln!("not looked at in a browser: chromium: {error}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_browser_the_page_shows_requests_with_bars_and_makes_nothing_of_what_was_said() {
    let hostile = format!("{BREAKING_OUT}{HOSTILE}");
    let (good, bad) = (streaming().await, failing().await);
    let router = TestRouter::with(&[&bad], |config| {
        config.capture.headers = vec![HeaderName::from_static("x-tenant")];
    })
    .await;
    let named = json!({"url": good.url, "model_id": hostile, "labels": {"rack": hostile}}).to_string();
    assert_eq!(ask(router.addr, post("/workers", &named)).await.status, 202);
    for id in ["refused", "plain", "also-refused"] {
        generate(&router, id).await;
    }
    let body = json!({"text": "a", "stream": true, "model": hostile}).to_string();
    let headers = format!("x-request-id: {HOSTILE}\r\nx-tenant: '\">{HOSTILE}\r\n");
    assert_eq!(ask(router.addr, post_with("/generate", &headers, &body)).await.status, 200);
    let said = until(&router, "/milepost/requests", |said| rows(said).len() == 4).await;
    // Records that end at one time may be written in any order.
    let named = rows(&said).iter().find(|row| row["record"]["request_id"] == HOSTILE);
    let record = &named.expect("it was taken")["record"];
    assert_eq!((&record["model"], record["headers"]["x-tenant"].is_string()), (&Value::from(hostile), true));
    let fields = record.as_object().unwrap().len();
    let open = before(router.addr, 0, CLICK).await;
    if let Some(page) = in_browser(open, "rows", "#plain").await {
        let body = |id: &str| {
            let (_, rest) = page.split_once(&format!("<table id=\"{id}\">")).expect("the table");
            rest.split_once("<tbody>").unwrap().1.split_once("</tbody>").unwrap().0.to_owned()
        };
        let (fleet, requests) = (body("fleet"), body("requests"));
        assert_eq!((fleet.matches("<tr>").count(), requests.matches("<tr>").count()), (2, 4), "{page}");
        assert!(fleet.contains(&good.url) && fleet.contains("healthy"), "{fleet}");
        assert_eq!(requests.matches("class=\"bar\"").count(), 4, "{requests}");
        assert!(requests.matches(&format!("class=\"mixed\" title=\"{UNTOLD} ")).count() == 2, "{requests}");
        assert_eq!(requests.matches("400 worker error").count(), 2, "{requests}");
        assert!(page.contains("<title>milepost</title>"), "nothing was run");
        // However often the page has asked; the trace has each of its questions, and the page says so.
        assert!(page.contains(" requests, those of this page among them."), "{page}");
        assert!(page.contains("<dt>requests routed since start</dt><dd>4</dd>"), "{page}");
        let shown = HOSTILE.replace('<', "&lt;").replace('>', "&gt;");
        let told = format!("linked POST /generate · plain; clicked true {shown}; {fields} fields; made 0;");
        assert!(page.contains(&told), "{page}");
        let (_, one) = page.split_once("<dialog id=\"one\"").expect("the dialog");
        assert!(one.contains("round_robin: ") && one.contains("2 of 2 eligible workers"), "{one}");
    }
    router.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_browser_a_locked_router_asks_for_its_key_and_says_nothing() {
    let worker = streaming().await;
    let router = TestRouter::with(&[&worker], |config| config.auth.api_key = ApiKey::new("K")).await;
    if let Some(page) = in_browser(router.addr, "locked", "").await {
        assert!(page.contains("<form id=\"door\">") && page.contains(">locked</span>"), "{page}");
        assert!(!page.contains(&worker.url), "{page}");
    }
    router.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_browser_a_router_that_does_not_answer_is_said_and_found_again() {
    let worker = streaming().await;
    let router = TestRouter::with(&[&worker], |config| config.trace_decisions = TraceDecisions::Off).await;
    generate(&router, "undecided").await;
    let gone = before(router.addr, usize::MAX, "").await;
    if let Some(page) = in_browser(gone, "gone", "").await {
        assert!(page.contains("no answer from the router ("), "{page}");
        let back = before(router.addr, 3, "").await;
        let page = in_browser(back, "back", "").await.expect("it is there");
        assert!(page.contains(">live</span>") && page.contains(&worker.url), "{page}");
        assert!(page.contains("class=\"router\" title=\"look at body + decision "), "{page}");
    }
    router.finish().await;
}
