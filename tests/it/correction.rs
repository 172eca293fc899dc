//! What the router believes of its workers' prefix caches, against engines that have one: what the record says of the next
//! request is what the answers before it have taught.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::admin::metrics;
use milepost::net::PipeNet;
use milepost::trace::record::RequestRecord;
use milepost_policies::prefix::PromptHashes;
use milepost_policies::{Corrections, Decision, Needs, Policy, RequestView, Time, Workers};
use tokio::io::AsyncWriteExt;
use tokio::sync::Barrier;

use crate::harness::{Response, post, post_with, read_message};
use crate::metrics_page::{Page, get};
use crate::piped::{self, PipedRouter};

/// To the worker that holds most of what the engine will see; the first of those.
struct Affinity;

impl Policy for Affinity {
    fn name(&self) -> &'static str {
        "affinity"
    }

    fn needs(&self) -> Needs {
        Needs { prefix_match: true, engine_text: true, ..Needs::default() }
    }

    fn choose(&mut self, _: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
        assert_eq!(request.prompt.map_or(0, PromptHashes::len_bytes), request.prompt_bytes);
        let held = |index: usize| workers.get(index).and_then(|worker| worker.prefix_match_bytes);
        let best = (0..workers.len()).rev().max_by_key(|&index| held(index)).unwrap_or(0);
        out.choose(best, "most_held");
    }
}

/// A server with a prefix cache in whole pages of so many tokens, of four bytes each.
struct Engine {
    page_tokens: usize,
    held: Mutex<Vec<String>>,
    /// Requests are answered so many at a time.
    together: Mutex<Arc<Barrier>>,
    served: AtomicUsize,
}

impl Engine {
    fn listen(net: &PipeNet, port: u16, page_tokens: usize) -> Arc<Self> {
        let engine = Arc::new(Self {
            page_tokens,
            held: Mutex::default(),
            together: Mutex::new(Arc::new(Barrier::new(1))),
            served: AtomicUsize::new(0),
        });
        let mut listener = net.listen(port);
        let serving = Arc::clone(&engine);
        tokio::spawn(async move {
            while let Ok((mut io, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    while let Some((head, body)) = read_message(&mut io, &mut buffer).await {
                        let answer = serving.answer(head.split(' ').nth(1).unwrap(), &body).await;
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
                        if io.write_all([head, answer].concat().as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        engine
    }

    async fn answer(&self, path: &str, body: &[u8]) -> String {
        let body: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        match path {
            "/generate" => {
                let text = body["text"].as_str().unwrap().to_owned();
                let (prompt, cached) = self.serve(text).await;
                format!(
                    r#"{{"text":"w","meta_info":{{"id":"x","finish_reason":{{"type":"length"}},"prompt_tokens":{prompt},"completion_tokens":1,"cached_tokens":{cached}}}}}"#
                )
            }
            "/v1/chat/completions" => {
                // As any template has it.
                let (prompt, cached) = self.serve(body["messages"].to_string()).await;
                format!(
                    r#"{{"choices":[{{"index":0,"message":{{"content":"w"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{prompt},"completion_tokens":1,"total_tokens":9,"prompt_tokens_details":{{"cached_tokens":{cached}}}}}}}"#
                )
            }
            "/flush_cache" => {
                self.held.lock().unwrap().clear();
                "{}".to_owned()
            }
            _ => "{}".to_owned(),
        }
    }

    /// Tokens of a prompt, and how many of them are there when it comes; it is there itself when it is answered.
    async fn serve(&self, text: String) -> (usize, usize) {
        let shared = |held: &String| held.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
        let cached = self.held.lock().unwrap().iter().map(shared).max().unwrap_or(0) / 4;
        let together = Arc::clone(&self.together.lock().unwrap());
        together.wait().await;
        self.served.fetch_add(1, Ordering::Relaxed);
        let tokens = text.len() / 4;
        self.held.lock().unwrap().push(text);
        (tokens, cached.min(tokens - 1) / self.page_tokens * self.page_tokens)
    }
}

fn router(net: &PipeNet, ports: u16) -> PipedRouter {
    let urls: Vec<String> = (1..=ports).map(piped::url).collect();
    let router = PipedRouter::start(net, &urls, |config| config.allow_policy_header = true);
    router.shared.fleet.add_policy(Box::new(Affinity));
    router
}

fn generate(text: &str, policy: &str) -> String {
    let header = format!("x-milepost-policy: {policy}\r\n");
    post_with("/generate", &header, &format!("{{\"text\":\"{text}\"}}"))
}

/// A conversation's so-manieth turn: each is a thousand tokens longer than the one before.
fn turn(conversation: usize, turn: usize) -> String {
    format!("conversation {conversation} ").repeat(turn * 4_000 / 15)
}

async fn ask(router: &PipedRouter, text: &str) -> Response {
    let response = router.ask(generate(text, "affinity")).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response
}

/// What the chosen worker was believed to hold, in bytes, by the record.
fn believed(record: &RequestRecord) -> u64 {
    let candidates = &record.decision.as_ref().unwrap().candidates;
    candidates.iter().find(|one| one.chosen).unwrap().prefix_match_bytes.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_cache_without_a_word_is_found_out_by_its_answers() {
    let net = PipeNet::default();
    let engine = Engine::listen(&net, 1, 1);
    let router = router(&net, 1);
    for n in 1..=2 {
        for conversation in 0..8 {
            ask(&router, &turn(conversation, n)).await;
        }
    }
    engine.held.lock().unwrap().clear();
    for conversation in 0..5 {
        ask(&router, &turn(conversation, 3)).await;
    }
    ask(&router, &turn(2, 3)).await;
    let at = net.listen(4);
    tokio::spawn(metrics::serve(Arc::clone(&router.shared), at));
    let page = Page::parse(&get(net.connect(4).await.unwrap(), "/metrics").await.1);
    let (records, _) = router.finish().await;
    let whole = turn(0, 2).len() as u64;
    let of = |record: &RequestRecord| (believed(record), record.tokens.cached_tokens.unwrap());
    // As long as it had what was believed.
    for record in &records[8..16] {
        let (bytes, cached) = of(record);
        assert!(bytes > 3_800 && cached > 950, "{bytes} bytes believed, {cached} tokens cached");
        assert!(record.predicted_cached_tokens.unwrap().abs_diff(bytes / 4) <= 1);
    }
    // Three answers say that nothing is there; from then on nothing is believed but what came since.
    for record in &records[16..19] {
        assert!(of(record).0 > whole - 300 && of(record).1 < 30, "{:?}", of(record));
        assert!(record.predicted_cached_tokens > Some(1_900));
    }
    for record in &records[19..21] {
        assert!(of(record).0 < 100 && of(record).1 < 30, "{:?}", of(record));
        assert!(record.predicted_cached_tokens < Some(30));
    }
    assert_eq!(of(&records[21]), (turn(2, 3).len() as u64, records[21].tokens.prompt_tokens.unwrap() - 1));
    let found = |what| page.value("milepost_prefix_beliefs_total", &[("found", what)]);
    assert_eq!([found("held"), found("lost"), found("emptied")].map(|n| n as u64), [9, 3, 1]);
    let tokens = |kind| page.value("milepost_worker_tokens_total", &[("kind", kind)]);
    let sum = |of: fn(&RequestRecord) -> Option<u64>| records.iter().filter_map(of).sum::<u64>();
    assert_eq!(tokens("cached") as u64, sum(|r| r.tokens.cached_tokens));
    assert_eq!(tokens("predicted_cached") as u64, sum(|r| r.predicted_cached_tokens));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_caches_whole_pages_alone_has_lost_nothing() {
    let net = PipeNet::default();
    let _engine = Engine::listen(&net, 1, 64);
    let router = router(&net, 1);
    for n in 1..=4 {
        for conversation in 0..8 {
            ask(&router, &turn(conversation, n)).await;
            ask(&router, &turn(conversation, n)).await;
        }
    }
    let corrections = router.shared.fleet.corrections();
    assert_eq!(corrections, Corrections { held: 8 * 7, ..Corrections::default() });
    let (records, _) = router.finish().await;
    assert!(records.iter().all(|r| r.tokens.cached_tokens.unwrap() % 64 == 0));
    assert_eq!(believed(records.last().unwrap()), turn(7, 4).len() as u64);
}

/// None of them can find what the first of them has not computed yet, and that is no loss.
#[tokio::test(start_paused = true)]
async fn a_herd_on_a_cold_prefix_forgets_nothing() {
    let net = PipeNet::default();
    let engine = Engine::listen(&net, 1, 1);
    *engine.together.lock().unwrap() = Arc::new(Barrier::new(20));
    let router = Arc::new(router(&net, 1));
    let herd: Vec<_> = (0..20)
        .map(|n| {
            let router = Arc::clone(&router);
            tokio::spawn(async move { ask(&router, &format!("{} {n}", turn(1, 2))).await })
        })
        .collect();
    for one in herd {
        one.await.unwrap();
    }
    *engine.together.lock().unwrap() = Arc::new(Barrier::new(1));
    ask(&router, &turn(1, 2)).await;
    assert_eq!(router.shared.fleet.corrections(), Corrections { held: 1, ..Corrections::default() });
    let router = Arc::into_inner(router).unwrap();
    let (records, _) = router.finish().await;
    assert!(records[..20].iter().all(|r| r.tokens.cached_tokens == Some(0)));
    assert!(records[1..].iter().all(|r| believed(r) > turn(1, 2).len() as u64 - 256));
    assert!(records[20].tokens.cached_tokens > Some(1_900));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_the_router_has_flushed_is_known_to_be_empty() {
    let net = PipeNet::default();
    let engines = [Engine::listen(&net, 1, 1), Engine::listen(&net, 2, 1)];
    let router = router(&net, 2);
    ask(&router, &turn(1, 2)).await;
    ask(&router, &turn(1, 2)).await;
    router.ask(generate(&turn(1, 2), "cache_aware")).await;
    assert_eq!(router.ask(post("/flush_cache", "")).await.status, 200);
    ask(&router, &turn(1, 2)).await;
    router.ask(generate(&turn(1, 2), "cache_aware")).await;
    assert_eq!(engines.map(|engine| engine.served.load(Ordering::Relaxed)), [3, 2]);
    let (records, _) = router.finish().await;
    let whole = turn(1, 2).len() as u64;
    assert_eq!([0, 1, 3].map(|n| believed(&records[n])), [0, whole, 0]);
    // sglang-router knows nothing of a flush, and what is faithful to it does not either.
    assert_eq!([2, 4].map(|n| believed(&records[n])), [0, whole]);
}

/// A server that nobody listens for has ended, and what it held with it; one that only takes long may hold everything.
#[tokio::test(start_paused = true)]
async fn a_server_that_was_started_anew_holds_nothing() {
    let net = PipeNet::default();
    Engine::listen(&net, 1, 1);
    let router = PipedRouter::start(&net, &[piped::url(1)], |config| {
        config.allow_policy_header = true;
        config.health.enabled = true;
        config.health.interval = Duration::from_secs(10);
    });
    router.shared.fleet.add_policy(Box::new(Affinity));
    tokio::time::sleep(Duration::from_secs(1)).await;
    ask(&router, &turn(1, 2)).await;
    ask(&router, &turn(1, 2)).await;
    net.close(1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    Engine::listen(&net, 1, 1);
    tokio::time::sleep(Duration::from_secs(10)).await;
    ask(&router, &turn(1, 2)).await;
    let (records, workers) = router.finish().await;
    assert_eq!([0, 1, 2].map(|n| believed(&records[n])), [0, turn(1, 2).len() as u64, 0]);
    assert!(workers.iter().all(|w| w.event != "unhealthy"), "it was away for one check");
}

/// The same words said by another are another prompt to the engine, though not to sglang-router.
#[tokio::test(start_paused = true)]
async fn a_chat_is_matched_by_who_says_what() {
    let net = PipeNet::default();
    let _engine = Engine::listen(&net, 1, 1);
    let router = router(&net, 1);
    let chat = |role: &str, policy: &str| {
        let header = format!("x-milepost-policy: {policy}\r\n");
        let more = r#"{"role":"user","content":"and now?"}"#;
        let body = format!(r#"{{"messages":[{{"role":"{role}","content":"{}"}},{more}]}}"#, turn(1, 2));
        post_with("/v1/chat/completions", &header, &body)
    };
    for (role, policy) in [
        ("system", "affinity"),
        ("system", "affinity"),
        ("user", "affinity"),
        ("system", "cache_aware"),
        ("assistant", "cache_aware"),
    ] {
        assert_eq!(router.ask(chat(role, policy)).await.status, 200);
    }
    let (records, _) = router.finish().await;
    let [first, again, other, faithful, any_role] = [0, 1, 2, 3, 4].map(|n| believed(&records[n]));
    assert_eq!([first, other, faithful], [0; 3]);
    assert!(again > turn(1, 2).len() as u64 && any_role > turn(1, 2).len() as u64);
    let again = &records[1];
    assert_eq!((again.predicted_cached_tokens, again.tokens.cached_tokens.map(|n| n + 1)), {
        let tokens = again.tokens.prompt_tokens;
        (tokens, tokens)
    });
    assert_eq!(again.prompt_bytes, Some(turn(1, 2).len() as u64 + 9), "of routing text, as ever");
}
