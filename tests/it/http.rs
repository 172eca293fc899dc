//! HTTP as it should be on both sockets: what a worker receives is one unambiguous request, what a client receives is one
//! answer, whatever either of them does.

use std::sync::Arc;

use milepost::trace::record::{Outcome, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, chunk, end, find, generate_stream, json, ok, post,
    post_with, sequence, stream_head,
};

fn send(bytes: &str) -> Vec<Step> {
    vec![Step::Send(bytes.as_bytes().to_vec())]
}

/// All that comes until the router closes.
async fn to_the_end(client: &mut Client) -> String {
    let mut all = Vec::new();
    let read = client.stream.read_to_end(&mut all);
    tokio::time::timeout(PATIENCE, read).await.expect("the router closes").unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn two_framings_in_one_request_reach_a_worker_as_one() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let te = "transfer-encoding: chunked\r\n";
    for (first, second) in [("content-length: 3\r\n", te), (te, "content-length: 3\r\n")] {
        let request = format!(
            "POST /generate HTTP/1.1\r\nhost: r\r\n{first}{second}\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: r\r\n\r\n"
        );
        let mut client = Client::connect(router.addr).await;
        client.send(request).await;
        let all = to_the_end(&mut client).await;
        assert_eq!(all.matches("HTTP/1.1 200").count(), 1, "closed after it: {all}");
    }
    for got in worker.requests() {
        let head = got.head.to_ascii_lowercase();
        assert_eq!((head.matches("content-length: 5\r\n").count(), got.body.as_slice()), (1, &b"hello"[..]));
        assert!(!head.contains("transfer-encoding") && head.matches("content-length").count() == 1, "{head}");
    }
    assert_eq!(worker.requests().len(), 2);
    router.finish().await;
}

#[tokio::test]
async fn every_form_of_a_target_reaches_a_worker_as_a_path_with_one_host() {
    let worker = Worker::start(|_| json("{}")).await;
    let router = TestRouter::start(&[&worker]).await;
    let forms = [
        ("GET http://elsewhere/y?q=1", "GET /y?q=1 HTTP/1.1"),
        ("GET http://elsewhere", "GET / HTTP/1.1"),
        ("GET http://elsewhere?q=1", "GET /?q=1 HTTP/1.1"),
        ("GET /\u{e9}", "GET /%C3%A9 HTTP/1.1"),
        ("OPTIONS *", "OPTIONS * HTTP/1.1"),
    ];
    for (form, line) in forms {
        let response = ask(router.addr, format!("{form} HTTP/1.1\r\nhost: elsewhere\r\n\r\n")).await;
        assert_eq!(response.status, 200, "{form}");
        let got = worker.requests().pop().unwrap();
        assert_eq!(got.head.lines().next(), Some(line));
        assert_eq!(got.head.to_ascii_lowercase().matches("\r\nhost:").count(), 1);
        assert_eq!(got.header("host"), Some(&worker.url["http://".len()..]));
    }
    let twice = "GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";
    assert_eq!(ask(router.addr, twice).await.status, 400, "RFC 9112, 3.2");
    let wrong = ["GET elsewhere:80", "GET elsewhere", "GET *"];
    for form in wrong {
        let response = ask(router.addr, format!("{form} HTTP/1.1\r\nhost: elsewhere\r\n\r\n")).await;
        assert_eq!(response.status, 400, "{form}");
    }
    let records = router.finish_requests().await;
    assert_eq!(records.len(), forms.len() + 1 + wrong.len());
    assert!(records.iter().all(|r| !r.path.contains("q=1")), "no query in a record");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_each_with_a_record() {
    let worker = Worker::start(|got| json(&format!("\"{}\"", String::from_utf8_lossy(&got.body)))).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(["a", "b", "c"].map(|body| post("/other", body)).concat()).await;
    for body in ["\"a\"", "\"b\"", "\"c\""] {
        assert_eq!(client.response().await.text(), body);
    }
    drop(client);
    assert_eq!(router.finish_requests().await.len(), 3);
    assert_eq!(worker.requests().len(), 3);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told_and_the_worker_hears_nothing_of_it() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client
        .send("POST /generate HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await;
    assert_eq!(client.response_head().await.status, 100);
    client.send("{}").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(worker.requests()[0].header("expect"), None);
    router.finish().await;
}

#[tokio::test]
async fn a_client_that_did_not_wait_to_be_told_is_not_told() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post_with("/generate", "expect: 100-continue\r\n", "{}")).await;
    assert_eq!(client.response().await.status, 200, "it has sent its body already");
    router.finish().await;
}

#[tokio::test]
async fn a_http_1_0_client_gets_its_version_and_a_body_to_the_end_of_the_connection() {
    let worker = Worker::start(|_| generate_stream(2)).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send("POST /generate HTTP/1.0\r\ncontent-length: 15\r\n\r\n{\"stream\":true}").await;
    let all = to_the_end(&mut client).await;
    assert!(all.starts_with("HTTP/1.0 200 OK\r\n"), "{all}");
    assert!(!all.contains("transfer-encoding") && all.ends_with("data: [DONE]\n\n"), "{all}");
    assert_eq!(router.finish_requests().await[0].outcome, Outcome::Done);
}

#[tokio::test]
async fn connection_close_is_of_one_hop() {
    let closing = "HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\ncontent-length: 2\r\n\r\nok";
    let worker = Worker::start(sequence(vec![ok(), send(closing), ok()])).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send(post_with("/generate", "connection: close\r\n", "{}")).await;
    assert!(to_the_end(&mut client).await.starts_with("HTTP/1.1 200"));

    let mut client = Client::connect(router.addr).await;
    for _ in 0..2 {
        client.send(post("/other", "{}")).await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.header("x-hop"), response.header("connection")),
            (200, None, None)
        );
    }
    let connections: Vec<usize> = worker.requests().iter().map(|g| g.connection).collect();
    assert_eq!(
        connections,
        [0, 0, 1],
        "the client's close is not the worker's, and the worker's not the client's"
    );
    assert!(worker.requests().iter().all(|g| g.header("connection").is_none()));
    drop(client);
    router.finish().await;
}

#[tokio::test]
async fn a_head_answer_keeps_its_length_and_trailers_end_with_their_hop() {
    let trailers = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 31\r\n\r\n";
    let worker = Worker::start(sequence(vec![send(head), send(trailers)])).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    client.send("HEAD /x HTTP/1.1\r\nhost: r\r\n\r\n").await;
    assert_eq!(client.response_head().await.header("content-length"), Some("31"));
    client
        .send(
            "POST /x HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n",
        )
        .await;
    let response = client.response().await;
    assert_eq!((response.text().as_str(), response.whole), ("ok", true));
    assert_eq!(worker.requests()[1].body, b"hi");
    drop(client);
    router.finish().await;
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    let both =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let worker = Worker::start(move |_| send(both)).await;
    let router = TestRouter::start(&[&worker]).await;
    let response = ask(router.addr, post("/other", "{}")).await;
    assert_eq!((response.text().as_str(), response.header("content-length")), ("hello", None));
    router.finish().await;
}

#[tokio::test]
async fn bytes_beyond_an_answer_are_nobodys_and_end_its_connection() {
    let more =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad";
    let worker = Worker::start(sequence(vec![send(more), json("\"mine\"")])).await;
    let router = TestRouter::start(&[&worker]).await;
    let mut client = Client::connect(router.addr).await;
    for text in ["ok", "\"mine\""] {
        client.send(post("/other", "{}")).await;
        assert_eq!(client.response().await.text(), text);
    }
    let connections: Vec<usize> = worker.requests().iter().map(|g| g.connection).collect();
    assert_eq!(connections, [0, 1]);
    drop(client);
    router.finish().await;
}

#[tokio::test]
async fn after_the_first_response_byte_there_is_no_retry() {
    let unasked = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    for part in ["HTTP/1.1 200 OK\r\ncontent-le", "it is not HTTP\r\n\r\n", unasked] {
        let steps = vec![Step::Send(part.as_bytes().to_vec()), Step::Close];
        let broken = Worker::start(move |_| steps.clone()).await;
        let fine = Worker::start(|_| ok()).await;
        let router = TestRouter::start(&[&broken, &fine]).await;
        let response = ask(router.addr, post("/generate", "{}")).await;
        assert_eq!(
            (response.status, response.header("x-smg-error-code")),
            (502, Some("call_upstream_bad_answer"))
        );
        let r = &router.finish_requests().await[0];
        assert_eq!((r.outcome, r.attempts, r.failed_attempts.len()), (Outcome::WorkerReset, 1, 0));
        assert!(r.first_byte_ns.is_some() && r.head_ns.is_none());
        assert_eq!(fine.requests().len(), 0);
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_been_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let tell = Arc::clone(&tell);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while find(&seen, b"\r\n\r\n").is_none() {
                    if stream.read_buf(&mut seen).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig";
                stream.write_all(answer).await.unwrap();
                // What had been written is read, then the end; had it gone on, this would be all of the body.
                let mut bytes = seen.len();
                let mut rest = vec![0; 1 << 16];
                while let Ok(read @ 1..) = stream.read(&mut rest).await {
                    bytes += read;
                }
                if seen.starts_with(b"POST") {
                    assert!(bytes > 0);
                    tell.notify_one();
                }
            });
        }
    });
    let router = TestRouter::with_urls(&[url], |_| {}).await;
    let response = ask(router.addr, post("/generate", &" ".repeat(32 << 20))).await;
    assert_eq!((response.status, response.text().as_str()), (413, "big"));
    tokio::time::timeout(PATIENCE, closed.notified()).await.expect("a connection in mid-request is not kept");
    let r = &router.finish_requests().await[0];
    assert_eq!((r.outcome, r.status, r.attempts), (Outcome::WorkerError, Some(413), 1));
}

#[tokio::test]
async fn a_body_with_broken_framing_is_refused_and_its_client_is_not_gone() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    let coded = "POST /generate HTTP/1.1\r\nhost: r\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(ask(router.addr, coded).await.status, 501);
    let broken = "POST /generate HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n";
    assert_eq!(ask(router.addr, broken).await.status, 400);
    let r = &router.finish_requests().await[1];
    assert_eq!((r.outcome, r.status, worker.requests().len()), (Outcome::Refused, Some(400), 0));
}

#[tokio::test]
async fn what_is_not_looked_at_is_not_counted_and_what_was_not_asked_for_is_not_missing() {
    let gzip = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: 12\r\n\r\ndata: \x1f\n\nabc";
    let empty = json(r#"{"text":"","meta_info":{"id":"x","prompt_tokens":3,"completion_tokens":0}}"#);
    let mut unfinished =
        vec![stream_head(), chunk("data: {\"text\":\"a\",\"meta_info\":{\"completion_tokens\":1}}\n\n")];
    unfinished.push(end());
    let worker = Worker::start(sequence(vec![send(gzip), empty.clone(), empty, unfinished])).await;
    let router = TestRouter::start(&[&worker]).await;
    let none = r#"{"text":"a","sampling_params":{"max_new_tokens":0}}"#;
    for body in ["{}", none, "{}", "{\"stream\":true}"] {
        assert_eq!(ask(router.addr, post("/generate", body)).await.status, 200);
    }
    let records = router.finish_requests().await;
    assert_eq!(
        (records[0].outcome, records[0].sse_events, records[0].first_event_ns),
        (Outcome::Done, 0, None)
    );
    assert_eq!((records[1].outcome, records[1].error.as_deref()), (Outcome::Done, None));
    assert_eq!((records[2].outcome, records[2].error.as_deref()), (Outcome::WorkerError, Some("no_tokens")));
    assert_eq!((records[3].outcome, records[3].error.as_deref()), (Outcome::WorkerError, Some("truncated")));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_not_waited_for_for_ever() {
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 32 << 20);
    let worker =
        Worker::start(move |_| vec![Step::Send(large.clone().into()), Step::Send(vec![b'x'; 32 << 20])])
            .await;
    let router = TestRouter::with(&[&worker], |c| {
        c.request_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/other", "{}")).await;
    client.read_until("\r\n\r\n").await;
    let fleet = Arc::clone(&router.shared.fleet);
    let given_back = async {
        while fleet.workers()[0].in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("the lease comes back");
    let outcome = router.finish_requests().await[0].outcome;
    assert!(matches!(outcome, Outcome::ClientGone | Outcome::TimedOut), "{outcome:?}");
    drop(client);
}

#[tokio::test]
async fn what_the_end_of_the_grace_period_cuts_was_not_left_by_its_client() {
    let (seen, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrived, tell) = (Arc::clone(&seen), Arc::clone(&closed));
    let worker = Worker::start(move |_| {
        arrived.notify_one();
        vec![Step::UntilClosed(Arc::clone(&tell))]
    })
    .await;
    let router = TestRouter::with(&[&worker], |c| {
        c.shutdown_grace = std::time::Duration::from_millis(20);
    })
    .await;
    let mut client = Client::connect(router.addr).await;
    client.send(post("/generate", "{}")).await;
    tokio::time::timeout(PATIENCE, seen.notified()).await.expect("the worker gets the request");
    let records = router.finish().await;
    let outcomes: Vec<Outcome> = records
        .iter()
        .filter_map(|r| if let Record::Request(r) = r { Some(r.outcome) } else { None })
        .collect();
    assert_eq!(outcomes, [Outcome::Stopped]);
    drop(client);
}

#[tokio::test]
async fn a_worker_url_of_odd_bytes_is_refused_in_words() {
    let router = TestRouter::with_urls(&[], |_| {}).await;
    for url in ["http:/é", "https:/€", "http://u:secret@g:1/é"] {
        let response = ask(router.addr, post("/workers", &format!("{{\"url\":\"{url}\"}}"))).await;
        assert_eq!(response.status, 400, "{url}");
        assert!(!response.text().contains("secret"));
    }
    router.finish().await;
}
