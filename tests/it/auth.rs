//! Keys: who is let in, what a worker gets, and that no key is ever written down.

use milepost::clock::Clock;
use milepost::config::RouteConfig;
use milepost::config::access::{ApiKey, AuthConfig, ControlPlaneKey};
use milepost::config::worker_url::WorkerUrl;
use milepost::fleet::spec::WorkerSpec;
use milepost::net::{Connector, PipeNet};
use milepost::proxy::serve::Router;
use milepost::trace::record::Outcome;

use crate::harness::{Got, PATIENCE, TestRouter, Worker, ask, ok, post, post_with};

fn key(text: &str) -> Option<ApiKey> {
    ApiKey::new(text)
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: r\r\n{headers}\r\n")
}

fn authorizations(got: &Got) -> Vec<&str> {
    let named = |line: &&str| line.to_ascii_lowercase().starts_with("authorization:");
    got.head.lines().filter(named).map(|line| line.split_once(':').unwrap().1.trim()).collect()
}

#[tokio::test]
async fn without_the_key_there_is_a_401_with_it_the_worker_gets_it_once() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| c.auth.api_key = key("CANARY")).await;
    for headers in ["", "authorization: Bearer CANARY-NOT\r\n", "authorization: Basic CANARY\r\n"] {
        let refused = ask(router.addr, post_with("/generate", headers, "{}")).await;
        assert_eq!((refused.status, refused.text().as_str()), (401, ""), "{headers}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert!(refused.header("x-request-id").is_some(), "so that it can be found in the trace");
    }
    assert_eq!(worker.requests().len(), 0);
    let twice = "authorization: Bearer CANARY\r\nauthorization: Bearer other\r\n";
    for headers in ["authorization: Bearer CANARY\r\n", twice] {
        assert_eq!(ask(router.addr, post_with("/generate", headers, "{}")).await.status, 200);
        assert_eq!(authorizations(worker.requests().last().unwrap()), ["Bearer CANARY"]);
    }
    assert_eq!(ask(router.addr, get("/health", "")).await.status, 200, "probes need no key");
    assert_eq!(ask(router.addr, get("/readiness", "")).await.status, 200);
    assert_eq!(ask(router.addr, get("/workers", "")).await.status, 401);
    assert!(!format!("{:?}", router.shared.config).contains("CANARY"));
    assert_written_without(&router, 8, "CANARY").await;
    let records = router.finish_requests().await;
    let refused: Vec<_> = records.iter().filter(|r| r.status == Some(401)).collect();
    assert_eq!(refused.len(), 4);
    assert!(refused.iter().all(|r| r.outcome == Outcome::Refused && r.worker.is_none()));
    assert!(refused[0].error.as_deref().unwrap().starts_with("unauthorized: "));
}

/// Waits until the trace file has so many requests, and looks at its bytes.
async fn assert_written_without(router: &TestRouter, requests: usize, secret: &str) {
    let path = router.shared.config.trace_log.clone().unwrap();
    let written = async {
        loop {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.matches("\"kind\":\"request\"").count() == requests {
                return text;
            }
            tokio::task::yield_now().await;
        }
    };
    let text = tokio::time::timeout(PATIENCE, written).await.expect("the trace is written");
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn a_worker_with_a_key_of_its_own_gets_that_one_and_never_two() {
    // Of the router, of the worker, from the client; what arrives.
    for (routers, workers, client, arrives) in [
        (Some("ROUTER"), Some("WORKER"), Some("ROUTER"), &["Bearer WORKER"][..]),
        (None, Some("WORKER"), None, &["Bearer WORKER"]),
        (None, Some("WORKER"), Some("own"), &["Bearer own"]),
        (None, None, Some("own"), &["Bearer own"]),
        (None, None, None, &[]),
    ] {
        let worker = Worker::start(|_| ok()).await;
        let router = TestRouter::with_urls(&[], |c| c.auth.api_key = routers.and_then(key)).await;
        let url = WorkerUrl::parse(&worker.url).unwrap();
        let api_key = workers.and_then(key);
        router.shared.fleet.add(WorkerSpec { api_key, ..WorkerSpec::from(url) }).unwrap();
        let headers = client.map_or(String::new(), |c| format!("authorization: Bearer {c}\r\n"));
        assert_eq!(ask(router.addr, post_with("/generate", &headers, "{}")).await.status, 200);
        assert_eq!(authorizations(&worker.requests()[0]), arrives, "{routers:?} {workers:?} {client:?}");
        router.finish().await;
    }
}

#[tokio::test]
async fn control_endpoints_with_keys_of_their_own_take_an_admins_alone() {
    use Outcome::{Done, Refused};
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::with(&[&worker], |c| {
        let named = |id: &str, is_admin| ControlPlaneKey {
            id: id.to_owned(),
            name: format!("name of {id}"),
            is_admin,
            key: key(&format!("CANARY-{id}")).unwrap(),
        };
        c.auth.api_key = key("K");
        c.auth.control_plane = vec![named("root", true), named("guest", false)];
        c.auth.audit = true;
    })
    .await;
    let with = |key: &str| format!("authorization: Bearer {key}\r\n");
    for (key, status, code) in [
        ("K", 401, Some("unauthorized")),
        ("CANARY-guest", 403, Some("forbidden")),
        ("CANARY-root", 200, None),
    ] {
        let answer = ask(router.addr, get("/workers", &with(key))).await;
        assert_eq!((answer.status, answer.header("x-smg-error-code")), (status, code), "{key}");
    }
    // A worker undoes the percent-encoding, so it hides no control endpoint, and makes none public.
    for path in ["/%66lush_cache", "/flush%5Fcache", "/workers/%ff", "/%68ealth"] {
        let wanted = if path.contains("ealth") { 200 } else { 401 };
        assert_eq!(ask(router.addr, get(path, &with("K"))).await.status, wanted, "{path}");
        assert_eq!(ask(router.addr, get(path, "")).await.status, 401, "{path}");
    }
    assert_eq!(ask(router.addr, get("/%66lush_cache", &with("CANARY-root"))).await.status, 200);
    assert_eq!(ask(router.addr, post_with("/generate", &with("CANARY-root"), "{}")).await.status, 401);
    assert_eq!(ask(router.addr, post_with("/generate", &with("K"), "{}")).await.status, 200);
    assert_written_without(&router, 14, "CANARY").await;
    let outcomes: Vec<Outcome> = router.finish_requests().await.iter().map(|r| r.outcome).collect();
    let encoded = [Refused, Refused, Refused, Refused, Refused, Refused, Done, Refused, Done];
    assert_eq!(outcomes, [&[Refused, Refused, Done], &encoded[..], &[Refused, Done]].concat());
}

#[tokio::test]
async fn a_key_that_no_client_could_send_is_refused_at_the_start_and_not_shown() {
    for (set, flag) in [
        (AuthConfig { api_key: key("CANARY\n"), ..AuthConfig::default() }, "--api-key: "),
        (
            AuthConfig {
                control_plane: vec![ControlPlaneKey {
                    id: "a".to_owned(),
                    name: "a".to_owned(),
                    is_admin: true,
                    key: key(" CANARY").unwrap(),
                }],
                ..AuthConfig::default()
            },
            "--control-plane-api-keys: ",
        ),
    ] {
        let config = RouteConfig { auth: set, ..RouteConfig::default() };
        let connector = Connector::Pipes(PipeNet::default());
        let Err(error) = Router::start(config, "pipe", Clock::system(), connector) else {
            panic!("{flag} is refused");
        };
        assert!(error.to_string().starts_with(flag) && !error.to_string().contains("CANARY"), "{error}");
    }
}

#[tokio::test]
async fn a_router_without_keys_asks_nobody_for_one() {
    let worker = Worker::start(|_| ok()).await;
    let router = TestRouter::start(&[&worker]).await;
    assert_eq!(ask(router.addr, post("/generate", "{}")).await.status, 200);
    assert_eq!(ask(router.addr, get("/workers", "")).await.status, 200);
    assert!(router.finish_requests().await.iter().all(|r| r.outcome == Outcome::Done));
}
