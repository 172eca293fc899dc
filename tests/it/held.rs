//! What a request holds while it waits, and that it lets go of it: its body, and its worker when the client has left.

use std::sync::Arc;

use milepost::trace::record::Outcome;
use milepost::wire::answer::ANSWER_CAP_BYTES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::harness::{Client, PATIENCE, Step, TestRouter, Worker, chunk, end, ok, post, stream_head};

const EVENT: &str = "data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n";

#[tokio::test]
async fn a_body_is_let_go_when_an_answer_has_begun_and_not_before() {
    let (go, rest) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (wait, wait_too) = (Arc::clone(&go), Arc::clone(&rest));
    let worker = Worker::start(move |_| {
        let (before, after) = (Step::Wait(Arc::clone(&wait)), Step::Wait(Arc::clone(&wait_too)));
        vec![before, stream_head(), chunk(EVENT), after, chunk("data: [DONE]\n\n"), end()]
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let body = format!("{{\"text\":\"{}\",\"stream\":true}}", "a".repeat(1 << 20));
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", &body)).await;
    while worker.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(router.shared.budget.used_bytes(), body.len() as u64, "another attempt would need it");
    go.notify_one();
    client.read_until("data: ").await;
    assert_eq!(router.shared.budget.used_bytes(), 0, "no attempt can follow");
    rest.notify_one();
    assert!(client.response().await.whole);
    assert_eq!(router.finish_requests().await[0].outcome, Outcome::Done);
}

/// So much that a router takes in a part of it alone.
fn far_ahead() -> String {
    format!("POST /generate HTTP/1.1\r\nhost: r\r\ncontent-length: 131072\r\n\r\n{}", "b".repeat(131_072))
}

#[tokio::test]
async fn a_client_that_has_sent_far_ahead_and_leaves_is_noticed_at_once() {
    for (streams, resets) in [(false, false), (true, false), (false, true), (true, true)] {
        let closed = Arc::new(Notify::new());
        let left = Arc::clone(&closed);
        let worker = Worker::start(move |_| {
            let mut steps = if streams { vec![stream_head(), chunk(EVENT)] } else { Vec::new() };
            steps.push(Step::UntilClosed(Arc::clone(&left)));
            steps
        })
        .await;
        let router = TestRouter::start(&[&worker]).await;
        let mut client = Client::connect(router.addr).await;
        client.send(post("/generate", r#"{"text":"a","stream":true}"#)).await;
        client.send(&far_ahead()[..100_000]).await;
        if streams {
            client.read_until("data: ").await;
        }
        while worker.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        if resets {
            client.stream.set_zero_linger().unwrap();
            drop(client);
        } else {
            client.stream.shutdown().await.unwrap();
        }
        tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the worker's connection closes");
        let records = router.finish_requests().await;
        assert_eq!(records[0].outcome, Outcome::ClientGone, "{streams} {resets}");
    }
}

#[tokio::test]
async fn a_client_that_has_sent_far_ahead_and_stays_gets_both_answers() {
    let go = Arc::new(Notify::new());
    let wait = Arc::clone(&go);
    let worker = Worker::start(move |got| {
        let first = got.body.len() < 100;
        if first { [vec![Step::Wait(Arc::clone(&wait))], ok()].concat() } else { ok() }
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"text":"a"}"#)).await;
    client.send(far_ahead()).await;
    while worker.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    for _ in 0..2 {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(worker.requests()[1].body.len(), 131_072);
    assert!(router.finish_requests().await.iter().all(|r| r.outcome == Outcome::Done));
}

#[tokio::test]
async fn answers_beyond_the_memory_for_reading_them_are_passed_on_unread_and_the_record_says_so() {
    let text = "w".repeat(200_000);
    let whole = format!("{{\"text\":\"{text}\",\"meta_info\":{{\"completion_tokens\":7}}}}");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        whole.len()
    );
    let (first, last) = (format!("{head}{}", &whole[..150_000]), whole[150_000..].to_owned());
    let (go, wait) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (go_on, wait_too) = (Arc::clone(&go), Arc::clone(&wait));
    let worker = Worker::start(move |got| {
        let gate = if got.body.contains(&b'1') { &wait_too } else { &go_on };
        vec![Step::Send(first.clone().into()), Step::Wait(Arc::clone(gate)), Step::Send(last.clone().into())]
    })
    .await;
    let router = TestRouter::with(&[&worker], |c| c.max_held_answer_bytes = 250_000).await;
    let mut clients = Vec::new();
    for number in 0..2 {
        let mut client = Client::connect(router.addr).await;
        client.send(post("/generate", &format!("{{\"text\":\"{number}\"}}"))).await;
        // The first 150,000 bytes have been passed on, and so they are held.
        client.read_until(&"w".repeat(149_000)).await;
        clients.push(client);
    }
    assert!(router.shared.answers.used_bytes() <= 250_000);
    go.notify_one();
    assert_eq!(clients[0].response().await.text(), whole);
    wait.notify_one();
    assert_eq!(clients[1].response().await.text(), whole, "to its client it makes no difference");
    assert_eq!(router.shared.answers.used_bytes(), 0);
    let records = router.finish_requests().await;
    let told: Vec<_> =
        records.iter().map(|r| (r.tokens.completion_tokens, r.answer_unread.as_deref())).collect();
    assert_eq!(told, [(Some(7), None), (None, Some("no_memory"))]);
    assert!(
        records.iter().all(|r| r.outcome == Outcome::Done && r.response_body_bytes == whole.len() as u64)
    );
}

#[tokio::test]
async fn an_answer_too_long_to_be_read_holds_no_memory_while_the_rest_of_it_comes() {
    let length = ANSWER_CAP_BYTES + 200_000;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    let go = Arc::new(Notify::new());
    let waits = Arc::clone(&go);
    let worker = Worker::start(move |_| {
        let most = [head.as_bytes(), &vec![b'w'; length - 1]].concat();
        vec![Step::Send(most), Step::Wait(Arc::clone(&waits)), Step::Send(b"w".to_vec())]
    })
    .await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", r#"{"text":"a"}"#)).await;
    let mut come = 0;
    let mut room = vec![0; 1 << 20];
    while come < length {
        come += client.stream.read(&mut room).await.unwrap();
    }
    assert_eq!(router.shared.answers.used_bytes(), 0);
    go.notify_one();
    assert_eq!(client.stream.read(&mut room[..1]).await.unwrap(), 1);
    drop(client);
    assert_eq!(router.finish_requests().await[0].answer_unread.as_deref(), Some("too_long"));
}
