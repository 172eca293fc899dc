//! Framing on both sides, byte for byte: what might be read in two ways is refused, and what was cut is not taken for whole.

use std::sync::Arc;

use milepost::trace::record::{Outcome, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, chunk, find, json, ok, post, sequence, stream_head,
};

/// All that comes until the router closes, in good order or not.
async fn to_the_end(client: &mut Client) -> String {
    let mut all = Vec::new();
    let read = client.stream.read_to_end(&mut all);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("the router closes");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_reaches_no_worker_nor_does_what_follows_it() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let te = "transfer-encoding: chunked\r\n";
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let cases = [
        ("content-length: 5\r\ncontent-length: 6\r\n".to_owned(), "hello"),
        ("content-length: 5, 5\r\n".to_owned(), "hello"),
        ("content-length: +5\r\n".to_owned(), "hello"),
        ("content-length: 0x5\r\n".to_owned(), "hello"),
        ("content-length: 5 5\r\n".to_owned(), "hello"),
        ("content-length : 5\r\n".to_owned(), "hello"),
        ("content-length\t: 5\r\n".to_owned(), "hello"),
        ("content-length: 99999999999999999999\r\n".to_owned(), "hello"),
        ("content-length: 5\rx: y\r\n".to_owned(), "hello"),
        ("x: y\r\n content-length: 5\r\n".to_owned(), "hello"),
        ("x\0: y\r\ncontent-length: 5\r\n".to_owned(), "hello"),
        ("x: \0\r\ncontent-length: 5\r\n".to_owned(), "hello"),
        (": y\r\ncontent-length: 5\r\n".to_owned(), "hello"),
        ("transfer-encoding: xchunked\r\n".to_owned(), body),
        ("transfer-encoding: chunked, identity\r\n".to_owned(), body),
        ("transfer-encoding: \x0bchunked\r\n".to_owned(), body),
        ("transfer-encoding: \"chunked\"\r\n".to_owned(), body),
        ("transfer-encoding:\r\n chunked\r\n".to_owned(), body),
        ("transfer-encoding : chunked\r\n".to_owned(), body),
        (format!("{te}transfer-encoding: x\r\n"), body),
        (format!("transfer-encoding: x\r\n{te}"), body),
        (format!("{te}{te}"), body),
        (te.to_owned(), "5\nhello\r\n0\r\n\r\n"),
        (te.to_owned(), "5\r\nhello0\r\n\r\n"),
        (te.to_owned(), "5\r\nhello\r\n0\r\nx: y\n\r\n"),
        (te.to_owned(), "5\r\nhello\r\n0\r\n\n"),
        (te.to_owned(), "5;x\ny\r\nhello\r\n0\r\n\r\n"),
        (te.to_owned(), "5 5\r\nhello\r\n0\r\n\r\n"),
        (te.to_owned(), "-5\r\nhello\r\n0\r\n\r\n"),
        (te.to_owned(), "0x5\r\nhello\r\n0\r\n\r\n"),
        (te.to_owned(), "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ];
    for (fields, body) in &cases {
        let next = "GET /next HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n";
        let request = format!("POST /other HTTP/1.1\r\nhost: r\r\n{fields}\r\n{body}{next}");
        let mut client = Client::connect(router.addr).await;
        client.send(request).await;
        let all = to_the_end(&mut client).await;
        let told: Vec<&str> = all.matches("HTTP/1.1 ").collect();
        let refused = all.starts_with("HTTP/1.1 400 ") || all.starts_with("HTTP/1.1 501 ");
        // A body that is whole leaves no doubt about the next request, whatever its coding was.
        let coded = all.starts_with("HTTP/1.1 501 ");
        assert!(refused && (told.len() == 1 || coded), "{fields:?} {body:?}: {all}");
        let got = std::mem::take(&mut *worker.got.lock().unwrap());
        assert!(got.iter().all(|g| coded && g.head.starts_with("GET /next ")), "{fields:?} {body:?}");
    }
    router.finish().await;
}

#[tokio::test]
async fn what_is_not_http_1_is_told_so_and_noted() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let cases = [
        "GET /\r\n\r\n",
        "GET /\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET  / HTTP/1.1\r\nhost: r\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: r\r\n\r\n",
        " GET / HTTP/1.1\r\nhost: r\r\n\r\n",
        "GET / HTTP/1.1\rhost: r\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nhost: r\r\n\r\n",
        "GET / HTTP/1.1\r\n host: r\r\n\r\n",
    ];
    for bytes in cases {
        let mut client = Client::connect(router.addr).await;
        client.send(bytes).await;
        let all = to_the_end(&mut client).await;
        assert!(
            all.starts_with("HTTP/1.1 400 ") && all.matches("HTTP/1.1 ").count() == 1,
            "{bytes:?}: {all}"
        );
    }
    let records = router.finish().await;
    let noted = records.iter().filter(|r| matches!(r, Record::Connection(_))).count();
    assert_eq!((noted, worker.requests().len()), (cases.len(), 0));
}

#[tokio::test]
async fn a_head_with_too_much_in_it_is_a_431() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    for fields in ["a: b\r\n".repeat(101), format!("a: {}\r\n", "b".repeat(200_000))] {
        let mut client = Client::connect(router.addr).await;
        client.send(format!("GET / HTTP/1.1\r\nhost: r\r\n{fields}\r\n")).await;
        let all = to_the_end(&mut client).await;
        assert!(all.starts_with("HTTP/1.1 431 "), "{all}");
    }
    let records = router.finish().await;
    assert_eq!(records.iter().filter(|r| matches!(r, Record::Connection(_))).count(), 2);
}

#[tokio::test]
async fn a_refused_request_ends_and_the_one_behind_it_is_served() {
    let worker = Worker::start(|_| json("{}")).await;
    let router = TestRouter::start(&[&worker]).await;
    let hidden = "GET /hidden HTTP/1.1\r\nhost: r\r\n\r\n";
    let mut client = Client::connect(router.addr).await;
    let twice = format!(
        "POST /a HTTP/1.1\r\nhost: r\r\nhost: r\r\ncontent-length: {}\r\n\r\n{hidden}GET /b HTTP/1.1\r\nhost: r\r\n\r\n",
        hidden.len()
    );
    client.send(twice).await;
    assert_eq!(client.response().await.status, 400);
    assert_eq!(client.response().await.status, 200);
    drop(client);
    let lines: Vec<String> =
        worker.requests().iter().map(|g| g.head.lines().next().unwrap().into()).collect();
    assert_eq!(lines, ["GET /b HTTP/1.1"], "no request is made of a body");
    assert_eq!(router.finish_requests().await.len(), 2);
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_never_taken_for_a_whole_one() {
    let plain = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world";
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\nt: 1\r\n\r\n";
    let interim = "HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for answer in [plain, chunked, interim] {
        let mut cuts = Vec::new();
        for cut in 1..=answer.len() {
            cuts.push(vec![Step::Send(answer[..cut].into()), Step::Close]);
        }
        let worker = Worker::start(sequence(cuts)).await;
        let router = TestRouter::with(&[&worker], |c| c.breaker.failure_threshold = 1000).await;
        for cut in 1..=answer.len() {
            let response = ask(router.addr, post("/other", "{}")).await;
            let whole = response.status == 200 && response.whole;
            assert_eq!(whole, cut == answer.len(), "{:?}", &answer[..cut]);
            assert!(response.status == 200 || response.status == 502, "{:?}", &answer[..cut]);
        }
        let records = router.finish_requests().await;
        assert_eq!(records.len(), answer.len());
        for (r, cut) in records.iter().zip(1..) {
            let wanted = if cut == answer.len() { Outcome::Done } else { Outcome::WorkerReset };
            assert_eq!(r.outcome, wanted, "{:?}", &answer[..cut]);
        }
    }
}

#[tokio::test]
async fn a_reset_is_not_the_end_of_an_answer_that_ends_with_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // The request's last byte stays unread, so that closing resets the connection.
                let mut seen = Vec::new();
                while find(&seen, b"\r\n\r\n{").is_none() {
                    let mut byte = [0];
                    if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                        return;
                    }
                    seen.push(byte[0]);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            });
        }
    });
    let router = TestRouter::with_urls(&[url], |c| c.breaker.failure_threshold = 1000).await;
    for _ in 0..20 {
        let response = ask(router.addr, post("/other", "{}")).await;
        let whole = response.status == 200 && response.whole;
        assert!(!whole, "a part is told as the whole: {}", response.head);
    }
    for r in router.finish_requests().await {
        assert_eq!(r.outcome, Outcome::WorkerReset);
    }
}

#[tokio::test]
async fn answers_without_a_body_end_with_their_head() {
    let bodies = [
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 3\r\n\r\nabc"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\nabc"),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    ];
    for (method, answer) in bodies {
        let worker = Worker::start(sequence(vec![vec![Step::Send(answer.into())], json("\"mine\"")])).await;
        let router = TestRouter::start(&[&worker]).await;
        let mut client = Client::connect(router.addr).await;
        client.send(format!("{method} /x HTTP/1.1\r\nhost: r\r\n\r\n")).await;
        client.response_head().await;
        client.send(post("/other", "{}")).await;
        assert_eq!(client.response().await.text(), "\"mine\"", "{method} {answer:?}");
        let connections: Vec<usize> = worker.requests().iter().map(|g| g.connection).collect();
        assert_eq!(connections, [0, 1], "what follows the head is nobody's");
        drop(client);
        router.finish().await;
    }
}

#[tokio::test]
async fn hundreds_of_pipelined_requests_are_answered_to_a_slow_reader_in_order() {
    let worker = Worker::start(|got| json(&format!("\"{}\"", String::from_utf8_lossy(&got.body)))).await;
    let router = TestRouter::start(&[&worker]).await;
    let client = TcpStream::connect(router.addr).await.unwrap();
    let (mut from, mut to) = client.into_split();
    let padding = "x".repeat(2000);
    let sending = async {
        for n in 0..400 {
            to.write_all(post("/other", &format!("{n} {padding}")).as_bytes()).await.unwrap();
        }
    };
    let reading = async {
        let mut all = Vec::new();
        while find(&all[all.len().saturating_sub(4096)..], format!("\"399 {padding}\"").as_bytes()).is_none()
        {
            assert_ne!(from.read_buf(&mut all).await.unwrap(), 0);
            tokio::task::yield_now().await;
        }
        String::from_utf8(all).unwrap()
    };
    let both = async { tokio::join!(sending, reading).1 };
    let all = tokio::time::timeout(PATIENCE, both).await.expect("all answers come");
    let order: Vec<usize> =
        all.split("\r\n\r\n\"").skip(1).map(|a| a.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(order, (0..400).collect::<Vec<_>>());
    drop((from, to));
    assert_eq!(router.finish_requests().await.len(), 400);
}

#[tokio::test]
async fn a_client_that_has_sent_ahead_and_leaves_ends_its_stream() {
    let closed = Arc::new(Notify::new());
    let steps = vec![stream_head(), Step::UntilClosed(Arc::clone(&closed))];
    let worker = Worker::start(move |_| steps.clone()).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", "{}").repeat(20)).await;
    client.response_head().await;
    drop(client);
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the worker is left at once");
    let records = router.finish_requests().await;
    assert_eq!((records.len(), records[0].outcome), (1, Outcome::ClientGone));
}

#[tokio::test]
async fn a_client_that_leaves_while_it_takes_nothing_ends_its_answer() {
    let length = 32 << 20;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    let steps = vec![Step::Send(head.into()), Step::Send(vec![b'x'; length])];
    let worker = Worker::start(move |_| steps.clone()).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/other", "{}")).await;
    client.response_head().await;
    drop(client);
    let r = &router.finish_requests().await[0];
    assert_eq!((r.outcome, r.attempts), (Outcome::ClientGone, 1));
    assert!(r.response_body_bytes < length as u64);
}

#[tokio::test]
async fn a_client_that_has_sent_more_ahead_than_is_read_is_found_gone_by_the_next_event() {
    let (go, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let event = chunk("data: {}\n\n");
    let steps =
        vec![stream_head(), Step::Wait(Arc::clone(&go)), event, Step::UntilClosed(Arc::clone(&closed))];
    let worker = Worker::start(move |_| steps.clone()).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", &" ".repeat(1000)).repeat(300)).await;
    // The head stays unread, so that closing resets the connection.
    client.stream.readable().await.unwrap();
    drop(client);
    go.notify_one();
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("the worker is left");
    let records = router.finish_requests().await;
    assert_eq!((records.len(), records[0].outcome), (1, Outcome::ClientGone));
}
