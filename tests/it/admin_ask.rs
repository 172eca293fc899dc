//! What the router asks workers on a client's behalf: models, descriptions, loads, metrics.

use milepost::config::access::ApiKey;
use milepost::trace::record::{Outcome, RequestKind};
use serde_json::{Value, json};

use crate::harness::{
    Got, Response, Step, TestRouter, Worker, ask, dead_url, json as answer, post, post_with,
};

/// A worker that knows these paths (without their query) and says 404 to any other.
async fn knows(pages: &'static [(&'static str, &'static str)]) -> Worker {
    Worker::start(move |got| page(got, pages)).await
}

fn page(got: &Got, pages: &[(&str, &str)]) -> Vec<Step> {
    let target = got.head.split(' ').nth(1).unwrap();
    let path = target.split('?').next().unwrap();
    match pages.iter().find(|(p, _)| *p == path) {
        Some((_, body)) => answer(body),
        None => vec![Step::Send(
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 22\r\n\r\n{\"detail\":\"Not Found\"}".to_vec(),
        )],
    }
}

fn paths(worker: &Worker) -> Vec<String> {
    worker.requests().iter().map(|got| got.head.split(' ').nth(1).unwrap().to_owned()).collect()
}

async fn get(router: &TestRouter, path: &str) -> Response {
    ask(router.addr, format!("GET {path} HTTP/1.1\r\nhost: r\r\n\r\n")).await
}

#[tokio::test]
async fn models_are_those_of_all_workers_each_once() {
    let a = knows(&[(
        "/v1/models",
        r#"{"object":"list","data":[{"id":"x","object":"model","max_model_len":4096},{"id":"y"}]}"#,
    )])
    .await;
    let b = knows(&[("/v1/models", r#"{"object":"list","data":[{"id":"x"},{"id":"z"}]}"#)]).await;
    let silent = knows(&[]).await;
    let router =
        TestRouter::with_urls(&[a.url.clone(), b.url.clone(), silent.url.clone(), dead_url()], |_| {}).await;
    let models = get(&router, "/v1/models").await;
    assert_eq!((models.status, models.header("content-type")), (200, Some("application/json")));
    let listed = json!({"object": "list", "data": [{"id": "x", "object": "model", "max_model_len": 4096}, {"id": "y"}, {"id": "z"}]});
    assert_eq!(models.json(), listed);
    let id = a.requests()[0].header("x-request-id").map(str::to_owned);
    assert_eq!(id.as_deref(), models.header("x-request-id"), "the workers' logs can be joined");
    let records = router.finish_requests().await;
    assert_eq!((records[0].request_kind, records[0].outcome), (RequestKind::FanOut, Outcome::Done));
}

#[tokio::test]
async fn a_worker_that_lists_no_models_is_shown_as_it_was_added() {
    let worker = knows(&[]).await;
    let router = TestRouter::with(&[], |_| {}).await;
    let empty = get(&router, "/v1/models").await;
    assert_eq!((empty.status, empty.header("x-smg-error-code")), (503, Some("no_workers")));
    let said = json!({"url": worker.url, "model_id": "mine"}).to_string();
    assert_eq!(ask(router.addr, post("/workers", &said)).await.status, 202);
    let models = get(&router, "/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "mine");
    let records = router.finish_requests().await;
    assert_eq!((records[0].outcome, records[0].status), (Outcome::Unreachable, Some(503)));
}

#[tokio::test]
async fn a_description_is_the_engines_own_under_whichever_name_it_has() {
    let old = knows(&[
        ("/get_server_info", r#"{"version":"0.4.9","internal_states":[{}]}"#),
        ("/get_model_info", r#"{"model_path":"m"}"#),
    ])
    .await;
    let router = TestRouter::start(&[&old]).await;
    for (path, said) in [
        ("/get_server_info", r#"{"version":"0.4.9","internal_states":[{}]}"#),
        ("/server_info", r#"{"version":"0.4.9","internal_states":[{}]}"#),
        ("/get_model_info", r#"{"model_path":"m"}"#),
        ("/model_info?x=1", r#"{"model_path":"m"}"#),
    ] {
        let response = get(&router, path).await;
        assert_eq!((response.status, response.text().as_str()), (200, said), "{path}");
    }
    let asked = [
        "/get_server_info",
        "/server_info",
        "/get_server_info",
        "/get_model_info",
        "/model_info?x=1",
        "/get_model_info?x=1",
    ];
    assert_eq!(paths(&old), asked);
    for record in router.finish_requests().await {
        assert_eq!(record.worker.as_deref(), Some(old.url.as_str()));
        assert_eq!((record.request_kind, record.outcome), (RequestKind::FanOut, Outcome::Done));
    }

    let new = knows(&[("/server_info", r#"{"version":"0.5.23"}"#)]).await;
    let router = TestRouter::with_urls(&[dead_url(), new.url.clone()], |_| {}).await;
    let response = get(&router, "/get_server_info").await;
    assert_eq!((response.status, response.text().as_str()), (200, r#"{"version":"0.5.23"}"#));
    let missing = get(&router, "/get_model_info").await;
    assert_eq!((missing.status, missing.text().as_str()), (404, r#"{"detail":"Not Found"}"#));
    let records = router.finish_requests().await;
    assert_eq!(
        (records[1].outcome, records[1].worker.as_deref()),
        (Outcome::WorkerError, Some(new.url.as_str()))
    );

    let router = TestRouter::with_urls(&[dead_url()], |_| {}).await;
    let response = get(&router, "/server_info").await;
    assert_eq!(
        (response.status, response.header("x-smg-error-code")),
        (502, Some("call_upstream_request_error"))
    );
    let empty = TestRouter::with_urls(&[], |_| {}).await;
    let response = get(&empty, "/server_info").await;
    assert_eq!((response.status, response.header("x-smg-error-code")), (503, Some("no_workers")));
    empty.finish().await;
    router.finish().await;
}

#[tokio::test]
async fn one_worker_that_generates_is_health_enough() {
    let (sick, well) = (knows(&[]).await, knows(&[("/health_generate", "")]).await);
    let router = TestRouter::start(&[&sick, &well]).await;
    assert_eq!(get(&router, "/health_generate").await.status, 200);
    router.finish().await;
    let router = TestRouter::start(&[&sick]).await;
    assert_eq!(get(&router, "/health_generate").await.status, 503);
    let record = &router.finish_requests().await[0];
    assert_eq!((record.request_kind, record.outcome), (RequestKind::FanOut, Outcome::WorkerError));
    assert_eq!(paths(&sick).last().map(String::as_str), Some("/health_generate"));
}

#[tokio::test]
async fn loads_of_every_generation_are_numbers_and_an_unknown_one_is_minus_one_outside() {
    let oldest = knows(&[("/get_load", r#"{"load":41}"#)]).await;
    let middle =
        knows(&[("/get_load", r#"[{"dp_rank":0,"num_tokens":3},{"dp_rank":1,"num_tokens":4}]"#)]).await;
    let newest = knows(&[("/v1/loads", r#"{"loads":[{"num_total_tokens":9}]}"#)]).await;
    let mute = knows(&[]).await;
    let router = TestRouter::start(&[&oldest, &middle, &newest, &mute]).await;
    let loads = get(&router, "/get_loads").await;
    let expected = [(&oldest, 41), (&middle, 7), (&newest, 9), (&mute, -1)];
    let expected: Vec<Value> =
        expected.iter().map(|(w, load)| json!({"worker": w.url, "load": load})).collect();
    assert_eq!((loads.status, loads.json()), (200, json!({"workers": expected})));
    assert_eq!(paths(&newest), ["/v1/loads"], "asked once where that is enough");

    let own = get(&router, "/v1/loads?include=core").await;
    let by_worker = own.json();
    assert_eq!(by_worker["workers"][&newest.url], json!({"loads": [{"num_total_tokens": 9}]}));
    assert_eq!(by_worker["workers"][&mute.url], json!({"error": "status 404"}));
    assert_eq!(paths(&newest)[1], "/v1/loads?include=core");
    let records = router.finish_requests().await;
    assert!(records.iter().all(|r| r.request_kind == RequestKind::FanOut && r.outcome == Outcome::Done));
    let empty = TestRouter::with_urls(&[], |_| {}).await;
    assert_eq!(get(&empty, "/get_loads").await.json(), json!({"workers": []}));
    empty.finish().await;
}

#[tokio::test]
async fn metrics_of_all_engines_are_one_page() {
    const PAGE: &str = "# HELP sglang:num_running_reqs Running.\n# TYPE sglang:num_running_reqs gauge\nsglang:num_running_reqs{model_name=\"m\"} 3.0\n";
    let (a, b) = (knows(&[("/metrics", PAGE)]).await, knows(&[("/metrics", PAGE)]).await);
    let without = knows(&[]).await;
    let router = TestRouter::start(&[&a, &b, &without]).await;
    let merged = get(&router, "/engine_metrics").await;
    assert_eq!(
        (merged.status, merged.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    let text = merged.text();
    for line in [
        "# HELP sglang_num_running_reqs Running.".to_owned(),
        "# TYPE sglang_num_running_reqs gauge".to_owned(),
        format!("sglang_num_running_reqs{{worker_addr=\"{}\",model_name=\"m\"}} 3.0", a.url),
        format!("sglang_num_running_reqs{{worker_addr=\"{}\",model_name=\"m\"}} 3.0", b.url),
        format!("# no metrics of {}: status 404", without.url),
    ] {
        assert_eq!(text.lines().filter(|l| **l == line).count(), 1, "{line} in {text}");
    }
    assert_eq!(text.lines().count(), 5, "{text}");
    router.finish().await;
}

#[tokio::test]
async fn a_worker_is_asked_with_the_clients_key_or_its_own_or_the_routers() {
    const MODELS: &[(&str, &str)] = &[("/v1/models", r#"{"data":[{"id":"x"}]}"#)];
    let (a, b) = (knows(MODELS).await, knows(MODELS).await);
    let keyed = "GET /v1/models HTTP/1.1\r\nhost: r\r\nauthorization: Bearer client\r\n\r\n";
    let sent = |worker: &Worker| {
        let got = worker.requests().pop().unwrap();
        assert!(got.head.to_ascii_lowercase().matches("authorization:").count() < 2, "{}", got.head);
        got.header("authorization").map(str::to_owned)
    };
    let key = |key: &str| Some(format!("Bearer {key}"));
    let with_key = json!({"url": a.url, "api_key": "own"}).to_string();

    let router = TestRouter::start(&[&b]).await;
    ask(router.addr, post("/workers", &with_key)).await;
    ask(router.addr, keyed).await;
    assert_eq!((sent(&a), sent(&b)), (key("client"), key("client")));
    get(&router, "/v1/models").await;
    assert_eq!((sent(&a), sent(&b)), (key("own"), None));
    router.finish().await;

    // The client's key opens the router here, and is nothing to a worker.
    let router = TestRouter::with(&[&b], |c| c.auth.api_key = ApiKey::new("router")).await;
    ask(router.addr, post_with("/workers", "authorization: Bearer router\r\n", &with_key)).await;
    ask(router.addr, keyed).await;
    assert_eq!((sent(&a), sent(&b)), (key("own"), key("router")));
    router.finish().await;
}
