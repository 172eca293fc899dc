//! Targets that are spoken to by TLS, and each way in which a certificate does not fit.

use std::process::Command;
use std::time::Duration;

use milepost::clock::Clock;
use milepost::config::access::Identity;
use rcgen::{CertificateParams, date_time_ymd};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::certificates::{Authority, Front};
use crate::cli::{Folder, SMALL, bench, output, serving, text};
use crate::server::{Server, about, stream};

/// The port of a server that shows this certificate.
async fn secured(authority: &Authority, own: &Identity, wants_client: bool) -> u16 {
    let plain = serving().listen().await;
    Front::start(authority, own, wants_client, &plain).await.port
}

/// What the environment has set is not the test's.
fn trusting(folder: &Folder, args: &str) -> Command {
    let mut command = bench(folder, args);
    command.env_remove("SSL_CERT_FILE");
    command
}

/// A server of plain HTTP: what is no request of it is answered so.
async fn not_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read_u8().await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        }
    });
    url
}

#[tokio::test]
async fn a_run_by_https_counts_its_handshakes_apart() {
    let (authority, folder) = (Authority::new(), Folder::new("https"));
    let port = secured(&authority, &authority.identity("s", &["127.0.0.1"]), false).await;
    let root = authority.root();
    let args = format!("--base-url https://127.0.0.1:{port} {SMALL} --max-concurrency 1 --warmup-requests 0");
    let by_flag = trusting(&folder, &format!("{args} --ca-cert-paths {}", root.display()));
    let mut by_environment = trusting(&folder, &args);
    by_environment.env("SSL_CERT_FILE", &root);
    for command in [by_flag, by_environment] {
        let out = output(command).await;
        let told = text(&out.stdout);
        // Places that a busy machine leaves empty are SUSPECT.
        assert!(matches!(out.status.code(), Some(0 | 3)), "{}{told}", text(&out.stderr));
        assert!(told.contains("TLS handshakes (mean, in no latency from send)"), "{told}");
        let run: Value = serde_json::from_str(&folder.read("milepost-bench/latest/run.json")).unwrap();
        assert_eq!(run["tls_handshakes"], run["connections_opened"], "each connection has one");
        assert!(run["mean_tls_handshake_ms"].as_f64() > Some(0.0), "{run}");
        assert!(run["config"]["base_url"].as_str().unwrap().starts_with("https://"));
        let csv = folder.read("milepost-bench/latest/requests.csv");
        assert_eq!(csv.matches(&format!("127.0.0.1:{port}")).count(), 3, "the worker is named: {csv}");
    }
}

#[tokio::test]
async fn each_certificate_that_does_not_fit_is_told_for_what_it_is() {
    let (authority, stranger, folder) = (Authority::new(), Authority::new(), Folder::new("tls-unfit"));
    let mut expired = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (expired.not_before, expired.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    let expired = secured(&authority, &authority.sign("old", &expired), false).await;
    let other = secured(&authority, &authority.identity("other", &["gpu9.example"]), false).await;
    let good = secured(&authority, &authority.identity("good", &["127.0.0.1"]), false).await;
    let asks = secured(&authority, &authority.identity("asks", &["127.0.0.1"]), true).await;
    let plain = not_tls().await;
    let (root, foreign) = (authority.root(), stranger.root());
    for (url, root, words) in [
        (format!("https://127.0.0.1:{expired}"), &root, &["tls: TLS handshake", "expired", "clock"][..]),
        (
            format!("https://127.0.0.1:{other}"),
            &root,
            &["tls: TLS handshake", "not valid for name", "gpu9.example"],
        ),
        (
            format!("https://127.0.0.1:{good}"),
            &foreign,
            &["tls: TLS handshake", "signed by nobody in --ca-cert-paths"],
        ),
        (plain, &root, &["tls: TLS handshake", "the other side speaks no TLS"]),
        (
            format!("http://127.0.0.1:{good}"),
            &root,
            &["malformed: not HTTP/1.1", "an https port needs https://"],
        ),
        (format!("https://127.0.0.1:{asks}"), &root, &["warm-up request failed"]),
    ] {
        let out = output(trusting(
            &folder,
            &format!("--base-url {url} {SMALL} --ca-cert-paths {}", root.display()),
        ))
        .await;
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{url}: {told}");
        for word in words {
            assert!(told.contains(word), "{url}: {word:?} in {told}");
        }
        assert!(!folder.0.join("milepost-bench").exists(), "{url}: no result of a run that was none");
    }
}

/// Without the warm-up each request is a row that says the same.
#[tokio::test]
async fn a_failed_handshake_is_a_row_of_its_own_class() {
    let (authority, folder) = (Authority::new(), Folder::new("tls-rows"));
    let port = secured(&authority, &authority.identity("s", &["gpu9.example"]), false).await;
    let args = format!("--base-url https://127.0.0.1:{port} {SMALL} --warmup-requests 0");
    let out =
        output(trusting(&folder, &format!("{args} --ca-cert-paths {}", authority.root().display()))).await;
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    let csv = folder.read("milepost-bench/latest/requests.csv");
    assert_eq!(csv.matches("tls: TLS handshake: invalid peer certificate").count(), 3, "{csv}");
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_usage_errors() {
    let (authority, folder) = (Authority::new(), Folder::new("tls-usage"));
    let own = authority.identity("own", &["x"]);
    let bad = authority.file("bad.pem", "no certificate");
    let (bad, cert) = (bad.display(), own.cert_path.display());
    for (args, words) in [
        (format!("--base-url https://127.0.0.1:9 {SMALL}"), &["--ca-cert-paths", "SSL_CERT_FILE"][..]),
        (
            format!("--base-url https://127.0.0.1:9 {SMALL} --ca-cert-paths {bad}"),
            &["--ca-cert-paths", "bad.pem", "PEM"],
        ),
        (
            format!("--base-url http://127.0.0.1:9 {SMALL} --ca-cert-paths {bad}"),
            &["--ca-cert-paths", "bad.pem"],
        ),
        (
            format!("--base-url http://127.0.0.1:9 {SMALL} --router-trace https://127.0.0.1:9/t"),
            &["--ca-cert-paths"],
        ),
        (format!("--base-url https://127.0.0.1:9 {SMALL} --client-cert-path {cert}"), &["--client-key-path"]),
        (
            format!("--base-url https://a..b:9 {SMALL}"),
            &["--base-url", "no certificate can be for this host"],
        ),
    ] {
        let out = output(trusting(&folder, &args)).await;
        let told = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args}: {told}");
        for word in words {
            assert!(told.contains(word), "{args}: {word:?} in {told}");
        }
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_workers_are_compared_by_https_too() {
    let (authority, folder) = (Authority::new(), Folder::new("tls-client"));
    let events = crate::data("sglang-0.5.23_generate_stream.sse");
    let server = Server::new(&Clock::system(), move |got| {
        about(got).unwrap_or_else(|| stream(&events, Duration::ZERO))
    });
    let plain = server.listen().await;
    let own = authority.identity("client", &["client"]);
    let front = Front::start(&authority, &authority.identity("s", &["127.0.0.1"]), true, &plain).await;
    let url = format!("https://127.0.0.1:{}", front.port);
    let args = format!(
        "--check-outputs --worker-urls {url} {plain} --prompt x --ca-cert-paths {} --client-cert-path {} --client-key-path {}",
        authority.root().display(),
        own.cert_path.display(),
        own.key_path.display()
    );
    let out = output(trusting(&folder, &args)).await;
    assert_eq!(out.status.code(), Some(0), "{}{}", text(&out.stderr), text(&out.stdout));
    assert!(front.seen().iter().all(|seen| seen.client_certificates == 1));
}
