//! Policies through the router: what headers ask for reaches them, and trace and response say who chose and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use milepost::trace::record::{Outcome, RequestRecord};
use tokio::sync::Notify;

use crate::harness::{
    Client, Response, Step, TestRouter, Worker, ask, chunk, end, ok, post, post_with, stream_head,
};

async fn workers(count: usize) -> Vec<Worker> {
    let mut workers = Vec::new();
    for _ in 0..count {
        workers.push(Worker::start(|_| ok()).await);
    }
    workers
}

async fn router(workers: &[Worker], policy: &str, allow_policy_header: bool) -> TestRouter {
    let workers: Vec<&Worker> = workers.iter().collect();
    TestRouter::with(&workers, |config| {
        policy.clone_into(&mut config.policy);
        config.allow_policy_header = allow_policy_header;
    })
    .await
}

/// Sends a prompt with one more header and returns the answer.
async fn send(router: &TestRouter, header: &str, prompt: &str) -> Response {
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    ask(router.addr, post_with("/generate", &header, &format!("{{\"text\":\"{prompt}\"}}"))).await
}

/// The worker that took a prompt sent with this header.
async fn taken_by(router: &TestRouter, header: &str, prompt: &str) -> String {
    let response = send(router, header, prompt).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.header("x-worker-url").unwrap().to_owned()
}

fn reasons(records: &[RequestRecord]) -> Vec<&str> {
    records.iter().map(|r| r.decision.as_ref().map_or("", |decision| &*decision.reason)).collect()
}

#[tokio::test]
async fn a_request_names_its_policy_and_trace_and_response_name_the_one_that_chose() {
    let workers = workers(2).await;
    let router = router(&workers, "round_robin", true).await;
    let plain = send(&router, "", "a").await;
    let named = send(&router, "X-Milepost-Policy: shortest_queue", "a").await;
    let refused = send(&router, "x-milepost-policy: shortest-queue", "a").await;
    assert_eq!(plain.header("x-policy"), Some("round_robin"));
    assert_eq!(named.header("x-policy"), Some("shortest_queue"));
    assert_eq!((refused.status, refused.header("x-smg-error-code")), (400, Some("unknown_policy")));
    for part in ["x-milepost-policy", "did you mean shortest_queue?", "cache_aware", "consistent_hashing"] {
        assert!(refused.text().contains(part), "{part} in {}", refused.text());
    }
    let records = router.finish_requests().await;
    let policies: Vec<_> = records.iter().map(|r| r.policy.as_deref()).collect();
    assert_eq!(policies, [Some("round_robin"), Some("shortest_queue"), None]);
    assert_eq!(reasons(&records), ["turn", "fewest_in_flight", ""]);
    assert_eq!(records[2].outcome, Outcome::Refused);
}

#[tokio::test]
async fn where_no_flag_allows_it_the_header_counts_for_nothing() {
    let workers = workers(1).await;
    let router = router(&workers, "round_robin", false).await;
    for name in ["cache_aware", "no such policy"] {
        let response = send(&router, &format!("x-milepost-policy: {name}"), "a").await;
        assert_eq!((response.status, response.header("x-policy")), (200, Some("round_robin")));
    }
    router.finish_requests().await;
}

#[tokio::test]
async fn a_named_cache_aware_knows_what_the_configured_policy_sent_where() {
    let workers = workers(3).await;
    let router = router(&workers, "round_robin", true).await;
    let named = "x-milepost-policy: cache_aware";
    // The first one named is where it begins to listen.
    taken_by(&router, named, "something else").await;
    let prompt = "a prompt of some length ".repeat(20);
    let mut holders = Vec::new();
    for turn in 0..2 {
        holders.push(taken_by(&router, "", &format!("{turn} {prompt}")).await);
    }
    for turn in [1, 0, 1] {
        assert_eq!(taken_by(&router, named, &format!("{turn} {prompt} next")).await, holders[turn]);
    }
    let records = router.finish_requests().await;
    assert_eq!(reasons(&records)[3..], ["prefix_hit"; 3]);
    let chosen = records[3].decision.as_ref().unwrap().candidates.iter().find(|c| c.chosen).unwrap();
    assert!(chosen.prefix_match_bytes.unwrap() >= 400);
}

/// Streams of one prompt that do not end: the faithful mode never leaves its holder, the improved one asks the other worker, which
/// is a holder from then on. The trace tells who decided and why.
#[tokio::test]
async fn the_improved_cache_aware_gives_a_hot_prompt_a_second_holder() {
    let event = "data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n";
    for (policy, spill, counts) in
        [("cache_aware", None, [18, 0]), ("cache_aware_improved", Some(16), [16, 2])]
    {
        let go = Arc::new(Notify::new());
        let wait = Arc::clone(&go);
        let script = move |_: &_| {
            let done = chunk("data: [DONE]\n\n");
            vec![stream_head(), chunk(event), Step::Wait(Arc::clone(&wait)), done, end()]
        };
        let workers = [Worker::start(script.clone()).await, Worker::start(script).await];
        let router = router(&workers, policy, false).await;
        let body = format!("{{\"text\":\"{}\",\"stream\":true}}", "a hot prompt ".repeat(20));
        let mut clients = Vec::new();
        for _ in 0..18 {
            let mut client = Client::connect(router.addr).await;
            client.send(post("/generate", &body)).await;
            client.read_until("data: ").await;
            clients.push(client);
        }
        let ringing = tokio::spawn(async move {
            loop {
                go.notify_waiters();
                tokio::task::yield_now().await;
            }
        });
        for client in &mut clients {
            assert!(client.response().await.whole);
        }
        ringing.abort();
        let mut sent = workers.each_ref().map(|worker| worker.requests().len());
        sent.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(sent, counts, "{policy}");
        let mut records = router.finish_requests().await;
        records.sort_by_key(|record| record.seq);
        let expected = |at| match at {
            0 => "prefix_miss",
            at if Some(at) == spill => "prefix_spill",
            _ => "prefix_hit",
        };
        assert_eq!(reasons(&records), (0..18).map(expected).collect::<Vec<_>>());
        assert!(records.iter().all(|record| record.policy.as_deref() == Some(policy)));
    }
}

#[tokio::test]
async fn manual_keeps_a_routing_key_at_its_worker_and_survives_one_that_is_away() {
    let workers = workers(3).await;
    let router = router(&workers, "manual", false).await;
    let mut owners = BTreeMap::new();
    for turn in 0..12 {
        let key = format!("x-smg-routing-key: conversation {} with a space", turn % 4);
        let worker = taken_by(&router, &key, "a").await;
        let owner = owners.entry(key).or_insert_with(|| worker.clone());
        assert_eq!(*owner, worker);
    }
    let (key, owner) = owners.pop_first().unwrap();
    let away = router.shared.fleet.workers().into_iter().find(|w| w.url.as_str() == owner).unwrap();
    away.set_healthy(false);
    let second = taken_by(&router, &key, "a").await;
    assert_ne!(second, owner);
    away.set_healthy(true);
    assert_eq!(taken_by(&router, &key, "a").await, owner);
    let records = router.finish_requests().await;
    assert_eq!(reasons(&records)[..5], ["assigned", "assigned", "assigned", "assigned", "sticky"]);
    assert_eq!(reasons(&records)[12..], ["reassigned", "sticky"]);
}

#[tokio::test]
async fn consistent_hashing_takes_the_target_by_place_or_url_and_no_other_for_it() {
    let workers = workers(3).await;
    let router = router(&workers, "consistent_hashing", false).await;
    for (place, worker) in workers.iter().enumerate() {
        assert_eq!(taken_by(&router, &format!("x-smg-target-worker: {place}"), "a").await, worker.url);
        assert_eq!(
            taken_by(&router, &format!("X-SMG-Target-Worker: {}/", worker.url), "a").await,
            worker.url
        );
    }
    router.shared.fleet.workers()[1].set_healthy(false);
    for missing in ["1", "3", "http://nowhere:1", "the second"] {
        let response = send(&router, &format!("x-smg-target-worker: {missing}"), "a").await;
        assert_eq!(
            (response.status, response.header("x-smg-error-code")),
            (503, Some("no_available_workers"))
        );
        assert!(response.text().contains("X-SMG-Target-Worker"), "{}", response.text());
    }
    // The place is that among all, though the second is away.
    assert_eq!(taken_by(&router, "x-smg-target-worker: 2", "a").await, workers[2].url);
    let records = router.finish_requests().await;
    assert_eq!(reasons(&records), [["target"; 6].as_slice(), &[""; 4], &["target"]].concat());
}

#[tokio::test]
async fn two_routers_agree_on_a_key_whatever_the_order_of_their_workers() {
    let mut workers = workers(4).await;
    let one = router(&workers, "consistent_hashing", false).await;
    workers.reverse();
    let other = router(&workers, "consistent_hashing", false).await;
    let mut used = Vec::new();
    for n in 0..8 {
        for header in [
            format!("x-smg-routing-key: {n}"),
            format!("authorization: Bearer {n}"),
            format!("cookie: c={n}"),
        ] {
            let worker = taken_by(&one, &header, "a").await;
            assert_eq!(taken_by(&other, &header, "b").await, worker, "{header}");
            used.push(worker);
        }
    }
    used.sort();
    used.dedup();
    assert!(used.len() > 1, "keys spread");
    let records = one.finish_requests().await;
    assert_eq!(reasons(&records)[..3], ["routing_key", "client", "client"]);
    other.finish_requests().await;
}

#[tokio::test]
async fn prefix_hash_works_on_text_and_hashes_no_more_than_it_needs() {
    let workers = workers(4).await;
    let router = router(&workers, "prefix_hash", false).await;
    let mut owners = Vec::new();
    for family in 0..6 {
        let prompt = format!("family {family} ").repeat(200);
        let owner = taken_by(&router, "", &prompt).await;
        assert_eq!(taken_by(&router, "", &format!("{prompt} and more")).await, owner);
        owners.push(owner);
    }
    owners.sort();
    owners.dedup();
    assert!(owners.len() > 1, "families spread");
    // What begins alike is alike whatever the endpoint.
    let chat = |end: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"{}"}},{{"role":"user","content":"{end}"}}]}}"#,
            "hello ".repeat(300)
        )
    };
    let first = ask(router.addr, post("/v1/chat/completions", &chat("x"))).await;
    let second = ask(router.addr, post("/v1/chat/completions", &chat("y"))).await;
    assert_eq!(first.header("x-worker-url"), second.header("x-worker-url"));
    let records = router.finish_requests().await;
    assert!(reasons(&records).iter().all(|reason| *reason == "prefix"));
    assert!(records[0].decision.as_ref().unwrap().candidates.iter().all(|c| c.prefix_match_bytes.is_none()));
}

/// `--max-tree-size`: what was sent longest ago is no longer believed to be there. Not given, it is.
#[tokio::test]
async fn a_worker_that_holds_so_much_text_and_no_more_is_believed_to_have_lost_the_oldest() {
    for (worker_prefix_bytes, believed) in [(None, 300), (Some(400), 0)] {
        let worker = Worker::start(|_| ok()).await;
        let router = TestRouter::with(&[&worker], |c| {
            "cache_aware".clone_into(&mut c.policy);
            c.worker_prefix_bytes = worker_prefix_bytes;
        })
        .await;
        for prompt in ["a", "b", "b", "a"] {
            let body = format!("{{\"text\":\"{}\"}}", prompt.repeat(300));
            assert_eq!(ask(router.addr, post("/generate", &body)).await.status, 200);
        }
        let records = router.finish_requests().await;
        let matches = records.iter().map(|r| r.decision.as_ref().unwrap().candidates[0].prefix_match_bytes);
        assert_eq!(matches.collect::<Vec<_>>(), [0, 0, 300, believed].map(Some));
    }
}
