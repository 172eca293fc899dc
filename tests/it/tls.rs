//! TLS on both sides: what clients and https workers see, and what a user is told when certificates do not fit.

use std::path::Path;
use std::sync::Arc;

use milepost::config::RouteConfig;
use milepost::config::access::{Identity, TlsConfig};
use milepost::config::worker_url::WorkerUrl;
use milepost::trace::record::{ConnectionRecord, Outcome, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::certificates::{Authority, Front, Seen, nowhere, tunnel};
use crate::harness::{
    Client, PATIENCE, Step, TestRouter, Worker, ask, generate_stream, json, ok, post, start_error,
};
use crate::metrics::{scrape, serve_metrics};

fn refused_connections(records: &[Record]) -> Vec<&ConnectionRecord> {
    records.iter().filter_map(|r| if let Record::Connection(c) = r { Some(c) } else { None }).collect()
}

fn as_server(authority: &Authority) -> impl FnOnce(&mut RouteConfig) {
    let own = authority.identity("router", &["localhost"]);
    move |config| config.tls.server = Some(own)
}

#[tokio::test]
async fn a_client_speaks_https_to_the_router_and_keeps_its_connection() {
    let authority = Authority::new();
    let worker = Worker::start(|got| if got.body.len() > 20 { generate_stream(3) } else { ok() }).await;
    let router = TestRouter::with(&[&worker], as_server(&authority)).await;
    let mut client = Client::connect(tunnel(authority.client(&["h2", "http/1.1"]), router.addr).await).await;
    for body in ["{\"text\":\"a\"}", "{\"text\":\"a\",\"stream\":true}"] {
        client.send(post("/generate", body)).await;
        let response = client.response().await;
        assert_eq!((response.status, response.whole), (200, true));
    }
    let records = router.finish_requests().await;
    let clients: Vec<_> = records.iter().map(|r| r.client.clone().unwrap()).collect();
    assert_eq!(clients[0], clients[1], "one connection");
    assert_eq!((records[1].outcome, records[1].sse_events), (Outcome::Done, 3));
}

#[tokio::test]
async fn the_head_of_a_stream_and_a_large_body_pass_through_tls_on_both_sides() {
    let authority = Authority::new();
    let gate = Arc::new(Notify::new());
    let open = Arc::clone(&gate);
    let worker = Worker::start(move |got| {
        if got.body.len() > 1000 {
            return json(&format!("\"{}\"", "y".repeat(got.body.len())));
        }
        let mut steps = generate_stream(2);
        steps.insert(1, Step::Wait(Arc::clone(&gate)));
        steps
    })
    .await;
    let own = authority.identity("worker", &["127.0.0.1"]);
    let front = Front::start(&authority, &own, false, &worker.url).await;
    let serve = as_server(&authority);
    let root = authority.root();
    let router = TestRouter::with_urls(&[format!("https://127.0.0.1:{}", front.port)], |config| {
        serve(config);
        config.tls.ca_cert_paths = vec![root];
    })
    .await;
    let mut client = Client::connect(tunnel(authority.client(&[]), router.addr).await).await;
    client.send(post("/generate", "{\"text\":\"a\",\"stream\":true}")).await;
    // While the worker has not yet made a token.
    client.read_until("\r\n\r\n").await;
    open.notify_one();
    assert!(client.response().await.text().ends_with("data: [DONE]\n\n"));
    let large = format!("\"{}\"", "x".repeat(3_000_000));
    client.send(post("/other", &large)).await;
    assert_eq!(client.response().await.body.len(), large.len() + 2);
    assert_eq!(worker.requests()[1].body, large.as_bytes());

    let records = router.finish_requests().await;
    for r in &records {
        let order = [r.decided_ns, r.connected_ns, r.router_send_ns, r.first_byte_ns, r.head_ns];
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{order:?}");
        assert_eq!((r.outcome, r.same_host), (Outcome::Done, Some(true)));
    }
    assert_eq!((records[0].reused_connection, records[1].reused_connection), (false, true));
    assert!(records[0].first_token_ns > records[0].head_ns);
}

#[tokio::test]
async fn a_failed_handshake_is_a_connection_record_and_holds_up_nobody() {
    let authority = Authority::new();
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], as_server(&authority)).await;
    // One that says nothing, while the others come and go.
    let silent = TcpStream::connect(router.addr).await.unwrap();
    // One that only looks whether the port is open, as a load balancer does.
    drop(TcpStream::connect(router.addr).await.unwrap());
    let mut plain = TcpStream::connect(router.addr).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: r\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = plain.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.expect("it is closed").unwrap();
    let newer = TcpStream::connect(router.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let error = authority.client(&["h2"]).connect(name, newer).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("applicationprotocol"), "{error}");
    let addr = tunnel(authority.client(&[]), router.addr).await;
    assert_eq!(ask(addr, post("/generate", "{}")).await.status, 200);
    let page = scrape(serve_metrics(&router).await).await;
    assert_eq!(page.value("milepost_connections_unreadable_total", &[]) as u64, 2);
    drop(silent);

    let records = router.finish().await;
    let refused = refused_connections(&records);
    let words: Vec<&str> = refused.iter().map(|c| c.error.as_str()).collect();
    assert_eq!(words.len(), 2, "{words:?}");
    assert!(words.iter().all(|w| w.starts_with("TLS handshake: ")), "{words:?}");
    assert!(words.iter().any(|w| w.contains("speaks no TLS")), "{words:?}");
    assert!(refused.iter().all(|c| c.client.is_some() && c.requests == 0));
}

#[tokio::test]
async fn an_https_worker_is_named_and_told_who_asks() {
    let authority = Authority::new();
    let worker = Worker::start(|_| ok()).await;
    let own = authority.identity("worker", &["localhost"]);
    let front = Front::start(&authority, &own, true, &worker.url).await;
    let (root, client) = (authority.root(), authority.identity("client", &["router"]));
    let url = format!("https://localhost:{}", front.port);
    let router = TestRouter::with_urls(std::slice::from_ref(&url), |config| {
        config.tls = TlsConfig { client: Some(client), ca_cert_paths: vec![root], ..TlsConfig::default() };
    })
    .await;
    let response = ask(router.addr, post("/generate", "{}")).await;
    assert_eq!((response.status, response.header("x-worker-url")), (200, Some(url.as_str())));
    let seen = Seen { server_name: Some("localhost".to_owned()), protocol: None, client_certificates: 1 };
    // The router has asked it what it is, too.
    assert!(front.seen().len() >= 2 && front.seen().iter().all(|s| *s == seen), "{:?}", front.seen());
    let host = format!("localhost:{}", front.port);
    assert_eq!(worker.requests()[0].header("host"), Some(host.as_str()));
    assert_eq!(router.finish_requests().await[0].worker.as_deref(), Some(url.as_str()));
}

#[tokio::test]
async fn a_worker_that_cannot_be_believed_gets_no_request_and_the_reason_is_told() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let worker = Worker::start(|_| ok()).await;
    let good = authority.identity("worker", &["127.0.0.1"]);
    let elsewhere = authority.identity("elsewhere", &["gpu3"]);
    let signed_by_another = stranger.identity("worker", &["127.0.0.1"]);
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut cases = vec![(plain.local_addr().unwrap().port(), "speaks no TLS")];
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        }
    });
    for (own, wants_client, words) in [
        (&elsewhere, false, "not valid for name"),
        (&signed_by_another, false, "signed by nobody in --ca-cert-paths"),
        (&authority.as_identity(), false, "basicConstraints=CA:FALSE"),
        (&good, true, "ertificate"),
    ] {
        let front = Front::start(&authority, own, wants_client, &worker.url).await;
        cases.push((front.port, words));
    }
    for (port, words) in cases {
        let root = authority.root();
        let url = format!("https://127.0.0.1:{port}");
        let router = TestRouter::with_urls(&[url], |config| config.tls.ca_cert_paths = vec![root]).await;
        let response = ask(router.addr, post("/generate", "{}")).await;
        assert_eq!(response.status, 502, "{words}");
        let r = &router.finish_requests().await[0];
        assert_eq!(r.outcome, Outcome::Unreachable);
        assert!(r.failed_attempts[0].error.contains(words), "{words}: {}", r.failed_attempts[0].error);
    }
    assert!(worker.requests().is_empty());
}

#[tokio::test]
async fn without_roots_an_https_worker_is_refused_where_it_is_named() {
    let config = |urls: &[&str]| RouteConfig {
        workers: urls.iter().map(|u| WorkerUrl::parse(u).unwrap()).collect(),
        ..RouteConfig::default()
    };
    let error = start_error(config(&["http://a:1", "https://gpu3:8000"]));
    assert!(error.starts_with("https://gpu3:8000: ") && error.contains("--ca-cert-paths"), "{error}");
    let mut broken = config(&["https://gpu3:8000"]);
    broken.tls.ssl_cert_file = Some(nowhere().to_owned());
    let error = start_error(broken);
    assert!(error.contains("--ca-cert-paths") && error.contains("SSL_CERT_FILE: /nonexistent"), "{error}");

    let router = TestRouter::start(&[]).await;
    let response = ask(router.addr, post("/workers", r#"{"url":"https://gpu3:8000"}"#)).await;
    assert_eq!(response.status, 400);
    let text = response.text();
    assert!(text.contains("https://gpu3:8000") && text.contains("--ca-cert-paths"), "{text}");
    assert!(router.shared.fleet.workers().is_empty());
    router.finish().await;
}

#[tokio::test]
async fn ssl_cert_file_stands_in_for_the_flag() {
    let authority = Authority::new();
    let worker = Worker::start(|_| ok()).await;
    let own = authority.identity("worker", &["127.0.0.1"]);
    let front = Front::start(&authority, &own, false, &worker.url).await;
    let root = authority.root();
    let router = TestRouter::with_urls(&[format!("https://127.0.0.1:{}", front.port)], |config| {
        config.tls.ssl_cert_file = Some(root);
    })
    .await;
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    router.finish().await;
}

#[test]
fn files_that_cannot_be_used_are_told_by_flag_path_and_reason() {
    let authority = Authority::new();
    let (own, other) = (authority.identity("own", &["a"]), authority.identity("other", &["a"]));
    let text = authority.file("text.pem", "no PEM at all");
    let cut = std::fs::read_to_string(&own.cert_path).unwrap();
    let cut = authority.file("cut.pem", &cut[..cut.len() / 2]);
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let locked = authority.file("locked.pem", locked);
    let with = |cert: &Path, key: &Path| Identity { cert_path: cert.to_owned(), key_path: key.to_owned() };
    for (identity, bad, why) in [
        (with(nowhere(), &own.key_path), nowhere(), "No such file"),
        (with(&own.cert_path, nowhere()), nowhere(), "No such file"),
        (with(&text, &own.key_path), &text, "no certificate in it"),
        (with(&cut, &own.key_path), &cut, "broken PEM"),
        (with(&own.cert_path, &text), &text, "no private key in it"),
        (with(&own.cert_path, &locked), &locked, "encrypted"),
        (with(&own.cert_path, &other.key_path), &other.key_path, "is not the key of the certificate in"),
    ] {
        let server = TlsConfig { server: Some(identity.clone()), ..TlsConfig::default() };
        let client = TlsConfig { client: Some(identity), ..TlsConfig::default() };
        let told = [
            (server.incoming().unwrap_err().to_string(), "--tls-"),
            (client.outgoing().unwrap_err().to_string(), "--client-"),
        ];
        for (error, flag) in told {
            assert!(error.starts_with(flag) && error.contains(&*bad.to_string_lossy()), "{why}: {error}");
            assert!(error.contains(why), "{error}");
        }
    }
    for (bad, why) in [(nowhere(), "No such file"), (text.as_path(), "no certificate in it")] {
        let roots =
            TlsConfig { ca_cert_paths: vec![authority.root(), bad.to_owned()], ..TlsConfig::default() };
        let error = roots.outgoing().unwrap_err().to_string();
        assert!(error.starts_with("--ca-cert-paths: ") && error.contains(why), "{error}");
    }
}
